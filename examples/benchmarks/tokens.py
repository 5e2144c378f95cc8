"""The section of `run.py` on tokenisers: speed, memory, threads and start-up of text to ids and back.

The peers are trained on an even sample of the corpora that the codebook was made from, with as many entries
as it has windows; those that bring vocabularies of their own use o200k. They are run by `tokenisers`.
"""

import base64
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pages
import peers
import tokenisers
import zstandard
from processes import Spent, fresh, python_cpu_s, spent
from tokenisers import LOADERS, Measured, Task

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.formats.model_folder import codebook_path
from eqinfo.text.frames import FRAME_BYTES

VOCAB_SIZE = 1 << 16
PEER_BYTES = 20_000_000  # size of the training text of the peers
RUNS = 5
PIECE_BYTES, GROUP_BYTES = 1 << 17, 1 << 22  # bpe-openai takes at most 200,000 characters
SMALL = ((1 << 10, 1_000_000), (1 << 16, 4_000_000))  # size of an input, and size of all inputs
THREAD_PIECE_BYTES = PIECE_BYTES
COMMAND_TIMES = 10  # whole commands get that many times the text: starting takes them half a second
SLOW, SLOW_SHARE = "tokenizers", 10  # these encode a tenth of the text
PACKAGES = (
    "numba", "numpy", "gigatoken", "tokie", "iree-tokenizer", "kitoken", "tiktoken", "tokenizers",
    "sentencepiece", "quicktok-v1", "bpe-openai",
)  # fmt: skip

# The texts to encode: how the kinds of their documents begin.
TEXTS = {
    "English prose": ("prose-", "english-"),
    "Source code": ("code-",),
    "All kinds": ("",),
    "Chinese and Hindi": ("lang-zh", "lang-hi"),
}


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


def corpus(inputs: peers.Inputs) -> Path:
    """A JSONL file of the documents of both corpora, evenly sampled: as much of each as of the other."""
    path = inputs.cache / "peers.jsonl"
    if not path.exists():
        with path.open("w") as file:
            for source in (inputs.train, inputs.broad):
                for document in peers.sample(source, PEER_BYTES // 2):
                    file.write(json.dumps({"text": document.decode()}) + "\n")
    return path


def texts(inputs: peers.Inputs) -> dict[str, Path]:
    """A plain text of each entry of TEXTS: documents of its kinds, the kinds in turn, while there is room."""
    kinds: dict[str, list[bytes]] = {}
    for source in (inputs.train, inputs.broad):
        for kind, text in peers.read_kinds(source):
            kinds.setdefault(kind, []).append(text.encode())
    found = {}
    for name, starts in TEXTS.items():
        path = found[name] = inputs.cache / f"{name.lower().replace(' ', '-')}.txt"
        with path.open("wb") as file:
            left = [iter(documents) for kind, documents in kinds.items() if kind.startswith(starts)]
            while left and file.tell() < inputs.n_bytes:
                left = [documents for documents in left if file.write(next(documents, b"") + b"\n") > 1]
            file.truncate(min(file.tell(), inputs.n_bytes))
    return found


def prepare(inputs: peers.Inputs) -> Path:
    """The folder of the peers' files; missing ones are made."""
    train = corpus(inputs)
    folder = inputs.cache / f"peers-{train.stat().st_size}-{PEER_BYTES}"
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
    cold_rate = statistics.median(each.cold_rate for each in found)
    return found[0]._replace(cold_rate=cold_rate, encode=peers.median(encode), decode=peers.median(decode))


def label(name: str, each: Measured) -> str:
    """The name of a row."""
    return name if each.same else f"{name} (lossy)"


def compared(
    found: dict[str, Measured],
    units: Callable[[Measured], float],
    shown: Callable[[float], str],
) -> Iterator[list[str]]:
    """Table rows of both directions: the time per unit, and its ratio to the time of the first row.

    Args:
        found: results by tokeniser; the first is eqinfo's.
        units: number of units of work in a result, such as MB or calls.
        shown: formats CPU seconds per unit.
    """
    ours = next(iter(found.values()))
    for name, each in found.items():
        cells = []
        for way in ("encode", "decode"):
            theirs, best = (getattr(each, way).cpu_s / units(each) for each in (each, ours))
            cells += [shown(theirs), f"{theirs / best:.2f}"]
        yield [label(name, each), *cells]


def large_tables(folder: Path, found: dict[str, Path], n_bytes: int) -> Iterator[str]:
    """The tables of speed on each text, and of memory."""
    yield pages.paragraph(
        f"Rates are in MB per CPU second, in pieces of {PIECE_BYTES >> 10} KiB. *Cold*: the first half of a "
        "text, after encoding numbers only; *warm*: the second half, other text of the same kind, so that "
        "tokenisers which remember words have met most of them. *M ids/s* and the way back are of the warm "
        f"half. `tokenizers` was measured on {n_bytes / SLOW_SHARE / 1e6:g} MB, the others on at most "
        f"{n_bytes / 1e6:g} MB. The codebook was made from the corpora that these texts come from; the other "
        f"tokenisers were trained on an even sample of {PEER_BYTES / 1e6:.0f} MB of them, or use o200k, with "
        "199,998 entries. Where the text did not come back, *lossy* follows the name. The start of *All "
        "kinds*, which `tokenizers` read, is English."
    )
    for kind, text in found.items():
        size = min(n_bytes, text.stat().st_size)
        rows = [
            [
                label(name, each),
                pages.digits(each.cold_rate / 1e6),
                pages.digits(each.n_bytes / 1e6 / each.encode.cpu_s),
                f"{each.n_bytes / each.n_ids:.2f}",
                pages.digits(each.n_ids / 1e6 / each.encode.cpu_s),
                pages.digits(each.n_bytes / 1e6 / each.decode.cpu_s),
            ]
            for name, each in measured(folder, Task(text, size, PIECE_BYTES, GROUP_BYTES)).items()
        ]
        yield f"### {kind}, {size / 1e6:.1f} MB\n"
        yield pages.table(["", "to ids, cold", "warm", "bytes/id", "M ids/s", "to text"], rows)
    text = next(iter(found.values()))
    task = Task(text, n_bytes // SLOW_SHARE, PIECE_BYTES, PIECE_BYTES)
    peaks = {name: fresh({}, tokenisers.measure, name, folder, task).peak_mb for name in LOADERS}
    yield "### Memory\n"
    yield "The peak of a process that loads the model, then encodes and decodes one piece at a time.\n"
    yield pages.table(["", "peak MB"], [[name, f"{peak:,.0f}"] for name, peak in peaks.items()])


def small_tables(folder: Path, text: Path, n_bytes: int) -> Iterator[str]:
    """The tables of short inputs."""
    for size, most in SMALL:
        found = measured(folder, Task(text, min(n_bytes, most * SLOW_SHARE), size, PIECE_BYTES))
        yield f"### Inputs of {size >> 10} KB, model loaded, CPU microseconds per call\n"
        yield pages.paragraph(
            "Every call gets another input. *Ratio* is the time in the row divided by that of eqinfo, "
            "optimal: above 1, eqinfo is faster."
        )
        rows = compared(found, lambda each: each.n_pieces, lambda cpu_s: pages.digits(cpu_s * 1e6))
        yield pages.table(["", "text to ids", "ratio", "ids to text", "ratio"], list(rows))


def thread_table(folder: Path, text: Path, n_bytes: int) -> Iterator[str]:
    """The table of one and two threads, by wall-clock time."""
    task = Task(text, n_bytes, THREAD_PIECE_BYTES, GROUP_BYTES)
    found = [measured(folder, task._replace(threads=n)) for n in (1, 2)]

    def cell(size: int, took: Spent) -> str:
        return f"{pages.digits(size / 1e6 / took.wall_s)} ({took.cpu_s / took.wall_s:.1f})"

    yield "### One and two threads, MB/s of wall-clock time\n"
    yield pages.paragraph(
        f"Each library gets a list of pieces of {THREAD_PIECE_BYTES >> 10} KiB and distributes it over its "
        "own threads, if it has any in that direction. The number in brackets is CPU time divided by "
        "wall-clock time: the cores that the process used on average."
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
        environment = os.environ | {"PYTHONPATH": search}
        return python_cpu_s(arguments, input=part, capture_output=True, env=environment)

    found = peers.turns({name: partial(cpu_s, command) for name, command in commands.items()}, 2 * RUNS + 1)
    yield f"### Start-up: a new process loads a model of {VOCAB_SIZE:,} entries and encodes 1 KB\n"
    yield "`tiktoken` reads its ranks from a file, as it does for its own encodings.\n"
    yield pages.table(
        ["", "CPU s"], [[name, f"{statistics.median(took):.2f}"] for name, took in found.items()]
    )


def command_table(train: Path, n_bytes: int, cache: Path) -> Iterator[str]:
    """The table of whole commands, beside the parse that they contain."""
    codebook = Codebook.load(codebook_path(None))
    documents = list(peers.sample(train, n_bytes))
    data = b"\n".join(documents)
    jsonl, plain = cache / "commands.jsonl", cache / "commands.txt"
    plain.write_bytes(data)
    records = (json.dumps({"text": document.decode(errors="ignore")}) + "\n" for document in documents)
    jsonl.write_text("".join(records))
    packed = cache / "commands.jsonl.zst"
    packed.write_bytes(zstandard.compress(jsonl.read_bytes()))

    def parsed() -> float:
        frames = [data[start : start + FRAME_BYTES] for start in range(0, len(data), FRAME_BYTES)]
        return spent(lambda: [parse.encode(codebook, frame) for frame in frames])[1].cpu_s

    def ran(*arguments: str | Path) -> float:
        target = cache / "commands.out"
        return python_cpu_s(["-m", "eqinfo", "compress", "-q", "-f", "-T1", *arguments, "-o", target])

    work: dict[str, Callable[[], float]] = {
        "the parse alone, in memory": parsed,
        "`compress FILE`": partial(ran, plain),
        "`compress --tokens FILE`": partial(ran, "--tokens", plain),
        "`compress --tokens FILE.jsonl`": partial(ran, "--tokens", jsonl),
        "`compress --tokens FILE.jsonl.zst`": partial(ran, "--tokens", packed),
    }
    took = {name: statistics.median(found) for name, found in peers.turns(work, RUNS).items()}
    best = next(iter(took.values()))
    yield f"### Whole commands on {round(len(data) / 1e6)} MB of English\n"
    yield pages.paragraph(
        "CPU time of a command from start to end: starting, reading, parsing, packing, checksums, writing. "
        f"The JSONL holds {len(documents):,} records of the same text. *Share* is the time of the parse "
        "divided by that of the row."
    )
    rows = [[name, pages.digits(len(data) / 1e6 / s), f"{best / s:.2f}"] for name, s in took.items()]
    yield pages.table(["", "MB per CPU second", "share"], rows)


def tables(inputs: peers.Inputs) -> Iterator[str]:
    """The section."""
    folder, found, n_bytes = prepare(inputs), texts(inputs), inputs.n_bytes
    english = next(iter(found.values()))
    yield f"## Text to ids and back, {VOCAB_SIZE:,} entries, one thread\n"
    yield from large_tables(folder, found, n_bytes)
    yield from small_tables(folder, english, n_bytes)
    yield from thread_table(folder, english, n_bytes)
    yield from start_table(folder, english)
    yield from command_table(inputs.train, COMMAND_TIMES * n_bytes, inputs.cache)
