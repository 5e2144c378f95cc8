"""Kills in short; in full: examples/benchmarks/endurance.py."""

import importlib.util
from pathlib import Path

PATH = Path(__file__).parents[1] / "examples" / "benchmarks" / "endurance.py"


def test_killed_commands_leave_a_whole_output_or_none(model: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("endurance", PATH)
    assert spec is not None
    assert spec.loader is not None
    endurance = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(endurance)
    (tmp_path / "text").write_bytes(bytes(range(256)) * 8000)
    command = ["compress", "-m", str(model), str(tmp_path / "text"), "--tokens", "-o", "{out}"]
    found = endurance.kill_files(tmp_path, "job", command, ["t.bin", "t.bin.json"], n_kills=8)
    assert found["kills"] == 8
    assert found["wrong"] == 0
