"""Candidates to codebook: choosing windows by their use in real text.

No model is needed here. M1's probabilities only break ties, and what leaves is a sorted list of byte
strings: nothing below ever sees a float.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eqinfo.codebook.codebook import Codebook, flat
from eqinfo.codebook.kernels.parse import encode_optimal
from eqinfo.codebook.kernels.trie import MAX_SLOTS, build_trie, count_nodes
from eqinfo.codebook.parse import unaligned_cost
from eqinfo.m1.corpus import Text
from eqinfo.m1.pairs import Pairs
from eqinfo.system.threads import ordered_map

OnProgress = Callable[[float], None]  # is told the share that is done, in [0, 1]

FIRST_GROWTH = (4, 4)  # passes that add up to so many times 2**window_bits pairs, before the first shrinking
LATER_GROWTH = (1, 1, 1)  # and after it, each followed by shrinking again
MAX_JOINED_BYTES = 32
KEEP = 0.5  # of the candidates survive a pass that shrinks
MAX_NODES = MAX_SLOTS // 8 * 7  # of the trie of candidates; a table is never quite full
NO_ENDS = np.empty(0, np.int64)  # the refit parses across document ends: they are few


@dataclass(frozen=True)
class Candidates:
    """Strings in lexicographic order with M1's log-probability of each at a window's start."""

    strings: list[bytes]
    log_p: npt.NDArray[np.float64]  # nats

    def best(self, n: int, counts: npt.NDArray[np.int64] | None = None) -> "Candidates":
        """The n with the highest counts, among equals those M1 expects most; and all single bytes."""
        keys = (-self.log_p,) if counts is None else (-self.log_p, -counts)
        longer = np.fromiter((len(string) > 1 for string in self.strings), np.bool_, len(self.strings))
        kept = np.sort(np.lexsort((*keys, longer))[:n])
        return Candidates([self.strings[i] for i in kept], self.log_p[kept])


def refit(
    candidates: Candidates,
    texts: Sequence[Text],
    window_bits: int,
    unaligned_penalty: float,
    on_progress: OnProgress,
) -> Codebook:
    """The codebook of the candidates that real text uses most.

    First the candidates grow: M1 lists strings by their probability, and so has few long ones; text is
    parsed and the most frequent pairs of neighbours join. Then they shrink: text is parsed with all, the
    least used are dropped, and again until 2**window_bits are left. Where counts are equal M1 decides.
    Growing a little and shrinking again from there swaps rare windows for pairs that are more frequent.

    Args:
        candidates: must include all single bytes; a trie of theirs must have at most MAX_NODES.
        texts: to parse; not necessarily what M1 was trained on.
        window_bits: of the codebook.
        unaligned_penalty: of the parse, here and in the codebook's own default.
        on_progress: told after every text.
    """
    wanted = (1 << window_bits) - 1  # the empty window comes on top
    plan: list[tuple[int, int]] = []  # of each pass: how many pairs join, or how many candidates are left
    size = len(candidates.strings)
    assert size >= wanted
    for growth in (*FIRST_GROWTH, *LATER_GROWTH):
        plan.append((growth << window_bits, 0))
        size += growth << window_bits
        if len(plan) >= len(FIRST_GROWTH):
            while size > wanted:
                size = max(wanted, int(size * KEEP))
                plan.append((0, size))
    for done, (n_joined, n_kept) in enumerate(plan):
        pairs = Pairs() if n_joined else None
        told = _part_of(on_progress, done, len(plan))
        counts = count_windows(candidates.strings, texts, unaligned_penalty, told, pairs)
        candidates = _joined(candidates, pairs, n_joined) if pairs else candidates.best(n_kept, counts)
    return Codebook([b"", *candidates.strings], window_bits, "optimal", unaligned_penalty)


def _joined(candidates: Candidates, pairs: Pairs, n: int) -> Candidates:
    """The candidates and the strings of up to n pairs of neighbours, the most frequent ones.

    Of half as many, and again, until the trie of all has at most MAX_NODES.
    """
    first, second = pairs.most_frequent(n)
    known = dict(zip(candidates.strings, candidates.log_p.tolist(), strict=True))
    log_p = candidates.log_p[first] + candidates.log_p[second]  # as if independent: it only breaks ties
    for a, b, p in zip(first.tolist(), second.tolist(), log_p.tolist(), strict=True):
        string = candidates.strings[a] + candidates.strings[b]
        if len(string) <= MAX_JOINED_BYTES:
            known.setdefault(string, p)
    strings = sorted(known)
    if first.size and count_nodes(*flat(strings)) > MAX_NODES:
        return _joined(candidates, pairs, first.size // 2)
    return Candidates(strings, np.array([known[string] for string in strings]))


def _part_of(on_progress: OnProgress, done: int, n: int) -> OnProgress:
    """A reporter of one of n equal parts, after `done` of them."""
    return lambda share: on_progress((done + share) / n)


def count_windows(
    strings: list[bytes],
    texts: Sequence[Text],
    unaligned_penalty: float,
    on_progress: OnProgress,
    pairs: Pairs | None = None,
) -> npt.NDArray[np.int64]:
    """How often the cut of least cost uses each string (n,); strings sorted, all single bytes among them.

    With `pairs`, neighbours are counted as well.
    """
    trie = build_trie(*flat(strings))
    assert trie[0].size  # the number of candidates is bounded
    longest, unaligned = max(map(len, strings)), unaligned_cost(unaligned_penalty)
    counts = np.zeros(len(strings), np.int64)

    def parsed(text: Text) -> npt.NDArray[np.uint32]:
        return encode_optimal(text.data, NO_ENDS, *trie, longest, unaligned)

    for done, codewords in enumerate(ordered_map(parsed, texts, os.cpu_count() or 1), 1):
        counts += np.bincount(codewords, minlength=len(strings))
        if pairs is not None:
            pairs.add(codewords)
        on_progress(done / len(texts))
    return counts
