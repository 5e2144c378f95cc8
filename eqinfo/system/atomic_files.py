"""Atomic writes: output goes to a temporary file in the same folder, which is renamed when it is complete.

What this module does not do: choose names, or touch the standard streams.
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
    """An unbuffered file whose `write` writes all of its bytes, and whose errors name it.

    Args:
        file: the open file.
        name: the name that errors give, which the user knows; the file itself may have a temporary one.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name

    def write(self, data: bytes) -> int:
        """Write all of `data` at once and return its size.

        Raises:
            OSError: for example, the disk is full; its `filename` is `name`.
        """
        rest = memoryview(data)
        with _errors_name(self.name):
            while rest:
                written = self.file.write(rest)
                if written is None:  # a non-blocking file that is not ready
                    raise BlockingIOError(errno.EAGAIN, "not ready (non-blocking)")
                rest = rest[written:]
            self.file.flush()
        return len(data)


@contextmanager
def _errors_name(name: str) -> Iterator[None]:
    """In the block, an OSError is about the file `name`."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None  # Python chooses the subclass by errno


def refuse_existing(path: Path, force: bool) -> None:
    """Raises InputError if the file exists, unless `force` is set."""
    if not force and path.is_file():
        raise InputError(f"{path}: exists already. Give -f to replace it.")


@contextmanager
def replacing(path: Path, force: bool = False, like: os.stat_result | None = None) -> Iterator[NamedSink]:
    """An atomic write: the file appears under its name when the block ends, not if the block raises.

    A device or a pipe is written in place. If the name is a symbolic link, its target is replaced.

    Args:
        path: the name.
        force: whether an existing file may be replaced.
        like: the status of an input, whose mode and times the file gets.

    Yields:
        The file to write to.

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
        with _errors_name(str(path)):
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode
            )
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor has no Path
            yield NamedSink(file, str(path))
        refuse_existing(path, force)
        with _errors_name(str(path)):
            if like is not None:
                temporary.chmod(mode)  # also the bits that the umask took away
                os.utime(temporary, ns=(like.st_atime_ns, like.st_mtime_ns))
            temporary.replace(target)


def _discard(path: Path) -> None:
    with suppress(OSError):  # the file was never made, or the disk is gone
        path.unlink()
