"""train-m1 end to end, through the command and as users stop and continue it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers import commands
from helpers.signalling import heard, stopped
from helpers.texts import prose

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import FormatError, InputError, argument
from eqinfo.m1 import run as m1_run
from eqinfo.m1 import train as m1_train
from eqinfo.m1.corpus import Text
from eqinfo.m1.measure import bits_by_position

CPU = torch.device("cpu")
QUICK = ["--preset", "tiny", "--window-bits", "10", "--device", "cpu"]


def eqinfo(*arguments, stdin=None, **options):
    command = [sys.executable, "-m", "eqinfo", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, input=stdin, capture_output=True, timeout=600, env=environment, check=False, **options
    )


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "a.jsonl"
    path.write_text("".join(json.dumps({"body": prose(60, seed).decode()}) + "\n" for seed in range(400)))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, corpus_file):
    folder = tmp_path_factory.mktemp("trained") / "model"
    done = eqinfo("train-m1", corpus_file, "-o", folder, *QUICK, "--steps", "40", "--text-field", "body")
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_model_folder_holds_plain_files_and_nothing_else(trained):
    folder, done = trained
    assert sorted(p.name for p in folder.iterdir()) == [
        "codebook.eqcb",
        "config.json",
        "m1.eqm1",
        "published.eqcb",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert done.stdout == b""
    config = json.loads((folder / "config.json").read_bytes())
    codebook = Codebook.load(folder / "codebook.eqcb")
    assert config["fingerprint"] == codebook.fingerprint.hex()
    assert config["corpus"]["documents"] == 400
    assert config["settings"]["steps"] == 40
    assert config["batches"]["window_share"] == 0.25
    assert len(codebook.windows) == 1024
    # a cut inside a word costs so many windows of mean cost, and a window a little more than 1
    assert 1 < codebook.unaligned_penalty / config["settings"]["unaligned_penalty"] < 1.01


def test_the_stages_get_better_and_all_beat_the_published_rule(trained):
    measured = json.loads((trained[0] / "config.json").read_bytes())["measured"]["bytes_per_window"]
    assert measured["refitted, optimal"] > measured["most probable strings, optimal"]
    assert measured["refitted, optimal"] > 1.1 * measured["published rule, greedy"]
    for name in measured:
        assert name.encode() in trained[1].stderr


def test_several_widths_make_a_codebook_each_from_one_m1(trained, corpus_file, tmp_path):
    several = ["--window-bits", "10,11,9", "--steps", "40", "--text-field", "body"]
    done = eqinfo("train-m1", corpus_file, "-o", tmp_path / "model", *QUICK, *several)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "model"
    assert sorted(folder.glob("*.eqcb")) == [
        folder / name for name in ("codebook-11.eqcb", "codebook-9.eqcb", "codebook.eqcb", "published.eqcb")
    ]
    for name, bits in (("codebook", 10), ("codebook-9", 9), ("codebook-11", 11)):
        codebook = Codebook.load(folder / f"{name}.eqcb")
        assert (codebook.window_bits, len(codebook.windows)) == (bits, 1 << bits)
    # the first one is the same as if it were made alone
    assert (folder / "codebook.eqcb").read_bytes() == (trained[0] / "codebook.eqcb").read_bytes()
    measured = json.loads((folder / "config.json").read_bytes())["measured"]["bytes_per_window"]
    assert (
        measured["refitted, optimal, 9 bits"]
        < measured["refitted, optimal"]
        < measured["refitted, optimal, 11 bits"]
    )
    text = prose(500, seed=7)
    for bits in ("9", "11"):
        packed = eqinfo("compress", "-m", folder, "--window-bits", bits, stdin=text)
        assert packed.stdout[4] == int(bits)
        assert eqinfo("decompress", "-m", folder, stdin=packed.stdout).stdout == text
    done = eqinfo("eval", folder, "--json", "--text", corpus_file, "--text-field", "body")
    rows = json.loads(done.stdout)["m1"]
    assert sorted((row["window_bits"], row["rule"]) for row in rows) == [
        (9, "fitted"), (10, "fitted"), (10, "published"), (11, "fitted")
    ]  # fmt: skip


def test_what_is_measured_is_what_the_files_give(trained):
    folder, _ = trained
    config = m1_run.read_config(folder)
    integers = m1_run.load_m1(folder)
    codebook = Codebook.load(folder / "codebook.eqcb")
    text = Text(np.frombuffer(prose(3000, 3), np.uint8), np.array([len(prose(3000, 3))]))
    assert parse.decode(codebook, parse.encode(codebook, text.data)) == prose(3000, 3)
    bits = bits_by_position(integers, codebook, text)
    assert np.allclose(bits, config["measured"]["bits_per_byte_by_position"], atol=0.5)


def test_the_folder_is_a_model_for_compress_and_decompress(trained, tmp_path):
    text = prose(300, 7)
    packed = eqinfo("compress", "-m", trained[0], stdin=text)
    assert eqinfo("decompress", "-m", trained[0], stdin=packed.stdout).stdout == text
    assert len(packed.stdout) < len(text)


def test_the_same_seed_gives_the_same_files_and_another_seed_others(trained, corpus_file, tmp_path):
    for seed, same in ((0, True), (1, False)):
        folder = tmp_path / str(seed)
        arguments = [*QUICK, "--steps", "40", "--text-field", "body", "--seed", seed, "-q"]
        done = eqinfo("train-m1", corpus_file, "-o", folder, *arguments)
        assert (done.returncode, done.stderr) == (0, b"")
        for name in ("codebook.eqcb", "m1.eqm1"):
            assert ((folder / name).read_bytes() == (trained[0] / name).read_bytes()) == same


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_resumes_to_the_same_files(trained, corpus_file, tmp_path, number):
    folder = tmp_path / "model"
    arguments = ["train-m1", corpus_file, "-o", folder, *QUICK, "--steps", "40", "--text-field", "body", "-q"]
    command = [sys.executable, "-m", "eqinfo", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with heard(number), subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        while not (folder / "round-0.eqcb").exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(number)
        message = process.stderr.read().decode()
    assert process.returncode == -number
    assert stopped(message, "train-m1", folder)
    assert (folder / "checkpoint.pt").exists()
    assert not (folder / "m1.eqm1").exists()
    done = eqinfo("train-m1", "-o", folder, "--resume", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    for name in ("codebook.eqcb", "m1.eqm1"):
        assert (folder / name).read_bytes() == (trained[0] / name).read_bytes()


def test_ctrl_c_while_text_is_read_leaves_no_folder(tmp_path):
    folder = tmp_path / "model"
    command = [sys.executable, "-m", "eqinfo", "train-m1", "-", "-o", str(folder), *QUICK]
    with (
        heard(signal.SIGINT),
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process,
    ):
        process.stdin.write(prose(1000))
        process.stdin.flush()
        while not (folder / "corpus").exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert (process.wait(600), process.stderr.read()) == (-signal.SIGINT, b"")
    assert not folder.exists()


def test_a_run_killed_while_text_was_read_says_what_to_do(corpus_file, tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "train").write_bytes(b"the beginning of")
    for arguments, advice in (
        (["--resume"], b"config.json is missing. Name another, or start a run with a new -o.\n"),
        ([corpus_file], b"exists, and holds no run to continue. Choose another -o, or empty it.\n"),
    ):
        done = eqinfo("train-m1", *arguments, "-o", tmp_path)
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert done.stderr.endswith(advice)


def test_a_finished_run_resumed_changes_nothing_and_shows_its_figures(trained):
    folder, _ = trained
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    (folder / "corpus").mkdir()  # as if it had been killed before the last step
    for name in ("corpus/train.bin", "checkpoint.pt", "round-0.eqcb"):
        (folder / name).write_bytes(b"left")
    done = eqinfo("train-m1", "-o", folder, "--resume")
    assert done.returncode == 0
    assert b"complete already" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def test_stdin_and_the_published_rule_work(tmp_path):
    arguments = [*QUICK, "--bytes", "90000", "--rounds", "0", "--rule", "published", "--window-bits", "10,9"]
    done = eqinfo("train-m1", "-", "-o", tmp_path / "model", *arguments, stdin=prose(5000))
    assert done.returncode == 0, done.stderr
    codebook = Codebook.load(tmp_path / "model" / "codebook.eqcb")
    assert codebook == Codebook.load(tmp_path / "model" / "published.eqcb")
    assert codebook.method == "greedy"
    assert 257 <= len(codebook.windows) <= 1024
    rows = json.loads(eqinfo("eval", tmp_path / "model", "--json").stdout)["m1"]
    assert [(row["window_bits"], row["rule"]) for row in rows] == [(10, "published"), (9, "fitted")]
    assert m1_run.read_config(tmp_path / "model")["measured"]["training_steps"] == 44  # 90,000 / (32 * 64)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["TEXT", "--window-bits", "8"], 2, "--window-bits: out of range; found 8, want 9 to 20."),
        (["TEXT", "--window-bits", "21"], 2, "--window-bits: out of range; found 21, want 9 to 20."),
        (["TEXT", "--window-bits", "16,8"], 2, "--window-bits: out of range; found 16,8, want 9 to 20."),
        (["TEXT", "--window-bits", "16-18"], 2, "want different numbers with commas between them"),
        (["TEXT", "--window-bits", "10,10"], 2, "want different numbers with commas between them"),
        (["TEXT", "--window-bits", ""], 2, "want different numbers with commas between them"),
        (
            ["TEXT", "--preset", "huge"],
            2,
            "--preset: unknown; found huge, want one of unigram, tiny, 500k, 3m, 7m, 14m.",
        ),
        (["TEXT", "--rule", "best"], 2, "--rule: unknown; found best, want one of fitted, published."),
        (["TEXT", "--steps", "0"], 2, "--steps: out of range; found 0, want more than 0 and less than 1e18."),
        (
            ["TEXT", "--minutes", "nan"],
            2,
            "--minutes: out of range; found nan, want more than 0 and less than 1e18.",
        ),
        (
            ["TEXT", "--unaligned-penalty", "-1"],
            2,
            "--unaligned-penalty: out of range; found -1.0, want 0 to 1000.",
        ),
        (["TEXT", "--device", "tpu"], 2, "--device: unknown device; found tpu, want auto, cpu or cuda."),
        (["TEXT", "--steps", "x"], 2, "Invalid value for '--steps'"),
        (["missing.txt"], 1, "missing.txt: No such file or directory"),
        (["empty.txt"], 1, "corpus: no text in any of the inputs. Check the files."),
        (["bad.jsonl"], 1, "bad.jsonl:2: not a line of JSON"),
        (["other.jsonl"], 1, "other.jsonl:1: no text in this record; found fields 'body'"),
        ([], 2, "give TEXT to start a run, or --resume to continue one"),
        (["tiny.txt", "--steps", "1"], 1, "corpus: too little text; found 15 bytes, want 20 or more."),
        (["tiny.jsonl", "--steps", "1"], 1, "corpus: too little text; found 8 bytes, want 20 or more."),
        (["TEXT"], 1, "corpus: little text for 10 minutes of training; found"),
        (["TEXT", "--resume"], 1, "model: no such folder. Name one that train-m1 or train-m2 made."),
        (["--resume"], 1, "model: no such folder."),
    ],
)
def test_wrong_usage_and_bad_input_get_one_line_and_leave_no_folder(
    tmp_path, monkeypatch, arguments, status, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_bytes(prose(500))
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "tiny.txt").write_bytes(b"to be or not to")
    (tmp_path / "tiny.jsonl").write_bytes(b'{"text": "to b"}\n{"text": "e or"}\n')
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "a"}\nnonsense\n')
    (tmp_path / "other.jsonl").write_bytes(b'{"body": "a"}\n')
    arguments = ["text.txt" if a == "TEXT" else a for a in arguments]
    _, said = commands.run("train-m1", *arguments, "-o", "model", status=status)
    assert message in said
    if status == 1:
        assert said.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_the_largest_penalty_trains_and_the_default_budget_may_be_named_afterwards(tmp_path):
    (tmp_path / "text.txt").write_bytes(prose(500))
    given = [*QUICK, "--steps", "1", "-q", "--unaligned-penalty", "1000"]
    done = eqinfo("train-m1", "text.txt", "-o", "model", *given, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Codebook.load(tmp_path / "model" / "codebook.eqcb").unaligned_penalty == 1000
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_bytes())
    config["settings"]["steps"] = None
    path.write_text(json.dumps(config))
    done = eqinfo("train-m1", "-o", "model", "--resume", "--minutes", "10", cwd=tmp_path)
    assert b"complete already" in done.stderr
    done = eqinfo("train-m1", "-o", "model", "--resume", "--minutes", "11", cwd=tmp_path)
    assert b"complete, and without its text" in done.stderr


def test_a_budget_that_another_one_ends_is_refused(half, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(half[0], folder)
    path = folder / "config.json"
    config = json.loads(path.read_bytes())
    config["settings"]["n_bytes"] = 40 * 2048
    path.write_text(json.dumps(config))
    done = eqinfo("train-m1", "-o", folder, "--resume", "--steps", "50")
    want = "would not train on, as --bytes 81920 ends it at step 40. Give more of that too."
    assert done.stderr.decode() == f"eqinfo: {folder}: {want}\n"


@pytest.mark.parametrize("n_bytes", [20, 33])
def test_a_few_bytes_are_enough(tmp_path, n_bytes):
    (tmp_path / "text.txt").write_bytes(b"to be or not to be, that is the question"[:n_bytes])
    done = eqinfo("train-m1", "text.txt", "-o", "model", *QUICK, "--steps", "1", "-q", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.fixture(scope="module")
def half(tmp_path_factory, corpus_file):
    """A run that was stopped after its draft, and the command that began it."""
    folder = tmp_path_factory.mktemp("half") / "model"
    given = [corpus_file, "-o", folder, *QUICK, "--steps", "40", "--text-field", "body", "-q"]
    settings = m1_run.Settings(window_bits=10, preset="tiny", steps=40, text_field="body")
    with corpus_file.open("rb") as source:
        m1_run.start([(str(corpus_file), source)], folder, settings, lambda *_: None)
    with pytest.raises(KeyboardInterrupt, match=r"holds step 1[45]"):
        m1_train.run(folder, CPU, lambda *_: None, lambda: (folder / "round-0.eqcb").exists())
    return folder, given


def test_the_command_that_began_a_run_goes_on_with_resume_to_the_same_files(trained, half, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(half[0], folder)
    done = eqinfo("train-m1", *half[1], "-o", folder, "--resume")
    assert (done.returncode, done.stderr) == (0, b"")
    for name in ("codebook.eqcb", "m1.eqm1"):
        assert (folder / name).read_bytes() == (trained[0] / name).read_bytes()


def test_a_run_stopped_while_it_measures_resumes_to_the_same_files(trained, half, tmp_path):
    folder, seen = tmp_path / "model", []
    shutil.copytree(half[0], folder)
    with pytest.raises(KeyboardInterrupt, match="holds step 40"):
        m1_train.run(folder, CPU, lambda phase, *_: seen.append(phase), lambda: "measuring" in seen)
    assert not (folder / "codebook.eqcb").exists()
    done = eqinfo("train-m1", "-o", folder, "--resume", "-q")
    assert (done.returncode, done.stderr) == (0, b"")
    for name in ("codebook.eqcb", "m1.eqm1"):
        assert (folder / name).read_bytes() == (trained[0] / name).read_bytes()


def test_a_larger_budget_extends_a_run_and_says_so(half, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(half[0], folder)
    done = eqinfo("train-m1", "-o", folder, "--resume", "--steps", "45")
    assert done.returncode == 0, done.stderr
    assert b"extended; the learning rate warms up" in done.stderr
    config = m1_run.read_config(folder)
    assert config["settings"]["steps"] == config["measured"]["training_steps"] == 45
    assert done.stderr.decode().endswith(
        f"to use it: eqinfo compress -m {argument(folder)} FILE\n"
        f"to measure it: eqinfo eval {argument(folder)} --text FILE\n"
    )
    for budget in ("--steps", "--bytes"):
        done = eqinfo("train-m1", "-o", folder, "--resume", budget, "50")
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert b"complete, and without its text. Start a new run" in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--preset", "7m"], "a run with another preset; found tiny, want 7m. Leave --preset out"),
        (["--window-bits", "16"], "a run with another window-bits; found 10, want 16."),
        (["--window-bits", "10,12"], "a run with another window-bits; found 10, want 10,12."),
        (["--steps", "39"], "--steps is smaller than the run's; found 39, want 40 or more."),
        (["OTHER"], "a run on other text; found SHA-256"),
    ],
)
def test_what_differs_is_refused_by_name_and_changes_nothing(half, tmp_path, given, message):
    other = tmp_path / "other.jsonl"
    other.write_text('{"body": "another text"}\n')
    before = {path: path.read_bytes() for path in sorted(half[0].rglob("*")) if path.is_file()}
    done = eqinfo("train-m1", *(other if a == "OTHER" else a for a in given), "-o", half[0], "--resume", "-q")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert message in done.stderr.decode()
    assert before == {path: path.read_bytes() for path in sorted(half[0].rglob("*")) if path.is_file()}


@pytest.mark.parametrize("rank", ["0", "1"])
def test_processes_of_torchrun_say_one_line_in_all_and_make_nothing(corpus_file, tmp_path, rank):
    environment = {**os.environ, "TORCHELASTIC_RUN_ID": "run", "RANK": rank, "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "eqinfo", "train-m1", str(corpus_file), "-o", str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=600, check=False)
    want = b"eqinfo: train-m1: for one process; found 2 of torchrun. Start it without torchrun.\n"
    assert (done.returncode, done.stderr) == (2, want if rank == "0" else b"")
    assert not (tmp_path / "model").exists()


def test_the_line_of_training_shows_a_smoothed_loss(corpus_file, tmp_path):
    folder, shown = tmp_path / "model", []
    settings = m1_run.Settings(window_bits=10, preset="tiny", steps=30, rounds=0, text_field="body")
    with corpus_file.open("rb") as source:
        m1_run.start([(str(corpus_file), source)], folder, settings, lambda *_: None)

    def report(phase, share, remark):
        if phase == "training" and remark:  # not before the first step
            shown.append(float(remark.split(", ")[1].removesuffix(" bits/byte")))

    m1_train.run(folder, CPU, report, lambda: False)
    assert np.diff(shown).max() < 0  # a step's own loss goes up and down


def test_an_existing_folder_is_kept(trained, corpus_file):
    done = eqinfo("train-m1", corpus_file, "-o", trained[0], *QUICK, "--steps", "1")
    assert done.returncode == 1
    assert b"exists. Choose another -o, or continue its run with --resume." in done.stderr


def copied(folder, target):
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_an_incomplete_or_foreign_model_folder_is_refused(trained, tmp_path):
    folder = copied(trained[0], tmp_path / "a")
    (folder / "m1.eqm1").unlink()
    with pytest.raises(FormatError, match=r"incomplete; m1\.eqm1 is missing"):
        m1_run.load_m1(folder)
    config = json.loads((folder / "config.json").read_bytes())
    for changes, error, match in [
        ({"format_version": 99}, FormatError, "another version; found 99, want 1"),
        ({"settings": {"preset": "huge"}}, FormatError, "damaged"),
        ({"settings": 3}, FormatError, "damaged"),
        ({"settings": config["settings"] | {"rounds": 1.5}}, FormatError, "--rounds: of another type"),
        ({"settings": config["settings"] | {"seed": True}}, FormatError, "--seed: of another type"),
        ({"settings": config["settings"] | {"rule": "a\nb"}}, FormatError, "--rule: unknown; found a b"),
        ({"settings": config["settings"] | {"further_window_bits": 9}}, FormatError, "damaged"),
        ({"settings": config["settings"] | {"further_window_bits": [9.0]}}, FormatError, "out of range"),
        ({"settings": config["settings"] | {"further_window_bits": [[]]}}, FormatError, "out of range"),
        ({"measured": {}}, FormatError, "damaged .'bits_per_byte_by_position'"),
        ({"measured": config["measured"] | {"windows_unused": {"\ud800": 1}}}, FormatError, "damaged"),
    ]:
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(error, match=match):
            m1_run.load_m1(folder)
    for damaged in ("{", "[" * 100_000):
        (folder / "config.json").write_text(damaged)
        with pytest.raises(FormatError, match="damaged"):
            m1_run.read_config(folder)


def test_becoming_integers_costs_less_than_one_per_cent(trained):
    config = m1_run.read_config(trained[0])
    bits = config["measured"]["bits_per_byte"]
    assert bits["integers"] == pytest.approx(bits["floats"], rel=0.01)
    assert b"in integers" in trained[1].stderr


def test_a_static_model_is_counted_and_works_like_others(corpus_file, tmp_path):
    folder = tmp_path / "static"
    arguments = ["--preset", "unigram", "--window-bits", "10", "--text-field", "body", "-q"]
    done = eqinfo("train-m1", corpus_file, "-o", folder, *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    measured = m1_run.read_config(folder)["measured"]
    assert measured["training_steps"] == 0
    assert 4 < measured["bits_per_byte"]["integers"] < 5
    assert len(Codebook.load(folder / "codebook.eqcb").windows) == 1024


def test_settings_are_checked():
    with pytest.raises(InputError, match="--candidates: out of range; found 1, want 2 to 64"):
        m1_run.Settings(candidates=1)
    with pytest.raises(InputError, match="--candidates: out of range; found 5, want 2 to 4"):
        m1_run.Settings(window_bits=20, candidates=5)
    with pytest.raises(InputError, match="--window-bits: out of range; found -1"):
        m1_run.Settings(window_bits=-1)
