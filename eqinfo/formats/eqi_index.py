"""Any part of the text of an `.eqi` file, without reading the rest.

The trailer of a stream gives the sizes of its frames, so where it starts, and so where the stream before it
ends: a file of many streams is walked from its end, reading headers and trailers only (`container` has the
format).
"""

from collections.abc import Iterator
from functools import partial
from io import SEEK_END
from itertools import chain
from typing import BinaryIO, NamedTuple

from eqinfo.formats.eqi import (
    CRC_BYTES,
    END,
    HEADER_BYTES,
    MIN_FRAME_BYTES,
    Finder,
    check_header,
    damaged,
    decode_block,
    exactly,
    find_codec,
    frame_seed,
    read_block,
    trailer,
)
from eqinfo.formats.packing import MAX_VARINT_BYTES, read_varint, varint
from eqinfo.text.frames import FRAME_BYTES, read_fully


class Stream(NamedTuple):
    """Where a stream starts in its file, its header, and the entries of its index as stored."""

    start: int
    header: bytes
    entries: bytes

    def frames(self) -> Iterator[tuple[int, int, int]]:
        """Offset in the file, text length and size of each frame."""
        offset = self.start + HEADER_BYTES
        for length, size in _index_entries(self.entries):
            yield offset, length, size
            offset += size


def _index_entries(index: bytes) -> Iterator[tuple[int, int]]:
    """Text length and size of each frame.

    Raises:
        ValueError: the index is no such list.
    """
    rest = iter(index)
    for first in rest:
        length = read_varint(partial(next, chain((first,), rest), 0x80))
        size = read_varint(partial(next, rest, 0x80))  # an endless varint is no length
        if size < MIN_FRAME_BYTES or length > FRAME_BYTES:
            raise ValueError("not a frame")
        yield length, size


def _stream_before(source: BinaryIO, end: int, where: str) -> Stream:
    """The stream that ends at an offset of a seekable source, from its trailer alone."""

    def read_at(start: int, size: int) -> bytes:
        source.seek(start)
        return exactly(source, size, where)

    tail_start = max(0, end - MAX_VARINT_BYTES)
    tail = read_at(tail_start, end - tail_start)
    try:
        index_bytes = read_varint(partial(next, reversed(tail), 0x80))
        index_start = end - len(varint(index_bytes)) - CRC_BYTES - index_bytes
        if index_start < HEADER_BYTES + len(END):
            raise ValueError
        found = read_at(index_start, end - index_start)
        index = found[:index_bytes]
        start = index_start - len(END) - HEADER_BYTES
        for _, size in _index_entries(index):
            start -= size
            if start < 0:
                raise ValueError
    except ValueError:
        raise damaged(f"{where}, index", "it does not fit the file") from None
    header = read_at(start, HEADER_BYTES)
    check_header(header, where)
    if found != trailer(header, index):
        raise damaged(f"{where}, index", "checksum does not match")
    return Stream(start, header, index)


def read_streams(source: BinaryIO, where: str) -> list[Stream]:
    """The streams of a source in order, from their trailers alone.

    Args:
        source: seekable.
        where: name of the source, for messages.

    Raises:
        FormatError: it holds something else.
    """
    position = source.seek(0, SEEK_END)
    source.seek(0)
    check_header(read_fully(source, HEADER_BYTES), where)
    streams: list[Stream] = []
    while position:
        streams.append(_stream_before(source, position, where))
        position = streams[-1].start
    return streams[::-1]


def read_range(
    source: BinaryIO, finder: Finder, where: str, start: int, end: int | None = None
) -> Iterator[bytes]:
    """The bytes [start, end) of the text of all streams in a source; as in a slice, fewer at its end.

    Only headers, indexes and the frames that hold these bytes are read.

    Args:
        source: seekable.
        finder: as for `read_frames`.
        where: name of the source, for messages.
        start: first byte, 0 or more.
        end: one past the last byte; None is the end of the text.

    Raises:
        EqinfoError: as `read_frames`.
    """
    at = 0
    for stream in read_streams(source, where):
        codec = find_codec(stream.header, finder, where)
        for number, (offset, length, size) in enumerate(stream.frames()):
            if start < at + length and (end is None or at < end):
                source.seek(offset)
                place = f"{where}, frame {number}"
                block = read_block(source, codec, place, frame_seed(stream.header, number))
                if block is None or (block.text_length, block.size_bytes) != (length, size):
                    raise damaged(place, "it does not fit the index")
                text = decode_block((codec, block)).text
                yield text[max(0, start - at) : None if end is None else end - at]
            at += length
