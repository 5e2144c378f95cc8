"""A system that refuses some calls, as some file systems do: a preloaded library, or a mount."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def refusing(folder: Path, error: str, *calls: str) -> dict[str, str]:
    """The environment of a program in which functions of the C library fail.

    Args:
        folder: where the library is made.
        error: the error that they give, as in errno.h.
        calls: names of the functions, which return -1 on errors.
    """
    compiler = shutil.which("cc")
    if compiler is None or not Path("/proc/self").exists():
        pytest.skip("no C compiler, or not Linux")
    lines = [f"int {call}() {{ errno = {error}; return -1; }}" for call in calls]
    library, source = folder / "refusing.so", "\n".join(["#include <errno.h>", *lines, ""])
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, "-x", "c", "-"], input=source.encode(), check=True
    )
    return {**os.environ, "LD_PRELOAD": str(library)}


@contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    """Bind a file over another one while the block runs, as `docker run -v` does; only root may do it."""
    done = subprocess.run(["mount", "--bind", source, target], capture_output=True)
    if done.returncode:
        pytest.skip("cannot mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)
