"""The runs with which `compare_tokenisers.py` compares tokens: their vocabularies, budgets and shapes.

This module does not train anything.
"""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from eqinfo.codebook.codebook import Codebook
from eqinfo.formats import token_file
from eqinfo.formats.model_folder import CODEBOOK_NAME
from eqinfo.m2.model import GPTConfig
from eqinfo.m2.run import shape_of_name

BPE_SAMPLE_BYTES = 64_000_000  # of the training text, for BPE's merges
GROUP_CHARACTERS = 200_000  # of each group of kinds of text that M2 is measured on
BLOCK_SIZE, BATCH_TOKENS = 256, 8192  # of M2


class Vocabulary(NamedTuple):
    """The tokens of an M2: the rule that chooses the windows, and log2 of their largest number."""

    windows: str
    window_bits: int


VOCABULARIES = {
    "bytes": Vocabulary("bytes", 9),
    "ours-b12": Vocabulary("refitted", 12),
    "bpe-b12": Vocabulary("bpe", 12),
    "ours-b13": Vocabulary("refitted", 13),
    "published-b12": Vocabulary("published", 12),
    "ours-b14": Vocabulary("refitted", 14),
    "bpe-b14": Vocabulary("bpe", 14),
    "ours-b16": Vocabulary("refitted", 16),
    "bpe-b16": Vocabulary("bpe", 16),
}

KNOWING = "knowing-"  # before the name of a vocabulary: its M2 knows the pairs that BPE never has
# What an arm is compared with. Windows of 13 bits cost as many FLOPs a byte as BPE's tokens of 12 bits.
BPE_OF = {"bytes": "bpe-b12", "published-b12": "bpe-b12", "ours-b13": "bpe-b12"}
BPE_OF |= {
    f"{kind}-b{bits}": f"bpe-b{bits}" for kind in ("ours", "bpe", f"{KNOWING}bpe") for bits in (12, 14, 16)
}

SAME = "same"  # the shape of BPE's M2, on as many tokens or for as many training FLOPs
LARGER = "larger"  # a larger M2, with BPE's FLOPs a byte of text, on BPE's text: so for its training FLOPs


class Rung(NamedTuple):
    """Runs with one budget.

    Attributes:
        shape: a preset of M2.
        n_tokens: what BPE and ours train on; the other arms train for as many FLOPs.
        seeds: one run each.
        bits: widths of the tokens; bytes, published windows and windows of 13 bits are compared at 12.
    """

    shape: str
    n_tokens: int
    seeds: tuple[int, ...]
    bits: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name on the page."""
        return f"{self.shape}, {self.n_tokens / 1e6:g} M"


LADDER = (
    Rung("nano", 1_000_000, (0, 1), (12, 14, 16)),
    Rung("nano", 4_000_000, (0, 1), (12, 14, 16)),
    Rung("3m", 4_000_000, (0,), (12, 14, 16)),
    Rung("nano", 16_000_000, (0,), (12, 14, 16)),
    Rung("3m", 16_000_000, (0,), (12, 14, 16)),
    Rung("nano", 56_000_000, (0,), (12,)),  # less than an epoch of windows
    Rung("nano", 64_000_000, (0,), (12,)),
)


def folder_of(work: Path, vocabulary: str) -> Path:
    """The folder of a vocabulary; with and without KNOWING it is the same."""
    return work / vocabulary.removeprefix(KNOWING)


def bytes_per_token(folder: Path, text_name: str) -> float:
    """Bytes per token of a token file, counting the ids that end documents, since M2 reads them."""
    sidecar = token_file.Sidecar.load(token_file.sidecar_path(folder / f"{text_name}.bin"))
    return sidecar.original_bytes / sidecar.tokens


class Run(NamedTuple):
    """The training of one M2.

    Attributes:
        vocabulary: of its tokens.
        shape: a name that train-m2 --preset takes.
        n_tokens: that it trains on.
        seed: of weights and data order.
    """

    vocabulary: str
    shape: str
    n_tokens: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.vocabulary}-{self.shape}-{self.n_tokens}-seed{self.seed}"

    def folder(self, work: Path) -> Path:
        """The run folder of train-m2."""
        return work / "runs" / self.name

    def score_path(self, work: Path, text_name: str) -> Path:
        """The file with the output of `eqinfo eval` on a text."""
        return work / "scores" / self.name / f"{text_name}.json"

    def config(self, work: Path) -> GPTConfig:
        """The shape of its model."""
        return config_of(len(codebook_of(work, self.vocabulary).windows), self.shape)

    def record(self, work: Path) -> dict[str, Any]:
        """What train-m2 wrote of it; empty until it has begun."""
        path = self.folder(work) / "config.json"
        found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
        return found

    def measured(self, work: Path) -> dict[str, float] | None:
        """The measurements of train-m2; None until the run is complete."""
        return self.record(work).get("measured")


def config_of(vocab_size: int, shape: str) -> GPTConfig:
    """The shape of a model."""
    return GPTConfig(vocab_size, BLOCK_SIZE, *shape_of_name(shape))


def flops_per_token(config: GPTConfig) -> int:
    """FLOPs to read a token, with output matrix and attention: a third of those to train on it."""
    return config.training_flops // 3


def vocabularies(work: Path) -> list[str]:
    """The names of the prepared vocabularies."""
    return [name for name in VOCABULARIES if (work / name / "train.bin.json").exists()]


def held_out(folder: Path) -> list[str]:
    """The names of the held-out texts of a vocabulary."""
    return ["valid", *sorted({path.stem for path in folder.glob("*.bin")} - {"train", "valid"})]


@lru_cache
def codebook_of(work: Path, vocabulary: str) -> Codebook:
    """The codebook of a prepared vocabulary."""
    return Codebook.load(folder_of(work, vocabulary) / CODEBOOK_NAME)


def larger_shape(work: Path, vocabulary: str, shape: str) -> str:
    """The shape with about as many FLOPs a byte as BPE's M2 of another shape.

    The width grows first, in steps of twice the heads, then layers as far as they bring it nearer.
    """
    bpe = BPE_OF[vocabulary]
    n_windows, n_theirs = (len(codebook_of(work, name).windows) for name in (vocabulary, bpe))
    longer = bytes_per_token(work / vocabulary, "train") / bytes_per_token(work / bpe, "train")
    wanted = flops_per_token(config_of(n_theirs, shape)) * longer
    n_layer, n_head, n_embd = shape_of_name(shape)
    shapes = [
        f"{layers}x{n_head}x{width}"
        for layers in range(n_layer, 2 * n_layer)
        for width in range(n_embd, 2 * n_embd, 2 * n_head)
    ]
    return min(shapes, key=lambda name: abs(flops_per_token(config_of(n_windows, name)) - wanted))


class Arm(NamedTuple):
    """Runs that differ in their seeds only.

    Attributes:
        rung: of the ladder.
        vocabulary: of its tokens.
        match: SAME or LARGER.
    """

    rung: Rung
    vocabulary: str
    match: str


def planned(work: Path, rungs: Iterable[Rung], only: re.Pattern[str]) -> dict[Run, Arm]:
    """All runs of the ladder in their order, each with its arm."""
    known, runs = set(vocabularies(work)), dict[Run, Arm]()
    for rung in rungs:
        names = [(f"{kind}-b{bits}", SAME) for bits in rung.bits for kind in ("ours", "bpe")]
        names += [("bytes", SAME), ("published-b12", SAME), ("ours-b13", SAME)]
        names += [(f"{KNOWING}bpe-b{bits}", SAME) for bits in rung.bits]
        names += [(f"ours-b{bits}", LARGER) for bits in rung.bits]
        for seed, (name, match) in product(rung.seeds, names):
            arm = Arm(rung, name, match)
            if {name.removeprefix(KNOWING), BPE_OF[name]} <= known and only.search(
                f"{name}-{match}-{rung.shape}-{rung.n_tokens}-seed{seed}"
            ):
                runs[run_of(arm, work, seed)] = arm
    return runs


def run_of(arm: Arm, work: Path, seed: int) -> Run:
    """The run of an arm: for the training FLOPs of BPE's of its rung."""
    rung, name = arm.rung, arm.vocabulary
    shape = rung.shape if arm.match == SAME else larger_shape(work, name, rung.shape)
    sizes = [len(codebook_of(work, each).windows) for each in (BPE_OF[name], name)]
    theirs, ours = config_of(sizes[0], rung.shape).training_flops, config_of(sizes[1], shape).training_flops
    return Run(name, shape, round(rung.n_tokens * theirs / ours), seed)
