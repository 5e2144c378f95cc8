"""Repeats or thins the sources of a JSONL corpus, to balance the kinds of text.

    python examples/reweight.py train.jsonl.zst -o mix.jsonl

Each record names its `source`. The weight of a record is the weight of its source, or else of the source's
kind, or else 1. A weight of 3 writes every document three times, a weight of 0.5 every second document:
document k = 1, 2, ... of a source is written int(k * w) - int((k - 1) * w) times. Lines stay unchanged and in
the order of the input, so the output depends only on the input and the weights. The default model was made
with the weights below.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from eqinfo.errors import EqinfoError, InputError
from eqinfo.system.atomic_files import replacing
from eqinfo.text import documents

KIND_WEIGHTS = {"literature": 4.0, "encyclopaedia": 3.0, "politics": 2.0, "dialogue": 3.0}
SOURCE_WEIGHTS = {
    "gcide": 0.5,
    "wordnet": 0.5,
    "treasury-of-david": 0.5,
    "linux-doc": 0.5,
    "anarchist-faq": 1.0,
}

# The sources of each kind; other sources have weight 1.
SOURCES = {
    "literature": "austen twain-newton moby-dick shakespeare milton-britannica poetry tales",
    "encyclopaedia": "wiki-summaries enwiki-sample factbook",
    "politics": "sotu commons anarchist-faq debian-history",
    "dialogue": "chat wesnoth cataclysm endless-sky crawl crossfire freedroid naev freeorion freeciv",
}
KIND = {source: kind for kind, sources in SOURCES.items() for source in sources.split()}


def weight(source: str, by_name: dict[str, float]) -> float:
    """The average number of times that a document of a source is written.

    Args:
        source: name of the source.
        by_name: weights of sources and of kinds; the weight of the source takes precedence.
    """
    return by_name.get(source, by_name.get(KIND.get(source, ""), 1.0))


def copies(k: int, weight: float) -> int:
    """How often document k = 1, 2, ... of a source is written; the first k sum to int(k * weight)."""
    return int(k * weight) - int((k - 1) * weight)


def reweight(
    path: Path, output: Path, by_name: dict[str, float], source_field: str, force: bool
) -> Counter[str]:
    """Write the reweighted corpus; the number of lines written by source."""
    seen, written = Counter[str](), Counter[str]()
    with documents.open_text(path) as lines, replacing(output, force) as sink:
        for number, line in enumerate(lines, 1):
            try:
                source = str(json.loads(line)[source_field])
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{path}:{number}: not a record with a {source_field!r} field.") from None
            seen[source] += 1
            n = copies(seen[source], weight(source, by_name))
            if n:
                sink.write((line.rstrip(b"\n") + b"\n") * n)
                written[source] += n
    return written


def name_and_weight(word: str) -> tuple[str, float]:
    """Parse NAME=WEIGHT."""
    name, _, value = word.partition("=")
    if not name or not 0 <= float(value) < float("inf"):
        raise ValueError
    return name, float(value)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path, help="JSONL, plain or .gz or .zst")
    parser.add_argument("-o", "--output", type=Path, required=True, help="plain JSONL")
    parser.add_argument(
        "-w",
        "--weight",
        type=name_and_weight,
        action="append",
        default=[],
        metavar="NAME=WEIGHT",
        help="set the weight of a source or a kind; may be repeated",
    )
    parser.add_argument("--source-field", default="source", help="field with the name of the source")
    parser.add_argument("-f", "--force", action="store_true", help="replace the output")
    args = parser.parse_args()
    by_name = KIND_WEIGHTS | SOURCE_WEIGHTS | dict(args.weight)
    try:
        written = reweight(args.corpus, args.output, by_name, args.source_field, args.force)
    except (EqinfoError, OSError) as error:
        sys.exit(f"reweight: {error}")
    print(f"{args.output}: {written.total():,} documents of {len(written)} sources", file=sys.stderr)


if __name__ == "__main__":
    main()
