"""The paper's rule at any width: round trips, and what makes a window."""

import random

import pytest
from conftest import mixed, prose
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_network

from eqinfo import coder, live, published
from eqinfo.network import BOS

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
    payload = published.published_encode(NETWORK, text, ends, bits, carry)
    assert published.published_decode(NETWORK, payload, bits, len(text), carry) == (text, ends)


def test_a_window_cannot_be_longer() -> None:
    bits, text, at = 32, prose(60), 0
    payload = published.published_encode(NETWORK, text, [], bits)
    for i in range(0, len(payload) - 4, 4):
        window, _ = decoded(payload[i : i + 4], bits)
        low, width, reader = 0, 1 << bits + published.SPARE_BITS, live.Reader(NETWORK)
        symbol = BOS
        for byte in window:
            table = coder.quantise(reader.read(symbol)[None].clip(1))
            symbol = byte
        assert table.sum() == coder.TOTAL
        assert text[at:].startswith(window)
        at += len(window)
    assert 0 <= low < width


def decoded(window: bytes, bits: int) -> tuple[bytes, list[int]]:
    """The longest text of a window."""
    for length in range(99, 0, -1):
        try:
            return published.published_decode(NETWORK, window, bits, length)
        except ValueError:
            continue
    raise AssertionError


def test_our_rule_needs_fewer_windows() -> None:
    text = prose(200)
    for bits in (24, 32, 64):
        ours = live.encode_windows(NETWORK, text, [], bits)
        assert len(ours) < len(published.published_encode(NETWORK, text, [], bits))


@pytest.mark.parametrize("bits", [24, 128])
def test_hostile_windows_give_a_result_or_a_value_error(bits: int) -> None:
    rng, text = random.Random(bits), prose(20)
    good = published.published_encode(NETWORK, text, [9, 9], bits)
    payloads = [rng.randbytes(48) for _ in range(5)] + [good[:n] for n in range(0, len(good), 16)]
    for _ in range(5):
        at = rng.randrange(len(good))
        payloads.append(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
    for payload in payloads:
        try:
            found, ends = published.published_decode(NETWORK, payload, bits, len(text))
        except ValueError:
            continue
        assert len(found) == len(text)
        assert ends == sorted(ends)
