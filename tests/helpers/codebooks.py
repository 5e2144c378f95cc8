"""Codebooks that every test can use: small, made by no model."""

from collections import Counter

from helpers.texts import prose

from eqinfo.codebook.codebook import Codebook, Method


def make_codebook(
    window_bits: int, method: Method = "optimal", unaligned_penalty: float = 0.0, n_windows: int | None = None
) -> Codebook:
    """The substrings of some prose that would save most, up to 2**window_bits windows."""
    text = prose(4000, seed=1)
    counts: Counter[bytes] = Counter()
    for length in range(2, 15):
        counts.update(text[i : i + length] for i in range(0, len(text) - length, 1 + length // 4))
    windows = {b""} | {bytes([b]) for b in range(256)}
    best = sorted(counts, key=lambda window: (-counts[window] * (len(window) - 1), window))
    windows |= set(best[: (n_windows or 1 << window_bits) - len(windows)])
    return Codebook(sorted(windows), window_bits, method, unaligned_penalty)


def golden_codebook() -> Codebook:
    """The codebook of the golden values: fixed by what is written here."""
    words = ["to be", " or ", "not ", "that is the ", "question", "ing ", "th", "the ", "é"]
    return Codebook(sorted({b""} | {bytes([b]) for b in range(256)} | {word.encode() for word in words}), 9)
