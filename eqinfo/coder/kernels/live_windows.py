"""The compiled loops of live coding: M1 reads each byte, and the coder takes it from M1's frequencies.

Nothing here decides what a result *is*: `live` defines it in plain Python and the tests compare.

Widths and codewords have up to 128 bits: a `Wide` is a pair of uint64, the higher half first. All that meets
a uint64 is made one, for numba adds int64 and uint64 as floats.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import BOS, INNER, M1_TOTAL, M1_TOTAL_BITS, N_BYTES, Network
from eqinfo.coder.kernels.m1_step import State, new_state, step
from eqinfo.system.jit import compiled

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Wide = tuple[Any, Any]

ZERO, ONE, HALF_LIMB_BITS, HALF_LIMB_MASK = (
    np.uint64(0),
    np.uint64(1),
    np.uint64(32),
    np.uint64((1 << 32) - 1),
)
NOTHING, STOP = (ZERO, ZERO), (ZERO, ONE)  # no codewords; the one of the stop symbol
LIMB_BITS = 64
START_BYTES = np.uint64(N_BYTES)  # codewords that the bytes get at a window's start before the rest is shared
SHARE_BITS, SHARE_MASK = np.uint64(M1_TOTAL_BITS), np.uint64(M1_TOTAL - 1)
SHARE_SHIFT = np.uint64(LIMB_BITS - M1_TOTAL_BITS)

# a window's beginning has a key: 1, then its bytes; keys below FIRST_SLOTS have a slot each, others share
FIRST_KEY, FIRST_SLOTS, SLOTS = 1, 2 * N_BYTES, 4096
UNKEPT = 1 << 32  # the key of all longer beginnings, which are not kept
SLOT_MULTIPLIER = 0x9E3779B1  # 2**32 / golden ratio, odd


class Node(NamedTuple):
    """How a node's codewords are divided: a byte's start at `quotient * before[byte] + start[byte]`.

    Attributes:
        before: sums of the frequencies of the bytes before each byte and before the end, (257,).
        start: likewise of what each byte has beyond quotient times frequency, (257,).
        floors: of that the whole parts, (256,).
        remainders: in [0, M1_TOTAL), (256,).
    """

    before: I64
    start: I64
    floors: I64
    remainders: npt.NDArray[np.int32]


class Memory(NamedTuple):
    """What M1 knows after beginnings of windows, by slot; a slot is free while its key is 0."""

    keys: I64
    states: npt.NDArray[np.int32]
    history: U64
    frequencies: npt.NDArray[np.int32]


class Work(NamedTuple):
    """What the loops for windows work with."""

    state: State
    memory: Memory
    node: Node


def new_work(network: Network) -> Work:
    """Room for one text; what is never used takes no memory."""
    memory = Memory(
        np.zeros(SLOTS, np.int64),
        np.empty((SLOTS, network.n_layer, INNER), np.int32),
        np.empty(SLOTS, np.uint64),
        np.empty((SLOTS, N_BYTES), np.int32),
    )
    node = Node(
        np.zeros(N_BYTES + 1, np.int64),
        np.zeros(N_BYTES + 1, np.int64),
        np.zeros(N_BYTES, np.int64),
        np.zeros(N_BYTES, np.int32),
    )
    return Work(new_state(network), memory, node)


def largest_rest(window_bits: int) -> Wide:
    """What a window's start has beside the stop symbol: 2**window_bits - 1."""
    high, low = divmod((1 << window_bits) - 1, 1 << 64)
    return np.uint64(high), np.uint64(low)


@compiled
def wide_sum(a: Wide, b: Wide) -> Wide:
    """The sum modulo 2**128."""
    low = a[1] + b[1]
    return a[0] + b[0] + (ONE if low < b[1] else ZERO), low


@compiled
def wide_difference(a: Wide, b: Wide) -> Wide:
    """The difference modulo 2**128."""
    return a[0] - b[0] - (ONE if a[1] < b[1] else ZERO), a[1] - b[1]


@compiled
def wide_product(a: Wide, factor: Any) -> Wide:
    """The product with a factor below 2**32, modulo 2**128."""
    lower = (a[1] & HALF_LIMB_MASK) * factor
    upper = (a[1] >> HALF_LIMB_BITS) * factor + (lower >> HALF_LIMB_BITS)
    return a[0] * factor + (upper >> HALF_LIMB_BITS), upper << HALF_LIMB_BITS | lower & HALF_LIMB_MASK


@compiled
def divide(frequencies: I64, rest: Wide, is_start: bool, node: Node) -> Wide:
    """Apportion the rest of a node over the bytes, as `live.shares`: into `node`; the quotient comes back."""
    if is_start:
        rest = wide_difference(rest, (ZERO, START_BYTES))
    small = np.int64(rest[1] & SHARE_MASK)
    left = small
    floors, remainders = node.floors, node.remainders
    for i in range(N_BYTES):
        product = small * frequencies[i]
        floors[i] = product >> M1_TOTAL_BITS
        remainders[i] = product & (M1_TOTAL - 1)
        left -= floors[i]
    least = np.int32(0)  # the largest number that `left` remainders reach
    for bit in range(M1_TOTAL_BITS - 1, -1, -1):
        tried = np.int32(least | np.int32(1 << bit))
        n_reached = np.int32(0)
        for i in range(N_BYTES):
            n_reached += np.int32(remainders[i] >= tried)
        if n_reached >= left:
            least = tried
    for i in range(N_BYTES):  # those beyond it get one, and the first of those that are equal
        left -= remainders[i] > least
    at_start = np.int64(is_start)
    before = start = np.int64(0)
    for i in range(N_BYTES):
        node.before[i] = before
        node.start[i] = start
        before += frequencies[i]
        is_tie = remainders[i] == least and left > 0
        left -= is_tie
        start += floors[i] + at_start + (is_tie or remainders[i] > least)
    node.before[N_BYTES] = before
    node.start[N_BYTES] = start
    return rest[0] >> SHARE_BITS, rest[0] << SHARE_SHIFT | rest[1] >> SHARE_BITS


@compiled
def start_of(node: Node, quotient: Wide, byte: Any) -> Wide:
    """How many codewords the bytes before this one have."""
    return wide_sum(wide_product(quotient, np.uint64(node.before[byte])), (ZERO, np.uint64(node.start[byte])))


@compiled
def byte_at(node: Node, quotient: Wide, offset: Wide) -> Any:
    """The byte that has the codeword at an offset below the rest of the node."""
    byte = 0
    for bit in range(7, -1, -1):  # the last byte that starts at the offset or before; it has some codewords
        start = start_of(node, quotient, byte | 1 << bit)
        if start[0] < offset[0] or (start[0] == offset[0] and start[1] <= offset[1]):
            byte |= 1 << bit
    return byte


@compiled
def copy(kept: Any, used: Any, known: bool) -> None:
    """Copy between memory and state: from the former if the numbers are known; arrays of N_BYTES."""
    for i in range(kept.size):
        if known:
            used[i] = kept[i]
        else:
            kept[i] = used[i]


@compiled
def read(network: Network, work: Work, key: Any, symbol: Any) -> Any:
    """`step`, unless what it leads to is known; the key after it.

    Args:
        network: M1.
        work: with the state after the symbols before.
        key: of those symbols.
        symbol: a byte, or BOS, which begins anew.
    """
    state, memory = work.state, work.memory
    key = FIRST_KEY if symbol == BOS else min(key << 8 | symbol, UNKEPT)
    slot = key if key < FIRST_SLOTS else FIRST_SLOTS + (key * SLOT_MULTIPLIER >> 16) % (SLOTS - FIRST_SLOTS)
    known = key < UNKEPT and memory.keys[slot] == key
    if known:
        state.history[0] = memory.history[slot]
    else:
        step(network, state, symbol)
        if key >= UNKEPT:
            return key
        memory.keys[slot] = key
        memory.history[slot] = state.history[0]
    for layer in range(state.states.shape[0]):
        copy(memory.states[slot, layer], state.states[layer], known)
    copy(memory.frequencies[slot], state.frequencies, known)
    return key


@compiled
def encode_windows(network: Network, work: Work, text: U8, ends: I64, largest: Wide, carry: bool) -> U64:
    """Codewords (n, 2); see `live.encode_windows`."""
    out = np.zeros((text.size + ends.size, 2), np.uint64)  # zeros are the ends of documents
    n_out = 0
    frequencies, node = work.state.frequencies, work.node
    i: Any = 0
    for segment in range(ends.size + 1):
        end: Any = ends[segment] if segment < ends.size else text.size
        key: Any = read(network, work, FIRST_KEY, BOS)
        while i < end:
            low, rest, is_start = NOTHING, largest, True
            while i < end and rest != NOTHING:
                byte = np.int64(text[i])
                quotient = divide(frequencies, rest, is_start, node)
                start = start_of(node, quotient, byte)
                share = wide_difference(start_of(node, quotient, byte + 1), start)
                if share == NOTHING:
                    break
                low, rest, is_start = (
                    wide_sum(wide_sum(low, start), STOP),
                    wide_difference(share, STOP),
                    False,
                )
                if carry or rest != NOTHING:
                    key = read(network, work, key, byte)
                i += 1
            out[n_out, 0], out[n_out, 1] = low
            n_out += 1
            if not carry:
                key = read(network, work, key, BOS)
        n_out += segment < ends.size
    return out[:n_out]


@compiled
def decode_windows(
    network: Network, work: Work, codewords: U64, largest: Wide, text_length: int, carry: bool
) -> tuple[U8, I64]:
    """Text and document ends of codewords (n, 2), each at most `largest`; see `live.decode_windows`.

    The text has text_length + 1 bytes if there are more than text_length, and is shorter if there are fewer.
    """
    out = np.empty(text_length + 1, np.uint8)
    ends = np.empty(codewords.shape[0], np.int64)
    n_out = n_ends = 0
    frequencies, node = work.state.frequencies, work.node
    key: Any = read(network, work, FIRST_KEY, BOS)
    for window in range(codewords.shape[0]):
        offset = codewords[window, 0], codewords[window, 1]
        ends_document = offset == NOTHING
        if ends_document:
            ends[n_ends] = n_out
            n_ends += 1
        rest, is_start = largest, True
        while offset != NOTHING:
            offset = wide_difference(offset, STOP)
            quotient = divide(frequencies, rest, is_start, node)
            byte = byte_at(node, quotient, offset)
            start = start_of(node, quotient, byte)
            offset = wide_difference(offset, start)
            rest = wide_difference(wide_difference(start_of(node, quotient, byte + 1), start), STOP)
            is_start = False
            out[n_out] = byte
            n_out += 1
            if n_out > text_length:
                return out, ends[:n_ends]
            if carry or offset != NOTHING:
                key = read(network, work, key, byte)
        if ends_document or not carry:
            key = read(network, work, key, BOS)
    return out[:n_out], ends[:n_ends]
