"""The compiled loops of live windows: M1 reads each byte, and the coder narrows a node by M1's frequencies.

`reference` defines in plain Python what these loops give, and the tests compare.
Codewords are `Wide`, pairs of uint64 (see `shares`).
"""

from typing import Any, NamedTuple

import numpy as np

from eqinfo.coder.integer_m1 import BOS, INNER, N_BYTES, Network
from eqinfo.coder.kernels.m1_step import State, copy_states, new_state, step
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
from eqinfo.system.arrays import I32, I64, U8, U64
from eqinfo.system.jit import compiled

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
    states: I32
    history: U64
    frequencies: I32


class Work(NamedTuple):
    """M1's state and the arrays that the loops work in."""

    state: State
    cache: PrefixCache
    node: Node


def new_work(network: Network) -> Work:
    """A `Work` for one text. Pages of the cache that are never written take no memory."""
    cache = PrefixCache(
        np.zeros(SLOTS, np.int64),  # no key is 0: every slot is empty
        np.empty((SLOTS, network.n_layer, INNER), np.int32),  # 4 MiB a layer, once every slot is used
        np.empty(SLOTS, np.uint64),
        np.empty((SLOTS, N_BYTES), np.int32),  # 4 MiB
    )
    node = Node(
        np.zeros(N_BYTES + 1, np.int64),
        np.zeros(N_BYTES + 1, np.int64),
        np.zeros(N_BYTES, np.int64),
        np.zeros(N_BYTES, np.int32),  # remainders, below 2**20
    )
    return Work(new_state(network), cache, node)


def largest_rest(window_bits: int) -> Wide:
    """Codewords at a window's start, less the stop symbol's: 2**window_bits - 1."""
    high, low = divmod((1 << window_bits) - 1, 1 << 64)  # high is 0 for windows of up to 64 bits
    return np.uint64(high), np.uint64(low)


@compiled
def restore(state: State, cache: PrefixCache, slot: Any) -> None:
    """Copy a cached state and its frequencies to M1's state."""
    state.history[0] = cache.history[slot]
    copy_states(cache.states[slot], state.states)
    for byte in range(N_BYTES):
        state.frequencies[byte] = cache.frequencies[slot, byte]


@compiled
def save(state: State, cache: PrefixCache, slot: Any, key: Any) -> None:
    """Copy M1's state and its frequencies to a slot of the cache, which then belongs to this key."""
    cache.keys[slot] = key
    cache.history[slot] = state.history[0]
    copy_states(state.states, cache.states[slot])
    for byte in range(N_BYTES):
        cache.frequencies[slot, byte] = state.frequencies[byte]  # below 2**20, so int32 holds them


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
    key = FIRST_KEY if symbol == BOS else min(key << 8 | symbol, UNCACHED)  # four bytes: at least 2**32
    if key == UNCACHED:  # and so for all bytes until the next BOS
        step(network, state, symbol)
        return key
    # keys that are cached have at most 25 bits, so the product has at most 57
    slot = key if key < FIRST_SLOTS else FIRST_SLOTS + (key * SLOT_MULTIPLIER >> 16) % (SLOTS - FIRST_SLOTS)
    if cache.keys[slot] == key:  # keys of different prefixes differ, so this is the prefix's own state
        restore(state, cache, slot)
    else:
        step(network, state, symbol)
        save(state, cache, slot, key)
    return key


@compiled
def encode_windows(network: Network, work: Work, text: U8, ends: I64, largest: Wide, carry: bool) -> U64:
    """Codewords (n, 2) of a text; `largest` is `largest_rest`. See `live_windows.encode_windows`."""
    # every window has at least one byte: no more windows than bytes
    out = np.zeros((text.size + ends.size, 2), np.uint64)  # rows left at 0 end documents
    n_out = 0
    frequencies, node = work.state.frequencies, work.node  # `read` and `divide` change them in place
    i: Any = 0  # offset in the text of the next byte to code
    for segment in range(ends.size + 1):  # one document each; the last is open
        end: Any = ends[segment] if segment < ends.size else text.size
        # np.int64, or numba would compile `read` for each constant
        key: Any = read(network, work, np.int64(FIRST_KEY), np.int64(BOS))
        while i < end:
            low, rest, is_start = NOTHING, largest, True  # the node's codewords are [low, low + rest]
            while i < end and rest != NOTHING:  # rest 0: the node has the stop symbol's codeword alone
                byte = np.int64(text[i])
                quotient = divide(frequencies, rest, is_start, node)
                start = start_of(node, quotient, byte)
                share = wide_difference(start_of(node, quotient, byte + 1), start)
                if share == NOTHING:  # the window is full
                    break  # never at a window's start, where every byte has a codeword
                low = wide_sum(wide_sum(low, start), STOP)  # the stop symbol comes before all bytes
                rest, is_start = wide_difference(share, STOP), False  # share is at least 1
                if carry or rest != NOTHING:  # else the window is full: M1 is reset before the next byte
                    key = read(network, work, key, byte)
                i += 1
                work.state.coded[0] += 1
            out[n_out, 0], out[n_out, 1] = low  # the first of the node's: its stop symbol's
            n_out += 1
            if not carry:
                key = read(
                    network, work, key, np.int64(BOS)
                )  # a copy: slot 1 has held this state since the first BOS
        n_out += segment < ends.size  # the row of 0 that closes the document
    return out[:n_out]


@compiled
def decode_windows(
    network: Network, work: Work, codewords: U64, largest: Wide, text_length: int, carry: bool
) -> tuple[U8, I64]:
    """Text and document ends of codewords (n, 2), each at most `largest`. See `live_windows.decode_windows`.

    The text has another length than text_length if the codewords decode to fewer bytes, or to more: then the
    loop stops at text_length + 1.
    """
    out = np.empty(text_length + 1, np.uint8)  # room for the first byte too many
    ends = np.empty(codewords.shape[0], np.int64)  # a codeword ends at most one document
    n_out = n_ends = 0
    frequencies, node = work.state.frequencies, work.node
    key: Any = read(network, work, np.int64(FIRST_KEY), np.int64(BOS))
    for window in range(codewords.shape[0]):
        offset = codewords[window, 0], codewords[window, 1]  # from the node's first codeword
        ends_document = offset == NOTHING
        if ends_document:
            ends[n_ends] = n_out
            n_ends += 1
        rest, is_start = largest, True  # invariant: offset <= rest, so some byte has the offset
        while offset != NOTHING:  # at offset 0 is the stop symbol: the window ends
            offset = wide_difference(offset, STOP)
            quotient = divide(frequencies, rest, is_start, node)
            byte = byte_at(node, quotient, offset)
            start = start_of(node, quotient, byte)
            offset = wide_difference(offset, start)
            # descend to the byte's node
            rest = wide_difference(wide_difference(start_of(node, quotient, byte + 1), start), STOP)
            is_start = False
            out[n_out] = byte
            n_out += 1
            work.state.coded[0] += 1
            if n_out > text_length:
                return out, ends[:n_ends]  # out is full
            if carry or offset != NOTHING:  # else the window ends, and M1 is reset before its next use
                key = read(network, work, key, byte)
        if ends_document or not carry:
            key = read(network, work, key, np.int64(BOS))
    return out[:n_out], ends[:n_ends]
