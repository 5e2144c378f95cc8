"""Live windows and plain arithmetic codes: shares, loops against the definition, and hostile payloads."""

import math
import random
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest
from helpers.networks import random_network
from helpers.texts import mixed, prose
from hypothesis import given, settings
from hypothesis import strategies as st

from eqinfo.coder import arithmetic_coding, live_windows, reference
from eqinfo.coder.integer_m1 import BOS, EXP_STEPS, M1_TOTAL, N_BYTES, Network
from eqinfo.coder.kernels import live_windows as kernels
from eqinfo.coder.kernels import m1_step, range_coder, shares
from eqinfo.text.frames import Frame, pieces_of_frames

plain_encode = partial(arithmetic_coding.encode, mixer_version=0)
plain_decode = partial(arithmetic_coding.decode, mixer_version=0)

BITS = [24, 32, 48, 64, 128]
TEXTS = {
    "prose": prose(60),
    "mixed": mixed(20)[:700],
    "noise": random.Random(1).randbytes(300),
    "runs": b"\0" * 300 + b"\xff" * 300 + b" " * 300,
    "one byte": b"\xff",
    "empty": b"",
}


@cache
def network() -> Network:
    return random_network()


@cache
def uniform() -> Network:
    """All bytes equally likely, always."""
    some = random_network(0, 0)
    return some._replace(head=some.head * np.int8(0), head_bias=some.head_bias * 0)


@cache
def skewed(byte: int) -> Network:
    """Nearly all for one byte."""
    bias = np.zeros(N_BYTES, np.int32)
    bias[byte] = 30 * EXP_STEPS
    return uniform()._replace(head_bias=bias)


def document_ends(text: bytes, rng: random.Random) -> list[int]:
    """Some ends, with empty documents at both ends and inside."""
    return sorted([*rng.choices(range(len(text) + 1), k=2)] * rng.randrange(3) + [0, len(text)])


def table(seed: int) -> list[int]:
    """Frequencies, each at least 1, that add up to M1_TOTAL: some equal, some large."""
    weights = np.random.default_rng(seed).choice([0, 1, 2, 3, 1000], N_BYTES).astype(np.int64) + (
        seed % 7 == 0
    )
    weights[seed % N_BYTES] += 1 << seed % 20
    found = 1 + weights * (M1_TOTAL - N_BYTES) // weights.sum()
    found[seed % 3] += M1_TOTAL - found.sum()
    return found.tolist()


def exact_shares(frequencies: list[int], rest: int, is_start: bool) -> list[int]:
    """Largest remainders with fractions."""
    least = int(is_start)
    exact = [Fraction((rest - least * N_BYTES) * f, M1_TOTAL) for f in frequencies]
    found = [math.floor(share) for share in exact]
    order = sorted(range(N_BYTES), key=lambda i: (found[i] - exact[i], i))
    for i in order[: rest - least * N_BYTES - sum(found)]:
        found[i] += 1
    return [least + share for share in found]


@given(st.integers(0, 1 << 32), st.integers(0, 128), st.floats(0, 1), st.booleans())
def test_shares_are_those_of_the_largest_remainders_and_add_up(
    seed: int, bits: int, part: float, is_start: bool
) -> None:
    frequencies = table(seed)
    rest = min(int(part * 2**bits) + N_BYTES * is_start, (1 << 128) - 1)
    found = reference.shares(frequencies, rest, is_start)
    assert found == exact_shares(frequencies, rest, is_start)
    assert sum(found) == rest
    assert min(found) >= is_start
    assert compiled_shares(frequencies, rest, is_start) == found


def compiled_shares(frequencies: list[int], rest: int, is_start: bool) -> list[int]:
    node = kernels.new_work(network()).node
    wide = np.uint64(rest >> 64), np.uint64(rest & (1 << 64) - 1)
    quotient = tuple(map(np.uint64, shares.divide(np.array(frequencies), wide, is_start, node)))
    starts = [shares.start_of(node, quotient, byte) for byte in range(N_BYTES + 1)]
    exact = [high << 64 | low for high, low in starts]
    return [after - before for before, after in pairwise(exact)]


def test_equal_remainders_go_to_the_lower_bytes() -> None:
    assert reference.shares([M1_TOTAL // N_BYTES] * N_BYTES, 3, False) == [1, 1, 1] + [0] * 253


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", TEXTS)
def test_compiled_windows_are_those_of_the_definition(name: str, bits: int, carry: bool) -> None:
    text = TEXTS[name]
    ends = document_ends(text, random.Random(bits))
    payload = live_windows.encode_windows(network(), text, ends, bits, carry)
    codewords = reference.encode_plainly(network(), text, ends, bits, carry)
    assert payload == b"".join(codeword.to_bytes(bits // 8, "big") for codeword in codewords)
    assert live_windows.decode_windows(network(), payload, bits, len(text), carry) == (text, ends)
    if bits in (24, 128):
        assert reference.decode_plainly(network(), codewords, bits, carry) == (text, ends)


@settings(max_examples=60)
@given(
    st.binary(max_size=200) | st.sampled_from(list(TEXTS.values())),
    st.randoms(use_true_random=False),
    st.sampled_from(live_windows.WINDOW_BITS),
    st.booleans(),
    st.integers(0, 3),
)
def test_any_bytes_come_back(text: bytes, rng: random.Random, bits: int, carry: bool, which: int) -> None:
    ends = document_ends(text, rng)[rng.randrange(2) :][: rng.randrange(9)]
    chosen = [network(), uniform(), skewed(0), skewed(255)][which]
    payload = live_windows.encode_windows(chosen, text, ends, bits, carry)
    assert live_windows.decode_windows(chosen, payload, bits, len(text), carry) == (text, ends)
    payload = plain_encode(chosen, text, ends)
    assert plain_decode(chosen, payload, len(text), len(ends)) == (text, ends)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda text: np.frombuffer(text, np.uint8)])
def test_text_may_be_any_buffer(kind: type) -> None:
    text = TEXTS["prose"]
    assert live_windows.encode_windows(network(), kind(text), [], 24) == live_windows.encode_windows(
        network(), text, [], 24
    )
    assert plain_encode(network(), kind(text), []) == plain_encode(network(), text, [])


def test_a_tiny_example_by_hand() -> None:
    # 2**24 codewords: 1 to stop, 2**16 for each byte but the last, which has one less; and so on below
    assert live_windows.encode_windows(uniform(), b"abc", [], 24) == (0x616263 + 3).to_bytes(3, "big")
    # of the 255 codewords after ff ff, 1 stops and 254 are left: none for a third ff
    assert live_windows.encode_windows(uniform(), b"\xff\xff\xff", [], 24) == bytes.fromhex(
        "ffff01 ff0001".replace(" ", "")
    )
    assert live_windows.encode_windows(uniform(), b"", [0], 24) == bytes(3)


@pytest.mark.parametrize("bits", [24, 64])
def test_a_window_fills_its_bits(bits: int) -> None:
    text, at = TEXTS["prose"] + TEXTS["noise"], 0
    for codeword in reference.encode_plainly(network(), text, [], bits):
        window, _ = reference.decode_plainly(network(), [codeword], bits)
        reader, width = reference.Reader(network()), 1 << bits
        table = reader.read(BOS).tolist()
        for i, byte in enumerate(window):
            width = reference.shares(table, width - 1, i == 0)[byte]
            table = reader.read(byte).tolist()
        at += len(window)
        assert at == len(text) or reference.shares(table, width - 1, False)[text[at]] == 0
    assert at == len(text)


def test_windows_do_not_depend_on_what_came_before_them() -> None:
    text = TEXTS["prose"]
    for bits in BITS:
        payload, size = live_windows.encode_windows(network(), text, [], bits), bits // 8
        windows = [
            reference.decode_plainly(network(), [int.from_bytes(payload[i : i + size], "big")], bits)[0]
            for i in range(0, len(payload), size)
        ]
        assert b"".join(windows) == text


def test_carry_changes_codewords_within_a_document_only() -> None:
    text = TEXTS["prose"]
    fresh, carried = (live_windows.encode_windows(network(), text, [], 32, carry) for carry in (False, True))
    assert fresh[:4] == carried[:4]
    assert fresh != carried
    twice = live_windows.encode_windows(network(), text * 2, [len(text)], 32, True)
    assert twice == carried + bytes(4) + carried


@pytest.mark.parametrize("bits", [24, 48, 64, 72, 128])
def test_packing_is_big_endian(bits: int) -> None:
    numbers = [random.Random(bits).getrandbits(bits) for _ in range(20)] + [0, (1 << bits) - 1]
    packed = b"".join(number.to_bytes(bits // 8, "big") for number in numbers)
    limbs = live_windows.from_big_endian(packed, bits)
    assert [int(high) << 64 | int(low) for high, low in limbs] == numbers
    assert live_windows.to_big_endian(limbs, bits) == packed


@pytest.mark.parametrize("bits", [24, 64, 128])
@pytest.mark.parametrize("carry", [False, True])
def test_hostile_windows_give_a_result_or_a_value_error(bits: int, carry: bool) -> None:
    rng, text = random.Random(bits), TEXTS["prose"]
    good = live_windows.encode_windows(network(), text, [9, 9], bits, carry)
    payloads = [rng.randbytes(rng.randrange(100)) for _ in range(20)]
    payloads += [good[:n] for n in range(0, len(good), 7)] + [good + bytes(n) for n in (1, bits // 8)]
    for _ in range(20):
        at = rng.randrange(len(good))
        payloads.append(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
    payloads += [b"\xff" * 16 * bits, bytes(16 * bits)]
    for payload in payloads:
        for length in (0, 1, len(text), 4000):
            try:
                found, ends = live_windows.decode_windows(network(), payload, bits, length, carry)
            except ValueError:
                continue
            assert len(found) == length
            assert all(0 <= end <= length for end in ends)
            assert ends == sorted(ends)


@pytest.mark.parametrize("wrong", [-1, 1])
def test_windows_of_another_length_are_refused(wrong: int) -> None:
    payload = live_windows.encode_windows(network(), TEXTS["prose"], [], 24)
    with pytest.raises(ValueError, match="bytes of text than there should be"):
        live_windows.decode_windows(network(), payload, 24, len(TEXTS["prose"]) + wrong)


def test_part_of_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of windows"):
        live_windows.decode_windows(network(), bytes(7), 24, 0)


@pytest.mark.parametrize("name", TEXTS)
def test_plain_arithmetic_coding_has_the_size_that_m1_says(name: str) -> None:
    text = TEXTS[name]
    ends = document_ends(text, random.Random(3))
    payload = plain_encode(network(), text, ends)
    assert plain_decode(network(), payload, len(text), len(ends)) == (text, ends)
    reader, bits = reference.Reader(network()), math.log2(M1_TOTAL + 1) * len(ends)
    for document, _ in pieces_of_frames([Frame(text, ends)]):
        table = reader.read(BOS)
        for byte in document:
            bits += math.log2((M1_TOTAL + 1) / int(table[byte]))
            table = reader.read(byte)
    assert bits / 8 - 1 <= len(payload) <= bits / 8 * 1.005 + 8


def coder_symbols(rng: random.Random, n: int) -> list[tuple[int, int]]:
    """Starts and frequencies that keep a coder's interval around a half, so that carries travel far."""
    low, width, half = 0, (1 << 64) - 1, 1 << 63
    symbols = []
    for _ in range(n):
        part = width // (M1_TOTAL + 1)
        below = (half - low) // part  # the symbol has this frequency in it
        start = max(0, min(below - rng.choice([0, 1, 7, 1000]), M1_TOTAL))
        symbols.append((start, min(rng.choice([1, 2, 9, 2000]) + below - start, M1_TOTAL + 1 - start)))
        low, width = low + part * start, part * symbols[-1][1]
        if not low <= half < low + width:
            half = low + width // 2
        while width < 1 << 56:
            low, width, half = low << 8, width << 8, half << 8
    return symbols


def encode_symbol(
    out: np.ndarray, n_out: int, low: int, width: int, start: int, frequency: int
) -> tuple[int, int, int]:
    limbs = np.uint64(low), np.uint64(width)  # a plain int would be an int64
    return range_coder.encode_symbol(out, n_out, *limbs, start, frequency)


@pytest.mark.parametrize("seed", range(40))
def test_the_range_coder_ends_in_the_exact_interval_with_the_fewest_bytes(seed: int) -> None:
    rng = random.Random(seed)
    symbols = coder_symbols(rng, 60)[: rng.randrange(61)]
    for _ in range(rng.randrange(20)):
        start = rng.choice([0, rng.randrange(M1_TOTAL), M1_TOTAL])
        symbols.append((start, rng.choice([1, M1_TOTAL + 1 - start])))
    exact_low, exact_width, n_out = 0, (1 << 64) - 1, 0  # in units of 256**-(n_out + 8); nothing is carried
    out, n, low, width = np.zeros(999, np.uint8), 0, 0, (1 << 64) - 1
    for start, frequency in symbols:
        part = exact_width // (M1_TOTAL + 1)
        exact_low, exact_width = exact_low + part * start, part * frequency
        while exact_width < 1 << 56:
            exact_low, exact_width, n_out = exact_low << 8, exact_width << 8, n_out + 1
        n, low, width = encode_symbol(out, n, low, width, start, frequency)
        assert n == n_out
        assert int.from_bytes(out[:n].tobytes(), "big") << 64 | low == exact_low
        assert width == exact_width
    value, n_last = range_coder.last_bytes(np.uint64(low), np.uint64(width))
    found = exact_low - low + value + ((value < low) << 64)
    assert exact_low <= found < exact_low + exact_width
    assert found % (1 << 8 * (8 - n_last)) == 0
    if n_last:  # what one byte less can say is not inside
        unit = 1 << 8 * (9 - n_last)
        assert -(-exact_low // unit) * unit >= exact_low + exact_width


def test_carries_travel_over_many_bytes() -> None:
    full, out = (1 << 64) - 1, np.zeros(9, np.uint8)
    out[:5] = 7, 255, 255, 255, 255
    encode_symbol(out, 5, full, full, M1_TOTAL // 2, M1_TOTAL // 2)
    assert out[:5].tolist() == [8, 0, 0, 0, 0]


@pytest.mark.parametrize("byte", [0, 128, 255])
def test_plain_arithmetic_coding_of_what_is_certain_and_of_what_is_not(byte: int) -> None:
    rng = random.Random(byte)
    for _ in range(50):
        text = bytes(rng.choices([0, 127, 128, 129, 255, byte], [1, 1, 1, 1, 1, 200], k=rng.randrange(400)))
        payload = plain_encode(skewed(byte), text, [len(text)])
        assert plain_decode(skewed(byte), payload, len(text), 1) == (text, [len(text)])
        with pytest.raises(ValueError, match="not the code"):
            plain_decode(skewed(byte), payload + b"\0", len(text), 1)


@pytest.mark.parametrize("n_documents", [0, 2, 50])
def test_hostile_arithmetic_codes_give_a_result_or_a_value_error(n_documents: int) -> None:
    rng, text = random.Random(4), TEXTS["prose"]
    good = plain_encode(network(), text, [9, 9])
    payloads = [rng.randbytes(rng.randrange(100)) for _ in range(20)]
    payloads += [good[:n] for n in range(0, len(good), 7)] + [bytes(300), b"\xff" * 300]
    for _ in range(20):
        at = rng.randrange(len(good))
        payloads.append(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
    for payload in payloads:
        for length in (0, len(text), 1 << 30):
            try:
                found, ends = plain_decode(network(), payload, length, n_documents)
            except ValueError:
                continue
            assert len(found) == length
            assert ends == sorted(ends)
            assert len(ends) == n_documents


def test_arithmetic_codes_of_other_texts_are_refused() -> None:
    text = TEXTS["prose"]
    payload = plain_encode(network(), text, [len(text)])
    n = len(text)
    for wrong, length, n_documents in [
        (payload + bytes(9), n, 1),
        (payload[:-12], n, 1),
        (payload, n, 0),
        (payload, n - 1, 1),
        (payload, n, 1 << 60),
        (b"", n, 0),
    ]:
        with pytest.raises(ValueError, match="not the code"):
            plain_decode(network(), wrong, length, n_documents)


def test_two_threads_do_not_disturb_each_other() -> None:
    texts = [TEXTS["mixed"] * 3, TEXTS["prose"] * 3] * 4
    coders = [
        lambda text: live_windows.encode_windows(network(), text, [5], 24),
        lambda text: live_windows.encode_windows(network(), text, [5], 128, True),
        lambda text: plain_encode(network(), text, [5]),
    ]
    for code in coders:
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(code, texts)) == [code(text) for text in texts]


def test_the_prefix_cache_changes_nothing() -> None:
    rng, symbols = random.Random(5), list[int]()
    for _ in range(400):
        symbols += [
            BOS,
            *rng.choices(b"abc", k=rng.randrange(6)),
            *rng.choices(range(256), k=rng.randrange(2)),
        ]
    work, state, key = kernels.new_work(network()), m1_step.new_state(network()), 0
    for symbol in symbols:
        key = kernels.read(network(), work, key, symbol)
        m1_step.step(network(), state, symbol)
        assert np.array_equal(work.state.frequencies, state.frequencies)
        assert np.array_equal(work.state.states, state.states)
        assert np.array_equal(work.state.history, state.history)
