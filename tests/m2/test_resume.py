"""A run of train-m2 that goes on, extended or with data that moved; and its validations on the way."""

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import commands
from helpers.texts import prose

from eqinfo.cli import display
from eqinfo.errors import argument
from eqinfo.formats.token_file import Sidecar
from eqinfo.m2 import run as m2_run
from eqinfo.m2 import start as m2_start
from eqinfo.m2 import train as m2_train
from eqinfo.m2.batches import load
from eqinfo.m2.measure import total_nats
from eqinfo.m2.trained import load_m2
from eqinfo.system import notes
from eqinfo.training import background, loop

CPU = torch.device("cpu")
SMALL = ["--preset", "nano", "--block-size", "32", "--batch-tokens", "128", "--device", "cpu"]


def eqinfo(*arguments: object, status: int = 0) -> str:
    """What a command, in this process, prints on stderr."""
    return commands.run(*arguments, status=status)[1]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Token files: little to learn from, more to validate on, and others."""
    folder = tmp_path_factory.mktemp("tokens")
    for name, text in (("train", prose(200)), ("valid", prose(2000, 1)), ("other", prose(200, 2))):
        (folder / name).write_bytes(text)
        eqinfo("compress", "--tokens", "-m", model, folder / name)
        eqinfo("compress", "-m", model, folder / name)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, files: Path, model: Path) -> tuple[Path, str]:
    """A complete run of 30 steps, some ten epochs, with what it said."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    given = ["-m", model, "--valid", files / "valid.bin", *SMALL, "--steps", 30, "--validations", 6]
    return folder, eqinfo("train-m2", files / "train.bin", "-o", folder, *given)


@pytest.fixture
def run(trained: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the complete run."""
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run"


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def config(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_bytes())


def test_a_pattern_in_quotes_stands_for_the_files_that_match_it_in_order(
    files: Path, model: Path, tmp_path: Path
) -> None:
    given = ["-m", model, *SMALL, "--steps", 1, "-q"]
    eqinfo("train-m2", files / "*a*n.bin", files / "o*.bin", "-o", tmp_path / "run", *given)
    assert config(tmp_path / "run")["data"]["train"]["files"] == [
        str(files / name) for name in ("train.bin", "other.bin")
    ]
    eqinfo("train-m2", files / "*.bin", "-o", tmp_path / "all", *given)
    assert [Path(name).stem for name in config(tmp_path / "all")["data"]["train"]["files"]] == [
        "other", "train", "valid",
    ]  # fmt: skip
    said = eqinfo("train-m2", files / "*.idx", "-o", tmp_path / "none", *given, status=1)
    assert said == f"eqinfo: {files}/*.idx: no such file.\n"


def test_validations_measure_one_sample_and_the_end_measures_all(
    trained: tuple[Path, str], files: Path
) -> None:
    folder, _ = trained
    valid = load([files / "valid.bin"])
    sampled = [line["valid_tokens"] for line in lines(folder) if "valid_loss" in line]
    assert len(sampled) == 6
    assert set(sampled) == {64}  # 2 % of the time of 30 steps of 128 tokens, in blocks of 32
    measured = config(folder)["measured"]
    kept = load_m2(folder, CPU).model
    assert total_nats(kept, valid) / valid.n_tokens == pytest.approx(measured["valid_loss"])


def test_the_weights_of_the_best_validation_are_kept_and_overfitting_is_named(
    trained: tuple[Path, str],
) -> None:
    folder, said = trained
    losses = {line["step"]: line["valid_loss"] for line in lines(folder) if "valid_loss" in line}
    best = min(losses, key=lambda step: losses[step])
    assert best < 30  # ten epochs of random words are learnt by heart
    assert config(folder)["measured"]["best_step"] == best
    assert re.search(rf"^overfitting +validation was best at step {best}: m2.pt", said, re.MULTILINE)
    measured = config(folder)["measured"]
    shown = f"{measured['train_bits_per_byte']:.4f}"
    assert re.search(rf"^bits/byte, training, last tenth +{shown}", said, re.MULTILINE)
    assert measured["train_loss"] < 0.8 * measured["valid_loss"]


def test_training_ends_by_saying_how_to_sample_and_to_measure(trained: tuple[Path, str]) -> None:
    folder, said = trained
    assert said.endswith(
        f"to let it write: eqinfo eval {argument(folder)} --prompt TEXT\n"
        f"to measure it: eqinfo eval {argument(folder)} --text FILE\n"
    )


def test_a_run_stopped_in_its_last_validation_resumes_to_the_same_end(
    trained: tuple[Path, str], files: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, stop = tmp_path / "run", False
    monkeypatch.setattr(background, "PATIENCE_S", 0.0)
    monkeypatch.setattr(background, "POLL_S", 0.001)

    def report(phase: str, share: float, remark: str) -> None:
        nonlocal stop
        stop = stop or (phase == "validating all" and not remark)

    settings = m2_run.Settings("nano", block_size=32, batch_tokens=128, steps=30, validations=6)
    m2_start.start([files / "train.bin"], [files / "valid.bin"], folder, settings, model)
    with pytest.raises(KeyboardInterrupt, match=r"checkpoint\.pt holds step 30"):
        m2_train.run(folder, CPU, report, lambda: stop)
    assert "measured" not in config(folder)
    eqinfo("train-m2", "-o", folder, "--resume")
    assert (folder / "m2.pt").read_bytes() == (trained[0] / "m2.pt").read_bytes()
    for name in ("valid_loss", "best_step", "train_loss"):
        assert config(folder)["measured"][name] == config(trained[0])["measured"][name]


def test_a_larger_budget_extends_a_run_and_says_so(run: Path) -> None:
    said = eqinfo("train-m2", "-o", run, "--resume", "--steps", 36, "--device", "cpu")
    assert f"{run}: extended; the learning rate warms up and falls to zero at the new end\n" in said
    assert config(run)["settings"]["steps"] == config(run)["measured"]["training_steps"] == 36
    steps = [line["step"] for line in lines(run) if "loss" in line]
    assert steps == list(range(1, 37))
    assert [line["step"] for line in lines(run) if "valid_loss" in line][6:] == [31, 32, 33, 34, 35, 36]
    assert "complete already" in eqinfo("train-m2", "-o", run, "--resume", "--steps", 36)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--steps", "29"], "--steps is smaller than the run's; found 29, want 30 or more."),
        (["--minutes", "5"], "its budget is --steps 30, not --minutes. Give more of that."),
        (["--preset", "3m"], "a run with another preset; found nano, want 3m. Leave --preset out"),
        (["--lr", "0.5"], "a run with another lr; found 0.01, want 0.5. Leave --lr out"),
        (["--batch-tokens", "256"], "a run with another batch-tokens; found 128, want 256."),
        (["OTHER"], "other.bin: not the data of"),
        (["OTHER.eqi"], "other.eqi: not the data of"),
        (["TRAIN", "OTHER"], "train.bin: not the data of"),
        (["--valid", "TRAIN"], "train.bin: not the data of"),
        (["-m", "DEFAULT"], "fingerprint"),
    ],
)
def test_what_differs_is_refused_by_name_and_changes_nothing(
    run: Path, files: Path, given: list[str], message: str
) -> None:
    names = {
        "TRAIN": files / "train.bin", "OTHER": files / "other.bin", "OTHER.eqi": files / "other.eqi",
        "DEFAULT": "default",
    }  # fmt: skip
    before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    said = eqinfo("train-m2", *(names.get(word, word) for word in given), "-o", run, "--resume", status=1)
    assert message in said
    assert said.count("\n") == 1
    assert before == {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_budget_that_another_one_ends_is_refused(
    files: Path, model: Path, tmp_path: Path, is_complete: bool
) -> None:
    run = tmp_path / "run"
    given = ["-m", model, *SMALL, "--steps", 3, "--tokens", 384, "-q"]
    eqinfo("train-m2", files / "train.bin", "-o", run, *given)
    if not is_complete:
        found = config(run)
        del found["measured"]
        (run / "config.json").write_text(json.dumps(found))
    said = eqinfo("train-m2", "-o", run, "--resume", "--steps", 6, status=1)
    want = "would not train on, as --tokens 384 ends it at step 3. Give more of that too."
    assert said == f"eqinfo: {run}: {want}\n"
    eqinfo("train-m2", "-o", run, "--resume", "--steps", 6, "--tokens", 700, "-q")
    assert config(run)["measured"]["training_steps"] == 6


def test_a_budget_that_is_spent_already_is_refused(files: Path, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    eqinfo("train-m2", files / "train.bin", "-o", run, "-m", model, *SMALL, "--minutes", 1e-5, "-q")
    said = eqinfo("train-m2", "-o", run, "--resume", "--minutes", 1.1e-5, status=1)
    assert "would not train on, as --minutes 1.1e-05 ends it at step 1. " in said


def test_a_step_longer_than_the_budget_is_validated_once(files: Path, model: Path, tmp_path: Path) -> None:
    run, given = tmp_path / "run", [*SMALL, "--valid", files / "valid.bin", "--minutes", 1e-5, "-q"]
    eqinfo("train-m2", files / "train.bin", "-o", run, "-m", model, *given)
    assert [line["step"] for line in lines(run) if "valid_loss" in line] == [1]
    assert (run / "m2.pt").exists()


def test_a_log_that_cannot_grow_is_named(files: Path, model: Path, tmp_path: Path) -> None:
    script = (
        f"ulimit -f 8; exec {sys.executable} -m eqinfo train-m2 {files / 'train.bin'} -o {tmp_path / 'run'} "
        f"-m {model} --preset 1x1x8 --block-size 16 --batch-tokens 16 --steps 4000 -q"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=600)
    assert done.stderr == f"eqinfo: {tmp_path / 'run' / 'metrics.jsonl'}: File too large\n"


def test_a_stream_with_a_name_as_long_as_can_be_is_trained_on(
    files: Path, model: Path, tmp_path: Path
) -> None:
    for stem in ("x" * 251, "\U0001f600" * 62):
        stream = tmp_path / f"{stem}.eqi"
        shutil.copy(files / "train.eqi", stream)
        run = tmp_path / stem[:9]
        eqinfo("train-m2", stream, "-o", run, "-m", model, *SMALL, "--steps", 1, "-q")
        assert config(run)["measured"]["training_steps"] == 1


def test_the_default_budget_may_be_named(files: Path, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    eqinfo("train-m2", files / "train.bin", "-o", run, "-m", model, *SMALL, "--steps", 1, "-q")
    found = config(run)
    found["settings"]["steps"] = None
    (run / "config.json").write_text(json.dumps(found))
    assert "complete already" in eqinfo("train-m2", "-o", run, "--resume", "--minutes", 10)


def test_validations_are_at_most_one_a_step(files: Path, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = ["-m", model, "--valid", files / "valid.bin", *SMALL, "--steps", 3, "-q"]
    eqinfo("train-m2", files / "train.bin", "-o", run, *given)
    assert [line["step"] for line in lines(run) if "valid_loss" in line] == [1, 2, 3]


@pytest.mark.parametrize("suffix", ["bin", "eqi"])
def test_data_that_moved_are_named_and_take_their_place(
    files: Path, model: Path, tmp_path: Path, suffix: str
) -> None:
    was, now, run = tmp_path / "was", tmp_path / "now", tmp_path / "run"
    shutil.copytree(files, was)
    given = ["-m", model, "--valid", was / f"valid.{suffix}", *SMALL, "--steps", 2, "--validations", 1, "-q"]
    eqinfo("train-m2", was / f"train.{suffix}", "-o", run, *given)
    was.rename(now)
    gone = eqinfo("train-m2", "-o", run, "--resume", "--steps", 4, status=1)
    assert "no such file, and the run reads it. Name the data where they are now" in gone
    data = [now / f"train.{suffix}", "--valid", now / f"valid.{suffix}"]
    eqinfo("train-m2", *data, "-m", model, "-o", run, "--resume", "--steps", 4, "-q")
    assert config(run)["measured"]["training_steps"] == 4
    if suffix == "bin":
        assert config(run)["data"]["train"]["files"] == [str(now / "train.bin")]


@pytest.mark.parametrize("with_sidecar", [True, False])
def test_data_that_others_replaced_are_refused(
    files: Path, model: Path, tmp_path: Path, with_sidecar: bool
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(files, data)
    eqinfo("train-m2", data / "train.bin", "-o", run, "-m", model, *SMALL, "--steps", 2, "-q")
    ids = np.fromfile(data / "train.bin", "<u2")[::-1].copy()  # as many, in another order
    ids.tofile(data / "train.bin")
    sidecar = json.loads((data / "train.bin.json").read_text())
    facts = Sidecar(**{k: v for k, v in sidecar.items() if k in Sidecar.__dataclass_fields__})
    changed = replace(facts, crc32=zlib.crc32(ids.tobytes()))
    if with_sidecar:
        (data / "train.bin.json").write_bytes(changed.to_json())
    said = eqinfo("train-m2", "-o", run, "--resume", "--steps", 4, status=1)
    if with_sidecar:
        assert f"train.bin: no longer the data of {run}; found checksums [{changed.crc32}], want " in said
    else:
        assert "train.bin: damaged (checksum does not match its sidecar). Make it again." in said
    assert said.count("\n") == 1


def test_commands_to_go_on_with_can_be_pasted(
    files: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "a run"
    said = eqinfo("train-m2", files / "train.bin", "-o", run, "-m", model, *SMALL, "--steps", 2)
    assert f"to measure it: eqinfo eval '{run}' --text FILE\n" in said
    monkeypatch.chdir(tmp_path)
    said = eqinfo("train-m2", files / "train.bin", "-o", "./-r", "-m", model, *SMALL, "--steps", 2)
    assert "to measure it: eqinfo eval ./-r --text FILE\n" in said


def test_the_command_that_began_a_run_goes_on_with_resume(run: Path, files: Path, model: Path) -> None:
    given = ["-m", model, "--valid", files / "valid.bin", *SMALL, "--steps", 30, "--validations", 6]
    said = eqinfo("train-m2", files / "train.bin", "-o", run, *given, "--resume")
    assert "complete already" in said


def test_defaults_suit_a_cpu_and_the_data(files: Path, model: Path, tmp_path: Path) -> None:
    for name, want in (("valid", 32 * 128), ("train", None)):
        run = tmp_path / name
        eqinfo(
            "train-m2", files / f"{name}.bin", "-m", model, "-o", run, "--steps", 1, "--device", "cpu", "-q"
        )
        settings, tokens = config(run)["settings"], config(run)["data"]["train"]["tokens"]
        assert (settings["preset"], settings["block_size"]) == ("nano", 128)
        assert settings["batch_tokens"] == min(want or tokens, tokens) // 128 * 128


def test_the_option_that_makes_a_step_too_large_is_named(files: Path, model: Path, tmp_path: Path) -> None:
    given = ["-m", model, "-o", tmp_path / "run", "--preset", "nano", "--block-size", 64, "--device", "cpu"]
    for options, want in (
        (["--accumulate", 32], "--accumulate"),
        (["--batch-tokens", 2048], "--batch-tokens"),
    ):
        said = eqinfo("train-m2", files / "train.bin", *given, *options, status=2)
        assert said.startswith(f"eqinfo: {want}: a step larger than the data; found 2048 and ")


def test_off_a_terminal_a_line_comes_every_so_often(
    files: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "LINE_EVERY_S", 0.0)
    given = ["-m", model, "-o", tmp_path / "run", *SMALL, "--steps", 4]
    said = eqinfo("train-m2", files / "train.bin", *given).splitlines()
    assert said[0] == "training: 0%"
    assert said[1].startswith("training: 25%, ")
    assert " left, step 1, loss " in said[1]
    assert said[2].startswith("training: 50%, 0:00:0")
    assert " left, step 2, loss " in said[2]
    assert said[4].startswith("training: done. step 4, loss ")


def test_a_long_validation_shows_its_own_progress(
    files: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "LINE_EVERY_S", 0.0)
    given = ["-m", model, "--valid", files / "valid.bin", "-o", tmp_path / "run", *SMALL, "--steps", 1]
    said = eqinfo("train-m2", files / "train.bin", *given)
    assert re.search(r"^validating all: \d+%", said, re.MULTILINE)
    assert re.search(r"^validating all: done\. valid_loss ", said, re.MULTILINE)


def test_names_that_are_no_utf8_work_in_runs_messages_json_and_figures(
    files: Path, model: Path, tmp_path: Path
) -> None:
    odd = tmp_path / os.fsdecode(b"a\xff")
    shutil.copytree(files, odd)
    run = odd / "run"
    given = ["-m", model, *SMALL, "--steps", 2, "-q"]
    eqinfo("train-m2", odd / "train.bin", "-o", run, *given)
    eqinfo("train-m2", odd / "train.bin", "-o", run, "--resume", "--steps", 3, "-q")
    assert [os.fsencode(name) for name in config(run)["data"]["train"]["files"]] == [
        os.fsencode(odd / "train.bin")
    ]
    given = ["eval", run, "--text", odd / "other", "--figure", odd / "a.svg"]
    for options in (["--json"], []):
        printed, _ = commands.run(*given, *options)
        name = json.loads(printed)["m2"][0]["run"] if options else str(run)
        assert options or os.fsencode(name) in printed
        assert os.fsencode(name) == os.fsencode(run)
    assert r"a\xff" in (odd / "a.svg").read_text()


# ---- long runs are compiled


@pytest.mark.filterwarnings("ignore")  # torch.compile warns of what it does itself
def test_a_long_run_is_compiled_and_learns_the_same(
    trained: tuple[Path, str], files: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, compile_ = list[object](), torch.compile
    monkeypatch.setattr(loop, "WORTH_COMPILING_FLOPS", {"cpu": 0.0})
    monkeypatch.setattr(torch, "compile", lambda f: compiled.append(f) or compile_(f, backend="aot_eager"))
    said = list[str]()
    monkeypatch.setattr(notes, "explain_wait", said.append)
    command = ["train-m2", files / "train.bin", "-m", model, *SMALL, "--steps", 30, "-o"]
    eqinfo(*command, tmp_path / "run")
    assert len(compiled) == 2  # the first is a trial
    assert said == ["training: compiling the model; the first step takes about a minute."]
    ours, theirs = ([each["loss"] for each in lines(folder) if "loss" in each] for folder in (
        tmp_path / "run", trained[0]
    ))  # fmt: skip
    assert ours[:5] == pytest.approx(theirs[:5], rel=1e-3)  # rounding grows with every step


@pytest.mark.parametrize("what", ["no compiler", "a compiler that fails, as without Python's headers"])
def test_a_long_run_goes_on_where_torch_compile_does_not_work(
    files: Path, model: Path, tmp_path: Path, what: str
) -> None:
    compiler = tmp_path / "c++"
    if what != "no compiler":
        compiler.write_text('#!/bin/sh\ncase "$*" in --version) echo c++;; *) exit 1;; esac\n')
        compiler.chmod(0o755)
    command = [sys.executable, "-m", "eqinfo", "train-m2", files / "train.bin", "-m", model, *SMALL]
    command += ["--minutes", "10", "--steps", "2", "-o", tmp_path / "run"]
    environment = os.environ | {"CXX": str(compiler), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("eqinfo: training: slower, as torch.compile does not work here (")
    assert "C++ compiler" in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "m2.pt").exists()
