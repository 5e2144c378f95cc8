"""Ids in a file, read a slice at a time.

Nothing is mapped into memory: each mapped file would keep a descriptor open, of which a process may have as
few as 256, and the system kills a program that reads a mapped file which someone has cut meanwhile.

What this module does not do: know what the ids mean (`token_file`).
"""

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np

from eqinfo.errors import FormatError
from eqinfo.system.arrays import Ids

MOST_OPEN = 16  # files; opening one again takes microseconds, but milliseconds over a network


def token_type(window_bits: int) -> np.dtype[np.unsignedinteger]:
    """The dtype of ids in a token file."""
    return np.dtype("<u2" if window_bits <= 16 else "<u4")


class IdFile:
    """The ids in a file; a slice of it is an array.

    Attributes:
        size: number of ids.
        spare_bytes: bytes after the last whole id; negative if the file ends before its first id.
    """

    def __init__(self, path: Path, dtype: np.dtype[np.unsignedinteger], offset: int = 0) -> None:
        """Look at the size of a file.

        Args:
            path: of the file.
            dtype: of an id.
            offset: bytes before the first id.
        """
        self._path, self._dtype, self._offset = path, dtype, offset
        self._n_bytes = path.stat().st_size
        self.size = max(0, self._n_bytes - offset) // dtype.itemsize
        self.spare_bytes = self._n_bytes - offset - self.size * dtype.itemsize

    def __getitem__(self, ids: slice) -> Ids:
        """The ids in a slice without a step.

        Raises:
            FormatError: the file has another size than at first.
        """
        start, stop, _ = ids.indices(self.size)
        want = max(0, stop - start) * self._dtype.itemsize
        descriptor = self._descriptor()
        os.lseek(descriptor, self._offset + start * self._dtype.itemsize, os.SEEK_SET)
        data, n_bytes = os.read(descriptor, want), os.fstat(descriptor).st_size
        if n_bytes != self._n_bytes or len(data) != want:
            raise FormatError(
                f"{self._path}: changed while it was read; found {n_bytes} bytes, want {self._n_bytes}. "
                "Put the same file there again; training goes on with --resume."
            )
        return np.frombuffer(data, self._dtype)

    def _descriptor(self) -> int:
        """The descriptor of the file, open; the file that was read longest ago may be closed for it."""
        if self not in _descriptors:
            if len(_descriptors) >= MOST_OPEN:
                os.close(_descriptors.popitem(last=False)[1])
            _descriptors[self] = os.open(self._path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        _descriptors.move_to_end(self)
        return _descriptors[self]


_descriptors = OrderedDict[IdFile, int]()  # of open files; the one read last comes last
