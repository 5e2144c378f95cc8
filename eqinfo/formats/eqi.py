"""The `.eqi` stream: independent frames, each checked before a byte of it is given out.

Little-endian; a varint is LEB128 in its shortest form. `size` is that of a frame in the stream.

    header    3s magic "EQI", u8 version, u8 unit_bits, first 8 bytes of the codec's fingerprint
    frame     varint number of units + 1, or 1 if the text is stored as it is; varint text length;
              u32 crc32 of header, frame number (u64), the two varints, payload, text;
              payload: units of unit_bits bits, as the codec made them
    end       u8 0
    trailer   index: varint text length and varint size of each frame; u32 crc32 of header, index;
              length of the index as a varint written backwards, so that it is read from the end

The text length of a stream is the sum over its index. Streams may follow one another (`cat`): they decode
to the concatenation, whatever codecs they are of. A frame holds at most FRAME_BYTES of text and MAX_DOCUMENTS
document ends, which bounds memory whatever a damaged length claims.

What this module does not do: code frames (`codec`), or open, name and replace files (`files`).
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import BinaryIO, NamedTuple, Protocol

from eqinfo.errors import FormatError
from eqinfo.formats.codec import Codec
from eqinfo.formats.packing import packed_bytes, read_varint, varint
from eqinfo.system.threads import ordered_map
from eqinfo.text.frames import FRAME_BYTES, Frame, read_fully

STREAM_SUFFIX = ".eqi"
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


class Finder(Protocol):
    """What knows codecs: a codec knows itself, a model the codecs that can be made of it."""

    def find(self, unit_bits: int, fingerprint: bytes, where: str, /) -> Codec:
        """The codec with units of that size whose fingerprint begins so.

        Raises:
            EqinfoError: it is not known.
        """


@dataclass
class Totals:
    """What a job has written; `windows` counts document ends, and the windows of stored frames too."""

    original_bytes: int = 0
    compressed_bytes: int = 0
    windows: int = 0
    documents: int = 0


def stream_header(codec: Codec) -> bytes:
    """The first HEADER_BYTES bytes of a stream."""
    return MAGIC + bytes([VERSION, codec.unit_bits]) + codec.fingerprint[:FINGERPRINT_BYTES]


def frame_seed(header: bytes, number: int) -> int:
    """Where a frame's checksum starts: no frame passes in another place or stream."""
    return zlib.crc32(header + number.to_bytes(8, "little"))


def trailer(header: bytes, index: bytes) -> bytes:
    """Everything after the end mark."""
    return index + zlib.crc32(header + index).to_bytes(CRC_BYTES, "little") + varint(len(index))[::-1]


def _encode_frame(codec: Codec, header: bytes, item: tuple[int, Frame]) -> tuple[Frame, int, bytes]:
    """A frame, its number of units, and its bytes in the stream."""
    number, frame = item
    units, payload = codec.encode(frame)
    tag = units + 1
    if len(payload) >= len(frame.text) and not frame.document_ends:
        payload, tag = b"", STORED
    head = varint(tag) + varint(len(frame.text))
    crc = zlib.crc32(frame.text, zlib.crc32(payload, zlib.crc32(head, frame_seed(header, number))))
    return frame, units, head + crc.to_bytes(CRC_BYTES, "little") + (payload or frame.text)


def compress(frames: Iterable[Frame], sink: Sink, codec: Codec, threads: int = 1) -> Totals:
    """Write one stream; each frame goes out when it is ready.

    Args:
        frames: none of them empty.
        sink: where the stream goes.
        codec: what to code them with.
        threads: how many frames to work on at a time; the output is the same.
    """
    totals, index = Totals(), bytearray()
    header = stream_header(codec)
    sink.write(header)
    totals.compressed_bytes += len(header)
    for frame, units, data in ordered_map(partial(_encode_frame, codec, header), enumerate(frames), threads):
        sink.write(data)
        index += varint(len(frame.text)) + varint(len(data))
        totals.original_bytes += len(frame.text)
        totals.compressed_bytes += len(data)
        totals.windows += units
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


def check_header(header: bytes, where: str) -> None:
    """Whether a stream begins so.

    Raises:
        FormatError: no stream, a truncated one, or one of another version.
    """
    if not header or header[: len(MAGIC)] != MAGIC[: len(header)]:
        raise FormatError(f"{where}: not an .eqi stream; found {header[:3]!r}, want {MAGIC!r}.")
    if len(header) < HEADER_BYTES:
        raise FormatError(f"{where}: truncated; found {len(header)} bytes, want {HEADER_BYTES} or more.")
    if header[3] != VERSION:
        raise FormatError(f"{where}: another version of the format; found {header[3]}, want {VERSION}.")


def find_codec(header: bytes, finder: Finder, where: str) -> Codec:
    """The codec of the stream that begins with a header.

    Raises:
        FormatError: as `check_header`.
        EqinfoError: the finder does not know the codec.
    """
    check_header(header, where)
    return finder.find(header[4], header[5:], where)


def read_head(source: BinaryIO, place: str) -> tuple[int, int] | None:
    """The tag and the text length of the next frame, not yet to be believed; None at the end mark."""
    try:
        tag = read_varint(lambda: exactly(source, 1, place)[0])
        return None if tag == END[0] else (tag, read_varint(lambda: exactly(source, 1, place)[0]))
    except ValueError as error:
        raise damaged(place, str(error)) from None


def read_block(source: BinaryIO, codec: Codec, place: str, seed: int) -> Block | None:
    """The next frame, or None at the end mark. Reads no more than a sound frame can hold."""
    if (head := read_head(source, place)) is None:
        return None
    tag, length = head
    if length > FRAME_BYTES or tag - 1 > codec.most_units(length) or (tag == STORED and not length):
        raise damaged(place, f"found {tag - 1} units for {length} bytes")
    crc = int.from_bytes(exactly(source, CRC_BYTES, place), "little")
    payload = exactly(source, length if tag == STORED else packed_bytes(tag - 1, codec.unit_bits), place)
    return Block(place, seed, varint(tag) + varint(length), tag, length, crc, payload)


def _blocks(source: BinaryIO, finder: Finder, name: str) -> Iterator[tuple[Codec, Block]]:
    """All frames of all streams in a source; the trailer of each must be what its frames make it."""
    for stream in count():
        header = read_fully(source, HEADER_BYTES)
        if stream and not header:
            return
        where = f"{name}, stream {stream}" if stream else name
        codec = find_codec(header, finder, where)
        index, number = bytearray(), 0
        while True:
            place = f"{where}, frame {number}"
            block = read_block(source, codec, place, frame_seed(header, number))
            if block is None:
                break
            yield codec, block
            index += varint(block.text_length) + varint(block.size_bytes)
            number += 1
        want = trailer(header, bytes(index))
        if exactly(source, len(want), f"{where}, index") != want:
            raise damaged(f"{where}, index", "it does not fit the frames")


def decode_block(item: tuple[Codec, Block]) -> Frame:
    """The text of a frame, all of it checked; safe to call in threads.

    Raises:
        FormatError: it is damaged.
    """
    codec, block = item
    seed = zlib.crc32(block.head, block.seed)
    if block.tag == STORED:
        frame = Frame(block.payload)
    else:
        seed = zlib.crc32(block.payload, seed)
        try:
            frame = codec.decode(block.tag - 1, block.payload, block.text_length)
        except ValueError as error:
            raise damaged(block.place, str(error)) from None
    crc = zlib.crc32(frame.text, seed)
    if crc != block.crc:
        raise damaged(block.place, f"found checksum {crc:08x}, want {block.crc:08x}")
    return frame


def read_frames(source: BinaryIO, finder: Finder, where: str, threads: int = 1) -> Iterator[Frame]:
    """The frames of all streams in a source, in order, each one checked.

    Args:
        source: read from where it stands to its end; short reads are fine.
        finder: a codec, or what finds that of each stream.
        where: name of the source, for messages.
        threads: how many frames to work on at a time.

    Raises:
        FormatError: damaged, incomplete, of another version, or followed by something else.
        EqinfoError: the finder does not know a codec.
    """
    return ordered_map(decode_block, _blocks(source, finder, where), threads)
