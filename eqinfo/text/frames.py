"""Frames of text: the pieces of bounded size in which everything is compressed, and their documents.

Where the frames of a text end depends on the text alone, never on how it is read, so neither does the
output. Each frame is cut by itself (`container` writes it, `tokens` too), in any number of threads.
"""

import json
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from eqinfo.errors import InputError

Bytes = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

FRAME_BYTES = 1 << 20
MAX_DOCUMENTS = 1 << 16  # document ends in a frame


class Frame(NamedTuple):
    """A piece of text, at most FRAME_BYTES long, and the document ends in it, as `parse.encode` wants."""

    text: bytes
    document_ends: Sequence[int] = ()


def read_fully(source: BinaryIO, size: int) -> bytes:
    """The next `size` bytes, fewer only at the end: pipes give short reads."""
    parts: list[bytes] = []
    while size and (part := source.read(size)) != b"":
        if part is None:
            raise BlockingIOError("input is not ready (non-blocking)")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def frames_of_bytes(source: BinaryIO, size: int = FRAME_BYTES) -> Iterator[Frame]:
    """The bytes of a file in frames of so many bytes, without document ends."""
    while text := read_fully(source, size):
        yield Frame(text)


def frames_of_pieces(pieces: Iterable[tuple[bytes, bool]], size: int = FRAME_BYTES) -> Iterator[Frame]:
    """Pieces of documents in frames; a long document spans several, short ones share one.

    Args:
        pieces: bytes of any size, each with whether its document ends there.
        size: of a frame, in bytes.
    """
    text, ends = bytearray(), list[int]()
    for piece, closed in pieces:
        at = 0
        while len(text) + len(piece) - at > size:
            taken = size - len(text)
            yield Frame(bytes(text) + piece[at : at + taken], ends)
            at += taken
            text, ends = bytearray(), []
        text += piece[at:]
        if closed:
            ends.append(len(text))
        if len(ends) == MAX_DOCUMENTS:
            yield Frame(bytes(text), ends)
            text, ends = bytearray(), []
    if text or ends:
        yield Frame(bytes(text), ends)


def jsonl_of_frames(frames: Iterable[Frame], where: str) -> Iterator[bytes]:
    r"""One line `{"text": ...}` per document, in pieces: no document need fit in memory.

    Raises:
        InputError: a document is not UTF-8 (lone surrogates, which JSON can hold, are fine).
    """
    decoder = getincrementaldecoder("utf-8")("surrogatepass")
    opened = False
    for text, ends in frames:
        line: list[str] = []
        starts, stops = [0, *ends], [*ends, len(text)]
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            closed = i < len(ends)
            try:
                piece = decoder.decode(text[start:stop], final=closed)
            except UnicodeDecodeError:
                raise InputError(
                    f"{where}: a document is not UTF-8, as JSON must be. Omit --jsonl."
                ) from None
            if not opened and (closed or stop > start):
                line.append('{"text": "')
                opened = True
            line.append(json.dumps(piece, ensure_ascii=False)[1:-1])
            if closed:
                line.append('"}\n')
                opened = False
        # what UTF-8 cannot hold are lone surrogates: Python's escape for them is JSON's too
        yield "".join(line).encode("utf-8", "backslashreplace")
    if opened:  # the text after the last document end is a document as well
        if decoder.getstate()[0]:
            raise InputError(f"{where}: a document is not UTF-8, as JSON must be. Omit --jsonl.")
        yield b'"}\n'
