"""The rows of `--list` for streams and token files, from headers, indexes and sidecars; text stays coded."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from eqinfo.errors import InputError, MismatchError, damaged
from eqinfo.formats import eqi, file_kind, foreign_ids
from eqinfo.formats.codec import AC_UNIT_BITS, Finder
from eqinfo.formats.eqi_index import Stream, read_streams
from eqinfo.formats.model_folder import AC
from eqinfo.formats.token_file import Sidecar, sidecar_bytes, sidecar_path

HEAD = [
    "file", "bits", "fingerprint", "model", "streams", "frames", "windows", "documents", "bytes", "original",
    "ratio",
]  # fmt: skip


@dataclass(frozen=True)
class Listing:
    """A row: a token file, or the streams of one codec that follow one another in a file.

    Attributes:
        file: its name.
        window_bits: size of a window in bits; None for arithmetic coding, which has no windows.
        fingerprint: the first 8 bytes of the codec's, in hexadecimal.
        model_at_hand: whether the model can decode it.
        streams: number of streams; None for a token file.
        frames: number of frames; None for a token file of a codebook.
        windows: number of windows, of which stored frames have none; None for arithmetic coding.
        documents: number of document ends in a token file; None for streams, whose payloads hold them.
        compressed_bytes: size in the file.
        original_bytes: size of the text.
    """

    file: str
    window_bits: int | None
    fingerprint: str
    model_at_hand: bool
    streams: int | None
    frames: int | None
    windows: int | None
    documents: int | None
    compressed_bytes: int
    original_bytes: int

    @property
    def compression_ratio(self) -> float:
        """Original bytes / compressed bytes."""
        return self.original_bytes / max(self.compressed_bytes, 1)

    def to_json(self) -> str:
        """The row as a JSON object on one line."""
        return json.dumps(asdict(self) | {"compression_ratio": round(self.compression_ratio, 4)})

    def cells(self) -> list[str]:
        """The row for people, in the order of HEAD."""
        row = asdict(self) | {
            "window_bits": self.window_bits or AC,
            "model_at_hand": "yes" if self.model_at_hand else "no",
            "compression_ratio": f"{self.compression_ratio:.2f}",
        }
        return [f"{cell:,}" if isinstance(cell, int) else cell or "" for cell in row.values()]


def of_file(source: BinaryIO, finder: Finder, name: Path) -> Iterator[Listing]:
    """The rows of a file, in order.

    Args:
        source: the file, open.
        finder: finds the codecs that the model has.
        name: of the file; a sidecar beside it makes it a token file.

    Raises:
        InputError: the source cannot seek.
        FormatError: the file is of another format, or its indexes or sidecar are damaged.
    """
    if not source.seekable():
        raise InputError(f"{name}: --list reads files, from their ends; this is a pipe.")
    if file_kind.is_token_file(name):
        where = sidecar_path(name)
        data = sidecar_bytes(where)
        if foreign_ids.facts_of(data, str(where)) is not None:
            raise InputError(f"{name}: ids of another program; their sidecar names no codebook to list.")
        yield _of_tokens(Sidecar.from_json(data, str(where)), finder, name)
        return
    for header, streams in groupby(read_streams(source, str(name)), lambda stream: stream.header):
        yield _of_streams(source, list(streams), header, finder, name)


def _of_tokens(sidecar: Sidecar, finder: Finder, name: Path) -> Listing:
    """The row of a token file, from its sidecar."""
    units = sum(units for _, _, units, _ in sidecar.frames) if sidecar.unit_bits else sidecar.tokens
    size = name.stat().st_size
    sidecar.check_size(size, str(name))
    unit_bits, fingerprint = sidecar.unit_bits or sidecar.window_bits, bytes.fromhex(sidecar.fingerprint)
    sizes = None, len(sidecar.frames) or None, units, sidecar.documents, size, sidecar.original_bytes
    return _row(finder, name, unit_bits, fingerprint, sizes)


def _of_streams(
    source: BinaryIO, streams: list[Stream], header: bytes, finder: Finder, name: Path
) -> Listing:
    """The row of streams that have the same header."""
    unit_bits, fingerprint = eqi.parse_header(header, str(name))
    n_frames = windows = compressed = original = 0
    for stream in streams:
        compressed += eqi.HEADER_BYTES + len(eqi.END) + len(eqi.trailer(header, stream.entries))
        for offset, length, size in stream.frames():
            place = f"{name}, frame {n_frames}"
            source.seek(offset)
            head = eqi.read_head(source, place)
            tag = eqi.STORED if head is None else head[0]
            if head != (tag, length) or size != eqi.frame_bytes(tag, length, unit_bits):
                raise damaged(place, "it does not fit the index")
            n_frames += 1
            windows += tag - 1
            compressed += size
            original += length
    sizes = len(streams), n_frames, windows, None, compressed, original
    return _row(finder, name, unit_bits, fingerprint, sizes)


def _row(
    finder: Finder,
    name: Path,
    unit_bits: int,
    fingerprint: bytes,
    sizes: tuple[int | None, int | None, int, int | None, int, int],
) -> Listing:
    """A row, given the last six of its columns."""
    try:
        finder.find_codec(unit_bits, fingerprint, str(name))
        is_known = True
    except (InputError, MismatchError):
        is_known = False
    streams, frames, units, documents, compressed, original = sizes
    window_bits, windows = (None, None) if unit_bits == AC_UNIT_BITS else (unit_bits, units)
    shown = fingerprint[: eqi.FINGERPRINT_BYTES].hex()
    return Listing(
        str(name), window_bits, shown, is_known, streams, frames, windows, documents, compressed, original
    )
