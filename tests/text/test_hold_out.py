"""Units that are put aside, and the temporary file that many of them need."""

import errno
import resource
from fractions import Fraction

import pytest

from eqinfo.text import hold_out
from eqinfo.text.hold_out import Aside


def test_a_temporary_file_that_cannot_grow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_out, "MEMORY_BYTES", 1 << 10)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    documents = [(b"%d" % n * 100, True) for n in range(1000)]
    with Aside(Fraction(1, 2)) as aside:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, hard))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                list(aside.kept(documents))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, "a temporary file in TMPDIR")


def test_units_in_a_temporary_file_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_out, "MEMORY_BYTES", 1 << 10)
    documents = [(b"%d" % n * 100, True) for n in range(1000)]
    with Aside(Fraction(1, 2)) as aside:
        kept = list(aside.kept(documents))
        held = list(aside.pieces())
    assert sorted(kept + held) == sorted(documents)
    assert 400 < len(held) < 600
