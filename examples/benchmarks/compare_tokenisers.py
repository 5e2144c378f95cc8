"""What windows are worth to a language model: the same small M2 on bytes, windows and BPE of the same text.

    python compare_tokenisers.py prepare --work cmp/ --text train.jsonl.zst --valid valid.jsonl.zst \
        --bench alice29.txt asyoulik.txt lcet10.txt

`prepare` makes a folder a vocabulary, with its codebook and token files, each decoded back and compared. What
is there already is kept.
"""

import argparse
import hashlib
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import peers
import torch

from eqinfo import corpus, m1, text, tokens
from eqinfo.codebook import Codebook, Method
from eqinfo.compile import expand, published
from eqinfo.container import Totals
from eqinfo.files import CODEBOOK_NAME, DEFAULT_MODEL, NamedSink, replacing
from eqinfo.frames import Frame, frames_of_pieces
from eqinfo.refit import Candidates, refit

BPE_SAMPLE_BYTES = 64_000_000
BPE_BATCH = 256  # documents


class Vocabulary(NamedTuple):
    """What M2 reads: which windows, and how text is cut with them.

    Attributes:
        windows: the rule that chose them, or the name of another vocabulary, whose windows they are.
        window_bits: log2 of how many there may be.
        unaligned_penalty: of the refit and the parse.
        method: of the parse; BPE has its own.
    """

    windows: str
    window_bits: int
    unaligned_penalty: float = 1.0
    method: Method = "optimal"


VOCABULARIES = {
    "bytes": Vocabulary("bytes", 9),
    "ours-b12": Vocabulary("refitted", 12),
    "bpe-b12": Vocabulary("bpe", 12),
    "published-b12": Vocabulary("published", 12),
    "ours-b12-penalty0": Vocabulary("refitted", 12, 0.0),
    "ours-b12-penalty3": Vocabulary("refitted", 12, 3.0),
    "ours-b12-greedy": Vocabulary("ours-b12", 12, method="greedy"),
    "ours-b14": Vocabulary("refitted", 14),
    "bpe-b14": Vocabulary("bpe", 14),
    "published-b14": Vocabulary("published", 14),
}


class Texts(NamedTuple):
    """The files to train and to measure on."""

    train: Path
    valid: Path
    bench: list[Path]

    @property
    def by_name(self) -> dict[str, Path]:
        """Each file by the name of its token file."""
        return {"train": self.train, "valid": self.valid} | {path.stem: path for path in self.bench}


# ---- prepare: vocabularies and token files


def say(words: str) -> None:
    """Tell of progress."""
    print(words, file=sys.stderr, flush=True)


@lru_cache(1)
def candidates(window_bits: int) -> Candidates:
    """What M1 of the package proposes to a refit."""
    model = m1.load_m1(DEFAULT_MODEL, torch.device("cpu"))
    return expand(model, m1.Settings().candidates << window_bits, lambda _: None)


def training_text(work: Path, train: Path) -> list[corpus.Text]:
    """The pieces of the training text that a refit parses, staged once."""
    folder = work / "corpus"
    if not (folder / "facts.json").exists():
        say(f"staging {train.name}")
        with text.open_text(train) as source:
            corpus.stage([(train.name, source)], folder, "text")
    return corpus.sample(corpus.load(folder)[0], m1.REFIT_BYTES)


def bpe_of(vocabulary: Vocabulary, work: Path, train: Path) -> peers.Bpe:
    """BPE with as many entries as leave room for the end of text."""
    return peers.bpe("words", (1 << vocabulary.window_bits) - 1, train, work / "bpe", BPE_SAMPLE_BYTES)


def make_codebook(vocabulary: Vocabulary, work: Path, train: Path) -> Codebook:
    """The codebook of a vocabulary; BPE's has its entries in sorted order, and does not cut as BPE does."""
    bits, penalty = vocabulary.window_bits, vocabulary.unaligned_penalty
    match vocabulary.windows:
        case "bytes":
            return Codebook([b"", *(bytes([byte]) for byte in range(256))], bits, "greedy")
        case "published":
            return published(m1.load_m1(DEFAULT_MODEL, torch.device("cpu")), bits, lambda _: None)
        case "refitted":
            return refit(candidates(bits), training_text(work, train), bits, penalty, lambda _: None)
        case "bpe":
            entries = peers.token_bytes(bpe_of(vocabulary, work, train).tokenizer)
            return Codebook([b"", *sorted(entries)], bits, "greedy")
        case other:
            return replace(Codebook.load(work / other / CODEBOOK_NAME), method=vocabulary.method)


def frames(path: Path) -> Iterator[Frame]:
    """The frames in which `eqinfo compress --tokens` would cut a text."""
    return frames_of_pieces((document, True) for document in peers.read_documents(path))


def write_bpe(path: Path, sink: NamedSink, codebook: Codebook, bpe: peers.Bpe) -> tokens.Sidecar:
    """Write BPE's own segmentation of a text, each token by its rank in the codebook."""
    ranks = np.array([codebook.codewords[entry] for entry in peers.token_bytes(bpe.tokenizer)])
    dtype = tokens.token_type(codebook.window_bits)
    totals, crc = Totals(), 0
    documents = peers.read_documents(path)
    while batch := [document.decode() for document in islice(documents, BPE_BATCH)]:
        found = bpe.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        ids = np.concatenate([np.append(ranks[part.ids], tokens.END_OF_TEXT) for part in found])
        data = ids.astype(dtype).tobytes()
        sink.write(data)
        crc = zlib.crc32(data, crc)
        totals.original_bytes += int(codebook.lengths[ids].sum())
        totals.windows += ids.size
        totals.documents += len(batch)
    return tokens.Sidecar(
        vocab_size=codebook.vocab_size,
        window_bits=codebook.window_bits,
        fingerprint=codebook.fingerprint.hex(),
        tokens=totals.windows,
        original_bytes=totals.original_bytes,
        documents=totals.documents,
        end_of_text=tokens.END_OF_TEXT,
        crc32=crc,
    )


def digest(found: Iterable[Frame]) -> bytes:
    """A checksum of a text and of where its documents end, however it is framed."""
    whole, ends, at = hashlib.sha256(), hashlib.sha256(), 0
    for frame in found:
        whole.update(frame.text)
        ends.update(np.array([at + end for end in frame.document_ends], "<i8").tobytes())
        at += len(frame.text)
    return whole.digest() + ends.digest()


@lru_cache
def digest_of_file(path: Path) -> bytes:
    """The same of the text that token files are made of."""
    return digest(frames(path))


def write_tokens(path: Path, target: Path, codebook: Codebook, bpe: peers.Bpe | None) -> None:
    """The token file of a text and its sidecar, after decoding it again."""
    sidecar_path = tokens.sidecar_path(target)
    if sidecar_path.exists():
        return
    with replacing(target, force=True) as sink:
        if bpe is None:
            _, sidecar = tokens.write(frames(path), sink, codebook)
        else:
            sidecar = write_bpe(path, sink, codebook, bpe)
    with target.open("rb") as source:
        if digest(tokens.read(source, sidecar, codebook, str(target))) != digest_of_file(path):
            sys.exit(f"{target}: did not decode back to {path.name}.")
    with replacing(sidecar_path) as sink:
        sink.write(sidecar.to_json())


def prepare(work: Path, names: list[str], texts: Texts) -> None:
    """The folders of some vocabularies, with what is missing in them."""
    for name in names:
        vocabulary, folder = VOCABULARIES[name], work / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / CODEBOOK_NAME
        if not path.exists():
            say(f"{name}: codebook")
            codebook = make_codebook(vocabulary, work, texts.train)
            with replacing(path) as sink:
                sink.write(codebook.to_bytes())
        codebook = Codebook.load(path)
        bpe = bpe_of(vocabulary, work, texts.train) if vocabulary.windows == "bpe" else None
        for text_name, text_path in texts.by_name.items():
            write_tokens(text_path, folder / f"{text_name}.bin", codebook, bpe)
        shown = [f"{text_name} {bytes_per_token(folder, text_name):.3f}" for text_name in texts.by_name]
        say(f"{name}: {len(codebook.windows):,} windows; bytes/token {', '.join(shown)}")


def bytes_per_token(folder: Path, text_name: str) -> float:
    """Of a token file; the ids that end documents count, since M2 reads them."""
    sidecar = tokens.Sidecar.load(tokens.sidecar_path(folder / f"{text_name}.bin"))
    return sidecar.original_bytes / sidecar.tokens


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--work", type=Path, required=True, help="folder of vocabularies and runs")
    common.add_argument("--only", type=re.compile, default="", help="what a name must contain, as a regex")
    preparing = commands.add_parser("prepare", parents=[common], help="make codebooks and token files")
    preparing.add_argument("--text", type=Path, required=True, help="JSONL to train on")
    preparing.add_argument("--valid", type=Path, required=True, help="JSONL to validate on")
    preparing.add_argument("--bench", type=Path, nargs="+", required=True, help="texts to measure on")
    args = parser.parse_args()

    names = [name for name in VOCABULARIES if re.search(args.only, name)]
    if args.command == "prepare":
        prepare(args.work, names, Texts(args.text, args.valid, args.bench))


if __name__ == "__main__":
    main()
