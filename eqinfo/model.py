"""A decoder-only transformer after nanoGPT: one class serves M1 (bytes) and M2 (windows).

Design choices:

- pre-norm with RMSNorm, rotary positions, no biases, no dropout, untied input and output embeddings;
- squared ReLU in the MLP, four times as wide as the stream: one multiply, no table, sparse;
- queries and keys are normalised, so attention logits are bounded at any learning rate;
- the residual branches end in zero-initialised matrices: the untrained model is exactly uniform.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BOS = 256  # M1's input before the first byte of a window; never a target
M1_VOCAB = 257
SHORT = 64  # tokens; up to here attention on CPUs is written out


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a model; n_embd must be a multiple of 2 * n_head (rotary pairs)."""

    vocab_size: int
    block_size: int  # longest input, in tokens
    n_layer: int
    n_head: int
    n_embd: int

    @property
    def n_params(self) -> int:
        """Parameters without the embeddings: attention 4 C**2, MLP 8 C**2, norms 2 C a layer; and C."""
        return self.n_layer * (12 * self.n_embd**2 + 2 * self.n_embd) + self.n_embd


# The paper's table 4 gives M1 as 3 layers of width 256 with 4 heads. `tiny` is for tests and first tries.
M1_PRESETS = {
    "tiny": GPTConfig(M1_VOCAB, block_size=16, n_layer=1, n_head=2, n_embd=32),
    "500k": GPTConfig(M1_VOCAB, block_size=24, n_layer=2, n_head=4, n_embd=144),
    "3m": GPTConfig(M1_VOCAB, block_size=24, n_layer=3, n_head=4, n_embd=256),
}


KeyValue = tuple[Tensor, Tensor]  # of a layer, each (B, n_head, T, n_embd / n_head), keys rotated


class Block(nn.Module):
    """Attention and MLP, each on a normalised input and added to the stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.norm_1 = nn.RMSNorm(config.n_embd)
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.attention_out = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.norm_2 = nn.RMSNorm(config.n_embd)
        self.mlp_in = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.mlp_out = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: KeyValue | None = None
    ) -> tuple[Tensor, KeyValue]:
        """The stream after this layer, (B, T, C), and the keys and values of its positions.

        Args:
            x: the stream before, (B, T, C).
            cos: of the angles of the positions, (T, C / n_head / 2).
            sin: likewise.
            past: keys and values of all positions before, if there are any; then T must be 1.
        """
        B, T, C = x.shape
        qkv = self.qkv(self.norm_1(x)).view(B, T, 3, self.n_head, C // self.n_head)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each (B, n_head, T, C / n_head)
        q, k = rotate(normalise(q), cos, sin), rotate(normalise(k), cos, sin)
        present = k, v.to(k.dtype)
        keys, values = (torch.cat(pair, 2) for pair in zip(past, present, strict=True)) if past else present
        y = attention(q, keys, values)
        x = x + self.attention_out(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp_out(F.relu(self.mlp_in(self.norm_2(x))).square()), present


class GPT(nn.Module):
    """Tokens to logits over the next token."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        cos, sin = rotary(config.block_size, config.n_embd // config.n_head)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if name.endswith(("_out.weight", "head.weight")):
                nn.init.zeros_(weight)
            elif weight.dim() == 2:
                nn.init.normal_(weight, std=1.0 if name == "embedding.weight" else config.n_embd**-0.5)

    def hidden(self, idx: Tensor) -> Tensor:
        """The normalised stream after the last layer, (B, T, C), for tokens (B, T), T <= block_size."""
        T = idx.shape[1]
        x = self.embedding(idx)
        for block in self.blocks:
            x, _ = block(x, self.cos[:T], self.sin[:T])
        return self.norm(x)  # type: ignore[no-any-return]

    def extend(self, idx: Tensor, past: list[KeyValue]) -> tuple[Tensor, list[KeyValue]]:
        """Logits (B, vocab_size) after one more token each, and the keys and values of that position.

        Args:
            idx: the next tokens, (B,).
            past: of each layer, keys and values of the n positions before, each
                (B, n_head, n, n_embd / n_head); n may be 0.
        """
        at = past[0][0].shape[2]
        x = self.embedding(idx[:, None])
        presents = []
        for block, layer_past in zip(self.blocks, past, strict=True):
            x, present = block(x, self.cos[at : at + 1], self.sin[at : at + 1], layer_past)
            presents.append(present)
        return self.head(self.norm(x))[:, 0], presents

    def forward(self, idx: Tensor) -> Tensor:
        """Logits (B, T, vocab_size) for tokens (B, T)."""
        return self.head(self.hidden(idx))  # type: ignore[no-any-return]

    def loss(self, idx: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats over targets (B, T) that are not -1."""
        logits = self(idx).float()
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=-1)


def rotary(block_size: int, head_size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, each (block_size, head_size / 2); Su et al. 2021."""
    frequency = 10000.0 ** (-torch.arange(0, head_size, 2) / head_size)
    angle = torch.outer(torch.arange(block_size), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs of features of x (B, n_head, T, head_size) turned by their position's angles."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of q (B, n_head, T, head_size) to k and v: as many positions, or more if T is 1.

    On CPUs, windows are too short for the fused kernel: written out, a training step is twice as fast.
    """
    T = q.shape[-2]
    if q.device.type != "cpu" or k.shape[-2] > SHORT:
        return F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    if T > 1:
        scores = scores.masked_fill(torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1), -torch.inf)
    y: Tensor = scores.softmax(-1).to(v.dtype) @ v
    return y


def normalise(x: Tensor) -> Tensor:
    """X scaled to root mean square 1 over its last dimension."""
    return F.rms_norm(x, (x.shape[-1],))
