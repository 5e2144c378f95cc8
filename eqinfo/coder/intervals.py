"""Exact division of an interval of codewords among symbols: integers only.

An integer arithmetic coder narrows an interval at every symbol, in encoding and in decoding alike; `narrow`
is that operation. Frequencies are M1's: exact in live windows (`reference`), rounded to 14 bits for the
paper's rule (`paper`). A codebook does not need this module: its frequencies add up to the width, so nothing
rounds.

>>> narrow(low=0, width=1000, start=1, frequency=2, total=4)  # the second and third quarter
(250, 500)
"""

from typing import TypeVar

import numpy as np

from eqinfo.system.arrays import I64

Int = TypeVar("Int", int, I64)

PAPER_TOTAL = 1 << 14  # sum of the frequencies at a node, by the paper's rule
PRECISION_BITS = 48  # of its intervals: 48 + 14 bits fit an int64, and 48 - 20 = 28 keep rounding small


def narrow(low: Int, width: Int, start: Int, frequency: Int, total: Int) -> tuple[Int, Int]:
    """Low and width of the part of [low, low + width) that a symbol takes.

    Args:
        low: start of the interval of the string so far.
        width: of that interval, at least 1.
        start: sum of the frequencies of the symbols before this one.
        frequency: of the symbol, at least 0.
        total: sum of all frequencies, at least 1 and at least start + frequency.
    """
    first, end = width * start // total, width * (start + frequency) // total
    return low + first, end - first


def n_codewords(low: Int, width: Int, window_bits: int) -> Int:
    """The number of cells of 2**(PRECISION_BITS - window_bits) numbers that lie inside an interval."""
    shift = PRECISION_BITS - window_bits
    inside = (low + width >> shift) - (low + (1 << shift) - 1 >> shift)
    return inside * (inside > 0)


def apportion(weights: I64, shared: I64) -> I64:
    """Shares (n, k) in proportion to weights that add up exactly to `shared` in each row: largest remainders.

    Args:
        weights: (n, k), at least 0; each row adds up to at least 1.
        shared: (n, 1), at least 0; products with weights are below 2**63. Ties go to the first.
    """
    rounded, remainder = np.divmod(weights * shared, weights.sum(1, keepdims=True))
    missing = shared - rounded.sum(1, keepdims=True)
    rank = np.argsort(np.argsort(-remainder, axis=1, kind="stable"), axis=1, kind="stable")
    apportioned: I64 = rounded + (rank < missing)
    return apportioned


def paper_frequencies(frequencies: I64) -> I64:
    """Frequencies (n, k) scaled to add up to PAPER_TOTAL in each row, each at least 1."""
    spare = np.full((len(frequencies), 1), PAPER_TOTAL - frequencies.shape[1])
    return apportion(frequencies, spare) + 1
