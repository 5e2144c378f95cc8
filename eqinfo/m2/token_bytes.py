"""What M2 knows of the bytes of its tokens: trie spelling and byte n-grams.

- `Spelling` adds to both embeddings of a token a learned vector for each beginning and each end of its bytes
  that another token shares, and one for each (position, byte) at its ends. It folds into plain matrices.
- `ByteNgrams` adds to the input a learned vector for each hash of the last bytes of text, however the text
  was cut into tokens. Its rows depend on several tokens, so it does not fold, but costs only look-ups.

What this module does not do: read codebooks or text. Tokens come as a list of byte strings.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_SHARED = 16  # longest beginning or end that a spelling counts, in bytes
N_PLACED = 4  # bytes at either end of a token that have a vector for their position
SPELLED_STD = 0.25  # initial standard deviation of a spelling's input vectors
SPELLED_WEIGHT = 0.5  # of each vector: a sum of some 20 vectors learns too fast otherwise

LENGTHS = (2, 3, 4, 5, 6, 7)  # of the n-grams in bytes, at most 7
MAX_TOKENS = LENGTHS[-1] - 1  # that an n-gram can reach into before its own, since each has a byte
ROW_BITS = 17  # log2 of the rows that all lengths share
NGRAM_STD = 0.1  # initial standard deviation of their vectors
FACTORS = (  # of the hash of each length: odd, and below 2**63 as int64 wants
    0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB,
    0x2545F4914F6CDD1D, 0x369DEA0F31A53F85, 0x1B873593CC9E2D51,
)  # fmt: skip


class Spelling(nn.Module):
    """The part of the embeddings that comes from tokens' bytes: the sum of the vectors of its features.

    Features of a token: its first 1 to 16 bytes, if another token begins with them too; its last 1 to 16
    bytes likewise; each of its first and last four bytes by its place.
    """

    features: Tensor  # of all tokens, one token after another
    offsets: Tensor  # (V,): the index of each token's first feature

    def __init__(self, tokens: list[bytes], n_embd: int) -> None:
        super().__init__()
        found = [_features(token) for token in tokens]
        uses = Counter(feature for features in found for feature in features)
        numbers = {feature: n for n, feature in enumerate(f for f, n in uses.items() if n > 1)}
        kept = [[numbers[feature] for feature in features if feature in numbers] for features in found]
        offsets = torch.tensor([0, *map(len, kept)]).cumsum(0)[:-1]
        features = torch.tensor([n for row in kept for n in row], dtype=torch.int64)
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        # Both embeddings side by side need one pass over the vocabulary. The output half starts at zero.
        self.vectors = nn.Parameter(torch.zeros(len(numbers), 2 * n_embd))
        nn.init.normal_(self.vectors[:, :n_embd], std=SPELLED_STD)

    def forward(self) -> tuple[Tensor, Tensor]:
        """The summands of the input and of the output embedding, each (V, C)."""
        both = F.embedding_bag(self.features, self.vectors, self.offsets, mode="sum")  # (V, 2 C)
        for_input, for_output = (SPELLED_WEIGHT * both).chunk(2, -1)  # (V, C) each
        return for_input, for_output


def _features(token: bytes) -> list[Hashable]:
    """The features of a token's spelling, before those of a single token are left out."""
    lengths = range(1, min(len(token), MAX_SHARED) + 1)
    return [
        *(("begins", token[:n]) for n in lengths),
        *(("ends", token[-n:]) for n in lengths),
        *enumerate(token[:N_PLACED]),
        *((-at, byte) for at, byte in enumerate(token[: -N_PLACED - 1 : -1], 1)),
    ]


class ByteNgrams(nn.Module):
    """Learned vectors for hashes of the last 2 to 7 bytes of text up to the end of a token.

    The text is that of the tokens given, after bytes of value 0. An end of text hides what is before it.
    """

    tails: Tensor  # (V,), int64: the last bytes of a token, the last one lowest
    n_bytes: Tensor  # (V,), int64: their number, 7 at most; an end of text counts as 7 bytes of value 0

    def __init__(self, tokens: list[bytes], n_embd: int) -> None:
        super().__init__()
        tails = torch.tensor([int.from_bytes(token[-LENGTHS[-1] :]) for token in tokens])
        n_bytes = torch.tensor([len(token) or LENGTHS[-1] for token in tokens]).clamp(max=LENGTHS[-1])
        self.register_buffer("tails", tails, persistent=False)
        self.register_buffer("n_bytes", n_bytes, persistent=False)
        self.vectors = nn.Parameter(torch.randn(1 << ROW_BITS, n_embd) * NGRAM_STD)

    def rows(self, idx: Tensor) -> Tensor:
        """The rows of `vectors` for tokens (B, T), each of which sees those before it: (B, T, lengths)."""
        tail, known = self.tails[idx], self.n_bytes[idx]  # (B, T) each
        longest = LENGTHS[-1]
        for back in range(1, min(MAX_TOKENS, idx.shape[1] - 1) + 1):
            before = F.pad(idx[:, :-back], (back, 0), value=0)  # (B, T); an end of text where there is none
            tail = tail | torch.where(known < longest, self.tails[before] << 8 * known, 0)
            known = (known + self.n_bytes[before]).clamp(max=longest)
        grams = [tail & (1 << 8 * length) - 1 for length in LENGTHS]
        # Products wrap modulo 2**64 on every device, and their highest bits depend on all bytes.
        hashes = [gram * factor >> 64 - ROW_BITS for gram, factor in zip(grams, FACTORS, strict=True)]
        return torch.stack(hashes, -1) & (1 << ROW_BITS) - 1

    def touched(self, idx: Tensor) -> tuple[Tensor, Tensor]:
        """The rows that tokens (B, T) use, (U,) ascending; their vectors, (U, C), with sparse gradients."""
        rows: Tensor = self.rows(idx).unique()  # type: ignore[no-untyped-call]
        return rows, F.embedding(rows, self.vectors, sparse=True)

    def forward(self, idx: Tensor, touched: Sequence[Tensor] = ()) -> Tensor:
        """The summand of the input for tokens (B, T), (B, T, C).

        Args:
            idx: tokens.
            touched: of these tokens and perhaps others; empty to look up all rows.
        """
        rows = self.rows(idx)  # (B, T, lengths)
        vectors: Tensor = self.vectors
        if touched:
            rows, vectors = torch.searchsorted(touched[0], rows), touched[1]
        bags: Tensor = F.embedding_bag(rows.flatten(0, 1), vectors, mode="sum")  # (B T, C)
        return bags.view(*idx.shape, -1)
