"""Pairs of windows that no text has side by side.

A text is cut in one way. Where `th` and `e` meet, the cut has the window `the` instead, so `e` never follows
`th`. A model that does not know this gives such windows a part of its probability, which is lost.

A pair (a, b) is *impossible* if the cut of the bytes a + b is another one than [a, b]. Then it is in the cut
of no text: a better cut of these bytes would make a better cut of the whole. Some more windows are impossible
after several; those are not listed. The empty window, which ends a document, is in no impossible pair.

>>> from eqinfo.codebook.codebook import Codebook
>>> windows = sorted([b"", *(bytes([b]) for b in range(256)), b"th", b"the"])
>>> pairs = impossible_pairs(Codebook(windows, window_bits=9))
>>> [(windows[a], windows[b]) for a, b in pairs.listed()]
[(b't', b'h'), (b'th', b'e')]
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook, flat
from eqinfo.system.arrays import I64, U32, Ids

MAX_WINDOWS = 1 << 16  # those of larger codebooks have too many pairs: 30 million for 16 bits, 300 for 18
MAX_PAIRS = 1 << 26  # 256 MiB
MAX_STEPS = 1 << 31  # some 30 seconds; the codebooks in the package take an eighth of them or fewer


class Pairs(NamedTuple):
    """Pairs of codewords, grouped by the first.

    Attributes:
        starts: where the list of each first codeword begins, and the end of the last, (n_windows + 1,).
        seconds: all lists, (n,), each in no order.
    """

    starts: I64
    seconds: U32

    def listed(self) -> Iterator[tuple[int, int]]:
        """All pairs, ordered by the first."""
        firsts = np.repeat(np.arange(self.starts.size - 1), np.diff(self.starts))
        return zip(firsts.tolist(), self.seconds.tolist(), strict=True)

    def count(self, ids: Ids) -> int:
        """How many ids (n,) follow one that they never follow in a cut; all, if one has no window."""
        from eqinfo.codebook.kernels.pairs import count_impossible

        if int(ids.max(initial=0)) >= self.starts.size - 1:
            return ids.size
        return count_impossible(ids.astype(np.uint32), self.starts, self.seconds)


@lru_cache(1)  # train-m2 asks when it starts a run, for the model in training, and for the one it measures
def impossible_pairs(codebook: Codebook) -> Pairs | None:
    """The impossible pairs of a codebook; None if it goes beyond one of the limits above."""
    if len(codebook.windows) > MAX_WINDOWS:
        return None
    from eqinfo.codebook.kernels import pairs as kernel

    rarities = np.frombuffer(codebook.rarities or bytes(len(codebook.windows)), np.uint8)
    costs = parse.WINDOW_COST + rarities.astype(np.int64)
    blob, offsets = flat(codebook.windows)
    penalty, is_greedy = parse.penalty_cost(codebook.unaligned_penalty), codebook.method == "greedy"
    starts, seconds = kernel.impossible_pairs(
        blob, offsets, *codebook.trie, costs, penalty, is_greedy, MAX_PAIRS, MAX_STEPS
    )
    return Pairs(starts, seconds) if starts.size else None
