"""Token files as training data."""

import json

import numpy as np
import pytest
from helpers.texts import mixed

from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import FormatError, InputError, MismatchError
from eqinfo.formats import token_file
from eqinfo.formats.codec import CodebookCodec
from eqinfo.m2 import batches as m2_batches
from eqinfo.m2.batches import TokenBatches
from eqinfo.text.frames import Frame


@pytest.fixture
def make_tokens(tmp_path, codebook):
    """A maker of token files of some text."""

    def make(name, text, codebook=codebook):
        path = tmp_path / name
        with path.open("wb") as sink:
            sidecar = token_file.write([Frame(text, [len(text)])], sink, CodebookCodec(codebook))
        token_file.sidecar_path(path).write_bytes(sidecar.to_json())
        return path

    return make


def elsewhere(path, ids, vocab_size, header=b"", **more):
    """A token file as others write it, with the least sidecar."""
    path.write_bytes(header + np.asarray(ids, "<u2" if vocab_size <= 65536 else "<u4").tobytes())
    token_file.sidecar_path(path).write_text(
        json.dumps({"vocab_size": vocab_size, "original_bytes": 999} | more)
    )
    return path


def stored(paths):
    return np.concatenate([np.fromfile(path, "<u2") for path in paths])


def test_every_id_of_every_file_is_a_target_once_after_the_id_before_it(make_tokens):
    paths = [make_tokens("a.bin", mixed(300)), make_tokens("b.bin", mixed(200, 1))]
    data = m2_batches.load(paths)
    ids = stored(paths)
    assert data.n_tokens == ids.size
    assert data.sidecar.original_bytes == len(mixed(300)) + len(mixed(200, 1))
    idx, targets = (t.numpy() for t in data.blocks(range(data.n_blocks(7)), 7))
    inside = targets >= 0
    assert np.array_equal(targets[inside], ids)
    assert np.array_equal(idx[inside], np.append(0, ids[:-1]))
    assert inside[:-1].all()


def test_windows_are_read_as_smaller_tokens_high_bits_first(make_tokens, codebook):
    path = make_tokens("a.bin", mixed(100))
    data = m2_batches.load([path], token_bits=4)
    ids = stored([path])
    want = np.stack([ids >> 8, ids >> 4 & 15, ids & 15], -1).ravel()
    assert (data.vocab_size, data.n_tokens) == (16, want.size)
    for block_size in (3, 5, 64):
        _, targets = data.blocks(range(data.n_blocks(block_size)), block_size)
        assert np.array_equal(targets[targets >= 0].numpy(), want)


def test_token_bits_must_divide_the_window(make_tokens):
    with pytest.raises(InputError, match="--token-bits: found 5, want a divisor of the 12 bits of a window"):
        m2_batches.load([make_tokens("a.bin", b"abc")], token_bits=5)


def test_token_bits_are_for_windows(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(6))
    (tmp_path / "a.bin.json").write_text('{"vocab_size": 300, "original_bytes": 3}')
    message = r"--token-bits: found ids below 300, want windows: ids below 2\^BITS"
    with pytest.raises(InputError, match=message):
        m2_batches.load([path], token_bits=3)


@pytest.mark.parametrize(("block_size", "batch_size"), [(7, 1), (16, 5), (100, 33)])
def test_an_epoch_has_every_block_once_and_the_next_one_another_order(make_tokens, block_size, batch_size):
    data = m2_batches.load([make_tokens("a.bin", mixed(300))])
    n = data.n_blocks(block_size)
    batches = TokenBatches(data, block_size, batch_size, seed=3)
    steps = -(-2 * n // batch_size)
    rows = np.concatenate([batches(step)[1].numpy() for step in range(steps)])[: 2 * n]
    _, want = data.blocks(range(n), block_size)
    first, second = rows[:n], rows[n:]
    assert not np.array_equal(first, second)
    for epoch in (first, second):
        assert not np.array_equal(epoch, want.numpy())
        assert sorted(map(tuple, epoch)) == sorted(map(tuple, want.numpy()))


def test_a_batch_depends_on_seed_and_step_alone(make_tokens):
    data = m2_batches.load([make_tokens("a.bin", mixed(300))])

    def batch(seed, step):
        return TokenBatches(data, 16, 4, seed)(step)[1].numpy()

    forwards = TokenBatches(data, 16, 4, 0)
    for step in (0, 500, 3):  # other epochs between
        assert np.array_equal(forwards(step)[1].numpy(), batch(0, step))
    assert not np.array_equal(batch(0, 1), batch(1, 1))


def test_files_of_nanogpt_and_llm_c_work_with_a_sidecar_of_two_numbers(tmp_path):
    ids = np.arange(500) % 300
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, ids.size
    for name, prefix in (("nanogpt.bin", b""), ("llm_c.bin", header.tobytes())):
        path = elsewhere(tmp_path / name, ids, 50257, prefix, end_of_text=50256)
        m2_batches.check([path])
        data = m2_batches.load([path])
        sidecar = data.sidecar
        assert (data.vocab_size, sidecar.fingerprint, sidecar.original_bytes) == (50257, "", 999)
        idx, targets = data.blocks([0], 500)
        assert np.array_equal(targets[0].numpy(), ids)
        assert idx[0, 0] == 50256
    (tmp_path / "llm_c.bin").write_bytes(header.tobytes()[:1000])
    with pytest.raises(FormatError, match=r"llm_c\.bin: truncated; it ends inside its header or an id\."):
        m2_batches.load([tmp_path / "llm_c.bin"])
    wide = elsewhere(tmp_path / "wide.bin", [70000, 3], 100_000)
    assert m2_batches.load([wide]).blocks([0], 2)[1].tolist() == [[70000, 3]]


def test_files_that_do_not_fit_their_sidecar_are_refused(make_tokens, tmp_path):
    path = make_tokens("a.bin", mixed(100))
    whole = path.read_bytes()
    for data, match in ((whole[:-2], "shorter than its sidecar says"), (whole + b"xx", "longer than")):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=match):
            m2_batches.load([path])
    path.write_bytes(whole[:10] + bytes([whole[10] ^ 1]) + whole[11:])
    with pytest.raises(FormatError, match="checksum does not match"):
        m2_batches.check([path])
    path.write_bytes(whole[:10] + b"\xff\xff" + whole[12:])
    with pytest.raises(FormatError, match="out of the vocabulary; found 65535, want less than 4096"):
        m2_batches.check([path])
    with pytest.raises(InputError, match="found id 65535, want less than 4096"):
        m2_batches.load([path]).blocks([0], 100)


@pytest.mark.parametrize(
    ("sidecar", "match"),
    [
        (None, r"a\.bin\.json: no such file"),
        ("[]", "not the sidecar"),
        ("{", "not JSON"),
        ('{"vocab_size": 300}', "not the sidecar"),
        ('{"vocab_size": -1, "original_bytes": 2}', "want a vocab_size from 2 to 2\\^32"),
        ('{"vocab_size": 1, "original_bytes": 2}', "want a vocab_size from 2 to 2\\^32"),
        ('{"vocab_size": 1.5, "original_bytes": 2}', "a number is out of range"),
        ('{"vocab_size": 300, "original_bytes": "x"}', "a number is out of range"),
        (f'{{"vocab_size": 300, "original_bytes": 1{"0" * 400}}}', "original_bytes from 0 to"),
        ('{"vocab_size": 300, "original_bytes": 2, "end_of_text": 300}', "an end_of_text below vocab_size"),
    ],
)
def test_a_missing_or_wrong_sidecar_is_refused(tmp_path, sidecar, match):
    path = tmp_path / "a.bin"
    path.write_bytes(b"\1\0" * 8)
    if sidecar is not None:
        token_file.sidecar_path(path).write_text(sidecar)
    with pytest.raises(FormatError, match=match):
        m2_batches.load([path])


def test_files_of_two_codebooks_are_not_mixed(make_tokens, codebooks):
    a, b = make_tokens("a.bin", b"abc"), make_tokens("b.bin", b"abc", codebooks[4])
    with pytest.raises(MismatchError, match="of another vocabulary than"):
        m2_batches.load([a, b])


def test_an_empty_token_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no tokens in it"):
        m2_batches.load([elsewhere(tmp_path / "a.bin", [], 300)])


def test_ids_in_memory_are_tokens_too(codebook: Codebook, make_tokens):
    like = token_file.Sidecar.load(token_file.sidecar_path(make_tokens("a.bin", b"to be")))
    data = m2_batches.of_ids([np.array([5, 6, 7], np.uint16)], [like], None, "text")
    assert data.blocks([0], 4)[1].tolist() == [[5, 6, 7, -1]]
    assert (data.vocab_size, data.bytes_per_token) == (4096, 5 / 3)
