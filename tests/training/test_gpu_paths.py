"""What training does otherwise on a GPU, made to run on the CPU."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers.no_numbers import META, devices_of
from helpers.texts import prose

from eqinfo.m1 import recurrence
from eqinfo.m1.batches import WindowBatches
from eqinfo.m1.corpus import Text
from eqinfo.m1.model import M1_PRESETS, ByteModel
from eqinfo.m1.quantise import quantise
from eqinfo.m2 import model as m2_model
from eqinfo.m2 import train as m2_train
from eqinfo.m2.model import GPT, GPTConfig
from eqinfo.m2.token_bytes import ByteNgrams, Spelling
from eqinfo.training import devices, loop
from eqinfo.training.checkpoint import load_tensors
from eqinfo.training.loop import Trainer
from eqinfo.training.schedule import Budget

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
WINDOWS = [b"", *(bytes([byte]) for byte in range(256)), b"the ", b"ing", b"probability "]


@pytest.fixture
def batches() -> WindowBatches:
    data = np.frombuffer(prose(5000), np.uint8)
    return WindowBatches(Text(data, np.array([data.size])), None, 8, 32, seed=0)


def m1() -> ByteModel:
    return ByteModel(M1_PRESETS["tiny"])


def m2() -> GPT:
    shape = GPTConfig(len(WINDOWS), 32, 2, 2, 32)
    return GPT(shape, Spelling(WINDOWS, 32), ByteNgrams(WINDOWS, 32))


def trained(new: Callable[[], Any], batches: WindowBatches, folder: Path) -> tuple[Trainer[Any], list[float]]:
    """A trainer after some steps, and its losses."""
    torch.manual_seed(0)
    trainer, losses = Trainer(new(), Budget(12), 8 * 32, 0.01, CPU), list[float]()
    trainer.run(batches, 1.0, folder / "checkpoint.pt", lambda t: losses.append(t.loss_nats), lambda: False)
    return trainer, losses


@pytest.fixture
def gpu_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scan by doubling, over all positions at once."""
    monkeypatch.setattr(recurrence, "PIECE_ELEMENTS", {"cpu": recurrence.PIECE_ELEMENTS["cuda"]})

    def scan(keep: torch.Tensor, states: torch.Tensor, first: torch.Tensor, backwards: bool = False) -> None:
        recurrence.scan_by_doubling(keep, states, first, backwards)

    monkeypatch.setattr(recurrence, "scan", scan)


@pytest.mark.usefixtures("gpu_scan")
def test_a_recurrence_by_doubling_and_its_gradients_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    raw = torch.randn(11, 2, 9, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(9, dtype=torch.float64, requires_grad=True)
    begun = torch.ones(11, 2, 1, dtype=torch.float64)
    begun[4, 0] = begun[8, 1] = 0
    found = recurrence.recurrence(raw, bias, begun)
    gradients = torch.autograd.grad(found[0].sum(), (raw, bias))
    monkeypatch.undo()
    want = recurrence.recurrence(raw, bias, begun)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(gradients, torch.autograd.grad(want[0].sum(), (raw, bias)))


@pytest.mark.usefixtures("gpu_scan")
def test_m1_trains_by_doubling_as_by_the_loop(
    batches: WindowBatches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, losses = trained(m1, batches, tmp_path)
    quantise(trainer.model, batches(0)[0].t())
    monkeypatch.undo()
    assert losses == pytest.approx(trained(m1, batches, tmp_path)[1], rel=1e-3)


@pytest.mark.parametrize("new", [m1, m2])
def test_training_in_bfloat16_is_close_to_training_in_float32(
    new: Callable[[], Any], batches: WindowBatches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "bfloat16", lambda _: torch.autocast("cpu", torch.bfloat16))
    trainer, losses = trained(new, batches, tmp_path)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    monkeypatch.setattr(loop, "bfloat16", lambda _: torch.autocast("cpu", enabled=False))
    assert losses == pytest.approx(trained(new, batches, tmp_path)[1], rel=0.02)


def test_m2_trains_with_the_fused_attention_as_without(
    batches: WindowBatches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = trained(m2, batches, tmp_path)[1]
    monkeypatch.setattr(m2_model, "UNFUSED_TOKENS", 0)
    assert trained(m2, batches, tmp_path)[1] == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize("new", [m1, m2])
def test_all_tensors_of_a_checkpoint_go_to_the_device_that_loads_it(
    new: Callable[[], Any], batches: WindowBatches, tmp_path: Path
) -> None:
    trainer, _ = trained(new, batches, tmp_path)
    path = tmp_path / "moved.pt"
    trainer.save(path)
    leaves, _ = torch.utils._pytree.tree_flatten(load_tensors(path, torch.device("meta")))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    assert len(tensors) > 20
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize("new", [m1, m2])
def test_a_run_resumed_from_a_checkpoint_goes_on_with_fused_optimisers(
    new: Callable[[], Any], batches: WindowBatches, tmp_path: Path
) -> None:
    trainer, _ = trained(new, batches, tmp_path)
    trainer.save(tmp_path / "moved.pt")
    again = Trainer(new(), Budget(12), 8 * 32, 0.01, CPU)
    again.load(tmp_path / "moved.pt")
    assert again.optimisers[0].param_groups[0]["fused"]
    for ours, theirs in zip(again.optimisers, trainer.optimisers, strict=True):
        for group in ours.param_groups:
            for p in group["params"]:  # what fused kernels ask for: all on the parameter's device
                assert all(
                    t.device == p.device for t in ours.state[p].values() if isinstance(t, torch.Tensor)
                )
        assert str(ours.state_dict()) == str(theirs.state_dict())


def test_each_process_has_a_gpu_of_its_own_and_they_speak_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(dist, name, lambda *words, name=name, **more: calls.append((name, *words, more)))
    monkeypatch.setattr(dist, "get_rank", lambda: 3)
    with devices.processes(CUDA) as (device, is_first):
        assert (device, is_first) == (torch.device("cuda", 3), False)
    assert calls == [
        torch.device("cuda", 3),
        ("init_process_group", "nccl", {"device_id": torch.device("cuda", 3)}),
        ("destroy_process_group", {}),
    ]


def test_the_thread_that_trains_enters_its_gpu_before_it_can_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[torch.device, int]] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda each: calls.append((each, threading.get_ident())))
    monkeypatch.setattr(m2_train, "read_config", lambda folder: {"settings": {}})  # without data
    with pytest.raises(LookupError):
        m2_train.run(tmp_path, torch.device("cuda", 3), lambda *_: None, lambda: False)
    ((device, thread),) = calls
    assert device == torch.device("cuda", 3)
    assert thread != threading.get_ident()


@pytest.mark.parametrize("has_bf16", [False, True])
def test_autocast_needs_a_gpu_with_bfloat16(monkeypatch: pytest.MonkeyPatch, has_bf16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16)
    assert isinstance(devices.bfloat16(CUDA), torch.autocast) == has_bf16


def test_a_recurrence_stays_on_its_device_and_waits_for_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence, "PIECE_ELEMENTS", {"meta": recurrence.PIECE_ELEMENTS["cuda"]})
    raw, bias = torch.empty(64, 2, 9, device=META, dtype=torch.bfloat16), torch.empty(9, device=META)
    begun = torch.empty(64, 2, 1, device=META)
    gated, states = recurrence.recurrence._init_fn(raw, bias, begun)
    assert (gated.dtype, states.dtype) == (torch.bfloat16, torch.float32)
    gradients = recurrence.recurrence_backward._init_fn(gated, raw, bias, begun, states)
    assert [gradient.shape for gradient in gradients] == [raw.shape, bias.shape]
    assert devices_of((gated, states, gradients)) == {META}


def test_models_stay_on_their_device_and_wait_for_no_number() -> None:
    idx = torch.zeros((8, 32), dtype=torch.int64, device=META)
    gpt, m1_model = GPT(GPTConfig(len(WINDOWS), 32, 2, 2, 32)).to(META), m1().to(META)
    stream = gpt.hidden(idx, gpt.composed(idx)[0]).sum()
    nats = m1_model.loss(idx, idx)
    torch.autograd.backward([stream, nats])
    gradients = [p.grad for p in (*gpt.blocks.parameters(), *m1_model.parameters())]
    assert None not in gradients
    assert devices_of([stream, nats, *gradients]) == {META}
