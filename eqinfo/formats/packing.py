"""Integers in bytes: varints for lengths, codewords packed to `window_bits` bits each.

A varint is LEB128 in its shortest form. Codewords go least significant bit first, without gaps; the last
byte is padded with zeros. Eight codewords of b bits are b bytes, so both directions are a few operations
on whole columns, for any b.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

MAX_VARINT_BYTES = 9


def varint(value: int) -> bytes:
    """LEB128: seven bits a byte, low ones first, the high bit set on all bytes but the last."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(next_byte: Callable[[], int]) -> int:
    """The integer that `varint` wrote.

    Raises:
        ValueError: not the shortest form, or longer than MAX_VARINT_BYTES.
    """
    value = 0
    for i in range(MAX_VARINT_BYTES):
        byte = next_byte()
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if byte == 0 and i:
                break
            return value
    raise ValueError("not a length")


def packed_bytes(n: int, bits: int) -> int:
    """Size of n codewords in bytes."""
    return (n * bits + 7) // 8


def _lanes(bits: int) -> Iterator[tuple[int, int, int]]:
    """How 8 codewords share `bits` bytes: (codeword, byte, left shift) of each overlap."""
    for r in range(8):
        for lane in range(r * bits // 8, ((r + 1) * bits + 7) // 8):
            yield r, lane, r * bits - 8 * lane


def pack(codewords: npt.NDArray[np.uint32], bits: int) -> bytes:
    """Codewords (n,), each below 2**bits, in `packed_bytes(n, bits)` bytes."""
    if bits == 16:
        return codewords.astype("<u2").tobytes()
    groups = np.zeros((-(-codewords.size // 8), 8), np.uint32)
    groups.reshape(-1)[: codewords.size] = codewords
    columns = np.ascontiguousarray(groups.T)
    out = np.zeros((bits, len(groups)), np.uint8)
    for r, lane, shift in _lanes(bits):
        column = columns[r] << shift if shift > 0 else columns[r] >> -shift
        out[lane] |= column.astype(np.uint8)  # the low 8 bits
    return out.T.tobytes()[: packed_bytes(codewords.size, bits)]


def unpack(payload: bytes, n: int, bits: int) -> npt.NDArray[np.unsignedinteger]:
    """The n codewords that `pack` put in a payload of `packed_bytes(n, bits)` bytes.

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
