"""The compiled loops of live windows: M1 reads each byte, and the coder narrows a node by M1's frequencies.

`reference` defines in plain Python what these loops give, and the tests compare.

Widths and codewords have up to 128 bits: a `Wide` is a pair of uint64, the high half first. Every number that
meets a uint64 is made one, as numba turns int64 with uint64 into float64.
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
NOTHING, STOP = (ZERO, ZERO), (ZERO, ONE)  # no codeword; the stop symbol's one codeword
LIMB_BITS = 64
START_BYTES = np.uint64(N_BYTES)  # at a window's start each byte gets one codeword before the rest is shared
SHARE_BITS, SHARE_MASK = np.uint64(M1_TOTAL_BITS), np.uint64(M1_TOTAL - 1)
SHARE_SHIFT = np.uint64(LIMB_BITS - M1_TOTAL_BITS)

# A prefix of a window has a key: a 1, then its bytes. Keys of up to one byte have a slot each; keys of two
# and three bytes share the other slots by a hash, and the latest replaces the one before.
FIRST_KEY, FIRST_SLOTS, SLOTS = 1, 2 * N_BYTES, 4096
UNCACHED = 1 << 32  # key of all prefixes of more than three bytes, which are not cached
SLOT_MULTIPLIER = 0x9E3779B1  # 2**32 / golden ratio, odd


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
    remainders: npt.NDArray[np.int32]


class PrefixCache(NamedTuple):
    """M1's states after short prefixes of windows, by slot; key 0 marks an empty slot.

    Attributes:
        keys: of the prefix in each slot, (SLOTS,).
        states: as in `State`, (SLOTS, L, INNER).
        history: as in `State`, (SLOTS,).
        frequencies: of the next byte, (SLOTS, 256).
    """

    keys: I64
    states: npt.NDArray[np.int32]
    history: U64
    frequencies: npt.NDArray[np.int32]


class Work(NamedTuple):
    """M1's state and the arrays that the loops work in."""

    state: State
    cache: PrefixCache
    node: Node


def new_work(network: Network) -> Work:
    """A `Work` for one text. Pages of the cache that are never written take no memory."""
    cache = PrefixCache(
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
    return Work(new_state(network), cache, node)


def largest_rest(window_bits: int) -> Wide:
    """Codewords at a window's start, less the stop symbol's: 2**window_bits - 1."""
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
        rest = wide_difference(rest, (ZERO, START_BYTES))
    small = np.int64(rest[1] & SHARE_MASK)  # rest modulo M1_TOTAL: products below have at most 40 bits
    left = small  # codewords that rounding down leaves over, at most 255 after this loop
    floors, remainders = node.floors, node.remainders
    for i in range(N_BYTES):
        product = small * frequencies[i]
        floors[i] = product >> M1_TOTAL_BITS
        remainders[i] = product & (M1_TOTAL - 1)
        left -= floors[i]
    # the largest number that at least `left` remainders reach, bit by bit: no sorting
    least = np.int32(0)
    for bit in range(M1_TOTAL_BITS - 1, -1, -1):
        tried = np.int32(least | np.int32(1 << bit))
        n_reached = np.int32(0)
        for i in range(N_BYTES):
            n_reached += np.int32(remainders[i] >= tried)
        if n_reached >= left:
            least = tried
    for i in range(
        N_BYTES
    ):  # remainders above it get one each; `left` counts those for ties, lowest bytes first
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
    """The number of codewords of the bytes before this one, below 2**128."""
    return wide_sum(wide_product(quotient, np.uint64(node.before[byte])), (ZERO, np.uint64(node.start[byte])))


@compiled
def byte_at(node: Node, quotient: Wide, offset: Wide) -> Any:
    """The byte whose codewords include this offset from the node's first byte's."""
    byte = 0
    # binary search for the last byte that starts at the offset or before; that one has codewords
    for bit in range(7, -1, -1):
        start = start_of(node, quotient, byte | 1 << bit)
        if start[0] < offset[0] or (start[0] == offset[0] and start[1] <= offset[1]):
            byte |= 1 << bit
    return byte


@compiled
def restore(state: State, cache: PrefixCache, slot: Any) -> None:
    """Copy a cached state and its frequencies to M1's state."""
    state.history[0] = cache.history[slot]
    for layer in range(state.states.shape[0]):
        for i in range(INNER):
            state.states[layer, i] = cache.states[slot, layer, i]
    for i in range(N_BYTES):
        state.frequencies[i] = cache.frequencies[slot, i]


@compiled
def save(state: State, cache: PrefixCache, slot: Any, key: Any) -> None:
    """Copy M1's state and its frequencies to a slot of the cache, which then belongs to this key."""
    cache.keys[slot] = key
    cache.history[slot] = state.history[0]
    for layer in range(state.states.shape[0]):
        for i in range(INNER):
            cache.states[slot, layer, i] = state.states[layer, i]
    for i in range(N_BYTES):
        cache.frequencies[slot, i] = state.frequencies[i]


@compiled
def read(network: Network, work: Work, key: Any, symbol: Any) -> Any:
    """Read one symbol, by `step` or from the cache; the key of the window's bytes after it.

    Args:
        network: M1.
        work: M1's state after the bytes before; changed in place.
        key: of those bytes.
        symbol: a byte, or BOS, which resets M1.
    """
    state, cache = work.state, work.cache
    key = FIRST_KEY if symbol == BOS else min(key << 8 | symbol, UNCACHED)
    if key == UNCACHED:
        step(network, state, symbol)
        return key
    slot = key if key < FIRST_SLOTS else FIRST_SLOTS + (key * SLOT_MULTIPLIER >> 16) % (SLOTS - FIRST_SLOTS)
    if cache.keys[slot] == key:
        restore(state, cache, slot)
    else:
        step(network, state, symbol)
        save(state, cache, slot, key)
    return key


@compiled
def encode_windows(network: Network, work: Work, text: U8, ends: I64, largest: Wide, carry: bool) -> U64:
    """Codewords (n, 2) of a text; `largest` is `largest_rest`. See `live_windows.encode_windows`."""
    out = np.zeros((text.size + ends.size, 2), np.uint64)  # rows left at 0 end documents
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
                if share == NOTHING:  # the window is full
                    break
                low, rest, is_start = (
                    wide_sum(wide_sum(low, start), STOP),
                    wide_difference(share, STOP),
                    False,
                )
                if carry or rest != NOTHING:  # else a new window follows, and M1 is reset
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
    """Text and document ends of codewords (n, 2), each at most `largest`. See `live_windows.decode_windows`.

    The text has another length than text_length if the codewords decode to fewer bytes, or to more: then the
    loop stops at text_length + 1.
    """
    out = np.empty(text_length + 1, np.uint8)
    ends = np.empty(codewords.shape[0], np.int64)
    n_out = n_ends = 0
    frequencies, node = work.state.frequencies, work.node
    key: Any = read(network, work, FIRST_KEY, BOS)
    for window in range(codewords.shape[0]):
        offset = codewords[window, 0], codewords[window, 1]  # from the node's first codeword
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
