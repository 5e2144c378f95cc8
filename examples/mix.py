"""Mix corpora into the training text of the default model: kinds in their shares, evenly interleaved.

    python mix.py train.jsonl.zst broad-train.jsonl.zst -o mix.jsonl

Each record is a document with `text`, `source` and perhaps `kind`; without a kind it is English prose,
`prose-SOURCE`. What is before the first hyphen is the group. SHARES divides the mix among the groups. In a
group a kind's part is in proportion to its bytes to the power of EXPONENTS, times its FACTORS, so the first
megabyte of a language is worth more than its tenth; what MAX_COPIES keeps a kind from goes to the others.

Document k = 1, 2, ... of a kind is written int(k * w) - int((k - 1) * w) times for a weight w. The copies of
a document lie far apart, and every stretch of the mix holds all kinds in their shares. Nothing is random: the
same corpora and size give the same bytes. Takes some three times the memory of the corpora.
"""

import argparse
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eqinfo.errors import EqinfoError, InputError
from eqinfo.system.atomic_files import replacing
from eqinfo.text import decompression

SHARES = {"prose": 0.45, "english": 0.055, "code": 0.235, "lang": 0.215, "data": 0.045}
EXPONENTS = {"prose": 1.0, "english": 0.5, "code": 0.6, "lang": 0.5, "data": 0.7}
MAX_COPIES = 4.0
BLOCK_BYTES = 1 << 16  # gathered for a write

FACTORS = {
    2.0: """lang-ar lang-cs lang-da lang-de lang-el lang-es lang-fi lang-fr lang-he lang-hi lang-hu lang-id
        lang-it lang-ja lang-ko lang-nl lang-pl lang-pt lang-ru lang-sv lang-tr lang-uk lang-vi lang-zh
        prose-sotu prose-commons prose-debian-history""",
    1.5: """lang-bn lang-fa lang-gu lang-hy lang-ka lang-km lang-kn lang-ml lang-mr lang-no lang-pa lang-ro
        lang-ta lang-te lang-th lang-zhtw""",
    4.0: """prose-austen prose-twain-newton prose-moby-dick prose-shakespeare prose-milton-britannica
        prose-poetry prose-tales""",
    3.0: """prose-wiki-summaries prose-enwiki-sample prose-factbook prose-chat prose-wesnoth prose-cataclysm
        prose-endless-sky prose-crawl prose-crossfire prose-freedroid prose-naev prose-freeorion
        prose-freeciv""",
    0.5: "prose-gcide prose-wordnet prose-treasury-of-david prose-linux-doc lang-other",
}
FACTOR = {kind: factor for factor, kinds in FACTORS.items() for kind in kinds.split()}


@dataclass
class Kind:
    """The documents of a kind, each the UTF-8 of its text, in the order of the input."""

    documents: list[bytes] = field(default_factory=list)
    n_bytes: int = 0


def read(paths: list[Path]) -> dict[str, Kind]:
    """The documents of some corpora by kind."""
    kinds = defaultdict[str, Kind](Kind)
    for path in paths:
        with decompression.open_text(path) as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = json.loads(line)
                    name = record["kind"] if "kind" in record else f"prose-{record['source']}"
                    group, document = name.split("-")[0], record["text"].encode()
                except (ValueError, KeyError, TypeError, AttributeError):
                    raise InputError(f"{path}:{number}: not a record with a text and a source.") from None
                if group not in SHARES:
                    raise InputError(f"{path}:{number}: of no group; found kind {name!r}.")
                kinds[name].documents.append(document)
                kinds[name].n_bytes += len(document)
    return {name: kind for name, kind in sorted(kinds.items()) if kind.n_bytes}


def weights(sizes: dict[str, int], total: float, exponent: float) -> dict[str, float]:
    """How often the documents of each kind of a group are written, on average.

    Args:
        sizes: bytes of each kind.
        total: bytes that they should make together.
        exponent: see EXPONENTS.
    """
    pull = {kind: FACTOR.get(kind, 1.0) * size**exponent for kind, size in sizes.items()}
    found: dict[str, float] = {}
    while pull:
        left = total - sum(found[kind] * sizes[kind] for kind in found)
        scale = left / sum(pull.values())
        full = [kind for kind in pull if scale * pull[kind] >= MAX_COPIES * sizes[kind]]
        if not full:
            return found | {kind: scale * pull[kind] / sizes[kind] for kind in pull}
        for kind in full:
            found[kind] = MAX_COPIES
            del pull[kind]
    return found


def all_weights(kinds: dict[str, Kind], total: float) -> dict[str, float]:
    """The weight of every kind, for a mix of so many bytes."""
    found: dict[str, float] = {}
    for group, share in SHARES.items():
        sizes = {name: kind.n_bytes for name, kind in kinds.items() if name.split("-")[0] == group}
        found |= weights(sizes, share * total, EXPONENTS[group])
    return found


def passes(documents: list[bytes], weight: float) -> Iterator[int]:
    """Numbers of the documents to write, those that are to be written once more in each further pass."""
    copies = [int(k * weight) - int((k - 1) * weight) for k in range(1, len(documents) + 1)]
    for n in range(math.ceil(weight)):
        yield from (number for number, wanted in enumerate(copies) if wanted > n)


def order(kinds: dict[str, Kind], by_kind: dict[str, float]) -> list[tuple[float, str, int]]:
    """Where in the mix, of [0, 1), which document of which kind is; ascending."""
    places: list[tuple[float, str, int]] = []
    for name, kind in kinds.items():
        numbers = list(passes(kind.documents, by_kind[name]))
        total = sum(len(kind.documents[number]) for number in numbers)
        before = 0
        for number in numbers:
            size = len(kind.documents[number])
            places.append(((before + size / 2) / max(total, 1), name, number))  # all may be empty
            before += size
    return sorted(places)


def mix(paths: list[Path], output: Path, total: float, force: bool) -> Counter[str]:
    """Write the mix; the result is how many bytes of text there are of each kind."""
    kinds, written, lines = read(paths), Counter[str](), bytearray()
    with replacing(output, force) as sink:
        for _, name, number in order(kinds, all_weights(kinds, total)):
            document = kinds[name].documents[number]
            written[name] += len(document)
            lines += (
                json.dumps({"text": document.decode(), "kind": name}, ensure_ascii=False).encode() + b"\n"
            )
            if len(lines) > BLOCK_BYTES:
                sink.write(bytes(lines))
                lines.clear()
        sink.write(bytes(lines))
    return written


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", type=Path, nargs="+", help="JSONL, plain or .gz or .zst")
    parser.add_argument("-o", "--output", type=Path, required=True, help="plain JSONL")
    parser.add_argument("--megabytes", type=float, default=450, help="size of the mix")
    parser.add_argument("-f", "--force", action="store_true", help="replace the output")
    args = parser.parse_args()
    try:
        written = mix(args.corpora, args.output, 1e6 * args.megabytes, args.force)
    except (EqinfoError, OSError) as error:
        sys.exit(f"mix: {error}")
    groups = Counter[str]()
    for kind, n in written.most_common():
        groups[kind.split("-")[0]] += n
        print(f"{kind:28}{n:12,}{n / written.total():8.2%}", file=sys.stderr)
    for group, n in groups.items():
        print(f"{group:28}{n:12,}{n / written.total():8.2%}", file=sys.stderr)


if __name__ == "__main__":
    main()
