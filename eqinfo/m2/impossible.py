"""What M2 knows of cuts: the tokens that cannot follow a token (`codebook/pairs`) get lower logits.

M2 would give such tokens some per cent of its probability, and had to learn each pair by itself. Their logits
are lowered by a constant, not removed: in tokens that were cut in another way such pairs occur, and then cost
10 nats, not infinitely many. It takes no FLOPs and 1 to 2 % of a step.

What this module does not do: find the pairs.
"""

import torch
from torch import Tensor, nn

from eqinfo.codebook.pairs import Pairs

LOWERED = 10.0  # nats: M2 believes e**10 = 22,000 times less in a token that cannot follow


class Impossible(nn.Module):
    """For each token those that cannot follow it."""

    starts: Tensor  # (V + 1,), int64: where the list of each token begins
    seconds: Tensor  # (n,), int32: all lists

    def __init__(self, pairs: Pairs) -> None:
        super().__init__()
        self.register_buffer("starts", torch.from_numpy(pairs.starts), persistent=False)
        self.register_buffer("seconds", torch.from_numpy(pairs.seconds).view(torch.int32), persistent=False)

    def forward(self, logits: Tensor, idx: Tensor) -> Tensor:
        """The logits (..., V) after tokens idx (...), lowered where a token cannot follow."""
        lowered = logits.new_zeros(logits.shape)
        lower(lowered.view(-1, logits.shape[-1]), idx.reshape(-1), self.starts, self.seconds)
        return logits + lowered


@torch.library.custom_op("eqinfo::lower", mutates_args=("logits",))  # torch.compile does not look inside
def lower(logits: Tensor, before: Tensor, starts: Tensor, seconds: Tensor) -> None:
    """Lower the logits of the tokens that cannot follow, in place.

    Args:
        logits: (N, V), contiguous.
        before: the token before each, (N,), int64.
        starts: of `Impossible`.
        seconds: of `Impossible`.
    """
    first, counts = starts[before], starts[before + 1] - starts[before]  # (N,) each
    rows = torch.repeat_interleave(torch.arange(len(before), device=before.device), counts)  # (n,)
    within = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]  # (n,)
    logits.view(-1)[rows * logits.shape[-1] + seconds[first[rows] + within]] -= LOWERED
