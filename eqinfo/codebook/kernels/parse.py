"""Both parses, compiled: the longest match, and the cut of least cost. `codebook/parse.cut` defines them.

Table, codewords and root are those of `trie.build_trie`; all are walked with unsigned indices.

The cut of least cost goes forward through a document. Each place has a price, one int64:

    bits 0-22 slot of the last window | bits 23-30 255 - its length | from bit 31 on cost of the text before

Invariant: when all windows that start before a place have been added, its price is the least of those that
end there. The least price has the least cost and, of equal costs, the longest last window, as the definition
asks. Two windows that end at a place differ in length, so slots never decide: they only name the windows of
the cut, whose codewords then need no second walk.
"""

from typing import Any

import numpy as np

from eqinfo.codebook.kernels.trie import MAX_SLOTS, NODE_BASE, NODE_LABEL, NODE_STOP
from eqinfo.codebook.parse import WINDOW_COST, WORD_BYTES
from eqinfo.system.arrays import I64, U8, U32, U64
from eqinfo.system.jit import compiled

# Indices are uint64: numba checks signed ones for being negative. All numbers that meet them are uint64 too,
# as numba turns int64 with uint64 into float64.
ZERO: Any = np.uint64(0)
ONE: Any = np.uint64(1)
TWO: Any = np.uint64(2)
# Of a walk: mask of place, shifts to node and base.
PLACE_MASK, WALK_NODE, WALK_BASE = np.uint64(0xFFFF_FFFF), np.uint64(32), np.uint64(32) + NODE_BASE
BLOCK: Any = np.uint64(256)  # bytes of text whose windows are found at once; they stay in the level-1 cache
NEAR: Any = np.uint64(8)  # prices of places up to so many bytes ahead stay in registers
ROW: Any = tuple(np.uint64(length) * BLOCK for length in range(9))  # where the windows of each length start

# Parts of a price: a byte of length, a unit of cost, all below the cost; masks and shift for reading it.
LENGTH, COST, BELOW_COST = np.int64(1 << 23), np.int64(1 << 31), np.int64((1 << 31) - 1)
SLOT_MASK, LENGTH_SHIFT, LONGEST = np.uint64(MAX_SLOTS - 1), np.uint64(23), np.uint64(255)
CUT = WINDOW_COST * COST + 255 * LENGTH - BELOW_COST  # from price | BELOW_COST to one window of no bytes more
# What is no window adds 2**61 to a price, and 2**62 where the trie ends, so that it is never the least: costs
# are counted from the start of a block and stay below 2**29, prices of windows below 2**60.
NO_WINDOW_SHIFT: Any = np.uint64(61)
ENDED, UNKNOWN = np.int64(3 << 60), np.int64(1 << 62)


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
    rarities: U8,
    rows: I64,
    walks: U64,
) -> None:
    """Find all windows of two bytes or more that start in text[low:high] and end in text[:end].

    All walks take their first step in the trie, then those that found a child take their second, and so on.
    Steps of different walks do not wait for each other, and no branch depends on the text: this takes half
    the time of finishing one walk before the next.

    Args:
        text: (n,).
        places: low, high and end; high - low <= BLOCK.
        table: nodes of the trie.
        root: base of the trie's root.
        rarities: of the windows that end at each slot, 0 elsewhere.
        rows: output, at length * BLOCK + place: what the window of so many bytes from low + place on adds to
            a price. Lengths from 2 to NEAR are always set, longer ones up to that where the trie ends.
        walks: scratch, node << 32 | place of each walk that goes on, (BLOCK,).
    """
    low, high, end = places
    n_walks = high - low
    for place in range(n_walks):
        node = np.uint64(table[root ^ text[low + place]])  # all single bytes are windows
        walks[place] = node << WALK_NODE | place
    for row in ROW[2:]:
        rows[row : row + n_walks] = UNKNOWN
    length = ONE  # bytes that every walk has read
    while n_walks > 0:  # at most as many rounds as the longest window has bytes
        at = low + length
        length += ONE
        row = length * BLOCK
        while n_walks > 0 and at + (walks[n_walks - ONE] & PLACE_MASK) >= end:
            n_walks -= ONE  # walks are in order of place, so the last ones reach the end first
            rows[row + (walks[n_walks] & PLACE_MASK)] = UNKNOWN
        added = UNKNOWN - np.int64(length) * LENGTH
        n_kept = ZERO  # at most k: walks[k] is read before it is overwritten
        for k in range(n_walks):
            walk = walks[k]
            place = walk & PLACE_MASK
            byte = np.uint64(text[at + place])
            slot = walk >> WALK_BASE ^ byte
            node = np.uint64(table[slot])
            is_child = np.uint64(node & NODE_LABEL == byte)
            is_window = is_child & node >> NODE_STOP
            own = np.int64(slot) + np.int64(rarities[slot]) * COST
            rows[row + place] = own + added - np.int64(is_child + is_window << NO_WINDOW_SHIFT)
            # a walk without a child is overwritten by the next one
            walks[n_kept] = node << WALK_NODE | place
            n_kept += is_child
        n_walks = n_kept


@compiled
def encode_optimal(
    text: U8,
    document_ends: I64,
    table: U32,
    codewords: U32,
    root: int,
    rarities: U8,
    longest: int,
    penalty: int,
) -> U32:
    """Codewords of the cut of least cost, (n,).

    Dynamic programming from the start of each document to its end, BLOCK bytes at a time. All windows that
    start at a place give the texts that they end the same cost, but for their rarities: that of the text
    before, WINDOW_COST, and the penalty if the place is inside a word.

    Args:
        text: (n,), of any bytes.
        document_ends: offsets in [0, n], ascending.
        table: nodes of the trie.
        codewords: of the windows that end at each slot.
        root: base of the trie's root.
        rarities: of the windows that end at each slot, 0 elsewhere.
        longest: bytes of the longest window.
        penalty: cost of a cut inside a word; a window costs WINDOW_COST and its rarity.
    """
    n = text.size
    reach = max(np.uint64(longest), NEAR)
    rows = np.empty((reach + TWO) * BLOCK, np.int64)  # at most 514 KiB
    walks = np.empty(BLOCK, np.uint64)
    far = np.empty(BLOCK + reach + ONE, np.int64)  # prices of places at least NEAR bytes ahead
    inside = np.zeros(256, np.int64)  # by byte: of two, the & is the penalty between them
    single = np.empty(256, np.int64)  # by byte: what its window of one byte adds to a price
    for value in range(256):
        inside[value] = penalty * COST if WORD_BYTES[value] else 0
        slot = np.uint64(root) ^ np.uint64(value)
        single[value] = np.int64(slot) + np.int64(rarities[slot]) * COST - LENGTH
    last = np.empty(n + 1, np.uint32)  # of each place, what its last window is: its price below the cost
    out = np.empty(n + document_ends.size, np.uint32)
    n_out = 0
    start = ZERO
    for segment in range(document_ends.size + 1):
        end = np.uint64(document_ends[segment] if segment < document_ends.size else n)
        price = before = np.int64(0)  # the start of a document is no cut
        p1 = p2 = p3 = p4 = p5 = p6 = p7 = UNKNOWN  # prices 1 to 7 bytes ahead
        far[:] = UNKNOWN
        low = start
        while low < end:
            high = low + min(end - low, BLOCK)
            size = high - low
            _find_windows(text, (low, high, end), table, np.uint64(root), rarities, rows, walks)
            for place in range(size):
                last[low + place] = price & BELOW_COST
                byte = np.uint64(text[low + place])
                after = inside[byte]
                cut = (price | BELOW_COST) + CUT + (before & after)
                before = after
                # one byte on: the price 2 bytes ahead is now that 1 byte ahead, unless a window improves it
                price = min(p1, cut + single[byte])
                p1 = min(p2, cut + rows[ROW[2] + place])
                p2 = min(p3, cut + rows[ROW[3] + place])
                p3 = min(p4, cut + rows[ROW[4] + place])
                p4 = min(p5, cut + rows[ROW[5] + place])
                p5 = min(p6, cut + rows[ROW[6] + place])
                p6 = min(p7, cut + rows[ROW[7] + place])
                p7 = min(far[place + NEAR], cut + rows[ROW[8] + place])
                stop, row = place + NEAR, ROW[8] + place
                while rows[row] < ENDED:  # longer windows are rare
                    stop, row = stop + ONE, row + BLOCK
                    far[stop] = min(far[stop], cut + rows[row])
            # the next block goes on with the prices ahead; its costs are counted from its start
            spent = price & ~BELOW_COST
            price, p1, p2, p3 = price - spent, p1 - spent, p2 - spent, p3 - spent
            p4, p5, p6, p7 = p4 - spent, p5 - spent, p6 - spent, p7 - spent
            for k in range(NEAR, reach + ONE):
                far[k] = far[size + k] - spent
            far[reach + ONE :] = UNKNOWN
            low = high
        last[end] = price & BELOW_COST
        # Follow the last windows back from the end. Codewords replace what has been read: from the end on,
        # there are never more windows than bytes.
        at, first = end, end + ONE
        while at > start:
            window = np.uint64(last[at])
            at -= LONGEST - (window >> LENGTH_SHIFT)
            first -= ONE
            last[first] = codewords[window & SLOT_MASK]
        for k in range(first, end + ONE):
            out[n_out] = last[k]
            n_out += 1
        start = end
        if segment < document_ends.size:
            out[n_out] = 0  # codeword 0 ends a document
            n_out += 1
    return out[:n_out].copy()
