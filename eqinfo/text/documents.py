"""Documents in files: reads plain text and JSONL, also compressed (`.gz`, `.zst`), and writes JSONL.

A plain file is one document, its bytes unchanged. In a `.jsonl` file each line is one: the UTF-8 of one
field. Lone surrogates, which JSON can hold, become the three bytes that UTF-8 would give them, so no text is
lost. Memory is bounded.

What this module does not do: choose what to train on (`m1.corpus`), or open stdin (`cli`).
"""

import gzip
import io
import json
import zlib
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard

from eqinfo.errors import InputError
from eqinfo.text.frames import Frame, pieces_of_frames

CHUNK_BYTES = 1 << 20
FED_BYTES = 1 << 10  # zstd data decompressed at a time: 4 bytes of it can be 128 KiB of text
MAX_LINE_BYTES = 1 << 25  # longest JSONL record: a record is read in one piece


def open_text(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed if its name ends in `.gz` or `.zst`.

    Raises:
        OSError: the file cannot be opened. Damage is found later, by `read_pieces`.
    """
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    source = path.open("rb")
    return io.BufferedReader(_ZstdReader(source), CHUNK_BYTES) if path.suffix == ".zst" else source


def is_jsonl(name: str) -> bool:
    """Whether a file is JSONL, by its name: `.jsonl`, also with `.gz` or `.zst` after it."""
    return name.removesuffix(".gz").removesuffix(".zst").endswith(".jsonl")


def read_pieces(
    source: BinaryIO, name: str, text_field: str, as_jsonl: bool = False
) -> Iterator[tuple[bytes, bool]]:
    """Pieces of documents, each with whether its document ends there.

    Args:
        source: decompressed, as `open_text` gives it.
        name: of the file; says whether it is JSONL, and is part of messages.
        text_field: the field of a JSONL record that holds the text.
        as_jsonl: read JSONL under any name.

    Raises:
        InputError: as `read_documents`, or the compressed file is damaged.
    """
    try:
        if as_jsonl or is_jsonl(name):
            for document in read_documents(source, name, text_field):
                yield document, True
            return
        while chunk := source.read(CHUNK_BYTES):
            yield chunk, False
        yield b"", True
    except (gzip.BadGzipFile, zlib.error, EOFError, zstandard.ZstdError) as error:
        raise InputError(f"{name}: damaged or truncated compressed file ({error}).") from None


def read_documents(source: BinaryIO, name: str, text_field: str) -> Iterator[bytes]:
    """The text of each JSONL record, skipping blank lines.

    Raises:
        InputError: a line is not a JSON object with a string in that field, or is too long.

    >>> list(read_documents(io.BytesIO(b'{"text": "to be"}'), "a.jsonl", "text"))
    [b'to be']
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


def jsonl_of_frames(frames: Iterable[Frame], where: str) -> Iterator[bytes]:
    r"""One line `{"text": ...}` per document, in pieces, so that no document has to fit in memory.

    Text after the last document end is a document too.

    Raises:
        InputError: a document is not UTF-8. Lone surrogates, which JSON can hold, are allowed.
    """
    decoder = getincrementaldecoder("utf-8")("surrogatepass")
    is_open = False  # whether a line has been begun
    try:
        for frame in frames:
            lines = ""
            for piece, closed in pieces_of_frames([frame]):
                if not is_open and (closed or piece):
                    lines += '{"text": "'
                    is_open = True
                lines += json.dumps(decoder.decode(piece, final=closed), ensure_ascii=False)[1:-1]
                if closed:
                    lines += '"}\n'
                    is_open = False
            # only lone surrogates have no UTF-8: Python's escape for them, \udXXX, is JSON's too
            yield lines.encode("utf-8", "backslashreplace")
        if is_open:
            decoder.decode(b"", final=True)
            yield b'"}\n'
    except UnicodeDecodeError:
        raise InputError(f"{where}: a document is not UTF-8, as JSON must be. Omit --jsonl.") from None


class _ZstdReader(io.RawIOBase):
    """Decompresses joined zstd frames; unlike the library's reader, it refuses a truncated last frame."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._frame = zstandard.ZstdDecompressor().decompressobj()
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
        """Close the source too."""
        self._source.close()
        super().close()
