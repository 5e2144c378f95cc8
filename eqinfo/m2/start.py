"""Begin a run of train-m2, or let one go on: what the user names is checked before anything is changed."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.pairs import impossible_pairs
from eqinfo.coder import integer_m1
from eqinfo.errors import FormatError, MismatchError, OptionError
from eqinfo.formats import eqi, file_kind, token_file
from eqinfo.formats.codec import ArithmeticCodec, WindowCodec
from eqinfo.formats.model_folder import CODEBOOK_NAME, NETWORK_NAME, Model
from eqinfo.m2 import batches as m2_batches
from eqinfo.m2.batches import Tokens
from eqinfo.m2.run import (
    DEFAULT_BLOCKS,
    STAGED,
    Settings,
    codebook_of,
    facts,
    known_tokens,
    load_codec,
    read_config,
    shape_of,
)
from eqinfo.system.atomic_files import replacing
from eqinfo.system.signals import undoing
from eqinfo.training import run_folder
from eqinfo.training.devices import rank_and_world
from eqinfo.training.resume import check_longer, is_extended, resumed
from eqinfo.training.run_folder import CHECKPOINT

CHECKED_IDS = 1 << 18  # the first of each file
MOST_IMPOSSIBLE = 1e-4  # of them; frames and joined files bring a few
MAX_STEM = 48  # characters of up to 4 bytes, with what stands before and after in at most 255

Files = Mapping[str, Sequence[Path]]  # of the sides `train` and `valid`
AGAIN = "again"  # suffix of the folder in which streams are converted that a resumed run is given again


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
            side: _staged(paths, folder / STAGED / side, Model(model))
            for side, paths in (("train", train), ("valid", valid))
        }
        checksums = {side: m2_batches.check(paths) for side, paths in files.items()}
        tokens_of = load_data(files, settings)
        tokens = tokens_of["train"]
        sidecar = tokens.sidecar
        if model is not None:
            _check_fingerprint(sidecar.fingerprint)
        fitting = _with_batch(settings, tokens.n_tokens)
        # files from elsewhere have no codec
        codec = sidecar.find_codec(Model(model), tokens.name) if sidecar.fingerprint else None
        codebook = codebook_of(codec)
        shape = shape_of(settings, tokens, codebook)
        is_known = known_tokens(settings, shape, codebook) is not None
        if codebook is not None:
            run_folder.write_file(folder / CODEBOOK_NAME, codebook.to_bytes())
        elif isinstance(codec, WindowCodec | ArithmeticCodec):  # eval cuts text with their M1
            run_folder.write_file(folder / NETWORK_NAME, integer_m1.to_bytes(codec.network))
        return {
            "settings": asdict(fitting),
            "data": {
                side: {
                    "files": [str(path.absolute()) for path in files[side]],
                    "tokens": data.n_tokens,
                    "original_bytes": data.sidecar.original_bytes,
                    "crc32": checksums[side],
                }
                for side, data in tokens_of.items()
            },
            "fingerprint": sidecar.fingerprint,
            "unit_bits": sidecar.unit_bits,
            "knows_cuts": is_known and _know_cuts(codebook, tokens_of.values()),
            "model": facts(shape, is_known),
        }

    run_folder.start(folder, "m2", config, made=[STAGED, CODEBOOK_NAME, NETWORK_NAME])


def _know_cuts(codebook: Codebook | None, sides: Iterable[Tokens]) -> bool:
    """Whether tokens are cut as their codebook cuts, so that M2 may know which pairs are impossible.

    Token files may come from other programs, or from a codebook with the same windows and other rarities.
    """
    pairs = None if codebook is None else impossible_pairs(codebook)
    if pairs is None:
        return False
    found = [np.asarray(part[:CHECKED_IDS]) for tokens in sides for part in tokens.parts]
    return all(pairs.count(ids) <= MOST_IMPOSSIBLE * ids.size for ids in found)


def resume(folder: Path, given: dict[str, Any], files: Files, model: Path | None) -> bool:
    """Let a run go on: check what the user names against it; returns whether its budget grew.

    Args:
        folder: of the run.
        given: the settings that the user gave.
        files: the data that the user named, the same as the run's, wherever they are now; or none.
        model: the model that made the tokens; None if the user named none.

    Raises:
        MismatchError: the run has other settings, data or another model.
        FormatError: its data are gone, and none are named.
    """
    config = read_config(folder)
    codec = load_codec(folder, config)
    if model is not None:
        _check_fingerprint(config["fingerprint"])
        assert codec is not None  # it has a fingerprint
        Model(model).find_codec(codec.unit_bits, codec.fingerprint, str(folder))
    before, settings = config["settings"], Settings(**resumed(folder, config["settings"], given))
    is_complete, grew = "measured" in config, settings.budget != Settings(**before).budget
    if is_extended(before, given) and (is_complete or not grew):
        measured = config.get("measured", {"training_steps": settings.budget.steps, "training_s": 0.0})
        check_longer(folder, settings, measured["training_steps"], measured["training_s"])
    if is_complete and grew:
        del config["measured"]
        if not (folder / CHECKPOINT).exists():
            raise FormatError(f"{folder}: complete, and without a checkpoint to go on from. Start a new run.")
    are_others = [_take_place(folder, config, side, paths, model) for side, paths in files.items() if paths]
    if grew or not is_complete:
        for side, data in config["data"].items():
            if not files.get(side):
                _check_recorded(folder, [Path(name) for name in data["files"]], data.get("crc32"))
    if grew or any(are_others):
        run_folder.write_config(folder, "m2", config | {"settings": asdict(settings)})
    return grew


def _check_fingerprint(fingerprint: str) -> None:
    """Raises OptionError if tokens are of another program, as a model says nothing of them."""
    if not fingerprint:
        raise OptionError("-m: for tokens that eqinfo made; these are of another program. Leave it out.")


def _check_recorded(folder: Path, paths: Sequence[Path], checksums: list[int] | None) -> None:
    """Raises an error if the recorded files of a run are gone, or hold other ids now, which are read in full.

    Args:
        folder: of the run.
        paths: the files.
        checksums: as the run recorded them; None if it is older than that.
    """
    for path in paths:
        if not path.is_file():
            raise FormatError(
                f"{path}: no such file, and the run reads it. "
                "Name the data where they are now, beside --resume."
            )
    if checksums is not None and (found := m2_batches.check(paths)) != checksums:
        raise MismatchError(
            f"{paths[0]}: no longer the data of {folder}; found checksums {run_folder.shortened(found)}, "
            f"want {run_folder.shortened(checksums)}. Bring them back, or start a new run with another -o."
        )


def _take_place(
    folder: Path, config: dict[str, Any], side: str, paths: Sequence[Path], model: Path | None
) -> bool:
    """Put files in the place of the recorded ones of one side, in a config; returns whether they are others.

    Raises:
        MismatchError: they hold other tokens.
    """
    data, where = config["data"].get(side), folder / STAGED / side
    if data is None:
        raise MismatchError(f"{folder}: a run without --valid. Leave it out, or start a new run.")
    again = where.with_name(side + AGAIN)
    with undoing(partial(shutil.rmtree, again, ignore_errors=True)):
        files = _staged(paths, again, Model(model or folder))
        for name, found, want in (
            ("checksums", m2_batches.check(files), data.get("crc32")),
            ("tokens", m2_batches.load(files, config["settings"]["token_bits"]).n_tokens, data["tokens"]),
        ):
            if want is not None and found != want:
                raise MismatchError(
                    f"{paths[0]}: not the data of {folder}; found {name} {run_folder.shortened(found)}, "
                    f"want {run_folder.shortened(want)}. Leave it out, or start a new run with another -o."
                )
        if again.exists():
            shutil.rmtree(where, ignore_errors=True)
            again.rename(where)
            files = [where / path.name if path.parent == again else path for path in files]
    recorded, data["files"] = data["files"], [str(path.absolute()) for path in files]
    return bool(data["files"] != recorded)


def _with_batch(settings: Settings, n_tokens: int) -> Settings:
    """The settings with the default batch, if the user gave none: DEFAULT_BLOCKS, or all of smaller data.

    Raises:
        OptionError: the batch is larger than the data, or the processes cannot share it.
    """
    world, block_size = rank_and_world()[1], settings.block_size
    parts, option = world * settings.accumulate, "--batch-tokens"
    if settings.batch_tokens is None:
        option = "--accumulate" if settings.accumulate > 1 else "torchrun"
        n_blocks = min(max(DEFAULT_BLOCKS, parts), n_tokens // block_size)
        n_blocks -= n_blocks % parts
        settings = replace(settings, batch_tokens=max(n_blocks, parts) * block_size)
    size = settings.batch_size
    if size * block_size > n_tokens:
        raise OptionError(
            f"{option}: a step larger than the data; found {size * block_size} and {n_tokens} tokens. "
            "Give a smaller one or more text."
        )
    check_sharing(settings)
    return settings


def check_sharing(settings: Settings) -> None:
    """Raises OptionError if the blocks of a batch cannot be shared equally."""
    world, size = rank_and_world()[1], settings.batch_size
    if size % (world * settings.accumulate):
        raise OptionError(
            f"--batch-tokens: {size} blocks cannot be shared equally by {world} processes "
            f"with --accumulate {settings.accumulate}."
        )


def _staged(paths: Sequence[Path], folder: Path, model: Model) -> list[Path]:
    """The paths of token files; .eqi streams are converted into some in `folder`."""
    return [_converted(path, folder, model) if file_kind.is_stream(path) else path for path in paths]


def _converted(path: Path, folder: Path, model: Model) -> Path:
    """A token file in `folder`, of an .eqi stream."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{len(list(folder.iterdir())):04}-{path.stem[:MAX_STEM]}{token_file.TOKENS_SUFFIX}"
    with (
        path.open("rb") as source,
        replacing(token_file.sidecar_path(target)) as sidecar,
        replacing(target) as sink,
    ):
        header = eqi.parse_header(source.read(eqi.HEADER_BYTES), str(path))
        codec = model.find_codec(*header, str(path))
        source.seek(0)
        about = token_file.write(eqi.read_frames(source, codec, str(path)), sink, codec)
        sidecar.write(about.to_json())
    return target


def load_data(files: Files, settings: Settings) -> dict[str, Tokens]:
    """Training data and, if any, validation data, of one vocabulary; the former fill at least a block."""
    loaded = {side: m2_batches.load(paths, settings.token_bits) for side, paths in files.items() if paths}
    train = loaded["train"]
    for other in loaded.values():
        m2_batches.check_vocabulary(other.name, other.sidecar, train.name, train.sidecar)
    if train.n_tokens < settings.block_size:
        raise OptionError(
            f"--block-size: larger than the data; found {train.n_tokens} tokens, "
            f"want {settings.block_size} or more. Give more text or a smaller block."
        )
    return loaded
