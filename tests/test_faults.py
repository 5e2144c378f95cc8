"""The campaign of faults in short: some of each kind for every reader."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[1] / "examples" / "benchmarks" / "faults.py"


def campaign() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("faults", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


FAULTS = campaign()
SUBJECTS = {subject.name: subject for subject in (make() for make in FAULTS.subjects())}


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_fault_is_refused_in_a_line_or_changes_nothing(name: str) -> None:
    tally = FAULTS.Tally()
    FAULTS.exhaustive(SUBJECTS[name], tally, most=600)
    assert tally.defects == []
    assert tally.refused > 100


@pytest.mark.parametrize("name", [name for name, subject in SUBJECTS.items() if subject.reseal])
def test_faults_behind_checksums_that_fit_are_refused_in_a_line_or_read(name: str) -> None:
    subject, tally = SUBJECTS[name], FAULTS.Tally()
    assert subject.read(subject.reseal(subject.data)) == FAULTS.want(subject)
    for data in FAULTS.flips(subject.data, -(-8 * len(subject.data) // 600)):
        tally.case(subject, "resealed", subject.reseal(data), True)
    assert tally.defects == []


def test_the_campaign_finds_a_reader_that_believes_or_breaks() -> None:
    believing = FAULTS.Subject("believing", b"abc", bytes)
    breaking = FAULTS.Subject("breaking", b"[1]", lambda data: __import__("json").loads(data))
    for subject in (believing, breaking):
        tally = FAULTS.Tally()
        FAULTS.exhaustive(subject, tally, most=24)
        assert tally.defects
