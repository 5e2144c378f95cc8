"""A node's codewords and the bytes that get them: integers of 128 bits, and `reference.shares` compiled.

Widths and codewords have up to 128 bits: a `Wide` is a pair of uint64, the high half first. Every number that
meets a uint64 is made one, as numba turns int64 with uint64 into float64.
"""

from typing import Any, NamedTuple

import numpy as np

from eqinfo.coder.integer_m1 import M1_TOTAL, M1_TOTAL_BITS, N_BYTES
from eqinfo.system.arrays import I32, I64
from eqinfo.system.jit import compiled

Wide = tuple[Any, Any]

ZERO, ONE = np.uint64(0), np.uint64(1)
HALF_LIMB_BITS, HALF_LIMB_MASK = np.uint64(32), np.uint64((1 << 32) - 1)  # of one uint64
START_BYTES = np.uint64(N_BYTES)  # at a window's start each byte gets one codeword before the rest is shared
# rest = quotient * M1_TOTAL + small: shift and mask to part them, and the shift of the quotient's high half
SHARE_BITS, SHARE_MASK = np.uint64(M1_TOTAL_BITS), np.uint64(M1_TOTAL - 1)
SHARE_SHIFT = np.uint64(64 - M1_TOTAL_BITS)


class Node(NamedTuple):
    """How a node's codewords are divided: those of a byte start at quotient * before[byte] + start[byte].

    Attributes:
        before: cumulative frequencies: of the bytes before each byte, and of all, (257,).
        start: cumulative codewords that bytes have beyond quotient * frequency, (257,).
        floors: scratch, whole part of small * frequency / M1_TOTAL for each byte, (256,).
        remainders: scratch, remainders of these divisions, in [0, M1_TOTAL), (256,).
    """

    before: I64
    start: I64
    floors: I64
    remainders: I32


@compiled
def wide_sum(a: Wide, b: Wide) -> Wide:
    """The sum modulo 2**128."""
    low = a[1] + b[1]  # modulo 2**64: less than b[1] exactly if it wrapped
    return a[0] + b[0] + (ONE if low < b[1] else ZERO), low


@compiled
def wide_difference(a: Wide, b: Wide) -> Wide:
    """The difference modulo 2**128."""
    return a[0] - b[0] - (ONE if a[1] < b[1] else ZERO), a[1] - b[1]  # borrows 1 if the low half wraps


@compiled
def wide_product(a: Wide, factor: Any) -> Wide:
    """The product with a factor below 2**32, modulo 2**128."""
    lower = (a[1] & HALF_LIMB_MASK) * factor  # both below 2**32: no overflow
    upper = (a[1] >> HALF_LIMB_BITS) * factor + (lower >> HALF_LIMB_BITS)  # below 2**64 as well
    return a[0] * factor + (upper >> HALF_LIMB_BITS), upper << HALF_LIMB_BITS | lower & HALF_LIMB_MASK


@compiled
def divide(frequencies: I64, rest: Wide, is_start: bool, node: Node) -> Wide:
    """Apportion a node's codewords over the bytes, as `reference.shares` does.

    Args:
        frequencies: M1's, (256,).
        rest: codewords of the node, less the stop symbol's.
        is_start: whether a window starts here.
        node: output.

    Returns:
        rest // M1_TOTAL, less the START_BYTES at a window's start: the quotient that `node` refers to.
    """
    if is_start:
        rest = wide_difference(rest, (ZERO, START_BYTES))  # before, at least 2**24 - 1: no underflow
    small = np.int64(rest[1] & SHARE_MASK)  # rest modulo M1_TOTAL: products below have at most 40 bits
    left = small  # codewords that rounding down leaves over, at most 255 after this loop
    floors, remainders = node.floors, node.remainders
    for i in range(N_BYTES):
        product = small * frequencies[i]
        floors[i] = product >> M1_TOTAL_BITS  # below 2**20
        remainders[i] = product & (M1_TOTAL - 1)
        left -= floors[i]  # after the loop: the sum of the remainders / M1_TOTAL
    # the largest number that at least `left` remainders reach, bit by bit: no sorting
    least = np.int32(0)
    for bit in range(M1_TOTAL_BITS - 1, -1, -1):
        tried = np.int32(least | np.int32(1 << bit))
        n_reached = np.int32(0)
        for i in range(N_BYTES):
            n_reached += np.int32(remainders[i] >= tried)
        if n_reached >= left:  # a larger number is reached by no more: decide bits from the top
            least = tried  # M1_TOTAL - 1 if left is 0: then no byte gets one more
    # remainders above it get one each; `left` counts those for ties, lowest bytes first
    for i in range(N_BYTES):
        left -= remainders[i] > least
    at_start = np.int64(is_start)  # the codeword that each byte gets beforehand
    before = start = np.int64(0)
    for i in range(N_BYTES):
        node.before[i] = before
        node.start[i] = start
        before += frequencies[i]
        is_tie = remainders[i] == least and left > 0
        left -= is_tie  # ends at 0: at least `left` bytes tie
        start += floors[i] + at_start + (is_tie or remainders[i] > least)
    node.before[N_BYTES] = before  # M1_TOTAL
    node.start[N_BYTES] = start  # small, plus 256 at a window's start
    return rest[0] >> SHARE_BITS, rest[0] << SHARE_SHIFT | rest[1] >> SHARE_BITS  # below 2**108


@compiled
def start_of(node: Node, quotient: Wide, byte: Any) -> Wide:
    """The number of codewords of the bytes before this one, below 2**128."""
    return wide_sum(wide_product(quotient, np.uint64(node.before[byte])), (ZERO, np.uint64(node.start[byte])))


@compiled
def byte_at(node: Node, quotient: Wide, offset: Wide) -> Any:
    """The byte whose codewords include this offset from the node's first byte's."""
    byte = 0  # byte 0 starts at 0, so at the offset or before
    # binary search for the last byte that starts at the offset or before; that one has codewords
    for bit in range(7, -1, -1):
        start = start_of(node, quotient, byte | 1 << bit)
        if start[0] < offset[0] or (start[0] == offset[0] and start[1] <= offset[1]):
            byte |= 1 << bit
    return byte
