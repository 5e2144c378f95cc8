"""Candidates to codebook: the strings that save text the most windows become the windows.

M1 does not run here. Its probabilities only break ties between candidates. The result is a sorted list of
byte strings and how rare each is: no float goes into the codebook, apart from the penalty of unaligned cuts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from eqinfo.codebook.codebook import MAX_PENALTY, PENALTY_UNIT, Codebook, flat
from eqinfo.codebook.kernels.parse import encode_optimal
from eqinfo.codebook.kernels.trie import (
    MAX_SLOTS,
    NODE_BASE,
    NODE_LABEL,
    NODE_STOP,
    build_trie,
    by_slot,
    count_nodes,
)
from eqinfo.codebook.parse import WINDOW_COST, penalty_cost
from eqinfo.coder.integer_m1 import SIGNED_MULTIPLIER
from eqinfo.m1.corpus import Text
from eqinfo.m1.expand import Candidates, OnProgress
from eqinfo.system.arrays import I64, U8, U32
from eqinfo.system.jit import compiled
from eqinfo.system.threads import ordered_map

# Pairs that a pass joins, at most, times 2**window_bits.
FIRST_GROWTH = (4, 4)  # passes before the first shrinking
LATER_GROWTH = (1, 1, 1)  # passes after it, each followed by shrinking again
MAX_JOINED_BYTES = 32
KEEP = 0.5  # share of the candidates that a shrinking pass keeps
MAX_NODES = MAX_SLOTS // 8 * 7  # of the trie of candidates: 1/8 of its slots stay empty
RARITY_PASSES = 2  # rarities change the cut that they come from, less and less
NO_ENDS = np.empty(0, np.int64)  # the refit ignores document ends, which are few


@compiled
def _slot_of(key: Any, keys: I64) -> Any:
    """The slot of a key in a hash table with linear probing, or the empty slot where it belongs.

    Key 0 marks an empty slot. The size is a power of two; some slots are empty, so the search ends.
    """
    mask = keys.size - 1
    slot = (key * np.int64(SIGNED_MULTIPLIER)) >> 20 & mask
    while keys[slot] != key and keys[slot]:
        slot = (slot + 1) & mask
    return slot


@compiled
def _count(codewords: U32, keys: I64, counts: U32) -> int:
    """Count neighbours in codewords (n,) by key 1 + (first << 32 | second); the number of new keys."""
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
    """Fill an empty table with keys and their counts."""
    for i in range(new_keys.size):
        slot = _slot_of(new_keys[i], keys)
        keys[slot] = new_keys[i]
        counts[slot] = new_counts[i]


@compiled
def _windows_saved(joined: U8, starts: I64, table: U32, root: int) -> I64:
    """The result of `windows_saved`.

    Args:
        joined: all strings, of at most 255 bytes, one after the other.
        starts: of each string in `joined`, and the end of the last, (n + 1,).
        table: nodes of the trie of all strings.
        root: base of the trie's root.
    """
    saved = np.zeros(starts.size - 1, np.int64)
    fewest = np.empty(256, np.int64)  # windows for the first bytes of a string
    for k in range(saved.size):
        string = joined[starts[k] : starts[k + 1]]
        fewest[: string.size + 1] = string.size  # as single bytes, at most
        fewest[0] = 0
        for start in range(string.size):
            base = np.uint64(root)
            # the whole string is not allowed: from its first byte on, stop before its last
            for at in range(start, string.size - (start == 0)):
                byte = np.uint64(string[at])
                node = np.uint64(table[base ^ byte])
                if node & NODE_LABEL != byte:
                    break
                if node >> NODE_STOP & np.uint64(1):
                    fewest[at + 1] = min(fewest[at + 1], fewest[start] + 1)
                base = node >> NODE_BASE
        saved[k] = fewest[string.size] - 1
    return saved


class PairCounts:
    """How often two windows follow one another in parses, in bounded memory.

    When half of the table is full, the rarest pairs are dropped. The system maps its pages at first use.
    """

    def __init__(self, slot_bits: int = 25) -> None:
        self._keys = np.zeros(1 << slot_bits, np.int64)
        self._counts = np.zeros(1 << slot_bits, np.uint32)
        self._n_used = 0
        self._floor = 1  # pairs up to this count are dropped next

    def add(self, codewords: U32) -> None:
        """Count the pairs in a parse (n,); n is at most 1/8 of the slots."""
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

    def most_frequent(self, n: int) -> tuple[I64, I64]:
        """The n most frequent pairs that occurred more than once: first and second codewords, each (n,)."""
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
    """The codebook of the candidates that save text the most windows.

    1. Grow: M1's most probable strings are short. Each pass parses the texts and joins the most frequent
       pairs of neighbours to new candidates.
    2. Shrink: each pass parses the texts with all candidates and keeps the better half, until 2**window_bits
       are left, with the empty window. A candidate's worth is its uses times the windows that each use saves:
       the fewest that the string takes without it, less 1. Single bytes always stay.
    3. Grow a little and shrink again: frequent pairs replace rare windows.
    4. Count the uses of each window, for its rarity.

    Args:
        candidates: include all single bytes; their trie has at most MAX_NODES.
        texts: to parse; M1 need not be trained on them.
        window_bits: size of a codeword.
        unaligned_penalty: cost of an unaligned cut, in windows of mean cost. The codebook keeps it in
            windows of cost 1, at most MAX_PENALTY.
        on_progress: called after every text of every pass.
    """
    wanted = (1 << window_bits) - 1  # one codeword is the empty window's
    plan: list[tuple[int, int]] = []  # of each pass: (pairs to join, 0) or (0, candidates to keep)
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
        pairs = PairCounts() if n_joined else None
        on_pass = _part_of(on_progress, done, len(plan) + RARITY_PASSES)
        counts = count_windows(candidates.strings, texts, unaligned_penalty, on_pass, pairs)
        if pairs is not None:
            candidates = _joined(candidates, pairs, n_joined)
        else:
            candidates = candidates.best(n_kept, counts * windows_saved(candidates.strings))
    found, penalty = b"", unaligned_penalty
    for done in range(len(plan), len(plan) + RARITY_PASSES):
        on_pass = _part_of(on_progress, done, len(plan) + RARITY_PASSES)
        uses = count_windows(candidates.strings, texts, penalty, on_pass, rarities=found)
        found = rarities(uses)
        penalty = min(MAX_PENALTY, unaligned_penalty * mean_cost(uses, found))
    return Codebook([b"", *candidates.strings], window_bits, "optimal", penalty, b"\0" + found)


def rarities(uses: I64) -> bytes:
    """-log2 of each share of the uses (n,), in quarter bits; a window that is not used has half a use."""
    shares = (uses + 0.5) / (uses + 0.5).sum()
    quarter_bits: U8 = np.round(-4 * np.log2(shares)).clip(0, 255).astype(np.uint8)
    return quarter_bits.tobytes()


def mean_cost(uses: I64, rarities: bytes) -> float:
    """The mean cost of a window in text, a little above 1: cuts inside words cost as many times as much."""
    mean = (uses * np.frombuffer(rarities, np.uint8)).sum() / uses.sum()
    return round((1 + float(mean) / WINDOW_COST) * PENALTY_UNIT) / PENALTY_UNIT


def _joined(candidates: Candidates, pairs: PairCounts, n: int) -> Candidates:
    """The candidates with the n most frequent pairs of neighbours, as strings of up to MAX_JOINED_BYTES.

    Halves n until the trie of all has at most MAX_NODES.
    """
    first, second = pairs.most_frequent(n)
    known = dict(zip(candidates.strings, candidates.log_p.tolist(), strict=True))
    log_p = (
        candidates.log_p[first] + candidates.log_p[second]
    )  # as if independent, which is enough to break ties
    for a, b, p in zip(first.tolist(), second.tolist(), log_p.tolist(), strict=True):
        string = candidates.strings[a] + candidates.strings[b]
        if len(string) <= MAX_JOINED_BYTES:
            known.setdefault(string, p)
    strings = sorted(known)
    if first.size and count_nodes(*flat(strings)) > MAX_NODES:
        return _joined(candidates, pairs, first.size // 2)
    return Candidates(strings, np.array([known[string] for string in strings]))


def windows_saved(strings: list[bytes]) -> I64:
    """How many windows more each string takes if it is no window itself, (n,); 0 for single bytes.

    Args:
        strings: sorted; include all single bytes.
    """
    table, _, root = build_trie(*flat(strings))
    return _windows_saved(*flat(strings), table, root)


def _part_of(on_progress: OnProgress, done: int, n: int) -> OnProgress:
    """Progress within one of n equal passes, after `done` passes, as progress of all."""
    return lambda share: on_progress((done + share) / n)


def count_windows(
    strings: list[bytes],
    texts: Sequence[Text],
    unaligned_penalty: float,
    on_progress: OnProgress,
    pairs: PairCounts | None = None,
    rarities: bytes = b"",
) -> I64:
    """Uses of each string in the optimal parse of texts, (n,).

    Args:
        strings: sorted; include all single bytes.
        texts: to parse.
        unaligned_penalty: cost of an unaligned cut, in windows.
        on_progress: called after every text.
        pairs: receives the pairs of neighbours too, if given.
        rarities: of the strings; empty if they are not known.
    """
    table, codewords, root = build_trie(*flat(strings))
    assert table.size  # the number of candidates is bounded
    slot_rarities = by_slot(table, codewords, np.frombuffer(rarities, np.uint8))
    longest, penalty = max(map(len, strings)), penalty_cost(unaligned_penalty)
    counts = np.zeros(len(strings), np.int64)

    def parsed(text: Text) -> U32:
        return encode_optimal(text.data, NO_ENDS, table, codewords, root, slot_rarities, longest, penalty)

    for done, found in enumerate(ordered_map(parsed, texts, torch.get_num_threads()), 1):
        counts += np.bincount(found, minlength=len(strings))
        if pairs is not None:
            pairs.add(found)
        on_progress(done / len(texts))
    return counts
