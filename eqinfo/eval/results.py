"""eval's document: what models and runs are worth on a text, as `eqinfo eval --json` prints it.

A `Document` has `text` (`TextFacts`, or null without a text), `m1` (of `M1Row`) and `m2` (of `M2Row`), with
the attributes of these classes as keys. What was not measured, or is not finite, is null.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any


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
        documents: how many end in it, null if not known.
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
