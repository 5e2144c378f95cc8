"""Plain arithmetic codes in tensors, on the CPU, against the compiled loop."""

import random
from functools import cache

import numpy as np
import pytest
import torch
from coder.test_torch import frames, skewed
from helpers.networks import random_network
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.coder import arithmetic_coding
from eqinfo.coder.integer_m1 import Network
from eqinfo.coder.torch_choice import frame_coder
from eqinfo.coder.torch_code_frames import CodeCoder
from eqinfo.coder.torch_plain_code import quotient
from eqinfo.text.frames import Frame

CPU = torch.device("cpu")


@cache
def networks() -> list[Network]:
    return [random_network(), skewed(30)]


@given(st.integers(0, (1 << 64) - 1), st.integers(1, (1 << 62) - 1))
def test_quotients_of_unsigned_numbers_are_exact(a: int, b: int) -> None:
    number = torch.from_numpy(np.array([a], np.uint64).view(np.int64))
    assert quotient(number, torch.tensor([b])).numpy().view(np.uint64)[0] == a // b


@pytest.mark.parametrize("lanes", [1, 7, 40])
@pytest.mark.parametrize("which", [0, 1])
def test_codes_are_those_of_the_compiled_loop(which: int, lanes: int) -> None:
    network, texts = networks()[which], frames(lanes)
    if which:  # an interval that stays wide for long, and loses three bytes at once
        texts[-1:] = [Frame(b"a" * 150 + b"\xff\xfe" + b"a" * 60, [])]
    coder = CodeCoder(network, lanes, CPU, is_int8=lanes > 32)
    codes = coder.encode(texts)
    assert codes == [arithmetic_coding.encode(network, *frame, 0) for frame in texts]
    items = [(code, len(text), len(ends)) for code, (text, ends) in zip(codes, texts, strict=True)]
    assert coder.decode(items) == texts
    assert coder.encode(texts[:1]) == codes[:1]
    assert coder.decode(items[-1:]) == texts[-1:]


def test_hostile_codes_give_the_same_text_or_the_same_error() -> None:
    network, rng = networks()[0], random.Random(0)

    def plainly(*code: object) -> Frame | str:
        try:
            return Frame(*arithmetic_coding.decode(network, *code, 0))  # type: ignore[arg-type]
        except ValueError as error:
            return str(error)

    text = b"to be, or not to be"
    sound = arithmetic_coding.encode(network, text, [5], 0)
    hostile = [(sound, 19, 1), (sound, 18, 1), (sound, 20, 1), (sound, 19, 0), (sound, 19, 2), (sound, 0, 0)]
    hostile += [(sound[:-1], 19, 1), (sound + b"\0", 19, 1), (b"", 0, 0), (b"", 5, 1), (b"", 5, 1 << 16)]
    hostile += [(rng.randbytes(30), n, n % 3) for n in range(20)] + [
        (b"\xff" * 40, 30, 1),
        (bytes(40), 30, 9),
    ]
    coder = CodeCoder(network, len(hostile), CPU)
    found = [str(each) if isinstance(each, ValueError) else each for each in coder.decode(hostile)]
    assert found == [plainly(*each) for each in hostile]


def test_the_check_at_the_start_passes() -> None:
    assert isinstance(frame_coder(networks()[0], None, 8, CPU, "published"), CodeCoder)
