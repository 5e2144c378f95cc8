"""Codebooks that every test can use: small, made by no model."""

from collections import Counter

from helpers.texts import prose
from hypothesis import strategies as st

from eqinfo.codebook.codebook import PENALTY_UNIT, Codebook, Method

ALPHABET = b"ab ."
penalties = st.sampled_from([0.0, 1 / PENALTY_UNIT, 0.3, 1.0, 2.5, 1000.0])


@st.composite
def small_codebooks(draw: st.DrawFn, method: Method) -> Codebook:
    """All bytes and some windows over ALPHABET, so that short texts can be cut in many ways."""
    windows = draw(
        st.sets(st.lists(st.sampled_from(ALPHABET), min_size=2, max_size=6).map(bytes), max_size=40)
    )
    windows |= {b""} | {bytes([b]) for b in range(256)}
    rarities = b"" if draw(st.booleans()) else draw(st.randoms()).randbytes(len(windows))
    return Codebook(sorted(windows), 9, method, draw(penalties), rarities)


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
