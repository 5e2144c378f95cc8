"""A short version of the campaign in faults.py: a sample of each kind of damage for every reader."""

from collections.abc import Callable, Iterator

import fault_commands
import fault_subjects
import faults
import pytest
from fault_subjects import Subject


@pytest.mark.parametrize("group", fault_subjects.GROUPS, ids=lambda group: group.__name__)
def test_every_fault_is_refused_in_a_line_or_changes_nothing(group: Callable[[], Iterator[Subject]]) -> None:
    for subject in group():
        tally = faults.Tally()
        faults.exhaustive(subject, tally, most=300)
        faults.explode(subject, tally)
        assert tally.defects == [], subject.name
        assert tally.refused > 100, subject.name
        kinds = ("flips", "truncations", "claims", "random")
        assert min(tally.counts[kind] for kind in kinds) > 0, subject.name
        assert len(tally.bombs) == len(subject.bombs)
        if subject.reseal:  # faults behind checksums that fit
            want = subject.read(subject.data)
            assert subject.read(subject.reseal(subject.data)) == want
            for data in faults.flips(subject.data, 300):
                tally.case(subject, want, "resealed", subject.reseal(data), True)
            assert tally.defects == [], subject.name


def test_some_subjects_have_bombs_and_some_have_checksums() -> None:
    subjects = fault_subjects.subjects()
    assert len(subjects) > 30
    assert sum(bool(subject.bombs) for subject in subjects) > 2
    assert sum(subject.reseal is not None for subject in subjects) > 15


def test_damaged_files_are_refused_by_commands() -> None:
    command = next(each for each in fault_commands.commands() if each.words[0] == "-t")
    status, _, want = command.run(command.files[command.damaged])
    assert status == 0
    command.case(want, b"noise")
    command.case((b"something else", {}), command.files[command.damaged])
    assert (command.cases, command.refused, command.right, len(command.defects)) == (2, 1, 0, 1)


def test_the_campaign_finds_a_reader_that_believes_breaks_or_litters() -> None:
    litter = fault_subjects.in_folder("a", lambda folder: (folder / "b").write_bytes(b""))
    readers = {"believing": bytes, "breaking": __import__("json").loads, "littering": litter}
    for name, read in readers.items():
        subject, tally = faults.Subject(name, b"[1]", read), faults.Tally()
        tally.case(subject, b"", "extensions", b"[1]x", False)
        assert len(tally.defects) == 1


def test_claims_reach_every_value_and_every_place() -> None:
    claims = set(faults.claims(b'{"a": [1], "b": 2}', 9999))
    assert {
        b'{"a": [NaN], "b": 2}\n',
        b'{"a": null, "b": 2}\n',
        b'{"a": [1]}\n',
        b'{"a": [], "b": 2}\n',
    } <= claims
    huge = faults.NUMBERS[0]
    assert {huge + b"ab", huge, b"a" + huge + b"b", b"a" + huge} <= set(faults.claims(b"ab", 9999))


@pytest.mark.parametrize(("words", "n_defects"), [("a\nb: no such file", 0), ("a: found b\nc", 1)])
def test_a_line_break_may_be_in_the_name_of_a_file_only(words: str, n_defects: int) -> None:
    def refuse(data: bytes) -> object:
        raise faults.EqinfoError(words)

    tally = faults.Tally()
    tally.case(faults.Subject("x", b"", refuse), None, "flips", b"", False)
    assert (tally.refused, len(tally.defects)) == (1, n_defects)
