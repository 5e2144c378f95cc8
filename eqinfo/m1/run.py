"""A run of train-m1 as a folder: its settings, its config.json, loading M1 from it.

When the run is complete, the folder holds plain files:

    config.json     settings, versions, facts of the corpus, measurements
    m1.eqm1         M1 as integers, for live windows and `ac`
    codebook.eqcb   all that compress and decompress need for windows of up to 20 bits
    codebook-N.eqcb the same for windows of another size, N bits, if the user asked for several
    tokenizer.json, tokenizer_config.json  the first codebook for Hugging Face, if it is fitted
    published.eqcb  the windows of the published rule from the same M1, to compare with

Before that it also holds `corpus/` (the staged text), `checkpoint.pt` and the codebooks of the finished
rounds: --resume continues from them to the same result.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from eqinfo.codebook.codebook import MAX_PENALTY, MAX_WINDOW_BITS, MIN_WINDOW_BITS
from eqinfo.coder import integer_m1
from eqinfo.coder.integer_m1 import Network
from eqinfo.errors import FormatError, InputError, MismatchError, OptionError
from eqinfo.formats.model_folder import NETWORK_NAME
from eqinfo.m1 import corpus
from eqinfo.m1.batches import RANDOM_SHARE, WINDOW_BYTES, WINDOW_SHARE
from eqinfo.m1.model import M1_PRESETS
from eqinfo.training import run_folder
from eqinfo.training.resume import check_longer, differs, is_extended, resumed
from eqinfo.training.run_folder import BUDGETS, Report
from eqinfo.training.schedule import DEFAULT_MINUTES, Budget

READING = "reading text"  # the phase
BASELINE, CORPUS, DRAFTS = "published.eqcb", "corpus", "round-*.eqcb"
MIN_BYTES = 20  # a twentieth is held out
WORTH_MINUTES_BYTES = 100_000
MAX_CANDIDATES = 1 << 22  # half of what a trie holds: the other half is for pairs of them


@dataclass(frozen=True)
class Settings:
    """Settings of a run, as config.json keeps them."""

    window_bits: int = 16
    further_window_bits: list[int] = field(default_factory=list)  # of the codebooks beside the first
    preset: str = "3m"
    rounds: int = 1
    steps: int | None = None
    n_bytes: int | None = None
    minutes: float | None = None
    candidates: int = 4
    unaligned_penalty: float = 1.0
    rule: str = "fitted"
    seed: int = 0
    text_field: str = "text"

    def __post_init__(self) -> None:
        """Raises OptionError if a setting is out of range."""
        known = range(MIN_WINDOW_BITS, MAX_WINDOW_BITS + 1)
        if not all(type(bits) is int and bits in known for bits in self.widths):
            raise OptionError(
                f"--window-bits: out of range; found {','.join(map(str, self.widths))}, "
                f"want {MIN_WINDOW_BITS} to {MAX_WINDOW_BITS}."
            )
        limits = {
            "rounds": (0, 20),
            "unaligned_penalty": (0, round(MAX_PENALTY)),
        }
        run_folder.check(self, {"preset": M1_PRESETS, "rule": ["fitted", "published"]}, limits)
        run_folder.check_ranges(self, {"candidates": (2, min(64, MAX_CANDIDATES >> max(self.widths)))})

    @property
    def widths(self) -> list[int]:
        """Window sizes of the codebooks in bits; the first is that of `codebook.eqcb`."""
        return [self.window_bits, *self.further_window_bits]

    @property
    def budget(self) -> Budget:
        """The training budget."""
        return Budget.of(self.steps, self.n_bytes, M1_PRESETS[self.preset].step_bytes, self.minutes)


def start(
    sources: Iterable[tuple[str, BinaryIO]],
    folder: Path,
    settings: Settings,
    report: Report,
    as_jsonl: bool = False,
    skip_bad: bool = False,
) -> None:
    """Write the corpus and config.json of a new run.

    Args:
        sources: names and open files.
        folder: of the run; must be empty or missing.
        settings: of the run.
        report: receives progress.
        as_jsonl: read JSONL under any name.
        skip_bad: pass over records without text.

    Raises:
        InputError: the text cannot be used.
    """

    def config() -> dict[str, Any]:
        facts = corpus.stage(sources, folder / CORPUS, settings.text_field, as_jsonl, skip_bad)
        _check_size(facts, settings)
        report(READING, 1.0, f"{facts.train_bytes + facts.valid_bytes:,} bytes")
        return {"settings": asdict(settings), "corpus": asdict(facts), "batches": _mixture(settings)}

    report(READING, 0.0, "")
    run_folder.start(folder, "m1", config, made=[CORPUS])


def _check_size(facts: corpus.Facts, settings: Settings) -> None:
    """Raises InputError if there is too little text."""
    n_bytes = facts.train_bytes + facts.valid_bytes
    if n_bytes < MIN_BYTES or not (facts.train_bytes and facts.valid_bytes):
        raise InputError(f"corpus: too little text; found {n_bytes} bytes, want {MIN_BYTES} or more.")
    has_budget = any(getattr(settings, name, None) is not None for name in BUDGETS)
    if n_bytes < WORTH_MINUTES_BYTES and not has_budget and settings.preset != "unigram":
        raise InputError(
            f"corpus: little text for {DEFAULT_MINUTES:.0f} minutes of training; found {n_bytes:,} bytes, "
            f"want {WORTH_MINUTES_BYTES:,} or more. Give more text, or a budget: --steps 50 for a trial."
        )


def resume(
    folder: Path,
    given: dict[str, Any],
    sources: Iterable[tuple[str, BinaryIO]] | None,
    report: Report,
    as_jsonl: bool = False,
    skip_bad: bool = False,
) -> bool:
    """Let a run go on: check what the user names against it; returns whether its budget grew.

    Args:
        folder: of the run.
        given: the settings that the user gave.
        sources: names and open files of the run's text, if the user named them.
        report: receives progress.
        as_jsonl: as in `start`.
        skip_bad: as in `start`.

    Raises:
        MismatchError: the run has other settings or other text, or is complete and cannot be extended.
    """
    config = read_config(folder)
    before = Settings(**config["settings"])
    widths = [given.get(name, getattr(before, name)) for name in ("window_bits", "further_window_bits")]
    if (wanted := [widths[0], *widths[1]]) != before.widths:
        raise differs(folder, "--window-bits", *(",".join(map(str, w)) for w in (before.widths, wanted)))
    if "measured" in config and is_extended(config["settings"], given):
        raise MismatchError(f"{folder}: complete, and without its text. Start a new run with another -o.")
    settings = Settings(**resumed(folder, config["settings"], given))
    if sources is not None:
        report(READING, 0.0, "")
        found = corpus.checksum(sources, settings.text_field, as_jsonl, skip_bad)
        want = config["corpus"]["sha256"]
        if found != want:
            raise MismatchError(
                f"{folder}: a run on other text; found SHA-256 {found[:16]}, want {want[:16]}. "
                "Leave TEXT out to continue it, or start a new run with another -o."
            )
        report(READING, 1.0, "the text of the run")
    if not (grew := settings.budget != before.budget) and is_extended(config["settings"], given):
        check_longer(folder, settings, settings.budget.steps or 0, 0.0)
    if grew:
        run_folder.remove(folder, DRAFTS)  # made on the way to the end of the smaller budget
        run_folder.write_config(folder, "m1", config | {"settings": asdict(settings)})
    return grew


def _mixture(settings: Settings) -> dict[str, float]:
    """The composition of batches, for config.json; see `batches`."""
    return {
        "run_bytes": M1_PRESETS[settings.preset].block_size,
        "window_bytes": WINDOW_BYTES,
        "window_share": WINDOW_SHARE,
        "random_share_of_window_starts": RANDOM_SHARE,
    }


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder.

    Raises:
        FormatError: there is none, or it is damaged or of another version.
    """
    return run_folder.read_config(folder, "m1", _check)


def _check(config: dict[str, Any]) -> None:
    """Use all parts of a config once, so that damage raises here; complete its settings with defaults."""
    config["settings"] = asdict(Settings(**config["settings"]))
    bytes.fromhex(config["corpus"]["sha256"])
    if "measured" in config:
        tables(config["measured"], config["settings"]["window_bits"])


def load_m1(folder: Path) -> Network:
    """M1 of a complete model folder.

    Raises:
        FormatError: the folder is incomplete, of another version or damaged.
    """
    read_config(folder)
    if not (folder / NETWORK_NAME).exists():
        raise FormatError(f"{folder}: incomplete; {NETWORK_NAME} is missing. Complete the run with --resume.")
    return integer_m1.load(folder / NETWORK_NAME)


def tables(measured: dict[str, Any], window_bits: int) -> list[tuple[str, list[tuple[str, str]]]]:
    """The measurements of a run for people: titles, each with rows of a name and a figure."""
    by_position = measured["bits_per_byte_by_position"]
    shown: list[tuple[str, list[tuple[str, str]]]] = [
        (
            "M1 on held-out text, bits/byte by position in the window",
            [(f"byte {i + 1}", f"{bits:.3f}") for i, bits in enumerate(by_position) if i < 8 or i % 8 == 7],
        ),
        (
            f"bytes/window on held-out text, {window_bits} bits",
            [(name, f"{value:.3f}") for name, value in measured["bytes_per_window"].items()],
        ),
        (
            "M1 on long runs of held-out text, bits/byte",
            [(f"in {name}", f"{bits:.4f}") for name, bits in measured.get("bits_per_byte", {}).items()],
        ),
        ("windows unused", [(name, f"{n:,}") for name, n in measured["windows_unused"].items()]),
    ]
    return [(title, rows) for title, rows in shown if rows]
