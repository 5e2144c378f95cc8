"""Opens files of text, decompressed if they are compressed by gzip or zstd: their first bytes say so.

What this module does not do: read documents (`documents`), or open stdin (`cli`).
"""

import io
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard

from eqinfo.errors import InputError
from eqinfo.text import kinds
from eqinfo.text.frames import read_fully

PACKED = (".gz", ".zst")
BUFFER_BYTES = 1 << 20
FED_BYTES = 1 << 10  # data decompressed at a time: 4 bytes of zstd can be 128 KiB of text

_MAKERS: dict[kinds.Kind | None, Callable[[], Any]] = {  # of objects that decompress one member or frame
    kinds.GZIP: partial(zlib.decompressobj, wbits=31),
    kinds.ZSTD: lambda: zstandard.ZstdDecompressor().decompressobj(),
}


def open_text(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed if it is compressed by gzip or zstd.

    Raises:
        InputError: its name promises compressed text, and it is not.
        OSError: the file cannot be opened. Damage is found later, by `read_pieces`.
    """
    source = path.open("rb")
    try:
        return decompressed(source, path.name)
    except BaseException:
        source.close()
        raise


def decompressed(source: BinaryIO, name: str) -> BinaryIO:
    """The bytes of an open file, decompressed if its first bytes say that it is compressed.

    Args:
        source: the file; closed with the result.
        name: of the file.

    Raises:
        InputError: its name promises compressed text, and it is not.
    """
    head, source = _begun(source)
    kind = kinds.kind_of(head)
    if kind in _MAKERS:
        return cast(BinaryIO, io.BufferedReader(_Decompressor(source, _MAKERS[kind]), BUFFER_BYTES))
    suffix = Path(name).suffix.lower()
    if suffix not in PACKED or kind:
        return source
    if not head:
        raise InputError(f"{name}: empty, so no compressed file. Get it again.")
    if kinds.is_binary(head):
        raise InputError(
            f"{name}: damaged or truncated compressed file (its first bytes are of another format)."
        )
    raise InputError(f"{name}: plain text, not compressed. Take {suffix} out of its name.")


def _begun(source: BinaryIO) -> tuple[bytes, BinaryIO]:
    """The first bytes of a source, and the source from its start."""
    if source.seekable():
        at = source.tell()
        head = read_fully(source, kinds.HEAD_BYTES)
        source.seek(at)
        return head, source
    head = read_fully(source, kinds.HEAD_BYTES)
    return head, cast(BinaryIO, io.BufferedReader(_Joined(head, source), BUFFER_BYTES))


class _Decompressor(io.RawIOBase):
    """Decompresses joined gzip members or zstd frames, and refuses a truncated one.

    Args:
        source: the compressed bytes.
        make: makes an object that decompresses one member or frame.
    """

    def __init__(self, source: BinaryIO, make: Callable[[], Any]) -> None:
        self._source, self._make = source, make
        self._frame = make()
        self._in_frame = False
        self._unread = b""  # read from the source, after the end of the last frame
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with the next bytes and return their number, 0 at the end.

        Raises:
            EOFError: the last frame is incomplete.
            zlib.error, zstandard.ZstdError: the data are damaged.
        """
        while not self._ready:
            data = self._unread or self._source.read(FED_BYTES)
            if not self._in_frame and not data.strip(b"\0"):  # the end, perhaps after the padding of a tape
                self._unread = b""
                if data:
                    continue
            if not data:
                if self._in_frame:
                    raise EOFError("the last frame is incomplete")
                return 0
            self._ready = memoryview(self._frame.decompress(data))
            self._unread, self._in_frame = self._frame.unused_data, not self._frame.eof
            if self._frame.eof:
                self._frame = self._make()
        view = memoryview(buffer)
        n = min(len(view), len(self._ready))
        view[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n

    def close(self) -> None:
        """Close the source too."""
        self._source.close()
        super().close()


class _Joined(io.RawIOBase):
    """A source from which the first bytes have been read, from its start again."""

    def __init__(self, head: bytes, source: BinaryIO) -> None:
        self._head, self._source = memoryview(head), source

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with the next bytes and return their number, 0 at the end."""
        view = memoryview(buffer)
        data = self._head[: len(view)] or memoryview(self._source.read(len(view)) or b"")
        self._head = self._head[len(data) :]
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the source too."""
        self._source.close()
        super().close()
