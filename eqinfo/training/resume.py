"""What a user may change in a run that goes on: its budget may grow. All else that is named must agree."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from eqinfo.errors import MismatchError
from eqinfo.training.run_folder import BUDGETS, flag
from eqinfo.training.schedule import DEFAULT_MINUTES


def differs(folder: Path, option: str, found: object, want: object) -> MismatchError:
    """The error for a run that has another setting than the user gave.

    Args:
        folder: of the run.
        option: that of the setting.
        found: the run's value.
        want: the user's.
    """
    return MismatchError(
        f"{folder}: a run with another {option[2:]}; found {found}, want {want}. "
        f"Leave {option} out to continue it, or start a new run with another -o."
    )


def is_extended(settings: dict[str, Any], given: dict[str, Any]) -> bool:
    """Whether a user gave a budget that a run does not have.

    Args:
        settings: of the run, from its config.json.
        given: the settings that the user gave.
    """
    own = _with_budget(settings)
    return any(name in given and given[name] != own.get(name) for name in BUDGETS)


def _with_budget(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run, with the default budget if it has no other."""
    has_none = all(settings.get(name) is None for name in BUDGETS)
    return settings | {"minutes": DEFAULT_MINUTES} if has_none else settings


def check_longer(folder: Path, settings: Any, step: int, time_s: float) -> None:
    """Raises MismatchError if a run that was extended would train no longer, as another budget ends it.

    Args:
        folder: of the run.
        settings: of the run, extended: a dataclass with BUDGETS and the property `budget`.
        step: where it ended, or would have ended before.
        time_s: likewise, in seconds of training.
    """
    if settings.budget.progress(step, time_s) < 1:
        return
    given = [name for name in BUDGETS if getattr(settings, name, None) is not None]
    spent = []
    for name in given:
        alone = replace(settings, **{other: None for other in given if other != name})
        if alone.budget.progress(step, time_s) == 1:
            spent.append(f"{flag(name)} {getattr(settings, name)}")
    raise MismatchError(
        f"{folder}: would not train on, as {' and '.join(spent)} ends it at step {step}. "
        "Give more of that too."
    )


def resumed(folder: Path, settings: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that goes on: its own, with the larger budgets that the user gave.

    Args:
        folder: of the run.
        settings: of the run, from its config.json.
        given: the settings that the user gave.

    Raises:
        MismatchError: a setting differs, or a budget is smaller than the run's.
    """
    settings = _with_budget(settings)
    for name, value in given.items():
        found = settings[name]
        if value == found:
            continue
        if name in BUDGETS and found is None:
            own = " and ".join(f"{flag(n)} {settings[n]}" for n in BUDGETS if settings.get(n) is not None)
            raise MismatchError(f"{folder}: its budget is {own}, not {flag(name)}. Give more of that.")
        if name not in BUDGETS:
            raise differs(folder, flag(name), found, value)
        if value < found:
            raise MismatchError(
                f"{folder}: {flag(name)} is smaller than the run's; found {value}, want {found} or more."
            )
    return settings | given
