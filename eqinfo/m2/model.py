"""M2: a decoder-only transformer after nanoGPT.

Design choices:

- pre-norm with RMSNorm, rotary positions, no biases, no dropout, untied input and output embeddings;
- squared ReLU in the MLP, four times as wide as the stream: one multiply, no table, sparse;
- queries and keys are normalised, so attention logits are bounded at any learning rate;
- the residual branches end in zero-initialised matrices: the untrained model is exactly uniform;
- M2 may know the bytes of its tokens: a row of either embedding is then its own vector plus a learned vector
  for each of its first and last bytes by position. `plain` folds them, so that inference pays nothing.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqinfo.m2.loss import cross_entropy

SHORT = 512  # tokens; up to here attention on CPUs is written out
N_SPELT = 4  # bytes at either end of a token
OWN_STD, SPELT_STD = 0.1, 0.25  # of the input embedding at the start, where tokens are spelt


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

    @property
    def training_flops(self) -> int:
        """FLOPs a token of training: 6 a weight, the output matrix counted, and causal attention 6 L C T."""
        weights = self.n_params + self.vocab_size * self.n_embd
        return 6 * weights + 6 * self.n_layer * self.n_embd * self.block_size


# Of M2: n_layer, n_head, n_embd; vocabulary and block size come with the data. The paper's sizes from 25m on.
M2_PRESETS = {
    "nano": (4, 4, 128),
    "3m": (4, 4, 256),
    "25m": (8, 8, 512),
    "113m": (16, 12, 768),
    "403m": (32, 16, 1024),
    "2b": (40, 16, 2048),
}

KeyValue = tuple[Tensor, Tensor]  # of a layer, each (B, n_head, T, n_embd / n_head), keys rotated


class Spelling(nn.Module):
    """What the bytes of tokens add to their embeddings: a learned vector for each (position, byte).

    The first N_SPELT bytes count by their distance from the beginning, the last N_SPELT by that from the end;
    in a shorter token every byte does both.
    """

    features: Tensor  # (position, byte) pairs of all tokens, one token after another
    offsets: Tensor  # where each token's begin, (V,)

    def __init__(self, tokens: list[bytes], n_embd: int) -> None:
        super().__init__()
        ends = [[*enumerate(t[:N_SPELT]), *enumerate(t[: -N_SPELT - 1 : -1], N_SPELT)] for t in tokens]
        features = torch.tensor([at << 8 | byte for pairs in ends for at, byte in pairs])
        offsets = torch.tensor([0, *map(len, ends)]).cumsum(0)[:-1]
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        # input and output side by side, so that the vocabulary is gone through once
        self.vectors = nn.Parameter(torch.zeros(2 * N_SPELT << 8, 2 * n_embd))
        nn.init.normal_(self.vectors[:, :n_embd], std=SPELT_STD)

    def forward(self) -> tuple[Tensor, Tensor]:
        """What to add to the input and to the output embedding, each (V, n_embd)."""
        both = F.embedding_bag(self.features, self.vectors, self.offsets, mode="sum")
        spelt_in, spelt_out = both.chunk(2, -1)
        return spelt_in, spelt_out


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
        y = attention(q, *present, past)
        x = x + self.attention_out(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp_out(F.relu(self.mlp_in(self.norm_2(x))).square()), present


class GPT(nn.Module):
    """Tokens to logits over the next token."""

    cos: Tensor
    sin: Tensor

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
        for name, weight in self.named_parameters():
            if name.endswith(("_out.weight", "head.weight")):
                nn.init.zeros_(weight)
            elif name.startswith("blocks") and weight.dim() == 2:
                nn.init.normal_(weight, std=config.n_embd**-0.5)
        if spelling is not None:
            nn.init.normal_(self.embedding.weight, std=OWN_STD)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """The input and the output embedding, each (vocab_size, n_embd)."""
        if self.spelling is None:
            return self.embedding.weight, self.head.weight
        spelt_in, spelt_out = self.spelling()
        return self.embedding.weight + spelt_in, self.head.weight + spelt_out

    def plain(self) -> dict[str, Tensor]:
        """The state of a model that computes the same without a spelling."""
        table, head = (matrix.detach() for matrix in self.matrices())
        state = {name: w for name, w in self.state_dict().items() if not name.startswith("spelling")}
        return state | {"embedding.weight": table, "head.weight": head}

    def hidden(self, idx: Tensor, table: Tensor) -> Tensor:
        """The normalised stream after the last layer, (B, T, C).

        Args:
            idx: tokens, (B, T), T <= block_size.
            table: the input embedding, (vocab_size, C).
        """
        T = idx.shape[1]
        x = F.embedding(idx, table)
        for block in self.blocks:
            x, _ = block(x, self.cos[:T], self.sin[:T])
        return self.norm(x)  # type: ignore[no-any-return]

    def extend(self, idx: Tensor, past: list[KeyValue]) -> tuple[Tensor, list[KeyValue]]:
        """Logits (B, vocab_size) after the last of more tokens, and the keys and values of their positions.

        Args:
            idx: the next tokens, (B, T), or (B,) for one each; T must be 1 unless n is 0.
            past: of each layer, keys and values of the n positions before, each
                (B, n_head, n, n_embd / n_head). It is only read: the caller keeps what comes back.
        """
        assert self.spelling is None  # see `plain`
        idx = idx.view(len(idx), -1)
        n = past[0][0].shape[2]
        positions = slice(n, n + idx.shape[1])
        x = self.embedding(idx)
        presents = []
        for block, layer_past in zip(self.blocks, past, strict=True):
            x, present = block(x, self.cos[positions], self.sin[positions], layer_past if n else None)
            presents.append(present)
        last = self.norm(x[:, -1])
        # MKL may take 2.5 times as long for a large matrix and one vector as for two, and so for `head(x)`
        rows = last if len(last) > 1 else last.repeat(2, 1)
        return (self.head.weight @ rows.t()).t()[: len(last)], presents

    def forward(self, idx: Tensor) -> Tensor:
        """Logits (B, T, vocab_size) for tokens (B, T)."""
        table, head = self.matrices()
        return F.linear(self.hidden(idx, table), head)

    def loss(self, idx: Tensor, targets: Tensor, table: Tensor, head: Tensor) -> Tensor:
        """Cross-entropy in nats, summed over the targets (B, T) that are not -1.

        Args:
            idx: tokens, (B, T).
            targets: the tokens that follow, (B, T).
            table: what `matrices` gives first; whoever sums over parts of a batch makes them once.
            head: what it gives second.
        """
        x = self.hidden(idx, table)
        return cross_entropy(x.view(-1, x.shape[-1]), head, targets.reshape(-1))


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


def attention(q: Tensor, k: Tensor, v: Tensor, past: KeyValue | None = None) -> Tensor:
    """Causal attention of q (B, n_head, T, head_size) to k and v of the same positions and of those before.

    On CPUs the fused kernel takes two to three times as long, forward and backward. What it saves is memory:
    that of the weights, B n_head T**2 of them.
    With a past T must be 1. It is never joined to k and v, for that would copy all of it for every token.
    """
    T = q.shape[-2]
    if past is None and (q.device.type != "cpu" or T > SHORT):
        return F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
    q = q * q.shape[-1] ** -0.5
    scores = q @ k.transpose(-1, -2)
    if T > 1:
        assert past is None
        scores = scores + torch.full_like(scores[0, 0], -torch.inf).triu(1)
    if past is not None:
        scores = torch.cat((q @ past[0].transpose(-1, -2), scores), -1)
    weights = scores.softmax(-1).to(v.dtype)
    y: Tensor = weights[..., -T:] @ v
    return y if past is None else y + weights[..., :-T] @ past[1]


def normalise(x: Tensor) -> Tensor:
    """X scaled to root mean square 1 over its last dimension."""
    return F.rms_norm(x, (x.shape[-1],))
