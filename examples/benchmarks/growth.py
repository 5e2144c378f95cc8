"""How cost grows with the text, with the bits of windows, and with the longest; a section of `run.py`."""

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import peers
from codebooks import CANDIDATES, expanded, refitted
from processes import children_cpu_s, fresh, peak_mb

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.m1.expand import Candidates
from eqinfo.m1.refit import MAX_JOINED_BYTES

WINDOW_BITS = (9, 10, 12, 14, 16, 18, 20)
LONGEST = (4, 8, 16, 64, 255)  # beside MAX_JOINED_BYTES, with BASE bits
BASE, MOST_CANDIDATES = 16, 1 << 20
READ_BYTES, REFIT_SHARE = 4_000_000, 10  # codebooks are refitted on a tenth of the text
RUNS = 3
PACKAGES = ("numba", "numpy")


def piped(text: bytes, megabytes: int) -> list[str]:
    """CPU seconds a MB and peak MB of compress and of decompress, as new processes that stream."""
    with tempfile.TemporaryDirectory() as folder:
        whole, packed = Path(folder) / "a", Path(folder) / "a.eqi"
        digest = hashlib.sha256()
        with whole.open("wb") as file:
            for _ in range(megabytes):
                digest.update(text)
                file.write(text)
        cells = []
        for words in (["compress", "-q", str(whole)], ["decompress", "-qf", str(packed)]):
            before, peak = children_cpu_s(), 0.0
            with subprocess.Popen([sys.executable, "-m", "eqinfo", *words, "-T", "1"]) as process:
                while process.poll() is None:
                    peak = max(peak, peak_mb(process.pid))
                    time.sleep(0.01)
            if process.returncode:
                sys.exit("a command failed; no figure is printed.")
            cells += [f"{(children_cpu_s() - before) / megabytes:.4f}", f"{peak:,.0f}"]
        with whole.open("rb") as file:
            if hashlib.file_digest(file, "sha256").digest() != digest.digest():
                sys.exit("a file did not come back; no figure is printed.")
    return cells


def text_table(path: Path, most: int) -> Iterator[str]:
    """From 1 MB to so many."""
    with path.open("rb") as file:
        text = file.read(1_000_000)
    rows, megabytes = [], 1
    while megabytes <= most:
        rows.append([f"{megabytes:,} MB", *piped(text, megabytes)])
        megabytes *= 10
    yield "The files repeat a megabyte of text, which is in the caches after the first. Each was run once.\n"
    head = ["text, `eqinfo` on files, -T 1", "compress, CPU s/MB", "peak MB"]
    yield peers.table([*head, "decompress, CPU s/MB", "peak MB"], rows)


def codebooks_of(path: Path, n_bytes: int) -> dict[str, Codebook]:
    """Codebooks of several shapes, as train-m1 makes them."""
    listed, _ = fresh({}, expanded, MOST_CANDIDATES)
    found = {}
    for window_bits, longest in [
        *((b, MAX_JOINED_BYTES) for b in WINDOW_BITS),
        *((BASE, n) for n in LONGEST),
    ]:
        kept = [i for i, string in enumerate(listed.strings) if len(string) <= longest]
        short = Candidates([listed.strings[i] for i in kept], listed.log_p[kept])
        best = short.best(CANDIDATES << window_bits)
        codebook, _ = fresh({}, refitted, best, path, n_bytes, window_bits, longest)
        found[f"b = {window_bits}, windows of up to {codebook.max_window_bytes}"] = codebook
    return found


def codebook_table(path: Path, n_bytes: int) -> Iterator[str]:
    """With the shape of the codebook."""
    codebooks = codebooks_of(path, n_bytes)
    with path.open("rb") as file:
        read = file.read(READ_BYTES)
    work: dict[str, Callable[[], object]] = {}
    n_windows = {}
    for name, codebook in codebooks.items():
        ids = parse.encode(codebook, read)
        if parse.decode(codebook, ids) != read:
            sys.exit("a text did not come back; no figure is printed.")
        n_windows[name] = ids.size
        work[f"{name} encode"] = partial(parse.encode, codebook, read)
        work[f"{name} decode"] = partial(parse.decode, codebook, ids)
    found = peers.timings(work, RUNS)
    base = next(name for name, codebook in codebooks.items() if codebook.window_bits == BASE)
    rows = []
    for name, codebook in codebooks.items():
        cells = [f"{len(read) / n_windows[name]:.2f}"]
        for way in ("encode", "decode"):
            took = found[f"{name} {way}"].cpu_s
            cells += [peers.digits(len(read) / 1e6 / took), f"{took / found[f'{base} {way}'].cpu_s:.2f}"]
        sizes = (codebook.trie[0].nbytes, codebook.rows[0].nbytes)
        rows.append([name, *cells, *(peers.digits(size / 1e6) for size in sizes)])
    yield peers.paragraph(
        f"Codebooks as `train-m1` makes them, refitted on {n_bytes / 1e6:g} MB of the text, on "
        f"{len(read) / 1e6:.1f} MB of it. M1 lists {CANDIDATES} times as many candidates as there "
        "will be windows, with 20 bits only as many. MB a CPU second; *cost* is time a byte beside "
        f"that of {base}. How long a window may be is set by what M1 may list and pairs add up to."
    )
    head = ["", "bytes/window", "text to ids", "cost", "ids to text", "cost", "trie, MB", "rows, MB"]
    yield peers.table(head, rows)


def tables(inputs: peers.Inputs) -> Iterator[str]:
    """The section."""
    yield "## How cost grows\n"
    yield from text_table(inputs.text, 10 * inputs.n_bytes // 1_000_000)
    yield from codebook_table(inputs.text, inputs.n_bytes // REFIT_SHARE)
