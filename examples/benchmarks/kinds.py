r"""Measures codebooks on text of many kinds beside BPE: source code, data, English, other languages.

    python examples/benchmarks/kinds.py --train-bpe mix.jsonl -o bpe-65536.json
    python examples/benchmarks/kinds.py broad-valid.jsonl.zst valid.jsonl.zst alice29.txt asyoulik.txt \
        lcet10.txt --bpe bpe-65536.json --ac -o kinds.md --json kinds.json

All texts must be held out from training (`contamination` looks). Each is decoded back and compared before a
figure of it is printed. Nothing is timed: the same inputs give the same figures.
"""

import argparse
import io
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import live
import numpy as np
import pages
import peers
from compressors import eqi_streams
from kinds_page import (
    BPE,
    CL100K,
    GROUPS,
    LIVE_BITS,
    MOST_USED,
    O200K,
    PPMD,
    START_BYTES,
    XZ,
    ZSTD,
    Counts,
    Kinds,
    Measured,
    group,
    tables,
)
from windows import Cutter, bpe_cutter, check, codebook_cutter, token_cutter

from eqinfo.codebook.codebook import Codebook
from eqinfo.formats.codec import Codec
from eqinfo.formats.model_folder import NETWORK_NAME, Model
from eqinfo.text.frames import frames_of_bytes

BPE_ENTRIES = 1 << 16
WRAP_COLUMNS = 76
PACKAGES = ("bpe-openai", "numba", "numpy", "pyppmd", "tokenizers", "zstandard")

INTRODUCTION = (
    "How many bytes of text a window holds, by kind of text, beside BPE: OpenAI's o200k (199,998 entries) "
    f"and cl100k (100,256), and one of {BPE_ENTRIES:,} entries trained on the mix of texts that the "
    "codebooks come from. The texts were held out from training, and all were decoded back. A document is "
    "cut by itself; the token that ends it is not counted. Of bytes per token or window and of ratios, "
    "larger is better; of bits per byte, smaller."
)


# ---- texts


def read_texts(paths: Iterable[Path]) -> list[peers.HeldOut]:
    """The documents of each kind, group by group."""
    found: dict[str, list[bytes]] = {}
    for path in paths:
        for kind, text in peers.read_kinds(path):
            if group(kind) not in GROUPS:
                sys.exit(
                    f"{path}: found the kind {kind}, want one of {', '.join(GROUPS)} before its first dash."
                )
            found.setdefault(kind, []).append(text.encode())
    order = list(GROUPS)
    return [
        peers.HeldOut(kind, found[kind]) for kind in sorted(found, key=lambda k: (order.index(group(k)), k))
    ]


def start(text: peers.HeldOut) -> peers.HeldOut:
    """The first START_BYTES bytes of a kind, all of a file, as one document."""
    data = b"".join(text.documents)
    return peers.HeldOut(text.name, [data if group(text.name) == "file" else data[:START_BYTES]])


def wrapped(words: str) -> str:
    r"""The text with lines of at most WRAP_COLUMNS columns, but for longer words.

    >>> wrapped("to be or not to be, " * 4)
    'to be or not to be, to be or not to be, to be or not to be, to be or not to\nbe,'
    """
    wrapper = textwrap.TextWrapper(
        WRAP_COLUMNS,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(map(wrapper.fill, words.split("\n")))


SHAPES: dict[str, Callable[[str], str]] = {
    "as it is": lambda words: words,
    "CR LF": lambda words: words.replace("\n", "\r\n"),
    "a tab before each line": lambda words: "\t" + words.replace("\n", "\n\t"),
    f"wrapped at {WRAP_COLUMNS} columns": wrapped,
    "ALL CAPS": str.upper,
}


def shaped(texts: list[peers.HeldOut]) -> list[peers.HeldOut]:
    """All English prose in each of SHAPES; nothing if there is none."""
    prose = [
        document.decode() for text in texts if group(text.name) == "prose" for document in text.documents
    ]
    return [
        peers.HeldOut(name, [shape(words).encode() for words in prose])
        for name, shape in SHAPES.items()
        if prose
    ]


# ---- contestants


def named(models: Iterable[Path | None]) -> dict[str, Model]:
    """Models by their names on the page; None is the model in the package."""
    found: dict[str, Model] = {}
    for path in models:
        name = "default" if path is None else path.stem
        if name in found:
            sys.exit(f"{path}: found a second model of this name; rename it.")
        found[name] = Model(path)
    return found


def codebooks(models: dict[str, Model]) -> dict[str, Codebook]:
    """The codebooks of each model: of a width, the first by the width, others by the model's name too."""
    found: dict[str, Codebook] = {}
    for name, model in models.items():
        for bits in (None, *model.further_widths()):
            codebook = model.codebook_of(bits)
            width = f"{codebook.window_bits} bits"
            found[f"{width}, {name}" if width in found else width] = codebook
    return found


def openai_cutter(name: str) -> Cutter:
    """Tokenises texts as OpenAI's models do."""
    import bpe_openai

    bpe = bpe_openai.get_encoding(name)
    lengths = np.fromiter(map(len, bpe.token_byte_values()), np.int64)
    return token_cutter(bpe.encode_ordinary, bpe.decode, lengths)


def cut(texts: list[peers.HeldOut], cutters: dict[str, Cutter]) -> Kinds:
    """The tokens of each contestant in each text."""
    units: Counts = {}
    for name, cutter in cutters.items():
        live.say(name)
        units[name] = {}
        for text in texts:
            cuts = cutter(text)
            assert cuts is not None  # read_texts gives UTF-8
            units[name][text.name] = cuts.n_items
    return Kinds({text.name: text.n_bytes for text in texts}, units)


def packed(texts: list[peers.HeldOut], models: dict[str, Model]) -> Kinds:
    """The compressed size in bytes of each text, by `ac` with each M1 and by compressors."""
    ways = {
        f"ac, {name}": eqi_streams(model.codec("ac", carry=False, rule="live"))
        for name, model in models.items()
    }
    ways |= {name: live.others()[name] for name in (PPMD, XZ, ZSTD) if models}
    units: Counts = {}
    for name, way in ways.items():
        live.say(name)
        units[name] = {text.name: way.total_size(text.documents) for text in texts}
    return Kinds({text.name: text.n_bytes for text in texts}, units)


def live_windows(texts: list[peers.HeldOut], models: dict[str, Model]) -> Kinds:
    """The number of live windows of each text, with each M1."""
    units: Counts = {}
    for name, model in models.items():
        live.say(f"live windows, {name}")
        codec = model.codec(str(LIVE_BITS), carry=False, rule="live")
        units[name] = {text.name: n_units(codec, text) for text in texts}
    return Kinds({text.name: text.n_bytes for text in texts}, units)


def n_units(codec: Codec, text: peers.HeldOut) -> int:
    """The units that a codec makes of a text of one document; its end is not coded."""
    n = 0
    for frame in frames_of_bytes(io.BytesIO(*text.documents), codec.frame_bytes):
        units, payload = codec.encode(frame)
        check(codec.decode(units, payload, len(frame.text)).text == frame.text, text.name)
        n += units
    return n


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path, nargs="*", help="held-out texts: JSONL with kinds, or plain")
    parser.add_argument(
        "-m",
        "--model",
        type=Path,
        action="append",
        help="model folder or .eqcb, several times; default: the package's",
    )
    parser.add_argument("--bpe", type=Path, help="a BPE that --train-bpe made")
    parser.add_argument(
        "--ac",
        type=Path,
        nargs="*",
        metavar="FOLDER",
        help="run M1 too, of these models; default: the package's",
    )
    parser.add_argument("--train-bpe", type=Path, metavar="MIX", help="only make a BPE of this JSONL")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("-o", "--output", type=Path, help="write the page, or the BPE, to this file")
    args = parser.parse_args()
    if args.train_bpe is None and not args.texts:
        parser.error("found no texts.")
    if args.train_bpe and args.output is None:
        parser.error("--train-bpe: found no -o.")
    return args


def main() -> None:
    """Run the command line."""
    args = arguments()
    if args.train_bpe:
        peers.train_bpe("o200k", BPE_ENTRIES, args.train_bpe).save(args.output)
        return
    texts, ours = read_texts(args.texts), codebooks(named(args.model or [None]))
    cutters = {name: codebook_cutter(codebook) for name, codebook in ours.items()}
    contestants = "".join(
        f"- *{name}*: codebook {each.fingerprint.hex()[:16]}, unaligned penalty {each.unaligned_penalty:g}\n"
        for name, each in ours.items()
    )
    if args.bpe:
        bpe = peers.Bpe.load(args.bpe)
        cutters[BPE] = bpe_cutter(bpe)
        contestants += f"- *{BPE}*: pre-tokenised as {bpe.facts['kind']}, trained on {bpe.trained_on}\n"
    cutters |= {O200K: openai_cutter("o200k_base"), CL100K: openai_cutter("cl100k_base")}

    running = {} if args.ac is None else named(args.ac or [None])
    starts = [start(text) for text in texts if running]
    spoken = [text for text in starts if group(text.name) == "code" or text.name in MOST_USED]
    measured = Measured(
        cut(texts, cutters),
        cut(shaped(texts), cutters),
        packed(starts, running),
        live_windows(spoken, running),
    )
    paths = [model.path / NETWORK_NAME for model in running.values()]
    m1_bytes = paths[0].stat().st_size if paths else 0
    if args.json:
        args.json.write_text(measured.json())
    parts = ["# Text of many kinds\n", pages.paragraph(INTRODUCTION)]
    parts += [pages.provenance(sys.argv, PACKAGES) + contestants, *tables(measured, list(ours), m1_bytes)]
    pages.publish(parts, args.output)


if __name__ == "__main__":
    main()
