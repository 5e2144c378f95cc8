"""A range coder with carries, as integers: what `arithmetic_code` codes symbols with.

An interval is narrowed symbol by symbol. Its width is kept at 2**56 or more, so that a symbol's share, in
units of 1 / CODER_TOTAL, is exact to within 2**-36. Bytes of the interval's low end that only a carry can
still change are moved to the output.
"""

from typing import Any

import numpy as np

from eqinfo.coder.integer_m1 import M1_TOTAL
from eqinfo.system.arrays import U8, U64
from eqinfo.system.jit import compiled

ZERO = np.uint64(0)
CODER_TOTAL = np.uint64(M1_TOTAL + 1)  # sum of all frequencies: of the bytes, and 1 for the end of a document
TOP_SHIFT, BYTE_BITS = np.uint64(56), np.uint64(8)
MIN_RANGE = np.uint64(1 << 56)  # where the width falls below, a byte of low leaves
MAX_RANGE = np.uint64((1 << 64) - 1)  # the first width: 2**64 itself does not fit 64 bits
CODER_BYTES = 8  # of low and width


@compiled
def add_carry(out: U8, n_out: Any) -> None:
    """Add a carry to the first n_out bytes, as one big-endian number; the number never overflows."""
    # the interval stays below the number 1 that the output is a fraction of, so some byte is below 255
    at = n_out - 1
    while out[at] == 255:  # bytes of 255 become 0 and pass the carry on
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
    part = width // CODER_TOTAL  # at least 2**35; the remainder of the width is lost
    before = low
    low += part * np.uint64(start)  # adds less than the width, so carries at most 1
    width = part * np.uint64(frequency)  # at least 2**35, so the loop below runs at most 3 times
    if low < before:  # low has overflowed 64 bits
        add_carry(out, n_out)
    while width < MIN_RANGE:  # move the top byte of low to the output
        out[n_out] = low >> TOP_SHIFT
        n_out += 1
        low <<= BYTE_BITS  # modulo 2**64: the byte written drops out
        width <<= BYTE_BITS  # no overflow: it was below 2**56
    return n_out, low, width


@compiled
def last_bytes(low: Any, width: Any) -> tuple[Any, Any]:
    """The number in [low, low + width) with the most trailing zero bytes, and the number of its other bytes.

    The number is returned modulo 2**64: a result below low stands for one of 65 bits, with a carry.
    """
    # the shorter number first: with n bytes, the lowest 8 - n bytes are zeros
    for n in range(CODER_BYTES):
        beyond = MAX_RANGE >> np.uint64(8 * n)  # ones in the lowest 8 - n bytes
        value = low + beyond & ~beyond  # rounded up
        if value - low < width:  # modulo 2**64, so also where value has overflowed
            return value, n
    return low, CODER_BYTES  # only for a width below 2**56: a larger one needs n = 1 at most


@compiled
def finish(out: U8, n_out: Any, low: Any, width: Any) -> U8:
    """The output: all bytes written, and the fewest more that, with zeros behind, are in the interval."""
    value, n_last = last_bytes(low, width)
    if value < low:  # rounding up has overflowed 64 bits
        add_carry(out, n_out)
    for k in range(n_last):
        out[n_out] = value >> np.uint64(8 * (CODER_BYTES - 1 - k))
        n_out += 1
    return out[:n_out]  # the zeros that a decoder reads next are part of the number


@compiled
def byte_or_zero(payload: U8, at: Any) -> Any:
    """Byte `at` of the payload; zeros follow its end."""
    return np.uint64(payload[at]) if at < payload.size else ZERO


@compiled
def begin_decoding(payload: U8) -> U64:
    """The interval to decode from, (3,): low modulo 2**64, width, and the payload's offset from low."""
    interval = np.array([ZERO, MAX_RANGE, ZERO])
    for at in range(CODER_BYTES):  # low is 0, so the offset is the first 8 bytes
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
    # the same steps as in encoding, so that both sides keep equal intervals
    part = interval[1] // CODER_TOTAL
    interval[0] += part * np.uint64(start)
    interval[1] = part * np.uint64(frequency)
    interval[2] -= part * np.uint64(start)  # wraps to at least the width if the payload is below the symbol
    if interval[2] >= interval[1]:
        n_read = payload.size + CODER_BYTES + 1  # an encoder's payload gives at most 1 less
    while interval[1] < MIN_RANGE:  # shift a byte out, and the next byte of the payload in
        interval[0] <<= BYTE_BITS
        interval[1] <<= BYTE_BITS
        interval[2] = interval[2] << BYTE_BITS | byte_or_zero(payload, n_read)
        n_read += 1
    return n_read


@compiled
def is_whole(payload: U8, interval: U64, n_read: Any) -> bool:
    """Whether a payload is exactly the output that `finish` returns for the symbols decoded from it."""
    # equal lengths, and equal offsets from low: no other payload decodes to the same symbols
    # n_read - CODER_BYTES is the number of bytes that encoding has written before `finish`
    value, n_last = last_bytes(interval[0], interval[1])
    return bool(n_read - CODER_BYTES + n_last == payload.size and value - interval[0] == interval[2])
