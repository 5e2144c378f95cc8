"""The results of eval, as `eqinfo eval --json` prints them.

`Results` has the keys `text` (a `TextFacts`, or null without a text), `m1` (a list of `M1Row`), `live` (of
`LiveRow`) and `m2` (of `M2Row`). The keys of these objects are the attributes of the classes. A figure that
was not measured, or is not finite, is null.

What this module does not do: measure (`measure`).
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Compressed:
    """The size of the text after a general-purpose compressor."""

    name: str
    compressed_bytes: int
    compression_ratio: float


@dataclass(frozen=True)
class TextFacts:
    """The text that was measured on.

    Attributes:
        name: the path that the user gave, or stdin.
        original_bytes: size of the measured text.
        documents: number of document ends in it, null if unknown.
        words: number of runs of bytes that are not white space, null if unknown.
        is_whole: false if only the beginning of the text was measured.
        compressors: gzip, zstd and xz, if models of train-m1 are measured.
    """

    name: str
    original_bytes: int
    documents: int | None
    words: int | None
    is_whole: bool
    compressors: list[Compressed] = field(default_factory=list)


@dataclass(frozen=True)
class M1Row:
    """A codebook of a model folder. A folder has one or more, and that of the published rule to compare with.

    Attributes:
        model: the folder.
        rule: the rule that chose the windows, `fitted` or `published`.
        fingerprint: of the codebook, in hexadecimal.
        window_bits: size of a codeword in bits.
        measured: the figures that train-m1 measured; null but in the first codebook's row.
        bytes_per_window: original bytes / windows.
        windows: number of windows that the text is cut into, without those that end documents.
        windows_used: number of different windows among them.
        aligned_share: share of the cuts inside documents that are at word boundaries.
        entropy_bits: entropy of the distribution of windows in the text.
        kl_to_uniform_bits: window_bits - entropy_bits: the KL divergence from the uniform distribution over
            all codewords, with those that the published rule leaves unused.
        compressed_bytes: size of the .eqi stream.
        compression_ratio: original bytes / compressed bytes.
        bits_per_byte_by_position: M1's loss at each position after the starts of windows.
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
class LiveRow:
    """A stream in which M1 runs: live windows of 64 bits, or arithmetic coding.

    It is slow, so of a long text only the beginning is measured.

    Attributes:
        model: the folder.
        window_bits: size of a codeword in bits; null for arithmetic coding.
        measured_bytes: size of the part of the text that was measured, its beginning.
        bytes_per_window: original bytes / windows, without those that end documents; null for arithmetic
            coding.
        compressed_bytes: size of the .eqi stream of that part.
        compression_ratio: measured bytes / compressed bytes.
    """

    model: str
    window_bits: int | None
    measured_bytes: int
    bytes_per_window: float | None
    compressed_bytes: int
    compression_ratio: float


@dataclass(frozen=True)
class M2Row:
    """A run of train-m2.

    Attributes:
        run: the folder.
        text: name of the text; null if there was none.
        device: the device that it was measured on.
        vocab_size: number of different tokens.
        non_embedding_params: parameters without the input and output embeddings.
        measured: the figures that train-m2 measured.
        is_complete: false if the run is not complete; the figures are then those of its checkpoint.
        bits_per_byte: total loss in nats / ln 2 / original bytes. The tokens that end documents count.
        word_perplexity: exp(total loss in nats / words).
        tokens_per_byte: tokens / original bytes.
        flops_per_byte: 2 * non_embedding_params * tokens_per_byte.
        with_output_flops_per_byte: the same with the parameters of the output embedding.
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
    is_complete: bool
    bits_per_byte: float | None = None
    word_perplexity: float | None = None
    tokens_per_byte: float | None = None
    flops_per_byte: float | None = None
    with_output_flops_per_byte: float | None = None
    bytes_per_step: float | None = None
    scoring_bytes_per_s: float | None = None
    generation_bytes_per_s: float | None = None


@dataclass(frozen=True)
class Results:
    """All figures. With a text, the rows of `m1` and `m2` are sorted, the best first."""

    text: TextFacts | None
    m1: list[M1Row]
    live: list[LiveRow]
    m2: list[M2Row]

    def to_json(self) -> str:
        """The results as one JSON object, with a line feed."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"
