"""M1 and live windows in tensors, on the CPU, against the compiled loops and the definition, bit for bit."""

import random
from functools import cache

import numpy as np
import pytest
import torch
from helpers.networks import random_network
from helpers.texts import mixed, prose
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.coder import live_windows, reference
from eqinfo.coder.integer_m1 import BOS, EXP_STEPS, M1_TOTAL, N_BYTES, Network
from eqinfo.coder.kernels import m1_step
from eqinfo.coder.torch_choice import agrees, frame_coder
from eqinfo.coder.torch_frames import BLOCK_STEPS, FrameCoder
from eqinfo.coder.torch_m1 import TorchM1, product, square_root
from eqinfo.coder.torch_windows import divide, limbs_of, quotient_of, wide_difference, wide_product, wide_sum
from eqinfo.text.frames import Frame

CPU = torch.device("cpu")
WAYS = pytest.mark.parametrize("is_int8", [False, True])


@cache
def network() -> Network:
    return random_network()


def frames(n: int, longest: int = 2 * BLOCK_STEPS + 2) -> list[Frame]:
    """Frames of all lengths: empty ones, some that fill blocks, with documents that end anywhere."""
    rng = random.Random(n)
    lengths = [0, longest, 1, BLOCK_STEPS - 1, BLOCK_STEPS, *rng.choices(range(longest), k=n)]
    found = []
    for k, length in enumerate(lengths[:n]):
        text = (mixed(9, k)[-900:] if k % 2 else prose(60, k))[:length]
        ends = sorted(rng.choices(range(len(text) + 1), k=k % 4) * (1 + k % 2))  # equal: empty documents
        found.append(Frame(text, ends))
    return found


def of_integer(numbers: list[int], n_limbs: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(limbs_of(numbers, n_limbs)))


def to_integers(wide: tuple[torch.Tensor, ...]) -> list[int]:
    limbs = [limb.numpy().view(np.uint64).tolist() for limb in wide]
    return [sum(limb << 64 * k for k, limb in enumerate(row)) for row in zip(*limbs, strict=True)]


@WAYS
@pytest.mark.parametrize("shape", [(0, 0), (1, 4), (3, 6)])
def test_frequencies_are_those_of_the_step(shape: tuple[int, int], is_int8: bool) -> None:
    m1 = TorchM1(random_network(*shape), CPU, is_int8)
    texts = np.random.default_rng(0).integers(0, 256, (20, 12))
    texts[::2] %= 26
    want = [
        m1_step.run(random_network(*shape), m1_step.new_state(random_network(*shape)), symbols)
        for symbols in np.insert(texts, 0, BOS, axis=1).astype(np.uint16)
    ]
    state = m1.start
    np.testing.assert_array_equal(state.frequencies[0], want[0][0])
    state = m1.read(state.states.expand(-1, 20, -1), state.history.expand(20), torch.from_numpy(texts[:, 0]))
    for at in range(1, texts.shape[1]):
        np.testing.assert_array_equal(state.frequencies, [rows[at] for rows in want])
        state = m1.read(state.states, state.history, torch.from_numpy(texts[:, at]))
    assert (state.frequencies.sum(1) == M1_TOTAL).all()


def test_products_of_halves_are_exact_at_the_ends_of_their_range() -> None:
    ends = [-8191, 8191, -64, 63, 64, 127, 128, -65, 0]
    vectors = torch.tensor([[value] * 256 for value in ends] * 2, dtype=torch.int32)
    for weight in (-127, 127):
        matrix = torch.full((8, 256), weight, dtype=torch.int8)
        assert product(vectors, matrix)[:9, 0].tolist() == [256 * weight * value for value in ends]


@given(st.integers(0, (1 << 52) - 1))
def test_square_roots_are_exact(n: int) -> None:
    root = int(square_root(torch.tensor([n])))
    assert root * root <= n < (root + 1) ** 2


@given(st.integers(0, (1 << 128) - 1), st.integers(0, (1 << 128) - 1), st.integers(0, M1_TOTAL))
def test_wide_numbers_are_those_of_python(a: int, b: int, factor: int) -> None:
    for n_limbs in (1, 2):
        most = 1 << 64 * n_limbs
        a, b = a % most, b % most
        left, right = of_integer([a, b], n_limbs), of_integer([b, a], n_limbs)
        assert to_integers(wide_sum(left, right)) == [(a + b) % most] * 2
        assert to_integers(wide_difference(left, right)) == [(a - b) % most, (b - a) % most]
        assert to_integers(wide_product(left, torch.tensor([factor] * 2)))[0] == a * factor % most
        assert to_integers(quotient_of(left)) == [a >> 20, b >> 20]


@given(st.integers(0, 1 << 32), st.integers(0, (1 << 128) - 1), st.integers(0, 128))
def test_shares_are_those_of_the_definition(seed: int, rest: int, bits: int) -> None:
    rest >>= bits
    rng = np.random.default_rng(seed)
    weights = rng.choice([0, 1, 2, 1000], N_BYTES) + rng.multinomial(5, [1 / N_BYTES] * N_BYTES)
    frequencies = 1 + weights * (M1_TOTAL - N_BYTES) // max(weights.sum(), 1)  # many are equal
    frequencies[seed % N_BYTES] += M1_TOTAL - frequencies.sum()
    table = torch.from_numpy(frequencies).int()[None]
    quotient, beyond = divide(table, of_integer([rest], 2), torch.arange(N_BYTES, dtype=torch.int32))
    whole, parts = to_integers(quotient)[0], zip(frequencies.tolist(), beyond[0].tolist(), strict=True)
    found = [whole * frequency + more for frequency, more in parts]
    assert found == reference.shares(frequencies.tolist(), rest, False)


@pytest.mark.parametrize(
    ("bits", "lanes"), [(24, 1), (24, 7), (32, 7), (64, 7), (64, 64), (72, 7), (128, 1), (128, 7)]
)
def test_windows_are_those_of_the_compiled_loops(bits: int, lanes: int) -> None:
    coder, texts = FrameCoder(network(), bits, lanes, CPU), frames(lanes)
    payloads = coder.encode(texts)
    assert payloads == [live_windows.encode_windows(network(), *frame, bits) for frame in texts]
    coded = [(payload, len(frame.text)) for payload, frame in zip(payloads, texts, strict=True)]
    assert coder.decode(coded) == texts


@pytest.mark.parametrize("bits", live_windows.WINDOW_BITS)
def test_windows_are_those_of_the_definition(bits: int) -> None:
    text, ends = b"to be, or \xff\0 not to be" + bytes(range(30)), [0, 5, 5, 52]
    want = reference.encode_plainly(network(), text, ends, bits)
    coder = FrameCoder(network(), bits, 20, CPU, is_int8=True)
    payload = b"".join(codeword.to_bytes(bits // 8, "big") for codeword in want)
    assert coder.encode([Frame(text, ends)]) == [payload]
    assert coder.decode([(payload, len(text))]) == [Frame(text, ends)]


def test_fewer_frames_than_lanes_and_other_frames_than_before() -> None:
    coder, texts = FrameCoder(network(), 48, 5, CPU), frames(5)
    want = [live_windows.encode_windows(network(), *frame, 48) for frame in texts]
    coded = [(payload, len(frame.text)) for payload, frame in zip(want, texts, strict=True)]
    for part in (slice(3, 4), slice(None), slice(0, 1), slice(1, 3)):  # shorter, longer, empty
        assert coder.encode(texts[part]) == want[part]
        assert coder.decode(coded[part]) == texts[part]


def skewed(share_bits: int) -> Network:
    """Nearly all for one byte."""
    some = random_network(0, 0)
    bias = np.zeros(N_BYTES, np.int32)
    bias[97] = share_bits * EXP_STEPS
    return some._replace(head=some.head * np.int8(0), head_bias=bias)


@pytest.mark.parametrize("share_bits", [0, 30])
def test_windows_of_one_byte_and_of_many(share_bits: int) -> None:
    texts = [Frame(b"a" * 150, []), Frame(b"\xff\0b" * 50, []), Frame(b"aab" * 50, [])]
    coder = FrameCoder(skewed(share_bits), 24, 3, CPU)
    payloads = coder.encode(texts)
    assert payloads == [live_windows.encode_windows(skewed(share_bits), *frame, 24) for frame in texts]
    assert coder.decode([(payload, 150) for payload in payloads]) == texts


@pytest.mark.parametrize("bits", [24, 128])
def test_hostile_payloads_give_the_same_text_or_the_same_error(bits: int) -> None:
    def plainly(payload: bytes, length: int) -> Frame | str:
        try:
            return Frame(*live_windows.decode_windows(network(), payload, bits, length))
        except ValueError as error:
            return str(error)

    rng, size = random.Random(0), bits // 8
    sound = live_windows.encode_windows(network(), prose(20), [7], bits)
    hostile = [(sound, length) for length in (0, 1, len(prose(20)) - 1, len(prose(20)) + 1)]
    hostile += [(sound[:-size], len(prose(20))), (sound + sound, len(prose(20))), (b"", 9), (b"", 0)]
    hostile += [(bytes(9 * size), 0), (b"\xff" * 9 * size, 30), (bytes(size) + b"\xff" * size, 4)]
    hostile += [(rng.randbytes(5 * size), n) for n in range(5, 40)]
    coder = FrameCoder(network(), bits, len(hostile), CPU)
    found = [str(each) if isinstance(each, ValueError) else each for each in coder.decode(hostile)]
    assert found == [plainly(*each) for each in hostile]
    with pytest.raises(ValueError, match="whole number"):
        coder.decode([(b"?", 1)])


def test_a_coder_that_gives_other_numbers_is_found_out() -> None:
    coder = frame_coder(network(), 64, 8, CPU)
    assert coder is not None
    one_less = network()._replace(head_bias=network().head_bias - np.arange(N_BYTES, dtype=np.int32) % 2)
    assert not agrees(coder, one_less)
