"""The compiled loops of live windows: M1 reads each byte, and the coder narrows a node by M1's frequencies.

`reference` defines in plain Python what these loops give, and the tests compare.
Codewords are `Wide`, pairs of uint64 (see `shares`).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import BOS, INNER, N_BYTES, Network
from eqinfo.coder.kernels.m1_step import State, new_state, step
from eqinfo.coder.kernels.shares import (
    ONE,
    ZERO,
    Node,
    Wide,
    byte_at,
    divide,
    start_of,
    wide_difference,
    wide_sum,
)
from eqinfo.system.jit import compiled

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

NOTHING, STOP = (ZERO, ZERO), (ZERO, ONE)  # no codeword; the stop symbol's one codeword

# A prefix of a window has a key: a 1, then its bytes. Keys of up to one byte have a slot each; keys of two
# and three bytes share the other slots by a hash, and the latest replaces the one before.
FIRST_KEY, FIRST_SLOTS, SLOTS = 1, 2 * N_BYTES, 4096
UNCACHED = 1 << 32  # key of all prefixes of more than three bytes, which are not cached
SLOT_MULTIPLIER = 0x9E3779B1  # 2**32 / golden ratio, odd


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
