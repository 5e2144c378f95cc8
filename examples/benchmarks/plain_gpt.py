"""A plain GPT and its training loop, after nanoGPT; the baseline of M2's training steps."""

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm attention and MLP with residual connections."""

    def __init__(self, n_embd: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.norms = nn.ModuleList([nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)])
        self.qkv, self.proj = nn.Linear(n_embd, 3 * n_embd, False), nn.Linear(n_embd, n_embd, False)
        self.up, self.down = nn.Linear(n_embd, 4 * n_embd, False), nn.Linear(4 * n_embd, n_embd, False)

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream after this block; (B, T, C) in and out."""
        size = (*x.shape[:2], self.n_head, -1)
        q, k, v = (part.view(size).transpose(1, 2) for part in self.qkv(self.norms[0](x)).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class PlainGPT(nn.Module):
    """Token and position embeddings, blocks, and an untied output matrix."""

    def __init__(self, vocab_size: int, block_size: int, n_layer: int, n_head: int, n_embd: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, n_embd), nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList([Block(n_embd, n_head) for _ in range(n_layer)])
        self.norm, self.head = nn.LayerNorm(n_embd), nn.Linear(n_embd, vocab_size, False)

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        """The mean loss in nats per token; idx and targets are (B, T)."""
        x = self.tokens(idx) + self.positions(torch.arange(idx.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.reshape(-1))


def step_seconds(
    shape: tuple[int, int, int], vocab_size: int, block_size: int, batch_tokens: int, steps: int
) -> list[float]:
    """CPU seconds of each training step on random ids.

    Args:
        shape: n_layer, n_head, n_embd.
        vocab_size: number of ids.
        block_size: tokens per sequence.
        batch_tokens: tokens per step.
        steps: number of steps.
    """
    torch.manual_seed(0)
    model = PlainGPT(vocab_size, block_size, *shape)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    data = np.random.default_rng(0).integers(0, vocab_size, 1 << 20).astype(np.uint32)
    found = []
    for _ in range(steps):
        started = time.process_time()
        starts = torch.randint(len(data) - block_size - 1, (batch_tokens // block_size,)).tolist()
        rows = torch.from_numpy(np.stack([data[k : k + block_size + 1].astype(np.int64) for k in starts]))
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(rows[:, :-1], rows[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        found.append(time.process_time() - started)
    return found
