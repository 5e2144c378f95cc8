"""Measures bytes per window beside the paper's rule and BPE of the same size, and compression ratios.

    python examples/benchmarks/windows.py valid.jsonl.zst alice29.txt --published paper/ \
        --bpe-text mix.jsonl --bpe-cache bpe/ -o windows.md

Every text is decoded back and compared before a figure of it is printed.
"""

import argparse
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pages
import peers
import zstandard
from compressors import Compressor, eqi_streams

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.eval.measure import COMPRESSORS
from eqinfo.formats import eqi
from eqinfo.formats.codec import CodebookCodec
from eqinfo.formats.model_folder import codebook_path
from eqinfo.text.frames import Frame, frames_of_pieces

RECORD_BYTES = 200
MAX_RECORDS = 1000  # per text, evenly spaced
DICTIONARY_BYTES = 112_640  # the default of `zstd --train`
DICTIONARY_SAMPLE_BYTES = 20_000_000
SENTENCES_SAMPLE_BYTES = 60_000_000

# The outcome of the published run: check it after measuring again.
INTRODUCTION = (
    "How many bytes of text a window of 16 bits holds, beside the paper's rule and BPE with as many "
    "entries, and how small files become. eqinfo's windows hold 22 to 46 % more than the paper's and than "
    "tokens of BPE inside words, and 6 to 13 % more than tokens of BPE across words. Records of 200 bytes "
    "compress better than with gzip, zstd or xz without a dictionary, whole files worse than with zstd or "
    "xz. The texts were held out from training, and all were decoded back; in tables of bytes and ratios, "
    "larger is better."
)

Ids = npt.NDArray[np.unsignedinteger]


@dataclass
class Cuts:
    """Counts of the windows or tokens of a text; ids that end documents are not counted."""

    n_bytes: int = 0
    n_items: int = 0  # windows or tokens
    n_inner: int = 0  # cuts inside documents
    n_aligned: int = 0  # the inner cuts at word boundaries
    used: set[int] = field(default_factory=set)

    def add(self, text: bytes, ids: Ids, lengths: npt.NDArray[np.int64]) -> None:
        """Count a document or frame.

        Args:
            text: its bytes.
            ids: its windows or tokens.
            lengths: length of each id in bytes; 0 for the empty window.
        """
        ids, sizes = ids[lengths[ids] > 0], lengths[ids][lengths[ids] > 0]
        at = np.cumsum(sizes)[:-1]
        view = np.frombuffer(text, np.uint8)
        self.n_bytes += len(text)
        self.n_items += ids.size
        self.n_inner += at.size
        self.n_aligned += int(parse.is_aligned(view[at - 1], view[at]).sum())
        self.used.update(np.unique(ids).tolist())

    @property
    def bytes_per_item(self) -> float:
        """Original bytes per window or token."""
        return self.n_bytes / max(self.n_items, 1)


Cutter = Callable[[peers.HeldOut], Cuts | None]  # None if it cannot represent the text


def check(same: bool, what: str) -> None:
    """End the program if `same` is false."""
    if not same:
        sys.exit(f"{what}: did not decode back to the text; no figure is printed.")


def frames(held_out: peers.HeldOut) -> Iterator[Frame]:
    """The frames of a text, as `eqinfo compress` makes them."""
    return frames_of_pieces((document, True) for document in held_out.documents)


def codebook_cutter(codebook: Codebook) -> Cutter:
    """Parses texts with a codebook, by its own method and penalty."""

    def cut(held_out: peers.HeldOut) -> Cuts:
        cuts = Cuts()
        for frame in frames(held_out):
            ids = parse.encode(codebook, *frame)
            check(parse.decode(codebook, ids) == frame.text, held_out.name)
            cuts.add(frame.text, ids, codebook.lengths)
        return cuts

    return cut


def token_cutter(
    encode: Callable[[str], list[int]], decode: Callable[[list[int]], str], lengths: npt.NDArray[np.int64]
) -> Cutter:
    """Tokenises texts, whose documents must be UTF-8.

    Args:
        encode: words to ids.
        decode: ids to words.
        lengths: of each id in bytes.
    """

    def cut(held_out: peers.HeldOut) -> Cuts | None:
        cuts = Cuts()
        for document in held_out.documents:
            try:
                words = document.decode()
            except UnicodeDecodeError:
                return None
            ids = encode(words)
            check(decode(ids) == words, held_out.name)
            cuts.add(document, np.array(ids, np.uint32), lengths)
        return cuts

    return cut


def bpe_cutter(bpe: peers.Bpe) -> Cutter:
    """Tokenises texts with BPE."""
    return token_cutter(
        lambda words: bpe.tokenizer.encode(words).ids,
        partial(bpe.tokenizer.decode, skip_special_tokens=False),
        np.fromiter(map(len, peers.token_bytes(bpe.tokenizer)), np.int64),
    )


# ---- bytes per window


def quality(
    texts: list[peers.HeldOut], cutters: dict[str, Cutter], ours: str, window_bits: int
) -> Iterator[str]:
    """The tables of bytes per window, their ratios, aligned cuts and distinct windows.

    Args:
        texts: texts to parse.
        cutters: by the name of their row.
        ours: the row that is divided by the others.
        window_bits: width of the codebooks.
    """
    measured = {name: [cutter(text) for text in texts] for name, cutter in cutters.items()}
    names = [text.name for text in texts]

    def rows(shown: Callable[[Cuts], str], among: list[str] | None = None) -> list[list[str]]:
        return [
            [name, *("not UTF-8" if cuts is None else shown(cuts) for cuts in measured[name])]
            for name in among or measured
        ]

    yield f"## Bytes per window or token, {window_bits} bits each\n"
    sizes = ["size in bytes", *(f"{text.n_bytes:,}" for text in texts)]
    yield pages.table(["", *names], [sizes, *rows(lambda cuts: f"{cuts.bytes_per_item:.3f}")])
    yield f"## Ratio of bytes per window: {ours} / the others\n"
    best = dict(zip(names, measured[ours], strict=True))
    ratios = []
    for name in measured:
        if name != ours:
            pairs = zip(best.values(), measured[name], strict=True)
            shown = [f"{a.bytes_per_item / b.bytes_per_item:.3f}" if a and b else "" for a, b in pairs]
            ratios.append([f"/ {name}", *shown])
    yield pages.table(["", *names], ratios)
    yield "## Share of cuts at word boundaries\n"
    yield pages.table(["", *names], rows(lambda cuts: f"{cuts.n_aligned / max(cuts.n_inner, 1):.1%}"))
    yield f"## Distinct windows or tokens used, of {1 << window_bits:,}\n"
    together = rows(lambda cuts: f"{len(cuts.used):,}")
    for row in together:
        row.append(f"{len(set().union(*(cuts.used for cuts in measured[row[0]] if cuts))):,}")
    yield pages.table(["", *names, "all texts"], together)


# ---- compression ratios


def zstd_with(dictionary: zstandard.ZstdCompressionDict) -> Compressor:
    """`zstd -19` with a dictionary and without checksum."""
    packer = zstandard.ZstdCompressor(level=19, dict_data=dictionary)
    unpacker = zstandard.ZstdDecompressor(dict_data=dictionary)
    return Compressor(packer.compress, unpacker.decompress)


def eqi_size(codebook: Codebook, text: peers.HeldOut) -> int:
    """The size in bytes of a text as one .eqi stream with document ends."""
    sink, codec = io.BytesIO(), CodebookCodec(codebook)
    eqi.compress(frames(text), sink, codec)
    size, at, ends = sink.tell(), 0, list[int]()
    sink.seek(0)
    found = bytearray()
    for frame in eqi.read_frames(sink, codec, text.name):
        found += frame.text
        ends += [at + end for end in frame.document_ends]
        at += len(frame.text)
    check(found == b"".join(text.documents), text.name)
    check(ends == np.cumsum([len(document) for document in text.documents]).tolist(), text.name)
    return size


def pieces(documents: Iterable[bytes], size: int) -> Iterator[bytes]:
    """All documents in pieces of `size` bytes; the last piece of a document may be shorter."""
    for document in documents:
        for at in range(0, len(document), size):
            yield document[at : at + size]


def records(text: peers.HeldOut) -> peers.HeldOut:
    """An even sample of the pieces of a text, as documents."""
    found = list(pieces(text.documents, RECORD_BYTES))
    n = min(len(found), MAX_RECORDS)
    return peers.HeldOut(text.name, [found[k * len(found) // n] for k in range(n)])


def zstd_dictionary(
    path: Path, text_field: str = "text", record_bytes: int = RECORD_BYTES
) -> zstandard.ZstdCompressionDict:
    """A zstd dictionary trained on records of an even sample of a text."""
    sample = peers.sample(path, DICTIONARY_SAMPLE_BYTES, text_field)
    return zstandard.train_dictionary(DICTIONARY_BYTES, list(pieces(sample, record_bytes)))


def ratio_row(name: str, texts: list[peers.HeldOut], size: Callable[[peers.HeldOut], int]) -> list[str]:
    """The table row of the compression ratios of all texts."""
    return [name, *(f"{text.n_bytes / size(text):.2f}" for text in texts)]


def ratios(
    texts: list[peers.HeldOut], codebook: Codebook, dictionary: zstandard.ZstdCompressionDict
) -> Iterator[str]:
    """The tables of compression ratios of whole files and of records."""
    general = {name: Compressor(*both) for name, both in COMPRESSORS.items()}
    names = [text.name for text in texts]
    yield "## Compression ratio of whole files\n"
    yield pages.paragraph(
        "All documents of a text are compressed as one stream; an .eqi stream also stores where each "
        "document ends."
    )
    rows = [
        ratio_row(name, texts, lambda text, each=compressor: each.size(b"".join(text.documents)))
        for name, compressor in general.items()
    ]
    yield pages.table(["", *names], [*rows, ratio_row("eqinfo", texts, partial(eqi_size, codebook))])

    general |= {
        "zstd -19, dictionary": zstd_with(dictionary),
        "eqinfo, a stream each": eqi_streams(CodebookCodec(codebook)),
    }
    small = [records(text) for text in texts]
    yield f"## Compression ratio of {RECORD_BYTES}-byte records\n"
    yield pages.paragraph(
        "Each record is compressed by itself, with the header and checksum of its format. The last row is "
        "one stream of all records that also stores where each ends (`--jsonl`). The dictionary "
        f"({DICTIONARY_BYTES:,} bytes) was trained on the text that BPE was trained on."
    )
    rows = [["records", *(f"{len(text.documents):,}" for text in small)]]
    rows += [
        ratio_row(name, small, lambda text, each=compressor: each.total_size(text.documents))
        for name, compressor in general.items()
    ]
    rows.append(ratio_row("eqinfo, one stream of all", small, partial(eqi_size, codebook)))
    yield pages.table(["", *names], rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "texts", nargs="+", type=Path, help="held-out texts: plain or .jsonl, also .gz or .zst"
    )
    parser.add_argument(
        "-m", "--model", type=Path, help="model folder or .eqcb; default: the model in the package"
    )
    parser.add_argument(
        "--published", type=Path, required=True, help="codebook of the same M1 by `--rule published`"
    )
    parser.add_argument("--bpe-text", type=Path, required=True, help="the training text of the model")
    parser.add_argument("--bpe-cache", type=Path, required=True, help="folder for trained BPE tokenisers")
    parser.add_argument(
        "--sentences-bytes",
        type=int,
        default=SENTENCES_SAMPLE_BYTES,
        help="size of the sample for BPE across words (training takes about 70 bytes of memory per byte)",
    )
    parser.add_argument("--text-field", default="text", help="field of JSONL records")
    parser.add_argument("-o", "--output", type=Path, help="write the page to a file as well")
    args = parser.parse_args()

    codebook = Codebook.load(codebook_path(args.model))
    published = Codebook.load(codebook_path(args.published))
    if codebook.window_bits != published.window_bits:
        sys.exit("--published: the codebook has other window bits.")
    bits, cache, field_ = codebook.window_bits, args.bpe_cache, args.text_field
    words = peers.bpe("words", 1 << bits, args.bpe_text, cache, None, field_)
    sentences = peers.bpe("sentences", 1 << bits, args.bpe_text, cache, args.sentences_bytes, field_)
    ours = "eqinfo, optimal"
    penalty = codebook.unaligned_penalty
    cutters = {
        "published rule, greedy": codebook_cutter(published),
        "eqinfo, greedy": codebook_cutter(replace(codebook, method="greedy")),
        "eqinfo, optimal, no penalty": codebook_cutter(
            replace(codebook, method="optimal", unaligned_penalty=0.0)
        ),
        ours: codebook_cutter(replace(codebook, method="optimal")),
        "BPE in words": bpe_cutter(words),
        "BPE across words": bpe_cutter(sentences),
    }
    texts = [peers.read_held_out(path, field_) for path in args.texts]
    packages = ("numba", "numpy", "tokenizers", "zstandard")
    parts = [
        f"# Windows of {bits} bits\n",
        pages.paragraph(INTRODUCTION),
        pages.provenance(sys.argv, packages)
        + f"- codebook {codebook.fingerprint.hex()[:16]}, unaligned penalty {penalty:g}; "
        f"published rule {published.fingerprint.hex()[:16]}\n"
        f"- *BPE in words*: {1 << bits:,} entries, pre-tokenised as in GPT-2, trained on {words.trained_on}\n"
        "- *BPE across words*: pre-tokenised only where a sentence or a line ends, trained on "
        f"{sentences.trained_on}\n",
        *quality(texts, cutters, ours, bits),
        *ratios(texts, codebook, zstd_dictionary(args.bpe_text, field_)),
    ]
    pages.publish(parts, args.output)


if __name__ == "__main__":
    main()
