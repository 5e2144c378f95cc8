"""Reading text as documents: plain files, `.gz`, `.zst` and JSONL, in bounded memory.

Bytes are taken as they are. A plain file is one document; a line of a `.jsonl` file is one, whose text is
the UTF-8 of one field (lone surrogates included, so nothing that JSON can say is lost). What this module
does not do: decide what to train on (`corpus`), or open stdin (`cli`).
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import zstandard

from eqinfo.errors import InputError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK_BYTES = 1 << 20
FED_BYTES = 1 << 10  # of zstd at a time: a block of 4 bytes may stand for 128 KiB of text
MAX_LINE_BYTES = 1 << 25  # of a JSONL record, which is read in one piece


def open_text(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed if its name ends in `.gz` or `.zst`.

    Raises:
        OSError: the file cannot be opened. Damage shows up while reading, as InputError in `read_pieces`.
    """
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    source = path.open("rb")
    return io.BufferedReader(_ZstdReader(source), CHUNK_BYTES) if path.suffix == ".zst" else source


def is_jsonl(name: str) -> bool:
    """Whether a file's name says that each line is a JSON record."""
    return name.removesuffix(".gz").removesuffix(".zst").endswith(".jsonl")


def read_pieces(source: BinaryIO, name: str, text_field: str) -> Iterator[tuple[bytes, bool]]:
    """Pieces of documents, each with whether its document ends there.

    Args:
        source: the bytes, as `open_text` gives them.
        name: of the file, for messages; decides whether it is JSONL.
        text_field: of a JSONL record.

    Raises:
        InputError: a line is no JSON object with a string in that field, or the file is damaged.
    """
    try:
        if is_jsonl(name):
            for document in read_documents(source, name, text_field):
                yield document, True
            return
        while chunk := source.read(CHUNK_BYTES):
            yield chunk, False
        yield b"", True
    except (gzip.BadGzipFile, zlib.error, EOFError, zstandard.ZstdError) as error:
        raise InputError(f"{name}: damaged or truncated compressed file ({error}).") from None


def read_documents(source: BinaryIO, name: str, text_field: str) -> Iterator[bytes]:
    """The text of each JSONL record; blank lines are passed over.

    Raises:
        InputError: a line, named by its number, is no JSON object with a string in that field, or too long.
    """
    for number, line in enumerate(iter(partial(source.readline, MAX_LINE_BYTES + 1), b""), 1):
        if len(line) > MAX_LINE_BYTES:
            raise InputError(
                f"{name}:{number}: too long a line; found over {MAX_LINE_BYTES >> 20} MiB. Split the record."
            )
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = str(error).replace("\n", " ")
            raise InputError(f"{name}:{number}: not a line of JSON ({reason}).") from None
        found = record.get(text_field) if isinstance(record, dict) else None
        if not isinstance(found, str):
            what = f"fields {sorted(record)[:8]}" if isinstance(record, dict) else type(record).__name__
            raise InputError(
                f"{name}:{number}: no text in this record; found {what}, want a string in {text_field!r}. "
                "Name the field with --text-field."
            )
        yield found.encode("utf-8", "surrogatepass")


class _ZstdReader(io.RawIOBase):
    """The decompressed bytes of zstd frames one after another; unlike the library's, it knows a cut one."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._in_frame = False
        self._unread = b""  # of the last read, beyond the end of a frame
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill the buffer with the next bytes; 0 at the end.

        Raises:
            EOFError: the last frame is incomplete.
            zstandard.ZstdError: the data are damaged.
        """
        while not self._ready:
            data = self._unread or self._source.read(FED_BYTES)
            if not data:
                if self._in_frame:
                    raise EOFError("the last zstd frame is incomplete")
                return 0
            self._ready = memoryview(self._frame.decompress(data))
            self._unread, self._in_frame = self._frame.unused_data, not self._frame.eof
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        view = memoryview(buffer)
        n = min(len(view), len(self._ready))
        view[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n

    def close(self) -> None:
        """Close the file below as well."""
        self._source.close()
        super().close()
