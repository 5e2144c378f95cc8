"""Ids in files, read a slice at a time."""

import resource
from pathlib import Path

import numpy as np
import pytest

from eqinfo.errors import FormatError
from eqinfo.formats.id_file import IdFile

IDS = np.arange(1000).astype("<u4")


def test_slices_are_those_of_the_array(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"head" + IDS.tobytes() + b"x")
    ids = IdFile(path, IDS.dtype, 4)
    assert (ids.size, ids.spare_bytes) == (1000, 1)
    for where in (slice(0, 5), slice(990, 2000), slice(None), slice(7, 7), slice(9, 3), slice(2000, 3000)):
        assert np.array_equal(ids[where], IDS[where])
    assert IdFile(path, IDS.dtype, 5000).size == 0


def test_more_files_are_read_than_may_be_open(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 100
    files = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 30, before[1]))
    try:
        for k in range(200):
            (tmp_path / str(k)).write_bytes((IDS + k).tobytes())
            files.append(IdFile(tmp_path / str(k), IDS.dtype))
        for _ in range(2):
            assert [int(file[3:4][0]) for file in files] == [k + 3 for k in range(200)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("n_bytes", [0, 2000, 3999, 4001])
def test_a_file_that_changes_its_size_is_named(tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(IDS.tobytes())
    ids = IdFile(path, IDS.dtype)
    assert ids[999:][0] == 999
    path.write_bytes(IDS.tobytes().ljust(n_bytes, b"x")[:n_bytes])
    with pytest.raises(FormatError) as caught:
        ids[999:]
    assert str(caught.value).startswith(
        f"{path}: changed while it was read; found {n_bytes} bytes, want 4000. Put the same file there again"
    )
