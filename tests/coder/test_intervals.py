from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.coder import intervals

widths = st.integers(1, 1 << intervals.PRECISION_BITS)


@given(widths, st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any))
def test_symbols_divide_an_interval_without_gap_or_overlap(width, frequencies):
    total, start, end = sum(frequencies), 0, 7
    for frequency in frequencies:
        low, part = intervals.narrow(7, width, start, frequency, total)
        assert low == end
        start, end = start + frequency, low + part
    assert end == 7 + width


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any))
def test_frequencies_that_add_up_to_the_width_are_the_widths_of_their_symbols(frequencies):
    total, start = sum(frequencies), 0
    for frequency in frequencies:
        assert intervals.narrow(0, total, start, frequency, total) == (start, frequency)
        start += frequency


def test_narrowing_an_array_is_narrowing_each_of_its_items():
    rng = np.random.default_rng(0)
    width = rng.integers(1, 1 << intervals.PRECISION_BITS, 1000)
    start, frequency = rng.integers(0, 1 << 13, (2, 1000))
    low, part = intervals.narrow(
        np.zeros(1000, np.int64), width, start, frequency, np.array(intervals.PAPER_TOTAL)
    )
    items = zip(width.tolist(), start.tolist(), frequency.tolist(), strict=True)
    expected = [intervals.narrow(0, w, s, f, intervals.PAPER_TOTAL) for w, s, f in items]
    assert list(zip(low.tolist(), part.tolist(), strict=True)) == expected


@given(st.integers(0, 255), st.integers(1, 256), st.integers(1, 8))
def test_codewords_inside_an_interval_are_counted_as_by_listing_them(low, width, window_bits):
    shift, width = intervals.PRECISION_BITS - 8, min(width, 256 - low)
    listed = [
        c
        for c in range(1 << window_bits)
        if low <= c << (8 - window_bits) and (c + 1) << (8 - window_bits) <= low + width
    ]
    assert intervals.n_codewords(low << shift, width << shift, window_bits) == len(listed)


@given(st.integers(0, 2**32), st.integers(2, 300), st.integers(1, 1 << 36))
def test_quantised_frequencies_are_largest_remainders_and_leave_no_symbol_without(seed, k, largest):
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, largest, (4, k)) ** rng.integers(0, 2, (4, 1)) + 1
    quantised = intervals.paper_frequencies(weights)
    assert quantised.min() >= 1
    spare = intervals.PAPER_TOTAL - k
    for row, weight in zip(quantised.tolist(), weights.tolist(), strict=True):
        exact = [Fraction(w * spare, sum(weight)) for w in weight]
        floors = [int(e) for e in exact]
        most = sorted(range(k), key=lambda i: (floors[i] - exact[i], i))[: spare - sum(floors)]
        assert row == [1 + floors[i] + (i in most) for i in range(k)]
