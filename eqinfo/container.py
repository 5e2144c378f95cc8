"""The `.eqi` stream: windows in independent frames, each checked before a byte of it is given out.

Little-endian; a varint is LEB128 in its shortest form. `size` is that of a frame in the stream.

    header    3s magic "EQI", u8 version, u8 window_bits, first 8 bytes of the codebook's fingerprint
    frame     varint number of windows + 1, or 1 if the text is stored as it is; varint text length;
              u32 crc32 of header, frame number (u64), the two varints, payload, text;
              payload: codewords of window_bits bits, least significant first, zero-padded to a byte
    end       u8 0
    trailer   index: varint text length and varint size of each frame; u32 crc32 of header, index;
              length of the index as a varint written backwards, so that it is read from the end

The text length of a stream is the sum over its index. Streams may follow one another (`cat`): they decode
to the concatenation. Codeword 0, the empty window, ends a document. A frame holds at most FRAME_BYTES of
text and MAX_DOCUMENTS document ends, which bounds memory whatever a damaged length claims.

What this module does not do: decide how text is cut (`parse`), or open, name and replace files (`files`).
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np

from eqinfo import parse
from eqinfo.codebook import Codebook
from eqinfo.errors import FormatError, MismatchError
from eqinfo.frames import FRAME_BYTES, MAX_DOCUMENTS, Frame, ordered_map, read_fully
from eqinfo.packing import pack, packed_bytes, read_varint, unpack, varint

MAGIC = b"EQI"
VERSION = 1
FINGERPRINT_BYTES = 8
HEADER_BYTES = len(MAGIC) + 2 + FINGERPRINT_BYTES
END = b"\0"
STORED = 1
CRC_BYTES = 4
MIN_FRAME_BYTES = 2 + CRC_BYTES + 1  # two varints, checksum, a payload of one byte


class Sink(Protocol):
    """Anything with a `write` that takes all it is given."""

    def write(self, data: bytes, /) -> object:
        """Write all of `data`."""


@dataclass
class Totals:
    """What a job has written; `windows` counts document ends, and the windows of stored frames too."""

    original_bytes: int = 0
    compressed_bytes: int = 0
    windows: int = 0
    documents: int = 0


def stream_header(codebook: Codebook) -> bytes:
    """The first HEADER_BYTES bytes of a stream."""
    return MAGIC + bytes([VERSION, codebook.window_bits]) + codebook.fingerprint[:FINGERPRINT_BYTES]


def frame_seed(header: bytes, number: int) -> int:
    """Where a frame's checksum starts: no frame passes in another place or stream."""
    return zlib.crc32(header + number.to_bytes(8, "little"))


def trailer(header: bytes, index: bytes) -> bytes:
    """Everything after the end mark."""
    return index + zlib.crc32(header + index).to_bytes(CRC_BYTES, "little") + varint(len(index))[::-1]


def _encode_frame(codebook: Codebook, header: bytes, item: tuple[int, Frame]) -> tuple[Frame, int, bytes]:
    """A frame, its number of windows, and its bytes in the stream."""
    number, frame = item
    codewords = parse.encode(codebook, *frame)
    payload, tag = pack(codewords, codebook.window_bits), codewords.size + 1
    if len(payload) >= len(frame.text) and not frame.document_ends:
        payload, tag = b"", STORED
    head = varint(tag) + varint(len(frame.text))
    crc = zlib.crc32(frame.text, zlib.crc32(payload, zlib.crc32(head, frame_seed(header, number))))
    return frame, codewords.size, head + crc.to_bytes(CRC_BYTES, "little") + (payload or frame.text)


def compress(frames: Iterable[Frame], sink: Sink, codebook: Codebook, threads: int = 1) -> Totals:
    """Write one stream; each frame goes out when it is ready.

    Args:
        frames: none of them empty.
        sink: where the stream goes.
        codebook: what to cut with.
        threads: how many frames to work on at a time; the output is the same.
    """
    totals, index = Totals(), bytearray()
    header = stream_header(codebook)
    sink.write(header)
    totals.compressed_bytes += len(header)
    for frame, n_windows, data in ordered_map(
        partial(_encode_frame, codebook, header), enumerate(frames), threads
    ):
        sink.write(data)
        index += varint(len(frame.text)) + varint(len(data))
        totals.original_bytes += len(frame.text)
        totals.compressed_bytes += len(data)
        totals.windows += n_windows
        totals.documents += len(frame.document_ends)
    end = END + trailer(header, bytes(index))
    sink.write(end)
    totals.compressed_bytes += len(end)
    return totals


# ---- reading a stream


class Block(NamedTuple):
    """A frame as read, before anything in it is believed."""

    place: str
    seed: int
    head: bytes  # the two varints
    tag: int
    text_length: int
    crc: int
    payload: bytes

    @property
    def size_bytes(self) -> int:
        """Size of the frame in the stream."""
        return len(self.head) + CRC_BYTES + len(self.payload)


def damaged(place: str, what: str) -> FormatError:
    """The error to raise for bytes that nobody wrote so."""
    return FormatError(f"{place}: damaged; {what}. Get a fresh copy.")


def exactly(source: BinaryIO, size: int, place: str) -> bytes:
    """The next `size` bytes.

    Raises:
        FormatError: there are fewer.
    """
    data = read_fully(source, size)
    if len(data) < size:
        raise FormatError(f"{place}: truncated; found {len(data)} bytes, want {size}. Get a complete copy.")
    return data


def check_header(header: bytes, codebook: Codebook, where: str) -> None:
    """Whether a stream with this codebook begins here.

    Raises:
        FormatError: no stream, a truncated one, or one of another version.
        MismatchError: a stream made with another codebook.
    """
    if not header or header[: len(MAGIC)] != MAGIC[: len(header)]:
        raise FormatError(f"{where}: not an .eqi stream; found {header[:3]!r}, want {MAGIC!r}.")
    if len(header) < HEADER_BYTES:
        raise FormatError(f"{where}: truncated; found {len(header)} bytes, want {HEADER_BYTES} or more.")
    if header[3] != VERSION:
        raise FormatError(f"{where}: another version of the format; found {header[3]}, want {VERSION}.")
    want = stream_header(codebook)
    if header[5:] != want[5:]:
        raise MismatchError(
            f"{where}: made with another codebook; found fingerprint {header[5:].hex()}, "
            f"want {want[5:].hex()}. Name the model it was made with (-m)."
        )
    if header != want:
        raise damaged(where, f"found {header[4]} window bits, want {want[4]}")


def read_block(source: BinaryIO, window_bits: int, place: str, seed: int) -> Block | None:
    """The next frame, or None at the end mark. Reads no more than a sound frame can hold."""
    try:
        tag = read_varint(lambda: exactly(source, 1, place)[0])
        if tag == END[0]:
            return None
        length = read_varint(lambda: exactly(source, 1, place)[0])
    except ValueError as error:
        raise damaged(place, str(error)) from None
    if length > FRAME_BYTES or tag - 1 > length + MAX_DOCUMENTS or (tag == STORED and not length):
        raise damaged(place, f"found {tag - 1} windows for {length} bytes")
    crc = int.from_bytes(exactly(source, CRC_BYTES, place), "little")
    payload = exactly(source, length if tag == STORED else packed_bytes(tag - 1, window_bits), place)
    return Block(place, seed, varint(tag) + varint(length), tag, length, crc, payload)


def _blocks(source: BinaryIO, codebook: Codebook, name: str) -> Iterator[Block]:
    """All frames of all streams in a source; the trailer of each must be what its frames make it."""
    for stream in count():
        header = read_fully(source, HEADER_BYTES)
        if stream and not header:
            return
        where = f"{name}, stream {stream}" if stream else name
        check_header(header, codebook, where)
        index, number = bytearray(), 0
        while True:
            place = f"{where}, frame {number}"
            block = read_block(source, codebook.window_bits, place, frame_seed(header, number))
            if block is None:
                break
            yield block
            index += varint(block.text_length) + varint(block.size_bytes)
            number += 1
        want = trailer(header, bytes(index))
        if exactly(source, len(want), f"{where}, index") != want:
            raise damaged(f"{where}, index", "it does not fit the frames")


class Decoder:
    """Decodes frames with one codebook; safe to call in threads."""

    def __init__(self, codebook: Codebook) -> None:
        self.codebook = codebook

    def __call__(self, block: Block) -> Frame:
        """The text of a frame, all of it checked.

        Raises:
            FormatError: it is damaged.
        """
        seed, ends = zlib.crc32(block.head, block.seed), list[int]()
        if block.tag == STORED:
            text = block.payload
        else:
            seed = zlib.crc32(block.payload, seed)
            try:
                codewords = unpack(block.payload, block.tag - 1, self.codebook.window_bits)
                sizes = self.codebook.lengths[codewords]
            except (ValueError, IndexError):
                raise damaged(block.place, "found codewords that are none") from None
            if sizes.sum() != block.text_length:  # before anything of that size is made
                raise damaged(block.place, f"found {sizes.sum()} bytes, want {block.text_length}")
            text = parse.decode(self.codebook, codewords)
            at = np.flatnonzero(codewords == 0)
            if at.size:
                ends = np.cumsum(sizes)[at].tolist()
        crc = zlib.crc32(text, seed)
        if crc != block.crc:
            raise damaged(block.place, f"found checksum {crc:08x}, want {block.crc:08x}")
        return Frame(text, ends)


def read_frames(source: BinaryIO, codebook: Codebook, where: str, threads: int = 1) -> Iterator[Frame]:
    """The frames of all streams in a source, in order, each one checked.

    Args:
        source: read from where it stands to its end; short reads are fine.
        codebook: what the streams were made with.
        where: name of the source, for messages.
        threads: how many frames to work on at a time.

    Raises:
        FormatError: damaged, incomplete, of another version, or followed by something else.
        MismatchError: made with another codebook.
    """
    return ordered_map(Decoder(codebook), _blocks(source, codebook, where), threads)
