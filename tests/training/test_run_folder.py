"""Run folders: one run at a time, and nothing left of one that could not begin."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eqinfo.errors import InputError
from eqinfo.training import run_folder


def test_a_second_run_in_a_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with run_folder.alone_in(folder, is_new=True):
        (folder / "config.json").write_text("{}")
        with (
            pytest.raises(
                InputError, match=r"run: another run is working in it\. Wait for its end, or stop it\."
            ),
            run_folder.alone_in(folder, is_new=False),
        ):
            pass
    with run_folder.alone_in(folder, is_new=False):
        pass


def test_a_run_that_is_killed_locks_nobody_out_and_its_temporary_files_go(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from eqinfo.training import run_folder as runs\n"
        "with runs.alone_in(Path(sys.argv[1]), is_new=False): print(flush=True); sys.stdin.read()"
    )
    (tmp_path / ".eqinfo-0123").write_text("half")
    (tmp_path / "config.json").write_text("{}")
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(InputError, match="another run"), run_folder.alone_in(tmp_path, is_new=False):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with run_folder.alone_in(tmp_path, is_new=False):
        assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_new_folder_goes_again_if_nothing_came_of_it(tmp_path: Path) -> None:
    run = run_folder.alone_in(tmp_path / "a" / "b", is_new=True)
    run.__enter__()
    assert (tmp_path / "a" / "b").is_dir()
    run.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not (tmp_path / "a" / "b").exists()


def test_a_folder_in_use_says_whether_there_is_a_run_to_continue(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with (
        pytest.raises(InputError, match="holds no run to continue"),
        run_folder.alone_in(tmp_path, is_new=True),
    ):
        pass
    (tmp_path / "config.json").write_text("{}")
    with (
        pytest.raises(InputError, match="continue its run with --resume"),
        run_folder.alone_in(tmp_path, is_new=True),
    ):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "config.json"]


def test_a_folder_that_is_not_there_cannot_be_resumed_and_is_not_made(tmp_path: Path) -> None:
    with run_folder.alone_in(tmp_path / "none", is_new=False):
        pass
    assert not (tmp_path / "none").exists()
