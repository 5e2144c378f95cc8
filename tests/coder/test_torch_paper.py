"""The paper's windows in tensors, on the CPU, against the plain Python that defines them."""

import random

import pytest
import torch
from coder.test_torch import frames
from helpers.networks import random_network
from helpers.texts import prose
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.coder import paper, torch_paper
from eqinfo.coder.torch_choice import frame_coder
from eqinfo.coder.torch_paper import Long
from eqinfo.coder.torch_paper_frames import PaperCoder
from eqinfo.text.frames import Frame

CPU = torch.device("cpu")
NETWORK = random_network()
N_LIMBS = 5


def long(number: int) -> Long:
    return tuple(torch.tensor([number >> 32 * k & 0xFFFFFFFF]) for k in range(N_LIMBS))


def integer(number: Long) -> int:
    return sum(int(limb) << 32 * k for k, limb in enumerate(number))


@given(st.integers(0, (1 << 156) - 1), st.integers(0, (1 << 156) - 1), st.integers(0, 1 << 14))
def test_long_numbers_are_those_of_python(a: int, b: int, factor: int) -> None:
    most = 1 << 32 * N_LIMBS
    left, right = long(a), long(b)
    assert integer(torch_paper.product(left, torch.tensor([factor]))) == a * factor
    assert integer(torch_paper.added(left, right)) == (a + b) % most
    difference, is_below = torch_paper.subtracted(left, right)
    assert (integer(difference), bool(is_below)) == ((a - b) % most, a < b)
    for bits in (14, 28):
        assert integer(torch_paper.shifted(left, bits)) == a >> bits


@pytest.mark.parametrize(("bits", "lanes"), [(24, 1), (24, 7), (40, 7), (64, 20), (128, 7)])
def test_windows_are_those_of_the_definition(bits: int, lanes: int) -> None:
    coder, texts = PaperCoder(NETWORK, bits, lanes, CPU, is_int8=lanes > 16), frames(lanes)
    payloads = coder.encode(texts)
    assert payloads == [paper.encode_windows(NETWORK, *frame, bits) for frame in texts]
    coded = [(payload, len(frame.text)) for payload, frame in zip(payloads, texts, strict=True)]
    assert coder.decode(coded) == texts
    assert coder.encode(texts[:1]) == payloads[:1]  # fewer frames than lanes
    assert coder.decode(coded[-1:]) == texts[-1:]


@pytest.mark.parametrize("bits", [24, 128])
def test_hostile_payloads_give_the_same_text_or_the_same_error(bits: int) -> None:
    def plainly(payload: bytes, length: int) -> Frame | str:
        try:
            return Frame(*paper.decode_windows(NETWORK, payload, bits, length))
        except ValueError as error:
            return str(error)

    rng, size, text = random.Random(0), bits // 8, prose(20)
    sound = paper.encode_windows(NETWORK, text, [7], bits)
    hostile = [(sound, length) for length in (0, 1, len(text) - 1, len(text) + 1)]
    hostile += [(sound[:-size], len(text)), (sound + sound, len(text)), (b"", 9), (b"", 0)]
    hostile += [(bytes(9 * size), 0), (b"\xff" * 9 * size, 30), (bytes(size) + b"\xff" * size, 4)]
    hostile += [(rng.randbytes(5 * size), n) for n in range(5, 30)]
    coder = PaperCoder(NETWORK, bits, len(hostile), CPU)
    found = [str(each) if isinstance(each, ValueError) else each for each in coder.decode(hostile)]
    assert found == [plainly(*each) for each in hostile]


def test_the_check_at_the_start_passes() -> None:
    assert isinstance(frame_coder(NETWORK, 64, 8, CPU, "published"), PaperCoder)
