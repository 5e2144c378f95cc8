"""The section of `run.py` on making a codebook as `train-m1` does, and on loading it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pages
import peers
from processes import Spent, fresh, peak_mb, spent

from eqinfo.codebook.codebook import Codebook
from eqinfo.formats.model_folder import Model, codebook_path
from eqinfo.m1 import refit
from eqinfo.m1.corpus import Text, sample
from eqinfo.m1.expand import Candidates, expand
from eqinfo.m1.refit import MAX_JOINED_BYTES, PairCounts
from eqinfo.m1.train import REFIT_BYTES

WINDOW_BITS = (12, 16)
CANDIDATES = 4  # candidates per window; this and the next are the defaults of train-m1
PENALTY = 1.0  # penalty of a cut inside a word
REFIT_SHARE = 0.64  # share of the text to refit on
RUNS = 9
PACKAGES = ("numba", "numpy", "zstandard")


class Phase(NamedTuple):
    """The time and peak memory of a phase."""

    spent: Spent
    peak_mb: float


def silent(_: float) -> None:
    """Ignore progress."""


def expanded(n_candidates: int) -> tuple[Candidates, Phase]:
    """The candidates of the M1 in the package; measured in this process, which must be new."""
    network = Model(None).network
    expand(network, 300, silent)  # loads what the first call needs
    candidates, took = spent(partial(expand, network, n_candidates, silent))
    return candidates, Phase(took, peak_mb())


def refitted(
    candidates: Candidates, path: Path, n_bytes: int, window_bits: int, longest: int = MAX_JOINED_BYTES
) -> tuple[Codebook, Phase]:
    """The codebook refitted on an even sample of a text; measured in this process, which must be new.

    Args:
        candidates: proposed strings.
        path: a plain text.
        n_bytes: approximate size of the sample.
        window_bits: width of the codebook.
        longest: limit in bytes to the strings that the refit joins from pairs.
    """
    refit.MAX_JOINED_BYTES = longest
    texts = sample(Text(np.memmap(path, np.uint8, "r"), np.empty(0, np.int64)), n_bytes)
    singles = [bytes([byte]) for byte in range(256)]
    refit.count_windows(singles, [texts[0].slice(0, 4096)], PENALTY, silent, PairCounts(16))  # as above
    codebook, took = spent(partial(refit.refit, candidates, texts, window_bits, PENALTY, silent))
    return codebook, Phase(took, peak_mb())


def loading() -> dict[str, Spent]:
    """The times of loading the codebook in the package and building its tables."""
    path = codebook_path(None)
    codebook = Codebook.load(path)
    work: dict[str, Callable[[], object]] = {
        "reading and checking the file": partial(Codebook.load, path),
        "building the trie, for text to ids": partial(Codebook.trie.func, codebook),
        "building the decoding table, for ids to text": partial(Codebook.rows.func, codebook),
    }
    return peers.timings(work, RUNS)


def tables(inputs: peers.Inputs) -> Iterator[str]:
    """The section."""
    n_bytes = int(inputs.n_bytes * REFIT_SHARE)
    yield "## Compiling a codebook, and loading it\n"
    yield pages.paragraph(
        "A codebook is compiled from the M1 in the package, as `train-m1` does after training: M1 lists 4 "
        "candidate strings per window (*expand*), then the windows are chosen by their use in "
        f"{n_bytes / 1e6:g} MB of text (*refit*; `train-m1` uses up to {REFIT_BYTES / 1e6:.0f} MB). CPU "
        "seconds are summed over all threads; each phase ran once, in a new process."
    )
    rows = []
    for window_bits in WINDOW_BITS:
        candidates, expanding = fresh({}, expanded, CANDIDATES << window_bits)
        _, refitting = fresh({}, refitted, candidates, inputs.text, n_bytes, window_bits)
        cells = [f"b = {window_bits}", f"{len(candidates.strings):,}"]
        for took, peak in (expanding, refitting):
            cells += [pages.digits(took.cpu_s), f"{peak:,.0f}"]
        rows.append([*cells, f"{refitting.spent.cpu_s / n_bytes * 1e6:.2f}"])
    head = ["", "candidates", "expand, CPU s", "peak MB", "refit, CPU s", "peak MB", "refit, CPU s/MB"]
    yield pages.table(head, rows)
    size = codebook_path(None).stat().st_size
    yield f"Loading the codebook in the package ({size / 1e3:.0f} kB), with numba already imported:\n"
    found = fresh({}, loading)
    rows = [[name, pages.digits(took.cpu_s * 1e3)] for name, took in found.items()]
    yield pages.table(["", "CPU ms"], rows)
