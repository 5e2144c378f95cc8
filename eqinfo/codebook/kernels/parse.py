"""Both parses, compiled: the longest match, and the cut of least cost. `codebook/parse.cut` defines them.

Table, codewords and root are those of `trie.build_trie`; all are walked with unsigned indices.
"""

from typing import Any

import numpy as np

from eqinfo.codebook.kernels.trie import NODE_BASE, NODE_LABEL, NODE_STOP
from eqinfo.codebook.parse import WINDOW_COST, WORD_BYTES
from eqinfo.system.arrays import I64, U8, U32, U64
from eqinfo.system.jit import compiled

# Indices are uint64: numba checks signed ones for being negative. All numbers that meet them are uint64 too,
# as numba turns int64 with uint64 into float64.
ZERO: Any = np.uint64(0)
ONE: Any = np.uint64(1)
PLACE_MASK, WALK_BASE = np.uint64(0xFFFF_FFFF), np.uint64(32)  # of a walk: mask of place, shift to base
LENGTH_BITS, LONGEST = 8, 255  # bits of a window's length, and the greatest length
UNKNOWN = np.int64(1) << 62  # above all costs
BLOCK: Any = np.uint64(512)  # bytes of text whose windows are found at once; they stay in the level-1 cache


@compiled
def encode_greedy(text: U8, document_ends: I64, table: U32, codewords: U32, root: int) -> U32:
    """Codewords of the longest matches, (n,).

    Args:
        text: (n,), of any bytes.
        document_ends: offsets in [0, n], ascending.
        table: nodes of the trie.
        codewords: of the windows that end at each slot.
        root: base of the trie's root.
    """
    n = text.size
    out = np.empty(n + document_ends.size, np.uint32)  # a window that is used has at least one byte
    n_out = 0
    start = ZERO
    for segment in range(document_ends.size + 1):  # one document each; the last is open
        end = np.uint64(document_ends[segment] if segment < document_ends.size else n)
        while start < end:
            # walk down the trie while the text matches; the last stop on the way is the longest match
            base, best, best_end = np.uint64(root), ZERO, start
            for at in range(start, end):
                slot = base ^ text[at]
                node = np.uint64(table[slot])
                if node & NODE_LABEL != text[at]:
                    break
                if node >> NODE_STOP & ONE:
                    best, best_end = slot, at + ONE
                base = node >> NODE_BASE  # a leaf has base 0: the next label cannot match
            out[n_out] = codewords[best]  # best is a stop, so its codeword is that of a window
            n_out += 1
            start = best_end  # at least one byte on, as all single bytes are windows
        if segment < document_ends.size:
            out[n_out] = 0  # codeword 0 ends a document
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

    All walks take their first step in the trie, then those that found a child take their second, and so on.
    Steps of different walks do not wait for each other, and no branch depends on the text: this takes half
    the time of finishing one walk before the next.

    Args:
        text: (n,).
        places: low, high and end; high - low <= BLOCK.
        table: nodes of the trie.
        root: base of the trie's root.
        row_bits: every window is shorter than 1 << row_bits bytes.
        counts: output, number of windows that start at low + place, (BLOCK,).
        rows: output, their lengths, ascending, from index place << row_bits on, (BLOCK << row_bits,).
        walks: scratch, base << 32 | place of each walk that goes on, (BLOCK,).
    """
    low, high, end = places
    n_walks = high - low
    for place in range(n_walks):
        node = np.uint64(table[root ^ text[low + place]])
        counts[place] = 1  # all single bytes are windows
        rows[place << row_bits] = 1
        walks[place] = node >> NODE_BASE << WALK_BASE | place  # a base has 23 bits
    length = ONE  # bytes that every walk has read
    while n_walks > 0:  # at most as many rounds as the longest window has bytes
        while n_walks > 0 and low + (walks[n_walks - ONE] & PLACE_MASK) + length >= end:
            n_walks -= ONE  # walks are in order of place, so the last ones reach the end first
        n_kept = ZERO  # at most k: walks[k] is read before it is overwritten
        at = low + length
        length += ONE
        for k in range(n_walks):
            walk = walks[k]
            place = walk & PLACE_MASK
            byte = np.uint64(text[at + place])
            node = np.uint64(table[walk >> WALK_BASE ^ byte])
            is_child = np.uint64(node & NODE_LABEL == byte)
            count = np.uint64(counts[place])
            rows[(place << row_bits) + count] = length  # overwritten unless the next line counts it
            counts[place] = count + (is_child & node >> NODE_STOP)
            # a walk without a child is overwritten by the next one
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
    penalty: int,
) -> U32:
    """Codewords of the cut of least cost, (n,).

    Dynamic programming from the start of each document to its end, BLOCK bytes at a time. All windows that
    start at a place give the texts that they end the same cost: that of the text before, WINDOW_COST, and the
    penalty if the place is inside a word.

    Args:
        text: (n,), of any bytes.
        document_ends: offsets in [0, n], ascending.
        table: nodes of the trie.
        codewords: of the windows that end at each slot.
        root: base of the trie's root.
        longest: bytes of the longest window.
        penalty: cost of a cut inside a word; a window costs WINDOW_COST.
    """
    n = text.size
    row_bits = ZERO  # smallest with 2**row_bits > longest
    while 1 << row_bits <= longest:  # ends at most at 8: lengths fit the uint8 of `rows`
        row_bits += ONE
    counts = np.empty(BLOCK, np.uint8)
    rows = np.empty(BLOCK << row_bits, np.uint8)  # at most 128 KiB
    walks = np.empty(BLOCK, np.uint64)
    # best[place]: least cost of the text before low + place << LENGTH_BITS | LONGEST - length of its last
    # window. Its minimum is the least cost and, among equal ones, the longest last window.
    best = np.empty(BLOCK + longest + 1, np.int64)
    inside = penalty << LENGTH_BITS
    last = np.empty(n + 1, np.uint8)  # length of the last window of the text before each place
    out = np.empty(n + document_ends.size, np.uint32)
    n_out = 0
    start = ZERO
    for segment in range(document_ends.size + 1):
        end = np.uint64(document_ends[segment] if segment < document_ends.size else n)
        best[:] = UNKNOWN
        best[0] = 0
        low = start
        while low < end:
            high = low + min(end - low, BLOCK)
            size = high - low
            _find_windows(text, (low, high, end), table, np.uint64(root), row_bits, counts, rows, walks)
            first = best[0]  # of this place; from one place to the next it stays in a register
            for place in range(size):
                at = low + place
                last[at] = LONGEST - (first & LONGEST)
                first = (first | LONGEST) + (WINDOW_COST << LENGTH_BITS)
                if at > start:  # the start of a document is no cut
                    first += inside if WORD_BYTES[text[at - ONE]] & WORD_BYTES[text[at]] else 0
                single = min(best[place + ONE], first - 1)  # the single byte is always a window
                row, count = place << row_bits, np.uint64(counts[place])
                for which in range(ONE, count):
                    length = np.uint64(rows[row + which])
                    best[place + length] = min(best[place + length], first - np.int64(length))
                first = single
            best[size] = first
            # windows of this block end up to `longest` bytes beyond it: the next block goes on with these
            for k in range(longest + 1):
                best[k] = best[size + k]
            best[longest + 1 :] = UNKNOWN
            low = high
        last[end] = LONGEST - (best[0] & LONGEST)
        # follow the last windows back from the end, then write their codewords from the start
        at = end
        while at > start:
            length = np.uint64(last[at])
            at -= length
            last[at + ONE] = length  # beyond `at`, so it is not read again on the way back
        while start < end:
            stop = start + np.uint64(last[start + ONE])
            base, slot = np.uint64(root), ZERO
            for at in range(start, stop):
                slot = base ^ text[at]  # the child exists: the window is in the trie
                base = np.uint64(table[slot]) >> NODE_BASE
            out[n_out] = codewords[slot]
            n_out += 1
            start = stop
        if segment < document_ends.size:
            out[n_out] = 0  # codeword 0 ends a document
            n_out += 1
    return out[:n_out].copy()
