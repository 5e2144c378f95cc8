"""What the documents claim: README blocks give the output they show, and the file map is complete."""

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.parse import encode

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = ROOT / "examples"
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_console_blocks_print_what_they_show(tmp_path):
    (tmp_path / "inaugural.txt").write_bytes((EXAMPLES / "inaugural.txt").read_bytes())
    for block in blocks("console"):
        shown = [part.partition("\n") for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
        for command, _, output in shown:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env=ENVIRONMENT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=120,
                check=False,
            )
            assert (command, done.stdout.decode().rstrip("\n")) == (command, output.rstrip("\n"))


def test_the_python_block_prints_what_follows_it():
    [code] = blocks("python")
    [_, shown] = blocks("text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == shown


def test_the_worked_example_is_right():
    windows = sorted({b"", b"a b", b"ab", b"abc"} | {bytes([b]) for b in range(256)})
    codebook = Codebook(windows, 9)
    assert [windows[c] for c in (0, 1, 97, 98, 99, 100, 101, 102)] == [
        b"", b"\0", b"`", b"a", b"a b", b"ab", b"abc", b"b",
    ]  # fmt: skip
    assert encode(codebook, b"abcab").tolist() == [101, 100]


def test_ci_runs_the_test_command_of_the_readme():
    install, test = (block.strip() for block in blocks("bash"))
    assert test in (ROOT / ".ci" / "run").read_text()
    assert "examples/quickstart.sh" in install


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("script", ["quickstart.sh", "pipes.sh"])
def test_recipes_run(script):
    done = subprocess.run([EXAMPLES / script], env=ENVIRONMENT, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_training_recipe_runs(tmp_path):
    arguments = [EXAMPLES / "inaugural.txt", tmp_path / "model", "--preset", "tiny", "--steps", "5", "-q"]
    done = subprocess.run(
        [EXAMPLES / "train_your_own.sh", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "model" / "codebook.eqcb").exists()


def test_the_recipe_for_m2_runs(tmp_path, model):
    (tmp_path / "m1").symlink_to(model)
    small = ["--block-size", "32", "--batch-tokens", "256", "--steps", "5", "-q"]
    done = subprocess.run(
        [EXAMPLES / "train_m2.sh", EXAMPLES / "inaugural.txt", tmp_path, *small],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"bits/byte" in done.stdout


def test_reweighting_repeats_and_thins_documents(tmp_path):
    lines = [b'{"text": "%d", "source": "%s"}\n' % (i, s) for i in range(4) for s in (b"austen", b"gcide")]
    (tmp_path / "corpus.jsonl").write_bytes(b"".join(lines))
    command = [
        sys.executable,
        EXAMPLES / "reweight.py",
        tmp_path / "corpus.jsonl",
        "-o",
        tmp_path / "mix.jsonl",
    ]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    texts = [ast.literal_eval(line) for line in (tmp_path / "mix.jsonl").read_text().splitlines()]
    assert [t["text"] for t in texts if t["source"] == "austen"] == [c for c in "0123" for _ in range(4)]
    assert [t["text"] for t in texts if t["source"] == "gcide"] == ["1", "3"]
