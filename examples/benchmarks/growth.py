"""The section of `run.py` on how cost grows with text size, window bits and the longest window."""

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pages
import peers
from codebooks import CANDIDATES, expanded, refitted
from processes import children_cpu_s, fresh, peak_mb

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.m1.expand import Candidates
from eqinfo.m1.refit import MAX_JOINED_BYTES

WINDOW_BITS = (9, 10, 12, 14, 16, 18, 20)
LONGEST = (4, 8, 16, 64, 255)  # limits to the length of windows of BASE bits, beside MAX_JOINED_BYTES
BASE, MOST_CANDIDATES = 16, 1 << 20
READ_BYTES, REFIT_SHARE = 4_000_000, 10  # codebooks are refitted on a tenth of the text
RUNS = 3
PACKAGES = ("numba", "numpy")


def piped(text: bytes, megabytes: int) -> list[str]:
    """CPU seconds per MB and peak MB of compress and of decompress, each as a new process."""
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
                sys.exit("a file was not restored; no figure is printed.")
    return cells


def text_table(path: Path, most: int) -> Iterator[str]:
    """The table of text sizes from 1 MB to `most` MB."""
    with path.open("rb") as file:
        text = file.read(1_000_000)
    rows, megabytes = [], 1
    while megabytes <= most:
        rows.append([f"{megabytes:,} MB", *piped(text, megabytes)])
        megabytes *= 10
    yield pages.paragraph(
        "Each file repeats the same megabyte of text, which is in the CPU caches after the first. Each was "
        "measured once."
    )
    head = ["size of the file, -T 1", "compress, CPU s/MB", "peak MB"]
    yield pages.table([*head, "decompress, CPU s/MB", "peak MB"], rows)


def codebooks_of(path: Path, n_bytes: int) -> dict[str, Codebook]:
    """Codebooks of several widths and longest windows, by the name of their row."""
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
    """The table of codebooks."""
    codebooks = codebooks_of(path, n_bytes)
    with path.open("rb") as file:
        read = file.read(READ_BYTES)
    work: dict[str, Callable[[], object]] = {}
    n_windows = {}
    for name, codebook in codebooks.items():
        ids = parse.encode(codebook, read)
        if parse.decode(codebook, ids) != read:
            sys.exit("a text was not restored; no figure is printed.")
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
            cells += [pages.digits(len(read) / 1e6 / took), f"{took / found[f'{base} {way}'].cpu_s:.2f}"]
        sizes = (codebook.trie[0].nbytes, codebook.rows[0].nbytes)
        rows.append([name, *cells, *(pages.digits(size / 1e6) for size in sizes)])
    yield pages.paragraph(
        f"Codebooks made as `train-m1` makes them, refitted on {n_bytes / 1e6:g} MB of the text and measured "
        f"on {len(read) / 1e6:.1f} MB of it. M1 lists {CANDIDATES} candidates per window, for 20 bits only "
        f"one. Rates are in MB per CPU second; *cost* is the time per byte divided by that of {base}. The "
        "limit to the length of a window, in bytes, applies to M1's candidates and to the pairs that the "
        "refit joins."
    )
    head = [
        "",
        "bytes/window",
        "text to ids",
        "cost",
        "ids to text",
        "cost",
        "trie, MB",
        "decoding table, MB",
    ]
    yield pages.table(head, rows)


def tables(inputs: peers.Inputs) -> Iterator[str]:
    """The section."""
    yield "## How cost grows\n"
    yield from text_table(inputs.text, 10 * inputs.n_bytes // 1_000_000)
    yield from codebook_table(inputs.text, inputs.n_bytes // REFIT_SHARE)
