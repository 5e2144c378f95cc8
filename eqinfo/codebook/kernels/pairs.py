"""Which windows no cut has side by side, compiled. `codebook/pairs` says what a pair is and why.

Take the text of windows a and b. A cut of it that does not pass between them has one window w across: it
begins in a, at byte k, and ends in b, at byte m. That cut costs, at least,

    the least cost of a[:k] + the cost of w + the least cost of b[m:], and the penalties at k and m.

The least costs are those of parts of one window, so they are computed once for each window. For all b that
begin with w's bytes in b, a range of the sorted windows, the cost varies by `rest` of b and m alone.
"""

from typing import Any

import numpy as np

from eqinfo.codebook.kernels.trie import NODE_BASE, NODE_LABEL, NODE_STOP, copied
from eqinfo.codebook.parse import WORD_BYTES
from eqinfo.system.arrays import I64, U8, U32
from eqinfo.system.jit import compiled

FAR = np.int64(1 << 60)  # above any cost
NOWHERE = np.int64(-1)  # a slot that does not exist
BASE, STOP, LABEL = np.int64(NODE_BASE), np.int64(NODE_STOP), np.int64(NODE_LABEL)


@compiled
def _step(table: U32, base: Any, byte: Any) -> Any:
    """The slot of the child by a byte of a node with this base, or NOWHERE."""
    slot = base ^ np.int64(byte)
    return slot if np.int64(table[slot]) & LABEL == byte else NOWHERE


@compiled
def _penalty(before: Any, after: Any, penalty: Any) -> Any:
    """The penalty of a cut between two bytes: 0 unless it is inside a word."""
    return penalty if WORD_BYTES[before] and WORD_BYTES[after] else 0


@compiled
def _tails(blob: U8, offsets: I64, table: U32, root: int) -> I64:
    """Where the trie has the end of a window from each byte on: slots, NOWHERE without one, (n_bytes,)."""
    slots = np.empty(blob.size, np.int64)
    for window in range(offsets.size - 1):
        for start in range(offsets[window], offsets[window + 1]):
            base, slot = np.int64(root), NOWHERE
            for at in range(start, offsets[window + 1]):
                slot = _step(table, base, blob[at])
                if slot == NOWHERE:
                    break
                base = np.int64(table[slot]) >> BASE
            slots[start] = slot
    return slots


@compiled
def _part_costs(
    blob: U8, offsets: I64, table: U32, codewords: U32, root: int, costs: I64, penalty: int
) -> tuple[I64, I64]:
    """The least costs of the text of each window before each of its bytes, and from it on, (n_bytes,) each.

    Both include the penalty of a cut there; at a window's first byte they are 0 and FAR.
    """
    before, after = np.full(blob.size, FAR, np.int64), np.full(blob.size, FAR, np.int64)
    for window in range(offsets.size - 1):
        low, high = offsets[window], offsets[window + 1]
        if low < high:
            before[low] = 0
        for start in range(low, high):
            if start > low:
                before[start] += _penalty(blob[start - 1], blob[start], penalty)
            base = np.int64(root)
            for at in range(start, high - 1):  # a window to the end leaves no part
                slot = _step(table, base, blob[at])
                if slot == NOWHERE:
                    break
                if np.int64(table[slot]) >> STOP & 1:
                    before[at + 1] = min(before[at + 1], before[start] + costs[codewords[slot]])
                base = np.int64(table[slot]) >> BASE
        for start in range(high - 1, low, -1):
            base = np.int64(root)
            for at in range(start, high):
                slot = _step(table, base, blob[at])
                if slot == NOWHERE:
                    break
                if np.int64(table[slot]) >> STOP & 1:
                    left = after[at + 1] if at + 1 < high else 0
                    after[start] = min(after[start], costs[codewords[slot]] + left)
                base = np.int64(table[slot]) >> BASE
            after[start] += _penalty(blob[start - 1], blob[start], penalty)
    return before, after


@compiled
def impossible_pairs(
    blob: U8,
    offsets: I64,
    table: U32,
    codewords: U32,
    root: int,
    costs: I64,
    penalty: int,
    is_greedy: bool,
    most: int,
    most_steps: int,
) -> tuple[I64, U32]:
    """For each window, those that never follow it.

    Args:
        blob: all windows joined, (n_bytes,).
        offsets: start of each window in it, and the end of the last, (n_windows + 1,).
        table: nodes of the trie.
        codewords: of the windows that end at each slot.
        root: base of the trie's root.
        costs: of each window, (n_windows,).
        penalty: cost of a cut inside a word.
        is_greedy: whether text is cut by the longest match, whatever it costs.
        most: the most pairs to list.
        most_steps: the most windows w and b to look at.

    Returns:
        Where the list of each window begins, and the end of the last, (n_windows + 1,); and all lists, (n,),
        in no order. Both are empty if it takes more pairs or steps.
    """
    n_windows = offsets.size - 1
    tails = _tails(blob, offsets, table, root)
    before, after = _part_costs(blob, offsets, table, codewords, root, costs, penalty)
    # of each node: its windows [first, end), and the least `rest` of those that are longer than its bytes
    first, end = np.full(table.size, n_windows, np.int64), np.zeros(table.size, np.int64)
    least = np.full(table.size, FAR, np.int64)
    for window in range(n_windows):
        base = np.int64(root)
        for at in range(offsets[window], offsets[window + 1]):
            slot = _step(table, base, blob[at])
            first[slot] = min(first[slot], window)
            end[slot] = window + 1
            if at + 1 < offsets[window + 1]:
                least[slot] = min(least[slot], after[at + 1] - costs[window])
            base = np.int64(table[slot]) >> BASE
    least_more = costs.min() - costs.max() - penalty
    starts = np.zeros(n_windows + 1, np.int64)
    found = np.empty(1 << 16, np.uint32)
    n_found = n_steps = 0
    listed = np.zeros(n_windows, np.int64)  # the last window whose list has this one
    for a in range(1, n_windows):
        low, high = offsets[a], offsets[a + 1]
        for k in range(low, low + 1 if is_greedy else high):
            # what a cut without w and b may cost more than [a], so that the pair is impossible
            spare = costs[a] - before[k]
            node = tails[k]
            if node == NOWHERE or (not is_greedy and spare < least_more):
                continue
            n_steps += end[node] - first[node]
            for w in range(first[node], end[node]):
                inner = offsets[w] + high - k  # w's first byte in b
                if inner >= offsets[w + 1] or tails[inner] == NOWHERE:
                    continue
                shared = tails[inner]
                slack = spare - costs[w] + _penalty(blob[high - 1], blob[inner], penalty)
                is_window = np.int64(table[shared]) >> STOP & 1
                # If w ends where b ends, it is the longer last window: it wins a tie.
                all_longer = is_greedy or least[shared] < slack
                stop = end[shared] if all_longer else first[shared] + is_window
                n_steps += stop - first[shared]
                if n_steps > most_steps:
                    return starts[:0], found[:0]
                for b in range(first[shared], stop):
                    rest = offsets[b] + offsets[w + 1] - inner  # b's first byte after w
                    if rest == offsets[b + 1]:
                        is_impossible = is_greedy or slack + costs[b] >= 0
                    else:
                        is_impossible = is_greedy or after[rest] - costs[b] < slack
                    if is_impossible and listed[b] != a:
                        listed[b] = a
                        if n_found == most:
                            return starts[:0], found[:0]
                        if n_found == found.size:
                            found = copied(found, np.empty(2 * found.size, np.uint32))
                        found[n_found] = b
                        n_found += 1
        starts[a + 1] = n_found
    return starts, found[:n_found].copy()


@compiled
def count_impossible(ids: U32, starts: I64, seconds: U32) -> int:
    """How many ids (n,), each below n_windows, follow one that they never follow; pairs as listed above."""
    n = 0
    for i in range(ids.size - 1):
        for at in range(starts[ids[i]], starts[ids[i] + 1]):
            if seconds[at] == ids[i + 1]:
                n += 1
    return n
