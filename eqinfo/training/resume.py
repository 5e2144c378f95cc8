"""What a user may change in a run that goes on: its budget may grow. All else that is named must agree."""

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


def resumed(folder: Path, settings: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that goes on: its own, with the larger budgets that the user gave.

    Args:
        folder: of the run.
        settings: of the run, from its config.json.
        given: the settings that the user gave.

    Raises:
        MismatchError: a setting differs, or a budget is smaller than the run's.
    """
    if all(settings.get(name) is None for name in BUDGETS):
        settings = settings | {"minutes": DEFAULT_MINUTES}
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
