"""The paper's rule at any width: round trips, and what makes a window."""

import random

import numpy as np
import pytest
from helpers.networks import random_network
from helpers.texts import mixed, prose
from hypothesis import given, settings
from hypothesis import strategies as st

from eqinfo.coder import intervals, live_windows, paper, reference
from eqinfo.coder.integer_m1 import BOS

NETWORK = random_network()


@settings(max_examples=40)
@given(
    st.binary(max_size=60) | st.sampled_from([prose(20), mixed(5)[:200], b"\0" * 90, b"e" * 90]),
    st.randoms(use_true_random=False),
    st.sampled_from([24, 32, 40, 64, 128]),
    st.booleans(),
)
def test_any_bytes_come_back(text: bytes, rng: random.Random, bits: int, carry: bool) -> None:
    ends = sorted(rng.choices(range(len(text) + 1), k=rng.randrange(4)))
    payload = paper.encode_windows(NETWORK, text, ends, bits, carry)
    assert paper.decode_windows(NETWORK, payload, bits, len(text), carry) == (text, ends)


def cells(low: int, width: int) -> range:
    return range(-(-low >> paper.SPARE_BITS), low + width >> paper.SPARE_BITS)


def longest_window(text: bytes, bits: int) -> tuple[bytes, int]:
    """The longest window a long text begins with, and its first codeword, looking at all symbols."""
    reader, symbol, low, width = reference.Reader(NETWORK), BOS, 0, 1 << bits + paper.SPARE_BITS
    best = (b"", 0)
    for i, byte in enumerate(text):
        table = [0, *reader.read(symbol).tolist()]
        frequencies = intervals.paper_frequencies(np.array([table]))[0].tolist()
        assert frequencies[0] == 1
        children = [
            intervals.narrow(low, width, sum(frequencies[:k]), frequency, intervals.PAPER_TOTAL)
            for k, frequency in enumerate(frequencies)
        ]
        own = cells(low, width).start
        for child in children:  # in order: a cell is a symbol's or comes before the next one's
            if own in cells(*child):
                own = cells(*child).stop
        if i and own in cells(low, width):
            best = text[:i], own
        low, width = children[byte + 1]
        symbol = byte
        if not cells(low, width):
            break
    return best


@pytest.mark.parametrize("bits", [24, 32])
def test_windows_are_the_longest_and_codewords_the_first(bits: int) -> None:
    text = prose(40)
    payload, at = paper.encode_windows(NETWORK, text, [], bits), 0
    for i in range(0, 20 * bits // 8, bits // 8):
        window, codeword = longest_window(text[at:], bits)
        assert int.from_bytes(payload[i : i + bits // 8], "big") == codeword
        assert paper.decode_windows(NETWORK, payload[i : i + bits // 8], bits, len(window))[0] == window
        at += len(window)


def test_our_rule_needs_fewer_windows() -> None:
    text = prose(80)
    for bits in (24, 64):
        ours = live_windows.encode_windows(NETWORK, text, [], bits)
        assert len(ours) < len(paper.encode_windows(NETWORK, text, [], bits))


@pytest.mark.parametrize("bits", [24, 128])
def test_hostile_windows_give_a_result_or_a_value_error(bits: int) -> None:
    rng, text = random.Random(bits), prose(20)
    good = paper.encode_windows(NETWORK, text, [9, 9], bits)
    payloads = [rng.randbytes(48) for _ in range(5)] + [good[:n] for n in range(0, len(good), 16)]
    for _ in range(5):
        at = rng.randrange(len(good))
        payloads.append(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
    for payload in payloads:
        try:
            found, ends = paper.decode_windows(NETWORK, payload, bits, len(text))
        except ValueError:
            continue
        assert len(found) == len(text)
        assert ends == sorted(ends)
