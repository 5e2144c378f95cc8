"""Small integer networks of random weights, whose frequencies are far from uniform."""

import numpy as np

from eqinfo.coder import integer_m1 as net
from eqinfo.coder.integer_m1 import BOS, Network
from eqinfo.coder.kernels.m1_step import new_state, run


def random_network(n_layer: int = 1, table_bits: int = 4, seed: int = 0) -> Network:
    """A network that prefers letters, and otherwise what its random weights make of the bytes before."""
    rng = np.random.default_rng(seed)
    scales = {  # so that every part moves the frequencies, and few numbers are clipped
        "mix_scale": 1 << 24,
        "input_scale": 1 << 21,
        "output_scale": 3 << 20,
        "head_scale": 1 << 20,
    }
    arrays = {}
    for name, (dtype, shape) in net.shapes(n_layer, table_bits).items():
        if name == "forget":  # a sigmoid
            keep = np.arange(-net.KEEP_RANGE, net.KEEP_RANGE) / 256
            numbers = np.round(65536 / (1 + np.exp(keep)))
        elif name == "exp2":
            numbers = np.round(2**24 * 2 ** (-np.arange(net.EXP_STEPS) / net.EXP_STEPS))
        elif name in scales:
            numbers = rng.integers(scales[name] >> 2, scales[name], shape)
        elif dtype == "i1":
            numbers = rng.integers(-127, 128, shape)
        else:
            numbers = rng.integers(-2000, 2000, shape)
        if name == "head_bias":
            numbers[[*b" etaoinshrdlu"]] += 5 * net.EXP_STEPS  # bits
        arrays[name] = numbers.astype(np.dtype(dtype).newbyteorder("="))
    return Network(**arrays)


def frequencies_after(network: Network, string: bytes) -> np.ndarray:
    """M1's frequencies after a string, read by itself from BOS: the slow way."""
    return run(network, new_state(network), np.array([BOS, *string], np.uint16))[-1]


def silent(share: float) -> None:
    """Progress that nobody sees; it must be a share."""
    assert 0 <= share <= 1
