"""A run of train-m2 as a folder: its settings, its config.json, the shape and parts of its model.

The folder holds plain files:

    config.json    settings, versions, facts of the data, shape of the model; at the end the measurements
    codebook.eqcb  the bytes of each token, if tokens are windows of a codebook
    m1.eqm1        what decodes the tokens, if they are parts of live windows
    metrics.jsonl  one object a line: each step, each validation
    m2.pt          weights of a plain model, embeddings folded, bfloat16
    checkpoint.pt  weights and state of the optimisers at the last step, from which --resume goes on

Before the run is complete, `m2.pt` holds the weights of the best validation so far, and `tokens/` the data if
they came as .eqi streams.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.pairs import impossible_pairs
from eqinfo.errors import OptionError
from eqinfo.formats.codec import CodebookCodec, Codec
from eqinfo.formats.model_folder import Model
from eqinfo.m2.batches import Tokens
from eqinfo.m2.impossible import Impossible
from eqinfo.m2.model import GPT, M2_PRESETS, GPTConfig
from eqinfo.m2.token_bytes import ROW_BITS, ByteNgrams, Spelling
from eqinfo.training import run_folder
from eqinfo.training.schedule import Budget

WEIGHTS, STAGED = "m2.pt", "tokens"
DEFAULT_BLOCKS = 32  # of a batch
MAX_SHAPE = 1 << 16  # of layers, heads and width in a name
CPU_DEFAULTS: dict[str, Any] = {"preset": "nano", "block_size": 128}  # what a CPU trains in minutes


@dataclass(frozen=True)
class Settings:
    """Settings of a run, as config.json keeps them."""

    preset: str = "3m"
    token_bits: int | None = None
    block_size: int = 512
    batch_tokens: int | None = None  # DEFAULT_BLOCKS blocks
    accumulate: int = 1
    steps: int | None = None
    n_tokens: int | None = None
    minutes: float | None = None
    lr: float = 0.01
    validations: int = 10
    plain_embeddings: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises OptionError if a setting is out of range."""
        limits = {
            "block_size": (2, 1 << 20),
            "lr": (1e-9, 10.0),
            "validations": (0, 1000),
            "token_bits": (1, 32),
        }
        run_folder.check(self, {}, limits)
        shape_of_name(self.preset)
        run_folder.check_ranges(
            self, {"batch_tokens": (self.block_size, 1 << 30), "accumulate": (1, self.batch_size)}
        )

    @property
    def batch_size(self) -> int:
        """Blocks per step."""
        return max(1, (self.batch_tokens or DEFAULT_BLOCKS * self.block_size) // self.block_size)

    @property
    def budget(self) -> Budget:
        """The training budget."""
        return Budget.of(self.steps, self.n_tokens, self.batch_size * self.block_size, self.minutes)


def shape_of_name(name: str) -> tuple[int, int, int]:
    """n_layer, n_head, n_embd of a preset, or of a name that states them.

    >>> shape_of_name("6x8x512")
    (6, 8, 512)

    Raises:
        OptionError: it is no such name, or the width is no multiple of twice the heads.
    """
    if (preset := M2_PRESETS.get(name)) is not None:
        return preset
    parts = [int(part) for part in name.split("x") if part.isdecimal() and len(part) < 6]
    if name.count("x") != 2 or len(parts) != 3 or not all(0 < part <= MAX_SHAPE for part in parts):
        raise OptionError(
            f"--preset: unknown; found {name}, want one of {', '.join(M2_PRESETS)}, or LAYERSxHEADSxWIDTH."
        )
    n_layer, n_head, n_embd = parts
    if n_embd % (2 * n_head):
        raise OptionError(f"--preset: found width {n_embd}, want a multiple of twice the {n_head} heads.")
    return n_layer, n_head, n_embd


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a run folder of train-m2.

    Raises:
        FormatError: there is none, or it is damaged or of another version.
    """
    return run_folder.read_config(folder, "m2", _check)


def _check(config: dict[str, Any]) -> None:
    """Use all parts of a config once, so that damage raises here; complete its settings with defaults."""
    config["settings"] = asdict(Settings(**config["settings"]))
    config_shape(config)
    sides = config["data"]
    for name in [name for data in (sides["train"], *sides.values()) for name in data["files"]]:
        Path(name)
    if type(config.setdefault("knows_cuts", False)) is not bool:
        raise ValueError("knows_cuts: neither true nor false")
    if not sides["train"]["files"] or not all(type(data["tokens"]) is int for data in sides.values()):
        raise ValueError("data: no training data, or no number of tokens")
    bytes([config.get("unit_bits", 0)]) + bytes.fromhex(config["fingerprint"])  # these find the codec
    if "measured" in config:
        tables(config)


def config_shape(config: dict[str, Any]) -> GPTConfig:
    """The model's shape in a config.json.

    Raises:
        ValueError: it is not the shape that the settings give.
    """
    settings, vocab_size = Settings(**config["settings"]), config["model"]["vocab_size"]
    shape = GPTConfig(vocab_size, settings.block_size, *shape_of_name(settings.preset))
    is_size = type(vocab_size) is int and vocab_size >= 2
    if not is_size or not asdict(shape).items() <= config["model"].items():
        raise ValueError("model: not the shape that its settings give")
    return shape


def codebook_of(codec: Codec | None) -> Codebook | None:
    """The codebook of a codec; None for live windows and for no codec."""
    return codec.codebook if isinstance(codec, CodebookCodec) else None


def codebook_of_tokens(codec: Codec | None, vocab_size: int) -> Codebook | None:
    """The codebook of a codec if a model of so many tokens has its windows as tokens; else None."""
    codebook = codebook_of(codec)
    return codebook if codebook is not None and len(codebook.windows) == vocab_size else None


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
    return GPTConfig(vocab_size, settings.block_size, *shape_of_name(settings.preset))


def known_tokens(settings: Settings, shape: GPTConfig, codebook: Codebook | None) -> list[bytes] | None:
    """The bytes of the tokens; None if they are no windows of a codebook, or have plain embeddings."""
    if codebook is None or len(codebook.windows) != shape.vocab_size or settings.plain_embeddings:
        return None
    return codebook.windows


def ngrams_of(shape: GPTConfig, tokens: list[bytes] | None) -> ByteNgrams | None:
    """New byte n-grams; None for tokens of unknown bytes."""
    return None if tokens is None else ByteNgrams(tokens, shape.n_embd)


def impossible_of(config: dict[str, Any], codebook: Codebook | None) -> Impossible | None:
    """What a run knows of cuts; None if its data are cut in another way than its codebook cuts."""
    if codebook is None or not config["knows_cuts"]:
        return None
    pairs = impossible_pairs(codebook)
    return None if pairs is None else Impossible(pairs)


def facts(shape: GPTConfig, has_ngrams: bool) -> dict[str, int]:
    """A shape, its parameters and its FLOPs, for config.json."""
    ngram_params = shape.n_embd << ROW_BITS if has_ngrams else 0
    return asdict(shape) | {
        "non_embedding_params": shape.n_params,
        "ngram_params": ngram_params,
        "params": shape.n_params + 2 * shape.vocab_size * shape.n_embd + ngram_params,
        "training_flops_per_token": shape.training_flops,
    }


def new_model(config: dict[str, Any], shape: GPTConfig, codebook: Codebook | None) -> GPT:
    """A new model of a run, to train or to fill; it knows its tokens' bytes if they are whole windows."""
    tokens = known_tokens(Settings(**config["settings"]), shape, codebook)
    spelling = None if tokens is None else Spelling(tokens, shape.n_embd)
    return GPT(shape, spelling, ngrams_of(shape, tokens), impossible_of(config, codebook))


def tables(config: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The measurements of a run for people: titles, each with rows of a name and a figure."""
    shape, measured = config["model"], config["measured"]
    rows = [
        ("parameters", f"{shape['params']:,}"),
        ("of them in layers", f"{shape['non_embedding_params']:,}"),
        ("of them in byte n-grams", f"{shape['ngram_params']:,}"),
        ("tokens trained on", f"{measured['training_tokens']:,}"),
        ("time", f"{measured['training_s']:,.1f} s"),
    ]
    names = {
        "train_bits_per_byte": "bits/byte, training, last tenth",
        "valid_bits_per_byte": "bits/byte, validation",
        "train_loss": "nats/token, training, last tenth",
        "valid_loss": "nats/token, validation",
    }
    rows += [(word, f"{measured[name]:.4f}") for name, word in names.items() if name in measured]
    if (best := measured.get("best_step", measured["training_steps"])) < measured["training_steps"]:
        rows.append(("overfitting", f"validation was best at step {best:,}: {WEIGHTS}"))
    return [("M2", rows)]
