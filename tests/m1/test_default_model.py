"""The model in the package: whole, small, and as good as its card says."""

import json

import numpy as np
import pytest
from helpers.texts import mixed, prose

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.coder.integer_m1 import BOS, M1_TOTAL_BITS
from eqinfo.coder.kernels.m1_step import new_state, run
from eqinfo.formats.model_folder import codebook_path, model_path
from eqinfo.m1 import run as m1_run


@pytest.fixture(scope="module")
def default():
    return Codebook.load(codebook_path(None))


def test_every_codeword_is_a_window(default):
    assert default.window_bits == 16
    assert len(default.windows) == 1 << 16


def test_its_files_belong_together_and_are_small(default):
    config = m1_run.read_config(model_path(None))
    assert config["fingerprint"] == default.fingerprint.hex()
    assert sum(path.stat().st_size for path in model_path(None).iterdir()) < 8_000_000
    assert {path.name for path in model_path(None).iterdir()} == {
        "README.md",
        "codebook.eqcb",
        "config.json",
        "m1.eqm1",
        "published.eqcb",
    }


def test_any_bytes_come_back(default):
    for data in (mixed(500), prose(50_000), np.random.default_rng(0).bytes(300_000), bytes(range(256)) * 9):
        assert parse.decode(default, parse.encode(default, data)) == data


def test_windows_of_english_are_long(default):
    text = (model_path(None).parent.parent / "examples" / "inaugural.txt").read_bytes()
    assert len(text) / parse.encode(default, text).size > 4


def test_m1_predicts_english():
    m1_of_package = m1_run.load_m1(model_path(None))
    text = b"the United States of America"
    found = run(m1_of_package, new_state(m1_of_package), np.array([BOS, *text[:-1]], np.uint16))
    assert M1_TOTAL_BITS - np.log2(found[np.arange(len(text)), [*text]]).mean() < 2


def test_the_card_gives_the_figures_of_its_config():
    card = (model_path(None) / "README.md").read_text()
    measured = json.loads((model_path(None) / "config.json").read_bytes())["measured"]
    for name, value in measured["bytes_per_window"].items():
        assert f"| {name} | {value:.3f} |" in card
