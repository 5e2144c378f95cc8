"""Cross-entropy over a large vocabulary, computed for a slice of the tokens at a time.

The logits of a whole batch would be by far the largest tensor of training: with 65,536 ids, 8,192 tokens have
2 GiB of logits in float32, and their gradient takes as much again. Here the forward pass also computes the
gradient of each slice, so only one slice of logits exists at a time. It multiplies the same matrices as the
plain loss, equally often.

Shapes: N tokens, C = n_embd, V = vocab_size, S tokens in a slice.
"""

from typing import Any

import torch
from torch import Tensor

from eqinfo.m2.impossible import lower

SLICE_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 25}  # logits in a slice: 8 MiB fits caches; 128 MiB
MIN_SLICE_TOKENS = 256  # each slice also reads and writes the gradient of the whole output matrix


def cross_entropy(x: Tensor, head: Tensor, targets: Tensor, *lowered: Tensor) -> Tensor:
    """The sum of -log softmax(x @ head.T)[target] in nats over all targets that are not -1, a float32 scalar.

    Args:
        x: the model's last hidden states, (N, C).
        head: the output matrix, (V, C). Under autocast, both are converted to its dtype.
        targets: (N,), int64, each -1 or in [0, V).
        lowered: what `lower` takes beside logits, if M2 knows impossible pairs: the token before each target,
            (N,), and the pairs.
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    with torch.autocast(kind, enabled=False):
        return _CrossEntropy.apply(x.to(dtype), head.to(dtype), targets, *lowered)  # type: ignore[no-any-return,no-untyped-call]


class _CrossEntropy(torch.autograd.Function):
    """The loss and, if one is needed, both gradients, in one pass over the slices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, head: Tensor, targets: Tensor, *lowered: Tensor) -> Tensor:
        rows = max(MIN_SLICE_TOKENS, SLICE_ELEMENTS[x.device.type] // len(head))  # S
        with_gradient = any(ctx.needs_input_grad)
        total = x.new_zeros((), dtype=torch.float32)
        dx = torch.empty_like(x) if with_gradient else None  # (N, C)
        # (V, C), in float32: the sum of many slices would lose bits in bfloat16
        dhead = torch.zeros_like(head, dtype=torch.float32) if with_gradient else None
        for start in range(0, len(x), rows):
            at = slice(start, start + rows)
            logits = x[at] @ head.T  # (S, V)
            if lowered:
                before, *pairs = lowered
                lower(logits, before[at], *pairs)
            nats, error = _slice_loss(logits, targets[at], with_gradient)  # (), (S, V)
            total += nats
            if dx is not None and dhead is not None:
                dx[at] = error @ head  # (S, C)
                dhead += error.T @ x[at]  # (V, C)
        if dx is not None and dhead is not None:
            ctx.save_for_backward(dx, dhead.to(head.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        dx, dhead = ctx.saved_tensors  # (N, C), (V, C); the loss is a scalar, so the chain rule scales them
        return dx * grads[0], dhead * grads[0], *[None] * (len(ctx.needs_input_grad) - 2)


def _slice_loss(logits: Tensor, targets: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor]:
    """The loss of a slice, (), and its gradient with respect to the logits, (S, V) like them.

    That gradient is softmax(logits), minus 1 at the target, and 0 for tokens without a target. Without
    `with_gradient`, the second result is meaningless.
    """
    counted = (targets >= 0)[:, None]  # (S, 1), bool
    picked = targets.clamp(min=0)[:, None]  # (S, 1)
    below = logits.amax(-1, keepdim=True).float() - logits.gather(-1, picked).float()  # (S, 1), 0 or more
    error = logits.softmax(-1, dtype=torch.float32)  # (S, V)
    # -log p[target] = below - log p[best]; p[target] itself may round to 0, p[best] is at least 1 / V
    nats = ((below - error.amax(-1, keepdim=True).log()) * counted).sum()  # ()
    if with_gradient:
        error.scatter_add_(-1, picked, -torch.ones_like(below)).mul_(counted)
    return nats, error.to(logits.dtype)
