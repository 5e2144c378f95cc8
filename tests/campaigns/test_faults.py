"""A short version of the campaign in faults.py: a sample of each kind of damage for every reader."""

from collections.abc import Iterator

import fault_commands
import fault_subjects
import faults
import pytest

SUBJECTS = {subject.name: subject for subject in fault_subjects.subjects()}


@pytest.fixture(scope="module", autouse=True)
def _sandbox() -> Iterator[None]:
    yield
    fault_subjects.shutil.rmtree(fault_subjects.sandbox())


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_fault_is_refused_in_a_line_or_changes_nothing(name: str) -> None:
    tally = faults.Tally()
    faults.exhaustive(SUBJECTS[name], tally, most=300)
    assert tally.defects == []
    assert tally.refused > 100
    assert min(tally.counts[kind] for kind in ("flips", "truncations", "claims", "random")) > 0


@pytest.mark.parametrize("name", [name for name, subject in SUBJECTS.items() if subject.reseal])
def test_faults_behind_checksums_that_fit_are_refused_in_a_line_or_read(name: str) -> None:
    subject, tally = SUBJECTS[name], faults.Tally()
    want = subject.read(subject.data)
    assert subject.read(subject.reseal(subject.data)) == want
    for data in faults.flips(subject.data, 300):
        tally.case(subject, want, "resealed", subject.reseal(data), True)
    assert tally.defects == []


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
