"""Runs the commands under bad conditions, and checks exit status, stderr and the files they leave.

    python tests/campaigns/conditions.py --work conditions/ --text train.jsonl.zst -o conditions.md

Mounts need root on Linux; without them the page says which conditions are missing.
This module does not kill (`endurance`) or damage inputs (`faults`).
"""

import argparse
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from endurance import M1_OPTIONS, M2_OPTIONS, facts, prepare, temporaries
from launch import (
    COMMAND,
    Run,
    as_others,
    can_mount,
    closed,
    gone,
    mounted,
    preload,
    refusing,
    without_threads,
)
from reporting import pages

PREVIOUS = b"what was there before\n"
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class Job(NamedTuple):
    """A command; {work} and {out} in its words stand for the folders of inputs and of outputs."""

    name: str
    words: str
    outputs: list[str]  # names in {out}
    held: str  # the same command reading from stdin, so that it can be kept waiting
    stdin: str  # the file in {work} for its stdin
    resume: str = ""  # the command that resumes it; given for training runs, whose output is a folder

    def command(self, words: str, work: Path, out: Path) -> list[str]:
        """The arguments of eqinfo."""
        return [word.format(work=work, out=out) for word in words.split()]


M1, M2 = " ".join(M1_OPTIONS), " ".join([*M2_OPTIONS, "--steps 150"])  # long enough to be interrupted
M2_WORDS = "train-m2 -q {work}/tokens.bin --valid {work}/tokens.bin -m {work}/model -o {out}/run " + M2
JOBS = [
    Job("compress", "compress -f {work}/small -o {out}/f", ["f"], "compress -f -o {out}/f", "text"),
    Job(
        "decompress",
        "decompress -f {work}/small.eqi -o {out}/f",
        ["f"],
        "decompress -f -o {out}/f",
        "text.eqi",
    ),
    Job(
        "eval --figure",
        "eval -q {work}/run --text {work}/tiny --figure {out}/f.svg --device cpu",
        ["f.svg"],
        "eval -q {work}/run --text - --figure {out}/f.svg --device cpu",
        "tiny",
    ),
    Job(
        "train-m1",
        "train-m1 -q {work}/small -o {out}/run " + M1,
        ["run"],
        "train-m1 -q - -o {out}/run " + M1,
        "small",
        "train-m1 -q -o {out}/run --device cpu --resume",
    ),
    Job("train-m2", M2_WORDS, ["run"], M2_WORDS, "", M2_WORDS + " --resume"),
]
TRAINING = [job for job in JOBS if job.resume]
FILES = [job for job in JOBS if not job.resume]


class Outcome(NamedTuple):
    """How a command ended under a condition."""

    status: int
    words: str | None  # on stderr; None where it cannot be read
    output: str  # complete, absent, previous, to be continued, or the defect
    strays: list[str]
    resumed: str = ""  # "equal when resumed", or the defect

    def text(self) -> str:
        """The outcome as text of a table cell."""
        words = f", {self.n_lines} line{'s' * (self.n_lines != 1)}" if self.words is not None else ""
        strays = f", **left {' '.join(self.strays)}**" if self.strays else ""
        resumed = f", {self.resumed}" if self.resumed else ""
        return f"{self.status}{words}, {self.output}{strays}{resumed}"

    @property
    def n_lines(self) -> int:
        """The number of lines on stderr."""
        return len((self.words or "").splitlines())

    def is_right(self, statuses: set[int]) -> bool:
        """Whether the outcome has no defect and one of these exit statuses."""
        words = self.words or ""
        return (
            self.status in statuses
            and self.n_lines <= 1
            and not re.search("Traceback|Exception|Error\\b", words)
            and not self.strays
            and self.output
            in (("complete",) if self.status == 0 else ("absent", "previous", "complete", "to be continued"))
            and self.resumed in ("", "equal when resumed")
        )


class Cell(NamedTuple):
    """All outcomes of a job under a condition, and how many of them are right."""

    outcomes: list[Outcome]
    right: int

    def text(self) -> str:
        """The cell: each distinct outcome, with its count if there were several trials."""
        texts = [outcome.text() for outcome in self.outcomes]
        different = list(dict.fromkeys(texts))
        shown = [f"{texts.count(t)} × {t}" if len(texts) > 1 else t for t in different]
        wrong = len(texts) - self.right
        return "; ".join(shown) + (f" **wrong: {wrong}**" if wrong else "")


class Trials:
    """Runs jobs, each in an empty output folder, and collects the table of outcomes."""

    def __init__(self, work: Path, has_previous: bool = True) -> None:
        self.work, self.out, self.has_previous = work, work / "out", has_previous
        self.want: dict[str, Any] = {}
        self.rows = dict[str, dict[str, Cell]]()
        self.messages = dict[str, str]()

    def fresh(self) -> None:
        """Empty the output folder."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()

    def run(self, job: Job, words: str, fork: bool = True, **how: Any) -> Run:
        """Start a job with some of its words; training as a fork of this process, which saves seconds."""
        return Run(job.command(words, self.work, self.out), fork=fork and bool(job.resume), **how)

    def learn(self, jobs: list[Job]) -> None:
        """Run each job undisturbed, and keep its output as the expected one."""
        for job in jobs:
            self.fresh()
            status, words = self.run(job, job.words).end()
            assert (status, words) == (0, ""), (job.name, status, words)
            self.want[job.name] = self.made(job)

    def made(self, job: Job) -> Any:
        """The output in comparable form; None if there is none."""
        path = self.out / job.outputs[0]
        if path.is_dir():
            config = path / "config.json"
            is_complete = config.exists() and '"measured"' in config.read_text()
            return facts(path) if is_complete else "not complete"
        if path.suffix == ".svg" and path.exists():  # its content depends on measured times
            return path.read_bytes().rstrip().endswith(b"</svg>") or path.read_bytes()
        return path.read_bytes() if path.exists() else None

    def outcome(self, job: Job, status: int, words: str | None, resume: bool = True) -> Outcome:
        """The outcome of a command that has ended; a run folder is resumed to see whether it can be."""
        made, path = self.made(job), self.out / job.outputs[0]
        strays = [p.name for p in temporaries(self.out)]
        strays += [p.name for p in self.out.iterdir() if p.name not in job.outputs and p.name not in strays]
        resumed = ""
        if made is None:
            output = "absent"
        elif made == self.want[job.name]:
            output = "complete"
        elif made == PREVIOUS:
            output = "previous"
        elif job.resume and (path / "config.json").exists():
            output = "to be continued"
            if resume:
                resumed = self.resumed(job)
        else:
            output = "**partial**"
        return Outcome(status, words, output, strays, resumed)

    def resumed(self, job: Job) -> str:
        """Resume a run; "equal when resumed", or the defect."""
        status, words = self.run(job, job.resume).end()
        is_equal = (status, words, self.made(job)) == (0, "", self.want[job.name])
        return "equal when resumed" if is_equal else f"**not resumed: {status} {words}**"

    def note(self, condition: str, job: Job, outcomes: list[Outcome], statuses: set[int]) -> None:
        """Add a cell to the table, and its lines of stderr to the list of messages."""
        cell = Cell(outcomes, sum(outcome.is_right(statuses) for outcome in outcomes))
        self.rows.setdefault(condition, {})[job.name] = cell
        print(f"{condition} | {job.name} | {cell.text()}", file=sys.stderr, flush=True)
        for outcome in outcomes:
            for line in (outcome.words or "").splitlines():
                line = line.replace(f"{self.out}/", "").replace(f"{self.work}/", "")
                self.messages.setdefault(line, f"{job.name}, {condition}")
                if not outcome.is_right(statuses):
                    print("   ", line, file=sys.stderr)

    def previous(self, job: Job) -> None:
        """Create a file in the place of the output, which -f would replace."""
        if not job.resume and self.has_previous:
            (self.out / job.outputs[0]).write_bytes(PREVIOUS)

    def once(self, condition: str, job: Job, statuses: set[int], **streams: Any) -> None:
        """Run a job to its end with the given streams or limits."""
        self.fresh()
        self.previous(job)
        status, words = self.run(job, job.words, fork=False, **streams).end()
        readable = streams.get("stderr") is None and "stderr" not in condition
        self.note(condition, job, [self.outcome(job, status, words if readable else None)], statuses)

    # ---- full disks and folders that cannot be written

    def full(self, job: Job, sizes: list[int]) -> None:
        """Write to a file system of `sizes` KB, which is enlarged before a run is resumed."""
        outcomes = []
        for size in sizes:
            self.fresh()
            with mounted(self.out, "-t", "tmpfs", "-o", f"size={size}k", "none"):
                with suppress(OSError):
                    self.previous(job)
                status, words = self.run(job, job.words).end()
                subprocess.run(["mount", "-o", "remount,size=1g", self.out], check=True)
                outcomes.append(self.outcome(job, status, words))
        self.note("a full disk", job, outcomes, {1})

    def limited(self, job: Job, sizes: list[int]) -> None:
        """Run with a file size limit (RLIMIT_FSIZE) of `sizes` KB."""
        outcomes = []
        for size in sizes:
            self.fresh()
            self.previous(job)
            limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size << 10, size << 10))
            status, words = self.run(job, job.words, before=limit).end()
            outcomes.append(self.outcome(job, status, words))
        self.note("a file size limit", job, outcomes, {1})

    def read_only(self, job: Job) -> None:
        """Write to a read-only file system; for training, start there and also resume there."""
        self.fresh()
        self.previous(job)
        with mounted(self.out, "--bind", str(self.out)):
            subprocess.run(["mount", "-o", "remount,ro,bind", self.out], check=True)
            status, words = self.run(job, job.words).end()
            found = self.outcome(job, status, words)
        self.note("a read-only file system", job, [found], {1})
        if job.resume:
            self.stopped(job)
            with mounted(self.out, "--bind", str(self.out)):
                subprocess.run(["mount", "-o", "remount,ro,bind", self.out], check=True)
                status, words = self.run(job, job.resume).end()
            self.note("a read-only file system, --resume", job, [self.outcome(job, status, words)], {1})

    def forbidden(self, job: Job) -> None:
        """Write to a folder without permission; and run with a read-only or full cache of machine code."""
        self.fresh()
        self.previous(job)
        self.out.chmod(0o555)
        status, words = self.run(job, job.words, fork=False, before=as_others).end()
        self.note("a folder without permission", job, [self.outcome(job, status, words)], {1})
        if job.resume:
            return  # forks have their machine code in memory already
        cache = self.work / "cache"
        cache.mkdir(exist_ok=True)
        environment = {"NUMBA_CACHE_DIR": str(cache)}
        for name, size, mode in (("read-only", "1g", "ro"), ("full", "16k", "rw")):
            self.fresh()
            with mounted(cache, "-t", "tmpfs", "-o", f"size={size},{mode}", "none"):
                status, words = self.run(job, job.words, environment=environment).end()
            self.note(f"a {name} cache of machine code", job, [self.outcome(job, status, words)], {0})

    # ---- what a system refuses

    def without_courtesies(self, job: Job) -> None:
        """Write where modes, times and owners are refused, as on FAT and SMB; and where renaming is."""
        settings = ("chmod", "fchmod", "fchmodat", "utimensat", "utimes", "chown", "fchown", "fchownat")
        for name, error, calls in (
            ("modes and times", "EPERM", settings),
            ("renaming", "EBUSY", ("rename",)),
        ):
            environment = refusing(self.work, error, *calls)
            self.once(f"{name} refused", job, {0}, environment=environment)

    def bound(self, job: Job) -> None:
        """Write to a single file that is bound into the folder, as into a container."""
        self.fresh()
        self.previous(job)
        shared = self.work / "shared"
        shared.write_bytes(PREVIOUS)
        with mounted(self.out / job.outputs[0], "--bind", str(shared)):
            status, words = self.run(job, job.words).end()
            found = self.outcome(job, status, words)
        self.note("an output file bound from elsewhere", job, [found], {0})

    def damaged_cache(self, job: Job) -> None:
        """Run with a cache of machine code whose files are empty, cut or zeroed."""
        cache = self.work / "damaged"
        environment = {"NUMBA_CACHE_DIR": str(cache)}
        outcomes = []
        for damage in (lambda data: b"", lambda data: data[: len(data) // 2], lambda data: bytes(len(data))):
            shutil.rmtree(cache, ignore_errors=True)
            self.run(job, job.words, fork=False, environment=environment).end()
            for path in [path for path in cache.rglob("*") if path.is_file()]:
                path.write_bytes(damage(path.read_bytes()))
            self.fresh()
            status, words = self.run(job, job.words, fork=False, environment=environment).end()
            outcomes.append(self.outcome(job, status, words))
        self.note("a damaged cache of machine code", job, outcomes, {0})

    # ---- signals

    def under_way(self, job: Job) -> bool:
        """Whether a job has begun its output, or a training run its first steps."""
        if job.resume:
            return any((self.out / "run" / name).exists() for name in ("round-0.eqcb", "metrics.jsonl"))
        return bool(temporaries(self.out))

    def stopped(self, job: Job) -> None:
        """Leave a run that SIGTERM stopped after its first steps."""
        self.fresh()
        run = self.run(job, job.words)
        run.wait_for(lambda: self.under_way(job))
        run.send(signal.SIGTERM)
        assert run.end()[0] == 128 + signal.SIGTERM

    def held(self, job: Job, **how: Any) -> Run:
        """Start a job that waits for input once it has begun its output; a training run does not wait."""
        self.fresh()
        self.previous(job)
        if job.resume:
            run = self.run(job, job.words, **how)
        else:
            run = Run(job.command(job.held, self.work, self.out), stdin=subprocess.PIPE, **how)
            assert run.process.stdin
            run.process.stdin.write((self.work / job.stdin).read_bytes()[: 1 << 21])
            run.process.stdin.flush()
        run.wait_for(lambda: self.under_way(job))
        return run

    def fed(self, run: Run, job: Job) -> tuple[int, str]:
        """Give a held job the rest of its input, and wait for its end."""
        if run.process.stdin:
            run.process.stdin.write((self.work / job.stdin).read_bytes()[1 << 21 :])
            run.process.stdin.close()
        return run.end()

    def interrupted(self, job: Job, numbers: list[int], terminal: bool, tries: int = 1) -> None:
        """Send signals to a held job, each soon after the one before."""
        outcomes = []
        for k in range(tries):
            run = self.held(job, terminal=terminal)
            for number in numbers:
                run.send(number)
                time.sleep(0.02 * (k + 1))
            status, words = run.end()
            hung_up = terminal and signal.SIGHUP in numbers
            outcomes.append(self.outcome(job, status, None if hung_up else words))
        twice = " twice" if len(numbers) > 1 else ""
        where = "in a terminal" if terminal else "no terminal"
        self.note(f"{NAMES[numbers[0]]}{twice}, {where}", job, outcomes, {128 + numbers[0]})

    def ignoring(self, job: Job) -> None:
        """Send SIGHUP to a job that ignores it, as under nohup."""
        run = self.held(job, before=partial(signal.signal, signal.SIGHUP, signal.SIG_IGN))
        run.send(signal.SIGHUP)
        status, words = self.fed(run, job)
        if job.name in ("compress", "decompress"):
            path = self.out / job.outputs[0]
            wanted = (self.work / {"compress": "text.eqi", "decompress": "text"}[job.name]).read_bytes()
            output = "complete" if path.read_bytes() == wanted else "**wrong**"
            found = Outcome(status, words, output, [p.name for p in temporaries(self.out)])
        else:
            found = self.outcome(job, status, words)
        self.note("SIGHUP under nohup", job, [found], {0})

    def sweep(self, condition: str, job: Job, moments: list[float]) -> None:
        """Send SIGINT at each of `moments`, in seconds from the start; the cache of machine code is empty."""
        outcomes = []
        for moment in moments:
            self.fresh()
            self.previous(job)
            environment = {"NUMBA_CACHE_DIR": str(self.work / "cache")}
            shutil.rmtree(self.work / "cache", ignore_errors=True)
            run = self.run(job, job.words, fork=False, environment=environment)
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(moment)
            run.send(signal.SIGINT)
            outcomes.append(self.outcome(job, *run.end()))
        self.note(condition, job, outcomes, {0, 130})

    def staging(self, job: Job) -> None:
        """Send SIGINT while train-m1 reads its text."""
        self.fresh()
        run = Run(job.command(job.held, self.work, self.out), stdin=subprocess.PIPE)
        assert run.process.stdin
        run.process.stdin.write((self.work / job.stdin).read_bytes())
        run.process.stdin.flush()
        run.wait_for((self.out / "run" / "corpus" / "train").exists)
        run.send(signal.SIGINT)
        self.note("Ctrl-C while text is read", job, [self.outcome(job, *run.end())], {130})

    def saving(self, job: Job, tries: int) -> None:
        """Send SIGINT twice while a checkpoint is written; an earlier checkpoint exists."""
        outcomes = []
        for k in range(tries):
            self.fresh()
            run = self.run(job, job.words, checkpoint_every_s=0.0)
            folder = self.out / "run"
            run.wait_for((folder / "checkpoint.pt").exists)
            run.send(signal.SIGINT)
            run.wait_for(lambda: bool(temporaries(folder)), 2)  # noqa: B023 - called here
            time.sleep(0.0005 * k)
            run.send(signal.SIGINT)
            outcomes.append(self.outcome(job, *run.end()))
        self.note("Ctrl-C twice while a checkpoint is written", job, outcomes, {130})

    # ---- two at once

    def two_runs(self, job: Job) -> None:
        """Start, and resume, in the folder of a training run that is still running."""
        first = self.held(job)
        outcomes = []
        for words in (job.words, job.resume):
            status, said = self.run(job, words).end()
            outcomes.append(Outcome(status, said, "to be continued", []))
        self.note("two runs in one folder, the second", job, outcomes, {1})
        found = self.outcome(job, *first.end())
        self.note("two runs in one folder, the first", job, [found], {0})

    def two_outputs(self, job: Job, force: bool) -> None:
        """Run a command from start to end while another one with the same output is held."""
        has, self.has_previous = self.has_previous, False
        cut = (lambda words: words) if force else (lambda words: words.replace(" -f", ""))
        first = self.held(job._replace(held=cut(job.held)))
        found = self.outcome(job, *Run(job.command(cut(job.words), self.work, self.out)).end())
        strays = [
            name for name in found.strays if not name.startswith(".eqinfo-")
        ]  # temporary files of the held command
        name = "two commands with one output" + (" and -f" if force else "")
        self.note(f"{name}, the one that ends first", job, [found._replace(strays=strays)], {0})
        status, words = self.fed(first, job)
        wanted = (self.work / {"compress": "text.eqi", "decompress": "text"}[job.name]).read_bytes()
        output = "complete" if (self.made(job) == wanted) == force else "**wrong**"
        left = [path.name for path in temporaries(self.out)]
        self.note(f"{name}, the other", job, [Outcome(status, words, output, left)], {0 if force else 1})
        self.has_previous = has


def streams(trials: Trials, job: Job) -> None:
    """Run a job with standard streams that are closed, full, or without a reader."""
    name = job.words.split()[0]
    loud = job._replace(
        words=job.words.replace(" -q", "").replace(f"{name} ", f"{name} -v ", 1 - bool(job.resume))
    )
    if name == "eval":
        loud = job
    trials.once("unused stdin closed", job, {0}, before=closed(0))
    trials.once(
        "unused stdout closed" if name != "eval" else "stdout closed",
        job,
        {0 if name != "eval" else 1},
        before=closed(1),
    )
    trials.once("stderr closed", loud, {0}, before=closed(2))
    trials.once("stderr without a reader", loud, {0}, stderr=gone())
    trials.once("stderr on a full disk", loud, {0}, stderr=os.open("/dev/full", os.O_WRONLY))
    if not job.resume:
        held = job._replace(words=job.held)
        if job.held != job.words:
            trials.once("needed stdin closed", held, {1}, before=closed(0))
    elif job.held != job.words:
        trials.once("needed stdin closed", job._replace(words=job.held), {1}, before=closed(0))
    if name in ("compress", "decompress"):
        piped = job._replace(words=job.words.replace(" -o {out}/f", " -c").replace("small", "text"))
    elif name == "eval":
        piped = job
    else:
        return
    trials.once("stdout without a reader", piped, {141}, stdout=gone())
    trials.once("stdout on a full disk", piped, {1}, stdout=os.open("/dev/full", os.O_WRONLY))
    if name != "eval":
        trials.once("needed stdout closed", piped, {1}, before=closed(1))


def signalled(trials: Trials, job: Job) -> None:
    """Send signals to a job, with and without a terminal."""
    for number in NAMES:
        for terminal in (False, True):
            trials.interrupted(job, [number], terminal)
            if number == signal.SIGINT or (job.resume and not terminal):
                trials.interrupted(job, [number, number], terminal, tries=2)
    trials.ignoring(job)


SIZES_KB = {
    "compress": ([4, 16, 40], [1, 16, 40]),
    "decompress": ([4, 100, 180], [1, 100, 180]),
    "eval --figure": ([4], [1]),
    "train-m1": ([16, 260, 600, 1400], [4, 150, 300]),
    "train-m2": ([8, 64, 1000, 2500], [4, 64, 1000]),
}  # sizes of the full disk, and file size limits; at each, another file of a run fails


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for inputs and outputs")
    parser.add_argument("--text", type=Path, required=True, help="English text, .zst")
    parser.add_argument("--only", nargs="*", help="names of the commands to run")
    parser.add_argument("-o", "--output", type=Path, help="write the page to this file as well")
    options = parser.parse_args()
    work = options.work.absolute()
    prepare(work, options.text)
    if not (work / "run").exists():
        (work / "tiny").write_bytes((work / "text").read_bytes()[:4000])
        for words in ("compress {work}/small -f", M2_WORDS.replace("{out}", "{work}")):
            subprocess.run([*COMMAND, *words.format(work=work).split()], check=True)
    trials = Trials(work)
    jobs = [job for job in JOBS if not options.only or job.name in options.only]
    preload()
    trials.learn(jobs)
    mounts = can_mount(work / "out") and os.geteuid() == 0
    for job in jobs:
        measure(trials, job, mounts)
    pages.publish(page(trials, jobs, mounts), options.output)


def measure(trials: Trials, job: Job, mounts: bool) -> None:
    """Run a job under all conditions."""
    disk, limit = SIZES_KB[job.name]
    if mounts:
        trials.full(job, disk)
        trials.read_only(job)
        trials.forbidden(job)
        if job in FILES:
            trials.bound(job)
    if job in FILES and shutil.which("cc"):
        trials.without_courtesies(job)
    if job in FILES:
        trials.damaged_cache(job)
    trials.once("no more threads", job, {0}, before=without_threads)
    trials.limited(job, limit)
    streams(trials, job)
    signalled(trials, job)
    if job.resume:
        trials.sweep("Ctrl-C while PyTorch is imported", job, [0.1 + 0.25 * k for k in range(8)])
        trials.saving(job, 5)
        trials.two_runs(job)
    elif job.name != "eval --figure":
        step_s = 0.9 if job.name == "compress" else 0.06
        trials.sweep("Ctrl-C while numba compiles", job, [0.1 + step_s * k for k in range(8)])
        trials.two_outputs(job, force=False)
        trials.two_outputs(job, force=True)
    if job.name == "train-m1":
        trials.staging(job)


LEGEND = (
    "A cell gives the exit status as a shell counts it (128 + signal number after a signal), the number of "
    "lines on stderr where it can be read, and the state of the output. *Complete*: equal to that of an "
    "undisturbed run. *Absent*: there is none. *Previous*: the file that `-f` was to replace is still "
    "there. *To be continued*: a run folder that `--resume` accepts; it was then resumed on a working disk, "
    "and *equal when resumed* means that all its files equal those of an undisturbed run, apart from the "
    "times in them. A trial is right if its output is in one of these states, no other file was left, "
    "stderr has at most one line, and the exit status is that of the condition. A full disk and a file size "
    "limit were tried at several sizes, because the files of a run differ in size."
)


def page(trials: Trials, jobs: list[Job], mounts: bool) -> list[str]:
    """The parts of the page."""
    cells = [cell for row in trials.rows.values() for cell in row.values()]
    n, right = sum(len(cell.outcomes) for cell in cells), sum(cell.right for cell in cells)
    rows = [
        [condition, *(row[job.name].text() if job.name in row else "–" for job in jobs)]
        for condition, row in trials.rows.items()
    ]
    without = (
        ""
        if mounts
        else "Nothing could be mounted here: full disks and read-only file systems are missing.\n"
    )
    return [
        "# Bad conditions\n",
        pages.paragraph(
            "What the commands do when a disk is full, a standard stream is closed, a signal arrives or "
            f"another command uses the same output. {right:,} of {n:,} trials ended as they should: with the "
            "right exit status, at most one line on stderr, and an output that is whole, absent or "
            "resumable."
        ),
        pages.provenance(sys.argv, ("torch", "numba", "numpy")),
        pages.paragraph(LEGEND),
        without,
        pages.table(["condition", *(job.name for job in jobs)], rows),
        "## Lines on stderr\n",
        "Each distinct line, with the command and condition that printed it first.\n",
        pages.table(
            ["line", "command, condition"],
            [[f"`{line}`".replace("|", "\\|"), where] for line, where in trials.messages.items()],
        ),
    ]


if __name__ == "__main__":
    main()
