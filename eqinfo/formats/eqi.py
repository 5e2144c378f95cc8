"""The `.eqi` stream: independent frames, each checked before any byte of it is given out.

Integers are unsigned and little-endian; a varint is LEB128 in its shortest form (`packing`), of at most 9
bytes. CRC-32 is that of gzip (zlib.crc32). + joins bytes.

    stream      header, frames, a zero byte (the end mark), trailer
    header      "EQI", u8 version 1, u8 unit_bits, first 8 bytes of the codec's fingerprint (see `codec`)
    frame       varint tag: 1 if the text is stored as it is, otherwise the number of units + 1
                varint size of the text in bytes
                u32 CRC-32 of header + frame number as u64 + the two varints + payload + text, where
                    frames are numbered from 0 in each stream, and a stored frame has no payload
                payload of ceil(units * unit_bits / 8) bytes (see `codec`), or the stored text
    trailer     index: for each frame, varint size of its text, varint size of the frame in the stream
                u32 CRC-32 of header + index
                varint size of the index, its bytes in reverse order: it is read from the end of the file

Limits: a frame has at most 2**20 bytes of text and 2**16 document ends, and at most as many units as both
limits allow for its text: its size + 2**16, or for arithmetic coding 20 * (its size + 2**16) + 16. A reader
refuses more, so a damaged length cannot make it use much memory. A stored frame has a text of 1 byte or more
and no document ends; a writer stores a text if its payload would not be shorter.

A stream of an empty text has no frames. Only another stream may follow a stream, of any codec: joined streams
(`cat`) decode to their joined texts. A document spans frames until its end; text after the last document end
of a stream, or a whole text without any, is a document that stays open.

What this module does not do: code frames (`codec`), jump to a part of the text (`eqi_index`), or name files
(`cli`).
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import BinaryIO, NamedTuple, Protocol

from eqinfo.errors import FormatError, check_head, damaged, truncated
from eqinfo.formats.codec import Codec, Finder
from eqinfo.formats.lane_codec import LaneCodec, mapped
from eqinfo.formats.packing import packed_bytes, read_varint, varint
from eqinfo.text import kinds
from eqinfo.text.frames import FRAME_BYTES, Frame, read_fully

STREAM_SUFFIX = ".eqi"
MAGIC = b"EQI"
VERSION = 1
FINGERPRINT_BYTES = 8
HEADER_BYTES = len(MAGIC) + 2 + FINGERPRINT_BYTES
END = b"\0"
STORED = 1  # the tag of a frame whose text is stored
CRC_BYTES = 4
MIN_FRAME_BYTES = 2 + CRC_BYTES + 1  # two varints, the checksum, a payload of 1 byte


class Sink(Protocol):
    """A file whose `write` writes all bytes it is given."""

    def write(self, data: bytes, /) -> object:
        """Write all of `data`."""


@dataclass
class Totals:
    """Sizes of all that a job has written.

    Attributes:
        original_bytes: size of the text.
        compressed_bytes: size of the output.
        windows: units of all frames, those of document ends and of stored frames among them.
        documents: number of document ends.
    """

    original_bytes: int = 0
    compressed_bytes: int = 0
    windows: int = 0
    documents: int = 0

    def add(self, frame: Frame, units: int, size_bytes: int) -> None:
        """Count a frame of `units` units that was written as `size_bytes` bytes."""
        self.original_bytes += len(frame.text)
        self.compressed_bytes += size_bytes
        self.windows += units
        self.documents += len(frame.document_ends)


def stream_header(codec: Codec) -> bytes:
    """The first HEADER_BYTES bytes of a stream."""
    return MAGIC + bytes([VERSION, codec.unit_bits]) + codec.fingerprint[:FINGERPRINT_BYTES]


def frame_seed(header: bytes, number: int) -> int:
    """The CRC-32 that a frame's checksum starts from: it ties the frame to its stream and place."""
    return zlib.crc32(header + number.to_bytes(8, "little"))


def trailer(header: bytes, index: bytes) -> bytes:
    """Everything after the end mark."""
    return index + zlib.crc32(header + index).to_bytes(CRC_BYTES, "little") + varint(len(index))[::-1]


def payload_bytes(tag: int, text_length: int, unit_bits: int) -> int:
    """Size of the payload, or of the stored text, of a frame."""
    return text_length if tag == STORED else packed_bytes(tag - 1, unit_bits)


def frame_bytes(tag: int, text_length: int, unit_bits: int) -> int:
    """Size of a frame in the stream."""
    return len(varint(tag) + varint(text_length)) + CRC_BYTES + payload_bytes(tag, text_length, unit_bits)


def _framed(header: bytes, item: tuple[int, Frame], units: int, payload: bytes) -> tuple[Frame, int, bytes]:
    """A numbered frame, its number of units, and its bytes in the stream."""
    (number, frame), tag = item, units + 1
    if len(payload) >= len(frame.text) and not frame.document_ends:
        payload, tag = b"", STORED
    head = varint(tag) + varint(len(frame.text))
    crc = zlib.crc32(frame.text, zlib.crc32(head + payload, frame_seed(header, number)))
    return frame, units, head + crc.to_bytes(CRC_BYTES, "little") + (payload or frame.text)


def compress(frames: Iterable[Frame], sink: Sink, codec: Codec, threads: int = 1) -> Totals:
    """Write one stream, each frame as soon as it is coded.

    Args:
        frames: each with text or a document end.
        sink: the file to write to.
        codec: codes the frames.
        threads: number of frames to code at a time; the output is the same for any.
    """
    totals, index = Totals(), bytearray()
    header = stream_header(codec)
    sink.write(header)

    def one(item: tuple[int, Frame]) -> tuple[Frame, int, bytes]:
        return _framed(header, item, *codec.encode(item[1]))

    def many(lanes: LaneCodec, batch: list[tuple[int, Frame]]) -> Iterator[tuple[Frame, int, bytes]]:
        found = lanes.encode_batch([frame for _, frame in batch], threads)
        return (_framed(header, item, *coded) for item, coded in zip(batch, found, strict=True))

    for frame, units, data in mapped(one, many, enumerate(frames), lambda _: codec, threads):
        sink.write(data)
        index += varint(len(frame.text)) + varint(len(data))
        totals.add(frame, units, len(data))
    end = END + trailer(header, bytes(index))
    sink.write(end)
    totals.compressed_bytes += len(header) + len(end)
    return totals


# ---- reading a stream


class Block(NamedTuple):
    """A frame as read, its checksum not yet verified."""

    codec: Codec
    place: str  # for messages
    seed: int  # as `frame_seed` gives it
    tag: int
    text_length: int
    crc: int
    payload: bytes  # or the stored text

    @property
    def size_bytes(self) -> int:
        """Size of the frame in the stream."""
        return frame_bytes(self.tag, self.text_length, self.codec.unit_bits)


def read_exactly(source: BinaryIO, size: int, place: str) -> bytes:
    """The next `size` bytes.

    Raises:
        FormatError: there are fewer.
    """
    data = read_fully(source, size)
    if len(data) < size:
        raise truncated(place, len(data), size)
    return data


def parse_header(header: bytes, where: str) -> tuple[int, bytes]:
    """`unit_bits` and the first bytes of the fingerprint, from a stream's header.

    Raises:
        FormatError: not a stream, a truncated one, or one of another version.
    """
    if header[: len(MAGIC)] != MAGIC and (message := kinds.refusal(header, where, "an .eqi stream", "")):
        raise FormatError(message)
    check_head(header, MAGIC, VERSION, HEADER_BYTES, where, "an .eqi stream")
    return header[4], header[5:]


def read_head(source: BinaryIO, place: str) -> tuple[int, int] | None:
    """The tag and the text length of the next frame, not yet checked; None at the end mark."""
    head = (read_exactly(source, 1, place)[0] for _ in count())
    try:
        tag = read_varint(head)
        return None if tag == END[0] else (tag, read_varint(head))
    except ValueError as error:
        raise damaged(place, str(error)) from None


def read_block(source: BinaryIO, codec: Codec, header: bytes, number: int, where: str) -> Block | None:
    """The next frame, or None at the end mark. Reads no more than an undamaged frame can hold.

    Args:
        source: positioned at the frame.
        codec: the stream's.
        header: the stream's.
        number: of the frame in its stream.
        where: name of the stream, for messages.

    Raises:
        FormatError: a length is out of range, or the source ends inside the frame.
    """
    place = f"{where}, frame {number}"
    head = read_head(source, place)
    if head is None:
        return None
    tag, length = head
    if length > FRAME_BYTES or tag - 1 > codec.most_units(length) or (tag == STORED and not length):
        raise damaged(place, f"found {tag - 1} units for {length} bytes")
    crc = int.from_bytes(read_exactly(source, CRC_BYTES, place), "little")
    payload = read_exactly(source, payload_bytes(tag, length, codec.unit_bits), place)
    return Block(codec, place, frame_seed(header, number), tag, length, crc, payload)


def _blocks(source: BinaryIO, finder: Finder, name: str) -> Iterator[Block]:
    """The frames of all streams in a source; the trailer of each must be the one that its frames give."""
    for stream in count():
        header = read_fully(source, HEADER_BYTES)
        if stream and not header:
            return
        where = f"{name}, stream {stream}" if stream else name
        if stream:  # what comes after a stream has no name of its own, to advise a command for
            check_head(header, MAGIC, VERSION, HEADER_BYTES, where, "an .eqi stream")
        codec, index = finder.find_codec(*parse_header(header, where), where), bytearray()
        for number in count():
            block = read_block(source, codec, header, number, where)
            if block is None:
                break
            yield block
            index += varint(block.text_length) + varint(block.size_bytes)
        want = trailer(header, bytes(index))
        if read_exactly(source, len(want), f"{where}, index") != want:
            raise damaged(f"{where}, index", "it does not fit the frames")


def decode_block(block: Block) -> Frame:
    """The text of a frame, its checksum verified; safe to call in several threads at once.

    Raises:
        FormatError: the frame is damaged.
    """
    if block.tag == STORED:
        return _checked(block, Frame(block.payload))
    try:
        frame: Frame | ValueError = block.codec.decode(block.tag - 1, block.payload, block.text_length)
    except ValueError as error:
        frame = error
    return _checked(block, frame)


def _checked(block: Block, frame: Frame | ValueError) -> Frame:
    """A frame, or the error that decoding raised, checked against the block that it was decoded from."""
    if isinstance(frame, ValueError):
        raise damaged(block.place, str(frame))
    seed = zlib.crc32(varint(block.tag) + varint(block.text_length), block.seed)
    if block.tag != STORED:
        seed = zlib.crc32(block.payload, seed)
    crc = zlib.crc32(frame.text, seed)
    if crc != block.crc:
        raise damaged(block.place, f"found checksum {crc:08x}, want {block.crc:08x}")
    return frame


def _decode_batch(codec: LaneCodec, blocks: list[Block], threads: int) -> Iterator[Frame]:
    """`decode_block` of many blocks."""
    coded = [(b.tag - 1, b.payload, b.text_length) for b in blocks if b.tag != STORED]
    found = iter(codec.decode_batch(coded, threads))
    return (_checked(b, Frame(b.payload) if b.tag == STORED else next(found)) for b in blocks)


def read_frames(source: BinaryIO, finder: Finder, where: str, threads: int = 1) -> Iterator[Frame]:
    """The frames of all streams in a source, in order, each checked before it is given.

    Args:
        source: read from its position to its end; short reads are fine.
        finder: finds the codec of each stream.
        where: name of the source, for messages.
        threads: number of frames to decode at a time.

    Raises:
        FormatError: damaged, incomplete, of another version, or followed by something else.
        EqinfoError: the finder does not know a codec.
    """
    many = partial(_decode_batch, threads=threads)
    return mapped(decode_block, many, _blocks(source, finder, where), lambda block: block.codec, threads)
