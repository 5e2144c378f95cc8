import pytest
import torch
import torch.nn.functional as F

from eqinfo.m2 import loss
from eqinfo.m2.loss import cross_entropy


def plain(x, head, targets):
    return F.cross_entropy(x @ head.T, targets, ignore_index=-1, reduction="sum")


@pytest.fixture(params=[1, 7, 50, 64])
def case(request, monkeypatch):
    """Tokens, some without a target; the parameter is the length of a slice."""
    monkeypatch.setattr(loss, "MIN_SLICE_TOKENS", request.param)
    monkeypatch.setattr(loss, "SLICE_ELEMENTS", {"cpu": 1})
    torch.manual_seed(0)
    x = torch.randn(50, 16, requires_grad=True)
    head = torch.randn(300, 16, requires_grad=True)
    targets = torch.randint(-1, 300, (50,))
    targets[[0, 49]] = -1
    return x, head, targets


def test_loss_and_gradients_are_those_of_the_plain_loss(case):
    x, head, targets = case
    ours, theirs = cross_entropy(x, head, targets), plain(x, head, targets)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(*(torch.autograd.grad(3 * value, (x, head)) for value in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_without_gradients_the_loss_is_the_same(case):
    x, head, targets = case
    with torch.no_grad():
        torch.testing.assert_close(cross_entropy(x, head, targets), plain(x, head, targets))


def test_no_target_at_all_costs_nothing_and_moves_nothing(case):
    x, head, targets = case
    total = cross_entropy(x, head, torch.full_like(targets, -1))
    assert total.item() == 0
    assert not torch.autograd.grad(total, x)[0].any()


def test_huge_logits_do_not_overflow(case):
    x, head, targets = case
    torch.testing.assert_close(
        cross_entropy(x * 1e4, head, targets), plain(x * 1e4, head, targets), rtol=1e-4, atol=1.0
    )


def test_under_autocast_products_are_bfloat16_and_the_loss_is_close(case):
    x, head, targets = case
    with torch.autocast("cpu", torch.bfloat16):
        ours = cross_entropy(x, head, targets)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, plain(x, head, targets), rtol=1e-2, atol=0.5)
    assert torch.autograd.grad(ours, head)[0].dtype == torch.float32
