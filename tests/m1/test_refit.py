import threading

import numpy as np
import torch
from helpers.texts import prose

from eqinfo.codebook.codebook import flat
from eqinfo.codebook.kernels.trie import build_trie, count_nodes
from eqinfo.codebook.parse import encode
from eqinfo.m1 import refit as refit_module
from eqinfo.m1.corpus import Text
from eqinfo.m1.expand import Candidates
from eqinfo.m1.refit import count_windows, refit, windows_saved


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


def test_a_refit_knows_how_rare_its_windows_are():
    text = prose(3000)
    codebook = refit(candidates_of(text, 6), [text_of(text)], 10, 0.0, silent)
    uses = np.bincount(encode(codebook, text), minlength=1024)
    frequent, never = int(uses.argmax()), int(np.flatnonzero(uses[1:] == 0)[0]) + 1
    assert len(codebook.rarities) == 1024
    share = uses[frequent] / uses.sum()
    assert abs(codebook.rarities[frequent] + 4 * np.log2(share)) < 2  # up to its last pass, and rounding
    assert codebook.rarities[never] == max(codebook.rarities)


def test_windows_are_counted_over_all_texts():
    strings = sorted({bytes([b]) for b in range(256)} | {b"ab", b"abc"})
    counts = count_windows(strings, [text_of(b"abcab"), text_of(b"xab")], 0.0, silent)
    assert {s: int(n) for s, n in zip(strings, counts, strict=True) if n} == {b"abc": 1, b"ab": 2, b"x": 1}


def test_texts_are_counted_in_as_many_threads_as_torch_has():
    strings, texts = [bytes([b]) for b in range(256)], [text_of(prose(3))] * 8
    before, others = torch.get_num_threads(), set(threading.enumerate())
    found = {}
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            seen = set[threading.Thread]()
            count_windows(strings, texts, 0.0, lambda _, seen=seen: seen.update(threading.enumerate()))
            found[n] = len(seen - others)
    finally:
        torch.set_num_threads(before)
    assert found == {1: 0, 2: 2}


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


def test_pairs_join_only_as_long_as_the_trie_has_room(monkeypatch):
    singles = [bytes([b]) for b in range(256)]
    some = sorted({*singles, *(bytes([a, b]) for a in b"abcdefgh" for b in range(97, 97 + 64))})
    candidates, text = Candidates(some, np.zeros(len(some))), text_of(prose(5000))
    sizes = []
    monkeypatch.setattr(refit_module, "MAX_NODES", len(some) + 40)

    def build(blob, offsets):
        sizes.append(count_nodes(blob, offsets))
        return build_trie(blob, offsets)

    monkeypatch.setattr(refit_module, "build_trie", build)
    codebook = refit(candidates, [text], 9, 0.0, silent)
    assert len(codebook.windows) == 512
    assert len(some) < max(sizes) <= len(some) + 40


def test_nodes_are_the_different_beginnings():
    strings = sorted({b"a", b"ab", b"abcd", b"abce", b"b", b"xyz"})
    beginnings = {string[:n] for string in strings for n in range(1, len(string) + 1)}
    assert count_nodes(*flat(strings)) == len(beginnings)


def test_a_string_saves_the_windows_that_its_best_replacement_takes_more() -> None:
    singles = {bytes([b]) for b in range(256)}
    strings = sorted(singles | {b"ab", b"abc", b"bcd", b"abcd", b"xyz"})
    saved = dict(zip(strings, windows_saved(strings).tolist(), strict=True))
    # abc: ab|c; bcd: b|c|d; abcd: a|bcd or abc|d; xyz: x|y|z
    assert {s: n for s, n in saved.items() if n} == {b"ab": 1, b"abc": 1, b"bcd": 2, b"abcd": 1, b"xyz": 2}


def test_of_equal_uses_the_string_without_a_good_replacement_stays() -> None:
    singles = {bytes([b]) for b in range(256)}
    pairs = {bytes([a, b]) for a in b"efghijklmnop" for b in b"efghijklmnopqrstuvwxyz"}
    # "abcd" saves 3 windows a use, "e" + "f" + "g" only 1, as "ef" is a window
    text = b"abcd efg " * 50 + b"".join(sorted(pairs)) * 60
    few = Candidates(sorted(singles | pairs | {b"abcd", b"efg"}), np.full(256 + len(pairs) + 2, -9.0))
    kept = few.best(
        256 + 1, count_windows(few.strings, [text_of(text)], 0.0, silent) * windows_saved(few.strings)
    )
    assert set(kept.strings) - singles == {b"abcd"}
