"""train-m2 end to end, through the command and as users stop, continue and distribute it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers import commands
from helpers.signalling import STOPPING, heard, stopped
from helpers.texts import mixed, prose
from typer.testing import CliRunner

from eqinfo.cli.app import app
from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import FormatError, InputError, MismatchError
from eqinfo.formats.model_folder import codebook_path
from eqinfo.m2 import run as m2_run
from eqinfo.m2 import start as m2_start
from eqinfo.m2 import train as m2_train
from eqinfo.m2.batches import load
from eqinfo.m2.measure import total_nats
from eqinfo.m2.trained import load_m2
from eqinfo.training.checkpoint import load_tensors, save_tensors

CPU = torch.device("cpu")
SMALL = ["--preset", "nano", "--block-size", "32", "--batch-tokens", "256", "--device", "cpu"]
STEPS = ["--steps", "12", "--validations", "2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
# a checkpoint after every step, so that most of the time is spent saving
OFTEN = """
from eqinfo import __main__
from eqinfo.training import loop
loop.CHECKPOINT_EVERY_S = 0.0
__main__.main()
"""
# steps that take long enough to be stopped
SLOW = """
import time
from eqinfo import __main__
from eqinfo.training import loop
rate = loop.learning_rate
def late(*arguments):
    time.sleep(0.3)
    return rate(*arguments)
loop.learning_rate = late
__main__.main()
"""
# fails if anything holds the process group of torchrun when it has been destroyed
UNHELD = """
import weakref
import torch.distributed as dist
from eqinfo import __main__
destroy = dist.destroy_process_group
def destroy_unheld():
    group = weakref.ref(dist.group.WORLD)
    destroy()
    assert group() is None
dist.destroy_process_group = destroy_unheld
__main__.main()
"""
# of a process that torchrun has started alone
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "run", "RANK": "0", "WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0",
}  # fmt: skip


def eqinfo(*arguments, launcher=(), **options):
    command = [sys.executable, *launcher, "-m", "eqinfo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=600, env=ENVIRONMENT, check=False, **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory, model):
    """Token files to train and validate on, and the same text as a stream."""
    folder = tmp_path_factory.mktemp("tokens")
    for name, text in (("train", prose(6000)), ("valid", prose(400, 1))):
        (folder / name).write_bytes(text)
        for arguments in (["--tokens"], []):
            assert eqinfo("compress", *arguments, "-m", model, folder / name).returncode == 0
    return folder


@pytest.fixture(scope="module")
def command(files, model):
    """A short run, but for its folder."""
    return [
        "train-m2", files / "train.bin", "-m", model, "--valid", files / "valid.bin", *SMALL, *STEPS,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("trained") / "run"
    done = eqinfo(*command, "-o", folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(lines):
    timed = ("time_s", "tokens_per_s", "bytes_per_s")
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


def test_a_run_folder_holds_plain_files_and_nothing_else(trained, model):
    folder, done = trained
    names = ["checkpoint.pt", "codebook.eqcb", "config.json", "m2.pt", "metrics.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert done.stdout == b""
    assert (folder / "codebook.eqcb").read_bytes() == (model / "codebook.eqcb").read_bytes()
    config = json.loads((folder / "config.json").read_bytes())
    assert config["model"]["vocab_size"] == 4096
    assert config["measured"]["training_tokens"] == 12 * 256
    assert (
        config["measured"]["valid_bits_per_byte"]
        < 12 / config["data"]["valid"]["original_bytes"] * (config["data"]["valid"]["tokens"])
    )


def test_metrics_have_a_line_for_each_step_and_each_validation(trained):
    lines = metrics(trained[0])
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11, 12, 12]
    steps = [line for line in lines if "loss" in line]
    assert {"tokens", "bits_per_byte", "time_s", "tokens_per_s", "bytes_per_s"} <= steps[0].keys()
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert [line["step"] for line in lines if "valid_bits_per_byte" in line] == [6, 12]


def test_the_first_loss_is_that_of_guessing(trained):
    first = metrics(trained[0])[0]
    config = json.loads((trained[0] / "config.json").read_bytes())
    data = config["data"]["train"]
    guessing = 12 * 0.6931  # ln 4096; some windows cannot follow
    assert 0.98 * guessing < first["loss"] < guessing
    bytes_a_window = data["original_bytes"] / data["tokens"]
    assert first["bits_per_byte"] == pytest.approx(first["loss"] / 0.6931 / bytes_a_window, rel=1e-3)


def test_the_model_in_the_folder_gives_the_loss_that_was_measured(trained, files):
    run = load_m2(trained[0], CPU)
    assert isinstance(run.codebook, Codebook)
    valid = load([files / "valid.bin"])
    measured = run.config["measured"]["valid_loss"]
    assert total_nats(run.model, valid) / valid.n_tokens == pytest.approx(measured, rel=2e-3)


def test_the_loss_of_all_tokens_does_not_depend_on_how_they_are_batched(trained, files, monkeypatch):
    run, valid = load_m2(trained[0], CPU), load([files / "valid.bin"])
    whole = total_nats(run.model, valid)
    monkeypatch.setattr("eqinfo.m2.measure.TOKENS_AT_ONCE", 32)
    assert total_nats(run.model, valid) == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_resumes_to_the_same_weights_and_metrics(trained, command, tmp_path, number):
    folder = tmp_path / "run"
    arguments = [*command, "-o", folder, "--accumulate", "2"]
    assert eqinfo(*arguments[:-4], "-o", tmp_path / "whole", "--accumulate", "2").returncode == 0
    with (
        heard(number),
        subprocess.Popen(
            [sys.executable, "-m", "eqinfo", *map(str, arguments), "-q"],
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        ) as process,
    ):
        while not (folder / "metrics.jsonl").exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(number)
        message = process.stderr.read().decode()
    assert process.returncode == -number, message
    assert stopped(message, "train-m2", folder)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "loss": 1.0}\n{"ste')  # of steps after the checkpoint, the last cut short
    done = eqinfo("train-m2", "-o", folder, "--resume", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert (folder / "m2.pt").read_bytes() == (tmp_path / "whole" / "m2.pt").read_bytes()
    assert without_times(metrics(folder)) == without_times(metrics(tmp_path / "whole"))


def test_a_run_killed_while_it_saves_goes_on_from_the_checkpoint_before(trained, command, tmp_path):
    for attempt in range(3):
        folder = tmp_path / f"run{attempt}"
        arguments = [sys.executable, "-c", OFTEN, *map(str, command), "-o", str(folder)]
        with subprocess.Popen(arguments, stderr=subprocess.DEVNULL, env=ENVIRONMENT) as process:
            while not (folder / "checkpoint.pt").exists() and process.poll() is None:
                time.sleep(0.002)
            time.sleep(0.03 * attempt)
            process.kill()
        done = eqinfo(*command, "-o", folder, "--resume")
        assert done.returncode == 0, done.stderr
        assert (folder / "m2.pt").read_bytes() == (trained[0] / "m2.pt").read_bytes()
        assert without_times(metrics(folder)) == without_times(metrics(trained[0]))


def test_a_second_ctrl_c_while_it_saves_keeps_the_checkpoint_before(trained, command, tmp_path):
    folder = tmp_path / "run"
    arguments = [sys.executable, "-c", OFTEN, *map(str, command), "-o", str(folder), "-q"]
    with (
        heard(signal.SIGINT),
        subprocess.Popen(arguments, stderr=subprocess.PIPE, env=ENVIRONMENT) as process,
    ):
        while not (folder / "checkpoint.pt").exists() and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().decode() == STOPPING
        process.send_signal(signal.SIGINT)
        assert (process.wait(600), process.stderr.read()) == (-signal.SIGINT, b"")
    assert not list(folder.glob(".eqinfo-*"))
    done = eqinfo(*command, "-o", folder, "--resume")
    assert done.returncode == 0, done.stderr
    assert (folder / "m2.pt").read_bytes() == (trained[0] / "m2.pt").read_bytes()


def test_two_processes_learn_what_one_learns_in_two_parts(command, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = eqinfo(*command, "-o", tmp_path / "two", launcher=torchrun)
    assert done.returncode == 0, done.stderr
    assert eqinfo(*command, "-o", tmp_path / "one", "--accumulate", "2").returncode == 0
    two, one = metrics(tmp_path / "two"), metrics(tmp_path / "one")
    assert [line["step"] for line in two] == [line["step"] for line in one]
    for a, b in zip(two, one, strict=True):
        [name] = {"loss", "valid_loss"} & a.keys()
        # sums are rounded in another order, and what that changes grows with every step
        assert a[name] == pytest.approx(b[name], rel=1e-3 if a["step"] <= 4 else 1e-2)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )


def test_processes_of_torchrun_stop_with_a_checkpoint_and_resume_to_the_same_end(command, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert eqinfo(*command, "-o", tmp_path / "whole", launcher=torchrun).returncode == 0
    folder = tmp_path / "run"
    arguments = [sys.executable, *torchrun, tmp_path / "slow.py", *command, "-o", folder]
    with subprocess.Popen(list(map(str, arguments)), stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        while not (folder / "metrics.jsonl").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=600)[1].decode()
    assert process.returncode != 0
    assert f"stopped: {folder}/checkpoint.pt holds step " in said
    assert "measured" not in m2_run.read_config(folder)
    done = eqinfo(*command, "-o", folder, "--resume", launcher=torchrun)
    assert done.returncode == 0, done.stderr
    assert (folder / "m2.pt").read_bytes() == (tmp_path / "whole" / "m2.pt").read_bytes()
    assert without_times(metrics(folder)) == without_times(metrics(tmp_path / "whole"))


def test_the_process_group_ends_with_the_training(command, tmp_path):
    """A thread of the group that outlives it can abort the process at exit."""
    arguments = [sys.executable, "-c", UNHELD, *map(str, command), "-o", str(tmp_path / "run")]
    environment = ENVIRONMENT | TORCHRUN
    done = subprocess.run(arguments, capture_output=True, timeout=600, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_a_finished_run_resumed_changes_nothing_and_says_so(trained):
    folder, _ = trained
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "tokens").mkdir()  # as if it had been killed before the last step
    done = eqinfo("train-m2", "-o", folder, "--resume")
    assert done.returncode == 0
    assert b"complete already" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_streams_train_to_the_same_model_as_token_files(trained, files, command, tmp_path):
    arguments = [f"{str(a)[:-4]}.eqi" if str(a).endswith(".bin") else a for a in command]
    assert eqinfo(*arguments, "-o", tmp_path / "run", "-q").returncode == 0
    assert (tmp_path / "run" / "m2.pt").read_bytes() == (trained[0] / "m2.pt").read_bytes()
    assert not (tmp_path / "run" / "tokens").exists()


def test_other_readings_train_as_well(files, model, tmp_path):
    for name, arguments, vocab_size in (
        ("bits", ["--token-bits", "4"], 16),
        ("plain", ["--plain-embeddings"], 4096),
        ("minutes", ["--minutes", "0.01"], 4096),
    ):
        folder = tmp_path / name
        steps = [] if "--minutes" in arguments else ["--steps", "3"]
        given = ["-m", model, *SMALL, *steps, *arguments]
        done = eqinfo("train-m2", files / "train.bin", files / "valid.bin", "-o", folder, *given, "-q")
        assert (done.returncode, done.stderr) == (0, b"")
        assert load_m2(folder, CPU).model.config.vocab_size == vocab_size


def test_live_streams_train_as_their_token_files_do(live_model, tmp_path):
    text, settings = (
        tmp_path / "text",
        m2_run.Settings("nano", block_size=32, batch_tokens=64, steps=2, token_bits=8),
    )
    text.write_bytes(prose(200))
    for bits in ("24", "ac"):
        for name in (f"{bits}.bin", f"{bits}.eqi"):
            arguments = ["--tokens"] if name.endswith(".bin") else []
            given = ["-m", live_model, "--window-bits", bits, *arguments, text, "-o", tmp_path / name]
            done = CliRunner().invoke(app, ["compress", *map(str, given)])
            assert done.exit_code == 0, done.output
            run = tmp_path / f"run-{name}"
            m2_start.start([tmp_path / name], [], run, settings, live_model)
            m2_train.run(run, CPU, lambda *_: None, lambda: False)
            assert [line["tokens"] for line in metrics(run)] == [64, 128]
        # a stream keeps a file as it is, a token file makes it a document: one window or some bits more
        sizes = [training_tokens(tmp_path / f"run-{bits}.{kind}") for kind in ("bin", "eqi")]
        assert 0 <= sizes[0] - sizes[1] <= 4
        loaded = load_m2(tmp_path / f"run-{bits}.bin", CPU)
        assert (loaded.codebook, loaded.codec.name) == (None, "live ac 2" if bits == "ac" else "live 24")


def training_tokens(run):
    return m2_run.read_config(run)["data"]["train"]["tokens"]


def test_token_files_from_elsewhere_train_without_a_codebook(tmp_path):
    (tmp_path / "a.bin").write_bytes(torch.arange(4000).remainder(300).to(torch.uint16).numpy().tobytes())
    (tmp_path / "a.bin.json").write_text('{"vocab_size": 300, "original_bytes": 16000}')
    done = eqinfo("train-m2", tmp_path / "a.bin", "-o", tmp_path / "run", *SMALL, "--steps", "3")
    assert done.returncode == 0, done.stderr
    assert load_m2(tmp_path / "run", CPU).codebook is None
    assert metrics(tmp_path / "run")[0]["bits_per_byte"] == pytest.approx(8.23 / 4, rel=1e-2)  # log2 300


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "give TOKENS to start a run, or --resume to continue one"),
        (["missing.bin"], 1, "missing.bin: no such file"),
        (["train.bin", "--preset", "huge"], 2, "--preset: unknown; found huge, want one of nano, 3m"),
        (
            ["train.bin", "--steps", "0"],
            2,
            "--steps: out of range; found 0, want more than 0 and less than 1e18.",
        ),
        (
            ["train.bin", "--tokens", "-3"],
            2,
            "--tokens: out of range; found -3, want more than 0 and less than 1e18.",
        ),
        (["train.bin", "--lr", "nan"], 2, "--lr: out of range; found nan, want 1e-09 to 10.0."),
        (["train.bin", "--block-size", "1"], 2, "--block-size: out of range; found 1, want 2 to"),
        (
            ["train.bin", "--block-size", "9999", "--batch-tokens", "9999"],
            2,
            "--block-size: larger than the data; found",
        ),
        (
            ["train.bin", "--batch-tokens", "99999999"],
            2,
            "--batch-tokens: a step larger than the data; found 99999968",
        ),
        (["other.bin", "-m", "english"], 2, "-m: for tokens that eqinfo made; these are of another program"),
        (["train.bin", "--batch-tokens", "8"], 2, "--batch-tokens: out of range; found 8, want 32 to"),
        (
            ["train.bin", "--accumulate", "3"],
            2,
            "--batch-tokens: 8 blocks cannot be shared equally by 1 processes with --accumulate 3.",
        ),
        (["train.bin", "--device", "cuda"], 2, "--device: no usable GPU in this machine. Use --device cpu."),
        (["train.bin", "-m", "DEFAULT"], 1, "train.bin: needs a codebook of 12 bits with fingerprint"),
        (["short.bin"], 1, "short.bin: shorter than its sidecar says; found"),
        (
            ["train", "--steps", "3"],
            1,
            "train: text, not a token file. Make one of it: eqinfo compress --tokens",
        ),
        (["other.bin", "train.bin"], 1, "train.bin: of another vocabulary than other.bin"),
        (["train.bin", "--valid", "other.bin"], 1, "other.bin: of another vocabulary than train.bin"),
        (["--resume"], 1, "run: no such folder. Name one that train-m1 or train-m2 made."),
    ],
)
def test_wrong_usage_and_bad_input_get_one_line(
    files, model, tmp_path, monkeypatch, arguments, status, message
):
    monkeypatch.chdir(tmp_path)
    for path in files.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "short.bin").write_bytes((tmp_path / "train.bin").read_bytes()[:-2])
    (tmp_path / "short.bin.json").write_bytes((tmp_path / "train.bin.json").read_bytes())
    (tmp_path / "other.bin").write_bytes(b"\1\0" * 100)
    (tmp_path / "other.bin.json").write_text('{"vocab_size": 300, "original_bytes": 16000}')
    default = os.path.relpath(codebook_path(None), tmp_path)
    arguments = [default if a == "DEFAULT" else a for a in arguments]
    given = ["-o", "run", *SMALL, *([] if "--steps" in arguments else ["--steps", "1"])]
    models = [] if "-m" in arguments else ["-m", str(model)]
    _, said = commands.run("train-m2", *given, *models, *arguments, status=status)
    assert message in said
    if arguments:
        assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_another_run_is_not_continued_and_the_field_is_named(trained):
    done = eqinfo("train-m2", "-o", trained[0], "--resume", "--preset", "3m")
    assert done.returncode == 1
    assert b"a run with another preset; found nano, want 3m. Leave --preset out" in done.stderr


def test_an_existing_folder_is_kept(trained, command):
    done = eqinfo(*command, "-o", trained[0])
    assert done.returncode == 1
    assert b"exists. Choose another -o, or continue its run with --resume." in done.stderr


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_its_checkpoint(files, model, tmp_path):
    folder = tmp_path / "run"
    m2_start.start([files / "train.bin"], [], folder, m2_run.Settings("nano", block_size=32, steps=9), model)
    with pytest.raises(KeyboardInterrupt):
        m2_train.run(folder, CPU, lambda *_: None, lambda: True)
    state = load_tensors(folder / "checkpoint.pt", CPU)
    state["model"]["norm.weight"][0] = torch.nan
    save_tensors(state, folder / "checkpoint.pt")
    done = eqinfo("train-m2", "-o", folder, "--resume", "--device", "cpu")
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "eqinfo: training: the loss is not finite at step 1. "
        "Start a new run, with a lower learning rate (train-m2: --lr).\n"
    )
    after = load_tensors(folder / "checkpoint.pt", CPU)
    assert after["step"] == state["step"] == 1
    for name, weights in state["model"].items():
        assert torch.equal(after["model"][name].nan_to_num(), weights.nan_to_num())
    assert not (folder / "m2.pt").exists()


def copied(folder, target):
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_damaged_run_folders_are_refused(trained, tmp_path):
    folder = copied(trained[0], tmp_path / "run")
    config = json.loads((folder / "config.json").read_bytes())
    for changes, error, match in [
        ({"format_version": 9}, FormatError, "another version; found 9, want 2"),
        ({"format": "eqinfo m1"}, FormatError, "found a model of train-m1, want a run of train-m2"),
        ({"settings": {"preset": 3}}, FormatError, "damaged"),
        ({"settings": []}, FormatError, "damaged"),
        ({"model": {}}, FormatError, "damaged"),
        ({"note": json.loads("[" * 300 + "]" * 300)}, FormatError, "damaged .too deep"),
        ({"data": 3}, FormatError, "damaged"),
        ({"unit_bits": "24"}, FormatError, "damaged"),
        ({"unit_bits": 2**40}, FormatError, "damaged"),
        ({"unit_bits": 7}, FormatError, "damaged; found units of 7 bits"),
        ({"unit_bits": 24}, MismatchError, "needs an M1 for live windows of 24 bits"),
        ({"fingerprint": "x"}, FormatError, "damaged"),
        ({"fingerprint": None}, FormatError, "damaged"),
        ({"model": config["model"] | {"n_layer": 3}}, FormatError, "damaged .model: not the shape"),
        ({"model": config["model"] | {"vocab_size": 4095}}, MismatchError, "not the weights of its config"),
        ({"model": config["model"] | {"vocab_size": 1 << 40}}, MismatchError, "its config; found [0-9]+"),
        (
            {"model": config["model"] | {"vocab_size": 4096.0}},
            FormatError,
            "damaged .model: not the shape",
        ),
        ({"settings": config["settings"] | {"seed": 1.5}}, FormatError, "--seed: of another type; found 1.5"),
        ({"data": config["data"] | {"train": {"files": [], "tokens": 1}}}, FormatError, "no training data"),
        ({"data": config["data"] | {"train": {"files": [3], "tokens": 1}}}, FormatError, "damaged"),
        ({"data": config["data"] | {"train": {"files": ["a"]}}}, FormatError, "damaged"),
        ({"measured": config["measured"] | {"training_s": float("inf")}}, FormatError, "damaged"),
        ({"measured": config["measured"] | {"training_s": "a"}}, FormatError, "damaged"),
        ({"fingerprint": "00" * 32}, MismatchError, "needs a codebook"),
    ]:
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(error, match=match):
            load_m2(folder, CPU)
    vast = {"n_layer": 1, "n_head": 1, "n_embd": 1 << 16, "block_size": config["model"]["block_size"]}
    changes = {"model": config["model"] | vast, "settings": config["settings"] | {"preset": "1x1x65536"}}
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(MismatchError, match="not the weights of its config"):  # n-grams of 32 GiB
        load_m2(folder, CPU)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "m2.pt").unlink()
    with pytest.raises(FormatError, match=r"incomplete; m2\.pt is missing"):
        load_m2(folder, CPU)


def test_changed_data_are_noticed_on_resume(command, files, model, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(mixed(300))
    assert eqinfo("compress", "--tokens", "-m", model, path).returncode == 0
    m2_start.start(
        [tmp_path / "a.bin"], [], tmp_path / "run", m2_run.Settings("nano", block_size=32, steps=1), model
    )
    path.write_bytes(mixed(310))
    assert eqinfo("compress", "--tokens", "-f", "-m", model, path).returncode == 0
    with pytest.raises(FormatError, match="not the data this run began with"):
        m2_train.run(tmp_path / "run", CPU, lambda *_: None, lambda: False)


def test_settings_are_checked():
    with pytest.raises(InputError, match="--accumulate: out of range; found 0, want 1 to 32"):
        m2_run.Settings(accumulate=0)


def test_processes_of_torchrun_end_in_one_line_of_the_first_and_leave_no_folder(command, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(a).replace("train.bin", "missing.bin") for a in command]
    done = eqinfo(*arguments, "-o", tmp_path / "run", launcher=torchrun)
    assert done.returncode == 1
    assert done.stderr.count(b"eqinfo: ") == 1
    assert b"missing.bin: no such file" in done.stderr
    assert done.stderr.count(b"Traceback") == 1  # of torchrun itself
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("wrong", [["--lr", "abc"], ["--device", "tpu"]])
def test_a_wrong_value_is_told_by_the_first_process_alone(command, tmp_path, rank, wrong):
    torchrun = {"TORCHELASTIC_RUN_ID": "run", "RANK": rank, "WORLD_SIZE": "2"}
    arguments = [sys.executable, "-m", "eqinfo", *map(str, command), *wrong, "-o", str(tmp_path / "run")]
    done = subprocess.run(
        arguments, capture_output=True, timeout=600, env=ENVIRONMENT | torchrun, check=False
    )
    assert done.returncode == 2
    assert (wrong[0].encode() in done.stderr) == (rank == "0")
    assert (done.stderr == b"") == (rank == "1")
