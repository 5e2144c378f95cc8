"""Loops as machine code: the decorator that compiles them, and where the code is kept.

What this module does not do: hold loops. Those are in the modules that import it, which are imported only
when there is enough to do, for numba costs 0.4 s to import.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

_numba: Any = numba.config


def _cache_folder(package: Path) -> str:
    """Where machine code is kept: a folder for this very version of the package's sources.

    numba looks at the file of a function only, not at those of what it calls or of constants compiled in:
    after a change there it would go on using the old code.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    base = _numba.CACHE_DIR or package / "__pycache__"
    if not os.access(package, os.W_OK) and not _numba.CACHE_DIR:
        base = os.path.expanduser("~/.cache/eqinfo")  # noqa: PTH111 (never fails, unlike Path.home)
    return str(Path(base) / f"numba-{digest.hexdigest()[:16]}")


CACHE_FOLDER = _cache_folder(Path(__file__).parents[1])


def _if_there_is_room(save: Callable[..., None]) -> Callable[..., None]:
    """Saving machine code without an error: what is not kept is compiled again."""

    def saved(*arguments: Any) -> None:
        with suppress(OSError):
            save(*arguments)

    return saved


def compiled(function: F) -> F:
    """The function in machine code, cached on disk where a folder can be written and has room."""
    theirs, _numba.CACHE_DIR = _numba.CACHE_DIR, CACHE_FOLDER
    try:
        dispatcher: Any = numba.njit(cache=True, nogil=True)(function)
        dispatcher._cache.save_overload = _if_there_is_room(dispatcher._cache.save_overload)
        return cast(F, dispatcher)
    except (RuntimeError, OSError):  # no folder for the cache: compile in this process alone
        return cast(F, numba.njit(nogil=True)(function))
    finally:
        _numba.CACHE_DIR = theirs
