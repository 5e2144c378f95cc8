"""Measures codebooks on text of many kinds, beside BPE: code, data, English, other languages.

    python examples/benchmarks/kinds.py --train-bpe mix.jsonl -o bpe-65536.json
    python examples/benchmarks/kinds.py broad-valid.jsonl.zst valid.jsonl.zst alice29.txt asyoulik.txt \
        lcet10.txt -m default -m wide.eqcb --bpe bpe-65536.json --ac -o kinds.md --json kinds.json

All texts must be held out from training. Each is decoded back and compared before a figure of it is printed.
Nothing is timed: the same inputs give the same figures.
"""

import argparse
import io
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import geometric_mean
from typing import NamedTuple

import live
import numpy as np
import pages
import peers
from compressors import eqi_streams
from windows import Cutter, bpe_cutter, check, codebook_cutter, token_cutter

from eqinfo.codebook.codebook import Codebook
from eqinfo.formats.codec import Codec
from eqinfo.formats.model_folder import Model
from eqinfo.text.frames import frames_of_bytes

BPE_ENTRIES = 1 << 16
WRAP_COLUMNS = 76
START_BYTES = 1 << 16  # of each kind, with M1 running
LIVE_BITS = "64"

GROUPS = {  # by the first word of a kind
    "code": "source code",
    "data": "data, logs, mail",
    "prose": "English prose",
    "english": "English, other layouts",
    "lang": "other languages",
    "file": "files",
}
MOST_USED = [  # languages
    f"lang-{code}"
    for code in "ar cs da de el es fi fr he hi hu id it ja ko nl pl pt ru sv tr uk vi zh".split()
]
BPE, O200K, CL100K = "BPE, same mix", "o200k", "cl100k"
XZ, PPMD, ZSTD = "xz -9", "PPMd, order 16", "zstd -19"

INTRODUCTION = (
    "How much text a window holds, by kind of text, beside BPE: OpenAI's o200k (199,998 entries) and cl100k "
    f"(100,256), and a BPE of {BPE_ENTRIES:,} entries trained on the text that the codebook was made from. "
    "The texts were held out from training, and all were decoded back. A document is cut by itself; the token "
    "that ends it is not counted. In tables of bytes/token and of ratios, larger is better; in those of "
    "bits/byte, smaller."
)

MAIN = "16 bits"


class Promise(NamedTuple):
    """What was promised of a file."""

    bytes_per_token: float  # of the codebook of 16 bits before this one
    bits_per_byte: float  # of `ac`


FILES = {
    "file-alice29": Promise(4.354, 1.60),
    "file-asyoulik": Promise(4.447, 1.76),
    "file-lcet10": Promise(5.154, 1.40),
}

Counts = dict[str, dict[str, int]]  # by contestant, then by kind or shape of text


class Kinds(NamedTuple):
    """The size in bytes of each kind, and the number of tokens of each contestant."""

    sizes: dict[str, int]
    tokens: Counts

    def of(self, *groups: str) -> list[str]:
        """The kinds of these groups."""
        return [kind for kind in self.sizes if group(kind) in groups]

    def bytes_per_token(self, name: str, kinds: Iterable[str]) -> float:
        """Bytes per token of a contestant in several kinds taken together."""
        sizes, tokens = zip(*((self.sizes[kind], self.tokens[name][kind]) for kind in kinds), strict=True)
        return sum(sizes) / sum(tokens)

    def ratios(self, ours: str, theirs: str, kinds: Iterable[str]) -> dict[str, float]:
        """Bytes per token of one contestant / those of another in each kind; none if one was not measured."""
        if not {ours, theirs} <= self.tokens.keys():
            return {}
        return {kind: self.tokens[theirs][kind] / self.tokens[ours][kind] for kind in kinds}

    def mean_ratios(self, ours: str, theirs: str, groups: Iterable[str] = GROUPS) -> dict[str, float]:
        """The geometric mean of these ratios over the kinds of each group that has any."""
        found = {name: self.ratios(ours, theirs, self.of(name)) for name in groups}
        return {name: geometric_mean(ratios.values()) for name, ratios in found.items() if ratios}


class Starts(NamedTuple):
    """What M1 makes of the starts of kinds; empty if it did not run."""

    sizes: dict[str, int]  # in bytes
    packed: Counts  # bytes, of `ac` with each M1 first
    windows: Counts  # live windows, of source code and languages

    def bits_per_byte(self, name: str, kinds: Iterable[str]) -> float:
        """Compressed bits per byte of several kinds taken together."""
        return 8 / Kinds(self.sizes, self.packed).bytes_per_token(name, kinds)

    def saved(self, than: str, kinds: Iterable[str]) -> dict[str, float]:
        """The share by which `ac` is smaller than another compressor, in each kind."""
        ours = next(iter(self.packed), "")
        return {kind: 1 - self.packed[ours][kind] / self.packed[than][kind] for kind in kinds if ours}


def group(kind: str) -> str:
    """The first word of a kind, which is one of GROUPS."""
    return kind.partition("-")[0]


# ---- texts and contestants


def read_texts(paths: Iterable[Path]) -> list[peers.HeldOut]:
    """The documents of each kind, in the order of kinds."""
    found: dict[str, list[bytes]] = {}
    for path in paths:
        for kind, text in peers.read_kinds(path):
            found.setdefault(kind, []).append(text.encode())
    check_groups = {group(kind) for kind in found} - GROUPS.keys()
    if check_groups:
        sys.exit(f"kinds that begin with {', '.join(sorted(check_groups))}: want {', '.join(GROUPS)}.")
    order = list(GROUPS)
    return [
        peers.HeldOut(kind, found[kind])
        for kind in sorted(found, key=lambda kind: (order.index(group(kind)), kind))
    ]


def start(text: peers.HeldOut) -> bytes:
    """The first START_BYTES bytes of a kind, all of a file."""
    data = b"".join(text.documents)
    return data if group(text.name) == "file" else data[:START_BYTES]


def wrapped(words: str) -> str:
    """The text with lines of at most WRAP_COLUMNS columns.

    >>> wrapped("to be or not to be, " * 4)
    'to be or not to be, to be or not to be, to be or not to be, to be or not to\\nbe,'
    """
    return "\n".join(
        textwrap.fill(
            line, WRAP_COLUMNS, break_long_words=False, break_on_hyphens=False,
            expand_tabs=False, replace_whitespace=False,
        )
        for line in words.split("\n")
    )  # fmt: skip


SHAPES: dict[str, Callable[[str], str]] = {
    "as it is": lambda words: words,
    "CR LF": lambda words: words.replace("\n", "\r\n"),
    "a tab before each line": lambda words: "\t" + words.replace("\n", "\n\t"),
    f"wrapped at {WRAP_COLUMNS} columns": wrapped,
    "ALL CAPS": str.upper,
}


def shaped(documents: list[bytes], name: str) -> peers.HeldOut:
    """The text in one of SHAPES."""
    return peers.HeldOut(name, [SHAPES[name](document.decode()).encode() for document in documents])


def name_of(model: Path | None) -> str:
    """What the page calls a model."""
    return "default" if model is None else model.stem


def codebooks(models: Iterable[Path | None]) -> dict[str, Codebook]:
    """The codebook of each model by its name on the page, the first of each width by that alone."""
    found: dict[str, Codebook] = {}
    for model in models:
        codebook = Model(model).codebook
        name = f"{codebook.window_bits} bits"
        found[f"{name}, {name_of(model)}" if name in found else name] = codebook
    return found


def openai_cutter(name: str) -> Cutter:
    """Tokenises texts as OpenAI's models do."""
    import bpe_openai

    bpe = bpe_openai.get_encoding(name)
    lengths = map(len, map(bpe.decode_single_token_bytes, range(len(bpe.token_byte_values()))))
    return token_cutter(bpe.encode_ordinary, bpe.decode, np.fromiter(lengths, np.int64))


def measured(texts: list[peers.HeldOut], cutters: dict[str, Cutter]) -> Kinds:
    """The sizes of texts, and the tokens of each contestant in them."""
    tokens: Counts = {}
    for name, cutter in cutters.items():
        live.say(name)
        tokens[name] = {}
        for text in texts:
            cuts = cutter(text)
            assert cuts is not None, "read_texts gives UTF-8 only"
            tokens[name][text.name] = cuts.n_items
    return Kinds({text.name: text.n_bytes for text in texts}, tokens)


def starts(texts: list[peers.HeldOut], models: list[Path | None]) -> Starts:
    """The figures of M1 for the start of each text, with each model."""
    spoken = [text for text in texts if group(text.name) == "code" or text.name in MOST_USED]
    sizes = {text.name: len(start(text)) for text in texts}
    return Starts(sizes, packed_sizes(texts, models), live_windows(spoken, models))


def packed_sizes(texts: list[peers.HeldOut], models: list[Path | None]) -> Counts:
    """The compressed size in bytes of the start of each text, by `ac` with each M1 and by compressors."""
    ours = {
        f"ac, {name_of(model)}": eqi_streams(Model(model).codec("ac", carry=False, rule="live"))
        for model in models
    }
    found: Counts = {}
    for name, compressor in (ours | {name: live.others()[name] for name in (PPMD, XZ, ZSTD)}).items():
        live.say(name)
        found[name] = {text.name: compressor.size(start(text)) for text in texts}
    return found


def live_windows(texts: list[peers.HeldOut], models: list[Path | None]) -> Counts:
    """The number of live windows of the start of each text, with each M1."""
    found: Counts = {}
    for model in models:
        live.say(f"live windows, {name_of(model)}")
        codec = Model(model).codec(LIVE_BITS, carry=False, rule="live")
        found[f"{LIVE_BITS} bits, {name_of(model)}"] = {text.name: n_units(codec, text) for text in texts}
    return found


def n_units(codec: Codec, text: peers.HeldOut) -> int:
    """The units of the start of a text."""
    n = 0
    for frame in frames_of_bytes(io.BytesIO(start(text)), codec.frame_bytes):
        units, payload = codec.encode(frame)
        check(codec.decode(units, payload, len(frame.text)).text == frame.text, text.name)
        n += units
    return n


# ---- bars


class Bar(NamedTuple):
    """A figure that was promised."""

    what: str
    want: float
    figures: dict[str, float]  # by kind or group: the worst counts; empty if not measured
    at_most: bool = False

    @property
    def worst(self) -> str:
        """The kind or group of the figure that counts."""
        return (max if self.at_most else min)(self.figures, key=self.figures.__getitem__)

    @property
    def met(self) -> bool | None:
        """Whether all figures are as wanted; None if there are none."""
        if not self.figures:
            return None
        found = self.figures[self.worst]
        return found <= self.want if self.at_most else found >= self.want

    def row(self) -> list[str]:
        """The row of the table."""
        want = f"{'≤' if self.at_most else '≥'} {self.want:g}"
        if self.met is None:
            return [self.what, want, "", "not measured"]
        found = f"{self.figures[self.worst]:.3f}" + f" ({self.worst})" * (len(self.figures) > 1)
        return [self.what, want, found, "met" if self.met else "**missed**"]


def bars(kinds: Kinds, starts: Starts) -> list[Bar]:
    """What was promised of the model, with what was found."""

    def means(*groups: str) -> dict[str, float]:
        ratios = kinds.ratios(MAIN, O200K, kinds.of(*groups))
        return {"": geometric_mean(ratios.values())} if ratios else {}

    def bytes_per_token(of: Iterable[str]) -> dict[str, float]:
        return {"": kinds.bytes_per_token(MAIN, of)} if of and MAIN in kinds.tokens else {}

    languages = kinds.of("lang")
    most_used = [kind for kind in MOST_USED if kind in languages]
    of_kinds = [kind for kind in starts.sizes if group(kind) != "file"]
    bits = {
        file: starts.bits_per_byte(next(iter(starts.packed)), [file])
        for file in starts.sizes
        if file in FILES
    }
    found = [
        Bar("16 bits / o200k, source code", 1.25, means("code")),
        Bar("16 bits / o200k, data", 1.27, means("data")),
        Bar("16 bits / o200k, English", 1.27, means("prose", "english")),
        Bar("16 bits / o200k, other languages", 0.80, means("lang")),
        Bar("16 bits / o200k, each of the most used", 0.70, kinds.ratios(MAIN, O200K, most_used)),
        Bar("16 bits / o200k, each language", 0.40, kinds.ratios(MAIN, O200K, languages)),
        Bar("16 bits / BPE, same mix, each group", 1.15, kinds.mean_ratios(MAIN, BPE)),
        Bar("18 bits / o200k, each group", 1.0, kinds.mean_ratios("18 bits", O200K)),
        Bar("bytes/token of 16 bits, English prose", 5.85, bytes_per_token(kinds.of("prose"))),
    ]
    found += [
        Bar(
            f"bytes/token of 16 bits, {file}",
            promise.bytes_per_token,
            bytes_per_token([file] * (file in kinds.sizes)),
        )
        for file, promise in FILES.items()
    ]
    found += [
        Bar("`ac`, share below `xz -9`, each kind", 0.30, starts.saved(XZ, of_kinds)),
        Bar("`ac`, share below PPMd, each kind", 0.0, starts.saved(PPMD, of_kinds)),
    ]
    found += [
        Bar(
            f"bits/byte of `ac`, {file}",
            promise.bits_per_byte,
            {"": bits[file]} if file in bits else {},
            at_most=True,
        )
        for file, promise in FILES.items()
    ]
    return found


# ---- the page


def group_tables(kinds: Kinds, ours: list[str]) -> Iterator[str]:
    """The tables of bytes per token and of ratios in each group."""
    groups = [name for name in GROUPS if kinds.of(name)]
    yield "## Bytes per token, each group taken together\n"
    rows = [
        [GROUPS[name], f"{len(of)}", f"{sum(kinds.sizes[kind] for kind in of):,}",
         *(f"{kinds.bytes_per_token(each, of):.3f}" for each in kinds.tokens)]
        for name in groups
        for of in [kinds.of(name)]
    ]  # fmt: skip
    yield pages.table(["", "kinds", "bytes", *kinds.tokens], rows)
    yield "## Ratio of bytes per token: geometric mean over the kinds of a group\n"
    rows = []
    for each in ours:
        for theirs in kinds.tokens:
            if theirs not in ours:
                means = kinds.mean_ratios(each, theirs)
                rows.append([f"{each} / {theirs}", *(f"{means[name]:.3f}" for name in groups)])
    yield pages.table(["", *(GROUPS[name] for name in groups)], rows)


def kind_table(kinds: Kinds, of: Iterable[str], ours: list[str]) -> str:
    """The table of bytes per token in each of these kinds, and the ratios of the main codebook."""
    main = MAIN if MAIN in ours else ours[0]
    theirs = [name for name in kinds.tokens if name not in ours]
    rows = []
    for kind in of:
        cells = [f"{kinds.bytes_per_token(name, [kind]):.3f}" for name in kinds.tokens]
        cells += [f"{kinds.ratios(main, name, [kind])[kind]:.3f}" for name in theirs]
        rows.append([kind, f"{kinds.sizes[kind]:,}", *cells])
    return pages.table(["", "bytes", *kinds.tokens, *(f"{main} / {name}" for name in theirs)], rows)


def shape_table(shapes: Kinds) -> Iterator[str]:
    """The table of English prose in other shapes."""
    yield "## Bytes per token of English prose in other shapes\n"
    yield pages.paragraph("In parentheses: beside the text as it is.")
    first, rows = next(iter(SHAPES)), []
    for shape in shapes.sizes:
        found = {name: shapes.bytes_per_token(name, [shape]) for name in shapes.tokens}
        change = {name: each / shapes.bytes_per_token(name, [first]) - 1 for name, each in found.items()}
        rows.append(
            [
                shape,
                *(
                    f"{each:.3f}" + f" ({change[name]:+.0%})" * (shape != first)
                    for name, each in found.items()
                ),
            ]
        )
    yield pages.table(["", *shapes.tokens], rows)


def start_tables(starts: Starts) -> Iterator[str]:
    """The tables of what M1 makes of each kind while it runs."""
    yield f"## Bits per byte of streams: the first {START_BYTES:,} bytes of each kind, whole files\n"
    yield pages.paragraph(
        "Compressed size in bits / size of the text in bytes. The last columns: by how much `ac` with the "
        "first M1 is below the others; for groups, taken together."
    )
    kinds = Kinds(starts.sizes, starts.packed)
    ours = next(iter(starts.packed))
    rows = []
    for name, of in [(GROUPS[each], kinds.of(each)) for each in GROUPS] + [
        (kind, [kind]) for kind in kinds.sizes
    ]:
        if of:
            bits = {each: starts.bits_per_byte(each, of) for each in starts.packed}
            saved = [f"{1 - bits[ours] / bits[each]:.1%}" for each in (XZ, PPMD)]
            size = sum(starts.sizes[kind] for kind in of)
            rows.append([name, f"{size:,}", *(f"{each:.3f}" for each in bits.values()), *saved])
    yield pages.table(["", "bytes", *starts.packed, f"below {XZ}", "below PPMd"], rows)

    yield f"## Live windows of {LIVE_BITS} bits: bytes per window, and bits per byte\n"
    kinds = Kinds(starts.sizes, starts.windows)
    measured = next(iter(starts.windows.values()))
    wholes = [(GROUPS[each], [kind for kind in measured if group(kind) == each]) for each in ("code", "lang")]
    rows = []
    for name, of in wholes + [(kind, [kind]) for kind in measured]:
        if of:
            found = [kinds.bytes_per_token(each, of) for each in starts.windows]
            rows.append(
                [
                    name,
                    *(f"{each:.2f}" for each in found),
                    *(f"{int(LIVE_BITS) / each:.3f}" for each in found),
                ]
            )
    yield pages.table(["", *starts.windows, *(f"{name}, bits/byte" for name in starts.windows)], rows)


def trained(path: Path) -> str:
    """The line of the page about the BPE of a file."""
    bpe = peers.Bpe.load(path)
    return (
        f"- *{BPE}*: {bpe.facts['entries']:,} entries, pre-tokenised as {bpe.facts['kind']}, trained on "
        f"{bpe.trained_on} of {bpe.facts['text']}\n"
    )


def page(kinds: Kinds, shapes: Kinds, starts: Starts, ours: dict[str, Codebook], about_bpe: str) -> list[str]:
    """The parts of the page."""
    packages = ("bpe-openai", "numba", "numpy", "pyppmd", "tokenizers", "zstandard")
    lines = [
        f"- *{name}*: codebook {codebook.fingerprint.hex()[:16]}, unaligned penalty {codebook.unaligned_penalty:g}\n"
        for name, codebook in ours.items()
    ]
    parts = [
        "# Text of many kinds\n",
        pages.paragraph(INTRODUCTION),
        "".join([pages.provenance(sys.argv, packages), *lines, about_bpe]),
        "## Bars\n",
        pages.table(["", "want", "found", ""], [bar.row() for bar in bars(kinds, starts)]),
        *group_tables(kinds, list(ours)),
        "## Bytes per token, the most used languages\n",
        kind_table(kinds, [kind for kind in MOST_USED if kind in kinds.sizes], list(ours)),
    ]
    if shapes.sizes:
        parts += shape_table(shapes)
    if starts.sizes:
        parts += start_tables(starts)
    return [*parts, "## Bytes per token, every kind\n", kind_table(kinds, kinds.sizes, list(ours))]


def figures(kinds: Kinds, shapes: Kinds, starts: Starts) -> str:
    """All figures as JSON."""
    found = {
        "bars": [bar._asdict() | {"met": bar.met} for bar in bars(kinds, starts)],
        "kinds": kinds._asdict(),
        "shapes": shapes._asdict(),
        "starts": starts._asdict(),
    }
    return json.dumps(found, indent=1) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path, nargs="*", help="held-out texts: JSONL with kinds, or plain")
    parser.add_argument(
        "-m", "--model", type=Path, action="append", help="folder or .eqcb; default: the package's"
    )
    parser.add_argument("--bpe", type=Path, help="tokenizer.json that --train-bpe wrote")
    parser.add_argument("--train-bpe", type=Path, metavar="MIX", help="only train a BPE on all of this JSONL")
    parser.add_argument(
        "--ac", type=Path, nargs="*", metavar="FOLDER", help="measure M1s too; default: the package's"
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("-o", "--output", type=Path, help="the page, or the BPE, to write")
    args = parser.parse_args()
    if args.train_bpe:
        if args.output is None:
            parser.error("--train-bpe needs -o.")
        peers.train_bpe("o200k", BPE_ENTRIES, args.train_bpe).save(args.output)
        return
    if not args.texts:
        parser.error("no texts given.")

    ours, texts = codebooks(args.model or [None]), read_texts(args.texts)
    cutters = {name: codebook_cutter(codebook) for name, codebook in ours.items()}
    if args.bpe:
        cutters[BPE] = bpe_cutter(peers.Bpe.load(args.bpe))
    cutters |= {O200K: openai_cutter("o200k_base"), CL100K: openai_cutter("cl100k_base")}
    kinds = measured(texts, cutters)
    prose = [document for text in texts if group(text.name) == "prose" for document in text.documents]
    shapes = measured([shaped(prose, name) for name in SHAPES] if prose else [], cutters)
    found = Starts({}, {}, {}) if args.ac is None else starts(texts, args.ac or [None])
    if args.json:
        args.json.write_text(figures(kinds, shapes, found))
    pages.publish(page(kinds, shapes, found, ours, trained(args.bpe) if args.bpe else ""), args.output)


if __name__ == "__main__":
    main()
