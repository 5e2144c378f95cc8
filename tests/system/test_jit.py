"""Machine code on disk: kept where there is room, and never a reason to fail."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import eqinfo
from eqinfo.system import jit


def double(n: int) -> int:
    return 2 * n


@pytest.mark.parametrize("has_room", [True, False])
def test_a_full_disk_does_not_stop_compiled_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_room: bool
) -> None:
    monkeypatch.setattr(jit, "CACHE_FOLDER", str(tmp_path))
    compiled = jit.compiled(double)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, before if has_room else (0, before[1]))
    try:
        assert compiled(21) == 42
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
    assert bool(kept) == has_room


def test_machine_code_is_kept_apart_for_every_version_of_any_source(tmp_path: Path) -> None:
    for name in ("a.py", "wing/b.py", "wing/kernels/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("A = 1\n")
    folders = {jit._cache_folder(tmp_path)}
    for path in sorted(tmp_path.rglob("*.py")):
        path.write_text("A = 2\n")
        folders.add(jit._cache_folder(tmp_path))
    assert len(folders) == 4


def test_the_cache_is_that_of_the_whole_package() -> None:
    assert jit._cache_folder(Path(eqinfo.__file__).parent) == jit.CACHE_FOLDER


PARSE = """
import numpy as np
from helpers.codebooks import golden_codebook
from eqinfo.codebook import parse
book, text = golden_codebook(), b"to be or not to be, that is the question" * 9
found = parse.encode_compiled(book, np.frombuffer(text, np.uint8).copy(), np.empty(0, np.int64))
assert [book.windows[k] for k in found] == parse.cut(book, text)
"""


@pytest.mark.parametrize("setting", ["NUMBA_DISABLE_JIT=1", "NUMBA_OPT=0"])
def test_settings_of_numba_change_no_result_and_warn_of_nothing(tmp_path: Path, setting: str) -> None:
    tests = Path(__file__).parents[1]
    name, _, value = setting.partition("=")
    more = {name: value, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}
    done = subprocess.run(
        [sys.executable, "-c", PARSE], env=os.environ | more, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_where_the_package_cannot_be_written_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    package = Path(eqinfo.__file__).parent
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert jit._cache_folder(package).startswith("/caches/eqinfo/numba-")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert jit._cache_folder(package).startswith(f"{Path.home()}/.cache/eqinfo/numba-")
