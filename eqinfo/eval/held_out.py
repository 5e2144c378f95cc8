"""The held-out text that eval measures on: its documents in memory, its words, and its tokens for a run.

What this module does not do: measure anything (`measure`), or open files (`cli`).
"""

import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np

from eqinfo.errors import InputError, MismatchError
from eqinfo.formats import file_kind, token_file
from eqinfo.formats.codec import Codec
from eqinfo.formats.id_file import token_type
from eqinfo.formats.model_folder import Model
from eqinfo.formats.token_file import Sidecar
from eqinfo.m2 import batches as m2_batches
from eqinfo.m2.batches import Tokens
from eqinfo.m2.trained import M2
from eqinfo.text.documents import is_jsonl, read_pieces
from eqinfo.text.frames import Frame, frames_of_pieces, pieces_of_frames

MAX_TEXT_BYTES = 1 << 24  # a longer text is cut to its first frames of this size
WHITESPACE = np.isin(np.arange(256), list(b" \t\n\r\v\f"))  # (256,): the bytes that separate words


@dataclass(frozen=True)
class HeldOut:
    """A text to measure on.

    >>> HeldOut("a.txt", [Frame(b"to be or", [5]), Frame(b" not")]).words
    4

    Attributes:
        name: the path that the user gave, or stdin.
        frames: the text. Empty for token files of other programs, whose text is unknown.
        is_whole: false if the text was cut to MAX_TEXT_BYTES.
        tokens: the ids, if the text is a token file. A run with the same vocabulary is measured on them.
    """

    name: str
    frames: list[Frame]
    is_whole: bool = True
    tokens: Tokens | None = None

    @property
    def original_bytes(self) -> int:
        """Size of the text in bytes."""
        if self.frames:
            return sum(len(frame.text) for frame in self.frames)
        return self.tokens.sidecar.original_bytes if self.tokens else 0

    @property
    def stream_frames(self) -> list[Frame]:
        """The frames that `compress` writes: it marks document ends only in JSONL and token files."""
        if is_jsonl(self.name) or self.tokens is not None or len(self.document_ends) > 1:
            return self.frames
        return [Frame(frame.text) for frame in self.frames]

    @property
    def data(self) -> bytes:
        """The whole text."""
        return b"".join(frame.text for frame in self.frames)

    @property
    def document_ends(self) -> list[int]:
        """The offsets in `data` at which documents end."""
        starts = accumulate((len(text) for text, _ in self.frames), initial=0)
        return [at + end for at, (_, ends) in zip(starts, self.frames, strict=False) for end in ends]

    @property
    def words(self) -> int | None:
        """Number of words: runs of bytes that are not white space, inside one document. None if unknown."""
        count, in_word = 0, False
        for frame in self.frames:
            is_word = ~WHITESPACE[np.frombuffer(frame.text, np.uint8)]
            follows = np.append(in_word, is_word)  # whether the byte before is in the same word
            follows[list(frame.document_ends)] = False
            count += int(np.count_nonzero(is_word & ~follows[:-1]))
            in_word = bool(follows[-1])
        return count if self.frames else None


def read_held_out(
    source: BinaryIO,
    path: Path | None,
    text_field: str,
    folders: Sequence[Path],
    as_jsonl: bool = False,
    skip_bad: bool = False,
) -> HeldOut:
    """A text to measure on.

    Args:
        source: the bytes, decompressed, as `decompression.open_text` returns them.
        path: their file; None for stdin. It is a token file if its sidecar is beside it.
        text_field: the field of JSONL records that holds the text.
        folders: the models and runs to measure. One of them must have the codec of a token file.
        as_jsonl: read JSONL under any name.
        skip_bad: pass over records without text.

    Raises:
        InputError: there is no text, or it cannot be read.
        FormatError: a token file does not fit its sidecar.
        MismatchError: a token file was made with a codec that none of the folders has.
    """
    if path is not None and file_kind.is_token_file(path):
        return _held_out_of_tokens(source, path, folders)
    name = "stdin" if path is None else str(path)
    frames, is_whole = _beginning(frames_of_pieces(read_pieces(source, name, text_field, as_jsonl, skip_bad)))
    if not any(frame.text for frame in frames):
        raise InputError(f"{name}: no text in it. Give another --text.")
    return HeldOut(name, frames, is_whole)


def _held_out_of_tokens(source: BinaryIO, path: Path, folders: Sequence[Path]) -> HeldOut:
    """The ids of a token file and the text that they decode to, if its codec is known."""
    ids = m2_batches.load([path])
    sidecar = ids.sidecar
    if not sidecar.original_bytes:
        if ids.n_tokens and not sidecar.fingerprint:
            raise InputError(f"{path}: its sidecar gives 0 original_bytes. Write there how many they are.")
        raise InputError(f"{path}: no text in it. Give another --text.")
    if not sidecar.fingerprint:
        return HeldOut(str(path), [], tokens=ids)
    codec = _find_codec(sidecar, path, folders)
    chunks, is_whole = _beginning(token_file.read(source, sidecar, codec, str(path)))
    n_ids = len(chunks) * token_file.READ_TOKENS  # the last chunk may have fewer; slicing allows for it
    if sidecar.unit_bits:
        n_ids = sum(sidecar.frame_ids[: len(chunks)])
    n_bytes = sum(len(chunk.text) for chunk in chunks)
    begun = replace(ids, parts=(ids.parts[0][:n_ids],), sidecar=replace(sidecar, original_bytes=n_bytes))
    return HeldOut(str(path), list(frames_of_pieces(pieces_of_frames(chunks))), is_whole, begun)


def _beginning(frames: Iterable[Frame]) -> tuple[list[Frame], bool]:
    """The first frames, at most MAX_TEXT_BYTES in all but at least one; and whether these are all frames."""
    kept, n_bytes = list[Frame](), 0
    for frame in frames:
        n_bytes += len(frame.text)
        if kept and n_bytes > MAX_TEXT_BYTES:
            return kept, False
        kept.append(frame)
    return kept, True


def _find_codec(sidecar: Sidecar, path: Path, folders: Sequence[Path]) -> Codec:
    """The codec that a token file was made with: of a folder, or of a codebook file in one."""
    for model in (where for folder in folders for where in (folder, *sorted(folder.glob("*.eqcb")))):
        with suppress(InputError, MismatchError):
            return sidecar.find_codec(Model(model), str(path))
    raise MismatchError(
        f"{path}: made with a model that is none of the folders; found fingerprint "
        f"{sidecar.fingerprint[:16]}. Give the text itself, or a run that was trained on such tokens."
    )


def tokens_for(loaded: M2, folder: Path, held_out: HeldOut) -> Tokens:
    """The text as a run's tokens: the given ids if they have its vocabulary, else encoded with its codec.

    Raises:
        InputError: the run has no codec, or the text is unknown.
    """
    token_bits, fingerprint = loaded.config["settings"]["token_bits"], loaded.config["fingerprint"]
    given = held_out.tokens
    if given is not None and given.sidecar.fingerprint == fingerprint:
        tokens = m2_batches.of_ids(given.parts, [given.sidecar], token_bits, given.name)
        want = loaded.model.config.vocab_size
        if not fingerprint and tokens.vocab_size != want:
            raise MismatchError(
                f"{held_out.name}: of another vocabulary than {folder}; found {tokens.vocab_size} ids, "
                f"want {want}. Give a token file made as those it was trained on."
            )
        return replace(tokens, vocab_size=want)
    if not fingerprint and given is None:
        raise InputError(
            f"{held_out.name}: text, but {folder} was trained on ids of another program. "
            "Give a token file made as those."
        )
    if loaded.codec is None or not held_out.frames:
        raise InputError(
            f"{held_out.name}: not the vocabulary of {folder}; found fingerprint "
            f"{given.sidecar.fingerprint[:16] if given else None}, want {fingerprint[:16] or None}. "
            "Give a token file made as those it was trained on."
        )
    sink = io.BytesIO()
    sidecar = token_file.write(held_out.frames, sink, loaded.codec)
    ids = np.frombuffer(sink.getbuffer(), token_type(sidecar.window_bits))
    return m2_batches.of_ids([ids], [sidecar], token_bits, held_out.name)
