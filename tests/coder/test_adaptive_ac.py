"""The adaptive arithmetic code gives every text back, learns from it, and is in integers throughout."""

import math
import threading

import numpy as np
import numpy.typing as npt
import pytest
from helpers.networks import random_network
from hypothesis import given, settings
from hypothesis import strategies as st

from eqinfo.coder import arithmetic_coding
from eqinfo.coder.integer_m1 import BOS, M1_TOTAL
from eqinfo.coder.kernels import context_mixer, mixer_refinement, mixer_state, mixer_tables
from eqinfo.coder.kernels.m1_step import new_state, step

U8 = npt.NDArray[np.uint8]

NETWORK = random_network()
TEXT = (
    "The window ends where the text ends; a text that repeats costs less. Straße, naïve, 世界.\r\n\0".encode()
)


def array(data: bytes) -> U8:
    return np.frombuffer(data, np.uint8).copy()


def encoded(text: bytes, ends: list[int] | None = None, version: int = 2) -> bytes:
    return arithmetic_coding.encode(NETWORK, text, ends or [], version)


def decoded(payload: bytes, n: int, n_documents: int = 0, version: int = 2) -> tuple[bytes, list[int]]:
    return arithmetic_coding.decode(NETWORK, payload, n, n_documents, version)


both_versions = pytest.mark.parametrize("version", [1, 2])


@both_versions
@settings(max_examples=60)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_with_any_document_ends_come_back(version: int, text: bytes, at: list[int]) -> None:
    ends = sorted(min(end, len(text)) for end in at)
    assert decoded(encoded(text, ends, version), len(text), len(ends), version) == (text, ends)


@both_versions
@pytest.mark.parametrize(
    "text",
    [b"", b"\0", b"\xff" * 3000, b"ab" * 2000, TEXT * 9, bytes(range(256)) * 5, b"a,b\n\n" * 700],
    ids=len,
)
def test_runs_repeats_and_every_byte_come_back(text: bytes, version: int) -> None:
    assert decoded(encoded(text, None, version), len(text), 0, version) == (text, [])


def test_empty_documents_at_the_very_end_come_back() -> None:
    n = len(TEXT)
    for ends in ([0], [n], [0, 0, 7, n, n, n]):
        assert decoded(encoded(TEXT, ends), n, len(ends)) == (TEXT, ends)
    assert decoded(encoded(b"", [0, 0]), 0, 2) == (b"", [0, 0])


def test_noise_costs_little_more_than_itself() -> None:
    noise = np.random.default_rng(3).integers(0, 256, 4000).astype(np.uint8).tobytes()
    payload = encoded(noise)
    assert decoded(payload, len(noise)) == (noise, [])
    assert len(payload) < 1.5 * len(noise)  # the random network alone expects something else altogether


def test_the_second_time_costs_far_less() -> None:
    text = np.random.default_rng(5).integers(97, 123, 2000).astype(np.uint8).tobytes()
    once, twice = len(encoded(text)), len(encoded(text + text))
    assert twice - once < 0.05 * once


def test_tables_outlive_the_end_of_a_document() -> None:
    n = len(TEXT)
    once, twice = len(encoded(TEXT, [n])), len(encoded(TEXT * 2, [n, 2 * n]))
    assert twice - once < 0.4 * once


@both_versions
@pytest.mark.parametrize("n", [1, 8, 20, 60, len(TEXT)])
def test_short_texts_cost_hardly_more_than_m1_alone(n: int, version: int) -> None:
    alone = arithmetic_coding.encode(NETWORK, TEXT[:n], [], mixer_version=0)
    assert len(encoded(TEXT[:n], None, version)) <= 1.01 * len(alone) + 1


@pytest.mark.parametrize(("version", "most_off"), [(1, 0), (2, M1_TOTAL // 200)])
def test_the_first_bit_is_m1s(version: int, most_off: int) -> None:
    """With nothing known all inputs but M1's are 0, and its weight is 1: p is M1's but for rounding.

    The curves of version 2 are straight between their points, where the logistic function bends.
    """
    state, mixer = new_state(NETWORK), mixer_state.new_mixer(10, version)
    step(NETWORK, state, BOS)
    context_mixer.begin_byte(mixer, state.frequencies, array(b""))
    ones = int(state.frequencies[128:].sum())
    assert abs(context_mixer.predict(mixer, 1) - ones) <= 16 + M1_TOTAL // 1024 + most_off
    assert abs(mixer.mixed[0] - ones) <= 16 + M1_TOTAL // 1024
    assert list(np.flatnonzero(mixer.inputs)) in ([mixer_state.M1], [])


@both_versions
def test_a_slot_by_hand(version: int) -> None:
    """A 1 after nothing: 1/2 moves 2/3 of the way to 1, and the history is 1 (its start) and then 1."""
    state, mixer = new_state(NETWORK), mixer_state.new_mixer(10, version)
    step(NETWORK, state, BOS)
    context_mixer.begin_byte(mixer, state.frequencies, array(b""))
    before = context_mixer.predict(mixer, 1)
    bits = {1: 20, 2: 22}[version]
    gradient = int(mixer.inputs[mixer_state.M1]) * (M1_TOTAL - int(mixer.mixed[0]) >> 4) * 16
    change = (gradient + (1 << bits - 1)) >> bits
    context_mixer.update(mixer, 1, 1, 16)
    for k in range(mixer_state.N_CONTEXTS[version]):
        entry = int(mixer.slots[k, mixer.at[k]])
        assert entry >> 16 == 32768 + (32767 * (131072 // 3) >> 16) == 54612
        assert entry & 255 == 0b11
        assert mixer.histories[k, 1] == 32768 + (32767 >> context_mixer.HISTORY_SHIFTS[version])
    assert mixer.node_weights[1, mixer_state.M1] == mixer.byte_weights[0, mixer_state.M1] == change
    foreseen = mixer.foresight_weights[mixer.mixed[1], mixer_state.M1]
    if version == 1:
        assert (mixer.weights[mixer_state.M1, 0], foreseen) == (65536 + change, 0)
    else:  # `weights` move by half
        assert (mixer.weights[mixer_state.M1, 0], foreseen) == (
            65536 + (gradient + (1 << bits) >> bits + 1),
            change,
        )
    assert context_mixer.predict(mixer, 1) > before


def test_a_curve_by_hand() -> None:
    """The curves begin as no change; the point nearest to the logit moves 1/32 of the way to the bit."""
    mixer = mixer_state.new_mixer(10, 2)
    logit = 2 * 256 - mixer_tables.MAX_LOGIT + 64  # a quarter of the way from point 2 to point 3
    mixer.mixed[0] = mixer.squash[logit + mixer_tables.MAX_LOGIT]
    low, high = (int(mixer.squash[256 * point]) >> 4 for point in (2, 3))
    between = (low * 192 + high * 64 >> 8) << 4
    assert mixer_refinement.refined(mixer, logit, 1) == max((2 * int(mixer.mixed[0]) + 2 * between) >> 2, 16)
    first = mixer.curves.copy()
    mixer_refinement.learn(mixer, 1)
    changed = np.argwhere(mixer.curves != first)
    assert changed.tolist() == [[k, mixer.points[k], 2] for k in range(2)]
    assert {int(mixer.curves[tuple(place)]) for place in changed} == {low + (65535 - low >> 5)}
    for bit, end in ((0, 0), (1, 65535 - 31)):  # it stays in range, and the probability too
        for _ in range(3000):
            assert 16 <= mixer_refinement.refined(mixer, logit, 1) <= M1_TOTAL - 16
            mixer_refinement.learn(mixer, bit)
        assert mixer.curves[0, mixer.points[0], 2] == end


def test_the_bits_of_half_a_byte_have_slots_of_their_own_side_by_side() -> None:
    state, mixer = new_state(NETWORK), mixer_state.new_mixer(10, 2)
    step(NETWORK, state, BOS)
    context_mixer.begin_byte(mixer, state.frequencies, array(b""))
    for first in (1, 0b1_0110):
        found = []
        for n in range(4):
            for bits in range(1 << n):
                context_mixer.predict(mixer, first << n | bits)
                found.append(mixer.at.copy())
        for slots in np.transpose(found).tolist():
            assert len(set(slots)) == 15
            assert len({slot >> 4 for slot in slots}) == 1
    assert mixer_tables.HALF_NODES[0b1_0110_01] == 0b1_01


def test_the_column_context_sees_the_byte_above() -> None:
    """After two lines alike, the same place of a third has the key of the second, and no line, no byte."""
    keys = {}
    for text in (b"ab,c\nxy", b"ab,c\nzz", b"ab\nxy", b"ab,c\nab,c\nxy"):
        mixer = mixer_state.new_mixer(20, 2)
        for n in range(1, len(text) + 1):
            context_mixer.end_byte(mixer, array(text), n)
        keys[text] = int(context_mixer.column_key(mixer.line, array(text)))
    first, second, short, third = keys.values()
    assert first == second == third == 5 << 40 | ord(",") << 8 | 2
    assert short == 5 << 40 | ord("\n") << 8 | 2


@both_versions
def test_a_history_keeps_seven_bits_and_a_probability_its_range(version: int) -> None:
    state, mixer = new_state(NETWORK), mixer_state.new_mixer(10, version)
    step(NETWORK, state, BOS)
    context_mixer.begin_byte(mixer, state.frequencies, array(b""))
    for bit in [0] * 200 + [1] * 200 + [0, 1] * 50:
        assert 16 <= context_mixer.predict(mixer, 1) <= M1_TOTAL - 16
        context_mixer.update(mixer, 1, bit, 16)
    entries = mixer.slots[np.arange(mixer.at.size), mixer.at].astype(np.int64)
    assert set(entries & 255) == {0b1_1010101 & 127 | 128}
    assert mixer.histories.min() >= 0
    assert mixer.histories.max() < 1 << 16


def test_squash_and_stretch_are_the_logistic_function_and_its_inverse() -> None:
    squash, stretch = mixer_tables.logistic_tables()
    logits = np.arange(-mixer_tables.MAX_LOGIT, mixer_tables.MAX_LOGIT + 1)
    exact = M1_TOTAL / (1 + np.exp(-logits / 256))
    assert np.abs(squash - exact).max() <= 0.5 + 1e-6
    assert np.array_equal(squash + squash[::-1], np.full(squash.size, M1_TOTAL))
    assert (squash.min(), squash.max()) == (16, M1_TOTAL - 16)
    assert stretch.size == 1 << 16
    assert (np.diff(stretch) >= 0).all()
    assert abs(stretch[1 << 15]) <= 1
    assert stretch[(1 << 16) // 4] == pytest.approx(-256 * math.log(3), abs=1)
    assert (np.abs(stretch) <= mixer_tables.MAX_LOGIT).all()


@pytest.mark.parametrize(("version", "most"), [(1, 40_000_000), (2, 120_000_000)])
def test_tables_are_small_for_small_texts_and_bounded_for_large_ones(version: int, most: int) -> None:
    def size(text_length: int) -> int:
        arrays = mixer_state.new_mixer(text_length, version)
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))

    assert size(200) < 1 << 20
    assert size(1 << 20) == size(1 << 27) < most


@pytest.mark.filterwarnings("ignore:overflow encountered")  # hashes are modulo 2**64
@both_versions
def test_plain_python_computes_the_same(version: int) -> None:
    """The functions that predict and learn, interpreted: integers of Python and numpy, no compiler."""
    text, state = array(TEXT * 2), new_state(NETWORK)
    compiled, plain = (mixer_state.new_mixer(text.size, version) for _ in range(2))
    symbol = BOS
    for i in range(text.size):
        step(NETWORK, state, symbol)
        symbol = int(text[i])
        context_mixer.begin_byte(compiled, state.frequencies, text)
        context_mixer.begin_byte.py_func(plain, state.frequencies, text)
        for shift in range(7, -1, -1):
            node, bit = (256 | symbol) >> shift + 1, symbol >> shift & 1
            assert context_mixer.predict(compiled, node) == context_mixer.predict.py_func(plain, node)
            rate = context_mixer.learning_rate(i, version)
            assert rate == context_mixer.learning_rate.py_func(i, version)
            context_mixer.update(compiled, node, bit, rate)
            context_mixer.update.py_func(plain, node, bit, rate)
        context_mixer.end_byte(compiled, text, i + 1)
        context_mixer.end_byte.py_func(plain, text, i + 1)
    for name in mixer_state.Mixer._fields:
        assert np.array_equal(getattr(compiled, name), getattr(plain, name)), name
    assert compiled.match[1] >= len(TEXT) - context_mixer.MIN_MATCH  # and the match model found the repeat


def test_two_threads_give_what_one_gives() -> None:
    texts = [TEXT * 3, TEXT[::-1] * 4]
    expected, found = [encoded(text) for text in texts], [b"", b""]

    def work(k: int) -> None:
        found[k] = encoded(texts[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


@settings(max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 4))
def test_hostile_payloads_are_refused_or_are_codes(payload: bytes, n: int, n_documents: int) -> None:
    try:
        text, ends = decoded(payload, n, n_documents)
    except ValueError:
        return
    assert encoded(text, ends) == payload


def test_what_is_cut_off_added_or_miscounted_is_refused_or_another_text() -> None:
    payload, n = encoded(TEXT, [9]), len(TEXT)
    wrong = [(payload[:-k], n, 1) for k in range(1, len(payload))] + [
        (payload, n + 1, 1),
        (payload, n - 1, 1),
    ]
    for found, length, n_documents in wrong:
        try:
            text, ends = decoded(found, length, n_documents)
        except ValueError:
            continue
        assert text != TEXT
        assert encoded(text, ends) == found
    never = [(payload + b"\0", n, 1), (payload, n, 0), (payload, n, 2), (payload[:20], n, 1), (b"", n, 1)]
    for found, length, n_documents in [*never, (b"\0" * 5, 0, 1 << 60)]:
        with pytest.raises(ValueError, match="not the code of"):
            decoded(found, length, n_documents)
