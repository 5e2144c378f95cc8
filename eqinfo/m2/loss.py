"""Cross-entropy over a large vocabulary, a slice of the tokens at a time.

Logits of all tokens of a batch would be the largest tensor in training by far: at 65,536 ids, a step of
8,192 tokens has 2 GiB of them in float32, and as much again for their gradient. Here the gradient of a
slice is taken as soon as its logits are there, so that one slice is all that ever exists. The products
are those of the plain loss, no more.
"""

from typing import Any

import torch
from torch import Tensor

SLICE_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 25}  # logits at a time: what caches hold, or 128 MiB
MIN_SLICE_TOKENS = 256  # each slice adds to the gradient of the whole output matrix: that must pay


def cross_entropy(x: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """The sum of -log softmax(x @ head.T)[target] in nats over all targets that are not -1.

    Args:
        x: what the model ends in, (N, C).
        head: the output matrix, (V, C); it is multiplied in the type of autocast where that is on.
        targets: (N,), int64, each -1 or below V.
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    with torch.autocast(kind, enabled=False):
        return _CrossEntropy.apply(x.to(dtype), head.to(dtype), targets)  # type: ignore[no-any-return,no-untyped-call]


class _CrossEntropy(torch.autograd.Function):
    """The loss and, where asked for, both gradients, in one pass over the slices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        rows = max(MIN_SLICE_TOKENS, SLICE_ELEMENTS[x.device.type] // len(head))
        with_gradient = any(ctx.needs_input_grad)
        total = x.new_zeros((), dtype=torch.float32)
        dx = torch.empty_like(x) if with_gradient else None
        dhead = torch.zeros_like(head, dtype=torch.float32) if with_gradient else None
        for part in range(0, len(x), rows):
            at = slice(part, part + rows)
            nats, error = _of_slice(x[at], head, targets[at], with_gradient)
            total += nats
            if dx is not None and dhead is not None:
                dx[at] = error @ head
                dhead += error.T @ x[at]
        if dx is not None and dhead is not None:
            ctx.save_for_backward(dx, dhead.to(head.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        dx, dhead = ctx.saved_tensors
        return dx * grads[0], dhead * grads[0], None


def _of_slice(x: Tensor, head: Tensor, targets: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor]:
    """The loss of some tokens and its gradient by their logits, which is softmax minus one at the target."""
    logits = x @ head.T
    counted = (targets >= 0)[:, None]
    picked = targets.clamp(min=0)[:, None]
    below = logits.amax(-1, keepdim=True).float() - logits.gather(-1, picked).float()
    error = logits.softmax(-1, dtype=torch.float32)
    # the highest probability is never 0, as that of the target may be
    nats = ((below - error.amax(-1, keepdim=True).log()) * counted).sum()
    if with_gradient:
        error.scatter_add_(-1, picked, -torch.ones_like(below)).mul_(counted)
    return nats, error.to(x.dtype)
