"""Runs the commands on damaged and hostile files, each as a new process, and counts the outcomes."""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest import mock

import fault_subjects
from fault_subjects import (
    TEXT,
    files_of,
    m1_folder,
    m2_folder,
    sandbox,
    small_codebook,
    small_network,
    stream,
)

from eqinfo.coder import integer_m1
from eqinfo.formats.codec import ArithmeticCodec, CodebookCodec
from eqinfo.text.frames import Frame

HEAD = ["command", "damaged", "cases", "exit status 1", "exit status 0", "**defects**"]
WORDS = (
    "Each case is a new process that gets random bytes, a truncated file, a flipped bit or overwritten "
    "bytes. It must end with exit status 1, one line on stderr, nothing on stdout and an unchanged folder; "
    "or with status 0 and the output of the undamaged file. Plain text has no checksum, so damaged text may "
    "give another output."
)
LIMIT_S = 60
# these hold measured times
TIMED = tuple(f"folder/run/{name}" for name in ("config.json", "metrics.jsonl", "checkpoint.pt"))
Outcome = tuple[bytes, dict[str, bytes]]  # stdout, and the files in the folder


@dataclass
class Command:
    """A command, its input files, the one that gets damaged, and the counts of outcomes."""

    files: dict[str, bytes]
    damaged: str
    words: list[str]
    is_checked: bool = True  # whether checksums must reveal every change
    cases: int = 0
    refused: int = 0
    right: int = 0
    defects: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The arguments as a user types them."""
        return " ".join(self.words)

    def run(self, contents: bytes) -> tuple[int, bytes, Outcome]:
        """Run the command with these contents of the damaged file; exit status, stderr and outcome."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "folder"
            for path, data in {**self.files, self.damaged: contents}.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
            done = subprocess.run(
                [sys.executable, "-m", "eqinfo", *self.words], cwd=folder, capture_output=True, check=False,
                timeout=LIMIT_S, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            files = (path for path in Path(name).rglob("*") if path.is_file())
            found = {str(path.relative_to(name)): path.read_bytes() for path in files}
        found.pop(f"folder/{self.damaged}", None)  # a complete run deletes its checkpoint
        return done.returncode, done.stderr, (done.stdout, found)

    def case(self, want: Outcome, contents: bytes) -> None:
        """Run the command on a damaged file, and count the outcome."""
        self.cases += 1
        try:
            status, words, found = self.run(contents)
        except subprocess.TimeoutExpired:
            self.defects.append(f"over {LIMIT_S} s for {contents[:99]!r}")
            return
        before = {f"folder/{path}": data for path, data in self.files.items() if path != self.damaged}
        is_line = words.startswith(b"eqinfo: ") and words.endswith(b"\n") and words.count(b"\n") == 1
        if status == 1 and is_line and found == (b"", before):
            self.refused += 1
        elif status == 0 and (untimed(found) == untimed(want) or not self.is_checked):
            self.right += 1
        else:
            files = {path for path, data in found[1].items() if before.get(path) != data}
            self.defects.append(f"status {status}, {words[-500:]!r}, {files or ''} for {contents[:200]!r}")

    def row(self) -> list[str]:
        """The table row of the command."""
        numbers = [self.cases, self.refused, self.right, len(self.defects)]
        return [f"`{self.name}`", self.damaged, *map(str, numbers)]


def untimed(outcome: Outcome) -> Outcome:
    """An outcome without the files that differ between equal runs."""
    return outcome[0], {path: data for path, data in outcome[1].items() if path not in TIMED}


def damage(data: bytes, rng: random.Random) -> bytes:
    """The data replaced by random bytes, truncated, with a flipped bit, or with overwritten bytes."""
    at = rng.randrange(len(data))
    kinds: list[Callable[[], bytes]] = [
        lambda: rng.randbytes(rng.randrange(300)),
        lambda: data[:at],
        lambda: data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
        lambda: data[:at] + rng.randbytes(8) + data[at + 8 :],
    ]
    return rng.choice(kinds)()


def commands() -> list[Command]:
    """Every command that reads files, once per kind of file that it reads."""
    codebook, m1 = small_codebook(), small_network()
    model = {"model/codebook.eqcb": codebook.to_bytes(), "model/m1.eqm1": integer_m1.to_bytes(m1)}
    packed = stream(CodebookCodec(codebook), [Frame(TEXT[:80], [9]), Frame(TEXT[80:140])])
    live = stream(ArithmeticCodec(m1), [Frame(TEXT)])
    begun_1, complete_1 = (files_of(partial(m1_folder, is_complete=flag)) for flag in (False, True))
    with mock.patch.object(fault_subjects, "small_m2", nullcontext):  # commands use the real presets
        begun_2 = files_of(partial(m2_folder, is_complete=False))
    begun_2["config.json"] = begun_2["config.json"].replace(f"{sandbox()}/case".encode(), b"run")
    ids = {path: begun_2[path] for path in ("a.bin", "a.bin.json")} | model
    m = ["-m", "model"]
    options = ["--steps", "1", "--preset", "nano", "--block-size", "8", "--batch-tokens", "8", "-q"]
    train = ["train-m2", "a.bin", *m, "-o", "run", *options]
    lines = b'{"text": "to be"}\n' * 3

    def run(files: dict[str, bytes]) -> dict[str, bytes]:
        return {f"run/{path}": data for path, data in files.items()}

    a = {"a.eqi": packed} | model
    return [
        Command(a, "a.eqi", ["compress", "-d", *m, "a.eqi"]),
        Command({"a.eqi": live} | model, "a.eqi", ["-d", *m, "a.eqi"]),
        Command(a, "a.eqi", ["-t", *m, "a.eqi"]),
        Command(a, "a.eqi", ["-l", *m, "a.eqi"]),
        Command(a, "a.eqi", ["decompress", "--range", "3:120", *m, "a.eqi", "-o", "b"]),
        Command(a, "a.eqi", ["decompress", "--jsonl", *m, "a.eqi"]),
        Command(ids, "a.bin", ["decompress", *m, "a.bin", "-o", "b"]),
        Command(ids, "a.bin.json", ["decompress", *m, "a.bin", "-o", "b"]),
        Command(ids, "a.bin.json", ["-l", *m, "a.bin"]),
        Command(a, "model/codebook.eqcb", ["decompress", *m, "a.eqi"]),
        Command({"text": TEXT} | model, "model/codebook.eqcb", ["compress", *m, "text"]),
        Command({"text": TEXT} | model, "model/m1.eqm1", ["compress", *m, "--window-bits", "ac", "text"]),
        Command({"a.jsonl": lines} | model, "a.jsonl", ["compress", "--jsonl", *m, "a.jsonl"], False),
        Command(ids, "a.bin", train),
        Command(ids, "a.bin.json", train),
        Command(run(begun_2), "run/checkpoint.pt", ["train-m2", "--resume", "-q", "-o", "run"]),
        Command(run(begun_1), "run/corpus/facts.json", ["train-m1", "--resume", "-q", "-o", "run"]),
        Command(run(complete_1), "run/published.eqcb", ["eval", "run"]),
    ]


def campaign(cases: int) -> list[Command]:
    """Run each command on `cases` damaged files."""
    found = commands()
    for command in found:
        rng = random.Random(command.name + command.damaged)
        status, _, want = command.run(command.files[command.damaged])
        assert not status, command.name
        for _ in range(cases):
            command.case(want, damage(command.files[command.damaged], rng))
    return found
