import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.errors import FormatError, InputError
from eqinfo.m1 import corpus
from eqinfo.text.hold_out import UNIT_BYTES, is_held_out


def jsonl(documents):
    return io.BytesIO(b"".join(json.dumps({"text": d}).encode() + b"\n" for d in documents))


def documents_of(text):
    ends = text.document_ends.tolist()
    return [text.data[a:b].tobytes().decode() for a, b in zip([0, *ends], ends, strict=False)]


def test_every_document_is_on_one_side_and_copies_are_together(tmp_path):
    documents = [f"document {i % 700} " * (1 + i % 5) for i in range(3500)]
    facts = corpus.stage([("a.jsonl", jsonl(documents))], tmp_path, "text")
    train, valid, loaded = corpus.load(tmp_path)
    assert loaded == facts
    assert facts.documents == 3500
    assert sorted(documents_of(train) + documents_of(valid)) == sorted(documents)
    assert not set(documents_of(train)) & set(documents_of(valid))
    assert 0.002 < facts.valid_bytes / facts.train_bytes < 0.05


@pytest.mark.parametrize("size", [1, 2, 19, 1000, 3 * UNIT_BYTES + 5])
def test_a_small_plain_text_is_split_near_its_end(tmp_path, size):
    data = np.random.default_rng(1).integers(0, 256, size, np.uint8).tobytes()
    corpus.stage([("a.txt", io.BytesIO(data))], tmp_path, "text")
    train, valid, _ = corpus.load(tmp_path)
    assert train.data.tobytes() + valid.data.tobytes() == data
    assert train.data.size >= size * 0.9
    assert train.document_ends[-1] == train.data.size


def test_what_is_held_out_beyond_the_most_is_in_neither_text(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "MAX_VALID_BYTES", 20)
    documents = [f"document {i}" for i in range(3000)]
    corpus.stage([("a.jsonl", jsonl(documents))], tmp_path, "text")
    train, valid, _ = (*map(documents_of, corpus.load(tmp_path)[:2]), None)
    held = [text for text in documents if is_held_out(text.encode(), corpus.HELD_OUT)]
    assert [text.lower() for text in valid] == held[:2]
    assert sorted(map(str.lower, train)) == sorted(set(documents) - set(held))


def test_no_text_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no text in any of the inputs"):
        corpus.stage(
            [("a.txt", io.BytesIO(b"")), ("b.jsonl", io.BytesIO(b'{"text": ""}\n'))], tmp_path, "text"
        )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("facts.json", b"{"),
        ("facts.json", b"[" * 9999),
        ("facts.json", b'{"train_bytes": 1}'),
        ("train", b"shorter"),
        ("train.ends", b""),
        ("train.ends", np.array([5, 3, 60], "<i8").tobytes()),
        ("valid.ends", np.array([-1, 1 << 60], "<i8").tobytes()),
    ],
)
def test_staged_files_that_do_not_fit_together_are_refused(tmp_path, name, data):
    corpus.stage([("a.txt", io.BytesIO(b"some text, " * 9))], tmp_path, "text")
    corpus.load(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FormatError, match=rf"{name}: damaged.*\. Start a new run\."):
        corpus.load(tmp_path)


def test_the_hash_is_of_all_text_in_order(tmp_path):
    facts = [
        corpus.stage([(name, io.BytesIO(data))], tmp_path / str(i), "text")
        for i, (name, data) in enumerate(
            [("a", b"one two"), ("a.jsonl", b'{"text": "one two"}'), ("a", b"two one")]
        )
    ]
    assert facts[0].sha256 == facts[1].sha256 != facts[2].sha256


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.data())
def test_a_slice_keeps_the_document_ends_inside_it(lengths, data):
    ends = np.cumsum(lengths)
    text = corpus.Text(np.arange(ends[-1], dtype=np.uint8), ends)
    start = data.draw(st.integers(0, int(ends[-1])))
    stop = data.draw(st.integers(start, int(ends[-1])))
    part = text.slice(start, stop)
    assert np.array_equal(part.data, text.data[start:stop])
    assert part.document_ends.tolist() == [e - start for e in ends if start < e <= stop]


def test_a_sample_covers_a_text_evenly():
    text = corpus.Text(np.zeros(10 << 20, np.uint8), np.array([10 << 20]))
    assert sum(part.data.size for part in corpus.sample(text, 1 << 40)) == 10 << 20
    assert [part.data.size for part in corpus.sample(text, 3 << 20)] == [1 << 20] * 3
