"""Integers as bytes: varints, and codewords of 9 to 20 bits packed without gaps.

A varint is LEB128 in its shortest form: 7 bits a byte, the lowest first, the high bit (0x80) set on every
byte but the last; 0 is one zero byte.

Codewords of b bits are packed lowest bit first: bit i of codeword k is bit (k b + i) mod 8 of byte (k b + i)
// 8, where bit 0 is the lowest. So the payload is the integer sum(codeword[k] << k b) in little-endian bytes,
and the unused high bits of the last byte are 0. For b = 16 that is an array of little-endian uint16.

What this module does not do: pack the codewords of live windows, which are whole bytes
(`coder.live_windows`).
"""

from collections.abc import Iterator

import numpy as np

from eqinfo.system.arrays import U32, Ids

MAX_VARINT_BYTES = 9


def varint(value: int) -> bytes:
    r"""LEB128 of an integer of 0 or more.

    >>> varint(300)  # 300 = 2 * 128 + 44
    b'\xac\x02'
    """
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(source: Iterator[int]) -> int:
    """The integer that `varint` wrote.

    Args:
        source: bytes; only those of the varint are taken.

    Raises:
        ValueError: not the shortest form, longer than MAX_VARINT_BYTES, or cut off.
    """
    value = 0
    for i in range(MAX_VARINT_BYTES):
        byte = next(source, 0x80)  # a varint that is cut off never ends
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if byte == 0 and i:
                break
            return value
    raise ValueError("not a length")


def packed_bytes(n: int, bits: int) -> int:
    """Size in bytes of n codewords of `bits` bits."""
    return (n * bits + 7) // 8


def _lanes(bits: int) -> Iterator[tuple[int, int, int]]:
    """The overlaps of 8 codewords with the `bits` bytes that hold them.

    Yields:
        Codeword in [0, 8), byte in [0, bits), and the left shift in (-bits, 8) that aligns the codeword with
        the byte.
    """
    for r in range(8):
        for lane in range(r * bits // 8, ((r + 1) * bits + 7) // 8):
            yield r, lane, r * bits - 8 * lane


def pack(codewords: U32, bits: int) -> bytes:
    """The bytes of packed codewords.

    Args:
        codewords: (n,), each below 2**bits.
        bits: size of a codeword, in [9, 20].

    Returns:
        `packed_bytes(n, bits)` bytes.

    >>> pack(np.array([1, 2], np.uint32), 9).hex()  # 1 + (2 << 9) = 0x00401, little-endian
    '010400'
    """
    if bits == 16:
        return codewords.astype("<u2").tobytes()
    # 8 codewords are `bits` bytes: work on columns, the codewords and bytes at one place in all groups of 8
    groups = np.zeros((-(-codewords.size // 8), 8), np.uint32)
    groups.reshape(-1)[: codewords.size] = codewords
    columns = np.ascontiguousarray(groups.T)
    out = np.zeros((bits, len(groups)), np.uint8)
    for r, lane, shift in _lanes(bits):
        column = columns[r] << shift if shift > 0 else columns[r] >> -shift
        out[lane] |= column.astype(np.uint8)  # the low 8 bits
    return out.T.tobytes()[: packed_bytes(codewords.size, bits)]


def unpack(payload: bytes, n: int, bits: int) -> Ids:
    """The codewords (n,) in a payload of `packed_bytes(n, bits)` bytes; the inverse of `pack`.

    Raises:
        ValueError: a padding bit is set.
    """
    if n * bits % 8 and payload[-1] >> n * bits % 8:
        raise ValueError("padding is not zero")
    if bits == 16:
        return np.frombuffer(payload, "<u2")
    n_groups = -(-n // 8)
    lanes = np.frombuffer(payload.ljust(n_groups * bits, b"\0"), np.uint8).reshape(n_groups, bits)
    columns = np.ascontiguousarray(lanes.T).astype(np.uint32)
    out = np.zeros((8, n_groups), np.uint32)
    for r, lane, shift in _lanes(bits):
        out[r] |= columns[lane] >> shift if shift > 0 else columns[lane] << -shift
    return (out.T & np.uint32((1 << bits) - 1)).reshape(-1)[:n]
