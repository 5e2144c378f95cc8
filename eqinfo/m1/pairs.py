"""Counts of pairs of neighbours, in bounded memory: how often two windows follow one another in a parse."""

from typing import Any

import numpy as np
import numpy.typing as npt

from eqinfo.system.jit import compiled

U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]


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
