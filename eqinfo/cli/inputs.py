"""Which files a command works on, one after another, and where their outputs go."""

import errno
import glob
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import typer

from eqinfo.cli import console
from eqinfo.errors import InputError, argument
from eqinfo.system import notes
from eqinfo.system.atomic_files import TEMPORARY_PREFIX, descriptor_of, is_written_in_place


def in_folders(
    files: list[Path] | None, recursive: bool, is_wanted: Callable[[Path], bool], verbose: bool
) -> tuple[list[Path], dict[Path, Path]]:
    """The inputs, and the place of each in an --output-dir: its name, or its path from the folder it is in.

    Args:
        files: what the user named; none is stdin.
        recursive: take the files in folders, in the order of their paths.
        is_wanted: whether to take a file in a folder.
        verbose: say which files in folders are not taken.
    """
    names, places = list[Path](), dict[Path, Path]()
    for name in files or [console.STANDARD]:
        if recursive and name != console.STANDARD and name.is_dir():
            paths = list(_files_in(name, is_wanted, verbose))
            if not paths:
                notes.warn(f"{name}: no file in it for this command.")
            top = name.resolve().name if name.name == ".." else name.name  # no place is outside the output's
            places |= {path: Path(top, path.relative_to(name)) for path in paths}
            names += paths
        else:
            places[name] = Path(name.name)
            names.append(name)
    return names, places


def _files_in(folder: Path, is_wanted: Callable[[Path], bool], verbose: bool) -> Iterator[Path]:
    """The files in a folder that are wanted, and what in it cannot be read, to fail as an input.

    Links to folders are not followed, as they may lead back.
    """
    unreadable = list[OSError]()
    paths = list[Path]()
    for where, folders, files in os.walk(folder, onerror=unreadable.append):
        paths += [Path(where, name) for name in (*folders, *files)]
    unread = {Path(error.filename) for error in unreadable}
    for path in sorted(unread.union(paths)):
        if path in unread or _is_out_of_reach(path):
            yield path
        elif path.is_file():
            if is_wanted(path):
                yield path
            elif verbose:
                console.say(f"{path}: passed over; not an input of this command")
        elif not path.is_dir():
            notes.warn(f"{path}: passed over; neither a file nor a folder.")
        elif path.is_symlink():
            notes.warn(f"{path}: passed over; a link to a folder. Name it to take its files.")


def _is_out_of_reach(path: Path) -> bool:
    """Whether a path cannot be looked at, for another reason than that nothing is there."""
    try:
        path.stat()
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ELOOP)  # links that lead nowhere
    return False


def open_texts(names: list[Path]) -> Iterator[tuple[str, BinaryIO]]:
    """Yields names and open files of training texts, one at a time."""
    from eqinfo.text.decompression import decompressed

    for name in names:
        refuse_ids(name)
        with console.open_input(name, decompressed) as source, console.read_to_end(source, name):
            yield console.shown(name), source


def matching(paths: list[Path]) -> list[Path]:
    """The paths; in the place of a pattern the files that match, in order. Shells take some 30,000 names."""
    found = list[Path]()
    for path in paths:
        matches = [] if path.exists() else sorted(map(Path, glob.glob(str(path))))  # noqa: PTH207 - or absolute
        found += matches or [path]
    return found


def is_no_output(path: Path) -> bool:
    """Whether a file is none that compress writes, so that a second run over a folder leaves them alone."""
    from eqinfo.formats import file_kind

    return not (path.name.startswith(TEMPORARY_PREFIX) or file_kind.is_ours(path))


def is_output(path: Path) -> bool:
    """Whether a file is one that decompress restores."""
    from eqinfo.formats import file_kind
    from eqinfo.formats.eqi import STREAM_SUFFIX

    return path.suffix == STREAM_SUFFIX or file_kind.has_ids(path)


def is_ids(path: Path) -> bool:
    """Whether a file is one that decompress --ids restores."""
    from eqinfo.formats import file_kind
    from eqinfo.formats.token_file import TOKENS_SUFFIX

    return path.suffix == TOKENS_SUFFIX or file_kind.has_ids(path)


def is_token_file(path: Path) -> bool:
    """Whether an input is a file of token ids, with a sidecar beside it."""
    from eqinfo.formats import file_kind

    return path != console.STANDARD and file_kind.is_token_file(path)


def refuse_ids(name: Path) -> None:
    """Raises InputError if an input is a token file, where text is wanted."""
    if is_token_file(name):
        raise InputError(
            f"{name}: token ids, not text. Try: eqinfo decompress -c {argument(name)} | eqinfo ... -"
        )


def for_each(names: list[Path], output: Path | None, work: Callable[[Path], None]) -> None:
    """Does the work for each input; reports failures and goes on.

    Raises:
        typer.BadParameter: there are several inputs for one output.
        typer.Exit: an input failed; with the largest status of any.
    """
    if output is not None and len(names) > 1:
        with console.reporting(output):
            takes_all = _takes_all(output)
        if not takes_all:
            raise typer.BadParameter(
                f"one output for {len(names)} inputs; use -c to join them", param_hint="-o"
            )
    status = 0
    for name in names:
        try:
            with console.reporting(name):
                work(name)
        except typer.Exit as failed:
            status = max(status, failed.exit_code)
    if status:
        raise typer.Exit(status)


def _takes_all(output: Path) -> bool:
    """Whether an output takes several inputs: an open descriptor or a device does, as it stays open."""
    return output == console.STANDARD or descriptor_of(output) is not None or output.is_char_device()


def compressed_name(name: Path, output: Path | None, stdout: bool, suffix: str) -> Path | None:
    """The output for an input to compress; None is stdout."""
    if stdout or output == console.STANDARD or (output is None and name == console.STANDARD):
        return None
    return output or Path(f"{name}{suffix}")


def restored_name(name: Path, output: Path | None, stdout: bool, suffix: str) -> Path | None:
    """The output for an input to decompress; None is stdout.

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
    return name.with_name(stem)


def check_outputs(
    folder: Path | None, names: list[Path], places: dict[Path, Path], output: Path | None, stdout: bool
) -> None:
    """Checks that -o has an input, that one option places the outputs, and that they are different files.

    Raises:
        typer.BadParameter: -o or -c names another place, or two inputs have one.
        typer.Exit: there is no input for -o.
    """
    if output is not None and not names:
        with console.reporting(output):
            raise InputError(f"{output}: not written, as there is no input for it.")
    if stdout and (folder is not None or output not in (None, console.STANDARD)):
        raise typer.BadParameter("not with -o or --output-dir", param_hint="-c")
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
    return target if target is None or folder is None else folder / place.with_name(target.name)


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
        self._inputs = {_identity(Path("/dev/stdin") if name == console.STANDARD else name) for name in names}
        self._inputs.discard(None)
        self._outputs = set[str]()

    def claim(self, path: Path | None) -> None:
        """Takes a path for an output; raises InputError if it is one already, or an input."""
        if path is None:
            return
        if _identity(path) in self._inputs:
            raise InputError(f"{path}: is input and output at once. Name another output.")
        if is_written_in_place(path):
            return
        where = os.path.realpath(path)
        if where in self._outputs:
            raise InputError(f"{path}: the output for another input too. Name another with -o.")
        self._outputs.add(where)


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
