"""Where the outputs of a command go, and which files they may not replace."""

import os
import stat
import sys
from collections.abc import Collection
from pathlib import Path

import typer

from eqinfo.cli import console
from eqinfo.errors import InputError
from eqinfo.system.atomic_files import is_written_in_place


def compressed_name(name: Path, output: Path | None, stdout: bool, suffix: str) -> Path | None:
    """The output for an input to compress; None is stdout."""
    if stdout or output == console.STANDARD or (output is None and name == console.STANDARD):
        return None
    return output or Path(f"{name}{suffix}")


def restored_name(
    name: Path, output: Path | None, stdout: bool, suffix: str, inner: Collection[str] = ()
) -> Path | None:
    """The output for an input to decompress; None is stdout.

    Args:
        name: the input.
        output: what -o names.
        stdout: whether -c is given.
        suffix: of the input, which its output lacks.
        inner: suffixes before it, of which the output lacks one too.

    >>> str(restored_name(Path("book.txt.eqi"), output=None, stdout=False, suffix=".eqi"))
    'book.txt'

    Raises:
        InputError: the input's name does not end in the suffix, and no output is named.
    """
    if stdout or output is not None or name == console.STANDARD:
        return compressed_name(name, output, stdout, "")
    stem = name.name.removesuffix(suffix)
    if stem in ("", name.name):
        raise InputError(f"{name}: unknown suffix; want {suffix}. Name the output with -o.")
    path = name.with_name(stem)
    return path.with_suffix("") if path.suffix.lower() in inner else path


def check_outputs(
    folder: Path | None,
    names: list[Path],
    places: dict[Path, Path],
    output: Path | None,
    stdout: bool,
    skip_existing: bool,
) -> None:
    """Checks that -o has an input, that one option places the outputs, and that they are different files.

    Raises:
        typer.BadParameter: -o or -c names another place, two inputs have one, or stdout is to be skipped.
        typer.Exit: there is no input for -o.
    """
    if output is not None and not names:
        with console.reporting(output):
            raise InputError(f"{output}: not written, as there is no input for it.")
    if stdout and (folder is not None or output not in (None, console.STANDARD)):
        raise typer.BadParameter("not with -o or --output-dir", param_hint="-c")
    if skip_existing and (stdout or output == console.STANDARD):
        raise typer.BadParameter("not with output to stdout", param_hint="--skip-existing")
    if folder is None:
        return
    if output is not None:
        raise typer.BadParameter("not with -o", param_hint="--output-dir")
    if console.STANDARD in names:
        raise typer.BadParameter("stdin has no name for its output; use -o", param_hint="--output-dir")
    inputs = dict[Path, Path]()  # by place
    for path in names:
        place = places[path]
        if inputs.get(place, path) != path:
            raise typer.BadParameter(f"one output for {inputs[place]} and {path}", param_hint="--output-dir")
        inputs[place] = path


def moved(target: Path | None, folder: Path | None, place: Path) -> Path | None:
    """The output of an input at a place in a folder; None is stdout.

    Args:
        target: the output beside the input.
        folder: None leaves it there.
        place: of the input.
    """
    return target if target is None or folder is None else folder / place.parent / target.name


def make_folder(target: Path | None, folder: Path | None) -> None:
    """Makes the folders that an output is in, if they are in a folder for outputs.

    Raises:
        InputError: there is a file in the place of one.
    """
    if target is not None and folder is not None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(f"{error.filename}: not a folder. Name another with --output-dir.") from None


class Claims:
    """The files of a command that no output may replace: all of its inputs, and the outputs so far.

    Args:
        names: the inputs.
    """

    def __init__(self, names: list[Path]) -> None:
        self._inputs = set(map(_identity_of, names)) - {None}
        self._outputs = set[str]()

    def claim(self, path: Path | None, name: Path = console.STANDARD) -> None:
        """Takes a path for an output.

        Args:
            path: None is stdout, which several inputs may share; but none may read what it writes there.
            name: the input.

        Raises:
            InputError: the path is an output already, or an input.
        """
        if path is None:
            if sys.stdout is not None and _identity(Path("/dev/stdout")) in {_identity_of(name)} - {None}:
                raise InputError(f"{console.shown(name)}: is input and output at once. Name another output.")
            return
        if _identity(path) in self._inputs:
            raise InputError(f"{path}: is input and output at once. Name another output.")
        if is_written_in_place(path):
            return
        where = os.path.realpath(path)
        if where in self._outputs:
            raise InputError(f"{path}: the output for another input too. Name another with -o.")
        self._outputs.add(where)


def _identity_of(name: Path) -> tuple[int, int] | None:
    """The identity of an input."""
    return _identity(Path("/dev/stdin") if name == console.STANDARD else name)


def _identity(path: Path) -> tuple[int, int] | None:
    """What a plain file has in common with its links and with open descriptors of it; None for others."""
    try:
        found = path.stat()
    except OSError:  # whoever opens it will say so
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def is_done(target: Path | None, name: Path, verbose: bool) -> bool:
    """Whether an input's output exists; it is complete then, as outputs appear whole."""
    if target is None or not target.is_file():
        return False
    if verbose:
        console.say(f"{console.shown(name)}: skipped; {target} exists")
    return True
