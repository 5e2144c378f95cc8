"""M2: a decoder-only transformer after nanoGPT.

Design choices:

- RMSNorm before attention and MLP, rotary positions, no biases, no dropout, untied embeddings.
- The MLP is four times as wide as the residual stream and uses squared ReLU: cheap, and its output is sparse.
- Queries and keys are normalised, which bounds the attention scores at any learning rate.
- Residual branches and the output matrix start at zero, so the untrained model predicts every token equally.
- M2 may know the bytes of its tokens (`Spelling`): a row of either embedding is then a vector of its own plus
  a learned vector for each of the token's first and last bytes. `GPT.plain` folds them into one matrix, so
  inference costs no more.

nanoGPT's `CausalSelfAttention` and `MLP` are methods of `Block` here, so parameters are named without them,
as in `blocks.0.qkv.weight`. Shapes: B sequences, T tokens each, C = n_embd, V = vocab_size, H = n_head, and
D = C / H features a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqinfo.m2.loss import cross_entropy

UNFUSED_TOKENS = 512  # on CPUs, attention of up to this length does without the fused kernel
N_SPELLED = 4  # bytes at either end of a token that a spelling counts
OWN_STD, SPELLED_STD = 0.1, 0.25  # initial standard deviations of the input embedding with a spelling


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


class Spelling(nn.Module):
    """The part of the embeddings that comes from tokens' bytes: a learned vector for each (position, byte).

    Positions 0 to 3 are the first N_SPELLED bytes of a token, 4 to 7 the last ones, counted from its end. A
    byte near both ends has two positions.
    """

    features: Tensor  # position << 8 | byte, of all tokens, one token after another
    offsets: Tensor  # (V,): the index of each token's first feature

    def __init__(self, tokens: list[bytes], n_embd: int) -> None:
        super().__init__()
        ends = [[*enumerate(t[:N_SPELLED]), *enumerate(t[: -N_SPELLED - 1 : -1], N_SPELLED)] for t in tokens]
        features = torch.tensor([at << 8 | byte for pairs in ends for at, byte in pairs])
        offsets = torch.tensor([0, *map(len, ends)]).cumsum(0)[:-1]
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        # Both embeddings side by side need one pass over the vocabulary. The output half starts at zero.
        self.vectors = nn.Parameter(torch.zeros(2 * N_SPELLED << 8, 2 * n_embd))  # (2048, 2 C)
        nn.init.normal_(self.vectors[:, :n_embd], std=SPELLED_STD)

    def forward(self) -> tuple[Tensor, Tensor]:
        """The summands of the input and of the output embedding, each (V, C)."""
        both = F.embedding_bag(self.features, self.vectors, self.offsets, mode="sum")  # (V, 2 C)
        for_input, for_output = both.chunk(2, -1)  # (V, C) each
        return for_input, for_output


class Block(nn.Module):
    """A layer: causal self-attention, then an MLP, each added to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        # causal self-attention
        self.norm_1 = nn.RMSNorm(config.n_embd)
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.attention_out = nn.Linear(config.n_embd, config.n_embd, bias=False)
        # MLP
        self.norm_2 = nn.RMSNorm(config.n_embd)
        self.mlp_in = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.mlp_out = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

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
        y, present = self.causal_self_attention(self.norm_1(x), cos, sin, past)
        x = x + y  # (B, T, C)
        return x + self.mlp(self.norm_2(x)), present

    def causal_self_attention(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: KeyValue | None
    ) -> tuple[Tensor, KeyValue]:
        """What attention adds to the stream, (B, T, C), and its keys and values. Arguments: see `forward`."""
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.n_head, C // self.n_head)  # (B, T, 3, H, D)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # (B, H, T, D) each
        # Normalised, no score exceeds D ** 0.5. Positions enter here only.
        q, k = (rotate(F.rms_norm(each, each.shape[-1:]), cos, sin) for each in (q, k))  # (B, H, T, D)
        present = k, v.to(k.dtype)  # of one type: autocast may leave k in float32
        y = attention(q, *present, past)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)  # the heads side by side
        return self.attention_out(y), present  # (B, T, C)

    def mlp(self, x: Tensor) -> Tensor:
        """What the MLP adds to the stream, (B, T, C)."""
        x = F.relu(self.mlp_in(x)).square()  # (B, T, 4 C)
        return self.mlp_out(x)  # type: ignore[no-any-return]


class GPT(nn.Module):
    """The whole model: tokens to logits of the next token.

    The training loop asks for `matrices` once a step and for `loss` once a part of the batch. Inference uses
    `extend`, with a KV cache.
    """

    cos: Tensor  # (block_size, D / 2)
    sin: Tensor  # (block_size, D / 2)

    def __init__(self, config: GPTConfig, spelling: Spelling | None = None) -> None:
        super().__init__()
        self.config = config
        self.spelling = spelling
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        cos, sin = rotary(config.block_size, config.n_embd // config.n_head)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        # Standard deviation C**-0.5 keeps the variance; embeddings and norms keep PyTorch's defaults.
        for name, weight in self.named_parameters():
            if name.endswith(("_out.weight", "head.weight")):
                nn.init.zeros_(weight)
            elif name.startswith("blocks") and weight.dim() == 2:
                nn.init.normal_(weight, std=config.n_embd**-0.5)
        if spelling is not None:
            nn.init.normal_(self.embedding.weight, std=OWN_STD)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """The input and the output embedding, each (V, C)."""
        if self.spelling is None:
            return self.embedding.weight, self.head.weight
        for_input, for_output = self.spelling()  # (V, C) each
        return self.embedding.weight + for_input, self.head.weight + for_output

    def plain(self) -> dict[str, Tensor]:
        """The state dict of a model that computes the same without a spelling."""
        table, head = (matrix.detach() for matrix in self.matrices())  # (V, C) each
        state = {name: w for name, w in self.state_dict().items() if not name.startswith("spelling")}
        return state | {"embedding.weight": table, "head.weight": head}

    def hidden(self, idx: Tensor, table: Tensor) -> Tensor:
        """The normalised residual stream after the last layer, (B, T, C).

        Args:
            idx: tokens, (B, T), T <= block_size.
            table: the input embedding, (V, C).
        """
        T = idx.shape[1]
        x = F.embedding(idx, table)  # (B, T, C)
        for block in self.blocks:
            x, _ = block(x, self.cos[:T], self.sin[:T])  # (B, T, C)
        return self.norm(x)  # type: ignore[no-any-return]

    def extend(self, idx: Tensor, past: list[KeyValue]) -> tuple[Tensor, list[KeyValue]]:
        """Logits (B, V) after the last of some new tokens, and the keys and values of these tokens.

        Args:
            idx: the new tokens, (B, T), at positions [n, n + T); T must be 1 unless n is 0.
            past: the KV cache: for each layer, keys and values of the n positions before, (B, H, n, D) each.
                It is not changed: the caller (`covers.Context`) adds the returned keys and values.
        """
        assert self.spelling is None  # `plain` folds it
        n = past[0][0].shape[2]
        positions = slice(n, n + idx.shape[1])
        x = self.embedding(idx)  # (B, T, C)
        presents = []
        for block, layer_past in zip(self.blocks, past, strict=True):
            x, present = block(x, self.cos[positions], self.sin[positions], layer_past if n else None)
            presents.append(present)
        last = self.norm(x[:, -1])  # (B, C)
        # MKL can take 2.5 times as long for one vector as for two, also in `head(last)`.
        rows = last if len(last) > 1 else last.repeat(2, 1)  # (B or 2, C)
        return (self.head.weight @ rows.t()).t()[: len(last)], presents  # (B, V)

    def forward(self, idx: Tensor) -> Tensor:
        """Logits (B, T, V) for tokens (B, T)."""
        table, head = self.matrices()  # (V, C) each
        return F.linear(self.hidden(idx, table), head)  # (B, T, V)

    def loss(self, idx: Tensor, targets: Tensor, table: Tensor, head: Tensor) -> Tensor:
        """Cross-entropy in nats, summed over the targets (B, T) that are not -1.

        Args:
            idx: tokens, (B, T).
            targets: the next token of each, (B, T).
            table: the input embedding of `matrices`, (V, C). Both are arguments because gradient accumulation
                composes them once a step, not once a part.
            head: the output embedding of `matrices`, (V, C).
        """
        x = self.hidden(idx, table)  # (B, T, C)
        return cross_entropy(x.view(-1, x.shape[-1]), head, targets.reshape(-1))  # ()


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
