"""The compressors that are compared, each loaded and measured in a process of its own.

What a compressor imports is part of its memory, so it is imported when it is loaded.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from processes import Spent, peak_mb, spent

PPMD_MEMORY = 1 << 26
WARM_BYTES = 1 << 17  # done once before anything is timed; enough that compiled code pays

Both = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]  # directions


def ppmd(order: int) -> Both:
    """PPMd, variant I (that of zip)."""
    import pyppmd

    arguments = {"max_order": order, "mem_size": PPMD_MEMORY, "variant": "I"}
    return partial(pyppmd.compress, **arguments), partial(pyppmd.decompress, **arguments)


def _eqinfo(window_bits: str | None) -> Both:
    """Whole streams, with checksums and an index."""
    import io

    from eqinfo.formats import eqi
    from eqinfo.formats.model_folder import Model
    from eqinfo.text.frames import frames_of_bytes

    codec = Model(None).codec(window_bits, carry=False, rule="live")

    def compress(text: bytes) -> bytes:
        sink = io.BytesIO()
        eqi.compress(frames_of_bytes(io.BytesIO(text), codec.frame_bytes), sink, codec)
        return sink.getvalue()

    def decompress(data: bytes) -> bytes:
        return b"".join(frame.text for frame in eqi.read_frames(io.BytesIO(data), codec, "a stream"))

    return compress, decompress


def _zstd(level: int) -> Both:
    import zstandard

    return zstandard.ZstdCompressor(level).compress, zstandard.ZstdDecompressor().decompress


def _xz() -> Both:
    import lzma

    return partial(lzma.compress, preset=9), lzma.decompress


def _brotli() -> Both:
    import brotli

    return partial(brotli.compress, quality=11), brotli.decompress


LOADERS: dict[str, Callable[[], Both]] = {
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
    """What came of a text."""

    size: int
    compress: Spent
    decompress: Spent
    peak_mb: float


def checked_size(both: Both, text: bytes) -> int:
    """Size in bytes of a compressed text, which must come back."""
    packed = both[0](text)
    if both[1](packed) != text:
        raise SystemExit("A text did not come back; no figure is printed.")
    return len(packed)


def measure(name: str, path: Path) -> Measured:
    """Compress a file and restore it, in this process, which must be new."""
    text = path.read_bytes()
    compress, decompress = both = LOADERS[name]()
    checked_size(both, text[:WARM_BYTES])
    packed, compressing = spent(partial(compress, text))
    found, decompressing = spent(partial(decompress, packed))
    if found != text:
        raise SystemExit(f"{name} did not give the text back; no figure is printed.")
    return Measured(len(packed), compressing, decompressing, peak_mb())
