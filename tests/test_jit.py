"""Machine code on disk: kept where there is room, and never a reason to fail."""

import resource
from pathlib import Path

import pytest

from eqinfo import jit


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
