"""M1 in training: a byte-level model with few multiplications per byte, made to be quantised to integers.

Design choices:

- a gated linear recurrence instead of attention (after minGRU and Griffin): the size of the state and the
  cost of a byte do not depend on the context's length. Gates depend on the input alone, so a whole sequence
  is two matrix products and one scan (`recurrence`);
- hashed n-gram tables: a row costs memory but no products, and saves layers;
- no MLP: the output is the state times a rectified gate;
- BOS begins a window and clears state and n-grams, so a row of a batch may hold many windows;
- residual branches and head start at zero, so the untrained model is exactly uniform;
- time comes first, (T, B, ...), so that the scan reads contiguous memory.

Shapes: T positions, B rows, WIDTH features of the stream, INNER units of a state, MIXED features of n-grams.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqinfo.coder.integer_m1 import BOS, INNER, MIXED, N_BYTES, NGRAM_BYTES, ROW, SIGNED_MULTIPLIER, WIDTH
from eqinfo.m1.recurrence import recurrence

MAX_MEMORY = 512  # bytes: time constant of the slowest unit of a state before training


@dataclass(frozen=True)
class ByteModelConfig:
    """Shape of an M1.

    Attributes:
        n_layer: recurrent layers; 0, without tables, is a static distribution of bytes.
        table_bits: log2 of the rows of each n-gram table; 0 for no tables.
        block_size: T, bytes per row of a training batch.
        batch_size: B, rows per training batch.
    """

    n_layer: int
    table_bits: int
    block_size: int = 512
    batch_size: int = 32

    @property
    def step_bytes(self) -> int:
        """Bytes per step."""
        return self.block_size * self.batch_size

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the matrix products, per byte."""
        mix = WIDTH * MIXED if self.table_bits else 0
        return self.n_layer * 4 * WIDTH * INNER + mix + N_BYTES * WIDTH  # a layer has 3 in, 1 out

    @property
    def training_flops(self) -> int:
        """FLOPs per byte of training: 2 per multiply-accumulate, forward once and backward twice."""
        return 6 * self.macs


M1_PRESETS = {
    "unigram": ByteModelConfig(n_layer=0, table_bits=0),
    "tiny": ByteModelConfig(n_layer=1, table_bits=8, block_size=64),
    "500k": ByteModelConfig(n_layer=1, table_bits=10),
    "3m": ByteModelConfig(n_layer=3, table_bits=14),
    "7m": ByteModelConfig(n_layer=3, table_bits=15),
    "14m": ByteModelConfig(n_layer=3, table_bits=16),
}


class Layer(nn.Module):
    """Gated linear recurrence with normalised input and residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(WIDTH, 3 * INNER, bias=False)  # to keep, value and gate
        self.output = nn.Linear(INNER, WIDTH, bias=False)
        nn.init.normal_(self.inputs.weight, std=WIDTH**-0.5)  # outputs of variance 1 from normalised input
        nn.init.zeros_(self.output.weight)  # before training, a layer leaves the stream as it is
        # keep = 1 - 1 / memory, so that unit by unit the memory grows from 1.2 to MAX_MEMORY bytes
        memory = torch.exp(torch.linspace(math.log(1.2), math.log(MAX_MEMORY), INNER))  # (INNER,)
        self.keep_bias = nn.Parameter((memory - 1).log())  # (INNER,)
        self.bias = nn.Parameter(torch.zeros(2 * INNER))  # of values and gates

    def forward(self, x: Tensor, begun: Tensor) -> Tensor:
        """The stream after this layer, (T, B, WIDTH).

        Args:
            x: the stream before, (T, B, WIDTH).
            begun: 0 where a window begins, else 1, (T, B, 1).
        """
        gated, _ = recurrence(*self.prepare(x), begun)  # (T, B, INNER)
        return x + self.output(gated)  # type: ignore[no-any-return]  # (T, B, WIDTH)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keep, value and gate before the bias, (T, B, 3 INNER), and the bias, (3 INNER,)."""
        return self.inputs(F.rms_norm(x, (WIDTH,))), torch.cat((self.keep_bias, self.bias))


class ByteModel(nn.Module):
    """Bytes to logits over the next byte."""

    def __init__(self, config: ByteModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(N_BYTES + 1, WIDTH)  # 256 bytes and BOS
        nn.init.normal_(self.embedding.weight, std=0.5)
        n_rows = len(NGRAM_BYTES) << config.table_bits if config.table_bits else 0
        self.tables = nn.Embedding(n_rows, ROW)  # the tables of all orders, one after another
        if n_rows:
            nn.init.normal_(self.tables.weight, std=0.5)
            self.mix = nn.Linear(MIXED, WIDTH, bias=False)
            nn.init.normal_(self.mix.weight, std=0.5 * MIXED**-0.5)
        self.blocks = nn.ModuleList(Layer() for _ in range(config.n_layer))
        self.head = nn.Linear(WIDTH, N_BYTES)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # all logits are 0: each byte has 1/256

    def sparse_parameters(self) -> list[nn.Parameter]:
        """M1 has none; M2 has its n-grams."""
        return []

    def composed(self, idx: Tensor) -> tuple[Tensor, ...]:
        """M1 has no composed embeddings; M2 has."""
        return ()

    def forward(self, idx: Tensor) -> Tensor:
        """Logits (T, B, 256) for bytes and BOS, idx (T, B); each column begins with BOS."""
        begun = (idx != BOS)[..., None].float()  # (T, B, 1)
        x = self.embed(idx)  # (T, B, WIDTH)
        for block in self.blocks:
            x = block(x, begun)  # (T, B, WIDTH)
        return self.head(F.rms_norm(x, (WIDTH,)))  # type: ignore[no-any-return]  # (T, B, 256)

    def embed(self, idx: Tensor) -> Tensor:
        """The stream before the first layer, (T, B, WIDTH)."""
        x: Tensor = self.embedding(idx)  # (T, B, WIDTH)
        if self.config.table_bits:
            found = self.tables(rows(idx, self.config.table_bits))  # (T, B, orders, ROW)
            x = x + self.mix(found.flatten(-2))  # (T, B, MIXED) to (T, B, WIDTH)
        return x

    def loss(self, idx: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, summed over the targets (B, T) that are not -1.

        Args:
            idx: bytes and BOS, (B, T).
            targets: the bytes that follow, (B, T).
        """
        logits = self.forward(idx.t().contiguous()).float()  # (T, B, 256)
        return F.cross_entropy(
            logits.view(-1, N_BYTES), targets.t().reshape(-1), ignore_index=-1, reduction="sum"
        )


def rows(idx: Tensor, table_bits: int) -> Tensor:
    """Rows of the n-gram tables after each position, (T, B, len(NGRAM_BYTES)).

    The history is the last eight bytes as one integer, the latest lowest, zeros before the window. The
    hash of an n-gram: its n bytes times an odd constant modulo 2**64, of which the high table_bits count.

    Args:
        idx: bytes and BOS, (T, B).
        table_bits: log2 of the rows of a table.
    """
    place = torch.arange(len(idx), device=idx.device)[:, None].expand_as(idx)  # (T, B)
    window_start = torch.where(idx == BOS, place, -1).cummax(0).values  # (T, B): place of the last BOS
    data = torch.where(idx == BOS, 0, idx)  # (T, B)
    history = torch.zeros_like(idx)  # (T, B)
    found: list[Tensor] = []
    for n in range(1, max(NGRAM_BYTES) + 1):  # each round adds the next older byte to the history
        back = n - 1
        earlier = torch.zeros_like(data)
        earlier[back:] = data[: len(data) - back]
        history = history | torch.where(place - back > window_start, earlier, 0) << 8 * back
        if n in NGRAM_BYTES:
            # int64 products wrap modulo 2**64; >> copies the sign, which the mask removes
            row = history * SIGNED_MULTIPLIER >> (64 - table_bits) & ((1 << table_bits) - 1)
            found.append(row + (len(found) << table_bits))  # the table of this order begins there
    return torch.stack(found, -1)  # orders in the order of NGRAM_BYTES, as are the tables
