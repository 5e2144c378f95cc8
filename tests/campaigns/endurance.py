"""Kills eqinfo at random moments, runs it for a long time, and runs many processes at once.

    python tests/campaigns/endurance.py soak --work endurance/ --text train.jsonl.zst --bytes 20e9
    python tests/campaigns/endurance.py many --work endurance/ --text train.jsonl.zst
    python tests/campaigns/endurance.py kills --work endurance/ --text train.jsonl.zst --kills 200
    python tests/campaigns/endurance.py kills-m1 --work endurance/ --text train.jsonl.zst
    python tests/campaigns/endurance.py kills-m2 --work endurance/ --text train.jsonl.zst
    python tests/campaigns/endurance.py report --work endurance/ -o endurance.md

Each part writes its results as JSON to the work folder, and `report` writes the page from them.
This module does not damage inputs (`faults`).
"""

import argparse
import hashlib
import json
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from launch import COMMAND, Fork, preload
from reporting import pages

from eqinfo.system.atomic_files import TEMPORARY_PREFIX
from eqinfo.training.run_folder import CHECKPOINT

CHUNK = 1 << 20
KILL_BYTES = 24_000_000  # size of the text in kills of compress and decompress
TRAIN_BYTES = 200_000
CHECKPOINT_EVERY_S = 0.1  # in forked training runs, so that some kills hit the writing of a checkpoint
SOFT_SHARE = 0.3  # share of kills of training runs that follow a SIGTERM, which asks for a checkpoint
SOFT_S = 0.1  # longest delay between the SIGTERM and the kill
M1_OPTIONS = shlex.split("--preset tiny --window-bits 10 --rounds 2 --steps 24 --device cpu")
M2_OPTIONS = shlex.split(
    "--preset nano --block-size 64 --batch-tokens 512 --steps 30 --validations 4 --device cpu"
)
TIMES = {
    "training_s",
    "time_s",
    "tokens_per_s",
    "bytes_per_s",
    "git_commit",
}  # fields that differ between equal runs


def keep(work: Path, name: str, result: Any) -> None:
    """Write the results of a part to the work folder, atomically."""
    temporary = work / f"{name}.json.new"
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(work / f"{name}.json")


def sample_text(texts: Path, n_bytes: int) -> bytes:
    """The first `n_bytes` bytes of a decompressed .zst file."""
    with subprocess.Popen(["zstd", "-dcq", texts], stdout=subprocess.PIPE) as source:
        assert source.stdout is not None
        data = source.stdout.read(n_bytes)
        source.terminate()
    return data


# ---- kills


class Ended(NamedTuple):
    """How a process ended: its exit status (minus the signal number after a signal) and its output."""

    status: int
    words: str


def run_until(
    arguments: list[str], log: Path, fresh: bool, delay_s: float | None = None, soft_s: float | None = None
) -> Ended:
    """Run eqinfo, and kill it if it still runs after a delay.

    Args:
        arguments: the arguments of eqinfo.
        log: the file that takes its stderr, and its stdout if `fresh`.
        fresh: start a new process instead of a fork.
        delay_s: seconds until it is killed; None for never.
        soft_s: if given, SIGTERM is sent after `delay_s`, and SIGKILL `soft_s` later.
    """
    kill = [(signal.SIGKILL, delay_s)]
    stops = kill if soft_s is None else [(signal.SIGTERM, delay_s), (signal.SIGKILL, soft_s)]
    with log.open("wb") as output:
        process: Any
        if fresh:
            process = subprocess.Popen([*COMMAND, *arguments], stdout=output, stderr=output)
        else:
            default = partial(signal.signal, signal.SIGTERM, signal.SIG_DFL)
            process = Fork(arguments, output.fileno(), default, CHECKPOINT_EVERY_S)
        for number, wait_s in stops:
            try:
                process.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(number)
        process.wait()
    return Ended(process.returncode, log.read_text(errors="replace"))


def temporaries(folder: Path) -> list[Path]:
    """The temporary files below a folder, which killed processes leave behind."""
    return list(folder.rglob(f"{TEMPORARY_PREFIX}*"))


def kill_files(
    work: Path, name: str, arguments: list[str], outputs: list[str], n_kills: int, seed: int = 0
) -> dict[str, Any]:
    """Kill a command `n_kills` times at random moments, and count what each kill left.

    Args:
        work: folder for outputs and logs.
        name: name of the command in the table.
        arguments: arguments of eqinfo; "{out}" stands for the last output.
        outputs: names of the files that it writes, in the order in which they appear.
        n_kills: runs that must end by SIGKILL.
        seed: seed of the random moments.
    """
    rng, folder, log = random.Random(f"{name} {seed}"), work / name, work / f"{name}.log"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    paths = [folder / output for output in outputs]
    command = [word.format(out=paths[-1]) for word in arguments]

    def ends_well() -> float:
        started = time.monotonic()
        ended = run_until(command, log, True)
        assert ended.status == 0, ended
        return time.monotonic() - started

    ends_well()  # fills the cache of machine code
    for path in paths:
        path.unlink()
    duration_s = ends_well()
    want = [path.read_bytes() for path in paths]
    counts = dict.fromkeys(("kills", "completed", "left", "wrong", "in_time"), 0)
    while counts["kills"] < n_kills:
        for path in paths:
            path.unlink(missing_ok=True)
        ended = run_until(command, log, True, rng.uniform(0, duration_s))
        counts["kills" if ended.status == -signal.SIGKILL else "in_time"] += 1
        there = [path.exists() for path in paths]
        counts["completed"] += all(there) and ended.status == -signal.SIGKILL
        right = all(
            path.read_bytes() == data for path, data, here in zip(paths, want, there, strict=True) if here
        )
        # outputs appear in their order: a later one must not exist without the earlier ones
        counts["wrong"] += not right or there != sorted(there, reverse=True) or ended.status not in (-9, 0)
        left = temporaries(folder)
        counts["left"] += bool(left)
        for path in left:
            path.unlink()
    for path in paths:
        path.unlink(missing_ok=True)
    ends_well()
    assert [path.read_bytes() for path in paths] == want
    return {"what": name, "duration_s": duration_s, "seed": seed, **counts}


def facts(folder: Path) -> dict[str, Any]:
    """The contents of a run folder for comparison: JSON without times, and the hashes of other files."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: timeless(item) for name, item in value.items() if name not in TIMES}
        return value

    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == CHECKPOINT:  # it contains times
            continue
        if path.name == "config.json":
            found[name] = timeless(json.loads(path.read_text()))
        elif path.name == "metrics.jsonl":
            found[name] = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


class Chain:
    """Training runs that are killed and resumed, as the messages on stderr advise, until each is complete."""

    def __init__(self, work: Path, name: str, start: list[str], resume: list[str], seed: int = 0) -> None:
        """Run the training without a kill, for its duration and the expected files."""
        self.name, self.folder, self.log = name, work / name, work / f"{name}.log"
        self.start, self.resume = ([*words, "-o", str(self.folder)] for words in (start, resume))
        self.rng = random.Random(f"{name} {seed}")
        self.counts = dict.fromkeys(("kills", "stopped", "continued", "emptied", "complete", "left"), 0)
        self.wrong = list[str]()
        self.again()
        self.duration_s = {}
        for fresh in (True, False):
            self.again()
            started = time.monotonic()
            ended = run_until(self.start, self.log, fresh)
            assert ended.status == 0, ended
            self.duration_s[fresh] = time.monotonic() - started
        self.want = facts(self.folder)
        self.again()

    def again(self) -> None:
        """Delete the run folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def next(self) -> list[str]:
        """The next command, as the message on stderr of a new start advises: start, resume, or start over."""
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return self.start
        ended = run_until(self.start, self.log, False)
        if ended.status == 1 and "--resume" in ended.words:
            self.counts["continued"] += 1
            return self.resume
        if ended.status == 1 and "empty it" in ended.words:
            self.counts["emptied"] += 1
            self.again()
            return self.start
        self.wrong.append(f"after a kill: {ended}")
        self.again()
        return self.start

    def once(self, fresh: bool, is_killed: bool = True) -> None:
        """Run one process of the chain, and count how it ended."""
        command, delay_s, soft_s = self.next(), None, None
        if is_killed:
            delay_s = self.rng.uniform(0, self.duration_s[fresh])
            soft_s = self.rng.uniform(0, SOFT_S) if self.rng.random() < SOFT_SHARE else None
        ended = run_until(command, self.log, fresh, delay_s, soft_s)
        if ended.status == -signal.SIGKILL:
            self.counts["kills"] += 1
            self.counts["left"] += len(temporaries(self.folder))
        elif ended.status in (130, 128 + signal.SIGTERM, -signal.SIGTERM):
            self.counts["stopped"] += 1
        elif ended.status == 0:
            self.counts["complete"] += 1
            if (found := facts(self.folder)) != self.want:
                different = [k for k in found | self.want if found.get(k) != self.want.get(k)]
                self.wrong.append(f"not equal: {', '.join(different)}")
            self.again()
        else:
            self.wrong.append(f"{' '.join(command)}: {ended}")

    def killed(self, n_kills: int, fresh: bool) -> dict[str, Any]:
        """Kill `n_kills` processes, complete the last run, and return the counts."""
        self.counts = dict.fromkeys(self.counts, 0)
        while self.counts["kills"] < n_kills and len(self.wrong) < 20:
            self.once(fresh)
        if self.folder.exists():
            self.once(fresh, is_killed=False)
        how = "new process" if fresh else "fork"
        return {
            "what": f"{self.name}, {how}",
            "duration_s": self.duration_s[fresh],
            "wrong": list(self.wrong),
            **self.counts,
        }


def prepare(work: Path, texts: Path) -> None:
    """Make the inputs of the commands: texts, a stream, a model and a token file."""
    work.mkdir(parents=True, exist_ok=True)
    if (work / "tokens.bin.json").exists():
        return
    (work / "text").write_bytes(sample_text(texts, KILL_BYTES))
    (work / "small").write_bytes((work / "text").read_bytes()[:TRAIN_BYTES])
    for arguments in (
        f"compress {work}/text -o {work}/text.eqi -f",
        f"train-m1 -q {work}/small -o {work}/model {shlex.join(M1_OPTIONS)}",
        f"compress -m {work}/model --tokens {work}/small -o {work}/tokens.bin -f",
    ):
        subprocess.run([*COMMAND, *shlex.split(arguments)], check=True)


def m1_chain(work: Path) -> Chain:
    """The chain of train-m1: three phases of training, with expansion and refit between them."""
    command = ["train-m1", "-q"]
    return Chain(
        work,
        "train-m1",
        [*command, str(work / "small"), *M1_OPTIONS],
        [*command, "--device", "cpu", "--resume"],
    )


def m2_chain(work: Path) -> Chain:
    """The chain of train-m2, with validations."""
    tokens = str(work / "tokens.bin")
    command = ["train-m2", "-q", tokens, "--valid", tokens, "-m", str(work / "model"), *M2_OPTIONS]
    return Chain(work, "train-m2", command, [*command, "--resume"])


FILE_JOBS = {
    "compress -T 1": (["compress", "{work}/text", "-T", "1", "-o", "{out}"], ["text.eqi"]),
    "compress -T 2": (["compress", "{work}/text", "-T", "2", "-o", "{out}"], ["text.eqi"]),
    "compress --tokens": (["compress", "{work}/text", "--tokens", "-o", "{out}"], ["t.bin.json", "t.bin"]),
    "decompress -T 1": (["decompress", "{work}/text.eqi", "-T", "1", "-o", "{out}"], ["text"]),
    "decompress -T 2": (["decompress", "{work}/text.eqi", "-T", "2", "-o", "{out}"], ["text"]),
}


def kill_file_jobs(work: Path, n_kills: int) -> None:
    """Kill every command of FILE_JOBS."""
    rows = []
    for name, (arguments, outputs) in FILE_JOBS.items():
        words = [word.replace("{work}", str(work)) for word in arguments]
        rows.append(kill_files(work, name, words, outputs, n_kills))
        keep(work, "kills-files", rows)
        print(rows[-1], file=sys.stderr, flush=True)


def kill_training(work: Path, chain: Chain, n_kills: int, n_fresh: int) -> None:
    """Kill training runs: `n_fresh` new processes, then `n_kills` forks."""
    rows = []
    for fresh, n in ((True, n_fresh), (False, n_kills)):
        rows.append(chain.killed(n, fresh))
        keep(work, f"kills-{chain.name}", rows)
        print(rows[-1], file=sys.stderr, flush=True)


# ---- soak


def rss_mb(pid: int) -> float:
    """The resident memory of a process in MB; 0 if it has ended."""
    return _memory_mb(Path(f"/proc/{pid}/status"), "VmRSS")


def pss_mb(pid: int) -> float:
    """The proportional set size in MB: like the above, with shared pages divided among their users."""
    return _memory_mb(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def _memory_mb(path: Path, field: str) -> float:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(field)), 0.0)


def feed(texts: Path, n_bytes: int, sink: BinaryIO, digest: Any, passed: list[int]) -> None:
    """Write the content of a .zst file repeatedly until `n_bytes` are written.

    Args:
        texts: the .zst file.
        n_bytes: bytes to write in all.
        sink: the pipe to write to; closed at the end.
        digest: hash that is updated with the bytes.
        passed: a list of one number, the bytes written so far; updated.
    """
    while passed[0] < n_bytes:
        with subprocess.Popen(["zstd", "-dcq", texts], stdout=subprocess.PIPE) as source:
            assert source.stdout is not None
            while data := source.stdout.read(min(CHUNK, n_bytes - passed[0])):
                digest.update(data)
                sink.write(data)
                passed[0] += len(data)
            source.terminate()
    sink.close()


def soak(work: Path, texts: Path, n_bytes: int) -> None:
    """Pipe `n_bytes` through `compress | decompress`; record both SHA-256, and the memory every second."""
    ends = {"in": hashlib.sha256(), "out": hashlib.sha256()}
    passed, returned = [0], [0]
    compress = subprocess.Popen(
        [*COMMAND, "compress", "-q", "-T", "2", "-c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    decompress = subprocess.Popen(
        [*COMMAND, "decompress", "-q", "-T", "2"], stdin=compress.stdout, stdout=subprocess.PIPE
    )
    assert compress.stdout is not None
    compress.stdout.close()

    def drain() -> None:
        assert decompress.stdout is not None
        while data := decompress.stdout.read(CHUNK):
            ends["out"].update(data)
            returned[0] += len(data)

    threads = [
        threading.Thread(target=feed, args=(texts, n_bytes, compress.stdin, ends["in"], passed)),
        threading.Thread(target=drain),
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    samples = list[tuple[int, int, float, float]]()

    def state() -> dict[str, Any]:
        return {
            "bytes_wanted": n_bytes,
            "bytes_in": passed[0],
            "bytes_out": returned[0],
            "time_s": time.monotonic() - started,
            "digests": [end.hexdigest() for end in ends.values()],
            "status": [compress.poll(), decompress.poll()],
            "samples": samples,  # bytes in, bytes out, MB of compress, MB of decompress
        }

    while threads[1].is_alive():
        samples.append((passed[0], returned[0], rss_mb(compress.pid), rss_mb(decompress.pid)))
        if len(samples) % 20 == 0:
            keep(work, "soak", state())
        threads[1].join(1.0)
    threads[0].join()
    compress.wait()
    decompress.wait()
    keep(work, "soak", state())


def round_trip(text: bytes) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    """Start `compress | decompress` of a text."""
    compress = subprocess.Popen([*COMMAND, "compress"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    decompress = subprocess.Popen(
        [*COMMAND, "decompress"], stdin=compress.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert compress.stdin is not None
    assert compress.stdout is not None
    compress.stdin.write(text)
    compress.stdin.close()
    compress.stdout.close()
    return compress, decompress


def many(texts: Iterable[bytes], at_once: int) -> dict[str, Any]:
    """Run many small round trips at the same time.

    Args:
        texts: one text per round trip of two processes; each must fit the buffer of a pipe.
        at_once: largest number of processes at a time.
    """
    waiting, running = deque(texts), list[tuple[bytes, Any, Any]]()
    n, right, peak_mb, peak, started = 2 * len(waiting), 0, 0.0, 0, time.monotonic()
    looked_s = started
    while waiting or running:
        while waiting and 2 * len(running) < at_once:
            text = waiting.popleft()
            running.append((text, *round_trip(text)))
        alive = [p for _, *pair in running for p in pair if p.poll() is None]
        if time.monotonic() - looked_s > 0.5:  # reading smaps_rollup is slow
            peak_mb, looked_s = max(peak_mb, sum(pss_mb(p.pid) for p in alive)), time.monotonic()
        peak = max(peak, len(alive))
        for job in [job for job in running if job[1].poll() is not None and job[2].poll() is not None]:
            text, compress, decompress = job
            out, words = decompress.communicate()
            right += (compress.returncode, decompress.returncode, out, words) == (0, 0, text, b"")
            running.remove(job)
        time.sleep(0.01)
    return {
        "processes": n,
        "at_once": peak,
        "right": 2 * right,
        "time_s": time.monotonic() - started,
        "peak_pss_mb": peak_mb,
    }


def small_texts(texts: Path, n: int) -> list[bytes]:
    """`n` different texts of 1 KiB."""
    data = sample_text(texts, n << 10)
    return [data[k << 10 : (k + 1) << 10] for k in range(n)]


# ---- the page


def kept(work: Path, name: str) -> Any:
    """The results of a part; an empty list if it was not measured."""
    path = work / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def report(work: Path, output: Path | None) -> None:
    """Write the page from the results of all parts."""
    parts = [
        "# Endurance\n",
        # the outcome of the published run: check it after measuring again
        pages.paragraph(
            "Whether output stays whole when eqinfo is killed at random moments, and whether memory stays "
            "bounded over 20 GB of text and under many processes at once. No kill left a wrong file, and "
            "memory did not grow. In tables of kills, *wrong* counts the failures: it should be 0. The "
            "parts were measured one by one, some at earlier commits than that of this page; a part without "
            "a table was not measured."
        ),
        pages.provenance(sys.argv, ("torch", "numpy")),
        *kill_tables(work),
        *soak_tables(work),
    ]
    pages.publish(parts, output)


def kill_tables(work: Path) -> Iterator[str]:
    """The section on kills."""
    yield "## SIGKILL at random moments\n"
    yield pages.paragraph(
        "Each command is killed at random moments, evenly spread over its running time. Afterwards its "
        "output must be complete and right, or absent. Hidden temporary files (`.eqinfo-*`) may stay; no "
        "other file may."
    )
    head = [
        "command on 24 MB",
        "kills",
        "of these, output complete",
        "left a temporary file",
        "**wrong**",
    ]
    rows = [
        [row["what"], *(str(row[name]) for name in ("kills", "completed", "left", "wrong"))]
        for row in kept(work, "kills-files")
    ]
    yield pages.table(head, rows)
    yield pages.paragraph(
        "Training runs are killed again and again, some shortly after a SIGTERM that asks for a checkpoint, "
        "and continued as the message on stderr advises, until they are complete. Every file of the run "
        "folder is then compared with that of an undisturbed run, apart from the times in it. Rows *fork* "
        "are forks of a process that has PyTorch loaded; they write a checkpoint every 0.1 s."
    )
    head = ["command", "kills", "stopped", "continued", "started over", "completed and equal", "**wrong**"]
    rows = [
        [
            row["what"],
            *(str(row[name]) for name in ("kills", "stopped", "continued", "emptied")),
            str(row["complete"] - len(row["wrong"])),
            str(len(row["wrong"])),
        ]
        for name in ("train-m1", "train-m2")
        for row in kept(work, f"kills-{name}")
    ]
    yield pages.table(head, rows)


def soak_tables(work: Path) -> Iterator[str]:
    """The sections on the long pipe and on many pipelines."""
    found = kept(work, "soak")
    if found:
        samples = [sample for sample in found["samples"] if sample[2] and sample[3]]
        yield "## `eqinfo compress -T 2 | eqinfo decompress -T 2`\n"
        rows = [
            ["bytes in", f"{found['bytes_in']:,}"],
            ["bytes out", f"{found['bytes_out']:,}"],
            ["SHA-256 of both", "equal" if len(set(found["digests"])) == 1 else "**differ**"],
            ["exit statuses", ", ".join(map(str, found["status"]))],
            ["MB/s by the clock", f"{found['bytes_in'] / 1e6 / found['time_s']:.1f}"],
        ]
        for k, name in ((2, "compress"), (3, "decompress")):
            sizes = [sample[k] for sample in samples]
            cells = [sizes[len(sizes) // 10], sizes[len(sizes) // 2], sizes[-1], max(sizes)]
            rows.append(
                [
                    f"memory of {name} in MB: after a tenth, after half, at the end, peak",
                    ", ".join(f"{mb:.0f}" for mb in cells),
                ]
            )
        yield pages.table(["", ""], rows)
    rows = [
        [
            f"{row['processes']:,}",
            str(row["at_once"]),
            f"{row['right']:,}",
            f"{row['time_s']:.0f}",
            f"{row['peak_pss_mb']:,.0f}",
        ]
        for row in kept(work, "many")
    ]
    if rows:
        yield "## Many pipelines `compress | decompress` of 1 KB at once\n"
        yield pages.table(["processes", "at once", "right", "seconds", "peak memory of all, MB"], rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["soak", "many", "kills", "kills-m1", "kills-m2", "report"])
    parser.add_argument("--work", type=Path, required=True, help="folder for inputs and results")
    parser.add_argument("--text", type=Path, help="English text, .zst; every part but report needs it")
    parser.add_argument("--bytes", type=float, default=20e9, help="amount of text for soak")
    parser.add_argument("--kills", type=int, default=200, help="kills of each command")
    parser.add_argument(
        "--fresh", type=int, default=25, help="kills of training runs that are new processes, in addition"
    )
    parser.add_argument("-o", "--output", type=Path, help="write the page to this file as well")
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    if options.part == "soak":
        soak(work, options.text, int(options.bytes))
    elif options.part == "many":
        rows = [many(small_texts(options.text, 500), 64), many(small_texts(options.text, 100), 200)]
        keep(work, "many", rows)
    elif options.part == "kills":
        prepare(work, options.text)
        kill_file_jobs(work, options.kills)
    elif options.part == "report":
        report(work, options.output)
    elif options.part in ("kills-m1", "kills-m2"):
        preload()
        prepare(work, options.text)
        chain = (m1_chain if options.part == "kills-m1" else m2_chain)(work)
        kill_training(work, chain, options.kills, options.fresh)


if __name__ == "__main__":
    main()
