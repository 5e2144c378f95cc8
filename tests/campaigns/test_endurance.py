"""A short version of the kills in endurance.py."""

from pathlib import Path

import endurance


def test_killed_commands_leave_a_whole_output_or_none(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(bytes(range(256)) * 8000)
    command = ["compress", "-m", str(model), str(tmp_path / "text"), "--tokens", "-o", "{out}"]
    found = endurance.kill_files(tmp_path, "job", command, ["t.bin.json", "t.bin"], n_kills=8)
    assert found["kills"] == 8
    assert found["wrong"] == 0
