"""Both parses against their definitions, and the compiled loops against the plain ones."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from helpers.codebooks import ALPHABET, make_codebook, penalties, small_codebooks
from helpers.texts import mixed, prose
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import MAX_WINDOW_BYTES, PENALTY_UNIT, Codebook, Method

NEVER = 1 << 60  # as COMPILED_FROM: plain Python alone
small_texts = st.lists(st.sampled_from(ALPHABET), max_size=9).map(bytes)


def all_cuts(codebook: Codebook, text: bytes) -> list[list[bytes]]:
    """Every way to cut a text into windows."""
    found = []
    for n in range(len(text)):
        for cuts in combinations(range(1, len(text)), n):
            pieces = [text[i:j] for i, j in zip((0, *cuts), (*cuts, len(text)), strict=True)]
            if all(piece in codebook.codewords for piece in pieces):
                found.append(pieces)
    return found or [[]]


def price(codebook: Codebook, windows: list[bytes]) -> tuple[int, list[int]]:
    """By what a cut is judged: its cost, then longer windows, from the last on."""
    rarities = codebook.rarities or bytes(len(codebook.windows))

    def is_word(byte: int) -> bool:
        return byte >= 128 or chr(byte) in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

    unaligned = sum(is_word(a[-1]) and is_word(b[0]) for a, b in pairwise(windows))
    penalty = 16 * round(min(codebook.unaligned_penalty, 63.0) * PENALTY_UNIT)
    cost = len(windows) * 16 * PENALTY_UNIT + unaligned * penalty
    cost += sum(rarities[codebook.codewords[window]] for window in windows)
    return cost, [-len(window) for window in reversed(windows)]


@given(small_codebooks("optimal"), small_texts)
def test_optimal_is_the_best_of_all_cuts(codebook: Codebook, text: bytes) -> None:
    best = min(all_cuts(codebook, text), key=lambda windows: price(codebook, windows))
    assert parse.cut(codebook, text) == best


@given(small_codebooks("greedy"), small_texts)
def test_greedy_takes_the_longest_window_each_time(codebook: Codebook, text: bytes) -> None:
    windows = parse.cut(codebook, text)
    assert b"".join(windows) == text
    rest = text
    for window in windows:
        assert window == max((w for w in codebook.windows if rest.startswith(w)), key=len)
        rest = rest[len(window) :]


def test_ties_go_to_frequent_windows() -> None:
    windows = sorted({b""} | {bytes([b]) for b in range(256)} | {b"ab", b"abc", b" c", b"cd", b"d"})
    assert parse.cut(Codebook(windows, 9), b"abcd") == [b"ab", b"cd"]
    rarities = bytes(40 * (window == b"cd") for window in windows)
    assert parse.cut(Codebook(windows, 9, rarities=rarities), b"abcd") == [b"abc", b"d"]
    assert parse.cut(Codebook(windows, 9, rarities=rarities), b"cd") == [b"cd"]  # two windows cost more


def test_ties_go_to_the_longer_last_window() -> None:
    windows = {b""} | {bytes([b]) for b in range(256)} | {b"ab", b"ab ", b" c", b"b c"}
    codebook = Codebook(sorted(windows), 9)
    assert parse.cut(codebook, b"ab c") == [b"a", b"b c"]  # not ab| c, nor ab |c
    assert parse.cut(Codebook(sorted(windows - {b"b c"}), 9), b"ab c") == [b"ab", b" c"]
    aligned = Codebook(sorted(windows), 9, unaligned_penalty=1 / PENALTY_UNIT)  # decides ties
    assert parse.cut(aligned, b"ab c") == [b"ab", b" c"]


@given(small_texts, penalties)
def test_the_costs_of_windows_add_up_to_that_of_the_cut(text: bytes, penalty: float) -> None:
    cost = parse.penalty_cost(penalty)
    singles = {b""} | {bytes([b]) for b in range(256)}
    pairs = sum(not parse.is_aligned(a, b) for a, b in pairwise(text))
    for cuts in combinations(range(1, len(text)), 3):
        windows = [text[i:j] for i, j in zip((0, *cuts), (*cuts, len(text)), strict=True)]
        inside = sum(not parse.is_aligned(text[at - 1], text[at]) for at in cuts)
        known = sorted(singles | set(windows))
        codebook = Codebook(known, 9, "optimal", penalty, bytes(k % 256 for k in range(len(known))))
        codewords = [codebook.codewords[window] for window in windows]
        of_windows = sum(parse.window_cost(codebook, codeword) for codeword in codewords)
        rare = sum(codebook.rarities[codeword] for codeword in codewords)
        assert of_windows + pairs * cost == len(windows) * parse.WINDOW_COST + rare + inside * cost


def test_a_penalty_buys_aligned_cuts_with_windows() -> None:
    windows = {b""} | {bytes([b]) for b in range(256)} | {b"ab", b"b, c", b" c"}
    text = b"ab, c"
    assert parse.cut(Codebook(sorted(windows), 9), text) == [b"a", b"b, c"]
    assert parse.cut(Codebook(sorted(windows), 9, unaligned_penalty=0.5), text) == [b"a", b"b, c"]
    assert parse.cut(Codebook(sorted(windows), 9, unaligned_penalty=1.5), text) == [b"ab", b",", b" c"]


ends_and_texts = st.binary(max_size=300).flatmap(
    lambda text: st.tuples(st.just(text), st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
)


@given(st.data(), st.sampled_from(["optimal", "greedy"]))
def test_compiled_code_gives_what_the_definition_gives(data: st.DataObject, method: Method) -> None:
    codebook = data.draw(small_codebooks(method))
    text = data.draw(st.lists(st.sampled_from(ALPHABET + b"\0\xff"), max_size=60).map(bytes))
    ends = data.draw(st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse, "COMPILED_FROM", NEVER)
        plain = parse.encode(codebook, text, ends)
        patch.setattr(parse, "COMPILED_FROM", 1)
        compiled = parse.encode(codebook, text, ends)
        assert parse.decode(codebook, compiled) == text
    assert np.array_equal(plain, compiled)


@given(st.data(), penalties)
def test_compiled_code_cuts_windows_of_any_length_as_the_definition_does(
    data: st.DataObject, penalty: float
) -> None:
    letters = st.sampled_from(b"ab ")
    sizes = st.sampled_from([2, 3, 7, 8, 9, 10, 40, MAX_WINDOW_BYTES])
    window = sizes.flatmap(lambda size: st.lists(letters, min_size=size, max_size=size).map(bytes))
    windows = data.draw(st.lists(window, max_size=12))
    windows += [window[:-1] for window in windows]
    every = sorted({b"", *windows} | {bytes([b]) for b in range(256)})
    rarities = data.draw(st.randoms()).randbytes(len(every))
    codebook = Codebook(every, 9, "optimal", penalty, rarities)
    pieces = st.sampled_from(windows or [b"a"]) | st.lists(letters, max_size=9).map(bytes)
    text = b"".join(data.draw(st.lists(pieces, max_size=12)))[:700]
    ends = data.draw(st.lists(st.integers(0, len(text)), max_size=3).map(sorted))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse, "COMPILED_FROM", NEVER)
        plain = parse.encode(codebook, text, ends)
        patch.setattr(parse, "COMPILED_FROM", 1)
        assert np.array_equal(parse.encode(codebook, text, ends), plain)


@pytest.mark.parametrize("window_bytes", [2, MAX_WINDOW_BYTES])
def test_the_greatest_costs_fit_their_bits(window_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = {b""} | {bytes([b]) for b in range(256)} | {b"b" * window_bytes}
    codebook = Codebook(sorted(windows), 9, "optimal", 1000.0)
    text = (b"a" * 600 + b"b" * 255) * 2 + b"a"  # 1,001 windows' cost a byte, but for the runs of b
    monkeypatch.setattr(parse, "COMPILED_FROM", NEVER)
    plain = parse.encode(codebook, text)
    monkeypatch.setattr(parse, "COMPILED_FROM", 1)
    assert np.array_equal(parse.encode(codebook, text), plain)


def test_compiled_code_gives_what_the_definition_gives_for_every_kind_of_codebook(
    codebooks: list[Codebook], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = mixed(300)
    ends = [0, 0, 17, 1000, 1000, len(text)]
    monkeypatch.setattr(parse, "COMPILED_FROM", NEVER)
    plain = [parse.encode(codebook, text, ends) for codebook in codebooks]
    monkeypatch.setattr(parse, "COMPILED_FROM", 1)
    for codebook, codewords in zip(codebooks, plain, strict=True):
        assert np.array_equal(parse.encode(codebook, text, ends), codewords)
        assert parse.decode(codebook, codewords) == text


@pytest.mark.parametrize("penalty", [0.0, 1.0, 1000.0])
def test_compiled_code_cuts_at_the_edges_of_its_blocks_as_anywhere(
    penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eqinfo.codebook.kernels.parse import BLOCK

    runs = {b"a" * n for n in range(2, MAX_WINDOW_BYTES + 1)}  # as many windows from a place as there can be
    codebook = Codebook(sorted({b""} | {bytes([b]) for b in range(256)} | runs), 9, "optimal", penalty)
    text = (b"a" * (int(BLOCK) + 7) + b" b") * 4
    for size in (1, 255, 256, 511, 512, 513, 767, 1024, len(text)):
        with monkeypatch.context() as patch:
            patch.setattr(parse, "COMPILED_FROM", NEVER)
            plain = parse.encode(codebook, text[:size], [size // 3])
            patch.setattr(parse, "COMPILED_FROM", 1)
            assert np.array_equal(parse.encode(codebook, text[:size], [size // 3]), plain)


@given(ends_and_texts)
def test_any_bytes_come_back(codebook: Codebook, text_and_ends: tuple[bytes, list[int]]) -> None:
    text, ends = text_and_ends
    codewords = parse.encode(codebook, text, ends)
    assert parse.decode(codebook, codewords) == text
    assert np.count_nonzero(codewords == 0) == len(ends)


@given(ends_and_texts)
def test_documents_are_cut_as_if_alone(codebook: Codebook, text_and_ends: tuple[bytes, list[int]]) -> None:
    text, ends = text_and_ends
    want: list[int] = []
    for start, end in zip([0, *ends], ends, strict=False):
        want += [*parse.encode(codebook, text[start:end]).tolist(), 0]
    want += parse.encode(codebook, text[ends[-1] if ends else 0 :]).tolist()
    assert parse.encode(codebook, text, ends).tolist() == want


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
@pytest.mark.parametrize("compiled_from", [1, NEVER])
def test_every_bytes_like_type_will_do(
    codebook: Codebook, kind: type[bytes], compiled_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parse, "COMPILED_FROM", compiled_from)
    text = prose(30)
    assert np.array_equal(parse.encode(codebook, kind(text)), parse.encode(codebook, text))


def test_the_prose_of_the_codebook_is_cut_into_long_windows(codebook: Codebook) -> None:
    text = prose(2000, seed=3)
    optimal = parse.encode(codebook, text).size
    greedy = parse.encode(make_codebook(12, "greedy"), text).size
    assert optimal <= greedy <= len(text) / 3


@pytest.mark.parametrize("compiled_from", [1, NEVER])
def test_a_codeword_without_a_window_is_an_error(
    codebook: Codebook, compiled_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parse, "COMPILED_FROM", compiled_from)
    with pytest.raises(IndexError):
        parse.decode(codebook, np.array([1, len(codebook.windows)], np.uint32))


@pytest.mark.parametrize("compiled_from", [1, NEVER])
def test_nothing_is_cut_into_nothing(
    codebook: Codebook, compiled_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parse, "COMPILED_FROM", compiled_from)
    assert parse.encode(codebook, b"").size == 0
    assert parse.decode(codebook, np.array([], np.uint32)) == b""
    assert parse.encode(codebook, b"", [0, 0]).tolist() == [0, 0]


def test_runs_of_a_byte_the_size_of_a_frame_are_cut_at_once(codebooks: list[Codebook]) -> None:
    text = b"\0" * (1 << 20)
    for codebook in codebooks[:4]:
        assert parse.decode(codebook, parse.encode(codebook, text)) == text


def test_what_was_cut_before_decides_how_not_what(
    codebook: Codebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parse, "_work", 0)
    texts = [b"", b"x", prose(200), b""]
    want = [parse.encode(codebook, text).tolist() for text in texts]
    monkeypatch.setattr(parse, "_work", parse.COMPILED_FROM)
    assert [parse.encode(codebook, text).tolist() for text in texts] == want
    assert [parse.decode(codebook, np.array(ids, np.uint32)) for ids in want] == texts
