import numpy as np
import pytest
from helpers.networks import frequencies_after, random_network, silent

from eqinfo.coder.integer_m1 import M1_TOTAL
from eqinfo.m1 import expand as expand_module
from eqinfo.m1.expand import expand, next_byte_frequencies


@pytest.fixture(scope="module")
def m1():
    return random_network()


def test_strings_that_share_their_beginnings_get_what_each_gets_by_itself(m1):
    rng = np.random.default_rng(0)
    for length in (0, 1, 2, 5):
        strings = rng.integers(0, 3, (700, length)).astype(np.uint8)  # many share, some are equal
        found = next_byte_frequencies(m1, strings)
        assert np.array_equal(found.sum(1), np.full(700, M1_TOTAL))
        for string, row in list(zip(strings, found, strict=True))[::60]:
            assert np.array_equal(row, frequencies_after(m1, string))


def test_candidates_are_the_most_probable_strings_of_all(m1, monkeypatch):
    monkeypatch.setattr(expand_module, "MAX_BYTES", 3)
    n = 600
    one = np.log(next_byte_frequencies(m1, np.empty((1, 0), np.uint8))[0] / M1_TOTAL)
    every = {bytes([a]): one[a] for a in range(256)}
    after = np.log(next_byte_frequencies(m1, np.arange(256, dtype=np.uint8)[:, None]) / M1_TOTAL)
    two = {bytes([a, b]): one[a] + after[a, b] for a in range(256) for b in range(256)}
    for start in sorted(two, key=two.get)[-n:]:  # no string after the n-th can have a child among the best
        rest = np.log(frequencies_after(m1, start) / M1_TOTAL)
        every |= {start + bytes([c]): two[start] + rest[c] for c in range(256)}
    every |= two
    floor = sorted(every.values())[-n]
    found = expand(m1, n, silent)
    assert set(found.strings) == {s for s, p in every.items() if p >= floor or len(s) == 1}
    assert found.strings == sorted(found.strings)
    for string, log_p in zip(found.strings, found.log_p, strict=True):
        assert log_p == pytest.approx(every[string])
