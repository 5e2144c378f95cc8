"""The two parses: the longest match, and the cut of least cost; `codebook.parse` defines both."""

from typing import Any

import numpy as np
import numpy.typing as npt

from eqinfo.codebook.kernels.trie import NODE_BASE, NODE_LABEL, NODE_STOP
from eqinfo.codebook.parse import WINDOW_COST, WORD_BYTES
from eqinfo.system.jit import compiled

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Indices are unsigned: signed ones may be negative, and numba then compares each with 0. All numbers that
# meet them must be unsigned as well, for numba makes floats of a signed and an unsigned one.
ZERO: Any = np.uint64(0)
ONE: Any = np.uint64(1)
PLACE_MASK, WALK_BASE = np.uint64(0xFFFF_FFFF), np.uint64(32)  # mask and shift
BLOCK: Any = np.uint64(512)  # bytes of text: what is known of them stays in the nearest cache
USUAL: Any = np.uint64(4)  # windows from a place: most places of real text have up to so many


@compiled
def encode_greedy(text: U8, document_ends: I64, table: U32, codewords: U32, root: int) -> U32:
    """Codewords of the longest matches; see `parse.encode`."""
    n = text.size
    out = np.empty(n + document_ends.size, np.uint32)
    n_out = 0
    start = ZERO
    for segment in range(document_ends.size + 1):
        end = np.uint64(document_ends[segment] if segment < document_ends.size else n)
        while start < end:
            base, best, best_end = np.uint64(root), ZERO, start
            for at in range(start, end):
                slot = base ^ text[at]
                node = np.uint64(table[slot])
                if node & NODE_LABEL != text[at]:
                    break
                if node >> NODE_STOP & ONE:
                    best, best_end = slot, at + ONE
                base = node >> NODE_BASE
            out[n_out] = codewords[best]
            n_out += 1
            start = best_end  # beyond start, for all single bytes are windows
        if segment < document_ends.size:
            out[n_out] = 0
            n_out += 1
    return out[:n_out].copy()


@compiled
def _find_windows(
    text: U8,
    places: tuple[Any, Any, Any],
    table: U32,
    root: Any,
    row_bits: Any,
    counts: U8,
    rows: U8,
    walks: U64,
) -> None:
    """Find all windows that start in text[low:high] and end in text[:end].

    All starts take their first step in the trie, then those that found a child take their second: no step
    waits for the one before, and no branch depends on the text. One start after another takes twice the time.

    Args:
        text: (n,).
        places: low, high and end; high - low <= BLOCK.
        table: of the trie.
        root: its base.
        row_bits: windows are shorter than 1 << row_bits.
        counts: gets how many windows start at each place, (BLOCK,).
        rows: gets their lengths, ascending, from place << row_bits on, (BLOCK << row_bits,).
        walks: to work in, (BLOCK,): base << 32 | place of each start that goes on.
    """
    low, high, end = places
    n_walks = high - low
    for place in range(n_walks):
        node = np.uint64(table[root ^ text[low + place]])
        counts[place] = 1  # all single bytes are windows
        rows[place << row_bits] = 1
        walks[place] = node >> NODE_BASE << WALK_BASE | place
    length = ONE
    while n_walks > 0:
        while n_walks > 0 and low + (walks[n_walks - ONE] & PLACE_MASK) + length >= end:
            n_walks -= ONE  # the last ones reach the end first
        n_kept = ZERO
        at = low + length
        length += ONE
        for k in range(n_walks):
            walk = walks[k]
            place = walk & PLACE_MASK
            byte = np.uint64(text[at + place])
            node = np.uint64(table[walk >> WALK_BASE ^ byte])
            is_child = np.uint64(node & NODE_LABEL == byte)
            count = np.uint64(counts[place])
            rows[(place << row_bits) + count] = length  # stays if it is counted
            counts[place] = count + (is_child & node >> NODE_STOP)
            walks[n_kept] = node >> NODE_BASE << WALK_BASE | place
            n_kept += is_child
        n_walks = n_kept


@compiled
def encode_optimal(
    text: U8,
    document_ends: I64,
    table: U32,
    codewords: U32,
    root: int,
    longest: int,
    unaligned_cost: int,
) -> U32:
    """Codewords of the cut of least cost; see `parse.encode` and `parse.cut`.

    From the end of each segment to its start, BLOCK bytes at a time; no window is longer than `longest`.
    """
    n = text.size
    row_bits = ZERO
    while 1 << row_bits <= longest:
        row_bits += ONE
    counts = np.empty(BLOCK, np.uint8)
    rows = np.empty(BLOCK << row_bits, np.uint8)
    walks = np.empty(BLOCK, np.uint64)
    cost = np.zeros(BLOCK + longest + 1, np.int64)  # of the rest of the segment, with the cut before it
    length = np.empty(n, np.uint8)  # of the best window from here
    out = np.empty(n + document_ends.size, np.uint32)
    n_out = 0
    start = ZERO
    for segment in range(document_ends.size + 1):
        end = np.uint64(document_ends[segment] if segment < document_ends.size else n)
        high = end
        cost[0] = 0
        while high > start:
            low = high - min(high - start, BLOCK)
            _find_windows(text, (low, high, end), table, np.uint64(root), row_bits, counts, rows, walks)
            size = high - low
            n_after = min(end - high, np.uint64(longest))
            for k in range(n_after + ONE):  # the costs that windows of this block lead to
                cost[size + n_after - k] = cost[n_after - k]
            for k in range(size):
                place = size - ONE - k
                row, last = place << row_bits, np.uint64(counts[place]) - ONE
                best, best_length = cost[place + ONE], ONE
                # to repeat the last one costs less than a branch that is as often taken as not
                for which in range(ONE, max(USUAL, last + ONE)):
                    longer = np.uint64(rows[row + min(which, last)])
                    is_best = cost[place + longer] <= best
                    best = cost[place + longer] if is_best else best
                    best_length = longer if is_best else best_length
                at = low + place
                length[at] = best_length
                if at > start:
                    best += unaligned_cost if WORD_BYTES[text[at - ONE]] & WORD_BYTES[text[at]] else 0
                cost[place] = best + WINDOW_COST
            high = low
        while start < end:
            base, slot = np.uint64(root), ZERO
            for at in range(start, start + length[start]):
                slot = base ^ text[at]
                base = np.uint64(table[slot]) >> NODE_BASE
            out[n_out] = codewords[slot]
            n_out += 1
            start += np.uint64(length[start])
        if segment < document_ends.size:
            out[n_out] = 0
            n_out += 1
    return out[:n_out].copy()
