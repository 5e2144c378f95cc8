"""Output that is complete or not there."""

import errno
import os
import stat
from pathlib import Path

import pytest

from eqinfo.errors import InputError
from eqinfo.system.atomic_files import NamedSink, replacing


def test_a_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with replacing(path) as sink:
        sink.write(b"some")
        assert not path.exists()
        sink.write(b"thing")
    assert path.read_bytes() == b"something"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_block_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path, force=True) as sink:  # noqa: PT012 - the block is what fails
        sink.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_an_existing_file_is_refused_even_if_it_appears_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "out"
    want = f"{path}: exists already. Give -f to replace it."
    with pytest.raises(InputError) as caught, replacing(path):
        path.write_bytes(b"other")
    assert str(caught.value) == want
    with pytest.raises(InputError) as caught, replacing(path):
        raise AssertionError
    assert str(caught.value) == want
    assert path.read_bytes() == b"other"
    assert len(list(tmp_path.iterdir())) == 1


def test_mode_and_times_are_carried_over(tmp_path: Path) -> None:
    source, path = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"")
    source.chmod(0o640)
    os.utime(source, ns=(1_000_000_000, 1_234_567_890_123_456_789))
    with replacing(path, like=source.stat()) as sink:
        sink.write(b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_mtime_ns == source.stat().st_mtime_ns


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with replacing(link, force=True) as sink:
        sink.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_devices_are_written_in_place() -> None:
    with replacing(Path(os.devnull)) as sink:
        sink.write(b"x")
    assert not Path(os.devnull).is_file()


def test_errors_name_the_file_that_the_user_named(tmp_path: Path) -> None:
    path = tmp_path / "no folder" / "out"
    with pytest.raises(FileNotFoundError) as caught, replacing(path):
        raise AssertionError
    assert caught.value.filename == str(path)
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="space") as no_space:
        NamedSink(full, "name").write(b"x")
    assert (no_space.value.errno, no_space.value.filename) == (errno.ENOSPC, "name")


def test_a_sink_writes_on_after_short_writes(tmp_path: Path) -> None:
    class Short:
        data = b""

        def write(self, data: bytes) -> int:
            self.data += bytes(data[:3])
            return min(3, len(data))

        def flush(self) -> None: ...

    short = Short()
    assert NamedSink(short, "x").write(b"0123456789") == 10  # type: ignore[arg-type]
    assert short.data == b"0123456789"


def test_a_sink_that_would_block_is_an_error() -> None:
    class Blocking:
        def write(self, data: bytes) -> None:
            return None

    with pytest.raises(BlockingIOError):
        NamedSink(Blocking(), "x").write(b"0")  # type: ignore[arg-type]
