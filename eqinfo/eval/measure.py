"""Measures models and runs on a text, with gzip, zstd and xz to compare with.

Every compressed size is that of a stream that was decompressed again and compared with the text.

What this module does not do: format figures for people (`tables`), or print them (`cli`).
"""

import gzip
import io
import lzma
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard

from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import FormatError, InputError, argument
from eqinfo.eval.held_out import HeldOut, tokens_for
from eqinfo.eval.results import Compressed, LiveRow, M1Row, M2Row, Results, TextFacts
from eqinfo.formats import eqi
from eqinfo.formats.codec import AC_UNIT_BITS, CodebookCodec, Codec
from eqinfo.formats.model_folder import AC, Model, model_name
from eqinfo.m1 import run as m1_run
from eqinfo.m1.corpus import Text
from eqinfo.m1.measure import bits_by_position, window_use
from eqinfo.m2 import run as m2_run
from eqinfo.m2.generate import stream
from eqinfo.m2.measure import total_nats
from eqinfo.m2.trained import M2, checkpoint_of, load_m2
from eqinfo.text.frames import Frame
from eqinfo.training import run_folder

# The speed of generation is measured on continuations of the beginning of the text.
PROMPT_BYTES, GENERATED_BYTES = 256, 1024
MAX_CONTINUATIONS = 4  # M2 may end one early
# Streams in which M1 runs take seconds for so many bytes, the beginning of the text.
LIVE_BYTES, LIVE_KINDS = 1 << 17, ("64", AC)


def _xz(data: bytes) -> bytes:
    """`xz -9`, its search window no larger than the data: the same size, without 674 MB of memory."""
    window_bytes = max(1 << 16, min(1 << 26, len(data)))
    return lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": window_bytes}])


# name: compress, decompress
COMPRESSORS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gzip -9": (lambda data: gzip.compress(data, 9, mtime=0), gzip.decompress),
    "zstd -19": (zstandard.ZstdCompressor(level=19).compress, zstandard.ZstdDecompressor().decompress),
    "xz -9": (_xz, lzma.decompress),
}


def read_configs(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The config.json of each folder, model or run.

    Raises:
        FormatError: a folder is neither a model nor a run, or its M1 is not complete.
    """
    configs = []
    for folder in folders:
        kind = run_folder.read_config(folder)["format"].removeprefix("eqinfo ")
        config = (m1_run if kind == "m1" else m2_run).read_config(folder)
        if "measured" not in config and kind == "m2":
            checkpoint_of(folder)
        elif "measured" not in config:
            raise FormatError(
                f"{folder}: the run is not complete. Complete it: "
                f"eqinfo train-m1 -o {argument(folder)} --resume"
            )
        configs.append(config)
    return configs


def measure(
    folders: Sequence[Path], held_out: HeldOut | None, device: torch.device, report: run_folder.Report
) -> Results:
    """The figures of models and runs: those of training and, if there is a text, those on the text.

    Args:
        folders: models and runs that `read_configs` accepts.
        held_out: the text.
        device: for M2.
        report: called with the progress.

    Raises:
        EqinfoError: a folder is damaged, or the text does not suit it.
    """
    m1_rows, live_rows, m2_rows = list[M1Row](), list[LiveRow](), list[M2Row]()
    for folder, config in zip(folders, read_configs(folders), strict=True):
        if config["format"] == "eqinfo m1":
            m1_rows += _m1_rows(folder, config, held_out, report)
            live_rows += [] if held_out is None else _live_rows(folder, held_out, report)
        else:
            m2_rows.append(_m2_row(folder, held_out, device, report))
    m1_rows.sort(key=lambda row: -(row.bytes_per_window or 0))
    m2_rows.sort(key=lambda row: math.inf if row.bits_per_byte is None else row.bits_per_byte)
    text = None if held_out is None else _text_facts(held_out, COMPRESSORS if m1_rows else (), report)
    return Results(text, m1_rows, live_rows, m2_rows)


@contextmanager
def _phase(report: run_folder.Report, name: str) -> Iterator[None]:
    """Reports the beginning and the end of a phase."""
    report(name, 0.0, "")
    yield
    report(name, 1.0, "")


def _text_facts(held_out: HeldOut, compressors: Iterable[str], report: run_folder.Report) -> TextFacts:
    """Facts of the text, and its size after each of these compressors."""
    rows = []
    for name in compressors:
        with _phase(report, name):
            size = compressed_size(held_out.data, name, held_out.name)
        rows.append(Compressed(name, size, held_out.original_bytes / size))
    documents = len(held_out.document_ends) if held_out.frames else None
    return TextFacts(
        held_out.name, held_out.original_bytes, documents, held_out.words, held_out.is_whole, rows
    )


def compressed_size(data: bytes, compressor: str, where: str) -> int:
    """Size in bytes of data after one of COMPRESSORS; the result is decompressed and compared."""
    compress, decompress = COMPRESSORS[compressor]
    packed = compress(data)
    _check(decompress(packed) == data, where, compressor)
    return len(packed)


def stream_totals(codec: Codec, frames: list[Frame], where: str) -> eqi.Totals:
    """Sizes of the .eqi stream of frames; the stream is decompressed and compared."""
    sink = io.BytesIO()
    totals = eqi.compress(frames, sink, codec)
    sink.seek(0)
    decoded = [(text, list(ends)) for text, ends in eqi.read_frames(sink, codec, where)]
    _check(decoded == [(text, list(ends)) for text, ends in frames], where, ".eqi")
    return totals


def _check(same: bool, where: str, what: str) -> None:
    """Raises FormatError if a text differs after compressing and decompressing."""
    if not same:
        raise FormatError(f"{where}: did not come back from {what}; no figure is given.")


def _finite(figure: float) -> float | None:
    """The figure, or None if it is not finite: JSON has no such numbers."""
    return figure if math.isfinite(figure) else None


def _m1_rows(
    folder: Path, config: dict[str, Any], held_out: HeldOut | None, report: run_folder.Report
) -> list[M1Row]:
    """The rows of a model's codebooks and of the published rule's, unless that is the model's own."""
    rule, model = config["settings"]["rule"], Model(folder)
    codebooks = [(rule, model.codebook)]
    codebooks += [("fitted", model.codebook_of(bits)) for bits in model.further_widths()]
    if rule != "published":
        codebooks.append(("published", Codebook.load(folder / m1_run.BASELINE)))
    rows = [
        M1Row(model_name(folder), name, codebook.fingerprint.hex(), codebook.window_bits,
              None if at else config["measured"])
        for at, (name, codebook) in enumerate(codebooks)
    ]  # fmt: skip
    if held_out is None:
        return rows
    if not held_out.frames:
        raise InputError(f"{held_out.name}: ids without their text, which {folder} needs. Give the text.")
    network, n_bytes = m1_run.load_m1(folder), held_out.original_bytes
    text = Text(np.frombuffer(held_out.data, np.uint8), np.array(held_out.document_ends, np.int64))
    measured = []
    for row, (_, codebook) in zip(rows, codebooks, strict=True):
        with _phase(report, f"{model_name(folder)}: windows of {row.window_bits} bits, {row.rule}"):
            use = window_use(codebook, held_out.frames)
            totals = stream_totals(CodebookCodec(codebook), held_out.stream_frames, held_out.name)
            size = totals.compressed_bytes
        with _phase(report, f"{model_name(folder)}: M1 at their starts"):
            bits = bits_by_position(network, codebook, text)
        measured.append(
            replace(
                row,
                bytes_per_window=n_bytes / use.n_windows,
                windows=use.n_windows,
                windows_used=use.n_used,
                aligned_share=use.n_aligned / use.n_cuts if use.n_cuts else None,
                entropy_bits=use.entropy_bits,
                kl_to_uniform_bits=codebook.window_bits - use.entropy_bits,
                compressed_bytes=size,
                compression_ratio=n_bytes / size,
                bits_per_byte_by_position=[_finite(figure) for figure in bits],
            )
        )
    return measured


def _live_rows(folder: Path, held_out: HeldOut, report: run_folder.Report) -> list[LiveRow]:
    """The rows of streams in which the model's M1 runs, of the beginning of the text."""
    text, ends = next(frame for frame in held_out.stream_frames if frame.text)
    part = Frame(text[:LIVE_BYTES], [end for end in ends if end <= LIVE_BYTES])
    rows, n_bytes = [], len(part.text)
    for kind in LIVE_KINDS:
        codec = Model(folder).codec(kind, False, "live")
        with _phase(report, f"{model_name(folder)}: {kind}"):
            totals = stream_totals(codec, [part], held_out.name)
        is_ac, size = codec.unit_bits == AC_UNIT_BITS, totals.compressed_bytes
        n_windows = totals.windows - totals.documents
        bits, rate = (None, None) if is_ac else (codec.unit_bits, n_bytes / n_windows)
        rows.append(LiveRow(model_name(folder), bits, n_bytes, rate, size, n_bytes / size))
    return rows


def _m2_row(folder: Path, held_out: HeldOut | None, device: torch.device, report: run_folder.Report) -> M2Row:
    """The row of a run."""
    loaded = load_m2(folder, device)
    shape = loaded.model.config
    text = None if held_out is None else held_out.name
    measured = loaded.config["measured"]
    row = M2Row(
        str(folder), text, device.type, shape.vocab_size, shape.n_params, measured, loaded.is_complete
    )
    if held_out is None:
        return row
    ids = tokens_for(loaded, folder, held_out)
    with _phase(report, f"{folder}: scoring"):
        # a warm-up, so that the time leaves out what torch sets up on first use
        total_nats(loaded.model, replace(ids, parts=(ids.parts[0][: shape.block_size],)))
        started = time.monotonic()
        nats = total_nats(loaded.model, ids)
        scoring_s = time.monotonic() - started
    with _phase(report, f"{folder}: generating"):
        generation_bytes_per_s = _generation_bytes_per_s(loaded, held_out.data[:PROMPT_BYTES])
    n_bytes = held_out.original_bytes
    tokens_per_byte = ids.n_tokens / n_bytes
    return replace(
        row,
        bits_per_byte=_finite(nats / math.log(2) / n_bytes),
        word_perplexity=_perplexity(nats, held_out.words),
        tokens_per_byte=tokens_per_byte,
        flops_per_byte=2 * shape.n_params * tokens_per_byte,
        with_output_flops_per_byte=2 * (shape.n_params + shape.vocab_size * shape.n_embd) * tokens_per_byte,
        bytes_per_step=1 / tokens_per_byte,
        scoring_bytes_per_s=n_bytes / scoring_s,
        generation_bytes_per_s=generation_bytes_per_s,
    )


def _perplexity(nats: float, words: int | None) -> float | None:
    """Perplexity per word; None if there are no words, or if it exceeds 1e300."""
    if not words or not nats / words < math.log(1e300):
        return None
    return math.exp(nats / words)


def _generation_bytes_per_s(loaded: M2, prompt: bytes) -> float | None:
    """Speed of generation after the prompt; None if the tokens are not the windows of a codebook."""
    model, codebook = loaded.model, loaded.codebook
    if codebook is None:
        return None
    n_bytes, time_s = 0, 0.0
    for seed in range(MAX_CONTINUATIONS):
        pieces = stream(model, codebook, prompt, GENERATED_BYTES, temperature=1.0, top_k=None, seed=seed)
        next(pieces, b"")  # reads the prompt, which the time leaves out
        started = time.monotonic()
        n_bytes += sum(map(len, pieces))
        time_s += time.monotonic() - started
        if n_bytes >= GENERATED_BYTES // 2:
            break
    return n_bytes / time_s if n_bytes else None
