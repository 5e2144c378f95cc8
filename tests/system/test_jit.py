"""Machine code on disk: kept where there is room, and never a reason to fail."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launch import as_others

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


PROGRAM = """
import sys
from eqinfo.system import jit, notes
told = []
notes.listen(lambda words, kind: told.append(words))
jit.CACHE_FOLDER = sys.argv[1]
def double(n):
    return 2 * n
compiled = jit.compiled(double)
print(compiled(21), len(told), sum(compiled.stats.cache_hits.values()))
"""


def run(cache: Path, **options: Any) -> tuple[int, int, int]:
    """A program with a compiled function: its result, the number of notes, and of loads from the cache."""
    source = cache.parent / "program.py"
    if not source.exists():  # older numba compiles anew what a newer file holds
        source.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, source, cache], capture_output=True, text=True, timeout=600, **options
    )
    assert (done.returncode, done.stderr) == (0, "")
    result, notes, hits = map(int, done.stdout.split())
    return result, notes, hits


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: bytes(len(data)),
        lambda data: data[:1000] + bytes(1000) + data[2000:],  # a page that never reached the disk
        lambda data: b"noise" * 1000,
    ],
)
def test_a_damaged_cache_is_compiled_anew_and_replaced(
    tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    cache = tmp_path / "cache"
    assert run(cache) == (42, 0, 0)
    assert run(cache) == (42, 0, 1)
    (path,) = cache.rglob(f"*{suffix}")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    is_damaged = path.read_bytes() != whole
    assert run(cache) == (42, int(is_damaged), 1 - is_damaged)
    assert run(cache) == (42, 0, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to drop its rights")
def test_a_cache_that_may_not_be_read_is_replaced(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(cache)
    (index,) = cache.rglob("*.nbi")
    index.chmod(0)
    assert run(cache, preexec_fn=as_others) == (42, 1, 0)
    assert run(cache, preexec_fn=as_others) == (42, 0, 1)


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
        [sys.executable, "-c", PARSE], env=os.environ | more, capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_where_the_package_cannot_be_written_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    package = Path(eqinfo.__file__).parent
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert jit._cache_folder(package).startswith("/caches/eqinfo/numba-")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert jit._cache_folder(package).startswith(f"{Path.home()}/.cache/eqinfo/numba-")


WAITING = """
import sys
from eqinfo.system import jit, notes
notes.listen(lambda words, kind: print(kind.name, words))
jit.CACHE_FOLDER = sys.argv[1]
jit.WAIT_S = float(sys.argv[2])
inner = jit.compiled(lambda n: 2 * n)
outer = jit.compiled(lambda n: inner(n) + inner(1.0 * n))
print(outer(21), outer(2.0))
"""


def test_a_long_wait_for_compiling_is_explained_once(tmp_path: Path) -> None:
    source = tmp_path / "program.py"
    source.write_text(WAITING)
    said = []
    for cache, wait_s in (("a", "60"), ("b", "0"), ("b", "0")):
        command = [sys.executable, source, tmp_path / cache, wait_s]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert (done.returncode, done.stderr) == (0, "")
        said.append(done.stdout)
    words = "WAIT compiling for this machine, once; later runs start at once.\n"
    assert said == ["84.0 8.0\n", words + "84.0 8.0\n", "84.0 8.0\n"]
