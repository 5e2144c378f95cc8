"""What streams and token files are, from their headers, indexes and sidecars: nothing is decoded."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from eqinfo.errors import InputError, MismatchError
from eqinfo.formats.codec import AC_UNIT_BITS
from eqinfo.formats.eqi import (
    CRC_BYTES,
    END,
    FINGERPRINT_BYTES,
    HEADER_BYTES,
    STORED,
    Finder,
    damaged,
    read_head,
    trailer,
)
from eqinfo.formats.eqi_index import Stream, read_streams
from eqinfo.formats.packing import packed_bytes, varint
from eqinfo.formats.token_file import Sidecar, sidecar_path, token_type

HEAD = ["file", "bits", "fingerprint", "model", "streams", "frames", "windows", "bytes", "original", "ratio"]


@dataclass(frozen=True)
class Listing:
    """What a file is, or the streams in it that follow one another with one codec.

    Attributes:
        file: its name.
        window_bits: of a window; None for arithmetic coding, which has none.
        fingerprint: the first 8 bytes of the codec's, in hexadecimal.
        model_at_hand: whether the model can decode it.
        streams: how many; 0 in a token file.
        frames: how many; 0 in a token file of a codebook.
        windows: how many, but for the text of stored frames, which has none.
        compressed_bytes: size in the file.
        original_bytes: size of the text.
    """

    file: str
    window_bits: int | None
    fingerprint: str
    model_at_hand: bool
    streams: int
    frames: int
    windows: int
    compressed_bytes: int
    original_bytes: int

    @property
    def compression_ratio(self) -> float:
        """Original bytes / compressed bytes."""
        return self.original_bytes / max(self.compressed_bytes, 1)

    def to_json(self) -> str:
        """All of it as an object on a line."""
        facts = asdict(self) | {"compression_ratio": round(self.compression_ratio, 4)}
        if self.window_bits is None:
            facts["windows"] = None
        return json.dumps(facts)

    def cells(self) -> list[str]:
        """All of it for people, in the order of HEAD."""
        return [
            self.file,
            "ac" if self.window_bits is None else str(self.window_bits),
            self.fingerprint,
            "yes" if self.model_at_hand else "no",
            *(f"{n:,}" for n in (self.streams, self.frames)),
            "" if self.window_bits is None else f"{self.windows:,}",
            *(f"{n:,}" for n in (self.compressed_bytes, self.original_bytes)),
            f"{self.compression_ratio:.2f}",
        ]


def of_file(source: BinaryIO, finder: Finder, name: Path) -> Iterator[Listing]:
    """What a file is: a listing for each codec in it, in order.

    Args:
        source: the file, open.
        finder: asked whether it knows the codecs.
        name: of the file; a sidecar beside it makes it a token file.

    Raises:
        InputError: the source cannot seek.
        FormatError: it is something else, or its indexes are damaged.
    """
    if not source.seekable():
        raise InputError(f"{name}: --list reads files, from their ends; this is a pipe.")
    if sidecar_path(name).is_file():
        yield _of_tokens(Sidecar.load(sidecar_path(name)), finder, name)
        return
    for header, streams in groupby(read_streams(source, str(name)), lambda stream: stream.header):
        yield _of_streams(source, list(streams), header, finder, name)


def _of_tokens(sidecar: Sidecar, finder: Finder, name: Path) -> Listing:
    """What a token file is, as its sidecar says."""
    unit_bits = sidecar.unit_bits or sidecar.window_bits
    units = sum(units for _, _, units, _ in sidecar.frames) if sidecar.unit_bits else sidecar.tokens
    fingerprint = bytes.fromhex(sidecar.fingerprint)
    size, want = name.stat().st_size, sidecar.tokens * token_type(sidecar.window_bits).itemsize
    if size != want:
        raise damaged(str(name), f"found {size} bytes, want {want} as its sidecar says")
    return Listing(
        str(name),
        _window_bits(unit_bits),
        fingerprint[:FINGERPRINT_BYTES].hex(),
        _is_known(finder, unit_bits, fingerprint, str(name)),
        0,
        len(sidecar.frames),
        units,
        size,
        sidecar.original_bytes,
    )


def _of_streams(
    source: BinaryIO, streams: list[Stream], header: bytes, finder: Finder, name: Path
) -> Listing:
    """What streams of one codec are."""
    unit_bits, fingerprint = header[4], header[5:]
    is_known = _is_known(finder, unit_bits, fingerprint, str(name))
    n_frames = windows = compressed = original = 0
    for stream in streams:
        compressed += HEADER_BYTES + len(END) + len(trailer(header, stream.entries))
        for offset, length, size in stream.frames():
            place = f"{name}, frame {n_frames}"
            source.seek(offset)
            head = read_head(source, place)
            tag = STORED if head is None else head[0]
            payload_bytes = length if tag == STORED else packed_bytes(tag - 1, unit_bits)
            if head != (tag, length) or size != len(varint(tag) + varint(length)) + CRC_BYTES + payload_bytes:
                raise damaged(place, "it does not fit the index")
            n_frames += 1
            windows += tag - 1
            compressed += size
            original += length
    return Listing(
        str(name),
        _window_bits(unit_bits),
        fingerprint.hex(),
        is_known,
        len(streams),
        n_frames,
        windows,
        compressed,
        original,
    )


def _window_bits(unit_bits: int) -> int | None:
    return None if unit_bits == AC_UNIT_BITS else unit_bits


def _is_known(finder: Finder, unit_bits: int, fingerprint: bytes, where: str) -> bool:
    """Whether there is a codec to decode with."""
    try:
        finder.find(unit_bits, fingerprint, where)
    except (InputError, MismatchError):
        return False
    return True
