"""Compiles loops to machine code with numba, and caches the code on disk.

What this module does not do: hold loops. They are in the modules that import this one, and those are imported
only for inputs large enough to be worth it, as importing numba takes 0.4 s.
"""

import hashlib
import os
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Timer
from typing import Any, TypeVar, cast

import numba
import numpy as np

from eqinfo.system.notes import explain_wait, note

F = TypeVar("F", bound=Callable[..., Any])

_numba: Any = numba.config
# with NUMBA_OPT=0 numba takes constants for variables; the code is then compiled anew in each process
warnings.filterwarnings("ignore", "Cannot cache compiled function", numba.NumbaWarning)

DIGEST_BYTES = hashlib.sha256().digest_size
WAIT_S = 1.0  # compiling that takes longer is explained


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


@cache
def _note_once(words: str) -> None:
    """Note what holds for many functions."""
    note(words)


class _Compiling:
    """Explains the wait when compiling has taken WAIT_S in all, once a process.

    numba's lock admits one thread at a time. A function that calls others is compiled around them.
    """

    def __init__(self) -> None:
        self._n_open = 0
        self._began_at = self._spent_s = 0.0
        self._timer: Timer | None = None
        self._is_explained = False

    def begin(self) -> None:
        """A function is missing in the cache: numba compiles it now."""
        self._n_open += 1
        if self._n_open > 1 or self._is_explained:
            return
        self._began_at = time.monotonic()
        self._timer = Timer(max(0.0, WAIT_S - self._spent_s), self._explain)
        self._timer.daemon = True
        with suppress(RuntimeError):  # the system has no more threads: no word
            self._timer.start()

    def end(self) -> None:
        """The function is compiled."""
        self._n_open -= 1
        if not self._n_open and self._timer is not None:
            self._timer.cancel()
            self._spent_s += time.monotonic() - self._began_at

    def _explain(self) -> None:
        self._is_explained = True
        explain_wait("compiling for this machine, once; later runs start at once.")


_compiling = _Compiling()


def _survives(store: Any) -> None:
    """Make a numba cache survive files that are damaged, unreadable or on a full disk.

    What cannot be loaded is removed and compiled anew; what cannot be saved, the next process compiles again.
    Machine code that was changed on the disk would crash the process: so a digest follows it in its file.

    Args:
        store: the cache of a compiled function, `dispatcher._cache`.
    """
    files = store._cache_file
    dump, load_data = files._dump, files._load_data
    load, save = store.load_overload, store.save_overload

    def sealed(content: object) -> bytes:
        data: bytes = dump(content)
        return data + hashlib.sha256(data).digest()  # the reader of `data` ignores what follows

    def checked(name: str) -> Any:
        data = Path(files._data_path(name)).read_bytes()
        if hashlib.sha256(data[:-DIGEST_BYTES]).digest() != data[-DIGEST_BYTES:]:
            raise ValueError("the digest does not match")
        return load_data(name)

    def loaded(*arguments: Any) -> Any:
        found = None
        try:
            found = load(*arguments)
        except Exception:  # unpickling damaged bytes raises any
            _note_once(f"{CACHE_FOLDER}: damaged, or may not be read; compiling anew.")
            for path in Path(files._cache_path).glob(Path(files._index_path).stem + ".*"):
                with suppress(OSError):
                    path.unlink()
        if found is None:
            _compiling.begin()
        return found

    def saved(*arguments: Any) -> None:
        _compiling.end()
        with suppress(Exception):
            save(*arguments)

    files._dump, files._load_data = sealed, checked
    store.load_overload, store.save_overload = loaded, saved


def compiled(function: F) -> F:
    """The function as machine code, cached on disk if there is a folder that can be written and has room."""
    if _numba.DISABLE_JIT:  # NUMBA_DISABLE_JIT: run the loops as plain Python
        return np.errstate(over="ignore")(function)  # integers wrap around, as compiled ones do
    theirs, _numba.CACHE_DIR = _numba.CACHE_DIR, CACHE_FOLDER
    try:
        dispatcher: Any = numba.njit(cache=True, nogil=True)(function)
        _survives(dispatcher._cache)
        return cast(F, dispatcher)
    except (RuntimeError, OSError):  # no folder for a cache: compile for this process alone
        return cast(F, numba.njit(nogil=True)(function))
    finally:
        _numba.CACHE_DIR = theirs
