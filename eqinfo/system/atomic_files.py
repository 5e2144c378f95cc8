"""Files that are complete or not there: output goes to a temporary name and is renamed when all is written.

What this module does not do: decide names, or touch the standard streams.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from eqinfo.errors import InputError
from eqinfo.system.signals import undoing

TEMPORARY_PREFIX = ".eqinfo-"


class NamedSink:
    """A file that takes all it is given, and whose errors name it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name

    def write(self, data: bytes) -> int:
        """Write all of `data`, now; the result is its size.

        Raises:
            OSError: for example the disk is full; its `filename` is `name`.
        """
        rest = memoryview(data)
        try:
            while rest:
                written = self.file.write(rest)
                if written is None:  # a raw file that would block
                    raise BlockingIOError(errno.EAGAIN, "not ready (non-blocking)")
                rest = rest[written:]
            self.file.flush()
        except OSError as error:
            raise _named(error, self.name) from None
        return len(data)


def _named(error: OSError, name: str) -> OSError:
    """The same error, about the file that the user knows."""
    return OSError(error.errno, error.strerror, name)  # Python makes it the right subclass


def refuse_existing(path: Path, force: bool) -> None:
    """Raises InputError if a file of this name would be overwritten without `force`."""
    if not force and path.is_file():
        raise InputError(f"{path}: exists already. Give -f to replace it.")


@contextmanager
def replacing(path: Path, force: bool = False, like: os.stat_result | None = None) -> Iterator[NamedSink]:
    """A sink for a file that appears under its name when the block ends well, and not at all otherwise.

    Devices and pipes are written in place. A symbolic link stays, and the file it points to is replaced.

    Args:
        path: the name.
        force: whether an existing file may be replaced.
        like: mode and times for the file, those of its input.

    Raises:
        InputError: the file exists, without `force`.
        OSError: it cannot be written; `filename` is the path.
    """
    refuse_existing(path, force)
    if path.exists() and not path.is_file():
        with path.open("wb", buffering=0) as file:
            yield NamedSink(file, str(path))
        return
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.urandom(6).hex()}")
    mode = 0o666 if like is None else stat.S_IMODE(like.st_mode) & 0o777
    with undoing(partial(_discard, temporary)):
        try:
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode
            )
        except OSError as error:
            raise _named(error, str(path)) from None
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor has no Path
            yield NamedSink(file, str(path))
        refuse_existing(path, force)
        try:
            if like is not None:
                temporary.chmod(mode)  # beyond what the umask left
                os.utime(temporary, ns=(like.st_atime_ns, like.st_mtime_ns))
            temporary.replace(target)
        except OSError as error:
            raise _named(error, str(path)) from None


def _discard(path: Path) -> None:
    with suppress(OSError):  # it was never made, or the disk is gone
        path.unlink()
