"""The compiled loops: a trie as one flat table, the two parses, and decoding.

Nothing here decides what a result *is*: `parse` defines it in plain Python and the tests compare.

The trie is a double array addressed by XOR, one uint32 a node:

    bits 0-7 label | bit 8 stop | bits 9-31 base

The child of a node by `byte` is at slot `base ^ byte` if the label there equals `byte`. That one compare is
enough because bases are unique and no base is a multiple of 256: an empty slot t carries the label t & 255,
which only such a base could match. A node without children has base 0, and the labels in slots 0 to 255 never
match. One 4-byte load a step keeps the trie of 65,536 windows in a level-2 cache.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from eqinfo.system.jit import compiled

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

MAX_SLOTS = 1 << 23  # a base has 23 bits
MAX_FAILED_PLACEMENTS = 24  # then a block counts as full

# Indices are unsigned: signed ones may be negative, and numba then compares each with 0. All numbers that
# meet them must be unsigned as well, for numba makes floats of a signed and an unsigned one.
ZERO: Any = np.uint64(0)
ONE: Any = np.uint64(1)
NODE_LABEL, NODE_STOP, NODE_BASE = np.uint64(255), np.uint64(8), np.uint64(9)  # mask and shifts
PLACE_MASK, WALK_BASE = np.uint64(0xFFFF_FFFF), np.uint64(32)  # mask and shift
BLOCK: Any = np.uint64(512)  # bytes of text: what is known of them stays in the nearest cache
ROW_BYTES: Any = np.uint64(16)  # a decoded window is copied as two halves, and what is longer byte by byte
HALF_ROW, BYTE_BITS = np.uint64(8), np.uint64(3)
USUAL: Any = np.uint64(4)  # windows from a place: most places of real text have up to so many


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
def count_nodes(blob: U8, offsets: I64) -> int:
    """How many nodes the trie of sorted windows has, the root left out; arguments as in `build_trie`."""
    total = 0
    for i in range(offsets.size - 1):
        shared = 0
        if i:
            before, length = offsets[i - 1], min(offsets[i] - offsets[i - 1], offsets[i + 1] - offsets[i])
            while shared < length and blob[before + shared] == blob[offsets[i] + shared]:
                shared += 1
        total += offsets[i + 1] - offsets[i] - shared
    return total


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
    word_bytes: npt.NDArray[np.bool_],
    window_cost: int,
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
                    best += unaligned_cost if word_bytes[text[at - ONE]] & word_bytes[text[at]] else 0
                cost[place] = best + window_cost
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
    total = ZERO
    for codeword in codewords:
        if codeword >= lengths.size:
            raise IndexError("codeword out of range")
        total += np.uint64(lengths[codeword])
    out = np.empty(total + ROW_BYTES, np.uint8)  # a row may be written beyond the end
    at = ZERO
    for codeword in codewords:
        # numbers, for bytes that are read after others were written are not merged into one load and store
        low = words[codeword, 0]
        high = words[codeword, 1]
        for k in range(HALF_ROW):
            out[at + k] = np.uint8(low >> (k << BYTE_BITS))
        for k in range(HALF_ROW):
            out[at + HALF_ROW + k] = np.uint8(high >> (k << BYTE_BITS))
        length = np.uint64(lengths[codeword])
        for k in range(ROW_BYTES, length):
            out[at + k] = blob[np.uint64(offsets[codeword]) + k]
        at += length
    return out[:total]


@compiled
def first_bytes(blob: U8, offsets: I64) -> U8:
    """The first ROW_BYTES bytes of each window, zero-padded, (n_windows, ROW_BYTES)."""
    rows = np.zeros((offsets.size - 1, np.int64(ROW_BYTES)), np.uint8)
    for i in range(offsets.size - 1):
        for k in range(min(np.int64(ROW_BYTES), offsets[i + 1] - offsets[i])):
            rows[i, k] = blob[offsets[i] + k]
    return rows
