"""M2's dataloader: token ids of one or more files, in blocks, in a seeded random order.

The ids of all files are one sequence that begins after an end of text. Block n of length T has the tokens
[n T, (n + 1) T) as targets and, as inputs, the token before each. So every token is a target exactly once an
epoch. A batch is a pure function of seed and step, so a resumed run knows its data position from its step.

What this module does not do: decode tokens, or change files.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eqinfo.errors import FormatError, InputError, MismatchError, OptionError
from eqinfo.formats.id_file import IdFile
from eqinfo.formats.token_file import Sidecar
from eqinfo.m2.data_files import check_width, open_tokens
from eqinfo.system.arrays import I64, Ids

SLICE_IDS = 1 << 22  # ids in a slice of `check`


@dataclass(frozen=True)
class Tokens:
    """A sequence of ids, read as M2's tokens.

    >>> ids = np.array([5, 6, 7], np.uint16)
    >>> sidecar = Sidecar(vocab_size=300, window_bits=16, fingerprint="", tokens=3, original_bytes=9)
    >>> tokens = Tokens((ids,), sidecar, token_bits=16, vocab_size=300, name="ids.bin")
    >>> [t.tolist() for t in tokens.blocks([0], block_size=4)]
    [[[0, 5, 6, 0]], [[5, 6, 7, -1]]]

    Attributes:
        parts: the stored ids of each file, uint16 or uint32.
        sidecar: of the first file, with the original_bytes of all. A file of another program has a sidecar
            without fingerprint.
        token_bits: size of a token in bits, a divisor of the sidecar's window_bits. A stored id is
            window_bits / token_bits tokens, high bits first.
        vocab_size: number of different tokens.
        name: of the first file, for messages.
    """

    parts: tuple[Ids | IdFile, ...]
    sidecar: Sidecar
    token_bits: int
    vocab_size: int
    name: str

    @property
    def tokens_an_id(self) -> int:
        """Number of tokens in a stored id."""
        return self.sidecar.window_bits // self.token_bits

    @property
    def n_tokens(self) -> int:
        """Number of tokens in all files."""
        return int(self._part_ends[-1]) * self.tokens_an_id

    @cached_property
    def _part_ends(self) -> I64:
        """Where each part ends in the sequence of ids: the sum of the sizes up to it."""
        return np.cumsum([part.size for part in self.parts])

    @property
    def bytes_per_token(self) -> float:
        """Original bytes / tokens."""
        return self.sidecar.original_bytes / self.n_tokens

    def n_blocks(self, block_size: int) -> int:
        """Number of blocks; the last one may be shorter."""
        return -(-self.n_tokens // block_size)

    def blocks(self, numbers: Sequence[int], block_size: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of some blocks, each (len(numbers), block_size), int64.

        Args:
            numbers: which blocks, in [0, n_blocks).
            block_size: their length in tokens. After the last token, inputs are 0 and targets -1.

        Raises:
            InputError: an id is not below vocab_size.
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

    def _between(self, start: int, stop: int) -> I64:
        """Tokens [start, stop), fewer at the end of the sequence; token -1 is an end of text."""
        mask = (1 << self.token_bits) - 1
        if start < 0:  # the last token of the end of text before all ids
            return np.append(self.sidecar.end_of_text & mask, self._between(0, stop))
        n = self.tokens_an_id
        first, last = start // n, -(-stop // n)  # stored ids [first, last) hold these tokens
        ends, at = self._part_ends, first
        pieces = [np.empty(0, np.int64)]
        for k in range(int(np.searchsorted(ends, first, "right")), len(ends)):
            if at >= last:
                break
            part_start = int(ends[k]) - self.parts[k].size
            pieces.append(self.parts[k][at - part_start : last - part_start].astype(np.int64))
            at += pieces[-1].size
        ids = np.concatenate(pieces)
        if n > 1:
            shifts = np.arange(n - 1, -1, -1) * self.token_bits
            ids = (ids[:, None] >> shifts & mask).ravel()
        return ids[start - first * n : stop - first * n]


@dataclass(frozen=True)
class TokenBatches:
    """Inputs and targets of a step, each (batch_size, block_size): blocks in a new random order each epoch.

    Attributes:
        tokens: the data.
        block_size: length of a block in tokens.
        batch_size: number of blocks in a batch. A batch may end in the next epoch.
        seed: batches are a function of seed and step.
    """

    tokens: Tokens
    block_size: int
    batch_size: int
    seed: int

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step."""
        n_blocks = self.tokens.n_blocks(self.block_size)
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        numbers = [int(_order(self.seed, place // n_blocks, n_blocks)[place % n_blocks]) for place in places]
        return self.tokens.blocks(numbers, self.block_size)


@lru_cache(1)  # batches come in order, so epochs too
def _order(seed: int, epoch: int, n_blocks: int) -> I64:
    """The order of the blocks in an epoch."""
    return np.random.default_rng((seed, epoch)).permutation(n_blocks)


def load(paths: Sequence[Path], token_bits: int | None = None) -> Tokens:
    """The tokens of files that share one vocabulary.

    Args:
        paths: token files, each with its sidecar. The sidecar of a file of another program (nanoGPT, llm.c)
            needs only `vocab_size` and `original_bytes`, and may have `end_of_text`.
        token_bits: size of M2's tokens in bits; that of the stored ids if None.

    Raises:
        FormatError: a file does not fit its sidecar, or has none.
        MismatchError: the files are of different codebooks.
        InputError: there are no ids, or token_bits does not divide the size of an id.
        OSError: a file cannot be read.
    """
    parts, sidecars = list[Ids | IdFile](), list[Sidecar]()
    for path in paths:
        sidecar, ids = open_tokens(path)
        sidecars.append(sidecar)
        parts.append(ids)
        check_vocabulary(path, sidecar, paths[0], sidecars[0])
    if not sum(part.size for part in parts):
        raise InputError(f"{paths[0]}: no tokens in it.")
    return of_ids(parts, sidecars, token_bits, str(paths[0]))


def of_ids(
    parts: Sequence[Ids | IdFile], sidecars: Sequence[Sidecar], token_bits: int | None, name: str
) -> Tokens:
    """Wraps id arrays as Tokens, with the vocabulary of their sidecars.

    Args:
        parts: the ids, an array for each sidecar.
        sidecars: of one vocabulary.
        token_bits: size of a token in bits; that of an id if None.
        name: of the first file, for messages.

    Raises:
        InputError: token_bits does not divide the size of an id.
    """
    first = sidecars[0]
    bits, vocab_size = token_bits or first.window_bits, first.vocab_size
    if bits != first.window_bits:
        if vocab_size != 1 << first.window_bits:
            raise OptionError(f"--token-bits: found ids below {vocab_size}, want windows: ids below 2^BITS.")
        if first.window_bits % bits:
            raise OptionError(
                f"--token-bits: found {bits}, want a divisor of the {first.window_bits} bits of a window."
            )
        vocab_size = 1 << bits
    whole = replace(first, original_bytes=sum(sidecar.original_bytes for sidecar in sidecars))
    return Tokens(tuple(parts), whole, bits, vocab_size, name)


def check(paths: Sequence[Path]) -> list[int]:
    """Read token files once in full, and check every id and the checksum; the CRC-32 of the ids of each.

    Raises:
        FormatError: an id is out of the vocabulary, or the checksum is not that of the sidecar.
    """
    checksums = []
    for path in paths:
        sidecar, ids = open_tokens(path)
        crc = 0
        for start in range(0, ids.size, SLICE_IDS):
            piece = ids[start : start + SLICE_IDS]
            crc = zlib.crc32(piece.data, crc)
            if not sidecar.fingerprint and not start:
                check_width(piece, sidecar.vocab_size, path)
            if int(piece.max()) >= sidecar.vocab_size:
                raise FormatError(
                    f"{path}: an id is out of the vocabulary; found {piece.max()}, "
                    f"want less than {sidecar.vocab_size}. Make it again."
                )
        if sidecar.fingerprint and crc != sidecar.crc32:
            raise FormatError(f"{path}: damaged (checksum does not match its sidecar). Make it again.")
        checksums.append(crc)
    return checksums


def check_vocabulary(path: Path | str, sidecar: Sidecar, first_path: Path | str, first: Sidecar) -> None:
    """Raises MismatchError if a token file has another vocabulary than the first one."""
    found, want = (
        f"fingerprint {facts.fingerprint[:16]}" if facts.fingerprint else f"{facts.vocab_size} ids"
        for facts in (sidecar, first)
    )
    if found != want:
        raise MismatchError(
            f"{path}: of another vocabulary than {first_path}; found {found}, want {want}. "
            "Make all token files with one codebook."
        )
