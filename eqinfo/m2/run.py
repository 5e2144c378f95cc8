"""A run of train-m2 as a folder: its settings, its config.json, its data, loading the model.

The folder holds plain files:

    config.json    settings, versions, facts of the data, shape of the model; at the end the measurements
    codebook.eqcb  the bytes of each token, if tokens are windows of a codebook
    metrics.jsonl  one object a line: each step, each validation
    m2.pt          weights of a plain model, embeddings folded, bfloat16

Before the run is complete it also holds `checkpoint.pt`, from which --resume continues to the same result,
and `tokens/` if the data came as .eqi streams.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from eqinfo.codebook.codebook import Codebook
from eqinfo.coder import integer_m1
from eqinfo.errors import FormatError, InputError, MismatchError
from eqinfo.formats import eqi, token_file
from eqinfo.formats.codec import ArithmeticCodec, CodebookCodec, Codec, WindowCodec
from eqinfo.formats.model_folder import CODEBOOK_NAME, NETWORK_NAME, Model
from eqinfo.m2 import batches as m2_batches
from eqinfo.m2.batches import Tokens
from eqinfo.m2.model import GPT, M2_PRESETS, GPTConfig
from eqinfo.system.atomic_files import replacing
from eqinfo.training import run_folder
from eqinfo.training.checkpoint import first_line, load_tensors
from eqinfo.training.schedule import Budget

WEIGHTS, STAGED = "m2.pt", "tokens"


@dataclass(frozen=True)
class Settings:
    """Settings of a run, as config.json keeps them."""

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
        """Raises InputError if a setting is out of range."""
        limits = {
            "block_size": (2, 1 << 20),
            "lr": (1e-9, 10.0),
            "validations": (0, 1000),
            "token_bits": (1, 32),
        }
        run_folder.check(self, {"preset": M2_PRESETS}, limits)
        run_folder.check_ranges(
            self, {"batch_tokens": (self.block_size, 1 << 30), "accumulate": (1, self.batch_size)}
        )

    @property
    def batch_size(self) -> int:
        """Blocks per step."""
        return max(1, self.batch_tokens // self.block_size)

    @property
    def budget(self) -> Budget:
        """The training budget."""
        return Budget.of(self.steps, self.n_tokens, self.batch_size * self.block_size, self.minutes)


def start(
    train: Sequence[Path], valid: Sequence[Path], folder: Path, settings: Settings, model: Path | None
) -> None:
    """Check the data of a new run, find their codebook, write config.json.

    Args:
        train: token files or .eqi streams.
        valid: likewise; may be empty.
        folder: of the run; must be empty or missing.
        settings: of the run.
        model: the model that made the tokens; None for the model in the package.

    Raises:
        EqinfoError: the data cannot be used.
    """

    def config() -> dict[str, Any]:
        files = {
            side: [_staged(path, folder / STAGED / side, model) for path in paths]
            for side, paths in (("train", train), ("valid", valid))
        }
        for paths in files.values():
            m2_batches.check(paths)
        tokens_of = load_data(files, settings)
        tokens = tokens_of["train"]
        sidecar = tokens.sidecar
        # files from elsewhere have no codec
        codec = sidecar.find_codec(Model(model), tokens.name) if sidecar.fingerprint else None
        codebook = codebook_of(codec)
        if codebook is not None:
            run_folder.write_file(folder / CODEBOOK_NAME, codebook.to_bytes())
        elif isinstance(codec, WindowCodec | ArithmeticCodec):  # eval cuts text with their M1
            run_folder.write_file(folder / NETWORK_NAME, integer_m1.to_bytes(codec.network))
        return {
            "settings": asdict(settings),
            "data": {
                side: {
                    "files": [str(path.absolute()) for path in files[side]],
                    "tokens": data.n_tokens,
                    "original_bytes": data.sidecar.original_bytes,
                }
                for side, data in tokens_of.items()
            },
            "fingerprint": sidecar.fingerprint,
            "unit_bits": sidecar.unit_bits,
            "model": _facts(shape_of(settings, tokens, codebook)),
        }

    run_folder.start(folder, "m2", config, made=[STAGED, CODEBOOK_NAME, NETWORK_NAME])


def check_same(folder: Path, given: dict[str, Any]) -> None:
    """Raises MismatchError if a setting that the user gave differs from the run's."""
    settings = read_config(folder)["settings"]
    for name, value in given.items():
        if settings[name] != value:
            raise MismatchError(
                f"{folder}: a run with another {name}; found {settings[name]}, want {value}. "
                f"Leave {run_folder.flag(name)} out to continue it, or start a new run with another -o."
            )


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a run folder of train-m2.

    Raises:
        FormatError: there is none, or it is damaged or of another version.
    """
    return run_folder.read_config(folder, "m2", _check)


def _check(config: dict[str, Any]) -> None:
    """Use all parts of a config once, so that damage raises here; complete its settings with defaults."""
    config["settings"] = asdict(Settings(**config["settings"]))
    _config_shape(config)
    sides = config["data"]
    for name in [name for data in (sides["train"], *sides.values()) for name in data["files"]]:
        Path(name)
    if not sides["train"]["files"] or not all(type(data["tokens"]) is int for data in sides.values()):
        raise ValueError("data: no training data, or no number of tokens")
    bytes([config.get("unit_bits", 0)]) + bytes.fromhex(config["fingerprint"])  # these find the codec
    if "measured" in config:
        tables(config)


def _config_shape(config: dict[str, Any]) -> GPTConfig:
    """The model's shape in a config.json.

    Raises:
        ValueError: it is not the shape that the settings give.
    """
    settings, vocab_size = Settings(**config["settings"]), config["model"]["vocab_size"]
    shape = GPTConfig(vocab_size, settings.block_size, *M2_PRESETS[settings.preset])
    is_size = type(vocab_size) is int and vocab_size >= 2
    if not is_size or not asdict(shape).items() <= config["model"].items():
        raise ValueError("model: not the shape that its settings give")
    return shape


def _staged(path: Path, folder: Path, model: Path | None) -> Path:
    """The path of a token file; an .eqi stream is converted into one in `folder`."""
    if path.suffix != eqi.STREAM_SUFFIX:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{len(list(folder.iterdir())):04}-{path.stem}{token_file.TOKENS_SUFFIX}"
    with (
        path.open("rb") as source,
        replacing(token_file.sidecar_path(target)) as sidecar,
        replacing(target) as sink,
    ):
        header = eqi.parse_header(source.read(eqi.HEADER_BYTES), str(path))
        codec = Model(model).find_codec(*header, str(path))
        source.seek(0)
        _, facts = token_file.write(eqi.read_frames(source, codec, str(path)), sink, codec)
        sidecar.write(facts.to_json())
    return target


def load_data(files: dict[str, list[Path]], settings: Settings) -> dict[str, Tokens]:
    """Training data and, if any, validation data, of one vocabulary; the former fill at least a block."""
    loaded = {side: m2_batches.load(paths, settings.token_bits) for side, paths in files.items() if paths}
    train = loaded["train"]
    for other in loaded.values():
        m2_batches.check_vocabulary(other.name, other.sidecar, train.name, train.sidecar)
    if train.n_tokens < settings.block_size:
        raise InputError(
            f"--block-size: larger than the data; found {train.n_tokens} tokens, "
            f"want {settings.block_size} or more. Give more text or a smaller block."
        )
    return loaded


def codebook_of(codec: Codec | None) -> Codebook | None:
    """The codebook of a codec; None for live windows and for no codec."""
    return codec.codebook if isinstance(codec, CodebookCodec) else None


def load_codec(folder: Path, config: dict[str, Any]) -> Codec | None:
    """The codec of a run's tokens; None for token files from elsewhere."""
    if not config["fingerprint"]:
        return None
    model = Model(folder)
    unit_bits = config.get("unit_bits") or model.codebook.window_bits
    return model.find_codec(unit_bits, bytes.fromhex(config["fingerprint"]), str(folder))


def shape_of(settings: Settings, train: Tokens, codebook: Codebook | None) -> GPTConfig:
    """The model's shape; codewords without a window get no embedding."""
    whole = train.tokens_an_id == 1
    vocab_size = len(codebook.windows) if codebook is not None and whole else train.vocab_size
    return GPTConfig(vocab_size, settings.block_size, *M2_PRESETS[settings.preset])


def _facts(shape: GPTConfig) -> dict[str, int]:
    """A shape, its parameters and its FLOPs, for config.json."""
    embeddings = 2 * shape.vocab_size * shape.n_embd
    return asdict(shape) | {
        "non_embedding_params": shape.n_params,
        "params": shape.n_params + embeddings,
        "training_flops_per_token": shape.training_flops,
    }


@dataclass(frozen=True)
class M2:
    """A trained model and the codec of its tokens; None for token files from elsewhere."""

    model: GPT
    codec: Codec | None
    config: dict[str, Any]

    @property
    def codebook(self) -> Codebook | None:
        """The codebook of its tokens; None for live windows and for token files from elsewhere."""
        return codebook_of(self.codec)


def load_m2(folder: Path, device: torch.device) -> M2:
    """The model of a complete run, in float32.

    Raises:
        FormatError: the folder is incomplete or of another version.
        MismatchError: the weights do not fit the config.
    """
    config = read_config(folder)
    shape, weights = _config_shape(config), folder / WEIGHTS
    if not weights.exists():
        raise FormatError(f"{folder}: incomplete; {WEIGHTS} is missing. Complete the run with --resume.")
    found, want = weights.stat().st_size, 2 * _facts(shape)["params"]
    if found < want:  # checked before the memory for such a model is allocated
        raise MismatchError(
            f"{weights}: not the weights of its config; found {found} bytes, want {want} or more."
        )
    state, model = load_tensors(weights, device), GPT(shape).to(device)
    try:
        model.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise MismatchError(f"{weights}: not the weights of its config ({first_line(error)}).") from None
    return M2(model, load_codec(folder, config), config)


def tables(config: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The measurements of a run for people: titles, each with rows of a name and a figure."""
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
