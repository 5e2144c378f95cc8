from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from conftest import prose
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.corpus import Text
from eqinfo.parse import encode
from eqinfo.refit import Candidates, Pairs, count_windows, refit


def silent(share):
    assert 0 <= share <= 1


def text_of(data):
    return Text(np.frombuffer(data, np.uint8), np.array([len(data)]))


def candidates_of(text, longest):
    strings = {text[i : i + n] for n in range(1, longest + 1) for i in range(len(text) - n)}
    strings |= {bytes([b]) for b in range(256)}
    return Candidates(sorted(strings), np.full(len(strings), -20.0))


def test_refitting_keeps_what_text_uses():
    text = prose(3000)
    candidates = candidates_of(text, 6)
    codebook = refit(candidates, [text_of(text)], 10, 0.0, silent)
    assert len(codebook.windows) == 1024
    assert codebook.windows[0] == b""
    rng = np.random.default_rng(0)
    singles = [s for s in candidates.strings if len(s) == 1]
    others = [s for s in candidates.strings if len(s) > 1]
    picked = [others[i] for i in rng.permutation(len(others))[: 1023 - 256]]
    random = type(codebook)(sorted([b"", *singles, *picked]), 10)
    held_out = prose(500, seed=5)
    assert encode(codebook, held_out).size < 0.8 * encode(random, held_out).size


def test_windows_are_counted_over_all_texts():
    strings = sorted({bytes([b]) for b in range(256)} | {b"ab", b"abc"})
    counts = count_windows(strings, [text_of(b"abcab"), text_of(b"xab")], 0.0, silent)
    assert {s: int(n) for s, n in zip(strings, counts, strict=True) if n} == {b"abc": 1, b"ab": 2, b"x": 1}


def test_candidates_grow_by_what_text_puts_side_by_side():
    singles = Candidates([bytes([b]) for b in range(256)], np.full(256, -5.0))
    pairs = sorted({bytes([a, b]) for a in b"etaoins" for b in range(256)})
    few = Candidates(sorted([*singles.strings, *pairs]), np.full(256 + len(pairs), -9.0))
    codebook = refit(few, [text_of(prose(5000))], 10, 0.0, silent)
    assert max(map(len, few.strings)) == 2
    assert {8, 7, 6, 5, 4, 3} <= set(map(len, codebook.windows))


def test_where_counts_are_equal_m1_decides():
    singles = {bytes([b]): -1.0 for b in range(256)}
    unused = {bytes([1, a, b]): -float(a * 256 + b) - 10 for a in range(8) for b in range(256)}
    every = dict(sorted((singles | unused).items()))
    candidates = Candidates(list(every), np.array(list(every.values())))
    codebook = refit(candidates, [text_of(b"z")], 10, 0.0, silent)
    best = sorted(unused, key=unused.get, reverse=True)[: 1023 - 256]
    assert codebook.windows == sorted([b"", *singles, *best])


@pytest.mark.parametrize("slot_bits", [8, 16])
@given(st.lists(st.lists(st.integers(0, 5), max_size=30), min_size=1, max_size=10))
def test_pairs_are_counted_within_each_parse(slot_bits, parses):
    pairs, expected = Pairs(slot_bits), Counter()
    for codewords in parses:
        pairs.add(np.array(codewords, np.uint32))
        expected.update(pairwise(codewords))
    first, second = pairs.most_frequent(10**6)
    frequent = {pair: n for pair, n in expected.items() if n > 1}
    found = list(zip(first.tolist(), second.tolist(), strict=True))
    assert set(found) == set(frequent)
    assert found == sorted(found, key=lambda pair: (-frequent[pair], pair))


def test_frequent_pairs_survive_in_a_table_that_is_too_small():
    pairs, rng = Pairs(slot_bits=10), np.random.default_rng(0)
    for _ in range(400):
        pairs.add(np.append(rng.integers(0, 10**6, 100), [7, 8] * 5).astype(np.uint32))
    first, second = pairs.most_frequent(2)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(7, 8), (8, 7)]
