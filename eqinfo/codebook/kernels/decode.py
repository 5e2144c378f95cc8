"""Codewords to bytes: each window is copied from a table of fixed-size rows."""

from typing import Any

import numpy as np
import numpy.typing as npt

from eqinfo.system.jit import compiled

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Indices are unsigned: signed ones may be negative, and numba then compares each with 0. All numbers that
# meet them must be unsigned as well, for numba makes floats of a signed and an unsigned one.
ZERO: Any = np.uint64(0)
ROW_BYTES: Any = np.uint64(16)  # a decoded window is copied as two halves, and what is longer byte by byte
HALF_ROW, BYTE_BITS = np.uint64(8), np.uint64(3)


@compiled
def decode(codewords: npt.NDArray[np.unsignedinteger], words: U64, lengths: U8, blob: U8, offsets: I64) -> U8:
    """The bytes of codewords.

    Args:
        codewords: (n,), any unsigned type.
        words: the first 16 bytes of each window as two numbers, lowest byte first, (n_windows, 2).
        lengths: of each window, (n_windows,); by itself it stays in the nearest cache.
        blob: all windows one after another.
        offsets: where each starts and the last one ends, (n_windows + 1,).

    Raises:
        IndexError: a codeword is not in the codebook.
    """
    total = ZERO
    for codeword in codewords:
        if codeword >= lengths.size:
            raise IndexError("codeword out of range")
        total += np.uint64(lengths[codeword])
    out = np.empty(total + ROW_BYTES, np.uint8)  # a row may be written beyond the end
    at = ZERO
    for codeword in codewords:
        # numbers, for bytes that are read after others were written are not merged into one load and store
        low = words[codeword, 0]
        high = words[codeword, 1]
        for k in range(HALF_ROW):
            out[at + k] = np.uint8(low >> (k << BYTE_BITS))
        for k in range(HALF_ROW):
            out[at + HALF_ROW + k] = np.uint8(high >> (k << BYTE_BITS))
        length = np.uint64(lengths[codeword])
        for k in range(ROW_BYTES, length):
            out[at + k] = blob[np.uint64(offsets[codeword]) + k]
        at += length
    return out[:total]


@compiled
def first_bytes(blob: U8, offsets: I64) -> U8:
    """The first ROW_BYTES bytes of each window, zero-padded, (n_windows, ROW_BYTES)."""
    rows = np.zeros((offsets.size - 1, np.int64(ROW_BYTES)), np.uint8)
    for i in range(offsets.size - 1):
        for k in range(min(np.int64(ROW_BYTES), offsets[i + 1] - offsets[i])):
            rows[i, k] = blob[offsets[i] + k]
    return rows
