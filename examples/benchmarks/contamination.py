r"""Looks for paragraphs of held-out texts in a training text.

    python examples/benchmarks/contamination.py mix.jsonl valid.jsonl.zst broad-valid.jsonl.zst alice29.txt

Text is compared without white space and without case, so that other line ends, tabs, wraps and capitals hide
nothing. A paragraph stands between blank lines and has at least `--least` characters; one of more than 1,000,
such as code without blank lines, is compared in pieces that end at punctuation. What stands in several
different training documents, such as a licence, is called boilerplate. The exit status is 1 if anything else
is found. --clean writes the training text without all that is found. The held-out texts are held in memory,
the training text is not.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import pages
import peers

LEAST_CHARACTERS, SEVERAL, EXAMPLES = 80, 3, 20
LONG_CHARACTERS = 1000
SHOWN_CHARACTERS = 120

BLANK_LINES = re.compile(r"\n\s*\n")


def fold(text: str) -> str:
    r"""The text without white space and case.

    >>> fold("To be,\r\n\tor NOT")
    'tobe,ornot'
    """
    return "".join(text.upper().casefold().split())  # upper first: letters that share a capital are the same


def paragraphs(text: str, least: int = LEAST_CHARACTERS) -> Iterator[str]:
    """The folded paragraphs of a document that have at least `least` characters, long ones in pieces.

    Pieces end at the first punctuation after `least` characters, whatever the layout, so the pieces of two
    texts that share a long passage soon become the same.
    """
    for part in BLANK_LINES.split(text):
        folded = fold(part)
        if len(folded) > LONG_CHARACTERS:
            yield from re.findall(rf".{{{least},}}?(?:[.,:;!?{{}}()、。]|$)", folded)
        elif len(folded) >= least:
            yield folded


@dataclass
class Seen:
    """Where a held-out paragraph stands.

    Attributes:
        kinds: number of times that it stands in held-out texts of each kind.
        found_in: kinds of the training documents that have it, by a number that is the same for documents
            that differ in white space and case only: a mix repeats documents.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    found_in: dict[int, str] = field(default_factory=dict)


def held_out(documents: Iterable[tuple[str, str]], least: int = LEAST_CHARACTERS) -> dict[str, Seen]:
    """The paragraphs of held-out documents, each given as its kind and text."""
    seen: dict[str, Seen] = {}
    for kind, text in documents:
        for paragraph in paragraphs(text, least):
            seen.setdefault(paragraph, Seen()).kinds[kind] += 1
    return seen


def search(
    seen: dict[str, Seen], documents: Iterable[tuple[str, str]], least: int = LEAST_CHARACTERS
) -> None:
    """Note which of the paragraphs stand in training documents, each given as its kind and text."""
    for kind, text in documents:
        hits = [seen[paragraph] for paragraph in paragraphs(text, least) if paragraph in seen]
        if hits:
            identity = hash(fold(text))
            for hit in hits:
                hit.found_in[identity] = kind


def without(text: str, seen: Container[str], least: int = LEAST_CHARACTERS) -> str:
    """The text without the paragraphs that are held out."""
    parts = re.split(f"({BLANK_LINES.pattern})", text)  # paragraphs, with blank lines between them
    kept = [
        part + blank
        for part, blank in zip_longest(parts[::2], parts[1::2], fillvalue="")
        if not any(paragraph in seen for paragraph in paragraphs(part, least))
    ]
    return "".join(kept)


def table(seen: dict[str, Seen], several: int) -> str:
    """The paragraphs checked and found in each kind that any is found in, and in all."""
    checked, found, rare = Counter[str](), Counter[str](), Counter[str]()
    for where in seen.values():
        checked += where.kinds
        found += where.kinds if where.found_in else Counter()
        rare += where.kinds if 0 < len(where.found_in) < several else Counter()
    rows = [
        [name, *(f"{n:,}" for n in counts), f"{counts[1] / max(counts[0], 1):.1%}"]
        for name, counts in [
            *((kind, (checked[kind], found[kind], rare[kind])) for kind in sorted(found)),
            ("all", (checked.total(), found.total(), rare.total())),
        ]
    ]
    return pages.table(["held-out kind", "paragraphs", "found", "not boilerplate", "share found"], rows)


def examples(found: dict[str, Seen], title: str, n: int) -> Iterator[str]:
    """Lines that show the first `n` of the paragraphs found, and where they stand."""
    yield f"{title}: {len(found):,} different paragraphs"
    for paragraph, where in list(found.items())[:n]:
        trained = Counter(where.found_in.values()).most_common(1)[0][0]
        yield f"  {' '.join(where.kinds)}, in {len(where.found_in)} documents of training, such as {trained}"
        yield f"    {paragraph[:SHOWN_CHARACTERS]}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path, help="the training text: JSONL or plain, also .gz or .zst")
    parser.add_argument("held_out", type=Path, nargs="+", help="texts that must not stand in it, likewise")
    parser.add_argument("--least", type=int, default=LEAST_CHARACTERS, help="characters of a paragraph")
    parser.add_argument("--several", type=int, default=SEVERAL, help="documents that make it boilerplate")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="paragraphs to show of either sort")
    parser.add_argument("--clean", type=Path, help="write the training text without them, as JSONL")
    parser.add_argument("-o", "--output", type=Path, help="write all that is found to this file, as JSONL")
    args = parser.parse_args()

    seen = held_out((each for path in args.held_out for each in peers.read_kinds(path)), args.least)
    search(seen, peers.read_kinds(args.train), args.least)
    longest_first = sorted(seen.items(), key=lambda each: -len(each[0]))
    found = {paragraph: where for paragraph, where in longest_first if where.found_in}
    rare = {paragraph: where for paragraph, where in found.items() if len(where.found_in) < args.several}
    boilerplate = {paragraph: where for paragraph, where in found.items() if paragraph not in rare}
    print(table(seen, args.several))
    print(*examples(rare, "Not boilerplate", args.examples), sep="\n")
    print(*examples(boilerplate, "Boilerplate", args.examples), sep="\n")
    if args.output:
        with args.output.open("w") as sink:
            for paragraph, where in found.items():
                record = {"text": paragraph, "kinds": where.kinds, "in": Counter(where.found_in.values())}
                sink.write(json.dumps(record, ensure_ascii=False) + "\n")
    if args.clean:
        with args.clean.open("w") as sink:
            for kind, text in peers.read_kinds(args.train):
                if kept := without(text, seen, args.least):
                    sink.write(json.dumps({"text": kept, "kind": kind}, ensure_ascii=False) + "\n")
    sys.exit(1 if rare else 0)


if __name__ == "__main__":
    main()
