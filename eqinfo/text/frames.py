"""Frames: pieces of text of at most 1 MiB, each of which is coded by itself, in any thread.

Where frames end depends on the text alone, not on how it is read; so the compressed output depends on the
text alone.

What this module does not do: read or write files of documents (`documents`).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

FRAME_BYTES = 1 << 20
MAX_DOCUMENTS = 1 << 16  # most document ends in a frame


class Frame(NamedTuple):
    """A piece of text and the document ends in it.

    Attributes:
        text: at most FRAME_BYTES bytes to be coded; frames that ids give are longer.
        document_ends: offsets in [0, len(text)], ascending, at most MAX_DOCUMENTS. Equal ones are empty
            documents; text after the last one belongs to a document that stays open.
    """

    text: bytes
    document_ends: Sequence[int] = ()


def read_fully(source: BinaryIO, size: int) -> bytes:
    """The next `size` bytes, fewer only at the end of the source, though pipes give short reads.

    Raises:
        BlockingIOError: the source does not block and has nothing to read yet.
    """
    parts: list[bytes] = []
    while size and (part := source.read(size)) != b"":
        if part is None:
            raise BlockingIOError("input is not ready (non-blocking)")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def frames_of_bytes(source: BinaryIO, size: int = FRAME_BYTES) -> Iterator[Frame]:
    """The bytes of a file in frames of `size` bytes, without document ends."""
    while text := read_fully(source, size):
        yield Frame(text)


def pieces_of_frames(frames: Iterable[Frame]) -> Iterator[tuple[bytes, bool]]:
    """Pieces of documents, each with whether its document ends there; the last piece of a frame may be empty.

    >>> list(pieces_of_frames([Frame(b"to beor ", [5]), Frame(b"not", [3])]))
    [(b'to be', True), (b'or ', False), (b'not', True), (b'', False)]
    """
    for text, ends in frames:
        start = 0
        for end in ends:
            yield text[start:end], True
            start = end
        yield text[start:], False


def frames_of_pieces(pieces: Iterable[tuple[bytes, bool]], size: int = FRAME_BYTES) -> Iterator[Frame]:
    """Frames of documents, from their pieces; a long document spans several frames, short ones share one.

    Args:
        pieces: of documents, of any size, each with whether its document ends there.
        size: of a full frame, in bytes.

    >>> list(frames_of_pieces([(b"to be", True), (b"or not", True)], size=8))
    [Frame(text=b'to beor ', document_ends=[5]), Frame(text=b'not', document_ends=[3])]
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
