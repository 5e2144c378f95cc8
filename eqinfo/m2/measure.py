"""M2's loss on a sequence of tokens, for validation and `eval`."""

import torch
import torch.distributed as dist

from eqinfo.m2.batches import Tokens
from eqinfo.m2.model import GPT
from eqinfo.training.devices import bfloat16, rank_and_world

TOKENS_AT_ONCE = 1 << 14


def total_nats(model: GPT, tokens: Tokens) -> float:
    """M2's loss in nats, summed over all tokens. No block sees the one before it.

    The processes of torchrun share the blocks, and all get the sum.
    """
    block_size, device = model.config.block_size, next(model.parameters()).device
    rank, world = rank_and_world()
    mine = range(rank, tokens.n_blocks(block_size), world)
    n_rows = max(1, TOKENS_AT_ONCE // block_size)
    total = torch.zeros((), dtype=torch.float64, device=device)
    model.eval()
    with torch.inference_mode(), bfloat16(device):
        matrices = model.matrices()
        for at in range(0, len(mine), n_rows):
            idx, targets = (t.to(device) for t in tokens.blocks(mine[at : at + n_rows], block_size))
            total += model.loss(idx, targets, *matrices)
    if world > 1:
        dist.all_reduce(total)
    return total.item()
