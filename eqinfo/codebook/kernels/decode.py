"""Codewords to bytes: each window is copied from a table of fixed-size rows."""

from typing import Any

import numpy as np

from eqinfo.system.arrays import I64, U8, U64, Ids
from eqinfo.system.jit import compiled

# Indices are uint64: numba checks signed ones for being negative. All numbers that meet them are uint64 too,
# as numba turns int64 with uint64 into float64.
ZERO: Any = np.uint64(0)
# copied for every window, as two integers; the rest of a longer window is copied byte by byte
ROW_BYTES: Any = np.uint64(16)
HALF_ROW, BYTE_BITS = np.uint64(8), np.uint64(3)


@compiled
def decode(codewords: Ids, words: U64, lengths: U8, blob: U8, offsets: I64) -> U8:
    """The text of codewords, (n_bytes,).

    Args:
        codewords: (n,), of any unsigned type.
        words: first 16 bytes of each window as two little-endian integers, (n_windows, 2).
        lengths: bytes in each window, (n_windows,); an array of its own stays in the level-1 cache.
        blob: all windows joined, (n_window_bytes,).
        offsets: start of each window in blob, and the end of the last, (n_windows + 1,).

    Raises:
        IndexError: a codeword is not in the codebook.
    """
    total = ZERO  # bytes of text
    for codeword in codewords:
        if codeword >= lengths.size:  # compiled code does not check bounds itself
            raise IndexError("codeword out of range")
        total += np.uint64(lengths[codeword])
    out = np.empty(total + ROW_BYTES, np.uint8)  # the last row may run past the text
    at = ZERO
    for codeword in codewords:
        # A whole row is written whatever the length, and the next window overwrites what is too much: no
        # branch on the length. The compiler merges eight shifted stores of one integer into a single store;
        # it would not merge eight copied bytes, as `out` could overlap their source.
        low = words[codeword, 0]
        high = words[codeword, 1]
        for k in range(HALF_ROW):
            out[at + k] = np.uint8(low >> (k << BYTE_BITS))
        for k in range(HALF_ROW):
            out[at + HALF_ROW + k] = np.uint8(high >> (k << BYTE_BITS))
        length = np.uint64(lengths[codeword])  # 0 for the end of a document
        for k in range(ROW_BYTES, length):  # empty unless the window is longer than a row
            out[at + k] = blob[np.uint64(offsets[codeword]) + k]
        at += length
    return out[:total]  # at is total here


@compiled
def first_bytes(blob: U8, offsets: I64) -> U8:
    """The first ROW_BYTES bytes of each window, zero-padded, (n_windows, ROW_BYTES)."""
    rows = np.zeros((offsets.size - 1, np.int64(ROW_BYTES)), np.uint8)
    for i in range(offsets.size - 1):
        for k in range(min(np.int64(ROW_BYTES), offsets[i + 1] - offsets[i])):
            rows[i, k] = blob[offsets[i] + k]
    return rows
