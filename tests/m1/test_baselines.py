import itertools

import numpy as np
import pytest
from helpers.networks import frequencies_after, random_network, silent

from eqinfo.coder import intervals
from eqinfo.m1.baselines import published
from eqinfo.m1.expand import MAX_BYTES


@pytest.fixture(scope="module")
def m1():
    return random_network()


def test_the_published_windows_are_those_of_every_codeword_by_brute_force(m1):
    bits = 10
    codebook = published(m1, bits, silent)
    expected = {b""} | {bytes([b]) for b in range(256)}
    tables = {}
    for codeword in range(1 << bits):
        string, low, width = b"", 0, 1 << intervals.PRECISION_BITS
        at, size = codeword << (intervals.PRECISION_BITS - bits), 1 << (intervals.PRECISION_BITS - bits)
        while len(string) < MAX_BYTES:
            if string not in tables:
                tables[string] = intervals.paper_frequencies(
                    frequencies_after(m1, string)[None].astype(np.int64)
                )[0]
            sums = [0, *itertools.accumulate(tables[string].tolist())]
            inner = [
                intervals.narrow(low, width, sums[b], sums[b + 1] - sums[b], intervals.PAPER_TOTAL)
                for b in range(256)
            ]
            fits = [b for b, (lo, w) in enumerate(inner) if lo <= at and at + size <= lo + w]
            if not fits:
                break
            string, (low, width) = string + bytes(fits), inner[fits[0]]
        expected.add(string)
    assert codebook.windows == sorted(expected)
    assert codebook.method == "greedy"
