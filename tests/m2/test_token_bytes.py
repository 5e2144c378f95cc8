from itertools import accumulate

import pytest
import torch
from helpers.texts import mixed, prose

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.m2.model import GPT, GPTConfig
from eqinfo.m2.token_bytes import FACTORS, LENGTHS, ROW_BITS, ByteNgrams, Spelling
from eqinfo.training.loop import Trainer
from eqinfo.training.schedule import Budget

WORDS = [b"", b"a", b"ab", b"abcdefghijk", b"b", b"ba", b"xbcdefghijk"]
CPU = torch.device("cpu")


def sum_of_features(spelling, at):
    end = spelling.offsets[at + 1] if at + 1 < len(WORDS) else len(spelling.features)
    return spelling.vectors[spelling.features[spelling.offsets[at] : end]].sum(0) / 2


def features(spelling, at):
    end = spelling.offsets[at + 1] if at + 1 < len(WORDS) else len(spelling.features)
    return set(spelling.features[spelling.offsets[at] : end].tolist())


def test_a_vocabulary_of_bytes_shares_nothing_and_trains():
    tokens = [b"", *(bytes([value]) for value in range(256))]
    spelling = Spelling(tokens, 3)
    assert not spelling.features.numel()
    assert all(torch.equal(part, torch.zeros(257, 3)) for part in spelling())
    model = GPT(GPTConfig(257, 8, 1, 2, 8), Spelling(tokens, 8), ByteNgrams(tokens, 8))
    trainer = Trainer(model, Budget(1), 16, 0.01, CPU)
    trainer._gradients(torch.arange(16).view(2, 8), torch.arange(1, 17).view(2, 8))
    trainer.optimisers[0].step()


def test_tokens_share_the_features_of_the_beginnings_and_ends_that_they_share():
    spelling = Spelling(WORDS, 3)
    empty, a, ab, long, b, _, other = (features(spelling, at) for at in range(len(WORDS)))
    assert not empty
    assert len(a & ab) == 2  # begins with a; a is the first byte
    assert len(ab & long) == 4  # begins with a, with ab; two first bytes
    assert len(long & other) == 10 + 3 + 4  # ends of 1 to 10 bytes; bytes 2 to 4 and the last 4
    assert len(b & ab) == 2  # ends with b; b is the last byte
    assert not a & b
    uses = torch.bincount(spelling.features, minlength=len(spelling.vectors))
    assert uses.min() >= 2


def test_a_spelling_is_half_the_sum_of_its_features():
    spelling = Spelling(WORDS, 3)
    torch.nn.init.normal_(spelling.vectors)
    table, head = spelling()
    for at in range(len(WORDS)):
        torch.testing.assert_close(torch.cat((table[at], head[at])), sum_of_features(spelling, at))


def test_a_folded_model_computes_the_same_without_its_spelling():
    config = GPTConfig(len(WORDS), 8, 1, 2, 32)
    model = GPT(config, Spelling(WORDS, 32), ByteNgrams(WORDS, 32))
    plain = GPT(config, ngrams=ByteNgrams(WORDS, 32))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    plain.load_state_dict(model.plain())
    idx = torch.tensor([[0, 5, 2, 3, 1]])
    assert torch.equal(model(idx), plain(idx))


def rows_of_text(text):
    """The rows of the n-grams at the end of a text, by definition."""
    tail = (bytes(7) + text)[-7:]
    products = [int.from_bytes(tail[-n:]) * factor for n, factor in zip(LENGTHS, FACTORS, strict=True)]
    return [product % 2**64 >> 64 - ROW_BITS for product in products]


@pytest.mark.parametrize("text", [prose(300), mixed(4)[:3000], bytes(50), b"\xff" * 50])
def test_rows_are_those_of_the_last_bytes_of_text_since_the_last_end_of_text(codebook, text):
    ngrams = ByteNgrams(codebook.windows, 2)
    first = parse.encode(codebook, text).tolist()
    idx = [*first, 0, *first]
    found = ngrams.rows(torch.tensor([idx]))[0].tolist()
    texts = list(accumulate((codebook.windows[n] for n in first), initial=b""))
    assert found == [rows_of_text(known) for known in (*texts[1:], b"", *texts[1:])]


@pytest.fixture(scope="module")
def codebook():
    singles = {b""} | {bytes([b]) for b in range(256)}
    return Codebook(sorted({b"the ", b"of", b"and the ", b"\0\0", b"\xff" * 20, *singles}), 9)


def test_rows_do_not_depend_on_how_the_text_is_cut(codebook):
    ngrams = ByteNgrams(codebook.windows, 2)
    text = b"and the of the \0\0 " + b"\xff" * 45
    cuts = [parse.encode(codebook, text).tolist(), [codebook.codewords[bytes([byte])] for byte in text]]
    one, other = (ngrams.rows(torch.tensor([idx]))[0] for idx in cuts)
    ends = torch.tensor(list(accumulate(len(codebook.windows[n]) for n in cuts[0]))) - 1
    assert torch.equal(one, other[ends])


def test_a_step_changes_the_rows_that_its_batch_touches_and_no_others(codebook, tmp_path):
    ngrams = ByteNgrams(codebook.windows, 32)
    before = ngrams.vectors.detach().clone()
    config = GPTConfig(len(codebook.windows), 16, 1, 2, 32)
    trainer = Trainer(GPT(config, ngrams=ngrams), Budget(2), 64, 0.01, CPU)
    idx = torch.randint(0, len(codebook.windows), (4, 17))
    batch = idx[:, :-1], idx[:, 1:]
    # The first step learns nothing here: the head is zero, so no gradient passes it.
    trainer.run(lambda _: batch, 1.0, tmp_path / "checkpoint.pt", lambda _: None, lambda: False)
    changed = (ngrams.vectors != before).any(-1).nonzero().ravel()
    assert torch.equal(changed, ngrams.rows(batch[0]).unique())


def test_the_loss_of_touched_rows_is_that_of_all_rows(codebook):
    torch.manual_seed(0)
    model = GPT(GPTConfig(len(codebook.windows), 16, 1, 2, 32), ngrams=ByteNgrams(codebook.windows, 32))
    torch.nn.init.normal_(model.head.weight)
    idx = torch.randint(0, len(codebook.windows), (4, 17))
    part = idx[1:3, :-1], idx[1:3, 1:]
    assert torch.equal(model.loss(*part, *model.composed(idx[:, :-1])), model.loss(*part, *model.matrices()))
