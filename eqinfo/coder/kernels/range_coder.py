"""A range coder with carries, as integers: what `plain_ac` and `adaptive_ac` code symbols with.

An interval is narrowed symbol by symbol. Its width is kept at 2**56 or more, so that a symbol's share, in
units of 1 / CODER_TOTAL, is exact to within 2**-36. Bytes of the interval's low end that only a carry can
still change are moved to the output.
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
CODER_BYTES = 8  # of low and width


@compiled
def add_carry(out: U8, n_out: Any) -> None:
    """Add a carry to the first n_out bytes, as one big-endian number; the number never overflows."""
    at = n_out - 1
    while out[at] == 255:
        out[at] = 0
        at -= 1
    out[at] += 1


@compiled
def encode_symbol(
    out: U8, n_out: Any, low: Any, width: Any, start: Any, frequency: Any
) -> tuple[Any, Any, Any]:
    """Encode one symbol; n_out, low and width after it.

    With `out` read as a big-endian integer, the interval is [out * 2**64 + low, out * 2**64 + low + width).

    Args:
        out: output bytes; the first n_out are written.
        n_out: number of bytes written.
        low: the low 64 bits of the interval's start.
        width: of the interval, in [2**56, 2**64).
        start: sum of the frequencies of the symbols before this one.
        frequency: of the symbol, at least 1; start + frequency is at most CODER_TOTAL.
    """
    part = width // CODER_TOTAL
    before = low
    low += part * np.uint64(start)
    width = part * np.uint64(frequency)
    if low < before:  # low has overflowed 64 bits
        add_carry(out, n_out)
    while width < MIN_RANGE:
        out[n_out] = low >> TOP_SHIFT
        n_out += 1
        low <<= BYTE_BITS
        width <<= BYTE_BITS
    return n_out, low, width


@compiled
def last_bytes(low: Any, width: Any) -> tuple[Any, Any]:
    """The number in [low, low + width) with the most trailing zero bytes, and the number of its other bytes.

    The number is returned modulo 2**64: a result below low stands for one of 65 bits, with a carry.
    """
    for n in range(CODER_BYTES):
        beyond = MAX_RANGE >> np.uint64(8 * n)
        value = low + beyond & ~beyond  # rounded up
        if value - low < width:
            return value, n
    return low, CODER_BYTES


@compiled
def finish(out: U8, n_out: Any, low: Any, width: Any) -> U8:
    """The output: all bytes written, and the fewest more that, with zeros behind, are in the interval."""
    value, n_last = last_bytes(low, width)
    if value < low:
        add_carry(out, n_out)
    for k in range(n_last):
        out[n_out] = value >> np.uint64(8 * (CODER_BYTES - 1 - k))
        n_out += 1
    return out[:n_out]


@compiled
def byte_or_zero(payload: U8, at: Any) -> Any:
    """Byte `at` of the payload; zeros follow its end."""
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
    """Take one decoded symbol out of the interval; n_read after it. The inverse of `encode_symbol`.

    If the payload is outside the interval, which no encoder produces, n_read is set beyond the payload's end
    and the caller reports damage.

    Args:
        payload: bytes to decode.
        interval: low modulo 2**64, width, and the payload's offset from low, (3,); changed in place.
        n_read: number of bytes read.
        start: sum of the frequencies of the symbols before this one.
        frequency: of the symbol, at least 1.
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
    """Whether a payload is exactly the output that `finish` returns for the symbols decoded from it."""
    value, n_last = last_bytes(interval[0], interval[1])
    return bool(n_read - CODER_BYTES + n_last == payload.size and value - interval[0] == interval[2])
