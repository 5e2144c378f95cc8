"""A range coder with exact carry, and plain arithmetic coding by M1's frequencies: compiled loops.

An interval of numbers is narrowed symbol by symbol. Its width is kept at 2**56 or more, so that a symbol of
20 bits is narrowed to within 2**-36 of its share; bytes that no longer change, but for a carry, go out.

A symbol ends a document, with frequency 1, or is a byte with M1's frequency, of CODER_TOTAL in all. `mixing`
codes bits with the same coder.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import BOS, TOTAL, Network
from eqinfo.coder.kernels.m1_step import State, step
from eqinfo.system.jit import compiled

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

ZERO = np.uint64(0)
CODER_TOTAL = np.uint64(TOTAL + 1)  # of the frequencies in plain arithmetic coding: of the bytes and the end
TOP_SHIFT, BYTE_BITS = np.uint64(56), np.uint64(8)
MIN_RANGE = np.uint64(1 << 56)
MAX_RANGE = np.uint64((1 << 64) - 1)
BYTES_A_SYMBOL = 3  # at most leave the coder: a symbol has at least 1 / 2**20.00001, a range at least 2**56
CODER_BYTES = 8


@compiled
def add_carry(out: U8, n_out: Any) -> None:
    """Add one to the number that the first n_out bytes are; it does not run over."""
    at = n_out - 1
    while out[at] == 255:
        out[at] = 0
        at -= 1
    out[at] += 1


@compiled
def narrow(out: U8, n_out: Any, low: Any, width: Any, start: Any, frequency: Any) -> tuple[Any, Any, Any]:
    """One symbol of plain arithmetic coding: n_out, low and width after it.

    The interval is [0.out + low / 2**64, ... + width / 2**64) in units of the last byte of out; a low that
    runs over adds one to out. Widths are kept at 2**56 or more by moving bytes from low to out.
    """
    part = width // CODER_TOTAL
    before = low
    low += part * np.uint64(start)
    width = part * np.uint64(frequency)
    if low < before:
        add_carry(out, n_out)
    while width < MIN_RANGE:
        out[n_out] = low >> TOP_SHIFT
        n_out += 1
        low <<= BYTE_BITS
        width <<= BYTE_BITS
    return n_out, low, width


@compiled
def last_bytes(low: Any, width: Any) -> tuple[Any, Any]:
    """The number in [low, low + width) that the fewest bytes say if zeros follow, and their number.

    It is given modulo 2**64: one below low has run over.
    """
    for n in range(CODER_BYTES):
        beyond = MAX_RANGE >> np.uint64(8 * n)
        value = low + beyond & ~beyond  # rounded up
        if value - low < width:
            return value, n
    return low, CODER_BYTES


@compiled
def finish(out: U8, n_out: Any, low: Any, width: Any) -> U8:
    """All bytes that have left the coder, and the fewest that, followed by zeros, are in its interval."""
    value, n_last = last_bytes(low, width)
    if value < low:
        add_carry(out, n_out)
    for k in range(n_last):
        out[n_out] = value >> np.uint64(8 * (CODER_BYTES - 1 - k))
        n_out += 1
    return out[:n_out]


@compiled
def encode_ac(network: Network, state: State, text: U8, ends: I64) -> U8:
    """The bytes of a plain arithmetic code; see `live.encode_ac`."""
    out = np.empty(BYTES_A_SYMBOL * (text.size + ends.size) + CODER_BYTES, np.uint8)
    n_out, low, width = np.int64(0), ZERO, MAX_RANGE
    i: Any = 0
    for segment in range(ends.size + 1):
        end: Any = ends[segment] if segment < ends.size else text.size
        symbol: Any = BOS
        while i < end:
            step(network, state, symbol)
            symbol = np.int64(text[i])
            start = np.int64(1)  # the end of a document comes first
            for byte in range(symbol):
                start += state.frequencies[byte]
            n_out, low, width = narrow(out, n_out, low, width, start, state.frequencies[symbol])
            i += 1
        if segment < ends.size:
            n_out, low, width = narrow(out, n_out, low, width, 0, 1)
    return finish(out, n_out, low, width)


@compiled
def byte_or_zero(payload: U8, at: Any) -> Any:
    """A byte of the payload, after which come zeros."""
    return np.uint64(payload[at]) if at < payload.size else ZERO


@compiled
def begin(payload: U8) -> U64:
    """What `take` works on: the interval's low, modulo 2**64, its width, and where the payload is in it."""
    interval = np.array([ZERO, MAX_RANGE, ZERO])
    for at in range(CODER_BYTES):
        interval[2] = interval[2] << BYTE_BITS | byte_or_zero(payload, at)
    return interval


@compiled
def take(payload: U8, interval: U64, n_read: Any, start: Any, frequency: Any) -> Any:
    """The inverse of `narrow` on low, width and where the payload is in the interval; n_read after it.

    A payload that is not in the interval, which none that is coded can be, counts as read beyond its end.
    """
    part = interval[1] // CODER_TOTAL
    interval[0] += part * np.uint64(start)
    interval[1] = part * np.uint64(frequency)
    interval[2] -= part * np.uint64(start)
    if interval[2] >= interval[1]:
        n_read = payload.size + CODER_BYTES + 1
    while interval[1] < MIN_RANGE:
        interval[0] <<= BYTE_BITS
        interval[1] <<= BYTE_BITS
        interval[2] = interval[2] << BYTE_BITS | byte_or_zero(payload, n_read)
        n_read += 1
    return n_read


@compiled
def is_whole(payload: U8, interval: U64, n_read: Any) -> bool:
    """Whether a payload is exactly what `finish` gives for what was taken from it."""
    value, n_last = last_bytes(interval[0], interval[1])
    return bool(n_read - CODER_BYTES + n_last == payload.size and value - interval[0] == interval[2])


@compiled
def decode_ac(
    network: Network, state: State, payload: U8, text_length: int, n_documents: int
) -> tuple[U8, I64, bool]:
    """Text, document ends, and whether the payload can be right; see `live.decode_ac`."""
    text, ends = np.empty(text_length, np.uint8), np.empty(n_documents, np.int64)
    n_text = n_ends = np.int64(0)
    interval, n_read = begin(payload), np.int64(CODER_BYTES)
    symbol: Any = BOS
    while n_text < text_length or n_ends < n_documents:
        if n_read > payload.size + CODER_BYTES:  # what is coded has shifted more bytes out than there are
            return text, ends, False
        value = interval[2] // (interval[1] // CODER_TOTAL)
        if value == ZERO:
            if n_ends == n_documents:
                return text, ends, False
            ends[n_ends] = n_text
            n_ends += 1
            symbol = BOS
            n_read = take(payload, interval, n_read, 0, 1)
            continue
        if n_text == text_length or value >= CODER_TOTAL:
            return text, ends, False
        step(network, state, symbol)
        start, symbol = np.int64(1), np.int64(0)
        frequency = state.frequencies[0]
        while np.uint64(start + frequency) <= value:
            start += frequency
            symbol += 1
            frequency = state.frequencies[symbol]
        text[n_text] = symbol
        n_text += 1
        n_read = take(payload, interval, n_read, start, frequency)
    return text, ends, is_whole(payload, interval, n_read)
