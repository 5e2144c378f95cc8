"""The compiled loops: a trie as one flat table, the two parses, and decoding.

Imported only when there is enough to do, for numba costs 0.4 s to import. Nothing here decides what a
result *is*: `parse` defines it in plain Python and the tests compare.

The trie is a double array addressed by XOR, one uint32 a node:

    bits 0-7 label | bit 8 stop | bits 9-31 base

The child of a node by `byte` is at slot `base ^ byte` if the label there equals `byte`. That one compare is
enough because bases are unique and no base is a multiple of 256: an empty slot t carries the label t & 255,
which only such a base could match. A node without children has base 0, and the labels in slots 0 to 255 never
match. One 4-byte load a step keeps the trie of 65,536 windows in a level-2 cache.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

F = TypeVar("F", bound=Callable[..., Any])
U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

ROW_BYTES = 16  # a decoded window is copied as two numbers of 8 bytes; the few longer ones go on byte by byte
MAX_SLOTS = 1 << 23  # a base has 23 bits
MAX_FAILED_PLACEMENTS = 24  # then a block counts as full


_numba: Any = numba.config


def _cache_folder() -> str:
    """Where machine code is kept: a folder for this very version of all that is compiled.

    numba looks at the file of a function only, not at those of what it calls: after an upgrade it would go
    on using the old code of these.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.glob("*.py")):
        source = path.read_bytes()
        if b"@compiled" in source or path.stem == "network":  # whose constants are compiled in
            digest.update(source)
    base = _numba.CACHE_DIR or package / "__pycache__"
    if not os.access(package, os.W_OK) and not _numba.CACHE_DIR:
        base = os.path.expanduser("~/.cache/eqinfo")  # noqa: PTH111 (never fails, unlike Path.home)
    return str(Path(base) / f"numba-{digest.hexdigest()[:16]}")


CACHE_FOLDER = _cache_folder()


def _if_there_is_room(save: Callable[..., None]) -> Callable[..., None]:
    """Saving machine code without an error: what is not kept is compiled again."""

    def saved(*arguments: Any) -> None:
        with suppress(OSError):
            save(*arguments)

    return saved


def compiled(function: F) -> F:
    """The function in machine code, cached on disk where a folder can be written and has room."""
    theirs, _numba.CACHE_DIR = _numba.CACHE_DIR, CACHE_FOLDER
    try:
        dispatcher: Any = numba.njit(cache=True, nogil=True)(function)
        dispatcher._cache.save_overload = _if_there_is_room(dispatcher._cache.save_overload)
        return cast(F, dispatcher)
    except (RuntimeError, OSError):  # no folder for the cache: compile in this process alone
        return cast(F, numba.njit(nogil=True)(function))
    finally:
        _numba.CACHE_DIR = theirs


@compiled
def slot_of(key: Any, keys: I64) -> Any:
    """Where a key is in a hash table with linear probing, or where it would go; -1 marks empty slots.

    The size is a power of two, and not all slots are in use.
    """
    mask = keys.size - 1
    slot = (key * np.int64(-7046029254386353131)) >> 20 & mask  # 2**64 / golden ratio
    while keys[slot] != key and keys[slot] >= 0:
        slot = (slot + 1) & mask
    return slot


@compiled
def count_pairs(codewords: U32, keys: I64, counts: U32) -> int:
    """Count the neighbours in codewords (n,), keyed first << 32 | second, and say how many slots are used."""
    for i in range(codewords.size - 1):
        key = np.int64(codewords[i]) << 32 | np.int64(codewords[i + 1])
        slot = slot_of(key, keys)
        keys[slot] = key
        counts[slot] += 1
    return int((keys >= 0).sum())


@compiled
def insert_pairs(new_keys: I64, new_counts: U32, keys: I64, counts: U32) -> None:
    """Put pairs with their counts into an empty table."""
    for i in range(new_keys.size):
        slot = slot_of(new_keys[i], keys)
        keys[slot] = new_keys[i]
        counts[slot] = new_counts[i]


@compiled
def build_trie(blob: U8, offsets: I64) -> tuple[U32, U32, int]:
    """The trie of sorted windows.

    Args:
        blob: all windows one after another, (N,).
        offsets: where each starts and the last one ends, (n_windows + 1,).

    Returns:
        The table (slots,), the codeword of the window that ends in each slot (slots,), and the root's base.
        Empty tables if there are more nodes than MAX_SLOTS can hold.
    """
    n = offsets.size - 1
    size = 1 << 16
    table = (np.arange(size) & 255).astype(np.uint32)
    for t in range(256):
        table[t] = (t + 1) & 255
    codewords = np.zeros(size, np.uint32)
    used_slot = np.zeros(size, np.uint8)
    used_base = np.zeros(size, np.uint8)
    failures = np.zeros(MAX_SLOTS >> 8, np.int32)
    first_open = 1
    root = 0
    # nodes still to place: windows [low, high) share their first `depth` bytes and end in `slot`
    stack = [(0, n, 0, 0)]
    labels = np.zeros(256, np.int64)
    starts = np.zeros(257, np.int64)
    while len(stack) > 0:
        low, high, depth, slot = stack.pop()
        stop = 1 if offsets[low + 1] - offsets[low] == depth else 0
        n_children = 0
        for i in range(low + stop, high):
            byte = blob[offsets[i] + depth]
            if n_children == 0 or labels[n_children - 1] != byte:
                labels[n_children] = byte
                starts[n_children] = i
                n_children += 1
        starts[n_children] = high
        base = 0
        block = first_open
        while n_children > 0 and base == 0:
            if (block + 1) << 8 > size:
                if size >= MAX_SLOTS:
                    return table[:0], codewords[:0], 0
                grown = (np.arange(2 * size) & 255).astype(np.uint32)
                grown[:size] = table
                table = grown
                codewords = np.concatenate((codewords, np.zeros(size, np.uint32)))
                used_slot = np.concatenate((used_slot, np.zeros(size, np.uint8)))
                used_base = np.concatenate((used_base, np.zeros(size, np.uint8)))
                size *= 2
            if failures[block] <= MAX_FAILED_PLACEMENTS:
                for candidate in range((block << 8) + 1, (block + 1) << 8):
                    if used_base[candidate]:
                        continue
                    free = True
                    for k in range(n_children):
                        if used_slot[candidate ^ labels[k]]:
                            free = False
                            break
                    if free:
                        base = candidate
                        break
                if base == 0:
                    failures[block] += 1
            block += 1
        while failures[first_open] > MAX_FAILED_PLACEMENTS:
            first_open += 1
        if depth == 0:
            root = base
        else:
            table[slot] = (base << 9) | (stop << 8) | (table[slot] & 255)
            codewords[slot] = low
        if n_children > 0:
            used_base[base] = 1
        for k in range(n_children):
            child = base ^ labels[k]
            used_slot[child] = 1
            table[child] = labels[k]
            stack.append((starts[k], starts[k + 1], depth + 1, child))
    return table, codewords, root


@compiled
def encode_greedy(text: U8, document_ends: I64, table: U32, codewords: U32, root: int) -> U32:
    """Codewords of the longest matches; see `parse.encode`."""
    n = text.size
    out = np.empty(n + document_ends.size, np.uint32)
    n_out = 0
    i: Any = 0
    for segment in range(document_ends.size + 1):
        end: Any = document_ends[segment] if segment < document_ends.size else n
        while i < end:
            base: Any = root
            best: Any = 0
            length: Any = 0
            for j in range(i, end):
                slot = base ^ text[j]
                entry = np.int64(table[slot])
                if entry & 255 != text[j]:
                    break
                if entry & 256:
                    best = slot
                    length = j + 1 - i
                base = entry >> 9
            out[n_out] = codewords[best]
            n_out += 1
            i += length
        if segment < document_ends.size:
            out[n_out] = 0
            n_out += 1
    return out[:n_out].copy()


@compiled
def encode_optimal(
    text: U8,
    document_ends: I64,
    table: U32,
    codewords: U32,
    root: int,
    word_bytes: npt.NDArray[np.bool_],
    window_cost: int,
    unaligned_cost: int,
) -> U32:
    """Codewords of the cut of least cost; see `parse.encode` and `parse.cut`."""
    n = text.size
    out = np.empty(n + document_ends.size, np.uint32)
    cost = np.empty(n + 1, np.int64)  # of the segment from here, with the cut before it
    chosen = np.empty(n, np.uint32)  # slot in which the best window from here ends
    length = np.empty(n, np.uint8)
    n_out = 0
    start: Any = 0
    for segment in range(document_ends.size + 1):
        end: Any = document_ends[segment] if segment < document_ends.size else n
        cost[end] = 0
        for i in range(end - 1, start - 1, -1):
            base: Any = root
            best: Any = np.int64(0x7FFF_FFFF_FFFF_FFFF)
            for j in range(i, end):
                slot = base ^ text[j]
                entry = np.int64(table[slot])
                if entry & 255 != text[j]:
                    break
                if entry & 256 and cost[j + 1] <= best:
                    best = cost[j + 1]
                    chosen[i] = slot
                    length[i] = j + 1 - i
                base = entry >> 9
            best += window_cost
            if i > start and word_bytes[text[i - 1]] and word_bytes[text[i]]:
                best += unaligned_cost
            cost[i] = best
        i = start
        while i < end:
            out[n_out] = codewords[chosen[i]]
            n_out += 1
            i += length[i]
        if segment < document_ends.size:
            out[n_out] = 0
            n_out += 1
        start = end
    return out[:n_out].copy()


@compiled
def decode(codewords: npt.NDArray[np.unsignedinteger], words: U64, lengths: U8, blob: U8, offsets: I64) -> U8:
    """The bytes of codewords.

    Args:
        codewords: (n,), any unsigned type.
        words: the first 16 bytes of each window as two numbers, lowest byte first, (n_windows, 2).
        lengths: of each window, (n_windows,); by itself it stays in the nearest cache.
        blob: all windows one after another.
        offsets: where each starts and the last one ends, (n_windows + 1,).

    Raises:
        IndexError: a codeword is not in the codebook.
    """
    total = 0
    for codeword in codewords:
        if codeword >= lengths.size:
            raise IndexError("codeword out of range")
        total += lengths[codeword]
    out = np.empty(total + ROW_BYTES, np.uint8)  # a row may be written beyond the end
    at: Any = 0
    for codeword in codewords:
        # numbers, for bytes that are read after others were written are not merged into one load and store
        low = words[codeword, 0]
        high = words[codeword, 1]
        for k in range(8):
            out[at + k] = np.uint8(low >> np.uint64(8 * k))
        for k in range(8):
            out[at + 8 + k] = np.uint8(high >> np.uint64(8 * k))
        length = np.int64(lengths[codeword])
        for k in range(ROW_BYTES, length):
            out[at + k] = blob[offsets[codeword] + k]
        at += length
    return out[:total]


@compiled
def first_bytes(blob: U8, offsets: I64) -> U8:
    """The first ROW_BYTES bytes of each window, zero-padded, (n_windows, ROW_BYTES)."""
    rows = np.zeros((offsets.size - 1, ROW_BYTES), np.uint8)
    for i in range(offsets.size - 1):
        for k in range(min(ROW_BYTES, offsets[i + 1] - offsets[i])):
            rows[i, k] = blob[offsets[i] + k]
    return rows
