"""Reads any part of the text of an `.eqi` file without reading the rest.

The trailer of a stream (`eqi` has the format) gives the sizes of its frames, and so the offset where the
stream starts. There the stream before it ends: a file of several streams is read from its end, headers and
trailers only.
"""

from collections.abc import Iterator
from io import SEEK_END
from itertools import chain
from typing import BinaryIO, NamedTuple

from eqinfo.errors import FormatError, damaged
from eqinfo.formats import eqi
from eqinfo.formats.codec import Finder
from eqinfo.formats.packing import MAX_VARINT_BYTES, read_varint, varint
from eqinfo.text.frames import FRAME_BYTES, read_fully


class Stream(NamedTuple):
    """Where a stream is in its file.

    Attributes:
        start: offset of its header in the file.
        header: HEADER_BYTES bytes.
        entries: of its index, as stored: two varints a frame.
    """

    start: int
    header: bytes
    entries: bytes

    def frames(self) -> Iterator[tuple[int, int, int]]:
        """Offset in the file, text length and size of each frame."""
        offset = self.start + eqi.HEADER_BYTES
        for length, size in _index_entries(self.entries):
            yield offset, length, size
            offset += size


def _index_entries(index: bytes) -> Iterator[tuple[int, int]]:
    """Text length and size of each frame.

    Raises:
        ValueError: the index is damaged.
    """
    rest = iter(index)
    for first in rest:
        length, size = read_varint(chain((first,), rest)), read_varint(rest)
        if size < eqi.MIN_FRAME_BYTES or length > FRAME_BYTES:
            raise ValueError("not a frame")
        yield length, size


def _stream_before(source: BinaryIO, begin: int, end: int, where: str) -> Stream:
    """The stream that ends at the offset `end`, from its trailer and header alone; none is before `begin`."""

    def read_at(start: int, size: int) -> bytes:
        source.seek(start)
        return eqi.read_exactly(source, size, where)

    tail_start = max(begin, end - MAX_VARINT_BYTES)
    tail = read_at(tail_start, end - tail_start)
    try:
        index_bytes = read_varint(reversed(tail))
        index_start = end - len(varint(index_bytes)) - eqi.CRC_BYTES - index_bytes
        if index_start < begin + eqi.HEADER_BYTES + len(eqi.END):
            raise ValueError
        found = read_at(index_start, end - index_start)
        index = found[:index_bytes]
        frames_bytes = sum(size for _, size in _index_entries(index))
        start = index_start - len(eqi.END) - frames_bytes - eqi.HEADER_BYTES
        if start < begin:
            raise ValueError
    except ValueError:
        raise damaged(f"{where}, index", "it does not fit the file") from None
    header = read_at(start, eqi.HEADER_BYTES)
    eqi.parse_header(header, where)
    if found != eqi.trailer(header, index):
        raise damaged(f"{where}, index", "checksum does not match")
    return Stream(start, header, index)


def read_streams(source: BinaryIO, where: str) -> list[Stream]:
    """The streams of a file in order, from their trailers and headers alone.

    Args:
        source: seekable; the first stream begins where it stands.
        where: name of the source, for messages.

    Raises:
        FormatError: it is not an `.eqi` file, or a trailer is damaged.
    """
    begin = source.tell()
    position = source.seek(0, SEEK_END)
    source.seek(begin)
    eqi.parse_header(read_fully(source, eqi.HEADER_BYTES), where)
    streams: list[Stream] = []
    while position > begin:
        streams.append(_stream_before(source, begin, position, where))
        position = streams[-1].start
    return streams[::-1]


def text_bytes(source: BinaryIO) -> int | None:
    """Size in bytes of the joined texts of all streams in a file, unchecked; None if it cannot tell.

    The source is left where it stands, at the beginning of the first stream.
    """
    if not source.seekable():
        return None
    begin = source.tell()
    try:
        streams = read_streams(source, "")
        return sum(length for stream in streams for _, length, _ in stream.frames())
    except (FormatError, OSError):  # damage is reported when the frames are read
        return None
    finally:
        source.seek(begin)


def read_range(
    source: BinaryIO, finder: Finder, where: str, start: int, end: int | None = None
) -> Iterator[bytes]:
    """The bytes [start, end) of the joined texts of all streams in a file; like a slice, fewer at the end.

    It reads only headers, trailers and the frames that hold these bytes.

    Args:
        source: seekable; the first stream begins where it stands.
        finder: finds the codec of each stream.
        where: name of the source, for messages.
        start: offset of the first byte, 0 or more.
        end: offset after the last byte; None is the end of the text.

    Raises:
        EqinfoError: as `read_frames`.
    """
    at = 0
    for stream in read_streams(source, where):
        codec = None  # those of other streams may be unknown
        for number, (offset, length, size) in enumerate(stream.frames()):
            if start < at + length and (end is None or at < end):
                codec = codec or finder.find_codec(*eqi.parse_header(stream.header, where), where)
                source.seek(offset)
                block = eqi.read_block(source, codec, stream.header, number, where)
                if block is None or (block.text_length, block.size_bytes) != (length, size):
                    raise damaged(f"{where}, frame {number}", "it does not fit the index")
                text = eqi.decode_block(block).text
                yield text[max(0, start - at) : None if end is None else end - at]
            at += length
