"""The trained model of a run: its weights, or those of its checkpoint if it is not complete."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import FormatError, MismatchError
from eqinfo.formats.codec import Codec
from eqinfo.m2.model import GPT, GPTConfig
from eqinfo.m2.run import (
    WEIGHTS,
    Settings,
    codebook_of,
    codebook_of_tokens,
    config_shape,
    facts,
    impossible_of,
    known_tokens,
    load_codec,
    new_model,
    ngrams_of,
    read_config,
)
from eqinfo.training.checkpoint import first_line, load_tensors
from eqinfo.training.run_folder import CHECKPOINT

_UNFIT = (RuntimeError, AttributeError, TypeError)  # raised for tensors of another model


@dataclass(frozen=True)
class M2:
    """A trained model.

    Attributes:
        model: with plain embeddings.
        codec: of its tokens; None for token files from elsewhere.
        config: the contents of config.json, with `measured`.
        is_complete: false if the model is that of a checkpoint.
    """

    model: GPT
    codec: Codec | None
    config: dict[str, Any]
    is_complete: bool = True

    @property
    def codebook(self) -> Codebook | None:
        """The codebook whose windows its tokens are; None if they are others, or parts of windows."""
        return codebook_of_tokens(self.codec, self.model.config.vocab_size)


def load_m2(folder: Path, device: torch.device) -> M2:
    """The model of a run, in float32; of its checkpoint, if it is not complete.

    Raises:
        FormatError: the folder holds no model yet, or is of another version.
        MismatchError: the weights do not fit the config.
    """
    config = read_config(folder)
    shape, codec = config_shape(config), load_codec(folder, config)
    codebook = codebook_of(codec)
    if "measured" in config:
        return M2(load_weights(folder, config, shape, codebook, device), codec, config)
    path, settings = checkpoint_of(folder), Settings(**config["settings"])
    tokens = known_tokens(settings, shape, codebook)
    _check_size(path, 4 * facts(shape, tokens is not None)["params"])
    state, trained = load_tensors(path, torch.device("cpu")), new_model(config, shape, codebook)
    try:
        trained.load_state_dict(state["model"])
        step, time_s = state["step"], round(state["time_s"], 1)
        n_tokens = step * settings.batch_size * settings.block_size
    except (LookupError, *_UNFIT) as error:
        raise MismatchError(f"{path}: not a checkpoint of its run ({first_line(error)}).") from None
    model = GPT(shape, ngrams=ngrams_of(shape, tokens), impossible=trained.impossible)
    model.load_state_dict(trained.plain())
    measured = {"training_steps": step, "training_tokens": n_tokens, "training_s": time_s}
    return M2(model.to(device), codec, config | {"measured": measured}, is_complete=False)


def checkpoint_of(folder: Path) -> Path:
    """The checkpoint of a run that is not complete; raises FormatError if there is none yet."""
    path = folder / CHECKPOINT
    if not path.exists():
        raise FormatError(f"{folder}: no checkpoint yet. Wait for the first one, or go on with --resume.")
    return path


def load_weights(
    folder: Path, config: dict[str, Any], shape: GPTConfig, codebook: Codebook | None, device: torch.device
) -> GPT:
    """The model in a run's m2.pt, in float32; raises the errors of `load_m2`."""
    weights = folder / WEIGHTS
    if not weights.exists():
        raise FormatError(f"{folder}: incomplete; {WEIGHTS} is missing. Complete the run with --resume.")
    tokens = known_tokens(Settings(**config["settings"]), shape, codebook)
    _check_size(weights, 2 * facts(shape, tokens is not None)["params"])
    state = load_tensors(weights, device)
    model = GPT(shape, ngrams=ngrams_of(shape, tokens), impossible=impossible_of(config, codebook)).to(device)
    try:
        model.load_state_dict(state)
    except _UNFIT as error:
        raise MismatchError(f"{weights}: not the weights of its config ({first_line(error)}).") from None
    return model


def _check_size(path: Path, want: int) -> None:
    """Raises MismatchError if a file is too small, before the memory for such a model is allocated."""
    if (found := path.stat().st_size) < want:
        raise MismatchError(
            f"{path}: not the weights of its config; found {found} bytes, want {want} or more."
        )
