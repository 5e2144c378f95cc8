"""Integer arithmetic coding: how an interval of codewords is divided among symbols.

One function, `narrow`, owns the arithmetic; coding and decoding a window both go through it, and so do
both rules for the frequencies:

- a codebook's: at a node the stop symbol has 1 if the string is a window, and a byte has the number of
  windows below. They add up to the width, so nothing is rounded and no codeword is wasted.
- the published one: M1's frequencies quantised to 14 bits, the same at every width, so narrowing rounds.

`encode_window` and `decode_window` spell out the first rule symbol by symbol. Since codewords come out as
ranks, `parse` looks them up instead.
"""

from bisect import bisect_left
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from eqinfo.codebook import Codebook

Int = TypeVar("Int", int, npt.NDArray[np.int64])

TOTAL_BITS = 14  # of the published rule's frequencies
TOTAL = 1 << TOTAL_BITS
PRECISION_BITS = 48  # of its intervals: 48 + 14 bits fit an int64, and 48 - 20 = 28 are left to round in


def narrow(low: Int, width: Int, start: Int, frequency: Int, total: Int) -> tuple[Int, Int]:
    """The part of the interval [low, low + width) that a symbol takes, as its low and width.

    Args:
        low: of the string so far.
        width: of the string so far, at least 1.
        start: sum of the frequencies of the symbols before this one.
        frequency: of the symbol, at least 0.
        total: of all frequencies, at least start + frequency and at least 1.
    """
    first, end = width * start // total, width * (start + frequency) // total
    return low + first, end - first


def n_codewords(low: Int, width: Int, window_bits: int) -> Int:
    """How many intervals of window_bits binary digits lie inside an interval of PRECISION_BITS digits."""
    shift = PRECISION_BITS - window_bits
    inside = (low + width >> shift) - (low + (1 << shift) - 1 >> shift)
    return inside * (inside > 0)


def apportion(weights: npt.NDArray[np.int64], shared: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What each of some weights (n, k) gets of what is shared in its row: largest remainders.

    Args:
        weights: at least 0; each row adds up to at least 1.
        shared: (n, 1), at least 0; products with weights are below 2**63. Of equal remainders the first win.
    """
    rounded, remainder = np.divmod(weights * shared, weights.sum(1, keepdims=True))
    missing = shared - rounded.sum(1, keepdims=True)
    rank = np.argsort(np.argsort(-remainder, axis=1, kind="stable"), axis=1, kind="stable")
    apportioned: npt.NDArray[np.int64] = rounded + (rank < missing)
    return apportioned


def quantise(frequencies: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Frequencies (n, k) of other sums, each at least 1, that add up to TOTAL in each row."""
    spare = np.full((len(frequencies), 1), TOTAL - frequencies.shape[1])
    return apportion(frequencies, spare) + 1


def frequencies(codebook: Codebook, prefix: bytes) -> list[int]:
    """The frequencies at a prefix's node of the codebook: of the stop symbol, then of the 256 bytes."""
    bounds = [bisect_left(codebook.windows, prefix + bytes([byte])) for byte in range(256)]
    after = prefix.rstrip(b"\xff")
    end = after[:-1] + bytes([after[-1] + 1]) if after else None
    bounds.append(bisect_left(codebook.windows, end) if end else len(codebook.windows))
    return [int(prefix in codebook.codewords), *np.diff(bounds).tolist()]


def encode_window(codebook: Codebook, window: bytes) -> int:
    """The codeword of a window, by narrowing symbol by symbol and ending with the stop symbol."""
    low, width = 0, len(codebook.windows)
    for at in range(len(window) + 1):
        symbol = window[at] + 1 if at < len(window) else 0
        at_node = frequencies(codebook, window[:at])
        low, width = narrow(low, width, sum(at_node[:symbol]), at_node[symbol], width)
    assert width == 1  # it is a window
    return low


def decode_window(codebook: Codebook, codeword: int) -> bytes:
    """The window of a codeword below len(codebook.windows), by descending to its stop symbol."""
    window = b""
    low, width = 0, len(codebook.windows)
    while True:
        at_node = frequencies(codebook, window)
        symbol, start = 0, 0
        while low + start + at_node[symbol] <= codeword:
            start += at_node[symbol]
            symbol += 1
        if symbol == 0:
            return window
        low, width = narrow(low, width, start, at_node[symbol], width)
        window += bytes([symbol - 1])
