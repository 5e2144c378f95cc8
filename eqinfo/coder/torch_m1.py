"""M1 in integers for many texts at a time, in PyTorch: the numbers of `kernels/m1_step` on any device.

A lane is one text. All lanes read one byte at each step, so the vectors of `m1_step` become matrices with a
row for each lane, and its matrix-vector products become matrix products. Every operation is one of integers,
or of floating-point numbers that hold them exactly; `m1_step` has the ranges. The module is imported only
where a device is asked for, as torch starts slowly.

Design choices:

- matrix products are exact in two ways. On GPUs bytes meet bytes in int8, with sums in int32: a vector of
  14 bits is split into two halves of 7. On CPUs the products are those of float64, exact below 2**53;
- functions return new tensors, take no decision by a tensor's value, and bring no number to the device:
  nothing waits for it, and a step can be captured as a CUDA graph or compiled.

Shapes: B lanes, L layers; WIDTH, INNER and N_BYTES are those of `integer_m1`.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eqinfo.coder import integer_m1 as net
from eqinfo.coder.integer_m1 import BOS, INNER, KEEP_RANGE, M1_TOTAL, N_BYTES, NGRAM_BYTES, WIDTH, Network
from eqinfo.coder.kernels import m1_step as one
from eqinfo.system.arrays import I8

LEAST_LANES = 32  # int8 products on GPUs want more than 16 rows
HALF_BITS = 7  # of a vector's 14: -8191 is -64 * 128 + 1


class State(NamedTuple):
    """M1 after the bytes of a window so far, for each lane.

    Attributes:
        states: recurrent state of each layer, int32 (L, B, INNER).
        history: the last 8 bytes as one integer, the latest lowest, int64 (B,).
        frequencies: of the next byte, int32 (B, N_BYTES).
    """

    states: Tensor
    history: Tensor
    frequencies: Tensor


class TorchM1:
    """A network on a device.

    Args:
        network: M1.
        device: where its tensors are.
        is_int8: whether matrix products are those of int8, else of float64.

    Attributes:
        start: the state after BOS, of one lane.
    """

    def __init__(self, network: Network, device: torch.device, is_int8: bool) -> None:
        self.device, self.table_bits = device, net.table_bits(network)

        def matrix(weights: I8) -> Tensor:
            return torch.from_numpy(weights).to(device, torch.int8 if is_int8 else torch.float64)

        def numbers(values: np.ndarray, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device, dtype)

        self.embedding = numbers(network.embedding, torch.int32)
        self.tables = numbers(network.tables, torch.int8)
        self.mix, self.mix_scale = matrix(network.mix), numbers(network.mix_scale)
        self.inputs = [matrix(layer) for layer in network.inputs]
        self.input_scale, self.input_bias = numbers(network.input_scale), numbers(network.input_bias)
        self.input_bias = (self.input_bias << one.SCALE_BITS) + one.ROUNDING  # as `scaled` takes them
        self.output = [matrix(layer) for layer in network.output]
        self.output_scale = numbers(network.output_scale)
        self.head = matrix(network.head)
        self.head_scale, self.head_bias = numbers(network.head_scale), numbers(network.head_bias)
        self.head_bias = (self.head_bias << one.SCALE_BITS) + one.ROUNDING
        self.rounding = numbers(np.array(one.ROUNDING))  # without a bias
        self.forget, self.exp2 = numbers(network.forget, torch.int32), numbers(network.exp2, torch.int32)
        self.masks = numbers(one.NGRAM_MASKS.view(np.int64))  # (len(NGRAM_BYTES),)
        self.table_starts = numbers(np.arange(len(NGRAM_BYTES)) << self.table_bits)
        self.bytes = numbers(np.arange(N_BYTES), torch.int32)  # (N_BYTES,)
        nothing = torch.zeros(LEAST_LANES, dtype=torch.int64, device=device)
        first = torch.zeros((network.n_layer, LEAST_LANES, INNER), dtype=torch.int32, device=device)
        after = self._after(first, nothing, nothing + BOS)
        self.start = State(after.states[:, :1], after.history[:1], after.frequencies[:1])

    def begin(self, lanes: int) -> State:
        """The state after BOS, of so many lanes."""
        states, history, frequencies = self.start
        return State(states.repeat(1, lanes, 1), history.repeat(lanes), frequencies.repeat(lanes, 1))

    def read(self, states: Tensor, history: Tensor, byte: Tensor) -> State:
        """The state of each lane after one more byte, int64 (B,); for the others see `State`."""
        return self._after(states, history << 8 | byte, byte)  # the oldest of 8 bytes drops out

    def begun(self, state: State, begins: Tensor) -> State:
        """The state, but that after BOS in lanes where a window or document begins, bool (B,)."""
        return State(
            torch.where(begins[:, None], self.start.states, state.states),
            state.history.masked_fill(begins, 0),
            torch.where(begins[:, None], self.start.frequencies, state.frequencies),
        )

    def _after(self, states: Tensor, history: Tensor, symbol: Tensor) -> State:
        """The state after a symbol, a byte or BOS, which `history` holds already."""
        stream, after = self._embed(history, symbol), []  # stream: int32 (B, WIDTH)
        for at in range(len(self.inputs)):
            stream, state = self._layer(stream, states[at], at)
            after.append(state)
        return State(torch.stack(after) if after else states, history, self._frequencies(stream))

    def _embed(self, history: Tensor, symbol: Tensor) -> Tensor:
        """The stream before the first layer: `m1_step.embed`."""
        stream = self.embedding[symbol]
        if not self.table_bits:
            return stream
        keys = (history[:, None] & self.masks) * net.SIGNED_MULTIPLIER  # (B, n-grams)
        rows = (keys >> 64 - self.table_bits & (1 << self.table_bits) - 1) + self.table_starts
        mixed = self.tables[rows].flatten(1)  # (B, MIXED)
        return self._added(stream, product(mixed, self.mix), self.mix_scale)

    def _layer(self, stream: Tensor, states: Tensor, at: int) -> tuple[Tensor, Tensor]:
        """The stream after layer `at`, and the layer's states (B, INNER): `m1_step.layer`."""
        sums = product(rms_norm(stream), self.inputs[at])  # (B, 3 INNER)
        keep, value, gate = scaled(sums, self.input_scale[at], self.input_bias[at]).chunk(3, 1)
        share = self.forget[keep.clamp(-KEEP_RANGE, KEEP_RANGE - 1) + KEEP_RANGE]
        value = value.clamp(-one.MAX_VALUE, one.MAX_VALUE) << one.STATE_BITS  # int64, as products are long
        states = states + ((value - states) * share + (1 << 15) >> 16).int()
        opened = (states >> one.STATE_BITS) * gate.clamp(0, one.MAX_VALUE).int()  # below 2**30
        inner = opened + (1 << one.PRODUCT_SHIFT - 1) >> one.PRODUCT_SHIFT
        sums = product(inner.clamp(-one.MAX_INPUT, one.MAX_INPUT), self.output[at])
        return self._added(stream, sums, self.output_scale[at]), states

    def _added(self, stream: Tensor, sums: Tensor, scale: Tensor) -> Tensor:
        """The stream plus scaled sums, clipped, int32."""
        added = stream + scaled(sums, scale, self.rounding)
        return added.clamp(-one.MAX_STREAM, one.MAX_STREAM).int()

    def _frequencies(self, stream: Tensor) -> Tensor:
        """Frequencies of the next byte, int32 (B, N_BYTES), each at least 1: the end of `m1_step.step`."""
        logits = scaled(product(rms_norm(stream), self.head), self.head_scale, self.head_bias)
        logits = logits.clamp(-(1 << 24), 1 << 24).int()
        top = logits.amax(1, keepdim=True)
        below = (top - logits).clamp(max=one.MAX_BELOW)
        powers = self.exp2[below & net.EXP_STEPS - 1] >> (below >> one.EXP_BITS)
        multiplier = (M1_TOTAL - N_BYTES << 32) // powers.sum(1, keepdim=True)  # sum: int64
        frequencies = (1 + (powers * multiplier >> 32)).int()
        left = M1_TOTAL - frequencies.sum(1, keepdim=True)
        best = ((logits == top) * self.bytes).amax(1, keepdim=True)  # the last, if several
        return frequencies + ((self.bytes == best) * left).int()


def product(vectors: Tensor, matrix: Tensor) -> Tensor:
    """Exact products of integer vectors (B, K), below 2**13, with a matrix (N, K): (B, N)."""
    if matrix.dtype == torch.float64:
        return (vectors.double() @ matrix.t()).long()
    if vectors.dtype == torch.int8:  # rows of tables need no halves
        return torch._int_mm(vectors, matrix.t())
    upper = vectors + (1 << HALF_BITS - 1) >> HALF_BITS  # rounded, so both halves are in [-64, 64]
    halves = torch.cat((upper, vectors - (upper << HALF_BITS))).to(torch.int8)  # (2 B, K)
    high, low = torch._int_mm(halves, matrix.t()).chunk(2)  # int32
    return torch.add(low, high, alpha=1 << HALF_BITS)


def scaled(sums: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Sums of products times their scales, rounded, plus biases: `m1_step.scaled`, int64.

    Args:
        sums: below 2**28.
        scale: below 2**31.
        bias: in units of 2**-28, and with the half a unit to round by: below 2**49.
    """
    return torch.addcmul(bias, sums, scale) >> one.SCALE_BITS


def rms_norm(stream: Tensor) -> Tensor:
    """The stream scaled to root mean square 2**UNIT_BITS: `m1_step.rms_norm`, int32 (B, WIDTH)."""
    wide = stream.long()
    root = square_root(((wide * wide).sum(1, keepdim=True) << 8) // WIDTH).clamp(min=1)
    multiplier = (1 << one.UNIT_BITS + 4 + 24) // root
    unit = wide * multiplier + (1 << 23) >> 24
    return unit.clamp(-one.MAX_INPUT, one.MAX_INPUT).int()


def square_root(n: Tensor) -> Tensor:
    """The largest integers whose squares are at most n, for n in [0, 2**52)."""
    root = n.double().sqrt().long()  # n is exact in float64, so the root is at most 1 away
    root = root - (root * root > n).long()
    return root + ((root + 1) * (root + 1) <= n).long()
