"""M2's loss on a sequence of tokens, for validation and `eval`."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist

from eqinfo.m2.batches import Tokens
from eqinfo.m2.model import GPT
from eqinfo.training.devices import bfloat16, rank_and_world

TOKENS_AT_ONCE = 1 << 14


def total_nats(
    model: GPT,
    tokens: Tokens,
    blocks: Sequence[int] | None = None,
    on_share: Callable[[float], None] = lambda share: None,
) -> float:
    """M2's loss in nats, summed over all tokens. No block sees the one before it.

    The processes of torchrun share the blocks, and all get the sum.

    Args:
        model: to measure.
        tokens: to measure on.
        blocks: numbers of the blocks to measure; None for all.
        on_share: called with the share that is done.
    """
    block_size, device = model.config.block_size, next(model.parameters()).device
    rank, world = rank_and_world()
    mine = (range(tokens.n_blocks(block_size)) if blocks is None else blocks)[rank::world]
    n_rows = max(1, TOKENS_AT_ONCE // block_size)
    total = torch.zeros((), dtype=torch.float64, device=device)
    model.eval()
    with torch.inference_mode(), bfloat16(device):
        matrices = model.matrices()
        for at in range(0, len(mine), n_rows):
            on_share(at / len(mine))
            idx, targets = (t.to(device) for t in tokens.blocks(mine[at : at + n_rows], block_size))
            total += model.loss(idx, targets, *matrices)
    if world > 1:
        dist.all_reduce(total)
    return total.item()
