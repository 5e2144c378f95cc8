"""Run folders of train-m1 and train-m2: config.json, checks of settings, start and completion of a run."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
import torch

from eqinfo import __version__
from eqinfo.errors import FormatError, InputError, OptionError
from eqinfo.system.atomic_files import TEMPORARY_PREFIX, replacing
from eqinfo.system.signals import undoing
from eqinfo.training.background import in_background
from eqinfo.training.devices import rank_and_world

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

Report = Callable[[str, float, str], None]  # phase, its progress in [0, 1], a word about it

CONFIG, CHECKPOINT = "config.json", "checkpoint.pt"
FORMAT_VERSIONS = {"m1": 1, "m2": 2}
KINDS = {"eqinfo m1": "a model of train-m1", "eqinfo m2": "a run of train-m2"}  # by format
MAX_DEPTH = 20  # of a config.json
BUDGETS = ("steps", "n_bytes", "n_tokens", "minutes")
# errors that the use of a damaged config raises
DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
MAX_SHOWN = 100  # characters


def flag(name: str) -> str:
    """The option of a setting: --tokens for n_tokens, --block-size for block_size."""
    return "--" + name.removeprefix("n_").replace("_", "-")


def check(
    settings: object, choices: Mapping[str, Collection[str]], limits: Mapping[str, tuple[float, float]]
) -> None:
    """Check the settings of a run, which may come from a config.json.

    Args:
        settings: a dataclass; its budgets must be above 0, its seed must fit 63 bits.
        choices: legal values, by name.
        limits: closed intervals, by name.

    Raises:
        InputError: a setting has another type or another value.
    """
    for name, hint in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        kind = get_origin(hint) if get_origin(hint) is list else hint  # not what its items are
        is_number = type(value) is int and isinstance(0.0, kind)  # an int is a float too
        if not (is_number or isinstance(value, kind)) or (type(value) is bool and hint is not bool):
            raise OptionError(f"{flag(name)}: of another type; found {shortened(repr(value))}.")
        if name in BUDGETS and value is not None and not 0 < value < 1e18:
            raise OptionError(
                f"{flag(name)}: out of range; found {value}, want more than 0 and less than 1e18."
            )
    for name, known in choices.items():
        if (value := getattr(settings, name)) not in known:
            raise OptionError(f"{flag(name)}: unknown; found {value}, want one of {', '.join(known)}.")
    check_ranges(settings, {**limits, "seed": (0, 2**63 - 1)})


def shortened(what: object) -> str:
    """Text for a message, from a file that may hold anything: one line, at most MAX_SHOWN characters."""
    words = " ".join(str(what).split())
    return words if len(words) <= MAX_SHOWN else f"{words[:MAX_SHOWN]}..."


def check_ranges(settings: object, limits: Mapping[str, tuple[float, float]]) -> None:
    """Raises InputError if a setting lies outside [low, high]; None is always legal."""
    for name, (low, high) in limits.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            raise OptionError(f"{flag(name)}: out of range; found {value}, want {low} to {high}.")


def refuse_used(folder: Path) -> None:
    """Raises InputError if a folder exists and is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if (folder / CONFIG).exists():
            raise InputError(f"{folder}: exists. Choose another -o, or continue its run with --resume.")
        raise InputError(f"{folder}: exists, and holds no run to continue. Choose another -o, or empty it.")


@contextmanager
def alone_in(folder: Path, is_new: bool) -> Iterator[None]:
    """Lock a run folder while the block runs; the lock ends with the process at the latest.

    Removes temporary files of a killed run. Removes a new folder if an error leaves it empty.

    Args:
        folder: of the run.
        is_new: make the folder; otherwise a missing folder is ignored.

    Raises:
        InputError: the new folder exists and is not empty, or another run has locked it.
        OSError: the folder cannot be made.
    """
    with ExitStack() as stack:
        if is_new:
            refuse_used(folder)
            if not folder.exists():
                stack.enter_context(undoing(partial(_remove_if_empty, folder)))
                folder.mkdir(parents=True)
        if folder.is_dir():
            stack.callback(os.close, _lock(folder))
            for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
                path.unlink()
        yield


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _lock(folder: Path) -> int:
    """An open descriptor of a folder, locked if the system and its file system have locks.

    Raises:
        InputError: another process has locked it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise InputError(
                f"{folder}: another run is working in it. Wait for its end, or stop it."
            ) from None
        except OSError:  # a file system without locks
            pass
    return descriptor


def remove(folder: Path, *patterns: str) -> None:
    """Remove files and folders of a run, by name or pattern, if they exist."""
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with replacing(path, force=True) as sink:
        sink.write(data)


def write_config(folder: Path, kind: str, config: dict[str, Any]) -> None:
    """Write config.json.

    Args:
        folder: of the run.
        kind: `m1` or `m2`.
        config: the contents, without format and versions.
    """
    facts = {
        "format": f"eqinfo {kind}",
        "format_version": FORMAT_VERSIONS[kind],
        "versions": {
            "eqinfo": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "git_commit": _git_commit(),
    }
    write_file(folder / CONFIG, json.dumps(facts | config, indent=2).encode() + b"\n")


def start(folder: Path, kind: str, make: Callable[[], dict[str, Any]], made: Sequence[str]) -> None:
    """Begin a run: make its files, then write config.json; remove all of them if that fails.

    Args:
        folder: empty or missing.
        kind: `m1` or `m2`.
        make: makes the files; returns the contents of config.json.
        made: names or patterns of those files.
    """
    with undoing(partial(remove, folder, CONFIG, *made)):
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder, kind, make())


def complete(
    folder: Path,
    kind: str,
    config: dict[str, Any],
    train: Callable[[], dict[str, Any]],
    passing: Sequence[str],
    report: Report,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Train if the run is not complete; the contents of config.json afterwards.

    Under torchrun every process calls this; the first one alone writes.

    Args:
        folder: of the run.
        kind: `m1` or `m2`.
        config: the contents of config.json so far.
        train: trains and writes the model; returns what to add to config.json, with `measured`. It runs in
            another thread, while this one hears signals.
        passing: names or patterns of files that a complete run does not need.
        report: receives progress.
        should_stop: a long step is left when it has been true for a while; see `in_background`.
    """
    is_first = rank_and_world()[0] == 0
    if "measured" in config:
        report("training", 1.0, "The run is complete already.")
    else:
        config = config | in_background(train, should_stop)
        if is_first:
            write_config(folder, kind, config)
    if is_first:
        remove(folder, *passing)
    return config


def read_config(
    folder: Path, kind: str | None = None, check: Callable[[dict[str, Any]], None] = lambda config: None
) -> dict[str, Any]:
    """The config.json of a run folder.

    Args:
        folder: of the run.
        kind: `m1` or `m2`; None accepts both.
        check: raises an error if the config is damaged; may change it.

    Raises:
        FormatError: there is none, or it is damaged or of another kind or version.
    """
    path = folder / CONFIG
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            raise FormatError(f"{folder}: no such folder. Name one that train-m1 or train-m2 made.") from None
        raise FormatError(
            f"{folder}: not a model folder; {CONFIG} is missing. Name another, or start a run with a new -o."
        ) from None
    try:
        config: dict[str, Any] = json.loads(data)
        written = json.dumps(config, ensure_ascii=False, allow_nan=False, indent=1)
        written.encode("utf-8", "surrogateescape")  # it can be written; names of files may be any bytes
        if "\n" + " " * MAX_DEPTH in written:  # deep nesting exhausts the stack of later readers
            raise ValueError("too deep")
        found, version = config["format"], config["format_version"]
        config["settings"].keys()
        if found not in KINDS or kind not in (None, found.removeprefix("eqinfo ")):
            what = KINDS.get(found, f"format {shortened(found)}")
            known = KINDS.get(f"eqinfo {kind}", " or ".join(KINDS.values()))
            raise FormatError(f"{folder}: found {what}, want {known}.")
        if version != (want := FORMAT_VERSIONS[found.removeprefix("eqinfo ")]):
            raise FormatError(f"{path}: another version; found {shortened(version)}, want {want}.")
        check(config)
    except (InputError, *DAMAGE) as error:
        raise FormatError(f"{path}: damaged ({shortened(error)}).") from None
    return config


def _git_commit() -> str | None:
    """The commit of the code; None outside a git checkout, or if git cannot be run."""
    here = Path(__file__).parents[1]
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    if not (here.parent / ".git").exists() or shutil.which("git") is None:
        return None
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    except OSError:  # no more processes
        return None
