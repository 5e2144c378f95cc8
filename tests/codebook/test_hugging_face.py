"""tokenizer.json: the tokenizers library gives the ids that parse gives, and the text back."""

import json

import pytest
from helpers.codebooks import make_codebook
from helpers.texts import mixed, prose
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFace

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import PENALTY_UNIT, Codebook
from eqinfo.codebook.hugging_face import tokenizer_files
from eqinfo.codebook.tokenizer import Tokenizer
from eqinfo.errors import InputError


def loaded(codebook: Codebook) -> HuggingFace:
    found = HuggingFace.from_str(tokenizer_files(codebook)["tokenizer.json"].decode())
    found.encode_special_tokens = True  # as transformers does by tokenizer_config.json
    return found


PENALTIES = 0.0, 1 / PENALTY_UNIT, 0.3, 1.0, 1000.0
CODEBOOKS = [make_codebook(12, unaligned_penalty=penalty) for penalty in PENALTIES]
PAIRS = [(codebook, loaded(codebook)) for codebook in CODEBOOKS]


def assert_same(text: str) -> None:
    for codebook, hugging_face in PAIRS:
        found = hugging_face.encode(text)
        assert found.ids == parse.encode(codebook, text.encode()).tolist()
        assert hugging_face.decode(found.ids) == text


@given(st.text(max_size=60))
def test_any_text_has_the_same_ids(text: str) -> None:
    assert_same(text)


@given(st.lists(st.sampled_from("ab .é中\n"), max_size=80).map("".join))
def test_ties_fall_the_same_way(text: str) -> None:
    assert_same(text)


def test_long_texts_have_the_same_ids() -> None:
    assert_same(prose(3000).decode())
    assert_same(mixed(2000).decode(errors="ignore"))


def test_text_that_spells_the_end_of_text_is_text() -> None:
    codebook, hugging_face = PAIRS[0]
    text = "to be<|endoftext|>or not"
    assert hugging_face.encode(text).ids == parse.encode(codebook, text.encode()).tolist()
    hugging_face.encode_special_tokens = False
    assert 0 in hugging_face.encode(text).ids  # what the library does unless told
    hugging_face.encode_special_tokens = True
    assert hugging_face.token_to_id("<|endoftext|>") == 0
    assert hugging_face.decode([0]) == ""


def test_a_window_may_spell_the_end_of_text() -> None:
    windows = {b"", b"<|endoftext|>", *(bytes([b]) for b in range(256))}
    codebook = Codebook(sorted(windows), 9)
    hugging_face = loaded(codebook)
    assert hugging_face.encode("<|endoftext|>").ids == [codebook.codewords[b"<|endoftext|>"]]
    assert json.loads(tokenizer_files(codebook)["tokenizer_config.json"])["eos_token"] == "<<|endoftext|>>"
    assert hugging_face.token_to_id("<<|endoftext|>>") == 0


def test_batches_are_padded_with_the_end_of_text() -> None:
    _, hugging_face = PAIRS[3]
    hugging_face.enable_padding(pad_id=0, pad_token="<|endoftext|>")
    short, long = hugging_face.encode_batch(["a", "a longer text than that"])
    hugging_face.no_padding()
    assert len(short.ids) == len(long.ids)
    assert short.ids[-1] == 0 == short.attention_mask[-1]


def test_offsets_are_those_of_the_windows() -> None:
    codebook, hugging_face = PAIRS[3]
    text = prose(50).decode()
    found = hugging_face.encode(text)
    ends = [end for _, end in found.offsets]
    lengths = [len(codebook.windows[id]) for id in found.ids]
    assert ends == [sum(lengths[: n + 1]) for n in range(len(lengths))]  # prose is ASCII


def test_the_longest_match_has_no_tokenizer_json(tmp_path) -> None:
    greedy = Tokenizer(make_codebook(10, "greedy"))
    with pytest.raises(InputError, match=r"tokenizer\.json: for windows cut at least cost"):
        greedy.save_tokenizer(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_saving_keeps_other_files_and_replaces_its_own(tmp_path) -> None:
    (tmp_path / "codebook.eqcb").write_bytes(b"kept")
    for codebook in CODEBOOKS[:2]:
        Tokenizer(codebook).save_tokenizer(str(tmp_path))
        for name, data in tokenizer_files(codebook).items():
            assert (tmp_path / name).read_bytes() == data
    assert (tmp_path / "codebook.eqcb").read_bytes() == b"kept"
