"""The models in the package: whole, small, and as good as their cards say."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.texts import mixed, prose

from eqinfo.codebook import parse
from eqinfo.coder.integer_m1 import BOS, M1_TOTAL_BITS
from eqinfo.coder.kernels.m1_step import new_state, run
from eqinfo.formats.model_folder import PACKAGED, Model, codebook_name
from eqinfo.m1 import run as m1_run

WIDTHS = {"default": [16, 12, 14, 18], "english": [16]}  # the first is that of codebook.eqcb


@pytest.fixture(scope="module", params=WIDTHS)
def model(request):
    return Model(PACKAGED / request.param)


def codebooks(model):
    return [model.codebook_of(bits) for bits in WIDTHS[model.path.name]]


def test_every_codeword_is_a_window(model):
    for codebook, bits in zip(codebooks(model), WIDTHS[model.path.name], strict=True):
        assert codebook.window_bits == bits
        assert len(codebook.windows) == 1 << bits


def test_its_files_belong_together_and_are_small(model):
    config = m1_run.read_config(model.path)
    assert config["fingerprint"] == model.codebook.fingerprint.hex()
    names = {path.name for path in model.path.iterdir()}
    further = {codebook_name(bits) for bits in WIDTHS[model.path.name][1:]}
    assert names - {"SOURCES.md"} == further | {
        "README.md",
        "codebook.eqcb",
        "config.json",
        "m1.eqm1",
        "published.eqcb",
    }
    sizes = {name: (model.path / name).stat().st_size for name in names}
    assert sizes["m1.eqm1"] <= 16e6
    assert sum(size for name, size in sizes.items() if name.endswith(".eqcb")) < 1.1e6


def test_any_bytes_come_back(model):
    texts = mixed(500), prose(20_000), np.random.default_rng(0).bytes(100_000), bytes(range(256)) * 9
    for codebook in codebooks(model):
        for text in texts:
            assert parse.decode(codebook, parse.encode(codebook, text)) == text


def test_windows_of_english_are_long(model):
    text = (Path(__file__).parents[2] / "examples" / "inaugural.txt").read_bytes()
    assert len(text) / parse.encode(model.codebook, text).size > 4


def test_m1_predicts_english(model):
    text = b"the United States of America"
    found = run(model.network, new_state(model.network), np.array([BOS, *text[:-1]], np.uint16))
    assert M1_TOTAL_BITS - np.log2(found[np.arange(len(text)), [*text]]).mean() < 2


def test_the_card_gives_the_figures_of_its_config(model):
    card = (model.path / "README.md").read_text()
    config = json.loads((model.path / "config.json").read_bytes())
    for name, value in config["measured"]["bytes_per_window"].items():
        assert f"| {name} | {value:.3f} |" in card
    assert config["fingerprint"][:16] in card


SAMPLES = {
    "Russian": ("Все люди рождаются свободными и равными в своём достоинстве и правах.", 4.0),
    "German": ("Alle Menschen sind frei und gleich an Würde und Rechten geboren.", 3.0),
    "Hindi": ("सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।", 4.0),
    "Chinese": ("人人生而自由,在尊严和权利上一律平等。", 2.4),
    "C": ("for (int i = 0; i < n; i++) {\n        if (a[i] == NULL)\n            return -1;\n    }\n", 3.0),
    "CR LF": ("it is a truth universally\r\nacknowledged, that a single\r\nman in possession\r\n", 3.5),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_default_model_knows_text_of_many_kinds(kind):
    text, least = SAMPLES[kind]
    default = Model(None).codebook
    assert len(text.encode()) / parse.encode(default, text.encode()).size > least
