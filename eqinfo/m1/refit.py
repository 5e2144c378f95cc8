"""Candidates to codebook: choosing windows by their use in real text.

No model is needed here. M1's probabilities only break ties, and what leaves is a sorted list of byte
strings: nothing below ever sees a float.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from eqinfo.codebook import kernels
from eqinfo.codebook.codebook import Codebook, flat
from eqinfo.codebook.parse import WINDOW_COST, WORD_BYTES, unaligned_cost
from eqinfo.m1.corpus import Text
from eqinfo.m1.expand import Candidates, OnProgress
from eqinfo.system.jit import compiled
from eqinfo.system.threads import ordered_map

FIRST_GROWTH = (4, 4)  # passes that add up to so many times 2**window_bits pairs, before the first shrinking
LATER_GROWTH = (1, 1, 1)  # and after it, each followed by shrinking again
MAX_JOINED_BYTES = 32
KEEP = 0.5  # of the candidates survive a pass that shrinks
MAX_NODES = kernels.MAX_SLOTS // 8 * 7  # of the trie of candidates; a table is never quite full
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]
NO_ENDS = np.empty(0, np.int64)  # the refit parses across document ends: they are few


@compiled
def _slot_of(key: Any, keys: I64) -> Any:
    """Where a key is in a hash table with linear probing, or where it would go; 0 marks empty slots.

    The size is a power of two, and not all slots are in use.
    """
    mask = keys.size - 1
    slot = (key * np.int64(-7046029254386353131)) >> 20 & mask  # 2**64 / golden ratio
    while keys[slot] != key and keys[slot]:
        slot = (slot + 1) & mask
    return slot


@compiled
def _count(codewords: U32, keys: I64, counts: U32) -> int:
    """Count the neighbours in codewords (n,), keyed 1 + (first << 32 | second); how many keys are new."""
    n_new = 0
    for i in range(codewords.size - 1):
        key = 1 + (np.int64(codewords[i]) << 32 | np.int64(codewords[i + 1]))
        slot = _slot_of(key, keys)
        n_new += keys[slot] == 0
        keys[slot] = key
        counts[slot] += 1
    return n_new


@compiled
def _insert(new_keys: I64, new_counts: U32, keys: I64, counts: U32) -> None:
    """Put pairs with their counts into an empty table."""
    for i in range(new_keys.size):
        slot = _slot_of(new_keys[i], keys)
        keys[slot] = new_keys[i]
        counts[slot] = new_counts[i]


class Pairs:
    """The counts. When the table fills, the rarest make room; what is never used of it takes no memory."""

    def __init__(self, slot_bits: int = 25) -> None:
        self._keys = np.zeros(1 << slot_bits, np.int64)
        self._counts = np.zeros(1 << slot_bits, np.uint32)
        self._n_used = 0
        self._floor = 1  # pairs up to this count were dropped last

    def add(self, codewords: npt.NDArray[np.uint32]) -> None:
        """Count the pairs in a parse of at most an eighth as many windows as there are slots."""
        assert codewords.size <= self._keys.size >> 3
        self._n_used += _count(codewords, self._keys, self._counts)
        while self._n_used > self._keys.size >> 1:
            kept = np.flatnonzero(self._counts > self._floor)
            keys, counts = self._keys[kept], self._counts[kept]
            self._keys.fill(0)
            self._counts.fill(0)
            _insert(keys, counts, self._keys, self._counts)
            self._n_used = keys.size
            self._floor += keys.size > self._keys.size >> 2

    def most_frequent(self, n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Firsts and seconds of up to n pairs that were met more than once, the most frequent ones."""
        slots = np.flatnonzero(self._counts > 1)
        slots = slots[np.lexsort((self._keys[slots], -self._counts[slots].astype(np.int64)))[:n]]
        pairs = self._keys[slots] - 1
        return pairs >> 32, pairs & 0xFFFF_FFFF


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
    if first.size and kernels.count_nodes(*flat(strings)) > MAX_NODES:
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
    trie = kernels.build_trie(*flat(strings))
    assert trie[0].size  # the number of candidates is bounded
    longest, unaligned = max(map(len, strings)), unaligned_cost(unaligned_penalty)
    counts = np.zeros(len(strings), np.int64)

    def parsed(text: Text) -> npt.NDArray[np.uint32]:
        return kernels.encode_optimal(text.data, NO_ENDS, *trie, longest, WORD_BYTES, WINDOW_COST, unaligned)

    for done, codewords in enumerate(ordered_map(parsed, texts, os.cpu_count() or 1), 1):
        counts += np.bincount(codewords, minlength=len(strings))
        if pairs is not None:
            pairs.add(codewords)
        on_progress(done / len(texts))
    return counts
