"""The eval command end to end, on a model and on runs that the other commands trained."""

import contextlib
import gzip
import json
import math
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from helpers.commands import run as eqinfo
from helpers.terminals import received
from helpers.texts import prose

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.coder import integer_m1, live_windows
from eqinfo.eval import held_out, measure
from eqinfo.eval.held_out import HeldOut, tokens_for
from eqinfo.eval.results import M1Row, M2Row, TextFacts
from eqinfo.formats.model_folder import codebook_path
from eqinfo.m1.batches import WINDOW_BYTES
from eqinfo.m2 import generate
from eqinfo.m2 import run as m2_run
from eqinfo.m2 import start as m2_start
from eqinfo.m2 import train as m2_train
from eqinfo.m2.measure import total_nats
from eqinfo.m2.trained import load_m2
from eqinfo.text.frames import Frame
from eqinfo.training import background

EQINFO = f"OMP_NUM_THREADS=1 {sys.executable} -m eqinfo"
HELD_OUT = prose(700, 5)
TEXT = ["--text", "held.txt"]
M1 = ["--preset", "tiny", "--window-bits", "9", "--rounds", "0", "--device", "cpu", "-q"]
M2 = ["--preset", "nano", "--block-size", "32", "--batch-tokens", "128", "--device", "cpu", "-q"]


def shell(folder: Path, script: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    script = f'set -eo pipefail; eqinfo() {{ {EQINFO} "$@"; }}\n{script}'
    return subprocess.run(["bash", "-c", script], cwd=folder, input=stdin, capture_output=True, timeout=600)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model `mine`, runs `long` and `short` on its windows, and texts to measure on."""
    folder = tmp_path_factory.mktemp("work")
    with contextlib.chdir(folder):
        Path("train.txt").write_bytes(prose(6000))
        Path("held.txt").write_bytes(HELD_OUT)
        Path("empty.txt").write_bytes(b"")
        Path("odd/config.json").mkdir(parents=True)
        eqinfo("train-m1", "train.txt", "-o", "mine", *M1, "--steps", 10)
        eqinfo("compress", "-m", "mine", "--tokens", "train.txt", "-o", "ids.bin")
        eqinfo("compress", "-m", "mine", "--tokens", "held.txt", "-o", "held.bin")
        eqinfo("train-m2", "ids.bin", "-m", "mine", "-o", "long", *M2, "--steps", 30, "--lr", 0.003)
        eqinfo("train-m2", "ids.bin", "-m", "mine", "-o", "short", *M2, "--steps", 1, "--lr", 1e-9)
    return folder


class Eval:
    """Runs `eqinfo eval`; `err` is of the last run."""

    def __call__(self, *arguments: object, stdin: bytes = b"", status: int = 0) -> bytes:
        out, self.err = eqinfo("eval", *arguments, stdin=stdin, status=status)
        return out

    def json(self, *arguments: object, stdin: bytes = b"") -> Any:
        return json.loads(self(*arguments, "--json", stdin=stdin), parse_constant=pytest.fail)


@pytest.fixture
def run_eval(work: Path, monkeypatch: pytest.MonkeyPatch) -> Eval:
    monkeypatch.chdir(work)
    return Eval()


def attributes(kind: type) -> list[str]:
    return list(kind.__dataclass_fields__)  # type: ignore[attr-defined]


def test_a_model_is_measured_beside_the_published_rule_and_general_compressors(run_eval: Eval) -> None:
    found = run_eval.json("mine", "--text", "held.txt")
    assert list(found) == ["text", "m1", "live", "m2"]
    assert list(found["text"]) == attributes(TextFacts)
    facts = {"name": "held.txt", "original_bytes": len(HELD_OUT), "documents": 1, "is_whole": True}
    assert found["text"] | facts == found["text"]
    assert found["text"]["words"] == len(HELD_OUT.split())
    assert [row["name"] for row in found["text"]["compressors"]] == ["gzip -9", "zstd -19", "xz -9"]
    gzipped = found["text"]["compressors"][0]
    assert gzipped["compressed_bytes"] == len(gzip.compress(HELD_OUT, 9, mtime=0))
    assert gzipped["compression_ratio"] == len(HELD_OUT) / gzipped["compressed_bytes"]
    ours, paper = found["m1"]
    assert list(ours) == list(paper) == attributes(M1Row)
    assert [row["rule"] for row in found["m1"]] == ["fitted", "published"]
    assert ours["bytes_per_window"] > paper["bytes_per_window"]
    for row, name in ((ours, "codebook"), (paper, "published")):
        codebook = Codebook.load(Path(f"mine/{name}.eqcb"))
        codewords = parse.encode(codebook, HELD_OUT)
        assert row["fingerprint"] == codebook.fingerprint.hex()
        assert row["bytes_per_window"] == len(HELD_OUT) / codewords.size
        assert (row["windows"], row["windows_used"]) == (codewords.size, np.unique(codewords).size)
        assert row["entropy_bits"] + row["kl_to_uniform_bits"] == pytest.approx(9)
        assert 0 < row["aligned_share"] <= 1
        assert len(row["bits_per_byte_by_position"]) == WINDOW_BYTES
    assert found["m2"] == []


def test_the_size_of_a_stream_is_that_of_the_file(run_eval: Eval, work: Path) -> None:
    lines = "".join(json.dumps({"body": word.decode()}) + "\n" for word in HELD_OUT.split()).encode()
    (work / "held.jsonl.gz").write_bytes(gzip.compress(lines))
    size = shell(work, "eqinfo compress -m mine < held.txt | wc -c").stdout
    assert run_eval.json("mine", "--text", "held.txt")["m1"][0]["compressed_bytes"] == int(size)
    size = shell(
        work, "gzip -cd held.jsonl.gz | eqinfo compress -m mine --jsonl --text-field body | wc -c"
    ).stdout
    found = run_eval.json("mine", "--text", "held.jsonl.gz", "--text-field", "body")
    assert [row["compressed_bytes"] for row in found["m1"] if row["rule"] == "fitted"] == [int(size)]
    assert found["text"]["documents"] == found["text"]["words"] == len(HELD_OUT.split())


def test_runs_are_measured_and_sorted_by_bits_per_byte(run_eval: Eval) -> None:
    found = run_eval.json("short", "long", "--text", "held.txt")
    assert (found["m1"], found["text"]["compressors"]) == ([], [])
    assert [row["run"] for row in found["m2"]] == ["long", "short"]
    codebook = Codebook.load(Path("mine/codebook.eqcb"))
    n_tokens = parse.encode(codebook, HELD_OUT).size + 1  # and the end of the text
    for row in found["m2"]:
        assert list(row) == attributes(M2Row)
        loaded = load_m2(Path(row["run"]), torch.device("cpu"))
        nats = total_nats(
            loaded.model, tokens_for(loaded, Path(), HeldOut("a", [Frame(HELD_OUT, [len(HELD_OUT)])]))
        )
        shape = loaded.model.config
        assert row["text"] == "held.txt"
        assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(HELD_OUT))
        assert row["word_perplexity"] == pytest.approx(math.exp(nats / len(HELD_OUT.split())))
        assert row["tokens_per_byte"] == n_tokens / len(HELD_OUT)
        assert row["bytes_per_step"] == pytest.approx(len(HELD_OUT) / n_tokens)
        assert row["flops_per_byte"] == pytest.approx(2 * shape.n_params * n_tokens / len(HELD_OUT))
        looked_up = loaded.model.embedding.weight.numel() + loaded.model.ngrams.vectors.numel()
        multiplied = sum(p.numel() for p in loaded.model.parameters()) - looked_up
        assert row["with_output_flops_per_byte"] == pytest.approx(2 * multiplied * n_tokens / len(HELD_OUT))
        assert min(row["scoring_bytes_per_s"], row["generation_bytes_per_s"]) > 0
    # the short run learned nothing: every window costs its bits
    uniform = 9 * n_tokens / len(HELD_OUT)
    assert found["m2"][1]["bits_per_byte"] == pytest.approx(uniform, rel=1e-3)
    assert found["m2"][0]["bits_per_byte"] < 0.95 * uniform


def test_a_token_file_gives_the_same_figures_as_its_text(run_eval: Eval) -> None:
    of_text, of_ids = (run_eval.json("long", "mine", "--text", name) for name in ("held.txt", "held.bin"))
    for key in ("original_bytes", "words", "documents"):
        assert of_text["text"][key] == of_ids["text"][key]
    for key in ("bits_per_byte", "word_perplexity", "tokens_per_byte"):
        assert of_text["m2"][0][key] == of_ids["m2"][0][key]
    assert of_text["m1"][1]["bytes_per_window"] == of_ids["m1"][1]["bytes_per_window"]


def test_without_a_text_what_training_measured_is_shown(run_eval: Eval) -> None:
    shown = run_eval("mine", "long").decode()
    config = json.loads(Path("mine/config.json").read_bytes())
    for name, figure in config["measured"]["bytes_per_window"].items():
        assert re.search(rf"^{re.escape(name)} +{figure:.3f}$", shown, re.MULTILINE)
    assert "mine: windows unused\n" in shown
    assert re.search(r"^tokens trained on +3,840$", shown, re.MULTILINE)
    found = run_eval.json("mine", "long")
    assert found["text"] is None
    assert found["m1"][0]["measured"] == config["measured"]
    assert found["m1"][0]["compression_ratio"] is found["m2"][0]["bits_per_byte"] is None
    assert found["m2"][0]["measured"]["training_tokens"] == 3840


def test_tables_in_a_pipe_are_plain_and_a_row_is_a_line(run_eval: Eval) -> None:
    shown = run_eval("mine", "long", "short", "--text", "-", stdin=HELD_OUT).decode()
    assert run_eval.err == ""
    assert "\x1b" not in shown
    parts = shown.split("\n\n")
    assert [part.splitlines()[0] for part in parts] == [
        f"mine on stdin: {len(HELD_OUT):,} bytes, {len(HELD_OUT.split()):,} words",
        "M1, bits/byte by position in the window",
        f"stdin: {len(HELD_OUT):,} bytes, {len(HELD_OUT.split()):,} words",
    ]
    for part, first in zip(parts, ("windows", "", "run"), strict=True):
        head, *rows = (re.split("  +", line) for line in part.splitlines()[1:])
        assert head[0] == first
        assert {len(row) for row in rows} == {len(head)}
    assert shown.endswith("\n")
    assert not re.search(" $", shown, re.MULTILINE)


def test_a_model_of_the_published_rule_has_one_row(run_eval: Eval, work: Path) -> None:
    config = json.loads(Path("mine/config.json").read_bytes())
    config["settings"]["rule"] = "published"
    shutil.copytree("mine", "paper")
    shutil.copy("mine/published.eqcb", "paper/codebook.eqcb")
    Path("paper/config.json").write_text(json.dumps(config))
    [row] = run_eval.json("paper", "--text", "held.txt")["m1"]
    assert row["rule"] == "published"
    shutil.rmtree("paper")


def test_no_folder_is_the_model_in_the_package(run_eval: Eval, work: Path) -> None:
    rows = json.loads(run_eval("--json"))["m1"]
    codebook = Codebook.load(codebook_path(None))
    assert rows[0]["fingerprint"] == codebook.fingerprint.hex()
    assert [row["window_bits"] for row in rows] == [16, 12, 14, 18, 16]
    assert b"M1 on held-out text, bits/byte by position" in run_eval()


def test_no_folder_is_the_model_in_the_package_beside_a_folder_of_its_name(
    run_eval: Eval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("mine", tmp_path / "default")
    wanted = run_eval()
    monkeypatch.chdir(tmp_path)
    assert run_eval() == wanted
    assert b"bytes/window on held-out text, 9 bits" in run_eval("default")


def test_ids_of_another_program_are_measured_by_a_run_on_such_ids_alone(
    run_eval: Eval, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, vocab_size in (("a", 300), ("b", 100), ("c", 1000)):
        np.arange(4000, dtype="<u2")[:4000].__mod__(100).tofile(f"{name}.bin")
        facts = {"vocab_size": vocab_size, "original_bytes": 9000, "end_of_text": vocab_size - 1}
        Path(f"{name}.bin.json").write_text(json.dumps(facts))
    eqinfo("train-m2", "a.bin", "-o", "run", *M2, "--steps", 1)
    assert run_eval.json("run", "--text", "a.bin")["m2"][0]["tokens_per_byte"] == pytest.approx(4 / 9)
    for name, vocab_size in (("b", 100), ("c", 1000)):
        run_eval("run", "--text", f"{name}.bin", status=1)
        said = f"{name}.bin: of another vocabulary than run; found {vocab_size} ids, want 300."
        assert run_eval.err.startswith(f"eqinfo: {said}")


def test_a_run_on_parts_of_windows_says_that_it_cannot_write(
    run_eval: Eval, work: Path, tmp_path: Path
) -> None:
    given = ["-m", "mine", "-o", tmp_path / "run", *M2[:-1], "--steps", 1, "--token-bits", 3]
    _, said = eqinfo("train-m2", "ids.bin", *given)
    assert "to let it write" not in said
    assert "to measure it" in said
    assert run_eval.json(tmp_path / "run", *TEXT)["m2"][0]["generation_bytes_per_s"] is None
    run_eval(tmp_path / "run", "--prompt", "a", status=1)
    assert "its tokens are no windows of a codebook, so it cannot write." in run_eval.err


def test_names_may_hold_what_terminals_and_figures_take_for_commands(
    run_eval: Eval, work: Path, tmp_path: Path
) -> None:
    run, figure = tmp_path / "[/red] \x1b[2J\n", tmp_path / "a.svg"
    shutil.copytree("long", run)
    (tmp_path / "\x1b").write_bytes(b"to be")
    shown = run_eval(run, "--figure", figure)
    assert b"\x1b" not in shown
    assert rb"/[/red] \x1b[2J\n: M2" in shown
    assert r"/[/red] \x1b[2J↵" in "".join(ElementTree.parse(figure).getroot().itertext())
    run_eval("mine", "--show", "--text", tmp_path / "\x1b", "--figure", figure)
    assert r"/\x1b: " in "".join(ElementTree.parse(figure).getroot().itertext())


def test_the_least_temperature_takes_the_best_token(run_eval: Eval) -> None:
    best = run_eval("long", "--prompt", "the wor", "--bytes", 20, "--temperature", 0)
    for temperature in ("1e-46", "1e-300", "1e-5"):
        assert run_eval("long", "--prompt", "the wor", "--bytes", 20, "--temperature", temperature) == best


def test_streams_in_which_m1_runs_are_measured_on_text_after_many_empty_records(
    run_eval: Eval, tmp_path: Path
) -> None:
    lines = ['{"text": ""}'] * 70_000 + [json.dumps({"text": "to be or not"})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    live = run_eval.json("mine", "--text", tmp_path / "a.jsonl")["live"]
    assert [row["measured_bytes"] for row in live] == [12, 12]


def test_a_figure_has_the_curves_of_all_runs_with_a_text_and_without(run_eval: Eval, work: Path) -> None:
    for text in ([], TEXT):
        run_eval("long", "short", *text, "--figure", "curves.svg")
        drawn = Path("curves.svg").read_text()
        for word in ("tokens trained on", "time of training, s", "bits/byte", ">long<", ">short<"):
            assert word in drawn
        # the curve of 30 steps, against tokens and against time
        corners = [len(re.findall("[ML] ", path)) for path in re.findall(r'<path d="([^"]*)"', drawn)]
        assert sum(8 <= n <= 30 for n in corners) == 2
    Path("curves.svg").unlink()


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_figure_is_drawn_and_replaced(run_eval: Eval, work: Path, suffix: str) -> None:
    Path(f"figure{suffix}").write_bytes(b"old")
    assert b"bits/byte" in run_eval("long", "--text", "held.txt", "--figure", f"figure{suffix}")
    assert Path(f"figure{suffix}").read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")
    Path(f"figure{suffix}").unlink()


def test_without_matplotlib_a_line_says_what_to_install(
    run_eval: Eval, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run_eval("long", "--text", "held.txt", "--figure", "f.svg", status=1) == b""
    assert run_eval.err == "eqinfo: --figure: matplotlib is missing. Install it: pip install matplotlib\n"
    assert not Path("f.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--prompt", "a"], 2, "--prompt: takes one run"),
        (["long", "--temperature", "1"], 2, "--temperature: for --prompt only"),
        (["long", "--window-bits", "9"], 2, "--window-bits: for --show only"),
        (["long", "--skip-bad"], 2, "--skip-bad: for --text only"),
        (["long", "--prompt", "a", "--jsonl"], 2, "--jsonl: for --text only"),
        (["long", "--prompt", "a", "--show"], 2, "--show: not with --prompt"),
        (["mine", "--show", *TEXT, "--device", "cpu"], 2, "--device: not with --show"),
        ([""], 2, "an empty name. Is a variable of the shell not set?"),
        (
            ["mine/codebook.eqcb"],
            1,
            "Show how it cuts a text: eqinfo eval mine/codebook.eqcb --show --text FILE",
        ),
        (["missing"], 1, "missing: no such folder. Name one that train-m1 or train-m2 made."),
        (["."], 1, ".: not a model folder; config.json is missing."),
        (["odd"], 1, "odd/config.json: Is a directory"),
        (["held.txt"], 1, "held.txt: a file, not a folder of train-m1 or train-m2. Measure on it with"),
        (["mine", "--text", "missing"], 1, "missing: No such file or directory"),
        (["mine", "--text", "empty.txt"], 1, "empty.txt: no text in it. Give another --text."),
        (["mine", "--text", "-"], 1, "stdin: no text in it. Give another --text."),
        (["mine", "--device", "tpu"], 2, "--device: unknown device; found tpu, want auto, cpu or cuda."),
        ([*TEXT, "mine", "--figure", "f.svg"], 1, "f.svg: nothing to draw. Give runs of train-m2"),
        ([*TEXT, "long", "--figure", "no/f.svg"], 1, "no/f.svg: No such file or directory"),
        ([*TEXT, "long", "--figure", "f.pdf"], 2, "found 'f.pdf', want a name in .svg or .png"),
        (["long", "--prompt", "a", "--json"], 2, "--json: not with --prompt"),
        (["long", "short", "--prompt", "a"], 2, "--prompt: takes one run"),
        (["mine", "--prompt", "a"], 1, "mine: found a model of train-m1, want a run of train-m2."),
        (["long", "--prompt", "a", "--temperature", "-1"], 2, "Invalid value for '--temperature'"),
        (["long", "--prompt", "a", "--temperature", "nan"], 2, "found 'nan', want a number"),
        (["long", "--prompt", "a", "--temperature", "inf"], 2, "found 'inf', want a number"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_gets_one_line(
    run_eval: Eval, arguments: list[str], status: int, message: str
) -> None:
    before = sorted(Path().rglob("*"))
    assert run_eval(*arguments, status=status) == b""
    assert message in " ".join(run_eval.err.split())
    if status == 1:
        assert run_eval.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


@pytest.fixture
def half(run_eval: Eval, work: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The run `half`, stopped after 5 of 30 steps."""
    monkeypatch.setattr(background, "PATIENCE_S", math.inf)
    settings = m2_run.Settings("nano", block_size=32, batch_tokens=128, steps=30, lr=0.003)
    m2_start.start([Path("ids.bin")], [], Path("half"), settings, Path("mine"))
    steps = []

    def report(phase: str, share: float, remark: str) -> None:
        if remark:  # not before the first step
            steps.append(remark)

    with pytest.raises(KeyboardInterrupt):
        m2_train.run(Path("half"), torch.device("cpu"), report, lambda: len(steps) == 4)
    yield
    shutil.rmtree("half")


def test_a_run_that_is_not_complete_is_measured_and_writes_from_its_checkpoint(
    run_eval: Eval, half: None
) -> None:
    said = "half: not complete; this is its checkpoint, step 5\n"
    found = run_eval.json("half", "short", "--text", "held.txt")
    assert run_eval.err == said
    rows = {row["run"]: row for row in found["m2"]}
    assert [rows[name]["is_complete"] for name in ("half", "short")] == [False, True]
    assert rows["half"]["measured"]["training_tokens"] == 5 * 128
    assert rows["half"]["bits_per_byte"] < rows["short"]["bits_per_byte"]
    assert len(run_eval("half", "--prompt", "the wor", "--bytes", 5)) == 5
    assert run_eval.err == said
    assert re.search(rb"^tokens trained on +640$", run_eval("half", "-q"), re.MULTILINE)
    assert run_eval.err == ""
    # its model is that of the run when it is complete, up to the precision of m2.pt
    assert eqinfo("train-m2", "-o", "half", "--resume", "-q") == (b"", "")
    done = run_eval.json("half", "--text", "held.txt")["m2"][0]["bits_per_byte"]
    config = json.loads(Path("half/config.json").read_bytes())
    del config["measured"]
    Path("half/config.json").write_text(json.dumps(config))
    assert run_eval.json("half", "--text", "held.txt")["m2"][0]["bits_per_byte"] == pytest.approx(
        done, rel=2e-3
    )


@pytest.mark.parametrize("name", ["mine", "long"])
def test_a_run_without_a_model_yet_is_refused_before_anything_is_measured(
    run_eval: Eval, work: Path, name: str
) -> None:
    shutil.copytree(name, "begun")
    config = json.loads(Path("begun/config.json").read_bytes())
    del config["measured"]
    Path("begun/config.json").write_text(json.dumps(config))
    Path("begun/checkpoint.pt").unlink(missing_ok=True)
    assert run_eval("mine", "begun", "--text", "missing", status=1) == b""
    what = {
        "mine": "the run is not complete. Complete it: eqinfo train-m1 -o begun --resume",
        "long": "no checkpoint yet. Wait for the first one, or go on with --resume.",
    }
    assert run_eval.err == f"eqinfo: begun: {what[name]}\n"
    shutil.rmtree("begun")


def test_a_long_text_is_measured_in_part_and_a_line_says_so(
    run_eval: Eval, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"its first {held_out.MAX_TEXT_BYTES >> 20} MiB" in " ".join(run_eval("--help").decode().split())
    monkeypatch.setattr(held_out, "MAX_TEXT_BYTES", 1 << 20)
    monkeypatch.setattr(measure, "COMPRESSORS", {})  # they would take the most time
    Path("long.txt").write_bytes(b"to be or not to be, " * 60_000)
    found = run_eval.json("mine", "--text", "long.txt")
    assert run_eval.err == "long.txt: long; measured on its first 1048576 bytes\n"
    assert (found["text"]["original_bytes"], found["text"]["is_whole"]) == (1 << 20, False)
    assert run_eval("mine", "--text", "long.txt", "-q").startswith(
        b"mine on long.txt: first 1,048,576 bytes, "
    )
    assert run_eval.err == ""
    Path("long.txt").unlink()


# ---- prompts


def continuation(prompt: bytes, n_bytes: int, temperature: float = 1.0, seed: int = 0) -> bytes:
    run = load_m2(Path("long"), torch.device("cpu"))
    assert run.codebook
    return b"".join(generate.stream(run.model, run.codebook, prompt, n_bytes, temperature, None, seed))


def test_a_prompt_is_continued_and_nothing_else_is_printed(run_eval: Eval) -> None:
    found = run_eval("long", "--prompt", "the wor", "--bytes", 30)
    assert found == continuation(b"the wor", 30)
    assert run_eval.err == ""
    assert found == run_eval("long", "--prompt", "-", "--bytes", 30, stdin=b"the wor")
    assert found != run_eval("long", "--prompt", "the wor", "--bytes", 30, "--seed", 1)
    certain = run_eval("long", "--prompt", "the wor", "--bytes", 30, "--temperature", 0)
    assert certain == run_eval("long", "--prompt", "the wor", "--bytes", 30, "--top-k", 1, "--seed", 9)
    assert run_eval("long", "--prompt", "the wor", "--bytes", 0) == b""


def test_prompts_may_be_any_bytes(run_eval: Eval, work: Path) -> None:
    done = shell(work, "eqinfo eval long --bytes 20 --prompt $'a\\xff\\xc3'")
    assert (done.returncode, done.stdout, done.stderr) == (0, continuation(b"a\xff\xc3", 20), b"")


def on_terminal(folder: Path, code: str) -> bytes:
    """What a terminal receives when Python runs this."""
    screen, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdout=terminal, stdin=subprocess.DEVNULL, env=environment
    ) as process:
        os.close(terminal)
        shown = b"".join(b"[" + data + b"]" for data in received(screen))
    assert process.returncode == 0
    return shown


def test_on_a_terminal_characters_are_held_back_until_they_are_complete(tmp_path: Path) -> None:
    code = (
        "import time\nfrom eqinfo.cli import console\n"
        "def pieces():\n"
        "    for piece in (b'\\xe4\\xb8', b'\\x96a\\xc3', b'(\\xff', b'\\xe7'):\n"
        "        yield piece\n        time.sleep(0.1)\n"
        "console.show_pieces(pieces())"
    )
    shown = on_terminal(tmp_path, code).replace(b"][\r\n]", b"\r\n]")
    assert shown == b"[\xe4\xb8\x96a][\xc3(\xff][\xe7\r\n]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=600)
    assert done.stdout == b"\xe4\xb8\x96a\xc3(\xff\xe7"


def test_on_a_terminal_the_best_figures_are_bold_and_wide_tables_get_narrow_heads(tmp_path: Path) -> None:
    code = (
        "from eqinfo.cli import display\n"
        "wide = ['bits/byte', 'compressed bytes'] * 7\n"
        "for head in (['bits/byte'], wide):\n"
        "    row = ['1'] * len(head)\n"
        "    display.show_tables([('a: 3 bytes', ['run', *head], [['x', *row], ['y', *row]], {(1, 1)})])"
    )
    shown = on_terminal(tmp_path, code).replace(b"[a: 3", b"a: 3").replace(b"\r\n", b"\n").decode()
    narrow, wide = shown.split("a: 3 bytes\n")[1:]
    assert narrow.startswith("run  bits/byte\nx            1\ny    \x1b[1m        1\x1b[0m\n")
    assert wide.splitlines()[1].split() == ["run", *["/byte", "bytes"] * 7]


def test_a_full_disk_and_a_closed_stdout_are_named() -> None:
    code = (
        "from eqinfo.cli import console, display\n"
        "with console.reporting(): display.show_tables([('a', ['b'], [], set())])"
    )
    for where, message in (
        (">/dev/full", "eqinfo: stdout: No space left on device"),
        (">&-", "eqinfo: stdout: closed. Send it to a file or a pipe."),
    ):
        command = ["bash", "-c", f'"{sys.executable}" -c "{code}" {where}']
        done = subprocess.run(command, capture_output=True, timeout=600)
        assert message in done.stderr.decode()
        assert done.returncode == 1


def test_text_to_tokens_to_run_to_figures_in_one_pipeline(work: Path) -> None:
    done = shell(
        work,
        f"""eqinfo compress -m mine --tokens -o piped.bin < train.txt
        eqinfo train-m2 piped.bin -m mine -o piped {" ".join(M2)} --steps 2
        eqinfo eval piped --text - --json < held.txt | {sys.executable} -m json.tool --compact""",
    )
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    assert (found["text"]["original_bytes"], found["m2"][0]["run"]) == (len(HELD_OUT), "piped")


def test_live_windows_are_counted_without_those_that_end_documents(run_eval: Eval, tmp_path: Path) -> None:
    texts = HELD_OUT.decode().split()[:40]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    row = run_eval.json("mine", "--text", tmp_path / "words.jsonl")["live"][0]
    text, ends = "".join(texts).encode(), np.cumsum([len(text) for text in texts])
    payload = live_windows.encode_windows(integer_m1.load(Path("mine/m1.eqm1")), text, ends, 64)
    n_windows = np.count_nonzero(np.frombuffer(payload, ">u8"))
    assert (row["window_bits"], row["bytes_per_window"]) == (64, len(text) / n_windows)
