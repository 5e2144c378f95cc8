"""Shared by the benchmarks: reading and sampling texts, training BPE tokenisers, and timing in turns.

This module does not decide what is measured, and does not format pages (`pages`).
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from processes import Spent, spent

from eqinfo.text import decompression, documents

if TYPE_CHECKING:  # imported where it is used, because some importers of this module measure their memory
    from tokenizers import Tokenizer

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one thread, as eqinfo
os.environ.setdefault("RAYON_NUM_THREADS", "1")

# Sentences end after their full stop and closing quotes or brackets, or at a line break; merges stay inside.
SENTENCE_END = r"""[.!?]+["')\]]*(?:(?:\r?\n)+|(?=\s))|(?:\r?\n)+"""

# The words of o200k, as OpenAI published them: marks of Indic and Arabic scripts stay with their letters.
WORDS_OF_O200K = "|".join(
    [
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
    ]
)

T = TypeVar("T")


class HeldOut(NamedTuple):
    """A text to measure on: its name and its documents."""

    name: str
    documents: list[bytes]

    @property
    def n_bytes(self) -> int:
        """Size of all documents."""
        return sum(map(len, self.documents))


def read_documents(path: Path, text_field: str = "text") -> Iterator[bytes]:
    """The documents of a file: one per JSONL record; any other file is one document."""
    with decompression.open_text(path) as source:
        if documents.is_jsonl(path.name):
            yield from documents.read_documents(source, str(path), text_field)
        else:
            yield source.read()


def read_held_out(path: Path, text_field: str = "text") -> HeldOut:
    """The name and all documents of a file."""
    return HeldOut(path.name, list(read_documents(path, text_field)))


def read_kinds(path: Path) -> Iterator[tuple[str, str]]:
    """The kind and the text of each document.

    The kind of a JSONL record is its `kind`, or else `prose-` and its `source`; that of any other file, which
    is one document, is `file-` and its name.
    """
    with decompression.open_text(path) as source:
        if not documents.is_jsonl(path.name):
            yield f"file-{path.name.split('.')[0]}", source.read().decode()
            return
        for line in source:
            record = json.loads(line)
            yield record.get("kind") or f"prose-{record.get('source', 'other')}", record["text"]


def sample(path: Path, limit: int | None, text_field: str = "text") -> Iterator[bytes]:
    """An even sample of about `limit` bytes of the documents of a file; of its lines, if it is not JSONL."""
    share = 1.0
    if limit is not None:
        share = min(1.0, limit / sum(map(len, sample(path, None, text_field))))
    with decompression.open_text(path) as source:
        found = source
        if documents.is_jsonl(path.name):
            found = documents.read_documents(source, str(path), text_field)
        for k, document in enumerate(found, 1):
            if int(k * share) > int((k - 1) * share):
                yield document


class Inputs(NamedTuple):
    """The inputs of all sections of `run.py`."""

    train: Path  # JSONL, English
    broad: Path  # JSONL, other kinds
    text: Path  # an even sample of it as plain text
    n_bytes: int  # size of the text; slow work takes a share of it
    unseen: list[Path]  # plain texts held out from all training
    cache: Path  # folder for trained peers and finished sections


def evenly(data: bytes, n: int, size: int) -> list[bytes]:
    """`n` evenly spaced pieces of `size` bytes of a text."""
    last = len(data) - size
    return [data[start : start + size] for start in (int(last * k / (n - 1)) for k in range(n))]


class Bpe(NamedTuple):
    """A byte-level BPE tokeniser, with facts about its training."""

    tokenizer: "Tokenizer"
    facts: dict[str, str | int | float]

    @classmethod
    def load(cls, path: Path) -> "Bpe":
        """The tokeniser of a file that `save` wrote."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_file(str(path)), json.loads(_facts_path(path).read_text()))

    def save(self, path: Path) -> None:
        """Write `tokenizer.json` to that path, and the facts to a file beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(path))
        _facts_path(path).write_text(json.dumps(self.facts, indent=2) + "\n")

    @property
    def trained_on(self) -> str:
        """The amount of training text, in words."""
        seen, whole = self.facts["sampled_bytes"], self.facts["sampled_from_bytes"]
        words = f"{int(seen) / 1e6:.0f} MB"
        return words if seen == whole else f"{words}, an even sample of {int(whole) / 1e6:.0f} MB"


def _facts_path(path: Path) -> Path:
    """The file of facts beside a tokeniser."""
    return path.with_suffix(".facts.json")


def bpe(
    kind: str, vocab_size: int, path: Path, cache: Path, limit: int | None = None, text_field: str = "text"
) -> Bpe:
    """A BPE tokeniser of `train_bpe`, or loaded from the cache folder, which keeps it."""
    kept = cache / f"bpe-{kind}-{vocab_size}.json"
    if _facts_path(kept).exists():
        cached = Bpe.load(kept)
        key = _facts_of_text(path, limit)
        if {name: cached.facts[name] for name in key} == key:
            return cached
    trained = train_bpe(kind, vocab_size, path, limit, text_field)
    trained.save(kept)
    return trained


def _facts_of_text(path: Path, limit: int | None) -> dict[str, str | int | float]:
    """What tells training texts apart."""
    return {"text": path.name, "text_file_bytes": path.stat().st_size, "limit_bytes": limit or 0}


def train_bpe(
    kind: str, vocab_size: int, path: Path, limit: int | None = None, text_field: str = "text"
) -> Bpe:
    """A BPE tokeniser trained on a text.

    Args:
        kind: where merges end: `words` as GPT-2 splits them, `o200k` for words as o200k splits them, or
            `sentences`, in which merges may cross words.
        vocab_size: number of entries, including the 256 single bytes.
        path: JSONL or plain text.
        limit: size in bytes of the even sample to train on; None for the whole text.
        text_field: field of JSONL records that holds the text.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    print(f"training BPE ({kind}, {vocab_size}) on {path.name} ...", file=sys.stderr)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "words")
    splits = {
        "o200k": pre_tokenizers.Split(Regex(WORDS_OF_O200K), "isolated"),
        "sentences": pre_tokenizers.Split(Regex(SENTENCE_END), "merged_with_previous"),
    }
    tokenizer.pre_tokenizer = to_bytes
    if kind in splits:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([splits[kind], to_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    seen = 0

    def documents() -> Iterator[str]:
        nonlocal seen
        for document in sample(path, limit, text_field):
            seen += len(document)
            yield document.decode(errors="replace")

    started = time.monotonic()
    tokenizer.train_from_iterator(documents(), trainer)
    whole = seen if limit is None else sum(map(len, sample(path, None, text_field)))
    facts = _facts_of_text(path, limit) | {
        "kind": kind,
        "sampled_bytes": seen,
        "sampled_from_bytes": whole,
        "training_s": round(time.monotonic() - started, 1),
        "entries": tokenizer.get_vocab_size(),
    }
    return Bpe(tokenizer, facts)


def token_bytes(tokenizer: "Tokenizer") -> list[bytes]:
    """The bytes of each entry of a byte-level vocabulary, by id."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # GPT-2 maps these bytes to themselves
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable} | {chr(256 + k): byte for k, byte in enumerate(others)}
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    return [bytes(letters[letter] for letter in token) for token, _ in by_id]


def turns(contestants: dict[str, Callable[[], T]], runs: int) -> dict[str, list[T]]:
    """The results of each contestant; contestants take turns, after one warm-up turn that is not counted.

    Turns distribute a busy period of the machine over all contestants.
    """
    found: dict[str, list[T]] = {name: [] for name in contestants}
    for turn in range(runs + 1):
        for name, work in contestants.items():
            result = work()
            if turn:
                found[name].append(result)
    return found


def timings(contestants: dict[str, Callable[[], object]], runs: int) -> dict[str, Spent]:
    """The median time of each contestant, in `runs` turns."""
    work = {name: lambda w=work: spent(w)[1] for name, work in contestants.items()}
    return {name: median(times) for name, times in turns(work, runs).items()}


def median(times: list[Spent]) -> Spent:
    """The median wall-clock time, and the median CPU time."""
    return Spent(*map(statistics.median, zip(*times, strict=True)))
