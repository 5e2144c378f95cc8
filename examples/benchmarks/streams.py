"""The section of `run.py` on streams beside general compressors: size, speed and memory.

The compressors are in `compressors`; `live` and `windows` write pages of their own.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pages
import peers
from compressors import LOADERS, Measured, measure
from processes import fresh
from windows import zstd_dictionary, zstd_with

RUNS = 3
OURS = ("eqinfo, ac", "eqinfo, b = 64", "eqinfo, b = 16")
SLOW = OURS[:2]  # M1 runs for every byte, which takes minutes per text
RECORD_BYTES, N_RECORDS = 1024, 128  # per text
PACKAGES = ("numba", "numpy", "zstandard", "brotli", "pyppmd")


def text_table(path: Path) -> Iterator[str]:
    """The table of a whole text."""
    size = path.stat().st_size
    work: dict[str, Callable[[], Measured]] = {
        name: partial(fresh, {}, measure, name, path) for name in LOADERS
    }
    found = peers.turns({name: each for name, each in work.items() if name not in SLOW}, RUNS)
    found |= {name: [work[name]()] for name in SLOW}
    rows = []
    for name in LOADERS:
        runs = found[name]
        rates = [
            pages.digits(size / 1e6 / peers.median(times).cpu_s)
            for times in ([run.compress for run in runs], [run.decompress for run in runs])
        ]
        ratios = [f"{runs[0].size / found[us][0].size:.2f}" for us in OURS]
        peak = max(run.peak_mb for run in runs)
        rows.append([name, f"{size / runs[0].size:.2f}", *ratios, *rates, f"{peak:,.0f}"])
    yield f"### {path.stem}, {size / 1e6:.2f} MB\n"
    head = ["", "ratio", "ac / this", "b = 64 / this", "b = 16 / this", "compress", "decompress", "peak MB"]
    yield pages.table(head, rows)


def record_table(paths: list[Path], train: Path) -> Iterator[str]:
    """The table of short records, each compressed by itself."""
    ways = {name: load() for name, load in LOADERS.items()}
    ways["zstd -19, dictionary"] = zstd_with(zstd_dictionary(train, record_bytes=RECORD_BYTES))
    records = [peers.evenly(path.read_bytes(), N_RECORDS, RECORD_BYTES) for path in paths]
    rows = [
        [name, *(f"{sum(map(len, each)) / compressor.total_size(each):.2f}" for each in records)]
        for name, compressor in ways.items()
    ]
    yield f"### Ratio of {N_RECORDS} records of {RECORD_BYTES:,} bytes, each compressed by itself\n"
    yield pages.paragraph(
        "A record of eqinfo is a whole stream. The dictionary (110 KiB) was trained on records of the same "
        "size, taken from the text that the codebook was made from. For more on short records see "
        "[windows](windows.md) and [live](live.md)."
    )
    yield pages.table(["", *(path.stem for path in paths)], rows)


def tables(inputs: peers.Inputs) -> Iterator[str]:
    """The section."""
    yield "## Streams, one thread\n"
    yield pages.paragraph(
        "*Ratio* is the size of the text divided by the size of the stream: larger is better. The next "
        "three columns divide eqinfo's ratio (`ac`, b = 64, b = 16) by the ratio in the row: above 1, "
        "eqinfo's stream is smaller. Rates are in MB per CPU second; b = 64 and `ac` were run once. *Peak* "
        "is the peak memory of a process that holds the text, its stream and the decoded text. Streams of "
        "eqinfo contain checksums and an index."
    )
    for path in inputs.unseen:
        yield from text_table(path)
    yield from record_table(inputs.unseen, inputs.train)
