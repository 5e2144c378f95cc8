"""Exact division of an interval of codewords among symbols: integers only.

Narrowing an interval is what an integer arithmetic coder does at every symbol. `narrow` is that one
operation for both directions. Frequencies are M1's: as they are (`live_windows`), or rounded to 14 bits as
in the paper (`paper`). A codebook needs nothing of this: its frequencies add up to the width.

>>> narrow(low=0, width=1000, start=1, frequency=2, total=4)  # the second and third quarter
(250, 500)
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Int = TypeVar("Int", int, npt.NDArray[np.int64])

PAPER_TOTAL_BITS = 14  # of the published rule's frequencies
PAPER_TOTAL = 1 << PAPER_TOTAL_BITS
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


def paper_frequencies(frequencies: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Frequencies (n, k) of other sums, each at least 1, that add up to PAPER_TOTAL in each row."""
    spare = np.full((len(frequencies), 1), PAPER_TOTAL - frequencies.shape[1])
    return apportion(frequencies, spare) + 1
