"""Impossible pairs against their definition: the cut of both windows' bytes."""

from itertools import pairwise, product

import numpy as np
import pytest
from helpers.codebooks import ALPHABET, make_codebook, small_codebooks
from helpers.texts import mixed, prose
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.codebook import pairs as pairs_module
from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.pairs import Pairs, impossible_pairs


def found(codebook: Codebook) -> Pairs:
    pairs = impossible_pairs(codebook)
    assert pairs is not None
    return pairs


@given(st.data(), st.sampled_from(["optimal", "greedy"]))
def test_a_pair_is_impossible_if_the_cut_of_its_bytes_is_another(data: st.DataObject, method: str) -> None:
    codebook = data.draw(small_codebooks(method))  # type: ignore[arg-type]
    listed = [(codebook.windows[a], codebook.windows[b]) for a, b in found(codebook).listed()]
    known = [window for window in codebook.windows if window and set(window) <= set(ALPHABET)]
    wanted = {(a, b) for a in known for b in known if parse.cut(codebook, a + b) != [a, b]}
    assert set(listed) == wanted  # windows of other bytes are single bytes, in no pair
    assert len(listed) == len(wanted)  # none twice


@pytest.mark.parametrize("method", ["optimal", "greedy"])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_no_text_has_an_impossible_pair(method: str, penalty: float) -> None:
    codebook = make_codebook(12, method, penalty)  # type: ignore[arg-type]
    pairs = found(codebook)
    assert pairs.seconds.size > len(codebook.windows)
    ids = parse.encode(codebook, prose(20_000) + mixed(20_000))
    assert pairs.count(ids) == 0
    impossible = set(pairs.listed())
    assert not impossible & set(pairwise(ids.tolist()))


def test_pairs_in_ids_are_counted() -> None:
    pairs = Pairs(np.array([0, 0, 2, 3]), np.array([2, 1, 1], np.uint32))  # 1 2, 1 1, 2 1
    for dtype in (np.uint16, np.uint32):
        assert pairs.count(np.array([1, 2, 1, 1, 0, 1, 0], dtype)) == 3
        assert pairs.count(np.array([], dtype)) == 0
        assert pairs.count(np.array([1, 0, 3], dtype)) == 3  # 3 has no window


def test_a_codebook_with_too_many_pairs_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    codebook = make_codebook(10)
    n = found(codebook).seconds.size
    for name, most, is_listed in (
        ("MAX_PAIRS", n - 1, False), ("MAX_PAIRS", n, True), ("MAX_STEPS", n // 2, False),
        ("MAX_WINDOWS", 1023, False), ("MAX_WINDOWS", 1024, True),
    ):  # fmt: skip
        with monkeypatch.context() as changed:
            changed.setattr(pairs_module, name, most)
            impossible_pairs.cache_clear()
            assert (impossible_pairs(codebook) is not None) == is_listed
    impossible_pairs.cache_clear()


def test_strings_of_two_letters_do_not_take_forever() -> None:
    strings = {bytes(letters) for n in range(1, 15) for letters in product(b"ab", repeat=n)}
    codebook = Codebook(sorted(strings | {b""} | {bytes([b]) for b in range(256)}), 16)
    assert impossible_pairs(codebook) is None  # almost all pairs of 33,020
