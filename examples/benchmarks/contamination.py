r"""Looks for paragraphs of held-out texts in a training text.

    python examples/benchmarks/contamination.py mix.jsonl valid.jsonl.zst broad-valid.jsonl.zst alice29.txt

Text is compared without white space and without case, so that other line ends, tabs, wraps and capitals hide
nothing. A paragraph stands between blank lines and has at least `--least` characters; one of more than 1,000,
such as code without blank lines, is compared in pieces that end at punctuation. What stands in several
different training documents, such as a licence, is called boilerplate. The exit status is 1 if anything else
is found. The held-out texts are held in memory, the training text is not.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pages
import peers

LEAST_CHARACTERS, SEVERAL, EXAMPLES = 80, 3, 20
LONG_CHARACTERS = 1000
SHOWN_CHARACTERS = 120

BLANK_LINES = re.compile(r"\n\s*\n")


def fold(text: str) -> str:
    """The text without white space and case.

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


def table(seen: dict[str, Seen], several: int) -> str:
    """The paragraphs checked and found of each kind in which any is found, and of all."""
    checked, found, boilerplate = Counter[str](), Counter[str](), Counter[str]()
    for where in seen.values():
        for counter in (
            checked,
            *[found] * bool(where.found_in),
            *[boilerplate] * is_boilerplate(where, several),
        ):
            counter.update(where.kinds)
    rows = [
        [kind, f"{checked[kind]:,}", f"{n:,}", f"{n / checked[kind]:.1%}", f"{n - boilerplate[kind]:,}"]
        for kind, n in sorted(found.items())
    ]
    n, n_found, n_boilerplate = (counter.total() for counter in (checked, found, boilerplate))
    rows.append(
        ["all kinds", f"{n:,}", f"{n_found:,}", f"{n_found / max(n, 1):.1%}", f"{n_found - n_boilerplate:,}"]
    )
    return pages.table(["kind", "paragraphs", "found", "share", "not boilerplate"], rows)


def is_boilerplate(where: Seen, several: int) -> bool:
    """Whether a paragraph stands in so many different training documents."""
    return len(where.found_in) >= several


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path, help="the training text: JSONL or plain, also .gz or .zst")
    parser.add_argument("held_out", type=Path, nargs="+", help="texts that must not be in it")
    parser.add_argument("--least", type=int, default=LEAST_CHARACTERS, help="characters of a paragraph")
    parser.add_argument("--several", type=int, default=SEVERAL, help="documents that make it boilerplate")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="paragraphs to show of either sort")
    parser.add_argument("-o", "--output", type=Path, help="write all that is found to this file, as JSONL")
    args = parser.parse_args()

    seen = held_out((each for path in args.held_out for each in peers.read_kinds(path)), args.least)
    search(seen, peers.read_kinds(args.train), args.least)
    print(table(seen, args.several))
    found = {paragraph: where for paragraph, where in seen.items() if where.found_in}
    for title, wanted in (("Not boilerplate", False), ("Boilerplate", True)):
        those = [each for each in found.items() if is_boilerplate(each[1], args.several) == wanted]
        those.sort(key=lambda each: -len(each[0]))
        print(f"{title}, {len(those):,} different, the longest:")
        for paragraph, where in those[: args.examples]:
            print(
                f"  {' '.join(where.kinds)} <- {len(where.found_in)} x {next(iter(where.found_in.values()))}:",
                end="",
            )
            print(f" {paragraph[:SHOWN_CHARACTERS]}")
    if args.output:
        with args.output.open("w") as sink:
            for paragraph, where in found.items():
                record = {
                    "text": paragraph,
                    "kinds": where.kinds,
                    "found_in": Counter(where.found_in.values()),
                }
                sink.write(json.dumps(record, ensure_ascii=False) + "\n")
    sys.exit(any(not is_boilerplate(where, args.several) for where in found.values()))


if __name__ == "__main__":
    main()
