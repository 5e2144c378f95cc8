"""eval: what models and runs are worth on a text, as one document, as tables and as a figure.

The document is what `eqinfo eval --json` prints: `text` (`TextFacts`, or null without a text), `m1` (of
`M1Row`) and `m2` (of `M2Row`), with the attributes of these classes as keys. What was not measured, or is
not finite, is null. Sizes are of streams that were decoded back and compared. What this module does not
do: print (`console`), or train.
"""

import gzip
import io
import json
import lzma
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import torch
import zstandard

from eqinfo import container, m1, m2, runs, shards, tokens
from eqinfo.codebook import Codebook
from eqinfo.corpus import Text
from eqinfo.errors import FormatError, InputError, MismatchError
from eqinfo.evaluate import bits_by_position, total_nats, window_use
from eqinfo.files import CODEBOOK_NAME
from eqinfo.frames import Frame, frames_of_pieces
from eqinfo.generate import stream
from eqinfo.shards import Tokens
from eqinfo.text import is_jsonl, read_pieces

Report = Callable[[str, float, str], None]  # a phase, the share of it that is done, a word about it

MAX_TEXT_BYTES = 1 << 26  # held in memory; of a longer text the beginning is measured
PROMPT_BYTES = 256  # of the text, and
GENERATED_BYTES = 512  # after it, to measure how fast
WHITESPACE = np.isin(np.arange(256), list(b" \t\n\r\v\f"))  # what separates words


def _xz(data: bytes) -> bytes:
    """`xz -9`, its search window no larger than the data: the same size, without 674 MB of memory."""
    window_bytes = max(1 << 16, min(1 << 26, len(data)))
    return lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": window_bytes}])


# Both directions of what everybody has, to compare with.
COMPRESSORS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gzip -9": (lambda data: gzip.compress(data, 9, mtime=0), gzip.decompress),
    "zstd -19": (zstandard.ZstdCompressor(level=19).compress, zstandard.ZstdDecompressor().decompress),
    "xz -9": (_xz, lzma.decompress),
}


@dataclass(frozen=True)
class HeldOut:
    """A text to measure on.

    Attributes:
        name: as the user gave it.
        frames: its documents, as `compress` cuts them; none for token files from elsewhere, of which only
            the size of the text is known.
        is_whole: whether nothing of it was left out.
        tokens: the ids of a token file; a run with the same vocabulary is measured on these very ids.
    """

    name: str
    frames: list[Frame]
    is_whole: bool = True
    tokens: Tokens | None = None

    @property
    def original_bytes(self) -> int:
        """Size of the text."""
        if self.frames:
            return sum(len(frame.text) for frame in self.frames)
        return self.tokens.original_bytes if self.tokens else 0

    @property
    def data(self) -> bytes:
        """All of the text."""
        return b"".join(frame.text for frame in self.frames)

    @property
    def document_ends(self) -> list[int]:
        """Where documents end in `data`."""
        starts = np.cumsum([0, *(len(frame.text) for frame in self.frames)]).tolist()
        return [at + end for at, frame in zip(starts, self.frames, strict=False) for end in frame.document_ends]

    @property
    def words(self) -> int | None:
        """Number of runs of bytes that are not white space; documents end words."""
        count, in_word = 0, False
        for frame in self.frames:
            is_word = ~WHITESPACE[np.frombuffer(frame.text, np.uint8)]
            follows = np.append(in_word, is_word)  # whether the byte before belongs to the same word
            follows[list(frame.document_ends)] = False
            count += int(np.count_nonzero(is_word & ~follows[:-1]))
            in_word = bool(follows[-1])
        return count if self.frames else None


@dataclass(frozen=True)
class Compressed:
    """What a general compressor made of the text."""

    name: str
    compressed_bytes: int
    compression_ratio: float


@dataclass(frozen=True)
class TextFacts:
    """The text that was measured on.

    Attributes:
        name: as the user gave it.
        original_bytes: its size, or how much of it was measured.
        documents: how many, null if not known.
        words: runs of bytes that are not white space, null if not known.
        is_whole: false if the text is longer than what was measured.
        compressors: gzip, zstd and xz, beside models of train-m1.
    """

    name: str
    original_bytes: int
    documents: int | None
    words: int | None
    is_whole: bool
    compressors: list[Compressed] = field(default_factory=list)


@dataclass(frozen=True)
class M1Row:
    """A codebook of a model folder: its own, then the published rule's.

    Attributes:
        model: the folder.
        rule: what chose the windows: `fitted` or `published`.
        fingerprint: of the codebook.
        window_bits: size of a codeword in bits.
        measured: what train-m1 measured when it made the folder; null in the published rule's row.
        bytes_per_window: original bytes / windows; like all below without the windows that end documents.
        windows: how many the text is cut into.
        windows_used: how many different ones.
        aligned_share: of the cuts inside documents, those at word boundaries.
        entropy_bits: of the distribution of windows in the text.
        kl_to_uniform_bits: window_bits - entropy_bits, which is the divergence from every codeword being
            used equally, the codewords that the published rule leaves unused included.
        compressed_bytes: size of the .eqi stream.
        compression_ratio: original bytes / compressed bytes.
        bits_per_byte_by_position: of M1, at each position after the starts of windows.
    """

    model: str
    rule: str
    fingerprint: str
    window_bits: int
    measured: dict[str, Any] | None = None
    bytes_per_window: float | None = None
    windows: int | None = None
    windows_used: int | None = None
    aligned_share: float | None = None
    entropy_bits: float | None = None
    kl_to_uniform_bits: float | None = None
    compressed_bytes: int | None = None
    compression_ratio: float | None = None
    bits_per_byte_by_position: list[float | None] | None = None


@dataclass(frozen=True)
class M2Row:
    """A run of train-m2.

    Attributes:
        run: the folder.
        text: name of the text; null if there was none.
        device: where it was measured.
        vocab_size: number of different tokens.
        non_embedding_params: parameters without the input and output matrices.
        measured: what train-m2 measured at the end of the run.
        bits_per_byte: total loss in nats / ln 2 / original bytes; the tokens that end documents count.
        word_perplexity: exp(total loss in nats / words).
        tokens_per_byte: tokens / original bytes.
        flops_per_byte: 2 * non_embedding_params * tokens_per_byte.
        with_output_flops_per_byte: the same, the output matrix counted too.
        bytes_per_step: original bytes / tokens.
        scoring_bytes_per_s: speed of measuring the loss.
        generation_bytes_per_s: speed of continuing the beginning of the text, one token at a time.
    """

    run: str
    text: str | None
    device: str
    vocab_size: int
    non_embedding_params: int
    measured: dict[str, Any]
    bits_per_byte: float | None = None
    word_perplexity: float | None = None
    tokens_per_byte: float | None = None
    flops_per_byte: float | None = None
    with_output_flops_per_byte: float | None = None
    bytes_per_step: float | None = None
    scoring_bytes_per_s: float | None = None
    generation_bytes_per_s: float | None = None


@dataclass(frozen=True)
class Document:
    """All that was measured; rows are sorted, the best first."""

    text: TextFacts | None
    m1: list[M1Row]
    m2: list[M2Row]

    def to_json(self) -> str:
        """One JSON document, and a line feed."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"


# ---- what is given


def read_configs(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The config.json of each folder, of either kind.

    Raises:
        FormatError: a folder is no model and no run, or is not complete.
    """
    configs = []
    for folder in folders:
        config = runs.read_config(folder)
        kind = "m1" if config["format"] == "eqinfo m1" else "m2"
        config = (m1 if kind == "m1" else m2).read_config(folder)
        if "measured" not in config:
            raise FormatError(
                f"{folder}: the run is not complete. Complete it: eqinfo train-{kind} -o {folder} --resume"
            )
        configs.append(config)
    return configs


def read_held_out(source: BinaryIO, path: Path, text_field: str, folders: Sequence[Path]) -> HeldOut:
    """A text to measure on.

    Args:
        source: the bytes, as `text.open_text` gives them.
        path: where they are from; a token file if its sidecar is beside it.
        text_field: of JSONL records.
        folders: what is measured; the codebook of one of them must be that of a token file.

    Raises:
        InputError: there is no text in it, or no text that can be used.
        FormatError: a token file does not fit its sidecar.
        MismatchError: a token file was made with the codebook of none of the folders.
    """
    if tokens.sidecar_path(path).is_file():
        return _held_out_of_tokens(source, path, folders)
    frames, n_bytes, is_whole = list[Frame](), 0, True
    for frame in frames_of_pieces(read_pieces(source, str(path), text_field)):
        if frame.text[:4] == container.MAGIC + bytes([container.VERSION]) and not frames:
            raise InputError(f"{path}: an .eqi stream. Pipe its text: eqinfo decompress -c | eqinfo eval --text -")
        n_bytes += len(frame.text)
        if n_bytes > MAX_TEXT_BYTES:
            is_whole = False
            break
        frames.append(frame)
    if not n_bytes:
        raise InputError(f"{path}: no text in it. Give another --text.")
    return HeldOut(str(path), frames, is_whole)


def _held_out_of_tokens(source: BinaryIO, path: Path, folders: Sequence[Path]) -> HeldOut:
    """The ids of a token file, and the text they decode to if they are windows."""
    ids = shards.load([path])
    if not ids.original_bytes:
        raise InputError(f"{path}: no text in it. Give another --text.")
    if ids.original_bytes > MAX_TEXT_BYTES:
        raise InputError(
            f"{path}: too large; found {ids.original_bytes} bytes of text, want at most {MAX_TEXT_BYTES}."
        )
    if not ids.fingerprint:
        return HeldOut(str(path), [], tokens=ids)
    codebook = _find_codebook(ids.fingerprint, path, folders)
    sidecar = tokens.Sidecar.load(tokens.sidecar_path(path))
    pieces = _pieces(tokens.read(source, sidecar, codebook, str(path)))
    return HeldOut(str(path), list(frames_of_pieces(pieces)), tokens=ids)


def _find_codebook(fingerprint: str, path: Path, folders: Sequence[Path]) -> Codebook:
    """The codebook with a fingerprint, from one of the folders."""
    found = [folder / name for folder in folders for name in (CODEBOOK_NAME, m1.BASELINE)]
    for codebook in (Codebook.load(where) for where in found if where.exists()):
        if codebook.fingerprint.hex() == fingerprint:
            return codebook
    raise MismatchError(
        f"{path}: made with a codebook of none of the folders; found fingerprint {fingerprint[:16]}. "
        "Give the text itself, or a run that was trained on such tokens."
    )


def _pieces(frames: Iterable[Frame]) -> Iterator[tuple[bytes, bool]]:
    """The text of frames in pieces of documents, each with whether its document ends there."""
    for text, ends in frames:
        at = 0
        for end in ends:
            yield text[at:end], True
            at = end
        yield text[at:], False


# ---- what is measured


def measure(
    folders: Sequence[Path], held_out: HeldOut | None, device: torch.device, report: Report
) -> Document:
    """Measure models and runs, on a text if there is one.

    Args:
        folders: as `read_configs` accepts them.
        held_out: the text.
        device: for the models.
        report: is told of progress.

    Raises:
        EqinfoError: a folder is damaged, or the text is not one for it.
    """
    m1_rows, m2_rows = list[M1Row](), list[M2Row]()
    for folder, config in zip(folders, read_configs(folders), strict=True):
        if config["format"] == "eqinfo m1":
            m1_rows += _m1_rows(folder, config, held_out, device, report)
        else:
            m2_rows.append(_m2_row(folder, config, held_out, device, report))
    m1_rows.sort(key=lambda row: -(row.bytes_per_window or 0))
    m2_rows.sort(key=lambda row: math.inf if row.bits_per_byte is None else row.bits_per_byte)
    return Document(held_out and _text_facts(held_out, bool(m1_rows), report), m1_rows, m2_rows)


@contextmanager
def _phase(report: Report, name: str) -> Iterator[None]:
    """Tell when something begins and that it is done."""
    report(name, 0.0, "")
    yield
    report(name, 1.0, "")


def _text_facts(held_out: HeldOut, compare: bool, report: Report) -> TextFacts:
    """What is known of the text; with what general compressors make of it, if they are to be compared."""
    compressors = []
    for name in COMPRESSORS if compare else ():
        with _phase(report, name):
            size = compressed_size(held_out.data, name, held_out.name)
        compressors.append(Compressed(name, size, held_out.original_bytes / size))
    documents = len(held_out.document_ends) if held_out.frames else None
    return TextFacts(
        held_out.name, held_out.original_bytes, documents, held_out.words, held_out.is_whole, compressors
    )


def compressed_size(data: bytes, compressor: str, where: str) -> int:
    """Size in bytes of what one of COMPRESSORS makes of data, after decompressing it again."""
    compress, decompress = COMPRESSORS[compressor]
    packed = compress(data)
    _check(decompress(packed) == data, where, compressor)
    return len(packed)


def stream_size(codebook: Codebook, frames: list[Frame], where: str) -> int:
    """Size in bytes of the .eqi stream of frames, after decoding it again."""
    sink = io.BytesIO()
    container.compress(frames, sink, codebook)
    size = sink.tell()
    sink.seek(0)
    decoded = [(text, list(ends)) for text, ends in container.read_frames(sink, codebook, where)]
    _check(decoded == [(text, list(ends)) for text, ends in frames], where, ".eqi")
    return size


def _check(same: bool, where: str, what: str) -> None:
    """No figure of a stream that does not decode."""
    if not same:
        raise FormatError(f"{where}: did not come back from {what}; no figure is given.")


def _finite(figure: float) -> float | None:
    """The figure, if JSON can hold it."""
    return figure if math.isfinite(figure) else None


def _m1_rows(
    folder: Path, config: dict[str, Any], held_out: HeldOut | None, device: torch.device, report: Report
) -> list[M1Row]:
    """The codebook of a model and that of the published rule, one row if they are the same."""
    rule = config["settings"]["rule"]
    codebooks = {rule: Codebook.load(folder / CODEBOOK_NAME)}
    codebooks |= {"published": Codebook.load(folder / m1.BASELINE)}
    rows = [
        M1Row(str(folder), name, codebook.fingerprint.hex(), codebook.window_bits,
              config["measured"] if name == rule else None)
        for name, codebook in codebooks.items()
    ]  # fmt: skip
    if held_out is None:
        return rows
    if not held_out.frames:
        raise InputError(f"{held_out.name}: tokens from elsewhere, whose text {folder} needs. Give the text.")
    model = m1.load_m1(folder, device)
    text = Text(np.frombuffer(held_out.data, np.uint8), np.array(held_out.document_ends, np.int64))
    frames = held_out.frames
    if not is_jsonl(held_out.name) and held_out.tokens is None:  # as compress does: the end of a file is no mark
        frames = [Frame(frame.text) for frame in frames]
    measured = []
    for row, codebook in zip(rows, codebooks.values(), strict=True):
        with _phase(report, f"{folder}: windows, {row.rule}"):
            use = window_use(codebook, held_out.frames)
            size = stream_size(codebook, frames, held_out.name)
        with _phase(report, f"{folder}: M1 at their starts"):
            bits = bits_by_position(model, codebook, text)
        measured.append(
            replace(
                row,
                bytes_per_window=held_out.original_bytes / use.n_windows,
                windows=use.n_windows,
                windows_used=use.n_used,
                aligned_share=use.n_aligned / use.n_cuts if use.n_cuts else None,
                entropy_bits=use.entropy_bits,
                kl_to_uniform_bits=codebook.window_bits - use.entropy_bits,
                compressed_bytes=size,
                compression_ratio=held_out.original_bytes / size,
                bits_per_byte_by_position=[_finite(figure) for figure in bits],
            )
        )
    return measured


def _m2_row(
    folder: Path, config: dict[str, Any], held_out: HeldOut | None, device: torch.device, report: Report
) -> M2Row:
    """What a run is worth on a text."""
    loaded = m2.load_m2(folder, device)
    shape = loaded.model.config
    row = M2Row(
        str(folder), held_out and held_out.name, device.type, shape.vocab_size, shape.n_params, config["measured"]
    )
    if held_out is None:
        return row
    ids = _tokens_for(loaded, folder, held_out)
    with _phase(report, f"{folder}: scoring"):
        some = replace(ids, parts=(ids.parts[0][: shape.block_size],))
        total_nats(loaded.model, some)  # what is made on first use should not count
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


def _tokens_for(loaded: m2.M2, folder: Path, held_out: HeldOut) -> Tokens:
    """The text as a run reads it: a token file of its vocabulary as it is, or cut with its codebook."""
    token_bits, fingerprint = loaded.config["settings"]["token_bits"], loaded.config["fingerprint"]
    given = held_out.tokens
    if given is not None and given.fingerprint == fingerprint:
        return replace(shards.load([Path(held_out.name)], token_bits), vocab_size=loaded.model.config.vocab_size)
    if loaded.codebook is None or not held_out.frames:
        raise InputError(
            f"{held_out.name}: not the vocabulary of {folder}; found fingerprint "
            f"{given.fingerprint[:16] if given else None}, want {fingerprint[:16] or None}. "
            "Give a token file made as those it was trained on."
        )
    sink = io.BytesIO()
    _, sidecar = tokens.write(held_out.frames, sink, loaded.codebook)
    ids = np.frombuffer(sink.getbuffer(), tokens.token_type(sidecar.window_bits))
    return shards.of_ids(
        ids, sidecar, token_bits or sidecar.window_bits, sidecar.original_bytes, held_out.name
    )


def _perplexity(nats: float, words: int | None) -> float | None:
    """Perplexity per word; None if there are no words, or it is more than a float holds."""
    if not words or not nats / words < math.log(1e300):
        return None
    return math.exp(nats / words)


def _generation_bytes_per_s(loaded: m2.M2, prompt: bytes) -> float | None:
    """Speed of generation after the prompt was read."""
    if loaded.codebook is None:
        return None
    pieces = stream(loaded, prompt, GENERATED_BYTES, temperature=1.0, top_k=None, seed=0)
    next(pieces, b"")
    started = time.monotonic()
    n_bytes = sum(map(len, pieces))
    return n_bytes / (time.monotonic() - started) if n_bytes else None


# ---- for people


class Table(NamedTuple):
    """Figures for people: a title, heads of columns, rows of as many cells, the best cells of columns."""

    title: str
    head: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]]  # row, column


class Column(NamedTuple):
    """How an attribute is shown, and whether less or more of it is better."""

    head: str
    name: str
    form: str
    better: Literal["less", "more"]


M1_COLUMNS = [
    Column("bytes/window", "bytes_per_window", ".3f", "more"),
    Column("compressed bytes", "compressed_bytes", ",", "less"),
    Column("compression ratio", "compression_ratio", ".3f", "more"),
    Column("aligned cuts", "aligned_share", ".1%", "more"),
    Column("windows used", "windows_used", ",", "more"),
    Column("entropy, bits", "entropy_bits", ".3f", "more"),
    Column("KL to uniform, bits", "kl_to_uniform_bits", ".3f", "less"),
]
M2_COLUMNS = [
    Column("bits/byte", "bits_per_byte", ".4f", "less"),
    Column("word perplexity", "word_perplexity", ",.1f", "less"),
    Column("tokens/byte", "tokens_per_byte", ".4f", "less"),
    Column("MFLOPs/byte", "flops_per_byte", "M", "less"),
    Column("with output MFLOPs/byte", "with_output_flops_per_byte", "M", "less"),
    Column("bytes/step", "bytes_per_step", ".3f", "more"),
    Column("scoring bytes/s", "scoring_bytes_per_s", ",.0f", "more"),
    Column("generation bytes/s", "generation_bytes_per_s", ",.0f", "more"),
]


def tables(document: Document) -> list[Table]:
    """What was measured, for people: one table of codebooks, one of M1 by position, one of runs."""
    text = document.text
    if text is None:
        return _tables_without_text(document)
    words = "" if text.words is None else f", {text.words:,} words"
    title = f"{text.name}: {'' if text.is_whole else 'first '}{text.original_bytes:,} bytes{words}"
    found = []
    if document.m1:
        rows: list[tuple[str, object]] = [(_name(row), row) for row in document.m1]
        rows += [(row.name, row) for row in text.compressors]
        found += [_table(title, "windows", rows, M1_COLUMNS), _by_position(document.m1)]
    if document.m2:
        found.append(_table(title, "run", [(row.run, row) for row in document.m2], M2_COLUMNS))
    return found


def _tables_without_text(document: Document) -> list[Table]:
    """What the runs themselves measured when they ended."""
    shown = [
        (row.model, m1.tables({"settings": {"window_bits": row.window_bits}, "measured": row.measured}))
        for row in document.m1
        if row.measured
    ]
    shown += [(row.run, m2.tables(runs.read_config(Path(row.run)))) for row in document.m2]
    return [
        Table(name, [head, ""], [list(row) for row in rows], set())
        for name, parts in shown
        for head, rows in parts
    ]


def _name(row: M1Row) -> str:
    """What a codebook is called in tables."""
    return f"{row.model}, published rule" if row.rule == "published" else row.model


def _shown(figure: float | None, form: str) -> str:
    """A figure in a cell; form `M` is in millions."""
    if figure is None:
        return ""
    return f"{figure / 1e6:,.3f}" if form == "M" else format(figure, form)


def _table(title: str, what: str, rows: list[tuple[str, object]], columns: list[Column]) -> Table:
    """A table of rows by name; a cell is empty where a row has no such figure."""
    figures = [[getattr(row, column.name, None) for column in columns] for _, row in rows]
    cells = [
        [name, *(_shown(figure, column.form) for figure, column in zip(line, columns, strict=True))]
        for (name, _), line in zip(rows, figures, strict=True)
    ]
    best = set()
    for k, column in enumerate(columns):
        known = [line[k] for line in figures if line[k] is not None]
        if len(known) > 1:
            target = min(known) if column.better == "less" else max(known)
            best |= {(i, k + 1) for i, line in enumerate(figures) if line[k] == target}
    return Table(title, [what, *(column.head for column in columns)], cells, best)


def _by_position(rows: list[M1Row]) -> Table:
    """M1's bits/byte by position, a column a codebook."""
    columns = [row.bits_per_byte_by_position or [] for row in rows]
    n_positions = max(map(len, columns))
    shown = [i for i in range(n_positions) if i < 8 or i % 8 == 7]
    cells = [
        [f"byte {i + 1}", *(_shown(bits[i] if i < len(bits) else None, ".3f") for bits in columns)]
        for i in shown
    ]
    return Table("M1, bits/byte by position in the window", ["", *map(_name, rows)], cells, set())


def check_figure(path: Path, configs: Sequence[dict[str, Any]], has_text: bool) -> None:
    """Whether a figure can be drawn, before anything is measured.

    Raises:
        InputError: there is nothing to draw, or nothing to draw with.
    """
    if not has_text or all(config["format"] != "eqinfo m2" for config in configs):
        raise InputError(f"{path}: nothing to draw. Give runs of train-m2 and a --text.")
    try:
        import matplotlib  # noqa: F401 - whether it is there
    except ModuleNotFoundError:
        raise InputError("--figure: matplotlib is missing. Install it: pip install 'eqinfo[figures]'") from None


def figure(document: Document, suffix: str) -> bytes:
    """The contents of an .svg or .png file: bits/byte of runs against FLOPs/byte and against bytes/step."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = [row for row in document.m2 if row.bits_per_byte is not None]
    drawing = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = drawing.subplots(1, 2, sharey=True)
    for axes, label, name in (
        (left, "FLOPs/byte (2 x non-embedding parameters x tokens/byte)", "flops_per_byte"),
        (right, "bytes/step", "bytes_per_step"),
    ):
        for row in rows:
            x, y = getattr(row, name), row.bits_per_byte
            axes.scatter([x], [y], label=row.run)
            axes.annotate(row.run, (x, y), textcoords="offset points", xytext=(6, 4), fontsize=8)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    left.set_ylabel("bits/byte")
    left.set_xscale("log")
    drawing.suptitle(document.text.name if document.text else "")
    sink = io.BytesIO()
    # the same figures give the same file: no date, no random names, text as text
    with matplotlib.rc_context({"svg.hashsalt": "eqinfo", "svg.fonttype": "none"}):
        drawing.savefig(sink, format=suffix.removeprefix("."), dpi=150, metadata={"Date": None} if suffix == ".svg" else {})
    return sink.getvalue()
