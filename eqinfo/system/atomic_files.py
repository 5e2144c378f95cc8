"""Atomic writes: output goes to a temporary file in the same folder, which is renamed when it is complete.

What only a courtesy needs may fail: a file system that refuses to set modes, times or owners, or to rename
over a file, does not cost the output.

What this module does not do: choose names, or touch the standard streams.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from eqinfo.errors import InputError
from eqinfo.system.notes import note
from eqinfo.system.signals import held_back, undoing

TEMPORARY_PREFIX = ".eqinfo-"
MAX_LINKS = 40  # symbolic links that a system follows one after another


class NamedSink:
    """An unbuffered file whose `write` writes all of its bytes, and whose errors name it.

    Args:
        file: the open file.
        name: the name that errors give, which the user knows; the file itself may have a temporary one.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data` at once and return its size.

        Raises:
            OSError: for example, the disk is full; its `filename` is `name`.
        """
        rest = memoryview(data)
        with errors_name(self.name):
            while rest:
                written = self.file.write(rest)
                if written is None:  # a non-blocking file that is not ready
                    raise BlockingIOError(errno.EAGAIN, "not ready (non-blocking)")
                rest = rest[written:]
            self.file.flush()
        return len(data)


@contextmanager
def errors_name(name: str) -> Iterator[None]:
    """In the block, an OSError is about the file `name`."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None  # Python chooses the subclass by errno


def descriptor_of(path: Path) -> int | None:
    """The number of the open descriptor that a name such as /dev/stdout stands for; None for other names."""
    folders = {os.path.realpath(name) for name in ("/dev/fd", "/proc/self/fd")}
    for _ in range(MAX_LINKS):
        if path.name.isdecimal() and os.path.realpath(path.parent) in folders:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def is_written_in_place(path: Path) -> bool:
    """Whether output to this name is written to what is there: a descriptor, a device or a pipe."""
    return descriptor_of(path) is not None or (path.exists() and not path.is_file() and not path.is_dir())


def refuse_existing(path: Path, force: bool) -> None:
    """Raises InputError if the file exists, unless `force` is set."""
    if not force and path.is_file():
        raise InputError(f"{path}: exists already. Give -f to replace it.")


@contextmanager
def replacing(path: Path, force: bool = False, like: os.stat_result | None = None) -> Iterator[NamedSink]:
    """An atomic write: the file appears under its name when the block ends, not if the block raises.

    A descriptor, a device or a pipe is written to, never replaced. If the name is a symbolic link, its target
    is replaced.

    Args:
        path: the name.
        force: whether an existing file may be replaced.
        like: the status of an input, whose mode, times and, for root, owner the file gets.

    Yields:
        The file to write to.

    Raises:
        InputError: the file exists, without `force`.
        OSError: it cannot be written; `filename` is the path.
    """
    if is_written_in_place(path):
        with _opened_stream(path) as file:
            yield NamedSink(file, str(path))
        return
    refuse_existing(path, force)
    if path.is_dir():  # told now, not when the file is complete
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.urandom(6).hex()}")
    mode = 0o666 if like is None else stat.S_IMODE(like.st_mode) & 0o777
    with undoing(partial(_discard, temporary)):
        with errors_name(str(path)):
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode
            )
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor has no Path
            yield NamedSink(file, str(path))
        refuse_existing(path, force)
        with errors_name(str(path)):
            if like is not None:
                _carry_over(like, temporary, mode, str(path))
            _rename(temporary, target, str(path))


def _opened_stream(path: Path) -> BinaryIO:
    """An unbuffered file that writes where a stream stands now, after what others have written to it."""
    with errors_name(str(path)):
        number = descriptor_of(path)
        return open(path if number is None else os.dup(number), "wb", buffering=0)  # noqa: PTH123


def _carry_over(like: os.stat_result, path: Path, mode: int, name: str) -> None:
    """Give a file the owner, mode and times of an input, as far as the file system lets us.

    Args:
        like: the status of the input.
        path: of the file.
        mode: the input's permissions, also those that the umask took away.
        name: of the file, for notes.
    """
    changes: dict[str, Callable[[], None]] = {
        "mode": partial(path.chmod, mode),
        "times": partial(os.utime, path, ns=(like.st_atime_ns, like.st_mtime_ns)),
    }
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        changes = {"owner": partial(os.chown, path, like.st_uid, like.st_gid)} | changes
    for what, change in changes.items():
        try:
            change()
        except OSError as error:
            note(f"{name}: does not have the {what} of its input ({error.strerror}).")


def _rename(temporary: Path, target: Path, name: str) -> None:
    """Put a complete file in the place of its target; where renaming is refused, copy it into the target.

    A system refuses to rename over a mount point, as a single file is that a container has from its host.
    """
    try:
        temporary.replace(target)
    except OSError as error:
        if not target.is_file():
            raise
        note(f"{name}: written in place, as renaming is refused ({error.strerror}).")
        with held_back(), temporary.open("rb") as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        with suppress(OSError):
            shutil.copystat(temporary, target)
        _discard(temporary)


def _discard(path: Path) -> None:
    with suppress(OSError):  # the file was never made, or the disk is gone
        path.unlink()
