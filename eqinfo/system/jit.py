"""Compiles loops to machine code with numba, and caches the code on disk.

What this module does not do: hold loops. They are in the modules that import this one, and those are imported
only for inputs large enough to be worth it, as importing numba takes 0.4 s.
"""

import hashlib
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

_numba: Any = numba.config
# with NUMBA_OPT=0 numba takes constants for variables; the code is then compiled anew in each process
warnings.filterwarnings("ignore", "Cannot cache compiled function", numba.NumbaWarning)


def _cache_folder(package: Path) -> str:
    """The folder of the cache, whose name holds a hash of all of the package's sources.

    numba itself checks only the file of the compiled function, not those of the functions and constants that
    are compiled into it: after a change there it would run old machine code.

    Args:
        package: the folder of the package.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    base = _numba.CACHE_DIR or package / "__pycache__"
    if not os.access(package, os.W_OK) and not _numba.CACHE_DIR:
        home = os.path.expanduser("~/.cache")  # noqa: PTH111 - never fails, unlike Path.home
        base = Path(os.environ.get("XDG_CACHE_HOME") or home) / "eqinfo"
    return str(Path(base) / f"numba-{digest.hexdigest()[:16]}")


CACHE_FOLDER = _cache_folder(Path(__file__).parents[1])


def _ignoring_errors(save: Callable[..., None]) -> Callable[..., None]:
    """Saves machine code if the disk allows; the next process compiles again what is not saved."""

    def saved(*arguments: Any) -> None:
        with suppress(OSError):
            save(*arguments)

    return saved


def compiled(function: F) -> F:
    """The function as machine code, cached on disk if there is a folder that can be written and has room."""
    if _numba.DISABLE_JIT:  # NUMBA_DISABLE_JIT: run the loops as plain Python
        return np.errstate(over="ignore")(function)  # integers wrap around, as compiled ones do
    theirs, _numba.CACHE_DIR = _numba.CACHE_DIR, CACHE_FOLDER
    try:
        dispatcher: Any = numba.njit(cache=True, nogil=True)(function)
        dispatcher._cache.save_overload = _ignoring_errors(dispatcher._cache.save_overload)
        return cast(F, dispatcher)
    except (RuntimeError, OSError):  # no folder for a cache: compile for this process alone
        return cast(F, numba.njit(nogil=True)(function))
    finally:
        _numba.CACHE_DIR = theirs
