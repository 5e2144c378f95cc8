"""What the commands share: which model, which inputs and outputs, and what to say of them."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from eqinfo.cli import console
from eqinfo.errors import InputError
from eqinfo.system.atomic_files import NamedSink, replacing

if TYPE_CHECKING:
    from eqinfo.codebook.codebook import Method
    from eqinfo.formats.codec import Codec
    from eqinfo.formats.eqi import Finder, Totals
    from eqinfo.text.frames import Frame


def load_codec(
    model: Path | None,
    window_bits: str | None,
    carry: bool,
    rule: str,
    method: "Method | None",
    unaligned_penalty: float | None,
) -> "Codec":
    """The codec that a user asks for: see `Model.codec`; a codebook's with another way to cut if given."""
    from eqinfo.formats.codec import CodebookCodec
    from eqinfo.formats.model_folder import Model

    codec = Model(model).codec(window_bits, carry, rule)
    if method is None and unaligned_penalty is None:
        return codec
    if not isinstance(codec, CodebookCodec):
        raise InputError("--method, --unaligned-penalty: for codebooks only; M1 leaves no choice of cuts.")
    codebook = codec.codebook
    if method is not None:
        codebook = replace(codebook, method=method)
    if unaligned_penalty is not None:
        codebook = replace(codebook, unaligned_penalty=unaligned_penalty)
    return CodebookCodec(codebook)


def target(name: Path, output: Path | None, stdout: bool, suffix: str) -> Path | None:
    """Where the compressed form of an input goes; None is stdout."""
    if stdout or output == console.STANDARD or (output is None and name == console.STANDARD):
        return None
    return output or Path(f"{name}{suffix}")


def restored(name: Path, output: Path | None, stdout: bool, suffix: str) -> Path | None:
    """Where the text of a compressed input goes; None is stdout."""
    if stdout or output is not None or name == console.STANDARD:
        return target(name, output, stdout, "")
    stem = name.name.removesuffix(suffix)
    if stem in ("", name.name):
        raise InputError(f"{name}: unknown suffix; want {suffix}. Name the output with -o.")
    return name.with_name(stem)


def read_text(
    stack: ExitStack, name: Path, tokens: bool, jsonl: bool, text_field: str, size: int
) -> tuple[BinaryIO, Iterator["Frame"]]:
    """The frames of an input, of so many bytes, and what they are read from.

    Streams keep the bytes of a file as they are. Token files are made of text as `train-m1` reads it.
    """
    from eqinfo.text import documents, frames

    as_text = tokens or (jsonl and documents.is_jsonl(name.name))
    source = stack.enter_context(console.open_input(name, documents.open_text if as_text else None))
    if jsonl and not documents.is_jsonl(name.name):
        records = documents.read_documents(source, str(name), text_field)
        return source, frames.frames_of_pieces(((document, True) for document in records), size)
    if as_text:
        return source, frames.frames_of_pieces(documents.read_pieces(source, str(name), text_field), size)
    return source, frames.frames_of_bytes(source, size)


def open_tokens(
    stack: ExitStack, target: Path | None, name: Path, force: bool
) -> tuple[NamedSink, NamedSink]:
    """Where token ids and their sidecar go: both appear when the stack closes, the sidecar last."""
    from eqinfo.formats.token_file import sidecar_path

    if target is None or (target.exists() and not target.is_file()):
        raise InputError("--tokens: the ids need a file, for the sidecar beside it. Name one with -o.")
    sidecar = stack.enter_context(replacing(sidecar_path(target), force))
    return stack.enter_context(console.open_output(target, name, force)), sidecar


def read_frames(
    source: BinaryIO, finder: "Finder", name: Path, is_tokens: bool, threads: int
) -> Iterator["Frame"]:
    """The text of a stream or of a token file."""
    from eqinfo.formats import eqi, token_file

    if not is_tokens:
        return eqi.read_frames(source, finder, str(name), threads)
    return token_file.read(source, token_file.Sidecar.load(token_file.sidecar_path(name)), finder, str(name))


def span(byte_range: str | None) -> tuple[int, int | None] | None:
    """The two ends of `--range`; either may be left out."""
    if byte_range is None:
        return None
    match = re.fullmatch(r"([0-9]{0,18}):([0-9]{0,18})", byte_range)
    start, end = (int(match[1] or 0), int(match[2]) if match[2] else None) if match else (1, 0)
    if end is not None and end < start:
        raise typer.BadParameter(
            f"found {byte_range!r}, want START:END in bytes, START <= END", param_hint="--range"
        )
    return start, end


def summary(name: Path, totals: "Totals", codec: "Codec") -> str:
    """What `compress -v` says of a file."""
    from eqinfo.formats.codec import AC_UNIT_BITS

    ratio = totals.original_bytes / max(totals.compressed_bytes, 1)
    rate = f"{totals.original_bytes / max(totals.windows, 1):.2f} bytes/window"
    if codec.unit_bits == AC_UNIT_BITS:  # no windows
        rate = f"{8 * totals.compressed_bytes / max(totals.original_bytes, 1):.3f} bits/byte"
    return f"{name}: {totals.original_bytes} -> {totals.compressed_bytes} bytes, ratio {ratio:.2f}, {rate}"
