"""A range coder with exact carry, and plain arithmetic coding by M1's frequencies: compiled loops.

An interval of numbers is narrowed symbol by symbol. Its width is kept at 2**56 or more, so that a symbol of
20 bits is narrowed to within 2**-36 of its share; bytes that no longer change, but for a carry, go out.

A symbol ends a document, with frequency 1, or is a byte with M1's frequency, of CODER_TOTAL in all. `mixing`
codes bits with the same coder.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import M1_TOTAL
from eqinfo.system.jit import compiled

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]

ZERO = np.uint64(0)
CODER_TOTAL = np.uint64(
    M1_TOTAL + 1
)  # of the frequencies in plain arithmetic coding: of the bytes and the end
TOP_SHIFT, BYTE_BITS = np.uint64(56), np.uint64(8)
MIN_RANGE = np.uint64(1 << 56)
MAX_RANGE = np.uint64((1 << 64) - 1)
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
def encode_symbol(
    out: U8, n_out: Any, low: Any, width: Any, start: Any, frequency: Any
) -> tuple[Any, Any, Any]:
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
def byte_or_zero(payload: U8, at: Any) -> Any:
    """A byte of the payload, after which come zeros."""
    return np.uint64(payload[at]) if at < payload.size else ZERO


@compiled
def begin_decoding(payload: U8) -> U64:
    """The interval to decode from, (3,): low modulo 2**64, width, and the payload's offset from low."""
    interval = np.array([ZERO, MAX_RANGE, ZERO])
    for at in range(CODER_BYTES):
        interval[2] = interval[2] << BYTE_BITS | byte_or_zero(payload, at)
    return interval


@compiled
def decode_symbol(payload: U8, interval: U64, n_read: Any, start: Any, frequency: Any) -> Any:
    """The inverse of `encode_symbol` on low, width and where the payload is in the interval; n_read after it.

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
