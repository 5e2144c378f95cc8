"""Options and arguments that several commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer


def _or_cores(threads: int) -> int:
    """The number of threads; 0 stands for the number of cores."""
    return threads or os.cpu_count() or 1


Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE", help="Inputs, which are kept; none, or '-', is stdin.", show_default=False
    ),
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Output file; '-' is stdout.  [default: see above]")
]
Model = Annotated[
    Path | None,
    typer.Option(
        "-m",
        "--model",
        help="Model folder, .eqcb file, or english, a second model in the package.  [default: the first one]",
    ),
]
Stdout = Annotated[bool, typer.Option("-c", "--stdout", help="Write to stdout, even to a terminal.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace existing output files.")]
Keep = Annotated[
    bool,
    typer.Option(
        "-k", "--keep", help="Accepted for gzip's sake; inputs are always kept.", show_default=False
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print a line about each file on stderr.")]
Threads = Annotated[
    int,
    typer.Option(
        "-T", "--threads", min=0, callback=_or_cores, help="Number of threads; 0: one for each core."
    ),
]
TextField = Annotated[str, typer.Option(help="Field of a JSONL record that holds its text.")]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue a run, to the same result. A larger budget extends it; what else is given must agree.",
    ),
]
EXTENDED = "{}: extended; the learning rate warms up again and falls to zero at the new end"
Steps = Annotated[int | None, typer.Option(help="Budget in training steps.")]
Minutes = Annotated[
    float | None,
    typer.Option(
        help="Budget in minutes of training. If several budgets are given, training ends with whichever is "
        "reached first.  [default: 10 if no budget is given]"
    ),
]
