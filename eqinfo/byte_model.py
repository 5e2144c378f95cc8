"""M1 in training: a byte-level model of few multiplications a byte, made to become integers (`network`).

Design choices:

- a gated linear recurrence instead of attention (after minGRU and Griffin): the state has one size however
  long the context, a byte costs the same at any position, and gates depend on the input alone, so a whole
  sequence is two matrix products and one scan;
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

from eqinfo.model import normalise
from eqinfo.network import BOS, INNER, MIXED, N_BYTES, ORDERS, ROW, WIDTH

MAX_MEMORY = 512  # bytes; at the start, the slowest unit of a state forgets so slowly
MULTIPLIER = -7046029254386353131  # 2**64 / golden ratio, odd, as int64


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
        keep, value, gate = self.prepare(x)
        keep = torch.sigmoid(keep)
        state = scan(keep * begun, (1 - keep) * value)
        return x + self.output(state * F.relu(gate))  # type: ignore[no-any-return]

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the stream says to keep (before the sigmoid), its values and gates, each (T, B, INNER)."""
        keep, rest = self.inputs(normalise(x)).float().split((INNER, 2 * INNER), -1)
        value, gate = (rest + self.bias).chunk(2, -1)
        return keep + self.keep_bias, value, gate


class ByteModel(nn.Module):
    """Bytes to logits over the next byte."""

    def __init__(self, config: ByteModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(N_BYTES + 1, WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.5)
        n_rows = len(ORDERS) << config.table_bits if config.table_bits else 0
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
        return self.head(normalise(x))  # type: ignore[no-any-return]

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
    """The rows of the n-gram tables, (T, B, len(ORDERS)), that bytes and BOS (T, B) lead to.

    The last eight bytes are one integer, the latest lowest, with zeros for bytes before the window. Its low n
    bytes times an odd constant modulo 2**64 give their row by the high bits.
    """
    place = torch.arange(len(idx), device=idx.device)[:, None].expand_as(idx)
    window_start = torch.where(idx == BOS, place, -1).cummax(0).values
    data = torch.where(idx == BOS, 0, idx)
    history = torch.zeros_like(idx)
    found: list[Tensor] = []
    for n in range(1, max(ORDERS) + 1):
        back = n - 1
        earlier = torch.zeros_like(data)
        earlier[back:] = data[: len(data) - back]
        history = history | torch.where(place - back > window_start, earlier, 0) << 8 * back
        if n in ORDERS:
            row = history * MULTIPLIER >> (64 - table_bits) & ((1 << table_bits) - 1)
            found.append(row + (len(found) << table_bits))
    return torch.stack(found, -1)


@torch.library.custom_op("eqinfo::scan", mutates_args=())
def scan(keep: Tensor, added: Tensor) -> Tensor:
    """The states h of h[t] = keep[t] * h[t - 1] + added[t], from 0; all (T, B, D)."""
    states = torch.empty_like(added)
    states[0] = added[0]
    for t in range(1, len(added)):
        torch.addcmul(added[t], keep[t], states[t - 1], out=states[t])
    return states


@torch.library.custom_op("eqinfo::scan_backward", mutates_args=())
def scan_backward(gradient: Tensor, keep: Tensor) -> Tensor:
    """The gradient of the sum that `added` went into: that of the state, and of all states after it."""
    total = torch.empty_like(gradient)
    total[-1] = gradient[-1]
    for t in range(len(gradient) - 2, -1, -1):
        torch.addcmul(gradient[t], keep[t + 1], total[t + 1], out=total[t])
    return total


@scan.register_fake
@scan_backward.register_fake
def _(first: Tensor, second: Tensor) -> Tensor:
    return torch.empty_like(first)


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    keep, states = ctx.saved_tensors
    total = scan_backward(gradient.contiguous(), keep)
    before = torch.cat((torch.zeros_like(states[:1]), states[:-1]))
    return total * before, total


scan.register_autograd(_backward, setup_context=_keep_for_backward)
