from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.m1.refit import PairCounts


@pytest.mark.parametrize("slot_bits", [8, 16])
@given(st.lists(st.lists(st.integers(0, 5), max_size=30), min_size=1, max_size=10))
def test_pairs_are_counted_within_each_parse(slot_bits, parses):
    pairs, expected = PairCounts(slot_bits), Counter()
    for codewords in parses:
        pairs.add(np.array(codewords, np.uint32))
        expected.update(pairwise(codewords))
    first, second = pairs.most_frequent(10**6)
    frequent = {pair: n for pair, n in expected.items() if n > 1}
    found = list(zip(first.tolist(), second.tolist(), strict=True))
    assert set(found) == set(frequent)
    assert found == sorted(found, key=lambda pair: (-frequent[pair], pair))


def test_frequent_pairs_survive_in_a_table_that_is_too_small():
    pairs, rng = PairCounts(slot_bits=10), np.random.default_rng(0)
    for _ in range(400):
        pairs.add(np.append(rng.integers(0, 10**6, 100), [7, 8] * 5).astype(np.uint32))
    first, second = pairs.most_frequent(2)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(7, 8), (8, 7)]
