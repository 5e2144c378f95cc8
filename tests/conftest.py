"""Settings and fixtures of all tests."""

import os
from pathlib import Path

import pytest
from helpers.codebooks import make_codebook
from helpers.networks import random_network
from hypothesis import settings

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.coder import integer_m1

# The user's shell does not decide: one thread, as in CI, no GPU, whose results differ, a plain terminal, and
# files that others may read.
os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)
os.umask(0o022)

settings.register_profile("eqinfo", deadline=None, derandomize=True)
settings.load_profile("eqinfo")


@pytest.fixture(scope="session")
def codebook() -> Codebook:
    return make_codebook(12)


@pytest.fixture(scope="session")
def codebooks() -> list[Codebook]:
    """One of each kind: sizes, both parses, penalties, and one that leaves codewords unused."""
    return [
        make_codebook(9),
        make_codebook(10, "greedy"),
        make_codebook(11, unaligned_penalty=0.3),
        make_codebook(12, unaligned_penalty=3.0),
        make_codebook(13, n_windows=5000),
        make_codebook(14),
        make_codebook(16, n_windows=20_000),
        make_codebook(17, n_windows=9_000),
        make_codebook(20, "greedy", n_windows=9_000),
    ]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, codebook: Codebook) -> Path:
    """A model folder with nothing in it but the codebook."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "codebook.eqcb").write_bytes(codebook.to_bytes())
    return folder


@pytest.fixture(scope="session")
def live_model(tmp_path_factory: pytest.TempPathFactory, codebook: Codebook) -> Path:
    """A model folder with a codebook and the weights of a small M1."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "codebook.eqcb").write_bytes(codebook.to_bytes())
    (folder / "m1.eqm1").write_bytes(integer_m1.to_bytes(random_network()))
    return folder


@pytest.fixture
def compiled_code_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the compiled loops for texts of any size but none."""
    monkeypatch.setattr(parse, "COMPILED_FROM", 1)
