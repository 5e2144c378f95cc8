"""The gated linear recurrence of M1, forward and backward.

    h[t] = keep[t] h[t - 1] + (1 - keep[t]) value[t]        output[t] = relu(gate[t]) h[t]

Design choices:

- linear in h, so T steps are one scan: a loop on CPUs, log2(T) rounds on GPUs;
- an operator of its own with a hand-written backward pass: autograd would keep about ten tensors per step,
  this one keeps the inputs and h, and recomputes the rest;
- a few positions at a time, so that the tensors between stay in the processor's cache.
"""

from typing import Any

import torch
from torch import Tensor

# elements of the largest tensor of a piece: as much as CPU caches hold; on GPUs all positions at once
PIECE_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 30}


def parts(raw: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keep (before the sigmoid), value and gate, each (T, B, D), in the dtype of bias.

    Args:
        raw: the three side by side, (T, B, 3 D), bfloat16 or float32.
        bias: added to raw, (3 D,), float32.
    """
    keep, value, gate = raw.to(bias.dtype, copy=True).add_(bias).chunk(3, -1)  # add_ must not change raw
    return keep, value, gate


@torch.library.custom_op("eqinfo::recurrence", mutates_args=())
def recurrence(raw: Tensor, bias: Tensor, begun: Tensor) -> tuple[Tensor, Tensor]:
    """The gated states and the states of the recurrence, which begins at h = 0.

    Args:
        raw: keep, value and gate before the bias, (T, B, 3 D); see `parts`.
        bias: (3 D,).
        begun: 0 where a window begins and h is cleared, else 1, (T, B, 1).

    Returns:
        relu(gate[t]) h[t], (T, B, D), in the dtype of raw; h with the 0 before the first, (T + 1, B, D).
    """
    gated, states = _room(raw, bias)  # (T, B, D) and (T + 1, B, D)
    states[0] = 0  # before the first position; states[t + 1] is h[t]
    for at in _pieces(raw):
        keep, value, gate = parts(raw[at], bias)  # each (piece, B, D)
        keep = keep.sigmoid()  # (piece, B, D), in (0, 1)
        after = torch.mul(1 - keep, value, out=states[1:][at])  # (piece, B, D); the scan makes it h
        scan(keep * begun[at], after, states[at.start])
        gated[at] = after * gate.relu()  # rounds to the dtype of raw
    return gated, states


@torch.library.custom_op("eqinfo::recurrence_backward", mutates_args=())
def recurrence_backward(
    gradient: Tensor, raw: Tensor, bias: Tensor, begun: Tensor, states: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the loss by raw (T, B, 3 D) and by bias (3 D,).

    Args:
        gradient: of the loss by the gated states, (T, B, D).
        raw: input of `recurrence`.
        bias: input of `recurrence`.
        begun: input of `recurrence`.
        states: output of `recurrence`, (T + 1, B, D).
    """
    by_raw, by_bias = torch.empty_like(raw), torch.zeros_like(bias)  # (T, B, 3 D) and (3 D,)
    # kept[t] and the gradient by h[t] at the first position of the piece after this one, each (B, D)
    later_keep = later = torch.zeros_like(states[0])
    for at in reversed(_pieces(raw)):  # the gradient by h[t] needs that by h[t + 1]
        keep, value, gate = parts(raw[at], bias)
        keep = keep.sigmoid()
        before, after, kept = states[:-1][at], states[1:][at], keep * begun[at]  # each (piece, B, D)
        by_gated = gradient[at].to(bias.dtype)  # (piece, B, D)
        opened = gate.relu()
        by_state = by_gated * opened  # through the output at t alone, until the scan
        # h[t] acts on the loss through its own output and, times kept[t + 1], through h[t + 1].
        scan(torch.cat((kept[1:], later_keep[None])), by_state, later, backwards=True)
        later_keep, later = kept[0], by_state[0]  # each (B, D)
        by_value = (1 - keep) * by_state
        # The sigmoid's derivative is keep (1 - keep); the second factor is in by_value.
        by_keep = by_value * keep * (before * begun[at] - value)
        by_gate = by_gated * after * opened.sign()  # relu's derivative; comparisons are slow on CPUs
        piece = torch.cat((by_keep, by_value, by_gate), -1)  # (piece, B, 3 D)
        by_raw[at] = piece
        by_bias += piece.sum((0, 1))  # (3 D,)
    return by_raw, by_bias


def scan(keep: Tensor, states: Tensor, first: Tensor, backwards: bool = False) -> None:
    """Solve states[t] += keep[t] states[t - 1] in place; with states[t + 1] if backwards.

    Args:
        keep: (T, B, D).
        states: the terms to add, (T, B, D); afterwards the states.
        first: the state before the first position, or after the last if backwards, (B, D).
        backwards: run from the last position to the first.
    """
    if states.device.type == "cpu":
        order = reversed if backwards else iter
        for k, state in zip(order(keep.unbind()), order(states.unbind()), strict=True):
            first = state.addcmul_(k, first)  # (B, D); unbind gives views, so `states` changes
    else:
        scan_by_doubling(keep, states, first, backwards)


def scan_by_doubling(keep: Tensor, states: Tensor, first: Tensor, backwards: bool) -> None:
    """`scan` in log2(T) rounds over all positions (Hillis and Steele 1986), for GPUs."""
    if backwards:
        keep, added = keep.flip(0), states.flip(0)  # copies, each (T, B, D)
    else:
        added = states.clone()
    added[0].addcmul_(keep[0], first)  # the state before enters at the first position only
    # Invariant: added[t] sums the terms of the last `reach` positions, each times the keeps after it;
    # keep[t] is the product of the keeps of these positions.
    reach = 1
    while reach < len(added):
        sums = torch.addcmul(added[reach:], keep[reach:], added[:-reach])
        keep = torch.cat((keep[:reach], keep[reach:] * keep[:-reach]))
        added = torch.cat((added[:reach], sums))  # positions below reach are final
        reach *= 2
    states.copy_(added.flip(0) if backwards else added)


def _room(raw: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Uninitialised outputs of `recurrence`."""
    shape = raw.shape[1], raw.shape[2] // 3  # B, D
    return raw.new_empty(len(raw), *shape), bias.new_empty(len(raw) + 1, *shape)


def _pieces(raw: Tensor) -> list[slice]:
    """Slices of the T positions of raw (T, B, 3 D), each of about PIECE_ELEMENTS elements."""
    n = max(1, PIECE_ELEMENTS[raw.device.type] // raw[0].numel())  # positions; raw[0] is (B, 3 D)
    return [slice(start, start + n) for start in range(0, len(raw), n)]


@recurrence.register_fake
def _(raw: Tensor, bias: Tensor, begun: Tensor) -> tuple[Tensor, Tensor]:
    return _room(raw, bias)


@recurrence_backward.register_fake
def _(gradient: Tensor, raw: Tensor, bias: Tensor, begun: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(raw), torch.empty_like(bias)


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)  # the states get no gradient: only the gated states are used
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx: Any, gradient: Tensor, _: None) -> tuple[Tensor, Tensor, None]:
    return *recurrence_backward(gradient, *ctx.saved_tensors), None  # begun has no gradient


recurrence.register_autograd(_backward, setup_context=_keep_for_backward)
