"""What a codebook costs: to compile one as `train-m1` does, and to load it; a section of `run.py`."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import peers
from processes import Spent, fresh, peak_mb, spent

from eqinfo.codebook.codebook import Codebook
from eqinfo.formats.model_folder import Model, find_codebook
from eqinfo.m1 import refit
from eqinfo.m1.corpus import Text, sample
from eqinfo.m1.expand import Candidates, expand
from eqinfo.m1.refit import MAX_JOINED_BYTES, Pairs

WINDOW_BITS = (12, 16)
CANDIDATES = 4  # times 2**window_bits, and
PENALTY = 1.0  # of a cut inside a word, as train-m1 has them unless told otherwise
REFIT_SHARE = 0.64  # of the text
RUNS = 9
PACKAGES = ("numba", "numpy", "zstandard")


class Phase(NamedTuple):
    """What a phase took."""

    spent: Spent
    peak_mb: float


def silent(_: float) -> None:
    """Tell nobody of progress."""


def expanded(n_candidates: int) -> tuple[Candidates, Phase]:
    """Candidates of the M1 in the package, in this process, which must be new."""
    network = Model(None).network
    expand(network, 300, silent)  # what the first use loads
    candidates, took = spent(partial(expand, network, n_candidates, silent))
    return candidates, Phase(took, peak_mb())


def refitted(
    candidates: Candidates, path: Path, n_bytes: int, window_bits: int, longest: int = MAX_JOINED_BYTES
) -> tuple[Codebook, Phase]:
    """The codebook of candidates by their use in an even sample of a text, in a new process.

    Args:
        candidates: strings.
        path: of a plain text.
        n_bytes: of it, about.
        window_bits: of the codebook.
        longest: string that neighbours may join to, in bytes.
    """
    refit.MAX_JOINED_BYTES = longest
    texts = sample(Text(np.memmap(path, np.uint8, "r"), np.empty(0, np.int64)), n_bytes)
    singles = [bytes([byte]) for byte in range(256)]
    refit.count_windows(singles, [texts[0].slice(0, 4096)], PENALTY, silent, Pairs(16))  # as above
    codebook, took = spent(partial(refit.refit, candidates, texts, window_bits, PENALTY, silent))
    return codebook, Phase(took, peak_mb())


def loading() -> dict[str, Spent]:
    """What it takes to load the codebook in the package and make its tables."""
    path = find_codebook(None)
    codebook = Codebook.load(path)
    work: dict[str, Callable[[], object]] = {
        "reading and checking the file": partial(Codebook.load, path),
        "the trie, for text to ids": partial(Codebook.trie.func, codebook),
        "the rows, for ids to text": partial(Codebook.rows.func, codebook),
    }
    return peers.timings(work, RUNS)


def tables(inputs: peers.Inputs) -> Iterator[str]:
    """The section."""
    n_bytes = int(inputs.n_bytes * REFIT_SHARE)
    yield "## Compiling a codebook, and loading it\n"
    yield peers.paragraph(
        "From the M1 in the package, as `train-m1` does after training: M1 lists 4 times as many "
        f"strings as there will be windows, which are refitted on {n_bytes / 1e6:g} MB of text (by "
        "train-m1 on up to 268 MB). CPU seconds of all threads; each phase once, in a new process."
    )
    rows = []
    for window_bits in WINDOW_BITS:
        candidates, expanding = fresh({}, expanded, CANDIDATES << window_bits)
        _, refitting = fresh({}, refitted, candidates, inputs.text, n_bytes, window_bits)
        cells = [f"b = {window_bits}", f"{len(candidates.strings):,}"]
        for took, peak in (expanding, refitting):
            cells += [peers.digits(took.cpu_s), f"{peak:,.0f}"]
        rows.append([*cells, f"{refitting.spent.cpu_s / n_bytes * 1e6:.2f}"])
    head = ["", "candidates", "expand, CPU s", "peak MB", "refit, CPU s", "peak MB", "refit, CPU s/MB"]
    yield peers.table(head, rows)
    size = find_codebook(None).stat().st_size
    yield f"The codebook in the package ({size / 1e3:.0f} kB), once Python and numba are loaded:\n"
    found = fresh({}, loading)
    rows = [[name, peers.digits(took.cpu_s * 1e3)] for name, took in found.items()]
    yield peers.table(["", "CPU ms"], rows)
