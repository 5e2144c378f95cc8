"""The compiled step against plain Python integers, at the limits of its ranges too, and in any order."""

import math
import random
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from helpers.networks import random_network
from helpers.texts import mixed

from eqinfo.coder.integer_m1 import (
    BOS,
    EXP_STEPS,
    INNER,
    KEEP_RANGE,
    M1_TOTAL,
    N_BYTES,
    NGRAM_BYTES,
    WIDTH,
    Network,
    from_bytes,
    shapes,
    table_bits,
    to_bytes,
)
from eqinfo.coder.kernels import m1_step
from eqinfo.coder.kernels.m1_step import new_state, run, step

TEXT = mixed(20)
SYMBOLS = np.array([BOS, *TEXT[:40], BOS, BOS, *TEXT[400:440], *b"\0\xff" * 5], np.uint16)
SHAPES = [(0, 0), (1, 0), (1, 4), (3, 6), (0, 2)]


@cache
def network(n_layer: int = 1, bits: int = 4) -> Network:
    return random_network(n_layer, bits, seed=n_layer)


def extreme(which: str) -> Network:
    """A network whose numbers are as large as its file may hold, of one sign or of both."""
    rng = np.random.default_rng(1)
    arrays = {}
    for name, (dtype, shape) in shapes(2, 3).items():
        sign = np.ones(shape, np.int64) if which == "one sign" else rng.choice([-1, 1], shape)
        if name in ("forget", "exp2"):
            numbers = np.full(shape, 1 << (16 if name == "forget" else 24))
        elif dtype == "i1":
            numbers = 127 * sign
        elif name.endswith("scale"):
            numbers = np.full(shape, (1 << 31) - 1)
        else:
            numbers = sign * (1 << 20 if name.endswith("bias") else 32767)
        arrays[name] = numbers.astype(np.dtype(dtype).newbyteorder("="))
    return from_bytes(to_bytes(Network(**arrays)))


class Reference:
    """What `network` and `inference` say, in Python integers; only sums of products are numpy's."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.read(BOS)

    def scaled(self, matrix: np.ndarray, vector: list[int], scale: np.ndarray) -> list[int]:
        sums = (matrix.astype(np.int64) @ np.array(vector, np.int64)).tolist()
        assert max(map(abs, sums)) < 1 << 29
        return [rounded(total * factor, 28) for total, factor in zip(sums, scale.tolist(), strict=True)]

    def read(self, symbol: int) -> list[int]:
        net = self.network
        if symbol == BOS:
            self.states, self.history = [[0] * INNER for _ in range(net.n_layer)], b""
        else:
            self.history += bytes([symbol])
        stream: list[int] = net.embedding[symbol].tolist()
        if bits := table_bits(net):
            rows = []
            for at, order in enumerate(NGRAM_BYTES):
                key = int.from_bytes(self.history[-order:], "big") * 0x9E3779B97F4A7C15 % 2**64
                rows += net.tables[(at << bits) + (key >> 64 - bits)].tolist()
            mix = self.scaled(net.mix, rows, net.mix_scale)
            stream = [clip(x + y, m1_step.MAX_STREAM) for x, y in zip(stream, mix, strict=True)]
        for at in range(net.n_layer):
            stream = self.layer(at, stream)
        logits = self.scaled(net.head, normalised(stream), net.head_scale)
        logits = [clip(x + y, 1 << 24) for x, y in zip(logits, net.head_bias.tolist(), strict=True)]
        top = max(logits)
        powers = []
        for logit in logits:
            whole, part = divmod(min(top - logit, 25 * EXP_STEPS - 1), EXP_STEPS)
            powers.append(int(net.exp2[part]) >> whole)
        share = (M1_TOTAL - N_BYTES << 32) // sum(powers)
        found = [1 + (power * share >> 32) for power in powers]
        last = N_BYTES - 1 - logits[::-1].index(top)
        found[last] += M1_TOTAL - sum(found)
        return found

    def layer(self, at: int, stream: list[int]) -> list[int]:
        net, memory = self.network, self.states[at]
        inputs = self.scaled(net.inputs[at], normalised(stream), net.input_scale[at])
        inputs = [x + y for x, y in zip(inputs, net.input_bias[at].tolist(), strict=True)]
        inner = []
        for i in range(INNER):
            keep, value, gate = inputs[i::INNER]
            share = int(net.forget[max(-KEEP_RANGE, min(keep, KEEP_RANGE - 1)) + KEEP_RANGE])
            memory[i] += rounded((clip(value, (1 << 15) - 1) * 256 - memory[i]) * share, 16)
            product = (memory[i] >> 8) * max(0, min(gate, (1 << 15) - 1))
            inner.append(clip(rounded(product, 17), (1 << 13) - 1))
        output = self.scaled(net.output[at], inner, net.output_scale[at])
        return [clip(x + y, m1_step.MAX_STREAM) for x, y in zip(stream, output, strict=True)]


def rounded(number: int, bits: int) -> int:
    return number + (1 << bits - 1) >> bits


def clip(number: int, most: int) -> int:
    return max(-most, min(number, most))


def normalised(stream: list[int]) -> list[int]:
    """To root mean square 512."""
    root = max(1, math.isqrt(256 * sum(x * x for x in stream) // WIDTH))
    return [clip(rounded(x * ((512 << 28) // root), 24), (1 << 13) - 1) for x in stream]


@pytest.mark.parametrize(("n_layer", "bits"), SHAPES)
def test_frequencies_are_those_of_plain_integers(n_layer: int, bits: int) -> None:
    reference = Reference(network(n_layer, bits))
    found = run(network(n_layer, bits), new_state(network(n_layer, bits)), SYMBOLS)
    assert found.tolist() == [reference.read(int(symbol)) for symbol in SYMBOLS]


@pytest.mark.parametrize("which", ["one sign", "both signs"])
def test_the_largest_numbers_of_a_file_do_not_overflow(which: str) -> None:
    reference = Reference(extreme(which))
    found = run(extreme(which), new_state(extreme(which)), SYMBOLS[:50])
    assert found.tolist() == [reference.read(int(symbol)) for symbol in SYMBOLS[:50]]


@pytest.mark.parametrize(("n_layer", "bits"), SHAPES)
def test_frequencies_add_up_and_none_is_zero(n_layer: int, bits: int) -> None:
    found = run(network(n_layer, bits), new_state(network(n_layer, bits)), SYMBOLS)
    assert (found.sum(1) == M1_TOTAL).all()
    assert found.min() >= 1
    assert found.max() > 50 * found.min()  # these networks are worth testing with


def test_square_roots_are_exact() -> None:
    rng = random.Random(0)
    numbers = [k * k + d for k in (0, 1, 2, 1 << 20, (1 << 30) - 1) for d in (-1, 0, 1) if k or d >= 0]
    for n in numbers + [rng.randrange(1 << rng.randrange(1, 61)) for _ in range(500)]:
        assert m1_step.square_root(n) == math.isqrt(n)


def test_bos_forgets_everything() -> None:
    state = new_state(network())
    first = run(network(), state, SYMBOLS[:20])
    run(network(), state, SYMBOLS)
    assert np.array_equal(run(network(), state, SYMBOLS[:20]), first)


def test_steps_one_by_one_are_a_run() -> None:
    state, found = new_state(network()), []
    for symbol in SYMBOLS.tolist():
        step(network(), state, symbol)
        found.append(state.frequencies.tolist())
    assert found == run(network(), new_state(network()), SYMBOLS).tolist()


def test_strings_have_the_frequencies_of_a_run() -> None:
    strings = np.array(sorted([*TEXT[i : i + 3]] for i in range(0, 90, 2)), np.uint8)
    found = m1_step.after_strings(network(), new_state(network()), strings)
    for string, frequencies in zip(strings, found, strict=True):
        symbols = np.array([BOS, *string], np.uint16)
        assert np.array_equal(run(network(), new_state(network()), symbols)[-1], frequencies)


def permuted_inner(network: Network, order: np.ndarray) -> Network:
    """The same sums over the units of a layer, in another order."""
    rows = np.concatenate([order + part * INNER for part in range(3)])
    return network._replace(
        inputs=network.inputs[:, rows].copy(),
        input_scale=network.input_scale[:, rows].copy(),
        input_bias=network.input_bias[:, rows].copy(),
        output=network.output[:, :, order].copy(),
    )


def permuted_width(network: Network, order: np.ndarray) -> Network:
    """The same sums over the stream, in another order."""
    return network._replace(
        embedding=network.embedding[:, order].copy(),
        mix=network.mix[order].copy(),
        mix_scale=network.mix_scale[order].copy(),
        inputs=network.inputs[:, :, order].copy(),
        output=network.output[:, order].copy(),
        output_scale=network.output_scale[:, order].copy(),
        head=network.head[:, order].copy(),
    )


@pytest.mark.parametrize(("permuted", "n"), [(permuted_inner, INNER), (permuted_width, WIDTH)])
def test_sums_in_any_order_give_the_same_frequencies(
    permuted: Callable[[Network, np.ndarray], Network], n: int
) -> None:
    expected = run(network(3, 6), new_state(network(3, 6)), SYMBOLS)
    for seed in range(3):
        other = permuted(network(3, 6), np.random.default_rng(seed).permutation(n))
        assert not np.array_equal(other.output, network(3, 6).output)
        assert np.array_equal(run(other, new_state(other), SYMBOLS), expected)


def test_floats_in_another_order_give_other_sums() -> None:
    # the control: the test above could fail, and would with floats
    rng = np.random.default_rng(0)
    matrix = network().head.astype(np.float32) / np.float32(3)
    vector = rng.normal(size=WIDTH).astype(np.float32)
    orders = [rng.permutation(WIDTH) for _ in range(5)]
    sums = {(matrix[:, order] * vector[order]).cumsum(1, np.float32)[:, -1].tobytes() for order in orders}
    assert len(sums) > 1
