"""The trie of all windows as one flat table: building it, and how it is laid out.

A double array addressed by XOR, one uint32 per node:

    bits 0-7 label | bit 8 stop | bits 9-31 base

The child of a node by `byte` is at slot `base ^ byte` if the label there equals `byte`. That one compare is
enough because bases are unique and no base is a multiple of 256: an empty slot t carries the label t & 255,
which only such a base could match. A node without children has base 0, and the labels in slots 0 to 255 never
match. One 4-byte load a step keeps the trie of 65,536 windows in a level-2 cache.
"""

from typing import Any

import numpy as np

from eqinfo.system.arrays import I64, U8, U32
from eqinfo.system.jit import compiled

MAX_SLOTS = 1 << 23  # a base has 23 bits
MAX_FAILED_PLACEMENTS = 24  # a block of 256 slots that refused this many nodes is not tried again
# unsigned, as the loops index with uint64: numba turns int64 with uint64 into float64
NODE_LABEL: Any = np.uint64(255)  # mask of the label
NODE_STOP: Any = np.uint64(8)  # shift to the stop bit
NODE_BASE: Any = np.uint64(9)  # shift to the base


@compiled
def _empty_slots(size: int) -> U32:
    """A table of empty slots: slot t has the label t & 255, which no base of `build_trie` leads to."""
    table = np.empty(size, np.uint32)
    for slot in range(size):
        table[slot] = slot & 255
    return table


@compiled
def copied(source: Any, target: Any) -> Any:
    """The target, a longer array, after copying the source to its beginning.

    A loop, because numba takes two seconds to compile the assignment of one array to a part of another.
    """
    for i in range(source.size):
        target[i] = source[i]
    return target


@compiled
def build_trie(blob: U8, offsets: I64) -> tuple[U32, U32, int]:
    """The trie of sorted windows.

    Args:
        blob: all windows joined, (n_bytes,).
        offsets: start of each window in it, and the end of the last, (n_windows + 1,).

    Returns:
        The table (slots,), the codeword of the window that ends at each slot (slots,), and the root's base.
        Both arrays are empty if the nodes do not fit MAX_SLOTS.
    """
    n = offsets.size - 1
    size = 1 << 16  # slots so far; doubles up to MAX_SLOTS
    table = _empty_slots(size)
    for t in range(256):  # nodes without children have base 0 and lead here: these labels never match
        table[t] = (t + 1) & 255
    codewords = np.zeros(size, np.uint32)
    used_slot = np.zeros(size, np.uint8)
    used_base = np.zeros(size, np.uint8)  # no two nodes with children share a base
    failures = np.zeros(MAX_SLOTS >> 8, np.int32)  # for each block of 256 slots
    first_open = 1  # never block 0: its labels stand for leaves
    root = 0
    # nodes to place: windows [low, high) share their first `depth` bytes, whose path ends at `slot`
    stack = [(0, n, 0, 0)]
    labels = np.zeros(256, np.int64)
    starts = np.zeros(257, np.int64)
    while len(stack) > 0:
        low, high, depth, slot = stack.pop()
        # sorted, so the window that ends at this node is the first, and children come in byte order
        stop = 1 if offsets[low + 1] - offsets[low] == depth else 0
        n_children = 0
        for i in range(low + stop, high):
            byte = blob[offsets[i] + depth]
            if n_children == 0 or labels[n_children - 1] != byte:
                labels[n_children] = byte
                starts[n_children] = i
                n_children += 1
        starts[n_children] = high  # child k has windows [starts[k], starts[k + 1])
        # first fit: the lowest free base, of a block that may have room, with a free slot for every child
        base = 0
        block = first_open
        while n_children > 0 and base == 0:  # a leaf keeps base 0
            if (block + 1) << 8 > size:
                if size >= MAX_SLOTS:  # a base beyond would not fit 23 bits
                    return table[:0], codewords[:0], 0
                # double the table
                size *= 2
                table = copied(table, _empty_slots(size))
                codewords = copied(codewords, np.zeros(size, np.uint32))
                used_slot = copied(used_slot, np.zeros(size, np.uint8))
                used_base = copied(used_base, np.zeros(size, np.uint8))
            if failures[block] <= MAX_FAILED_PLACEMENTS:
                for candidate in range((block << 8) + 1, (block + 1) << 8):
                    if used_base[candidate]:
                        continue
                    free = True
                    for k in range(n_children):
                        if used_slot[candidate ^ labels[k]]:  # in the same block: a label has 8 bits
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
        if depth == 0:  # the root has no slot; its base is returned
            root = base
        else:
            table[slot] = (base << 9) | (stop << 8) | (table[slot] & 255)
            codewords[slot] = low  # read only at stops, where window `low` ends
        if n_children > 0:
            used_base[base] = 1
        for k in range(n_children):
            child = base ^ labels[k]
            used_slot[child] = 1
            table[child] = labels[k]  # its base and stop follow when it is popped
            stack.append((starts[k], starts[k + 1], depth + 1, child))
    return table, codewords, root


@compiled
def by_slot(table: U32, codewords: U32, values: U8) -> U8:
    """The value of the window that ends at each slot, (slots,); 0 where none does.

    Args:
        table: nodes of the trie.
        codewords: of the windows that end at each slot.
        values: by codeword; none if all are 0.
    """
    found = np.zeros(table.size, np.uint8)
    for slot in range(table.size if values.size else 0):
        if table[slot] >> 8 & 1:
            found[slot] = values[codewords[slot]]
    return found


@compiled
def count_nodes(blob: U8, offsets: I64) -> int:
    """Number of nodes in the trie of sorted windows, without the root; arguments as in `build_trie`."""
    total = 0
    for i in range(offsets.size - 1):
        shared = 0  # bytes in common with the window before: those nodes are counted already
        if i:
            before, length = offsets[i - 1], min(offsets[i] - offsets[i - 1], offsets[i + 1] - offsets[i])
            while shared < length and blob[before + shared] == blob[offsets[i] + shared]:
                shared += 1
        total += offsets[i + 1] - offsets[i] - shared
    return total
