"""Token files as training data: memory-mapped ids of one or more files, in blocks, in a seeded order.

The ids of all files are one sequence that begins after an end of text. Block n holds ids [n T, (n + 1) T)
as targets, and as inputs the ids before each: every id is a target exactly once an epoch. A batch is a
pure function of seed and step, so the data position of a run is its step.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from eqinfo.errors import FormatError, InputError, MismatchError
from eqinfo.formats.token_file import END_OF_TEXT, MAX_SIDECAR_BYTES, Sidecar, sidecar_path, token_type

LLM_C_MAGIC, LLM_C_HEADER_BYTES = 20240520, 1024  # llm.c puts 256 int32 before the ids
CHECKED_AT_ONCE = 1 << 22  # ids

Ids = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Tokens:
    """Ids as M2 reads them, and what is known of them.

    Attributes:
        parts: ids as they are stored, of each file, memory-mapped.
        window_bits: size of a stored id in bits.
        token_bits: size of what M2 reads; a divisor of window_bits. A stored id is read as
            window_bits / token_bits tokens, high bits first.
        vocab_size: number of different tokens.
        original_bytes: size of the text they decode to.
        end_of_text: the stored id that ends a document.
        fingerprint: of their codec, in hexadecimal; empty for files from elsewhere.
        name: for messages.
        unit_bits: of a live codec; 0 for others.
    """

    parts: tuple[Ids, ...]
    window_bits: int
    token_bits: int
    vocab_size: int
    original_bytes: int
    end_of_text: int
    fingerprint: str
    name: str
    unit_bits: int = 0

    @property
    def tokens_an_id(self) -> int:
        """How many tokens a stored id is read as."""
        return self.window_bits // self.token_bits

    @property
    def n_tokens(self) -> int:
        """Number of tokens in all files."""
        return sum(part.size for part in self.parts) * self.tokens_an_id

    @property
    def bytes_per_token(self) -> float:
        """Original bytes for each token."""
        return self.original_bytes / self.n_tokens

    def n_blocks(self, block_size: int) -> int:
        """Number of blocks; the last one may be short."""
        return -(-self.n_tokens // block_size)

    def blocks(self, numbers: Sequence[int], block_size: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, each (len(numbers), block_size), int64; targets beyond the end are -1.

        Raises:
            InputError: an id is out of the vocabulary.
        """
        targets = np.full((len(numbers), block_size), -1, np.int64)
        idx = np.zeros_like(targets)
        for row, number in enumerate(numbers):
            found = self._between(number * block_size - 1, (number + 1) * block_size)
            targets[row, : found.size - 1] = found[1:]
            idx[row, : found.size - 1] = found[:-1]
        if int(targets.max(initial=0)) >= self.vocab_size:
            raise InputError(
                f"{self.name}: found id {targets.max()}, want less than {self.vocab_size}. Check its sidecar."
            )
        return torch.from_numpy(idx), torch.from_numpy(targets)

    def _between(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Tokens [start, stop), fewer at the end; token -1 is an end of text."""
        n = self.tokens_an_id
        first = max(start, 0) // n
        ids = self._stored(first, -(-stop // n)).astype(np.int64)
        shifts = np.arange(n - 1, -1, -1) * self.token_bits
        tokens = (ids[:, None] >> shifts & ((1 << self.token_bits) - 1)).ravel() if n > 1 else ids
        found = tokens[max(start, 0) - first * n : stop - first * n]
        last_part = self.end_of_text & ((1 << self.token_bits) - 1)
        return np.append(last_part, found) if start < 0 else found

    def _stored(self, start: int, stop: int) -> Ids:
        """Stored ids [start, stop) of all files in a row."""
        pieces, at = [], 0
        for part in self.parts:
            pieces.append(part[max(start - at, 0) : max(stop - at, 0)])
            at += part.size
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


@dataclass
class TokenBatches:
    """Inputs and targets of a step, each (batch_size, block_size): blocks in a new random order every epoch.

    Attributes:
        tokens: to take blocks from.
        block_size: tokens of each.
        batch_size: number of blocks; a batch may reach into the next epoch.
        seed: the same seed and step give the same batch.
    """

    tokens: Tokens
    block_size: int
    batch_size: int
    seed: int
    _order: tuple[int, npt.NDArray[np.int64]] = field(default=(-1, np.empty(0, np.int64)), repr=False)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step."""
        n_blocks = self.tokens.n_blocks(self.block_size)
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        numbers = [int(self._order_of(place // n_blocks)[place % n_blocks]) for place in places]
        return self.tokens.blocks(numbers, self.block_size)

    def _order_of(self, epoch: int) -> npt.NDArray[np.int64]:
        """The order of the blocks in an epoch."""
        if self._order[0] != epoch:
            rng = np.random.default_rng((self.seed, epoch))
            self._order = epoch, rng.permutation(self.tokens.n_blocks(self.block_size))
        return self._order[1]


def of_ids(ids: Ids, like: Tokens | Sidecar, token_bits: int, original_bytes: int, name: str) -> Tokens:
    """Ids in memory as tokens, of the vocabulary of others."""
    return Tokens(
        (ids,), like.window_bits, token_bits, 1 << token_bits, original_bytes, like.end_of_text,
        like.fingerprint, name, like.unit_bits,
    )  # fmt: skip


def load(paths: Sequence[Path], token_bits: int | None = None) -> Tokens:
    """The tokens of files that share one vocabulary.

    Args:
        paths: token files, each with its sidecar. That of a file from elsewhere (nanoGPT's, llm.c's) need
            hold no more than `vocab_size` and `original_bytes`, and may hold `end_of_text`.
        token_bits: size of M2's tokens; that of the stored ids if None.

    Raises:
        FormatError: a file and its sidecar do not fit, or there is no sidecar.
        MismatchError: the files are of different codebooks.
        InputError: no tokens at all, or token_bits does not divide the size of an id.
        OSError: a file cannot be read.
    """
    parts, sidecars = list[Ids](), list[Sidecar]()
    for path in paths:
        sidecar = _sidecar(path)
        if sidecars and (found := _vocabulary(sidecar)) != (want := _vocabulary(sidecars[0])):
            raise MismatchError(
                f"{path}: of another vocabulary than {paths[0]}; found {found}, want {want}. "
                "Make all token files with one codebook."
            )
        sidecars.append(sidecar)
        parts.append(_ids(path, sidecar))
    first, name = sidecars[0], str(paths[0])
    bits = token_bits or first.window_bits
    if first.window_bits % bits or (bits != first.window_bits and first.vocab_size != 1 << first.window_bits):
        raise InputError(
            f"--token-bits: found {bits}, want a divisor of the {first.window_bits} bits of a window."
        )
    if not sum(part.size for part in parts):
        raise InputError(f"{name}: no tokens in it.")
    vocab_size = first.vocab_size if bits == first.window_bits else 1 << bits
    original_bytes = sum(sidecar.original_bytes for sidecar in sidecars)
    return Tokens(
        tuple(parts), first.window_bits, bits, vocab_size, original_bytes, first.end_of_text,
        first.fingerprint, name, first.unit_bits,
    )  # fmt: skip


def check(paths: Sequence[Path]) -> None:
    """Read token files once in full.

    Raises:
        FormatError: an id is out of the vocabulary, or the checksum is not that of the sidecar.
    """
    for path in paths:
        sidecar = _sidecar(path)
        ids = _ids(path, sidecar)
        crc = 0
        for start in range(0, ids.size, CHECKED_AT_ONCE):
            piece = ids[start : start + CHECKED_AT_ONCE]
            crc = zlib.crc32(piece.data, crc)
            if int(piece.max()) >= sidecar.vocab_size:
                raise FormatError(
                    f"{path}: an id is out of the vocabulary; found {piece.max()}, "
                    f"want less than {sidecar.vocab_size}. Make it again."
                )
        if sidecar.fingerprint and crc != sidecar.crc32:
            raise FormatError(f"{path}: damaged (checksum does not match its sidecar). Make it again.")


def _vocabulary(sidecar: Sidecar) -> str:
    """What must be the same for files that are trained on together."""
    return f"fingerprint {sidecar.fingerprint[:16]}" if sidecar.fingerprint else f"{sidecar.vocab_size} ids"


def _sidecar(path: Path) -> Sidecar:
    """What is said of a token file, ours or from elsewhere."""
    where = sidecar_path(path)
    if not path.is_file() or not where.is_file():
        missing = where if path.is_file() else path
        raise FormatError(
            f"{missing}: no such file. A token file needs its sidecar: eqinfo compress --tokens writes both; "
            'for one from elsewhere write {"vocab_size": N, "original_bytes": N}.'
        )
    with where.open("rb") as file:
        data = file.read(MAX_SIDECAR_BYTES)
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        fields = None
    needed, ours = {"vocab_size", "original_bytes"}, {"format", "fingerprint", "crc32", "sidecar_crc32"}
    if not isinstance(fields, dict) or ours & fields.keys() or not needed <= fields.keys():
        return Sidecar.from_json(data, str(where))
    numbers = [fields["vocab_size"], fields["original_bytes"], fields.get("end_of_text", END_OF_TEXT)]
    if not all(type(number) is int and number >= 0 for number in numbers) or not 2 <= numbers[0] <= 1 << 32:
        raise FormatError(f"{where}: vocab_size, original_bytes and end_of_text must be whole numbers.")
    vocab_size, original_bytes, end_of_text = numbers
    bits = (vocab_size - 1).bit_length()
    n_bytes = path.stat().st_size - _header_bytes(path)
    if n_bytes < 0:
        raise FormatError(f"{path}: truncated; the header of llm.c has {LLM_C_HEADER_BYTES} bytes.")
    n_ids = n_bytes // token_type(bits).itemsize
    return Sidecar(vocab_size, bits, "", n_ids, original_bytes, 0, end_of_text, 0)


def _header_bytes(path: Path) -> int:
    """What llm.c puts before the ids; 0 for other files."""
    with path.open("rb") as file:
        start = np.frombuffer(file.read(8).ljust(8, b"\0"), "<i4")
    return LLM_C_HEADER_BYTES if start[0] == LLM_C_MAGIC and start[1] in (1, 2) else 0


def _ids(path: Path, sidecar: Sidecar) -> Ids:
    """The ids of a file, memory-mapped."""
    offset = 0 if sidecar.fingerprint else _header_bytes(path)
    dtype = token_type(sidecar.window_bits)
    found, want = path.stat().st_size - offset, sidecar.tokens * dtype.itemsize
    if found != want:
        word = "shorter" if found < want else "longer"
        raise FormatError(
            f"{path}: {word} than its sidecar says; found {found} bytes, want {want}. Make it again."
        )
    return np.memmap(path, dtype, "r", offset, sidecar.tokens) if want else np.empty(0, dtype)
