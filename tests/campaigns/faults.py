"""What every reader of eqinfo does with damaged, truncated, foreign and hostile bytes.

    python tests/campaigns/faults.py -o faults.md

Each subject (`fault_subjects`) is a small real file, how it is read, and how its checksums are made anew
("resealed"), so that mutations reach what lies behind them. A damaged file must be read as what it was or
refused in one line; a resealed one may be read as something else. Anything else is a defect: another
exception, a wrong result, a case of over SLOW_S seconds, more memory than MEMORY_BYTES, or a file that
appears. Mutations are those of atheris (libFuzzer), guided by the coverage of eqinfo's code. Subjects are
tried in forks of this process, one after another; commands (`fault_commands`) in processes of their own.
"""

import argparse
import json
import os
import random
import resource
import shutil
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
MEMORY_BYTES = 1 << 28  # that a case may ask for, beside what the process has
MOST_FLIPS = 60_000  # of a larger file, an even share is tried
MOST_CLAIMS = 2000  # likewise
RANDOM_CASES = 2000
NUMBERS = [  # put in every place of a file of bytes
    varint(1 << 60),
    varint(1 << 20),
    (1 << 60).to_bytes(8, "little"),
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    bytes(4),
]
VALUES = [  # put in every place of JSON
    *("null", "true", "-1", "0", "0.5", str(1 << 60), "1" + "0" * 400, "1" * 5000, "1e999", "-1e999", "NaN"),
    *('""', '"../../outside"', '"/etc/passwd"', r'"a\u0000\u001bb"', r'"\ud800"', f'"{"a" * 5000}"'),
    *("[]", "{}", '["../outside"]', "[" * 100_000, "[" * 900 + "]" * 900, "{"),
]


@dataclass
class Tally:
    """What came of the cases of a subject."""

    counts: Counter[str] = field(default_factory=Counter)
    right: int = 0
    refused: int = 0
    other: int = 0  # resealed or unchecked: read as something else
    slowest_s: float = 0.0
    grown_bytes: int = 0
    capped: bool = False
    bombs: list[dict[str, Any]] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    def case(self, subject: Subject, want: object, kind: str, data: bytes, may_differ: bool) -> str:
        """Read a file, judge what came of it, and say so."""
        self.counts[kind] += 1
        started, outcome = time.process_time(), "read as it was"
        try:
            found = subject.read(data)
        except (EqinfoError, OSError) as error:  # what commands say in a line
            self.refused += 1
            outcome = str(error)
            if "\n" in outcome.partition(": ")[2]:  # of the name of a file, commands escape it
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
        spent_s = time.process_time() - started  # whatever else the machine does
        self.slowest_s = max(self.slowest_s, spent_s)
        if spent_s > SLOW_S:
            self.defects.append(f"{kind}: slow, {spent_s:.1f} s for {_shown(data)}")
        return outcome


def _shown(data: bytes) -> str:
    return f"{data[:2000]!r}{'...' if len(data) > 2000 else ''}"


# ---- cases


def flips(data: bytes, most: int) -> Iterator[bytes]:
    """A file with each of its bits changed, or an even share of them."""
    for bit in range(0, 8 * len(data), -(-8 * len(data) // most)):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        yield bytes(altered)


def claims(data: bytes, most: int) -> Iterator[bytes]:
    """A file with something huge or strange in the place of each value, or an even share of these."""
    found = [*json_claims(data)]
    yield from found[:: -(-len(found) // most) or 1]
    for at in range(0, 0 if found else len(data), -(-2 * len(NUMBERS) * len(data) // most)):
        for number in NUMBERS:
            yield data[:at] + number + data[at:]
            yield data[:at] + number + data[at + len(number) :]


def json_claims(data: bytes) -> Iterator[bytes]:
    """A file of JSON, or of its lines, with each of VALUES in the place of each value, and without it."""
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
    """The keys that lead to each value of JSON, the whole first."""
    yield ()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        for rest in places(inner):
            yield (key, *rest)


def replaced(value: Any, place: tuple[Any, ...], is_dropped: bool) -> Any:
    """JSON with a mark in one place, or without it."""
    if not place:
        return "\0here"
    copy, (key, *rest) = value.copy(), place
    if is_dropped and not rest:
        del copy[key]
    else:
        copy[key] = replaced(value[key], tuple(rest), is_dropped)
    return copy


def hostile(rng: random.Random) -> bytes:
    """Random bytes, some after a magic number, some with huge varints."""
    start = rng.choice(
        [b"", b"EQI\1\x09", b"EQI\1\x18", b"EQI\1\x08", b"EQCB\1\x09", b"EQM1\1\0\0\0", b"{", b"PK\3\4"]
    )
    middle = rng.choice([b"", b"\xff" * 8 + b"\x7f", varint(1 << 60) * 3])
    return start + middle + rng.randbytes(rng.randrange(200))


def exhaustive(subject: Subject, tally: Tally, most: int) -> None:
    """Every flip and truncation, claims, extensions and random bytes; of large files an even share."""
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
    """Mutations guided by coverage: each as it is and, where that can be, resealed. Ends the process."""
    want, started = subject.read(subject.data), time.process_time()

    def one(data: bytes) -> None:
        tally.capped = time.process_time() - started > seconds
        if tally.counts["mutations"] >= runs or tally.capped:
            finish()
            os._exit(0)  # libFuzzer has no other end
        if tally.counts["mutations"] % 500 == 0:
            bound_memory()  # libFuzzer's own grows
        resealed = subject.reseal(data) if subject.reseal is not None else None
        is_sound = len(data) in subject.sound_sizes and subject.data.startswith(data)
        is_sound |= data == resealed  # libFuzzer finds out short checksums, by what they are compared with
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
    """A size of this process, as Linux names it: VmSize is asked for, VmRSS there, VmHWM the most there."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def bound_memory() -> None:
    """From here on, refuse what goes MEMORY_BYTES beyond what this process has."""
    limit = status_bytes("VmSize") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def explode(subject: Subject, tally: Tally) -> None:
    """Read the files that are made to ask for much, and measure each."""
    for name, make in subject.bombs.items():
        data, want = make(), subject.read(subject.data)
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        before, started = status_bytes("VmRSS"), time.process_time()
        outcome = tally.case(subject, want, "bombs", data, True)
        grown, spent_s = status_bytes("VmHWM") - before, time.process_time() - started
        if grown > MEMORY_BYTES:
            tally.defects.append(f"bombs: {name}: {grown:,} bytes of memory")
        facts = {"bytes": len(data), "outcome": outcome, "ms": 1000 * spent_s, "mb": grown / 1e6}
        tally.bombs.append({"name": name} | facts)


def run_subject(subject: Subject, args: argparse.Namespace, report: Callable[[Tally], None]) -> None:
    """Try all on a subject, in a process of its own; a case that asks for too much memory is refused it."""
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
    """What came of a subject, in a fork of this process; what it wrote to stderr, if it ended too early."""
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
            os._exit(1)  # none of what the parent still has to do
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
    """What came of a subject, for the table."""
    numbers = [len(subject.data), *(tally.counts[kind] for kind in KINDS)]
    numbers += [tally.refused, tally.right, tally.other, len(tally.defects)]
    numbers += [round(1000 * tally.slowest_s), round(tally.grown_bytes / 1e6)]
    return [subject.name, *(f"{number:,}" for number in numbers)]


def bomb_rows(subject: Subject, tally: Tally) -> list[list[str]]:
    """What came of the files made to ask for much, for their table."""
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
    parser.add_argument("--seconds", type=float, default=600, help="of CPU for these, at most")
    parser.add_argument("--flips", type=int, default=MOST_FLIPS, help="of each kind of file, at most")
    parser.add_argument("--cases", type=int, default=16, help="damaged files for each command")
    parser.add_argument("--only", default="", help="subjects whose names hold this")
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
    shutil.rmtree(sandbox())
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
