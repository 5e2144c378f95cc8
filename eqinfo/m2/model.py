"""M2: a decoder-only transformer after nanoGPT.

Design choices:

- RMSNorm before attention and MLP, rotary positions, no biases, no dropout, untied embeddings.
- The MLP is four times as wide as the residual stream and uses squared ReLU: cheap, and its output is sparse.
- Queries and keys are normalised, which bounds the attention scores at any learning rate.
- Residual branches and the output matrix start at zero, so the untrained model predicts every token equally.
- M2 may know the bytes of its tokens (`token_bytes`). Both embeddings of a token then get a part that its
  spelling gives, which `GPT.plain` folds into plain matrices; and the input gets n-grams of the last bytes of
  text. It also knows which tokens no text has side by side (`impossible`). None of it costs FLOPs.

Shapes: B sequences, T tokens each, C = n_embd, V = vocab_size, H = n_head, and D = C / H features a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqinfo.m2.impossible import Impossible
from eqinfo.m2.loss import cross_entropy
from eqinfo.m2.token_bytes import ByteNgrams, Spelling

UNFUSED_TOKENS = 512  # on CPUs, attention of up to this length does without the fused kernel
OWN_STD = 0.1  # initial standard deviation of the input embedding's own vectors beside a spelling


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a model; n_embd must be a multiple of 2 * n_head, because rotary positions turn pairs.

    >>> GPTConfig(vocab_size=65536, block_size=512, n_layer=4, n_head=4, n_embd=256).n_params
    3148032
    """

    vocab_size: int
    block_size: int  # longest input, in tokens
    n_layer: int
    n_head: int
    n_embd: int

    @property
    def n_params(self) -> int:
        """Parameters without embeddings. A layer: attention 4 C**2, MLP 8 C**2, norms 2 C; last norm: C."""
        return self.n_layer * (12 * self.n_embd**2 + 2 * self.n_embd) + self.n_embd

    @property
    def training_flops(self) -> int:
        """FLOPs to train on a token: 6 for each weight, with the output matrix, and 6 L C T for attention."""
        weights = self.n_params + self.vocab_size * self.n_embd
        return 6 * weights + 6 * self.n_layer * self.n_embd * self.block_size


# n_layer, n_head, n_embd; vocabulary and block size come with the data. From 25m on, the sizes of the paper.
M2_PRESETS = {
    "nano": (4, 4, 128),
    "3m": (4, 4, 256),
    "25m": (8, 8, 512),
    "113m": (16, 12, 768),
    "403m": (32, 16, 1024),
    "2b": (40, 16, 2048),
}

KeyValue = tuple[Tensor, Tensor]  # keys and values of a layer, (B, H, T, D) each; keys are rotated


class CausalSelfAttention(nn.Module):
    """What earlier positions add to the stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        """The summand of the stream, (B, T, C), and the keys and values. Arguments: see `Block.forward`."""
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.n_head, C // self.n_head)  # (B, T, 3, H, D)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # (B, H, T, D) each
        # Normalised, no score exceeds D ** 0.5. Positions enter here only.
        q, k = (rotate(F.rms_norm(each, each.shape[-1:]), cos, sin) for each in (q, k))  # (B, H, T, D)
        present = k, v.to(k.dtype)  # of one type: autocast may leave k in float32
        y = attention(q, *present, past)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)  # the heads side by side
        return self.out(y), present  # (B, T, C)


class MLP(nn.Module):
    """What a position adds to its own stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.out = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The summand of the stream, (B, T, C)."""
        x = F.relu(self.up(x)).square()  # (B, T, 4 C)
        return self.out(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """A layer: causal self-attention, then an MLP, each added to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm_1 = nn.RMSNorm(config.n_embd)
        self.attention = CausalSelfAttention(config)
        self.norm_2 = nn.RMSNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: KeyValue | None = None
    ) -> tuple[Tensor, KeyValue]:
        """The residual stream after this layer, (B, T, C), and the keys and values of its tokens.

        Args:
            x: the stream before this layer, (B, T, C).
            cos: cosines of the tokens' rotary angles, (T, D / 2).
            sin: their sines, (T, D / 2).
            past: keys and values of all positions before these; T must be 1 then.
        """
        y, present = self.attention(self.norm_1(x), cos, sin, past)
        x = x + y  # (B, T, C)
        return x + self.mlp(self.norm_2(x)), present


class GPT(nn.Module):
    """The whole model: tokens to logits of the next token.

    The training loop asks for `composed` once a step and for `loss` once a part of the batch. Inference uses
    `extend`, with a KV cache.
    """

    cos: Tensor  # (block_size, D / 2)
    sin: Tensor  # (block_size, D / 2)

    def __init__(
        self,
        config: GPTConfig,
        spelling: Spelling | None = None,
        ngrams: ByteNgrams | None = None,
        impossible: Impossible | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.spelling = spelling
        self.ngrams = ngrams
        self.impossible = impossible
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        cos, sin = rotary(config.block_size, config.n_embd // config.n_head)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        # Standard deviation C**-0.5 keeps the variance; embeddings and norms keep PyTorch's defaults.
        for name, weight in self.named_parameters():
            if name.endswith(("out.weight", "head.weight")):
                nn.init.zeros_(weight)
            elif name.startswith("blocks") and weight.dim() == 2:
                nn.init.normal_(weight, std=config.n_embd**-0.5)
        if spelling is not None:
            nn.init.normal_(self.embedding.weight, std=OWN_STD)

    def sparse_parameters(self) -> list[nn.Parameter]:
        """The n-grams: a step has gradients for the rows that it touches, and updates no others."""
        return [] if self.ngrams is None else [self.ngrams.vectors]

    def matrices(self) -> tuple[Tensor, Tensor]:
        """The input and the output embedding, each (V, C)."""
        if self.spelling is None:
            return self.embedding.weight, self.head.weight
        for_input, for_output = self.spelling()  # (V, C) each
        return self.embedding.weight + for_input, self.head.weight + for_output

    def composed(self, idx: Tensor) -> tuple[Tensor, ...]:
        """What `loss` needs beside tokens: `matrices`; the n-grams' rows that tokens (B, T) touch, if any."""
        return self.matrices() if self.ngrams is None else (*self.matrices(), *self.ngrams.touched(idx))

    def plain(self) -> dict[str, Tensor]:
        """The state dict of a model that computes the same without a spelling."""
        table, head = (matrix.detach() for matrix in self.matrices())  # (V, C) each
        state = {name: w for name, w in self.state_dict().items() if not name.startswith("spelling")}
        return state | {"embedding.weight": table, "head.weight": head}

    def embedded(self, idx: Tensor, table: Tensor, *touched: Tensor) -> Tensor:
        """The residual stream before the first layer, (B, T, C). Arguments: see `loss`."""
        x = F.embedding(idx, table)  # (B, T, C)
        return x if self.ngrams is None else x + self.ngrams(idx, touched)

    def hidden(self, idx: Tensor, table: Tensor, *touched: Tensor) -> Tensor:
        """The normalised residual stream after the last layer, (B, T, C). Arguments: see `loss`."""
        T = idx.shape[1]
        x = self.embedded(idx, table, *touched)  # (B, T, C)
        for block in self.blocks:
            x, _ = block(x, self.cos[:T], self.sin[:T])  # (B, T, C)
        return self.norm(x)  # type: ignore[no-any-return]

    def extend(
        self, idx: Tensor, past: list[KeyValue], before: Tensor | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """Logits (B, V) after the last of some new tokens, and the keys and values of these tokens.

        Args:
            idx: the new tokens, (B, T), at positions [n, n + T); T must be 1 unless n is 0.
            past: the KV cache: for each layer, keys and values of the n positions before, (B, H, n, D) each.
                It is not changed: the caller (`covers.Context`) adds the returned keys and values.
            before: the last tokens before them, (B, any number), for the n-grams.
        """
        assert self.spelling is None  # `plain` folds it
        n, T = past[0][0].shape[2], idx.shape[1]
        known = idx if before is None else torch.cat((before, idx), 1)
        x = self.embedded(known, self.embedding.weight)[:, -T:]  # (B, T, C)
        presents = []
        for block, layer_past in zip(self.blocks, past, strict=True):
            x, present = block(x, self.cos[n : n + T], self.sin[n : n + T], layer_past if n else None)
            presents.append(present)
        last = self.norm(x[:, -1])  # (B, C)
        # MKL can take 2.5 times as long for one vector as for two, also in `head(last)`.
        rows = last if len(last) > 1 else last.repeat(2, 1)  # (B or 2, C)
        logits = (self.head.weight @ rows.t()).t()[: len(last)]  # (B, V)
        return logits if self.impossible is None else self.impossible(logits, idx[:, -1]), presents

    def forward(self, idx: Tensor) -> Tensor:
        """Logits (B, T, V) for tokens (B, T)."""
        table, head = self.matrices()  # (V, C) each
        logits = F.linear(self.hidden(idx, table), head)  # (B, T, V)
        return logits if self.impossible is None else self.impossible(logits, idx)

    def loss(self, idx: Tensor, targets: Tensor, table: Tensor, head: Tensor, *touched: Tensor) -> Tensor:
        """Cross-entropy in nats, summed over the targets (B, T) that are not -1.

        Args:
            idx: tokens, (B, T), T <= block_size.
            targets: the next token of each, (B, T).
            table: the input embedding of `matrices`, (V, C). Both are arguments because gradient accumulation
                composes them once a step, not once a part.
            head: the output embedding of `matrices`, (V, C).
            touched: of `ByteNgrams.touched` of these tokens and perhaps others; none looks up all rows.
        """
        x = self.hidden(idx, table, *touched)  # (B, T, C)
        known = self.impossible
        lowered = () if known is None else (idx.reshape(-1), known.starts, known.seconds)
        return cross_entropy(x.view(-1, x.shape[-1]), head, targets.reshape(-1), *lowered)  # ()


def rotary(block_size: int, head_size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, each (block_size, head_size / 2); Su et al. 2021."""
    frequency = 10000.0 ** (-torch.arange(0, head_size, 2) / head_size)  # (D / 2,), radians a position
    angle = torch.outer(torch.arange(block_size), frequency)  # (block_size, D / 2)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions applied to x (B, H, T, D): each pair of features is turned by its angle."""
    a, b = x.chunk(2, dim=-1)  # (B, H, T, D / 2) each; a pair is (a[i], b[i])
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)  # (T, D / 2) each
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)  # (B, H, T, D)


def attention(q: Tensor, k: Tensor, v: Tensor, past: KeyValue | None = None) -> Tensor:
    """Causal attention of queries to their own and earlier positions, (B, H, T, D).

    Args:
        q: queries, (B, H, T, D).
        k: keys of the same positions, (B, H, T, D).
        v: values of the same positions, (B, H, T, D).
        past: keys and values of the n positions before; T must be 1 then.
    """
    T = q.shape[-2]
    # On CPUs the fused kernel is two to three times slower, forward and backward. It saves the memory of the
    # weights, B H T**2 floats, so long inputs still use it.
    if past is None and (q.device.type != "cpu" or T > UNFUSED_TOKENS):
        return F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
    q = q * q.shape[-1] ** -0.5  # scores have variance 1 for independent features
    scores = q @ k.transpose(-1, -2)  # (B, H, T, T)
    if T > 1:
        assert past is None
        scores = scores + torch.full_like(scores[0, 0], -torch.inf).triu(1)  # mask later positions
    if past is not None:
        # The past is never joined to k and v: that would copy the whole cache for every token.
        scores = torch.cat((q @ past[0].transpose(-1, -2), scores), -1)  # (B, H, 1, n + 1)
    weights = scores.softmax(-1).to(v.dtype)  # (B, H, T, n + T), each row sums to 1
    y: Tensor = weights[..., -T:] @ v  # (B, H, T, D)
    return y if past is None else y + weights[..., :-T] @ past[1]
