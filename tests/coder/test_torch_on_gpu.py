"""Steps on tensors without numbers: all operations stay on the device, and none waits for a number."""

import pytest
import torch
from helpers.networks import random_network
from helpers.no_numbers import META, devices_of, moved

from eqinfo.coder.torch_paper import TorchPaper
from eqinfo.coder.torch_plain_code import TorchPlainCode
from eqinfo.coder.torch_windows import TorchWindows

CPU, LANES = torch.device("cpu"), 32


@pytest.mark.parametrize("is_int8", [False, True])
@pytest.mark.parametrize("bits", [24, 128])
def test_live_windows(bits: int, is_int8: bool) -> None:
    steps = moved(TorchWindows(random_network(), bits, CPU, is_int8))
    lanes, numbers = steps.begin(LANES), torch.zeros(LANES, dtype=torch.int64, device=META)
    assert devices_of(steps.encode(lanes, numbers, numbers > 0)) == {META}
    assert devices_of(steps.decode(lanes, (numbers,) * steps.n_limbs)) == {META}


@pytest.mark.parametrize("is_int8", [False, True])
@pytest.mark.parametrize("bits", [24, 128])
def test_windows_of_the_paper(bits: int, is_int8: bool) -> None:
    steps = moved(TorchPaper(random_network(), bits, CPU, is_int8))
    place, numbers = steps.begin(LANES), torch.zeros(LANES, dtype=torch.int64, device=META)
    codeword = (numbers,) * steps.n_limbs
    assert devices_of(steps.encode(place, numbers, codeword, numbers)) == {META}
    assert devices_of(steps.decode(place, codeword, numbers, numbers > 0)) == {META}


@pytest.mark.parametrize("is_int8", [False, True])
def test_plain_codes(is_int8: bool) -> None:
    steps = moved(TorchPlainCode(random_network(), CPU, is_int8))
    interval, numbers = steps.begin(LANES), torch.zeros(LANES, dtype=torch.int64, device=META)
    assert devices_of(steps.encode(interval, numbers)) == {META}
    assert devices_of(steps.decode(interval, numbers, numbers > 0)) == {META}
