"""The tokenisers to compare, each loaded from its files and measured in a new process.

Imports count as a tokeniser's start-up and memory, so each loader imports what it needs. They are trained by
`tokens`. Each is called in the way that is fastest for it and keeps text as it is: special tokens are text.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from processes import Spent, peak_mb, spent, total

# file names in the folder of peers
BPE, RANKS, UNIGRAM, PIECES = "bpe-words-65536.json", "bpe.tiktoken", "unigram.json", "sentencepiece.model"

# GPT-2's pattern in tiktoken's form, which avoids backtracking
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# Encoded and decoded once before timing, so that code is loaded, but no word of the text has been seen.
WARM_UP = " ".join(map(str, range(100_000, 110_000))).encode()


class Tokeniser(NamedTuple):
    """Text to ids and back: of one text, and of a list of texts in n threads of the library."""

    encode: Callable[[bytes], Any]
    decode: Callable[[Any], bytes]
    encode_all: Callable[[list[bytes], int], list[Any]]
    decode_all: Callable[[list[Any], int], list[bytes]]


def _eqinfo(method: str, _: Path) -> Tokeniser:
    from dataclasses import replace

    from eqinfo.codebook import parse
    from eqinfo.codebook.codebook import Codebook
    from eqinfo.formats.model_folder import codebook_path
    from eqinfo.system.threads import ordered_map

    codebook = replace(Codebook.load(codebook_path(None)), method=method)
    encode, decode = partial(parse.encode, codebook), partial(parse.decode, codebook)
    return Tokeniser(
        encode,
        decode,
        lambda texts, threads: list(ordered_map(encode, texts, threads)),
        lambda ids, threads: list(ordered_map(decode, ids, threads)),
    )


def _tiktoken(folder: Path) -> Tokeniser:
    os.environ["TIKTOKEN_CACHE_DIR"] = ""  # disables its cache of files that it has read before
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    ranks = load_tiktoken_bpe(str(folder / RANKS))
    encoding = tiktoken.Encoding("bpe", pat_str=WORDS, mergeable_ranks=ranks, special_tokens={})
    return Tokeniser(
        lambda text: encoding.encode_ordinary(text.decode()),
        encoding.decode_bytes,
        lambda texts, n: encoding.encode_ordinary_batch([text.decode() for text in texts], num_threads=n),
        lambda ids, n: encoding.decode_bytes_batch(ids, num_threads=n),
    )


def _tokenizers(name: str, folder: Path) -> Tokeniser:
    """A tokeniser of `tokenizers`; RAYON_NUM_THREADS sets its threads, once per process."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / name))

    def encode_all(texts: list[bytes], _: int) -> list[list[int]]:
        found = tokenizer.encode_batch([text.decode() for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def decode_all(ids: list[list[int]], _: int) -> list[bytes]:
        return [text.encode() for text in tokenizer.decode_batch(ids, skip_special_tokens=False)]

    return Tokeniser(
        lambda text: tokenizer.encode(text.decode(), add_special_tokens=False).ids,
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False).encode(),
        encode_all,
        decode_all,
    )


def _sentencepiece(folder: Path) -> Tokeniser:
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(folder / PIECES))
    return Tokeniser(
        lambda text: pieces.encode(text.decode()),
        lambda ids: pieces.decode(ids).encode(),
        lambda texts, n: pieces.encode([text.decode() for text in texts], num_threads=n),
        lambda ids, n: [text.encode() for text in pieces.decode(ids, num_threads=n)],
    )


def _gigatoken(folder: Path) -> Tokeniser:
    """BPE of gigatoken, which keeps the ids of words that it has seen; RAYON_NUM_THREADS sets its threads."""
    from gigatoken import Tokenizer

    tokenizer = Tokenizer.from_tiktoken(folder / RANKS, "gpt2")
    return Tokeniser(
        tokenizer.encode,
        tokenizer.decode,
        lambda texts, n: list(tokenizer.encode_batch(texts, parallel=n > 1)),
        lambda ids, _: [tokenizer.decode(part) for part in ids],
    )


def _tokie(folder: Path) -> Tokeniser:
    from tokie import Tokenizer

    tokenizer = Tokenizer.from_json(str(folder / BPE))

    def encode_all(texts: list[bytes], _: int) -> list[list[int]]:
        found = tokenizer.encode_batch([text.decode() for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in found]

    return Tokeniser(
        lambda text: tokenizer.encode(text.decode(), add_special_tokens=False).ids,
        tokenizer.decode_bytes,
        encode_all,
        lambda ids, _: [text.encode() for text in tokenizer.decode_batch(ids)],
    )


def _kitoken(folder: Path) -> Tokeniser:
    from kitoken import Kitoken

    tokenizer = Kitoken.from_tokenizers_file(str(folder / BPE))
    return Tokeniser(
        lambda text: tokenizer.encode(text.decode()),
        tokenizer.decode,
        lambda texts, _: tokenizer.encode_all([text.decode() for text in texts]),
        lambda ids, _: tokenizer.decode_all(ids),
    )


def _iree(folder: Path) -> Tokeniser:
    from iree.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / BPE))
    return Tokeniser(
        lambda text: tokenizer.encode_to_array(text.decode()),
        lambda ids: tokenizer.decode(ids).encode(),
        lambda texts, _: tokenizer.encode_batch([text.decode() for text in texts]),
        lambda ids, _: [text.encode() for text in tokenizer.decode_batch(ids)],
    )


def _quicktok(_: Path) -> Tokeniser:
    """o200k of quicktok, which brings its own vocabularies."""
    import numpy as np
    from quicktok import get_encoding

    tokenizer = get_encoding("o200k_base")

    def encode_all(texts: list[bytes], threads: int) -> list[Any]:
        ids, offsets = tokenizer.encode_batch([text.decode() for text in texts], threads)
        return np.split(ids, offsets[1:-1])

    return Tokeniser(
        lambda text: tokenizer.encode_batch([text.decode()], 1)[0],
        tokenizer.decode_bytes,
        encode_all,
        lambda ids, _: [text.encode() for text in tokenizer.decode_batch(ids)],
    )


def _bpe_openai(_: Path) -> Tokeniser:
    """o200k of bpe-openai, which brings its own vocabularies."""
    from bpe_openai import get_encoding

    encoding = get_encoding("o200k_base")
    return Tokeniser(
        lambda text: encoding.encode_ordinary(text.decode()),
        encoding.decode_bytes,
        lambda texts, n: encoding.encode_ordinary_batch([text.decode() for text in texts], num_threads=n),
        lambda ids, n: encoding.decode_bytes_batch(ids, num_threads=n),
    )


LOADERS: dict[str, Callable[[Path], Tokeniser]] = {
    "eqinfo, optimal": partial(_eqinfo, "optimal"),
    "eqinfo, greedy": partial(_eqinfo, "greedy"),
    "gigatoken, BPE": _gigatoken,
    "tokie, BPE": _tokie,
    "iree-tokenizer, BPE": _iree,
    "kitoken, BPE": _kitoken,
    "tiktoken, BPE": _tiktoken,
    "tokenizers, BPE": partial(_tokenizers, BPE),
    "tokenizers, Unigram": partial(_tokenizers, UNIGRAM),
    "sentencepiece, Unigram": _sentencepiece,
    "quicktok-v1, o200k": _quicktok,
    "bpe-openai, o200k": _bpe_openai,
}


class Task(NamedTuple):
    """A text to tokenise, and how to divide it."""

    text: Path
    n_bytes: int
    piece_bytes: int
    group_bytes: int = 1 << 20  # encoded, then decoded, at a time
    threads: int | None = None  # None for one call per piece

    def groups(self) -> Iterator[list[bytes]]:
        """The first n_bytes of the text, in groups of pieces that end at a space or line break."""
        with self.text.open("rb") as file:
            left, rest = self.n_bytes, b""
            size = min(self.group_bytes, self.n_bytes // 4)  # at least two groups for each half
            piece_bytes = min(self.piece_bytes, size)
            while block := file.read(min(left, size)):
                left -= len(block)
                data, start, pieces = rest + block, 0, list[bytes]()
                while len(data) - start >= piece_bytes:
                    stop = start + piece_bytes
                    end = 1 + max(data.rfind(b" ", start, stop), data.rfind(b"\n", start, stop)) or stop
                    pieces.append(data[start:end])
                    start = end
                rest = data[start:]
                yield pieces
            yield [rest.decode(errors="ignore").encode()]  # without an incomplete last character


class Measured(NamedTuple):
    """The result of a task.

    The text has two halves; sizes are those of the second, which is encoded when the words of the first have
    been seen.
    """

    same: bool  # whether decoding restored the text, in both halves
    n_bytes: int
    n_pieces: int
    n_ids: int
    cold_rate: float  # bytes of the first half encoded per CPU second
    encode: Spent  # the second half
    decode: Spent
    peak_mb: float


def measure(name: str, folder: Path, task: Task) -> Measured:
    """Run a task with the tokeniser of that name in this process, which must be new."""
    tokeniser = LOADERS[name](folder)

    def encoded(pieces: list[bytes]) -> list[Any]:
        if task.threads is None:
            return [tokeniser.encode(piece) for piece in pieces]
        return tokeniser.encode_all(pieces, task.threads)

    def decoded(ids: list[Any]) -> list[bytes]:
        if task.threads is None:
            return [tokeniser.decode(part) for part in ids]
        return tokeniser.decode_all(ids, task.threads)

    warm_up = [
        WARM_UP[start : start + task.piece_bytes] for start in range(0, len(WARM_UP), task.piece_bytes)
    ]
    same = decoded(encoded(warm_up)) == warm_up
    cold_bytes, cold_s = 0, 0.0
    n_bytes, n_pieces, n_ids = 0, 0, 0
    encoding, decoding = list[Spent](), list[Spent]()
    for pieces in task.groups():
        ids, to_ids = spent(partial(encoded, pieces))
        found, to_text = spent(partial(decoded, ids))
        same = same and found == pieces
        size = sum(map(len, pieces))
        if cold_bytes < task.n_bytes // 2:
            cold_bytes += size
            cold_s += to_ids.cpu_s
            continue
        n_bytes += size
        n_pieces += len(pieces)
        n_ids += sum(map(len, ids))
        encoding.append(to_ids)
        decoding.append(to_text)
    return Measured(
        same, n_bytes, n_pieces, n_ids, cold_bytes / cold_s, total(encoding), total(decoding), peak_mb()
    )
