"""train-m2: token files to a language model over windows, in a run folder.

The folder holds plain files:

    config.json    settings, versions, facts of the data, shape of the model; in the end what was measured
    codebook.eqcb  what the tokens mean, if they are windows
    metrics.jsonl  an object a line: each step, and each validation
    m2.pt          weights of a plain model, embeddings folded, bfloat16

and until the run is complete `checkpoint.pt`, from which `resume` continues exactly, and `tokens/` if the
data came as .eqi streams.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import FormatError, InputError, MismatchError
from eqinfo.formats import eqi, token_file
from eqinfo.formats.codec import CodebookCodec, Codec
from eqinfo.formats.model_folder import CODEBOOK_NAME, DEFAULT_MODEL, NETWORK_NAME, Model
from eqinfo.m2 import batches as m2_batches
from eqinfo.m2.batches import TokenBatches, Tokens
from eqinfo.m2.measure import total_nats
from eqinfo.m2.metrics import Metrics
from eqinfo.m2.model import GPT, M2_PRESETS, GPTConfig, Spelling
from eqinfo.system.atomic_files import replacing
from eqinfo.system.signals import undoing
from eqinfo.training import run_folder
from eqinfo.training.checkpoint import first_line, load_tensors, save_tensors
from eqinfo.training.devices import peak_flops, rank_and_world
from eqinfo.training.loop import Budget, Trainer

Report = Callable[[str, float, str], None]  # a phase, the share of it that is done, a word about it

WEIGHTS, METRICS, STAGED = "m2.pt", "metrics.jsonl", "tokens"
PASSING = (run_folder.CHECKPOINT, STAGED)  # what only an incomplete run needs
STREAM_SUFFIX = ".eqi"


@dataclass(frozen=True)
class Settings:
    """What a run is asked to do; part of config.json, and what a resumed run must agree with."""

    preset: str = "3m"
    token_bits: int | None = None
    block_size: int = 512
    batch_tokens: int = 1 << 14
    accumulate: int = 1
    steps: int | None = None
    n_tokens: int | None = None
    minutes: float | None = None
    lr: float = 0.01
    validations: int = 10
    plain_embeddings: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a setting is out of range.
        """
        run_folder.check_types(self)
        run_folder.check_known(self, {"preset": M2_PRESETS})
        limits = {
            "block_size": (2, 1 << 20),
            "batch_tokens": (self.block_size, 1 << 30),
            "accumulate": (1, self.batch_size),
            "lr": (1e-9, 10.0),
            "validations": (0, 1000),
            "token_bits": (1, 32),
            "seed": (0, 2**63 - 1),
        }
        run_folder.check_ranges(self, limits)
        run_folder.check_positive(self, ("steps", "n_tokens", "minutes"))

    @property
    def batch_size(self) -> int:
        """Blocks a step."""
        return max(1, self.batch_tokens // self.block_size)

    @property
    def budget(self) -> Budget:
        """The training budget."""
        return Budget.of(self.steps, self.n_tokens, self.batch_size * self.block_size, self.minutes)


def start(
    train: Sequence[Path], valid: Sequence[Path], folder: Path, settings: Settings, model: Path | None
) -> None:
    """Make a run folder: check the data, find their codebook, write down what is to be done.

    Args:
        train: token files or .eqi streams.
        valid: likewise; may be empty.
        folder: to make.
        settings: of the run.
        model: what the tokens were made with; the model in the package if None.

    Raises:
        EqinfoError: the folder is in use, or the data cannot be used.
    """
    run_folder.refuse_used(folder)
    with undoing(partial(run_folder.remove, folder, STAGED, CODEBOOK_NAME, NETWORK_NAME, run_folder.CONFIG)):
        folder.mkdir(parents=True, exist_ok=True)
        sides = {
            side: [_staged(path, folder / STAGED / side, model) for path in paths]
            for side, paths in (("train", train), ("valid", valid))
        }
        for paths in sides.values():
            m2_batches.check(paths)
        tokens_of = _load(sides, settings)
        codec = _codec(tokens_of["train"], model)
        codebook = _codebook(codec)
        if codebook is not None:
            run_folder.write_file(folder / CODEBOOK_NAME, codebook.to_bytes())
        elif codec is not None:  # made of an M1, which cuts texts to measure on
            shutil.copyfile((model or DEFAULT_MODEL) / NETWORK_NAME, folder / NETWORK_NAME)
        config = {
            "settings": asdict(settings),
            "data": {
                side: {
                    "files": [str(path.absolute()) for path in sides[side]],
                    "tokens": data.n_tokens,
                    "original_bytes": data.original_bytes,
                }
                for side, data in tokens_of.items()
            },
            "fingerprint": tokens_of["train"].fingerprint,
            "unit_bits": tokens_of["train"].unit_bits,
            "model": _facts(_shape(settings, tokens_of["train"], codebook)),
        }
        run_folder.write_config(folder, "m2", config)


def check_same(folder: Path, given: dict[str, Any]) -> None:
    """Whether a run is what was asked for.

    Args:
        folder: of the run.
        given: the settings that the user named.

    Raises:
        MismatchError: one of them is another than the run's.
    """
    settings = read_config(folder)["settings"]
    for name, value in given.items():
        if settings[name] != value:
            raise MismatchError(
                f"{folder}: a run with another {name}; found {settings[name]}, want {value}. "
                f"Leave {run_folder.flag(name)} out to continue it, or start a new run with another -o."
            )


def run(
    folder: Path, device: torch.device, report: Report, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Train from where the folder stands, and complete it.

    Args:
        folder: as `start` leaves it, or as an interrupted `run` does.
        device: to train on, of this process.
        report: is told of progress.
        should_stop: asked after each step; if true, a checkpoint is written and KeyboardInterrupt raised.

    Returns:
        The contents of config.json.

    Raises:
        FormatError: the folder holds no run, or its data have changed.
        MismatchError: its checkpoint does not belong to it.
        InputError: training failed.
    """
    if dist.is_initialized():
        dist.barrier()  # the first process makes the folder
    config = read_config(folder)
    is_first = rank_and_world()[0] == 0
    if "measured" in config:
        if is_first:
            run_folder.remove(folder, *PASSING)  # if it was killed before it did
        report("training", 1.0, "The run is complete already.")
        return config
    this = _Run(folder, config, device, report)
    measured = this.train(should_stop)
    config = config | {"measured": measured}
    if is_first:
        this.save_plain()
        run_folder.write_config(folder, "m2", config)
        run_folder.remove(folder, *PASSING)
    return config


def tables(config: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What a run measured, for people: titles, each with rows of a name and a figure."""
    shape, measured = config["model"], config["measured"]
    rows = [
        ("parameters", f"{shape['params']:,}"),
        ("of them not in embeddings", f"{shape['non_embedding_params']:,}"),
        ("tokens trained on", f"{measured['training_tokens']:,}"),
        ("time", f"{measured['training_s']:,.1f} s"),
    ]
    names = {"valid_bits_per_byte": "bits/byte, validation", "valid_loss": "nats/token, validation"}
    rows += [(word, f"{measured[name]:.4f}") for name, word in names.items() if name in measured]
    return [("M2", rows)]


class _Run:
    """A run in its folder, in one process of it."""

    def __init__(self, folder: Path, config: dict[str, Any], device: torch.device, report: Report) -> None:
        self.folder, self.report = folder, report
        self.settings = Settings(**config["settings"])
        files = {side: [Path(name) for name in data["files"]] for side, data in config["data"].items()}
        self.data = _load(files, self.settings)
        for side, data in self.data.items():
            found, want = data.n_tokens, config["data"][side]["tokens"]
            if (found, data.fingerprint) != (want, config["fingerprint"]):
                raise FormatError(f"{data.name}: not the data this run began with. Start a new run.")
        codec = _load_codec(folder, config)
        codebook = _codebook(codec)
        self.shape = _shape(self.settings, self.data["train"], codebook)
        torch.manual_seed(self.settings.seed)
        spelling = None
        if codebook is not None and self._spells:
            spelling = Spelling(codebook.windows, self.shape.n_embd)
        size = self.settings.batch_size
        self.tokens_a_step = size * self.settings.block_size
        self.trainer = Trainer(
            GPT(self.shape, spelling), self.settings.budget, self.tokens_a_step, self.settings.lr, device,
            self.settings.accumulate,
        )  # fmt: skip
        if size % (self.trainer.world * self.settings.accumulate):
            raise InputError(
                f"--batch-tokens: {size} blocks cannot be shared equally by {self.trainer.world} processes "
                f"with --accumulate {self.settings.accumulate}."
            )
        if (folder / run_folder.CHECKPOINT).exists():
            self.trainer.load(folder / run_folder.CHECKPOINT)
        self.metrics = Metrics(folder / METRICS)
        self.peak_flops = peak_flops(device)
        self._first_step, self._before_s = self.trainer.step, self.trainer.time_s
        if self.trainer.rank == 0:
            self.metrics.forget_after(self.trainer.step)
        if self.trainer.world > 1:
            dist.barrier()

    @property
    def _spells(self) -> bool:
        """Whether embeddings are composed of bytes: tokens must be whole windows."""
        train = self.data["train"]
        return not self.settings.plain_embeddings and train.tokens_an_id == 1

    def train(self, should_stop: Callable[[], bool]) -> dict[str, Any]:
        """Train to the end of the budget; what was measured."""
        batches = TokenBatches(
            self.data["train"], self.settings.block_size, self.settings.batch_size, self.settings.seed
        )
        n = max(1, self.settings.validations)
        for k in range(len(self._validations()) + 1, n + 1):
            self.trainer.run(batches, k / n, self.folder / run_folder.CHECKPOINT, self._on_step, should_stop)
            self._validate()
        self.trainer.save(self.folder / run_folder.CHECKPOINT)
        last = self._validations()[-1:]
        return {name: value for line in last for name, value in line.items() if name != "step"} | {
            "training_steps": self.trainer.step,
            "training_tokens": self.trainer.step * self.tokens_a_step,
            "training_s": round(self.trainer.time_s, 1),
            **self._rates(self.trainer.step, self.trainer.time_s),
        }

    def _validations(self) -> list[dict[str, float]]:
        """The lines of validations up to this step."""
        return [line for line in self.metrics.up_to(self.trainer.step) if "valid_loss" in line]

    def _validate(self) -> None:
        """Write down the loss on the whole of the validation data, if there are any."""
        if "valid" not in self.data or not self.settings.validations:
            return
        valid = self.data["valid"]
        nats = total_nats(self.trainer.model, valid)
        figures = {"valid_loss": nats / valid.n_tokens}
        if valid.original_bytes:
            figures["valid_bits_per_byte"] = nats / math.log(2) / valid.original_bytes
        if self.trainer.rank == 0:
            self.metrics.add(step=self.trainer.step, **figures)
        words = [f"{name} {value:.4f}" for name, value in figures.items()]
        self.report("validating", self.trainer.progress, ", ".join(words))

    def _on_step(self, trainer: Trainer[GPT]) -> None:
        """Write down what a step gave and tell of it."""
        rates = self._rates(trainer.step - self._first_step, trainer.time_s - self._before_s)
        loss: dict[str, float] = {"loss": trainer.loss_nats}
        if ratio := self.data["train"].bytes_per_token:
            loss["bits_per_byte"] = trainer.loss_nats / math.log(2) / ratio
        n_tokens = trainer.step * self.tokens_a_step
        if trainer.rank == 0:
            self.metrics.add(step=trainer.step, tokens=n_tokens, **loss, time_s=trainer.time_s, **rates)
        words = [f"step {trainer.step}", f"loss {trainer.loss_nats:.3f}"]
        words += [f"{loss['bits_per_byte']:.3f} bits/byte"] if "bits_per_byte" in loss else []
        words += [f"{rates['tokens_per_s']:,.0f} tokens/s"]
        words += [f"{rates['bytes_per_s']:,.0f} bytes/s"] if "bytes_per_s" in rates else []
        words += [f"MFU {rates['mfu']:.1%}"] if "mfu" in rates else []
        self.report("training", trainer.progress, ", ".join(words))

    def _rates(self, steps: int, time_s: float) -> dict[str, float]:
        """Speed of some steps, and its share of what the GPUs could do."""
        tokens_per_s = steps * self.tokens_a_step / time_s if steps else 0.0
        rates = {"tokens_per_s": tokens_per_s}
        if ratio := self.data["train"].bytes_per_token:
            rates["bytes_per_s"] = tokens_per_s * ratio
        if self.peak_flops:
            rates["mfu"] = tokens_per_s * self.shape.training_flops / (self.peak_flops * self.trainer.world)
        return rates

    def save_plain(self) -> None:
        """Write the weights that inference loads."""
        state = self.trainer.model.plain()
        save_tensors({name: w.to(torch.bfloat16) for name, w in state.items()}, self.folder / WEIGHTS)


@dataclass(frozen=True)
class M2:
    """A trained model and what its tokens mean; codec is None where only ids are known."""

    model: GPT
    codec: Codec | None
    config: dict[str, Any]

    @property
    def codebook(self) -> Codebook | None:
        """What its tokens mean, if they are windows of a codebook."""
        return _codebook(self.codec)


def load_m2(folder: Path, device: torch.device) -> M2:
    """The model of a complete run, in float32.

    Raises:
        FormatError: the folder is incomplete or of another version.
        MismatchError: the weights are not those of its config.
    """
    config = read_config(folder)
    shape = _shape_of(config)
    if not (folder / WEIGHTS).exists():
        raise FormatError(f"{folder}: incomplete; {WEIGHTS} is missing. Complete the run with --resume.")
    found, want = (folder / WEIGHTS).stat().st_size, 2 * _facts(shape)["params"]
    if found < want:  # before a model of that size is made
        raise MismatchError(
            f"{folder / WEIGHTS}: not the weights of its config; found {found} bytes, want {want} or more."
        )
    state, model = load_tensors(folder / WEIGHTS, device), GPT(shape).to(device)
    try:
        model.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise MismatchError(
            f"{folder / WEIGHTS}: not the weights of its config ({first_line(error)})."
        ) from None
    return M2(model, _load_codec(folder, config), config)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a run folder of train-m2.

    Raises:
        FormatError: there is none, or it is damaged or of another version.
    """
    config = run_folder.read_config(folder, "m2")
    with run_folder.refusing(folder):
        config["settings"] = asdict(Settings(**config["settings"]))
        _shape_of(config)
        sides = config["data"]
        for name in [name for data in (sides["train"], *sides.values()) for name in data["files"]]:
            Path(name)
        if not sides["train"]["files"] or not all(type(data["tokens"]) is int for data in sides.values()):
            raise ValueError("data: no training data, or no number of tokens")
        bytes([config.get("unit_bits", 0)]) + bytes.fromhex(config["fingerprint"])  # what finds its codec
        if "measured" in config:
            tables(config)
    return config


def _shape_of(config: dict[str, Any]) -> GPTConfig:
    """The model's shape as a config.json says.

    Raises:
        ValueError: it is not that of its settings.
    """
    settings = Settings(**config["settings"])
    found = {field.name: config["model"][field.name] for field in fields(GPTConfig)}
    if not all(type(size) is int for size in found.values()):
        raise ValueError("model: sizes must be whole numbers")
    want = GPTConfig(found["vocab_size"], settings.block_size, *M2_PRESETS[settings.preset])
    if found != asdict(want) or want.vocab_size < 2:
        raise ValueError("model: not the shape that its settings give")
    return want


def _staged(path: Path, folder: Path, model: Path | None) -> Path:
    """A token file as it is; of an .eqi stream, a token file made from it."""
    if path.suffix != STREAM_SUFFIX:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{len(list(folder.iterdir())):04}-{path.stem}.bin"
    with (
        path.open("rb") as source,
        replacing(token_file.sidecar_path(target)) as sidecar,
        replacing(target) as sink,
    ):
        finder = Model(model)
        codec = eqi.find_codec(source.read(eqi.HEADER_BYTES), finder, str(path))
        source.seek(0)
        _, facts = token_file.write(eqi.read_frames(source, codec, str(path)), sink, codec)
        sidecar.write(facts.to_json())
    return target


def _load(files: dict[str, list[Path]], settings: Settings) -> dict[str, Tokens]:
    """Training and, if given, validation data; they must be of one vocabulary and enough for a block."""
    loaded = {side: m2_batches.load(paths, settings.token_bits) for side, paths in files.items() if paths}
    train = loaded["train"]
    for other in loaded.values():
        if (other.fingerprint, other.vocab_size) != (train.fingerprint, train.vocab_size):
            raise MismatchError(
                f"{other.name}: of another vocabulary than {train.name}; found fingerprint "
                f"{other.fingerprint[:16]}, want {train.fingerprint[:16]}."
            )
    if train.n_tokens < settings.block_size:
        raise InputError(
            f"--block-size: larger than the data; found {train.n_tokens} tokens, "
            f"want {settings.block_size} or more. Give more text or a smaller block."
        )
    return loaded


def _codec(data: Tokens, model: Path | None) -> Codec | None:
    """What token files were made with; None for files from elsewhere."""
    if not data.fingerprint:
        return None
    return Model(model).find(data.unit_bits or data.window_bits, bytes.fromhex(data.fingerprint), data.name)


def _codebook(codec: Codec | None) -> Codebook | None:
    """The codebook of a codec, if it has one."""
    return codec.codebook if isinstance(codec, CodebookCodec) else None


def _load_codec(folder: Path, config: dict[str, Any]) -> Codec | None:
    """The codec of a run, if it has one."""
    if config.get("unit_bits"):
        return Model(folder).find(config["unit_bits"], bytes.fromhex(config["fingerprint"]), str(folder))
    path = folder / CODEBOOK_NAME
    if not path.exists():
        return None
    codebook = Codebook.load(path)
    return CodebookCodec(codebook).find(
        codebook.window_bits, bytes.fromhex(config["fingerprint"]), str(folder / run_folder.CONFIG)
    )


def _shape(settings: Settings, train: Tokens, codebook: Codebook | None) -> GPTConfig:
    """The model's shape; ids that no window has need no embedding."""
    whole = train.tokens_an_id == 1
    vocab_size = len(codebook.windows) if codebook is not None and whole else train.vocab_size
    return GPTConfig(vocab_size, settings.block_size, *M2_PRESETS[settings.preset])


def _facts(shape: GPTConfig) -> dict[str, int]:
    """A shape and what follows from it, for config.json."""
    embeddings = 2 * shape.vocab_size * shape.n_embd
    return asdict(shape) | {
        "non_embedding_params": shape.n_params,
        "params": shape.n_params + embeddings,
        "training_flops_per_token": shape.training_flops,
    }
