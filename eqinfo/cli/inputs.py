"""Which files a command works on, one after another."""

import errno
import glob
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import typer

from eqinfo.cli import console
from eqinfo.errors import InputError, argument
from eqinfo.system import notes
from eqinfo.system.atomic_files import TEMPORARY_PREFIX, descriptor_of


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
