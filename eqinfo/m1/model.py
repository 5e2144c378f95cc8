"""M1 in training: a byte-level model of few multiplications a byte, made to become integers (`network`).

Design choices:

- a gated linear recurrence instead of attention (after minGRU and Griffin): the state has one size however
  long the context, a byte costs the same at any position, and gates depend on the input alone, so a whole
  sequence is two matrix products and one scan (`recurrence`);
- bytes also enter as hashed n-grams: rows of tables, which cost memory where depth would cost products;
- the gated output, state times rectified gate, takes the place of an MLP;
- BOS begins a window: it clears state and n-grams, so one row of a batch may hold many windows;
- the residual branches and the head start at zero: the untrained model is exactly uniform.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqinfo.coder.integer_m1 import BOS, HASH_MULTIPLIER, INNER, MIXED, N_BYTES, NGRAM_BYTES, ROW, WIDTH

MAX_MEMORY = 512  # bytes; at the start, the slowest unit of a state forgets so slowly
PIECE_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 30}  # of the largest tensor: what caches hold, or all
MULTIPLIER = int(HASH_MULTIPLIER) - (1 << 64)  # as int64, for torch


@dataclass(frozen=True)
class ByteModelConfig:
    """Shape of an M1.

    Attributes:
        n_layer: recurrent layers; with none, and no tables, the model is a static distribution of bytes.
        table_bits: log2 of the rows of each n-gram table; 0 is no tables.
        block_size: bytes of a row of a batch in training.
        batch_size: rows.
    """

    n_layer: int
    table_bits: int
    block_size: int = 512
    batch_size: int = 32

    @property
    def step_bytes(self) -> int:
        """Bytes of a batch."""
        return self.block_size * self.batch_size

    @property
    def macs(self) -> int:
        """Multiplications for a byte, in matrix products."""
        mix = WIDTH * MIXED if self.table_bits else 0
        return self.n_layer * 4 * WIDTH * INNER + mix + N_BYTES * WIDTH

    @property
    def training_flops(self) -> int:
        """FLOPs a byte of training."""
        return 6 * self.macs


M1_PRESETS = {
    "unigram": ByteModelConfig(n_layer=0, table_bits=0),
    "tiny": ByteModelConfig(n_layer=1, table_bits=8, block_size=64),
    "500k": ByteModelConfig(n_layer=1, table_bits=10),
    "3m": ByteModelConfig(n_layer=3, table_bits=14),
    "7m": ByteModelConfig(n_layer=3, table_bits=15),
}


class Layer(nn.Module):
    """One gated linear recurrence, on a normalised input and added to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(WIDTH, 3 * INNER, bias=False)
        self.output = nn.Linear(INNER, WIDTH, bias=False)
        nn.init.normal_(self.inputs.weight, std=WIDTH**-0.5)
        nn.init.zeros_(self.output.weight)
        memory = torch.exp(torch.linspace(math.log(1.2), math.log(MAX_MEMORY), INNER))
        self.keep_bias = nn.Parameter((memory - 1).log())
        self.bias = nn.Parameter(torch.zeros(2 * INNER))  # of values and gates

    def forward(self, x: Tensor, begun: Tensor) -> Tensor:
        """The stream (T, B, WIDTH) after this layer.

        Args:
            x: the stream before.
            begun: 0 where a window begins, else 1, (T, B, 1).
        """
        gated, _ = recurrence(*self.prepare(x), begun)
        return x + self.output(gated)  # type: ignore[no-any-return]

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the stream says, as `parts` wants it, (T, B, 3 INNER), and the bias to add to it."""
        return self.inputs(F.rms_norm(x, (WIDTH,))), torch.cat((self.keep_bias, self.bias))


class ByteModel(nn.Module):
    """Bytes to logits over the next byte."""

    def __init__(self, config: ByteModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(N_BYTES + 1, WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.5)
        n_rows = len(NGRAM_BYTES) << config.table_bits if config.table_bits else 0
        self.tables = nn.Embedding(n_rows, ROW)
        if n_rows:
            nn.init.normal_(self.tables.weight, std=0.5)
            self.mix = nn.Linear(MIXED, WIDTH, bias=False)
            nn.init.normal_(self.mix.weight, std=0.5 * MIXED**-0.5)
        self.blocks = nn.ModuleList(Layer() for _ in range(config.n_layer))
        self.head = nn.Linear(WIDTH, N_BYTES)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def matrices(self) -> tuple[Tensor, ...]:
        """What `train` composes once a step: nothing."""
        return ()

    def forward(self, idx: Tensor) -> Tensor:
        """Logits (T, B, 256) for bytes and BOS, (T, B); the first of each column is BOS."""
        x, begun = self.embed(idx), (idx != BOS)[..., None].float()
        for block in self.blocks:
            x = block(x, begun)
        return self.head(F.rms_norm(x, (WIDTH,)))  # type: ignore[no-any-return]

    def embed(self, idx: Tensor) -> Tensor:
        """The stream before the first layer, (T, B, WIDTH)."""
        x: Tensor = self.embedding(idx)
        if self.config.table_bits:
            x = x + self.mix(self.tables(rows(idx, self.config.table_bits)).flatten(-2))
        return x

    def loss(self, idx: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, summed over the targets (B, T) that are not -1.

        Args:
            idx: bytes and BOS, (B, T).
            targets: the bytes that follow, (B, T).
        """
        logits = self.forward(idx.t().contiguous()).float()
        return F.cross_entropy(
            logits.view(-1, N_BYTES), targets.t().reshape(-1), ignore_index=-1, reduction="sum"
        )


def rows(idx: Tensor, table_bits: int) -> Tensor:
    """The rows of the n-gram tables, (T, B, len(NGRAM_BYTES)), that bytes and BOS (T, B) lead to.

    The last eight bytes are one integer, the latest lowest, with zeros for bytes before the window. Its low n
    bytes times an odd constant modulo 2**64 give their row by the high bits.
    """
    place = torch.arange(len(idx), device=idx.device)[:, None].expand_as(idx)
    window_start = torch.where(idx == BOS, place, -1).cummax(0).values
    data = torch.where(idx == BOS, 0, idx)
    history = torch.zeros_like(idx)
    found: list[Tensor] = []
    for n in range(1, max(NGRAM_BYTES) + 1):
        back = n - 1
        earlier = torch.zeros_like(data)
        earlier[back:] = data[: len(data) - back]
        history = history | torch.where(place - back > window_start, earlier, 0) << 8 * back
        if n in NGRAM_BYTES:
            row = history * MULTIPLIER >> (64 - table_bits) & ((1 << table_bits) - 1)
            found.append(row + (len(found) << table_bits))
    return torch.stack(found, -1)


def parts(raw: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What to keep of a state (before the sigmoid), the values that enter it and its gates, each (T, B, D).

    Args:
        raw: the three side by side, (T, B, 3 D).
        bias: to be added, (3 D,), in the type of what comes back.
    """
    keep, value, gate = raw.to(bias.dtype, copy=True).add_(bias).chunk(3, -1)
    return keep, value, gate


@torch.library.custom_op("eqinfo::recurrence", mutates_args=())
def recurrence(raw: Tensor, bias: Tensor, begun: Tensor) -> tuple[Tensor, Tensor]:
    """The gated states of h[t] = keep[t] h[t - 1] + (1 - keep[t]) value[t], from 0, and the states.

    A few positions at a time, forward and backward: what lies between these tensors then stays in the cache,
    and only they are kept for the gradient.

    Args:
        raw: see `parts`, (T, B, 3 D).
        bias: see `parts`, (3 D,).
        begun: 0 where nothing is kept, else 1, (T, B, 1).

    Returns:
        relu(gate[t]) h[t], (T, B, D), and h from the 0 before the first, (T + 1, B, D).
    """
    gated, states = _room(raw, bias)
    states[0] = 0
    for at in _pieces(raw):
        keep, value, gate = parts(raw[at], bias)
        keep = keep.sigmoid()
        after = torch.mul(1 - keep, value, out=states[1:][at])
        scan(keep * begun[at], after, states[at.start])
        gated[at] = after * gate.relu()
    return gated, states


@torch.library.custom_op("eqinfo::recurrence_backward", mutates_args=())
def recurrence_backward(
    gradient: Tensor, raw: Tensor, bias: Tensor, begun: Tensor, states: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients by raw and bias, given that by the gated states."""
    by_raw, by_bias = torch.empty_like(raw), torch.zeros_like(bias)
    later_keep = later = torch.zeros_like(states[0])
    for at in reversed(_pieces(raw)):
        keep, value, gate = parts(raw[at], bias)
        keep = keep.sigmoid()
        before, after, kept = states[:-1][at], states[1:][at], keep * begun[at]
        by_gated = gradient[at].to(bias.dtype)
        opened = gate.relu()
        by_state = by_gated * opened
        scan(torch.cat((kept[1:], later_keep[None])), by_state, later, backwards=True)
        later_keep, later = kept[0], by_state[0]
        by_value = (1 - keep) * by_state
        by_keep = by_value * keep * (before * begun[at] - value)
        by_gate = by_gated * after * opened.sign()  # comparisons are slow on CPUs
        piece = torch.cat((by_keep, by_value, by_gate), -1)
        by_raw[at] = piece
        by_bias += piece.sum((0, 1))
    return by_raw, by_bias


def scan(keep: Tensor, states: Tensor, first: Tensor, backwards: bool = False) -> None:
    """Add to states[t] keep[t] times the state before, in place; from the last to the first if backwards.

    Args:
        keep: (T, B, D).
        states: what is added at each position; then the states, (T, B, D).
        first: the state before all, (B, D).
        backwards: the state before is that of the next position.
    """
    if states.device.type == "cpu":
        order = reversed if backwards else iter
        for k, state in zip(order(keep.unbind()), order(states.unbind()), strict=True):
            first = state.addcmul_(k, first)
    else:
        scan_by_doubling(keep, states, first, backwards)


def scan_by_doubling(keep: Tensor, states: Tensor, first: Tensor, backwards: bool) -> None:
    """`scan` in log2(T) rounds over all positions (Hillis and Steele 1986): for GPUs, where T steps wait."""
    if backwards:
        keep, added = keep.flip(0), states.flip(0)
    else:
        added = states.clone()
    added[0].addcmul_(keep[0], first)
    reach = 1  # each position has the sum of what so many before it, and itself, bring
    while reach < len(added):
        sums = torch.addcmul(added[reach:], keep[reach:], added[:-reach])
        keep = torch.cat((keep[:reach], keep[reach:] * keep[:-reach]))
        added = torch.cat((added[:reach], sums))
        reach *= 2
    states.copy_(added.flip(0) if backwards else added)


def _room(raw: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Memory for what `recurrence` returns."""
    shape = raw.shape[1], raw.shape[2] // 3
    return raw.new_empty(len(raw), *shape), bias.new_empty(len(raw) + 1, *shape)


def _pieces(raw: Tensor) -> list[slice]:
    """The positions of (T, B, 3 D), a few at a time."""
    n = max(1, PIECE_ELEMENTS[raw.device.type] // raw[0].numel())
    return [slice(start, start + n) for start in range(0, len(raw), n)]


@recurrence.register_fake
def _(raw: Tensor, bias: Tensor, begun: Tensor) -> tuple[Tensor, Tensor]:
    return _room(raw, bias)


@recurrence_backward.register_fake
def _(gradient: Tensor, raw: Tensor, bias: Tensor, begun: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(raw), torch.empty_like(bias)


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)  # nobody takes that by the states
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx: Any, gradient: Tensor, _: None) -> tuple[Tensor, Tensor, None]:
    return *recurrence_backward(gradient, *ctx.saved_tensors), None


recurrence.register_autograd(_backward, setup_context=_keep_for_backward)
