"""Gives damaged, truncated, foreign and hostile bytes to every reader of eqinfo, and counts the outcomes.

    python tests/campaigns/faults.py -o faults.md

Each subject (`fault_subjects`) is a small valid file with its reader and a function that recomputes its
checksums ("reseals" it), so that mutations also reach the code behind the checksums. A damaged file must be
read as before the damage or be refused with one line; a resealed file may be read as something else. Anything
else is a defect: another exception, a wrong result, a case of over SLOW_S seconds, more memory than
MEMORY_BYTES, or a new file. Mutations come from atheris (libFuzzer), guided by the coverage of eqinfo's code.
Each subject runs in a fork of this process, each command (`fault_commands`) in a new process.
"""

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

try:
    import atheris
except ImportError:
    atheris = None

PACKAGE = Path(__file__).resolve().parents[2] / "eqinfo"
# numba compiles the byte code of these modules, which must not be instrumented
COMPILED = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if "import numba" in (source := path.read_text()) or "eqinfo.system.jit" in source
]
watched: Any = nullcontext()
if atheris is not None and __name__ == "__main__":
    watched = atheris.instrument_imports(["eqinfo"], COMPILED)
with watched:
    from fault_subjects import Subject, sandbox, subjects

    from eqinfo.errors import EqinfoError
    from eqinfo.formats.packing import varint

SLOW_S = 5.0
MEMORY_BYTES = 1 << 28  # that a case may allocate above the memory of the process
MOST_FLIPS = 60_000  # larger files are sampled evenly
MOST_CLAIMS = 2000  # likewise
RANDOM_CASES = 2000
NUMBERS = [  # inserted at every place of a binary file
    varint(1 << 60),
    varint(1 << 20),
    (1 << 60).to_bytes(8, "little"),
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    bytes(4),
]
VALUES = [  # put in the place of every value of JSON
    *("null", "true", "-1", "0", "0.5", str(1 << 60), "1" + "0" * 400, "1" * 5000, "1e999", "-1e999", "NaN"),
    *('""', '"../../outside"', '"/etc/passwd"', r'"a\u0000\u001bb"', r'"\ud800"', f'"{"a" * 5000}"'),
    *("[]", "{}", '["../outside"]', "[" * 100_000, "[" * 900 + "]" * 900, "{"),
]


@dataclass
class Tally:
    """The outcomes of all cases of a subject."""

    counts: Counter[str] = field(default_factory=Counter)
    right: int = 0
    refused: int = 0
    other: int = 0  # resealed or without checksum: read as something else
    slowest_s: float = 0.0
    grown_bytes: int = 0
    capped: bool = False
    bombs: list[dict[str, Any]] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    def case(self, subject: Subject, want: object, kind: str, data: bytes, may_differ: bool) -> str:
        """Read a file and count the outcome.

        Args:
            subject: whose reader is used.
            want: the result of reading the undamaged file.
            kind: the kind of damage.
            data: the damaged file.
            may_differ: whether another result than `want` is acceptable.

        Returns:
            The outcome in words.
        """
        self.counts[kind] += 1
        started, outcome = time.process_time(), "read as it was"
        try:
            found = subject.read(data)
        except (EqinfoError, OSError) as error:  # commands print these as one line
            self.refused += 1
            outcome = str(error)
            if "\n" in outcome.partition(": ")[2]:  # commands escape line breaks in a file name
                self.defects.append(f"{kind}: more than a line: {error!r}")
        except Exception as error:
            outcome = repr(error)
            self.defects.append(f"{kind}: {error!r} for {_shown(data)}")
        else:
            if found == want:
                self.right += 1
            elif may_differ:
                self.other += 1
                outcome = "read"
            else:
                self.defects.append(f"{kind}: read as something else: {_shown(data)}")
        spent_s = time.process_time() - started  # CPU time, because other programs run as well
        self.slowest_s = max(self.slowest_s, spent_s)
        if spent_s > SLOW_S:
            self.defects.append(f"{kind}: slow, {spent_s:.1f} s for {_shown(data)}")
        return outcome


def _shown(data: bytes) -> str:
    return f"{data[:2000]!r}{'...' if len(data) > 2000 else ''}"


# ---- cases


def flips(data: bytes, most: int) -> Iterator[bytes]:
    """The file with each of its bits inverted, or an even sample of `most` of them."""
    for bit in range(0, 8 * len(data), -(-8 * len(data) // most)):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        yield bytes(altered)


def claims(data: bytes, most: int) -> Iterator[bytes]:
    """The file with a huge or strange value at each place, or an even sample of about `most` of these."""
    found = [*json_claims(data)]
    yield from found[:: -(-len(found) // most) or 1]
    for at in range(0, 0 if found else len(data), -(-2 * len(NUMBERS) * len(data) // most)):
        for number in NUMBERS:
            yield data[:at] + number + data[at:]
            yield data[:at] + number + data[at + len(number) :]


def json_claims(data: bytes) -> Iterator[bytes]:
    """A JSON or JSONL file with each value replaced by each of VALUES, and with each value deleted."""
    try:
        parts = [data]
        documents = [json.loads(data)]
    except ValueError:
        try:
            parts = data.splitlines()
            documents = [json.loads(part) for part in parts]
        except ValueError:
            return
    for k, document in enumerate(documents):
        for place in places(document):
            for value in [*VALUES, None]:
                text = json.dumps(replaced(document, place, value is None))
                text = text.replace('"\\u0000here"', str(value))
                yield b"\n".join([*parts[:k], text.encode(), *parts[k + 1 :]]) + b"\n"


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The path of keys to each value inside a JSON value, beginning with the value itself."""
    yield ()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        for rest in places(inner):
            yield (key, *rest)


def replaced(value: Any, place: tuple[Any, ...], is_dropped: bool) -> Any:
    """A JSON value with a mark in one place, or with that place deleted."""
    if not place:
        return "\0here"
    copy, (key, *rest) = value.copy(), place
    if is_dropped and not rest:
        del copy[key]
    else:
        copy[key] = replaced(value[key], tuple(rest), is_dropped)
    return copy


def hostile(rng: random.Random) -> bytes:
    """Random bytes, some of them after a magic number or huge varints."""
    start = rng.choice(
        [b"", b"EQI\1\x09", b"EQI\1\x18", b"EQI\1\x08", b"EQCB\1\x09", b"EQM1\1\0\0\0", b"{", b"PK\3\4"]
    )
    middle = rng.choice([b"", b"\xff" * 8 + b"\x7f", varint(1 << 60) * 3])
    return start + middle + rng.randbytes(rng.randrange(200))


def exhaustive(subject: Subject, tally: Tally, most: int) -> None:
    """Try every flip and truncation, claims, extensions and random bytes; large files are sampled evenly."""
    want, data = subject.read(subject.data), subject.data
    for altered in flips(data, most):
        tally.case(subject, want, "flips", altered, not subject.is_checked)
    for kept in range(0, len(data), -(-8 * len(data) // most)):
        may_differ = not subject.is_checked or kept in subject.sound_sizes
        tally.case(subject, want, "truncations", data[:kept], may_differ)
    for altered in claims(data, min(MOST_CLAIMS, most)):
        tally.case(subject, want, "claims", altered, True)
        if subject.reseal is not None:
            tally.case(subject, want, "claims", subject.reseal(altered), True)
    rng = random.Random(subject.name)
    for _ in range(min(RANDOM_CASES, most)):
        tally.case(subject, want, "random", hostile(rng), True)
    for more in (b"\0", b"\n", data, b"EQI"):
        tally.case(subject, want, "random", data + more, True)


def mutate(subject: Subject, tally: Tally, runs: int, seconds: float, finish: Callable[[], None]) -> None:
    """Try mutations guided by coverage, each as it is and, where possible, resealed; then exit.

    Args:
        subject: to mutate.
        tally: counts the outcomes.
        runs: number of mutations.
        seconds: limit of CPU time.
        finish: called before the process exits.
    """
    want, started = subject.read(subject.data), time.process_time()

    def one(data: bytes) -> None:
        tally.capped = time.process_time() - started > seconds
        if tally.counts["mutations"] >= runs or tally.capped:
            finish()
            os._exit(0)  # libFuzzer does not return
        if tally.counts["mutations"] % 500 == 0:
            bound_memory()  # the memory of libFuzzer itself grows
        resealed = subject.reseal(data) if subject.reseal is not None else None
        is_sound = len(data) in subject.sound_sizes and subject.data.startswith(data)
        is_sound |= data == resealed  # libFuzzer sees comparisons, so it can guess a CRC
        tally.case(subject, want, "mutations", data, not subject.is_checked or is_sound)
        if resealed is not None:
            tally.case(subject, want, "resealed", resealed, True)

    corpus = Path(tempfile.mkdtemp())
    (corpus / "seed").write_bytes(subject.data)
    options = [f"-max_len={2 * len(subject.data) + 64}", "-seed=1", "-rss_limit_mb=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


# ---- memory


def status_bytes(name: str) -> int:
    """A size of this process: VmSize (address space), VmRSS (resident memory) or VmHWM (its peak)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def bound_memory() -> None:
    """Limit the address space of this process to MEMORY_BYTES above its present size."""
    limit = status_bytes("VmSize") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def explode(subject: Subject, tally: Tally) -> None:
    """Read the bombs of a subject, and measure time and memory of each."""
    for name, make in subject.bombs.items():
        data, want = make(), subject.read(subject.data)
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        before, started = status_bytes("VmRSS"), time.process_time()
        outcome = tally.case(subject, want, "bombs", data, True)
        grown, spent_s = status_bytes("VmHWM") - before, time.process_time() - started
        if grown > MEMORY_BYTES:
            tally.defects.append(f"bombs: {name}: {grown:,} bytes of memory")
        facts = {"bytes": len(data), "outcome": outcome, "ms": 1000 * spent_s, "mb": grown / 1e6}
        tally.bombs.append({"name": name} | facts)


def run_subject(subject: Subject, args: argparse.Namespace, report: Callable[[Tally], None]) -> None:
    """Run all cases of a subject in this process, whose memory gets limited."""
    tally = Tally()
    explode(subject, tally)
    subject.read(subject.data)
    before = status_bytes("VmRSS")
    bound_memory()
    exhaustive(subject, tally, args.flips)

    def finish() -> None:
        tally.grown_bytes = status_bytes("VmHWM") - before
        report(tally)

    if args.runs and atheris is not None:
        mutate(subject, tally, args.runs, args.seconds, finish)
    finish()


def in_fork(subject: Subject, args: argparse.Namespace) -> Tally:
    """Run a subject in a fork of this process; a fork that crashes gives a defect with its stderr."""
    with tempfile.TemporaryDirectory() as folder:
        found, words = Path(folder) / "found", Path(folder) / "words"
        child = os.fork()
        if not child:
            descriptor = os.open(words, os.O_CREAT | os.O_WRONLY)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            tempfile.tempdir = folder
            try:
                run_subject(subject, args, lambda tally: found.write_text(json.dumps(vars(tally))) and None)
            except BaseException:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)  # skips the cleanup of the parent process
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not found.exists():
            return Tally(defects=[f"ended with {status}: {words.read_text(errors='replace')[-2000:]}"])
        facts = json.loads(found.read_text())
        return Tally(**facts | {"counts": Counter(facts["counts"])})


# ---- the page

KINDS = ["flips", "truncations", "claims", "random", "mutations", "resealed"]
HEAD = [
    "file",
    "bytes",
    *KINDS,
    "refused",
    "as it was",
    "something else",
    "**defects**",
    "slowest, ms",
    "memory, MB",
]


def row(subject: Subject, tally: Tally) -> list[str]:
    """The table row of a subject."""
    numbers = [len(subject.data), *(tally.counts[kind] for kind in KINDS)]
    numbers += [tally.refused, tally.right, tally.other, len(tally.defects)]
    numbers += [round(1000 * tally.slowest_s), round(tally.grown_bytes / 1e6)]
    return [subject.name, *(f"{number:,}" for number in numbers)]


def bomb_rows(subject: Subject, tally: Tally) -> list[list[str]]:
    """The table rows of the bombs of a subject."""
    folder = f"{sandbox()}/case/"
    return [
        [f"{subject.name}: {bomb['name']}", f"{bomb['bytes']:,}", f"{bomb['ms']:,.0f}", f"{bomb['mb']:,.0f}",
         bomb["outcome"].replace(folder, "")]
        for bomb in tally.bombs
    ]  # fmt: skip


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100_000, help="mutations of each kind of file")
    parser.add_argument("--seconds", type=float, default=600, help="limit of CPU seconds for these")
    parser.add_argument("--flips", type=int, default=MOST_FLIPS, help="most flips of each kind of file")
    parser.add_argument("--cases", type=int, default=16, help="damaged files for each command")
    parser.add_argument("--only", default="", help="only subjects with this in their name")
    parser.add_argument("-o", "--output", type=Path, help="write the page to a file as well")
    args = parser.parse_args()
    import fault_commands
    from reporting import pages

    provenance = pages.provenance(sys.argv, ("atheris", "numpy", "torch", "zstandard"))
    chosen = [subject for subject in subjects() if args.only in subject.name]
    found = []
    for subject in chosen:
        started = time.monotonic()
        found.append((subject, in_fork(subject, args)))
        print(f"{subject.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        print(*found[-1][1].defects[:3], sep="\n", file=sys.stderr, flush=True)
    commands = fault_commands.campaign(args.cases)
    capped = [subject.name for subject, tally in found if tally.capped]
    words = f"was reached by {', '.join(capped)}" if capped else "was reached by none"
    defects = [f"- {subject.name}: {each}\n" for subject, tally in found for each in tally.defects[:5]]
    defects += [f"- {command.name}: {each}\n" for command in commands for each in command.defects[:5]]
    n_defects = sum(len(each.defects) for each in [*(tally for _, tally in found), *commands])
    n_cases = sum(tally.counts.total() for _, tally in found) + sum(command.cases for command in commands)
    facts = [
        "flips: each bit inverted; truncations: each shorter length; claims: a huge number at each place, "
        "and in JSON a strange value (other types, NaN, paths, deep nesting) for each value, also resealed",
        f"files of over {args.flips // 8:,} bytes: an evenly spaced sample of the flips and truncations",
        f"mutations: by atheris, guided by the coverage of eqinfo's Python code, {args.runs:,} per kind of "
        f"file and as many resealed; their limit of {args.seconds:.0f} s of CPU time {words}",
        f"memory: RLIMIT_AS was {MEMORY_BYTES >> 20} MiB above the address space of the process, so that "
        "allocating more fails even if the memory is never used",
    ]
    parts = [
        "# Faults\n",
        pages.paragraph(
            f"What eqinfo's readers do with damaged, truncated, foreign and hostile files. **{n_cases:,} "
            f"cases, {n_defects} defects.** Each case must end in one of three ways: the file is *refused* "
            "with one line that says what is wrong; it is read *as it was* before the damage; or, where no "
            "checksum covers the bytes or the checksums were recomputed (*resealed*), it is read as "
            "*something else*. Anything else is a defect: another exception, a wrong result, several lines, "
            f"more than {SLOW_S:.0f} s, more than {MEMORY_BYTES >> 20} MiB, or a new file."
        ),
        provenance
        + "".join(pages.paragraph(f"- {fact}", "  ") for fact in facts),
        pages.table(HEAD, [row(*each) for each in found]),
        pages.paragraph(
            "*Slowest* is the longest case, with the first call of compiled code; *memory* is the growth of "
            "the process over all cases, with libFuzzer's own. The index of a stream holds lengths and "
            "sizes only, so `--range` checks only the frames that it reads; `decompress` without it checks "
            "everything. `--resume` is tried up to the point where training continues."
        ),
        "## Files that claim or expand to large sizes\n",
        f"Memory may grow by at most {MEMORY_BYTES >> 20} MiB.\n",
        pages.table(["file", "bytes", "ms", "memory, MB", "outcome"],
                    [cells for each in found for cells in bomb_rows(*each)]),
        "## Commands\n",
        pages.paragraph(fault_commands.WORDS),
        pages.table(fault_commands.HEAD, [command.row() for command in commands]),
    ]  # fmt: skip
    pages.publish([*parts, *(["## Defects\n", *defects] if defects else [])], args.output)
    sys.exit(bool(defects))


if __name__ == "__main__":
    main()
