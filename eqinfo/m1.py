"""train-m1: text to a model folder, in rounds of training, expanding and refitting.

The folder holds plain files. When the run is complete:

    config.json     settings, versions, facts of the corpus, what was measured
    m1.pt           weights, bfloat16
    codebook.eqcb   all that compress and decompress need

and until then `corpus/` (the staged text), `checkpoint.pt` and the codebooks of the rounds so far, from
which `resume` continues exactly.
"""

import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from eqinfo import __version__, corpus
from eqinfo.codebook import MAX_PENALTY, MAX_WINDOW_BITS, MIN_WINDOW_BITS, Codebook
from eqinfo.compile import expand, published
from eqinfo.errors import FormatError, InputError, MismatchError
from eqinfo.evaluate import bits_by_position, bytes_per_window, n_unused
from eqinfo.files import CODEBOOK_NAME, replacing
from eqinfo.model import GPT, M1_PRESETS
from eqinfo.refit import Candidates, refit
from eqinfo.train import Budget, Trainer, first_line, load_tensors, save_tensors
from eqinfo.windows import WindowBatches

Report = Callable[[str, float, str], None]  # a phase, the share of it that is done, a word about it

CONFIG, WEIGHTS, CHECKPOINT, CORPUS = "config.json", "m1.pt", "checkpoint.pt", "corpus"
FORMAT_VERSION = 1
BATCH_SIZE = 512  # windows a step
LEARNING_RATE = 0.007
DEFAULT_MINUTES = 10.0
FIRST_ROUND = 0.35  # of the budget goes to random starts, the rest equally to the start-aware rounds
CHECKPOINT_EVERY_S = 120.0
DRAFT_REFIT_BYTES = 1 << 26  # of text, and
DRAFT_CANDIDATES = 4  # times 2**window_bits, for a codebook that only finds starts
REFIT_BYTES = 1 << 28


@dataclass(frozen=True)
class Settings:
    """What a run is asked to do; part of config.json, and what a resumed run must agree with."""

    window_bits: int = 16
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
        """Check the ranges.

        Raises:
            InputError: a setting is out of range.
        """
        limits = {
            "window_bits": (MIN_WINDOW_BITS, MAX_WINDOW_BITS),
            "rounds": (0, 20),
            "candidates": (2, 64),
            "seed": (0, 2**63 - 1),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                flag = "--" + name.replace("_", "-")
                raise InputError(f"{flag}: out of range; found {getattr(self, name)}, want {low} to {high}.")
        for name, known in (("preset", list(M1_PRESETS)), ("rule", ["fitted", "published"])):
            if getattr(self, name) not in known:
                raise InputError(
                    f"--{name}: unknown; found {getattr(self, name)}, want one of {', '.join(known)}."
                )
        if not 0 <= self.unaligned_penalty <= MAX_PENALTY:
            raise InputError(
                f"--unaligned-penalty: out of range; found {self.unaligned_penalty}, "
                f"want 0 to {MAX_PENALTY:g}."
            )
        for name, value in (("steps", self.steps), ("bytes", self.n_bytes), ("minutes", self.minutes)):
            if value is not None and not 0 < value < 1e18:
                raise InputError(f"--{name}: out of range; found {value}, want more than 0.")

    @property
    def budget(self) -> Budget:
        """The training budget; DEFAULT_MINUTES if none was given."""
        steps = self.steps
        if self.n_bytes is not None:
            by_bytes = -(-self.n_bytes // (BATCH_SIZE * M1_PRESETS[self.preset].block_size))
            steps = min(steps or by_bytes, by_bytes)
        return Budget(steps, DEFAULT_MINUTES if steps is None and self.minutes is None else self.minutes)


def start(sources: Iterable[tuple[str, BinaryIO]], folder: Path, settings: Settings, report: Report) -> None:
    """Make a model folder and stage the corpus in it.

    Raises:
        InputError: the folder exists and is not empty, or the text cannot be used.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists. Choose another -o, or continue its run with --resume.")
    is_new = not folder.exists()
    report("reading text", 0.0, "")
    try:
        facts = corpus.stage(sources, folder / CORPUS, settings.text_field)
        _write_config(folder, {"settings": asdict(settings), "corpus": asdict(facts)})
    except BaseException:
        shutil.rmtree(folder / CORPUS, ignore_errors=True)
        if is_new and folder.exists():
            folder.rmdir()
        raise
    report("reading text", 1.0, f"{facts.train_bytes + facts.valid_bytes:,} bytes")


def run(
    folder: Path, device: torch.device, report: Report, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Train from where the folder stands, and complete it.

    Args:
        folder: as `start` leaves it, or as an interrupted `run` does.
        device: to train and expand on.
        report: is told of progress.
        should_stop: asked after each step; if true, a checkpoint is written and KeyboardInterrupt raised.

    Returns:
        The contents of config.json.

    Raises:
        FormatError: the folder holds no run.
        MismatchError: its checkpoint does not belong to it.
        InputError: training failed.
    """
    config = read_config(folder)
    if "measured" in config:
        report("training", 1.0, "The run is complete already.")
        return config
    settings = Settings(**config["settings"])
    train, valid, _ = corpus.load(folder / CORPUS)
    torch.manual_seed(settings.seed)
    shape = M1_PRESETS[settings.preset]
    trainer = Trainer(GPT(shape), settings.budget, BATCH_SIZE * shape.block_size, LEARNING_RATE, device)
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        trainer.load(checkpoint)
    saved_s = trainer.time_s

    def on_step(trainer: Trainer) -> None:
        nonlocal saved_s
        rate = trainer.step * BATCH_SIZE * shape.block_size / trainer.time_s
        report(
            "training",
            trainer.progress,
            f"{trainer.loss_nats / np.log(2):.3f} bits/byte, {rate:,.0f} bytes/s",
        )
        stop = should_stop()
        if stop or trainer.time_s - saved_s > CHECKPOINT_EVERY_S:
            trainer.save(checkpoint)
            saved_s = trainer.time_s
        if stop:
            raise KeyboardInterrupt

    measured: dict[str, Any] = {"bytes_per_window": {}}
    draft: Codebook | None = None
    for n in range(settings.rounds + 1):
        batches = WindowBatches(train, draft, BATCH_SIZE, shape.block_size, settings.seed)
        until = FIRST_ROUND + (1 - FIRST_ROUND) * n / settings.rounds if settings.rounds else 1.0
        trainer.run(batches, until, on_step)
        if n < settings.rounds:
            path = folder / f"round-{n}.eqcb"
            if not path.exists():
                trainer.save(checkpoint)
                what = f" for round {n + 1}"
                candidates = _expand(trainer.model, DRAFT_CANDIDATES << settings.window_bits, report, what)
                draft = _refit(candidates, settings, train, DRAFT_REFIT_BYTES, report, what)
                _write(path, draft.to_bytes())
            draft = Codebook.load(path)
            measured["bytes_per_window"][f"draft of round {n + 1}"] = bytes_per_window(draft, valid)
    trainer.save(checkpoint)
    ours, paper = _compile(trainer.model, settings, train, valid, measured, report)
    codebook = paper if settings.rule == "published" else ours
    measured["bits_per_byte_by_position"] = bits_by_position(trainer.model, ours, valid)
    measured["training_steps"], measured["training_s"] = trainer.step, round(trainer.time_s, 1)
    weights = {name: weight.to(torch.bfloat16) for name, weight in trainer.model.state_dict().items()}
    save_tensors(weights, folder / WEIGHTS)
    _write(folder / CODEBOOK_NAME, codebook.to_bytes())
    config = config | {"fingerprint": codebook.fingerprint.hex(), "measured": measured}
    _write_config(folder, config)
    checkpoint.unlink(missing_ok=True)
    for path in folder.glob("round-*.eqcb"):
        path.unlink()
    shutil.rmtree(folder / CORPUS, ignore_errors=True)
    return config


def _expand(model: GPT, n: int, report: Report, suffix: str = "") -> Candidates:
    return expand(model, n, lambda share: report("expanding" + suffix, share, f"{n:,} candidates"))


def _refit(
    candidates: Candidates,
    settings: Settings,
    text: corpus.Text,
    n_bytes: int,
    report: Report,
    suffix: str = "",
) -> Codebook:
    texts = corpus.sample(text, n_bytes)
    return refit(
        candidates,
        texts,
        settings.window_bits,
        settings.unaligned_penalty,
        lambda share: report("refitting" + suffix, share, ""),
    )


def _compile(
    model: GPT,
    settings: Settings,
    train: corpus.Text,
    valid: corpus.Text,
    measured: dict[str, Any],
    report: Report,
) -> tuple[Codebook, Codebook]:
    """The codebook, and the one of the published rule; what they and the steps between measure."""
    candidates = _expand(model, settings.candidates << settings.window_bits, report)
    wanted = (1 << settings.window_bits) - 1
    single = np.fromiter((len(string) == 1 for string in candidates.strings), np.bool_)
    best = np.sort(np.argsort(-np.where(single, np.inf, candidates.log_p), kind="stable")[:wanted])
    top = Codebook([b"", *(candidates.strings[i] for i in best)], settings.window_bits, "greedy")
    ours = _refit(candidates, settings, train, REFIT_BYTES, report)
    paper = published(model, settings.window_bits, lambda share: report("published rule", share, ""))
    optimal = replace(top, method="optimal", unaligned_penalty=settings.unaligned_penalty)
    rows = {
        "published rule, greedy": paper,
        "most probable strings, greedy": top,
        "most probable strings, optimal": optimal,
        "refitted, optimal": ours,
    }
    for name, codebook in rows.items():
        measured["bytes_per_window"][name] = bytes_per_window(codebook, valid)
    measured["windows_unused"] = {
        "of the published rule's codewords": (1 << settings.window_bits) - len(paper.windows),
        "of the codebook, by 32 MiB of the training text": n_unused(ours, train),
    }
    return ours, paper


def tables(config: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What a run measured, for people: titles, each with rows of a name and a figure."""
    measured = config["measured"]
    bits = measured["bits_per_byte_by_position"]
    return [
        (
            "M1 on held-out text, bits/byte by position in the window",
            [(f"byte {i + 1}", f"{bits[i]:.3f}") for i in range(len(bits)) if i < 8 or i % 8 == 7],
        ),
        (
            f"bytes/window on held-out text, {config['settings']['window_bits']} bits",
            [(name, f"{value:.3f}") for name, value in measured["bytes_per_window"].items()],
        ),
        ("windows unused", [(name, f"{n:,}") for name, n in measured["windows_unused"].items()]),
    ]


def load_m1(folder: Path, device: torch.device) -> GPT:
    """M1 of a complete model folder, in float32.

    Raises:
        FormatError: the folder is incomplete or of another version.
        MismatchError: the weights are not those of its settings.
    """
    settings = Settings(**read_config(folder)["settings"])
    model = GPT(M1_PRESETS[settings.preset]).to(device)
    if not (folder / WEIGHTS).exists():
        raise FormatError(f"{folder}: incomplete; {WEIGHTS} is missing. Complete the run with --resume.")
    try:
        model.load_state_dict(load_tensors(folder / WEIGHTS, device))
    except RuntimeError as error:
        raise MismatchError(
            f"{folder / WEIGHTS}: not the weights of its config ({first_line(error)})."
        ) from None
    return model


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder.

    Raises:
        FormatError: there is none, or it is of another version.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
        version = config["format_version"]
        Settings(**config["settings"])
    except OSError:
        raise FormatError(f"{folder}: not a model folder; {CONFIG} is missing.") from None
    except (ValueError, KeyError, TypeError, InputError) as error:
        raise FormatError(f"{path}: damaged ({error}).") from None
    if version != FORMAT_VERSION:
        raise FormatError(f"{path}: another version; found {version}, want {FORMAT_VERSION}.")
    return config  # type: ignore[no-any-return]


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    facts = {
        "format": "eqinfo m1",
        "format_version": FORMAT_VERSION,
        "versions": {
            "eqinfo": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "git_commit": _git_commit(),
    }
    _write(folder / CONFIG, json.dumps(facts | config, indent=2).encode() + b"\n")


def _write(path: Path, data: bytes) -> None:
    with replacing(path, force=True) as sink:
        sink.write(data)


def _git_commit() -> str | None:
    """The commit of the code, when it runs from a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    if not (here.parent / ".git").exists() or shutil.which("git") is None:
        return None
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
