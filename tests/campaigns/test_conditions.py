"""A short version of the campaign in conditions.py."""

import os
import shutil
import signal
from pathlib import Path

import conditions
from helpers.texts import prose
from launch import can_mount


def test_compress_does_what_is_right_under_bad_conditions(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(prose(3000))
    (tmp_path / "text").write_bytes(b"\0" * (3 << 20))
    job = conditions.JOBS[0]
    trials = conditions.Trials(tmp_path)
    trials.learn([job])
    trials.limited(job, [1])
    conditions.streams(trials, job)
    trials.once("no more threads", job, {0}, before=conditions.without_threads)
    has_compiler, mounts = shutil.which("cc") is not None, os.geteuid() == 0 and can_mount(tmp_path / "mount")
    if has_compiler:
        trials.without_courtesies(job)
    if mounts:
        trials.bound(job)
    for terminal in (False, True):
        trials.interrupted(job, [signal.SIGINT, signal.SIGINT], terminal)
    trials.interrupted(job, [signal.SIGHUP], terminal=True)
    cells = {condition: row[job.name] for condition, row in trials.rows.items()}
    wrong = [f"{name}: {cell.text()}" for name, cell in cells.items() if cell.right < len(cell.outcomes)]
    assert not wrong
    assert len(cells) == 14 + 2 * has_compiler + mounts
    assert "eqinfo: f: File too large" in trials.messages
