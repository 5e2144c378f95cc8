import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.texts import prose

from eqinfo.errors import InputError, MismatchError
from eqinfo.m1.batches import WindowBatches
from eqinfo.m1.corpus import Text
from eqinfo.m2.model import GPT, GPTConfig
from eqinfo.training import background, loop
from eqinfo.training.checkpoint import load_tensors, save_tensors
from eqinfo.training.loop import Trainer
from eqinfo.training.schedule import Budget, learning_rate

CPU = torch.device("cpu")
SHAPE = GPTConfig(257, 32, 1, 2, 32)


def trainer(steps=8, seed=0, config=SHAPE, accumulate=1):
    torch.manual_seed(seed)
    return Trainer(GPT(config), Budget(steps), 64 * 32, 0.01, CPU, accumulate)


@pytest.fixture(scope="module")
def batches():
    data = np.frombuffer(prose(5000), np.uint8)
    return WindowBatches(Text(data, np.array([data.size])), None, 64, 32, seed=0)


def nothing(_):
    pass


@pytest.fixture
def train(tmp_path):
    """Train, with a checkpoint that nobody reads."""

    def run(trainer, batches, until=1.0, on_step=nothing, should_stop=lambda: False):
        trainer.run(batches, until, tmp_path / "checkpoint.pt", on_step, should_stop)

    return run


def test_training_lowers_the_loss(batches, train):
    losses = []
    train(trainer(60), batches, 1.0, lambda t: losses.append(t.loss_nats))
    assert losses[0] == pytest.approx(np.log(257), rel=0.01)
    assert np.mean(losses[-5:]) < 3.0


def test_one_batch_can_be_learnt_by_heart(batches, train):
    losses = []
    train(
        trainer(200, config=GPTConfig(257, 32, 2, 4, 96)),
        lambda _: batches(0),
        1.0,
        lambda t: losses.append(t.loss_nats),
    )
    assert losses[-1] < 0.4 * losses[0]


def test_a_resumed_run_ends_bit_equal_to_one_that_never_stopped(batches, train, tmp_path):
    whole, first, second = trainer(), trainer(), trainer(seed=9)
    train(whole, batches)
    with pytest.raises(KeyboardInterrupt):
        train(first, batches, should_stop=lambda: first.step == 3)
    second.load(tmp_path / "checkpoint.pt")
    assert second.step == 4
    train(second, batches)
    assert second.step == whole.step == 8
    assert second.loss_nats == whole.loss_nats
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_long_step_is_given_up_and_leaves_the_last_checkpointable_state(
    batches, train, tmp_path, monkeypatch
):
    monkeypatch.setattr(background, "PATIENCE_S", 0.0)
    whole, first, second = trainer(), trainer(), trainer(seed=9)
    train(whole, batches)
    may_end = threading.Event()

    def slow(step):
        if step == 3:
            may_end.wait()  # a step that would last for ever
        return batches(step)

    with pytest.raises(KeyboardInterrupt, match=r"checkpoint\.pt holds step 3"):
        background.in_background(lambda: train(first, slow), lambda: first.step == 3)
    may_end.set()
    second.load(tmp_path / "checkpoint.pt")
    train(second, batches)
    assert second.loss_nats == whole.loss_nats


def test_checkpoints_go_by_the_clock_on_the_wall(batches, train, tmp_path, monkeypatch):
    """Also if most of the time goes into something that is no training."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.5)
    some = trainer(3)
    saved = []

    def wait(_):
        saved.append((tmp_path / "checkpoint.pt").exists())
        time.sleep(0.6)

    train(some, batches, 1.0, wait)
    assert saved == [False, True, True]


def test_a_larger_budget_begins_a_new_schedule_at_the_checkpoint(batches, train, tmp_path):
    path = tmp_path / "checkpoint.pt"
    short, longer, again = trainer(4), trainer(12, seed=9), trainer(12, seed=8)
    train(short, batches)
    short.save(path)
    longer.load(path)
    assert (longer.step, longer.progress) == (4, 0.0)
    with pytest.raises(KeyboardInterrupt):
        train(longer, batches, should_stop=lambda: longer.step == 7)
    assert longer.progress == 0.5
    again.load(path)  # the schedule goes on; it does not begin anew
    assert again.progress == 0.5
    train(again, batches)
    assert again.step == 12


def test_a_slow_first_step_is_in_the_budget_and_not_in_the_schedule(batches, train, monkeypatch):
    now = 0.0
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now))
    torch.manual_seed(0)
    some = Trainer(GPT(SHAPE), Budget(minutes=5), 64 * 32, 0.01, CPU)
    progress = []

    def timed(step):
        nonlocal now
        now += 20.0 if step else 200.0  # the first step compiles
        return batches(step)

    train(some, timed, 1.0, lambda t: progress.append(t.progress))
    assert progress == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert some.time_s == 300.0


def test_the_learning_rate_warms_up_stays_and_decays_to_zero():
    rates = [learning_rate(p) for p in np.linspace(0, 1, 1001)]
    assert 0 < rates[0] < 0.02
    assert rates[200] == rates[400] == 1
    assert rates[750] == pytest.approx(0.5)
    assert rates[1000] == 0
    assert all(a >= b for a, b in pairwise(rates[20:]))


def test_progress_is_that_of_the_limit_reached_first():
    assert Budget(steps=10).progress(4, 1e9) == 0.4
    assert Budget(minutes=2).progress(10**9, 30) == 0.25
    assert Budget(steps=10, minutes=2).progress(4, 90) == 0.75
    assert Budget(steps=10).progress(12, 0) == 1


def test_a_loss_that_is_no_number_stops_training_and_keeps_the_checkpoint(batches, train, tmp_path):
    broken = trainer()
    broken.save(tmp_path / "checkpoint.pt")
    before = (tmp_path / "checkpoint.pt").read_bytes()
    torch.nn.init.constant_(broken.model.norm.weight, torch.nan)
    with pytest.raises(InputError, match="not finite at step 0"):
        train(broken, batches)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_step_in_parts_is_the_step_at_once(batches, train):
    whole, parts = trainer(), trainer(accumulate=4)
    losses = {1: [], 4: []}
    for each in (whole, parts):
        train(each, batches, 1.0, lambda t: losses[t.accumulate].append(t.loss_nats))
    assert np.allclose(losses[1], losses[4], rtol=1e-2)
    assert losses[4][-1] < losses[4][0]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trainer().save(tmp_path / "checkpoint.pt")
    other = trainer(config=GPTConfig(257, 16, 2, 2, 32))
    with pytest.raises(MismatchError, match="not a checkpoint of this model"):
        other.load(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("changes", [{"step": "3"}, {"step": -1}, {"time_s": float("nan")}, {"model": []}])
def test_a_checkpoint_that_says_something_else_is_refused(tmp_path, changes):
    path = tmp_path / "checkpoint.pt"
    trainer().save(path)
    save_tensors(load_tensors(path, CPU) | changes, path)
    with pytest.raises(MismatchError, match="not a checkpoint of this model"):
        trainer().load(path)
