"""M1 in training: what it computes, and that it becomes integers at little cost."""

import math

import numpy as np
import pytest
import torch
from helpers.texts import prose

from eqinfo.coder.integer_m1 import BOS, HASH_MULTIPLIER, NGRAM_BYTES
from eqinfo.coder.kernels.m1_step import NGRAM_MASKS
from eqinfo.m1 import recurrence as recurrence_module
from eqinfo.m1.batches import WindowBatches
from eqinfo.m1.corpus import Text
from eqinfo.m1.measure import float_bits, run_bits
from eqinfo.m1.model import M1_PRESETS, ByteModel, rows
from eqinfo.m1.quantise import quantise, static
from eqinfo.m1.recurrence import recurrence, scan, scan_by_doubling
from eqinfo.training.loop import Trainer
from eqinfo.training.schedule import Budget

CPU = torch.device("cpu")
TEXT = prose(20_000)


def text_of(data):
    return Text(np.frombuffer(data, np.uint8), np.array([len(data)]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.manual_seed(0)
    shape = M1_PRESETS["tiny"]
    trainer = Trainer(ByteModel(shape), Budget(60), shape.step_bytes, 0.01, CPU)
    batches = WindowBatches(text_of(TEXT), None, shape.batch_size, shape.block_size, 0)
    losses = []
    checkpoint = tmp_path_factory.mktemp("run") / "checkpoint.pt"
    trainer.run(batches, 1.0, checkpoint, lambda t: losses.append(t.loss_nats), lambda: False)
    return trainer.model.eval(), losses


def test_an_untrained_model_is_uniform():
    model = ByteModel(M1_PRESETS["tiny"])
    loss = model.loss(torch.full((2, 8), BOS), torch.randint(0, 256, (2, 8)))
    assert loss.item() == pytest.approx(16 * math.log(256))


def test_training_lowers_the_loss(trained):
    _, losses = trained
    assert losses[0] == pytest.approx(math.log(256), rel=0.01)
    assert np.mean(losses[-5:]) < 3.0


@pytest.mark.parametrize("at_once", [1, 4, 99])
def test_a_recurrence_and_its_gradients_are_those_of_the_loop(at_once, monkeypatch):
    monkeypatch.setattr(recurrence_module, "PIECE_ELEMENTS", {"cpu": at_once * 2 * 9})
    torch.manual_seed(0)
    raw, bias = (torch.randn(n, dtype=torch.float64, requires_grad=True) for n in ((11, 2, 9), (9,)))
    begun = torch.ones(11, 2, 1, dtype=torch.float64)
    begun[4, 0] = begun[8, 1] = 0
    state, gated = torch.zeros(2, 3), []
    for t in range(11):
        keep, value, gate = (raw[t] + bias).chunk(3, -1)
        keep = keep.sigmoid()
        state = keep * begun[t] * state + (1 - keep) * value
        gated.append(gate.relu() * state)
    found, states = recurrence(raw, bias, begun)
    assert torch.allclose(found, torch.stack(gated))
    assert torch.allclose(states[-1], state)
    assert not states[0].any()

    def gated_of(raw, bias):
        return recurrence(raw, bias, begun)[0]

    assert torch.autograd.gradcheck(gated_of, (raw, bias), check_undefined_grad=False)


@pytest.mark.parametrize("n", [1, 2, 7, 64])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_scan_by_doubling_is_that_of_the_loop(n, backwards):
    torch.manual_seed(n)
    keep, added, first = (
        torch.rand(n, 2, 3).double(),
        torch.randn(n, 2, 3).double(),
        torch.randn(2, 3).double(),
    )
    keep[n // 2] = 0
    want, found = added.clone(), added.clone()
    scan(keep, want, first, backwards)
    scan_by_doubling(keep, found, first, backwards)
    assert torch.allclose(found, want, atol=1e-6)
    at, state = (n - 1 if backwards else 0), first
    for _ in range(n):
        state = added[at] + keep[at] * state
        assert torch.allclose(want[at], state, atol=1e-6)
        at += -1 if backwards else 1


def test_nothing_is_remembered_across_the_beginning_of_a_window(trained):
    model, _ = trained
    idx = torch.randint(0, 256, (24, 1))
    idx[[0, 12]] = BOS
    other = idx.clone()
    other[1:12] = torch.randint(0, 256, (11, 1))
    with torch.inference_mode():
        a, b = model(idx), model(other)
    assert torch.equal(a[12:], b[12:])
    assert not torch.allclose(a[11], b[11])


def test_nothing_is_known_of_bytes_to_come(trained):
    model, _ = trained
    idx = torch.randint(0, 256, (24, 2))
    idx[0] = BOS
    other = idx.clone()
    other[10:] = 7
    with torch.inference_mode():
        assert torch.allclose(model(idx)[:10], model(other)[:10], atol=1e-5)


def test_rows_of_n_grams_are_those_that_integers_look_up():
    text = [BOS, *b"abcdefghijk", BOS, *b"\xff\0ab"]
    found = rows(torch.tensor(text)[:, None], 8)[:, 0]
    for at in range(len(text)):
        start = max(i for i in range(at + 1) if text[i] == BOS)
        history = np.uint64(int.from_bytes(bytes(text[start + 1 : at + 1])[-8:], "big"))
        with np.errstate(over="ignore"):
            want = [int((history & mask) * HASH_MULTIPLIER >> np.uint64(56)) for mask in NGRAM_MASKS]
        assert found[at].tolist() == [row + (k << 8) for k, row in enumerate(want)]
    assert len(want) == len(NGRAM_BYTES)


def test_becoming_integers_costs_less_than_one_per_cent(trained):
    model, _ = trained
    idx = WindowBatches(text_of(TEXT), None, 8, 64, 1)(0)[0].t()
    held_out = text_of(prose(20_000, seed=5))
    floats, integers = float_bits(model, held_out), run_bits(quantise(model, idx), held_out)
    assert floats < 3
    assert integers == pytest.approx(floats, rel=0.01)


def test_a_static_model_gives_every_byte_its_share():
    counts = np.bincount(np.frombuffer(TEXT, np.uint8), minlength=256)
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * np.log2(share)).sum()
    assert run_bits(static(counts), text_of(TEXT)) == pytest.approx(entropy, rel=0.01)


def test_multiplications_are_those_of_the_matrices():
    for name, config in M1_PRESETS.items():
        model = ByteModel(config)
        matrices = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)]
        assert sum(matrices) == config.macs, name
