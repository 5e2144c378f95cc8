"""Trains and evaluates an M2 that knows which tokens of BPE no text has side by side.

    python examples/benchmarks/knowing_bpe.py FOLDER train-m2 FOLDER/train.bin -o run ...

M2 knows that of eqinfo's windows (`codebook/pairs`). For a fair comparison this command tells it the same of
BPE's tokens. FOLDER is that of a vocabulary of `compare_tokenisers.py`; the pairs are found once and kept in
it. The rest of the line is a command of eqinfo.

BPE has two tokens side by side unless the pre-tokeniser divides their bytes elsewhere, or a merge across the
place where they meet comes before those that make them. Pairs that the training tokens have are possible too.
"""

import json
import sys
from pathlib import Path

import numba
import numpy as np
import peers
from tokenizers import Tokenizer

from eqinfo import __main__
from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.pairs import Pairs
from eqinfo.formats.model_folder import CODEBOOK_NAME
from eqinfo.m2 import run, start

POSSIBLE, MERGED, IMPOSSIBLE = (
    0,
    1,
    2,
)  # of two tokens: divided where they meet, not divided, divided elsewhere


def outline(token: bytes, first: bool) -> str | None:
    """What the pre-tokeniser sees of a token: its kinds of characters; None if it is no text."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return None
    if "'" in text or text.isspace():
        return text
    space, text = (" ", text[1:]) if text[0] == " " else ("", text)
    if not first and text[0].isascii() and text[0].isalpha():
        return space + text[:3]  # may end a contraction
    return space + ("a" if text[0].isalpha() else "1" if text[0].isnumeric() else ".")


def divisions(tokenizer: Tokenizer, lefts: list[str | None], rights: list[str | None]) -> np.ndarray:
    """What the pre-tokeniser makes of each two outlines, (lefts, rights)."""
    found = np.full((len(lefts), len(rights)), POSSIBLE, np.int8)
    for i, left in enumerate(lefts):
        for j, right in enumerate(rights):
            if left is not None and right is not None:
                ends = [end for _, (_, end) in tokenizer.pre_tokenizer.pre_tokenize_str(left + right)]
                if len(left) not in ends:
                    found[i, j] = MERGED if len(ends) == 1 else IMPOSSIBLE
    return found


@numba.njit
def are_merged(one, two, halves, keys, merged):
    """Whether BPE merges across the place where two tokens meet, before it has made both."""
    limit = len(halves)  # merges of this number and more come later
    while True:
        key = one * len(halves) + two
        at = np.searchsorted(keys, key)
        if at < keys.size and keys[at] == key and merged[at] < limit:
            return True
        if one <= two:  # undo the later merge
            limit, two = two + 1, halves[two, 0]
            if two + 1 != limit:
                continue
        limit, one = one, halves[one, 1]
        if one == limit:  # a byte
            limit, two = two + 1, halves[two, 0]
            if two + 1 == limit:
                return False


@numba.njit
def find_pairs(outlines, division, halves, keys, merged, seen, ranks):
    """The impossible pairs by codeword: where each list begins, and all lists.

    Args:
        outlines: of each token, as the first and as the second, (2, n); tokens are in the order of merges.
        division: what the pre-tokeniser makes of two outlines.
        halves: the two tokens that each is merged from, (n, 2); itself twice for a byte.
        keys: ascending, one * n + two for each merge of two tokens.
        merged: the token of each key.
        seen: ascending, first * (n + 1) + second for each pair of codewords in text.
        ranks: the codeword of each token.
    """
    n = len(halves)
    by_rank = np.empty(n + 1, np.int64)
    for token in range(n):
        by_rank[ranks[token]] = token
    starts, found = np.zeros(n + 2, np.int64), [np.uint32(0)]
    for first in range(1, n + 1):
        for second in range(1, n + 1):
            one, two = by_rank[first], by_rank[second]
            kind = division[outlines[0, one], outlines[1, two]]
            if kind == IMPOSSIBLE or (kind == MERGED and are_merged(one, two, halves, keys, merged)):
                key = first * (n + 1) + second
                at = np.searchsorted(seen, key)
                if at == seen.size or seen[at] != key:
                    found.append(np.uint32(second))
        starts[first + 1] = len(found) - 1
    return starts, np.array(found[1:])


def impossible_pairs(folder: Path) -> Pairs:
    """The pairs of a vocabulary, from its folder if they are there."""
    path = folder / "pairs.npz"
    if not path.exists():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        codebook, tokens = Codebook.load(folder / CODEBOOK_NAME), peers.token_bytes(tokenizer)
        model, n = json.loads(tokenizer.to_str())["model"], len(tokens)
        number, halves = model["vocab"], np.repeat(np.arange(n), 2).reshape(n, 2)
        for one, two in model["merges"]:
            halves[number[one + two]] = number[one], number[two]
        keys = halves[:, 0] * n + halves[:, 1]
        keys[halves[:, 0] == np.arange(n)] = -1
        order = np.argsort(keys)
        seen_as = [[outline(token, first) for token in tokens] for first in (True, False)]
        kinds = [sorted(set(each), key=str) for each in seen_as]
        outlines = np.array(
            [list(map(known.index, each)) for known, each in zip(kinds, seen_as, strict=True)]
        )
        ids = np.fromfile(folder / "train.bin", "<u2").astype(np.int64)
        seen = np.unique(ids[:-1] * (n + 1) + ids[1:])
        ranks = np.array([codebook.codewords[token] for token in tokens])
        division = divisions(tokenizer, *kinds)
        starts, seconds = find_pairs(outlines, division, halves, keys[order], order, seen, ranks)
        np.savez(path, starts=starts, seconds=seconds)
    kept = np.load(path)
    return Pairs(kept["starts"], kept["seconds"])


if __name__ == "__main__":
    pairs = impossible_pairs(Path(sys.argv.pop(1)))
    run.impossible_pairs = start.impossible_pairs = lambda codebook: pairs
    __main__.main()
