"""The section of `run.py` on tokenisers: speed, memory, threads and start-up of text to ids and back.

The peers are trained on an even sample of the text that the codebook was made from, with as many entries as
it has windows. They are run by `tokenisers`.
"""

import base64
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pages
import peers
import tokenisers
from processes import Spent, children_cpu_s, fresh
from tokenisers import LOADERS, Measured, Task

VOCAB_SIZE = 1 << 16
PEER_BYTES = 20_000_000  # size of the training text of the peers
RUNS = 3
PIECE_BYTES, GROUP_BYTES = 1 << 20, 1 << 24
SMALL = ((1 << 10, 1_000_000), (1 << 16, 4_000_000))  # size of an input, and size of all inputs
THREAD_PIECE_BYTES, THREAD_SHARE = 1 << 18, 4  # threads share a quarter of the text in these pieces
SLOW, SLOW_SHARE = "tokenizers", 10  # these encode a tenth of the text
PACKAGES = ("numba", "numpy", "tiktoken", "tokenizers", "sentencepiece")


def unigram(train: Path, path: Path) -> None:
    """Train a byte-level Unigram model of `tokenizers`, and write it to a file."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.UnigramTrainer(vocab_size=VOCAB_SIZE, initial_alphabet=alphabet, show_progress=False)
    documents = (document.decode(errors="replace") for document in peers.sample(train, PEER_BYTES))
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.save(str(path))


def pieces(train: Path, path: Path) -> None:
    """Train a lossless Unigram model of sentencepiece, and write it to a file."""
    from sentencepiece import SentencePieceTrainer

    lines = (
        line
        for document in peers.sample(train, PEER_BYTES)
        for line in document.decode(errors="replace").split("\n")
    )
    SentencePieceTrainer.train(
        sentence_iterator=lines, model_prefix=str(path.with_suffix("")), vocab_size=VOCAB_SIZE,
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=False, num_threads=1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip


def prepare(train: Path, cache: Path) -> Path:
    """The folder of the peers' files; missing ones are made."""
    folder = cache / f"peers-{train.stat().st_size}-{PEER_BYTES}"
    folder.mkdir(exist_ok=True)
    ranks = peers.token_bytes(peers.bpe("words", VOCAB_SIZE, train, folder, PEER_BYTES).tokenizer)
    lines = [b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(ranks)]
    (folder / tokenisers.RANKS).write_bytes(b"".join(lines))
    for make, name in ((unigram, tokenisers.UNIGRAM), (pieces, tokenisers.PIECES)):
        if not (folder / name).exists():
            print("training", make.__name__, file=sys.stderr)
            make(train, folder / name)
    return folder


def measured(folder: Path, task: Task, runs: int = RUNS) -> dict[str, Measured]:
    """The results of a task by tokeniser: median times of runs in turns, each in a new process."""
    threads = str(task.threads or 1)
    environment = {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": str(threads != "1").lower()}
    work: dict[str, Callable[[], Measured]] = {}
    for name in LOADERS:
        share = SLOW_SHARE if name.startswith(SLOW) else 1
        theirs = task._replace(n_bytes=task.n_bytes // share)
        work[name] = partial(fresh, environment, tokenisers.measure, name, folder, theirs)
    return {name: median(found) for name, found in peers.turns(work, runs).items()}


def median(found: list[Measured]) -> Measured:
    """One result with the median times of several."""
    encode, decode = zip(*((each.encode, each.decode) for each in found), strict=True)
    return found[0]._replace(encode=peers.median(encode), decode=peers.median(decode))


def compared(
    found: dict[str, Measured],
    units: Callable[[Measured], float],
    shown: Callable[[float], str],
    more: Callable[[str], list[str]] = lambda _: [],
) -> Iterator[list[str]]:
    """Table rows of both directions: the time per unit, and its ratio to the time of the first row.

    Args:
        found: results by tokeniser; the first is eqinfo's.
        units: number of units of work in a result, such as MB or calls.
        shown: formats CPU seconds per unit.
        more: further cells of a row, by tokeniser.
    """
    ours = next(iter(found.values()))
    for name, each in found.items():
        cells = []
        for way in ("encode", "decode"):
            theirs, best = (getattr(each, way).cpu_s / units(each) for each in (each, ours))
            cells += [shown(theirs), f"{theirs / best:.2f}"]
        yield [name if each.same else f"{name} (lossy)", *cells, *more(name)]


def large_table(folder: Path, text: Path, n_bytes: int) -> Iterator[str]:
    """The table of speed and memory on the whole text."""
    found = measured(folder, Task(text, n_bytes, PIECE_BYTES, GROUP_BYTES))
    small = Task(text, n_bytes, PIECE_BYTES, PIECE_BYTES)
    peaks = {
        name: fresh({}, tokenisers.measure, name, folder, small._replace(n_bytes=n_bytes // SLOW_SHARE))
        for name in LOADERS
    }
    data = text.read_bytes()[:n_bytes]
    copied = peers.timings({"copy": partial(bytearray, data)}, RUNS)["copy"].cpu_s
    yield pages.paragraph(
        "Rates are in MB per CPU second, in pieces of 1 MiB; `tokenizers` was measured on "
        f"{n_bytes / SLOW_SHARE / 1e6:g} MB, the others on {n_bytes / 1e6:g} MB. This is training text: "
        "the codebook was made from a mix that holds it, the other tokenisers were trained on an even "
        f"sample of {PEER_BYTES / 1e6:.0f} MB. *Ratio* is the rate of eqinfo, optimal, divided by the rate "
        "in the row: above 1, eqinfo is faster. *Peak* is the peak memory of a process that loads the model, "
        "then encodes and decodes one piece at a time. The rate of a memory copy is an upper bound for "
        "decoding."
    )
    rows = compared(
        found,
        lambda each: each.n_bytes / 1e6,
        lambda cpu_s: pages.digits(1 / cpu_s),
        lambda name: [f"{found[name].n_bytes / found[name].n_ids:.2f}", f"{peaks[name].peak_mb:,.0f}"],
    )
    head = ["", "text to ids", "ratio", "ids to text", "ratio", "bytes/id", "peak MB"]
    copy = ["*memory copy*", "", "", pages.digits(len(data) / 1e6 / copied), "", "", ""]
    yield pages.table(head, [*rows, copy])


def small_tables(folder: Path, text: Path, n_bytes: int) -> Iterator[str]:
    """The tables of short inputs."""
    for size, most in SMALL:
        found = measured(folder, Task(text, min(n_bytes, most) * SLOW_SHARE, size, PIECE_BYTES))
        yield f"### Inputs of {size >> 10} KB, model loaded, CPU microseconds per call\n"
        yield pages.paragraph(
            "Every call gets another input. *Ratio* is the time in the row divided by that of eqinfo, "
            "optimal: above 1, eqinfo is faster."
        )
        rows = compared(found, lambda each: each.n_pieces, lambda cpu_s: pages.digits(cpu_s * 1e6))
        yield pages.table(["", "text to ids", "ratio", "ids to text", "ratio"], list(rows))


def thread_table(folder: Path, text: Path, n_bytes: int) -> Iterator[str]:
    """The table of one and two threads, by wall-clock time."""
    task = Task(text, n_bytes // THREAD_SHARE, THREAD_PIECE_BYTES, 2 * GROUP_BYTES)
    found = [measured(folder, task._replace(threads=n)) for n in (1, 2)]

    def cell(size: int, took: Spent) -> str:
        return f"{pages.digits(size / 1e6 / took.wall_s)} ({took.cpu_s / took.wall_s:.1f})"

    yield "### One and two threads, MB/s of wall-clock time\n"
    yield pages.paragraph(
        f"Each library gets a list of pieces of {THREAD_PIECE_BYTES >> 10} KiB and distributes it over its "
        "own threads: `encode_ordinary_batch` of tiktoken, `encode_batch` of tokenizers, `encode(..., "
        "num_threads=)` of sentencepiece. The number in brackets is CPU time divided by wall-clock time: "
        "the cores that the process used on average, while other programs took their share."
    )
    rows = []
    for name in LOADERS:
        each = [by_threads[name] for by_threads in found]
        cells = [
            cell(m.n_bytes, took) for way in ("encode", "decode") for m in each if (took := getattr(m, way))
        ]
        rows.append([name, *cells])
    head = ["", "text to ids, 1", "2 threads", "ids to text, 1", "2 threads"]
    yield pages.table(head, rows)


def start_table(folder: Path, text: Path) -> Iterator[str]:
    """The table of the CPU time of a new process that encodes 1 KB."""
    with text.open("rb") as file:
        part = file.read(1024).decode(errors="ignore").encode()
    code = "import sys, tokenisers, pathlib; "
    code += "tokenisers.LOADERS[{!r}](pathlib.Path({!r})).encode(sys.stdin.buffer.read())"
    commands = {name: ["-c", code.format(name, str(folder))] for name in LOADERS}
    commands["the command `eqinfo compress`"] = ["-m", "eqinfo", "compress"]
    commands["*python alone*"] = ["-c", "import tokenisers, pathlib"]
    commands["*python and numpy*"] = ["-c", "import tokenisers, pathlib, numpy"]
    search = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))

    def cpu_s(arguments: list[str]) -> float:
        before = children_cpu_s()
        environment = os.environ | {"PYTHONPATH": search}
        command = [sys.executable, *arguments]
        subprocess.run(command, input=part, check=True, capture_output=True, env=environment)
        return children_cpu_s() - before

    found = peers.turns({name: partial(cpu_s, command) for name, command in commands.items()}, 2 * RUNS + 1)
    yield f"### Start-up: a new process loads a model of {VOCAB_SIZE:,} entries and encodes 1 KB\n"
    yield "`tiktoken` reads its ranks from a file, as it does for its own encodings.\n"
    yield pages.table(
        ["", "CPU s"], [[name, f"{statistics.median(took):.2f}"] for name, took in found.items()]
    )


def tables(inputs: peers.Inputs) -> Iterator[str]:
    """The section."""
    folder, text, n_bytes = prepare(inputs.train, inputs.cache), inputs.text, inputs.n_bytes
    yield f"## Text to ids and back, {VOCAB_SIZE:,} entries, one thread\n"
    yield from large_table(folder, text, n_bytes)
    yield from small_tables(folder, text, n_bytes)
    yield from thread_table(folder, text, n_bytes)
    yield from start_table(folder, text)
