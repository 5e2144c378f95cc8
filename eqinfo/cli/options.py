"""Options and arguments that several commands share."""

import math
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from eqinfo.cli import console
from eqinfo.system import gpu, notes
from eqinfo.system.notes import Kind
from eqinfo.system.threads import n_cores


def _or_cores(threads: int) -> int:
    """The number of threads; 0 stands for one for each core."""
    return threads or n_cores()


def set_quiet(quiet: bool) -> bool:
    """Whether to say errors only; returns it, as a callback of an option does."""
    global _is_quiet
    _is_quiet = quiet
    return quiet


def set_verbose(verbose: bool) -> bool:
    """Whether to say more than warnings and errors; returns it, as a callback of an option does."""
    global _is_verbose
    _is_verbose = verbose
    return verbose


def _say_note(words: str, kind: Kind) -> None:
    """Prints a note of a lower wing: details if the user wants them, the others unless they want quiet."""
    is_for_all = kind is Kind.WARNING or (kind is Kind.WAIT and console.is_terminal(sys.stderr))
    if _is_verbose or (is_for_all and not _is_quiet):
        console.say(f"eqinfo: {words}")


_is_quiet, _is_verbose = False, False  # what the options of this command say
notes.listen(_say_note)


def name(word: str) -> Path:
    """The file or folder that a word names; raises typer.BadParameter if the word is empty."""
    if not word:
        raise typer.BadParameter("an empty name. Is a variable of the shell not set?")
    return Path(word)


def path(word: str) -> Path:
    """The file that a word names. `./-` is a file of that name; `-` alone is a standard stream.

    Raises:
        typer.BadParameter: the word is empty, or ends in a slash, and there is no such folder.
    """
    named = name(word)
    if word.endswith("/") and not os.path.isdir(word):  # noqa: PTH112 - raises no error
        raise typer.BadParameter(f"{word}: no such folder. Name a file without a slash at its end.")
    return named.absolute() if named == console.STANDARD and word != str(console.STANDARD) else named


def finite(number: float | None) -> float | None:
    """The number, as a callback of an option does; raises typer.BadParameter for inf and nan."""
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter(f"found '{number}', want a number")
    return number


def given(context: typer.Context) -> dict[str, str]:
    """The parameters that the user gave, and their options."""
    return {
        parameter.name: parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name is not None
        and (source := context.get_parameter_source(parameter.name)) is not None
        and source.name == "COMMANDLINE"
    }


def refuse(found: dict[str, str], names: Collection[str], why: str) -> None:
    """Raises typer.BadParameter if the user gave one of these parameters."""
    for each in names:
        if each in found:
            raise typer.BadParameter(why, param_hint=found[each])


Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FILE]...",
        parser=path,
        help="Inputs, which are kept; none, or '-', is stdin.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        parser=path,
        help="Output file; '-' is stdout.  [default: see above]",
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(
        "-m",
        "--model",
        metavar="PATH",
        parser=name,
        help="Model folder, .eqcb file, or english, a second model in the package.  "
        "[default: its first, for all text]",
    ),
]
Stdout = Annotated[bool, typer.Option("-c", "--stdout", help="Write to stdout, even to a terminal.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace existing output files.")]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir",
        metavar="DIR",
        parser=name,
        help="Folder for the outputs.  [default: beside the inputs]",
    ),
]
Recursive = Annotated[bool, typer.Option("-r", "--recursive", help="Take the files in folders.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave out inputs whose outputs exist already.")
]
Keep = Annotated[
    bool,
    typer.Option(
        "-k", "--keep", help="Accepted for gzip's sake; inputs are always kept.", show_default=False
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", callback=set_quiet, help="Print errors only.")]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", callback=set_verbose, help="Print a line about each file on stderr."),
]
Threads = Annotated[
    int,
    typer.Option(
        "-T",
        "--threads",
        metavar="N",
        min=0,
        callback=_or_cores,
        help="Number of threads; 0: one for each core.",
    ),
]
TextField = Annotated[str, typer.Option(metavar="FIELD", help="Field of a JSONL record that holds its text.")]
Jsonl = Annotated[
    bool,
    typer.Option("--jsonl", help="Read JSONL under any name, and from stdin: each record is a document."),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Pass over lines of JSONL without text, and say how many.")
]
DEVICES = "|".join(gpu.DEVICES)
Device = Annotated[
    str, typer.Option(metavar=DEVICES, help="Where to compute; auto: on a GPU if there is one.")
]
CodingDevice = Annotated[
    str,
    typer.Option(
        "--device",
        metavar=DEVICES,
        help="Where windows of 24 to 128 bits without --carry, and ac by --rule published, are coded; auto: "
        "on a GPU if there is one and the text is long. The bytes are the same. All else runs on the CPU.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue a run, to the same result unless the budget is in minutes. A larger budget extends "
        "it; what else is given must agree.",
    ),
]
EXTENDED = "{}: extended; the learning rate warms up and falls to zero at the new end"
Steps = Annotated[int | None, typer.Option(metavar="N", help="Budget in training steps.")]
Minutes = Annotated[
    float | None,
    typer.Option(
        metavar="MINUTES",
        help="Budget in minutes of training. If several budgets are given, training ends with whichever is "
        "reached first.  [default: 10 if no budget is given]",
    ),
]
