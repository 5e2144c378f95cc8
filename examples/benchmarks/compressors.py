"""The compressors to compare, each loaded and measured in a new process.

Imports count as a compressor's memory, so each loader imports what it needs.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from processes import Spent, peak_mb, spent

PPMD_MEMORY = 1 << 26
WARM_BYTES = 1 << 17  # compressed once before timing; enough for eqinfo to use its compiled code


class Compressor(NamedTuple):
    """Both directions of one way to compress."""

    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]

    def size(self, data: bytes) -> int:
        """The compressed size in bytes; ends the program if decompressing does not restore the data."""
        packed = self.compress(data)
        if self.decompress(packed) != data:
            raise SystemExit("a text was not restored; no figure is printed.")
        return len(packed)

    def total_size(self, records: Iterable[bytes]) -> int:
        """The compressed size in bytes of records, each compressed by itself."""
        return sum(map(self.size, records))


def ppmd(order: int) -> Compressor:
    """PPMd, variant I, as in zip files."""
    import pyppmd

    arguments = {"max_order": order, "mem_size": PPMD_MEMORY, "variant": "I"}
    return Compressor(partial(pyppmd.compress, **arguments), partial(pyppmd.decompress, **arguments))


def eqi_streams(codec: Any) -> Compressor:
    """Whole .eqi streams, with checksums and an index; `codec` is an eqinfo.formats.codec.Codec."""
    import io

    from eqinfo.formats import eqi
    from eqinfo.text.frames import frames_of_bytes

    def compress(text: bytes) -> bytes:
        sink = io.BytesIO()
        eqi.compress(frames_of_bytes(io.BytesIO(text), codec.frame_bytes), sink, codec)
        return sink.getvalue()

    def decompress(data: bytes) -> bytes:
        return b"".join(frame.text for frame in eqi.read_frames(io.BytesIO(data), codec, "a stream"))

    return Compressor(compress, decompress)


def _eqinfo(window_bits: str | None) -> Compressor:
    from eqinfo.formats.model_folder import Model

    return eqi_streams(Model(None).codec(window_bits, carry=False, rule="live"))


def _zstd(level: int) -> Compressor:
    import zstandard

    return Compressor(zstandard.ZstdCompressor(level).compress, zstandard.ZstdDecompressor().decompress)


def _xz() -> Compressor:
    import lzma

    return Compressor(partial(lzma.compress, preset=9), lzma.decompress)


def _brotli() -> Compressor:
    import brotli

    return Compressor(partial(brotli.compress, quality=11), brotli.decompress)


LOADERS: dict[str, Callable[[], Compressor]] = {
    "eqinfo, b = 16": partial(_eqinfo, None),
    "eqinfo, b = 64": partial(_eqinfo, "64"),
    "eqinfo, ac": partial(_eqinfo, "ac"),
    "zstd -3": partial(_zstd, 3),
    "zstd -19": partial(_zstd, 19),
    "xz -9": _xz,
    "brotli 11": _brotli,
    "PPMd, order 16": partial(ppmd, 16),
}


class Measured(NamedTuple):
    """The stream size in bytes of one text, both times, and the peak memory."""

    size: int
    compress: Spent
    decompress: Spent
    peak_mb: float


def measure(name: str, path: Path) -> Measured:
    """Compress and decompress a file in this process, which must be new."""
    text = path.read_bytes()
    compressor = LOADERS[name]()
    compressor.size(text[:WARM_BYTES])
    packed, compressing = spent(partial(compressor.compress, text))
    found, decompressing = spent(partial(compressor.decompress, packed))
    if found != text:
        raise SystemExit(f"{name}: the text was not restored; no figure is printed.")
    return Measured(len(packed), compressing, decompressing, peak_mb())
