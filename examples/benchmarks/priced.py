"""Cuts text into the windows of a codebook by their prices: an experiment with what M2 learns best.

eqinfo's own parse takes the fewest windows, whichever they are. Here a window costs what its token costs a
model without context, -log2 of its share of all tokens, divided by the mean: 1 on average. As there, a cut
inside a word costs PENALTY, and any cut decodes. Shares come from cutting text again and again.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.kernels.trie import NODE_BASE, NODE_LABEL, NODE_STOP
from eqinfo.codebook.parse import WORD_BYTES, encode_compiled
from eqinfo.system.arrays import I64, U8, U32
from eqinfo.system.jit import compiled

PENALTY = 1.0
PASSES = 4

F64 = npt.NDArray[np.float64]


@compiled
def _cut(text: U8, table: U32, codewords: U32, root: int, costs: F64, word_bytes: U8) -> U32:
    """Codewords (n,) of the cut of least cost of a document (m,); costs by codeword. Ties go to the first."""
    n = text.size
    least = np.full(n + 1, np.inf)
    last = np.zeros((n + 1, 2), np.uint32)  # by end: codeword and length of the last window
    least[0] = 0.0
    for start in range(n):
        cost = least[start]
        if start and word_bytes[text[start - 1]] and word_bytes[text[start]]:
            cost += PENALTY
        base = np.uint64(root)
        for at in range(start, n):
            slot = base ^ np.uint64(text[at])
            node = np.uint64(table[slot])
            if node & NODE_LABEL != text[at]:
                break
            if node >> NODE_STOP & np.uint64(1):
                whole = cost + costs[codewords[slot]]
                if whole < least[at + 1]:
                    least[at + 1] = whole
                    last[at + 1, 0], last[at + 1, 1] = codewords[slot], at + 1 - start
            base = node >> NODE_BASE
    found = np.empty(n, np.uint32)
    first, end = n, n
    while end:
        first -= 1
        found[first] = last[end, 0]
        end -= np.int64(last[end, 1])
    return found[first:].copy()


def cut(codebook: Codebook, costs: F64, document: bytes) -> U32:
    """Codewords (n,) of the cut of least cost of a document."""
    text = np.frombuffer(document, np.uint8)
    return _cut(text, *codebook.trie, costs, WORD_BYTES.astype(np.uint8))


def costs_in(codebook: Codebook, documents: Iterable[bytes]) -> F64:
    """The cost of each window, (n_windows,), from its uses in some documents."""
    kept, no_ends = list(documents), np.empty(0, np.int64)
    uses = np.zeros(len(codebook.windows))
    for document in kept:
        uses += _uses(codebook, encode_compiled(codebook, np.frombuffer(document, np.uint8), no_ends))
    for _ in range(PASSES):
        costs = _costs(uses)
        uses = np.zeros_like(uses)
        for document in kept:
            uses += _uses(codebook, cut(codebook, costs, document))
    return _costs(uses)


def _uses(codebook: Codebook, codewords: U32) -> I64:
    """The uses of each window in a cut."""
    return np.bincount(codewords, minlength=len(codebook.windows))


def _costs(uses: F64) -> F64:
    """The costs that follow from uses; a window that is not used counts as half a use."""
    shares = (uses + 0.5) / (uses + 0.5).sum()
    bits = -np.log2(shares)
    found: F64 = bits / (shares * bits).sum()
    return found
