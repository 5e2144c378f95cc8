import math
from itertools import islice

import numpy as np
import pytest
import torch
from helpers.next_byte import next_byte_probabilities
from helpers.texts import mixed, prose

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import InputError, MismatchError
from eqinfo.m2 import covers, generate
from eqinfo.m2.generate import codewords, draw, split, stream
from eqinfo.m2.model import GPT, GPTConfig
from eqinfo.m2.token_bytes import ByteNgrams
from eqinfo.training.loop import Trainer
from eqinfo.training.schedule import Budget

WORDS = [
    "th",
    "the",
    "the ",
    "he",
    "e ",
    " t",
    "that",
    "at",
    "to",
    "to be",
    "o be",
    "be",
    " or",
    "or n",
    "ot",
]
ENDS_INSIDE = [b"\xff\xff", b"\xff\xff\xff", b"\xfe\xff", b"\xc3\xa9", b"\xa9 t", b"\0\0"]

PROMPTS = [
    b"",
    b"t",
    b"th",
    b"the t",
    b"to be",
    b"to be or no",
    b"that the",
    b"caf\xc3",
    b"\xc3\xa9 ",
    b"\xff\xff",
    b"\xfe\xff\xff",
    b"\0",
    b"q\xa9z",
]


@pytest.fixture(scope="module")
def codebook():
    singles = {b""} | {bytes([b]) for b in range(256)}
    return Codebook(sorted(singles | {word.encode() for word in WORDS} | set(ENDS_INSIDE)), 9)


def random_model(codebook, block_size=64, std=0.2):
    torch.manual_seed(0)
    config = GPTConfig(len(codebook.windows), block_size, n_layer=2, n_head=2, n_embd=32)
    model = GPT(config, ngrams=ByteNgrams(codebook.windows, config.n_embd))
    for weight in model.parameters():  # beyond the zeros it starts with
        torch.nn.init.normal_(weight, std=std)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def model(codebook):
    return random_model(codebook)


@pytest.fixture
def unpruned(monkeypatch):
    """All covers are found: exact, in a time exponential in the length of the rest."""
    monkeypatch.setattr(covers, "PRUNE_NATS", math.inf)
    monkeypatch.setattr(covers, "MAX_RANKED", 10**9)


def by_brute_force(model, codebook, kept, rest):
    """The distribution of the byte after kept windows and more bytes: every id is tried after every cut."""
    model = GPT(model.config, ngrams=ByteNgrams(codebook.windows, model.config.n_embd)).double()
    model.load_state_dict(random_model(codebook).state_dict())
    mass, pending = np.zeros(257), [([0, *kept], b"", 0.0)]
    while pending:
        tokens, done, log_p = pending.pop()
        following = log_p + model(torch.tensor([tokens]))[0, -1].log_softmax(-1).detach().numpy()
        if done == rest:
            mass[256] += np.exp(following[0])
        for token, window in enumerate(codebook.windows[1:], 1):
            text = done + window
            if len(text) > len(rest) and text.startswith(rest):
                mass[text[len(rest)]] += np.exp(following[token])
            elif rest.startswith(text):
                pending.append(([*tokens, token], text, following[token]))
    return mass / mass.sum()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_next_byte_is_as_probable_as_all_cuts_of_the_prompt_make_it(model, codebook, prompt, unpruned):
    found = next_byte_probabilities(model, codebook, prompt)
    np.testing.assert_allclose(found, by_brute_force(model, codebook, [], prompt), rtol=2e-5)


def test_the_first_windows_of_a_longer_prompt_are_kept(model, codebook, monkeypatch, unpruned):
    monkeypatch.setattr(generate, "BACK_OFF", 7)
    prompt = b"to be or not that the the tha"
    kept, rest = split(codebook, prompt, 32)
    assert len(kept) > 4
    assert 7 <= len(rest) < 7 + codebook.max_window_bytes
    assert parse.decode(codebook, np.array(kept, np.uint32)) + rest == prompt
    found = next_byte_probabilities(model, codebook, prompt)
    np.testing.assert_allclose(found, by_brute_force(model, codebook, kept, rest), rtol=2e-5)


def test_what_is_given_up_is_hardly_missed(model, codebook, monkeypatch):
    prompt = b"to be or that the t"

    def found(prune_nats, max_ranked):
        monkeypatch.setattr(covers, "PRUNE_NATS", prune_nats)
        monkeypatch.setattr(covers, "MAX_RANKED", max_ranked)
        return next_byte_probabilities(model, codebook, prompt)

    def error(prune_nats, max_ranked):
        return np.abs(found(prune_nats, max_ranked) - exact).max()

    in_use = covers.PRUNE_NATS, covers.MAX_RANKED
    exact = found(math.inf, 10**9)
    assert error(*in_use) < 1e-3 < error(-math.log(0.9), in_use[1])
    assert 0 < error(-math.log(1e-9), 12) < 0.01
    assert error(-math.log(1e-9), 1) > 0.01


def test_repeats_do_not_take_for_ever(monkeypatch):
    singles = {b""} | {bytes([b]) for b in range(256)}
    codebook = Codebook(sorted(singles | {b"a" * n for n in range(2, 33)}), 9)
    model = GPT(GPTConfig(len(codebook.windows), 64, n_layer=1, n_head=2, n_embd=32)).requires_grad_(False)
    read = []
    extend = model.extend
    monkeypatch.setattr(model, "extend", lambda idx, *known: read.append(len(idx)) or extend(idx, *known))
    p = next_byte_probabilities(model, codebook, b"a" * 500)
    assert sum(read) < 33 * covers.MAX_RANKED
    assert p[ord("b")] == pytest.approx(p[ord("c")], rel=1e-4)
    assert p[ord("a")] > 5 * p[ord("b")]


def test_what_is_drawn_first_is_as_frequent_as_it_is_probable(codebook):
    model = random_model(codebook, std=0.3)
    n, prompt = 200, b"to"
    p = next_byte_probabilities(model, codebook, prompt)
    drawn = [next(stream(model, codebook, prompt, 1, 1.0, None, seed), None) for seed in range(n)]
    counts = np.bincount([256 if piece is None else piece[0] for piece in drawn], minlength=257)
    common = n * p >= 2  # the others are counted together
    counts, p = (np.append(each[common], each[~common].sum()) for each in (counts, p))
    assert np.all(np.abs(counts - n * p) < 4.5 * np.sqrt(n * p * (1 - p)) + 1)
    assert counts.max() > 10


def naive(model, prompt_tokens, n):
    """Greedy continuation of tokens without a cache."""
    tokens, found = list(prompt_tokens), []
    while len(found) < n:
        if len(tokens) > model.config.block_size:
            tokens = [*tokens[-1 - model.config.block_size // 2 : -1], tokens[-1]]
        found.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
        tokens.append(found[-1])
    return found


@pytest.mark.parametrize("block_size", [2, 3, 17, 64])
def test_temperature_0_is_the_argmax_of_full_passes_over_many_blocks(codebook, block_size):
    model = random_model(codebook, block_size)
    model.head.weight[0] = 0  # the text does not end
    found = list(islice(codewords(model, codebook, b"", 0.0, None, 0), 100))
    assert found == naive(model, [0], 100)
    assert len(set(found)) > 5


@pytest.mark.parametrize("prompt", [*PROMPTS, prose(30), mixed(9)[:400], b"\xe4\xb8" * 50, b"the" * 300])
def test_windows_drawn_begin_with_the_prompt_and_go_on_with_the_stream(model, codebook, prompt):
    windows = b""
    for codeword in codewords(model, codebook, prompt, 1.0, None, 3):
        windows += codebook.windows[codeword]
        if codeword == 0 or len(windows) >= len(prompt) + 9:
            break
    assert windows.startswith(prompt)
    assert b"".join(stream(model, codebook, prompt, 9, 1.0, None, 3)) == windows[len(prompt) :][:9]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(model, codebook):
    texts = [b"".join(stream(model, codebook, b"to b", 40, 1.0, 20, seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_best_of_one_is_greedy(model, codebook):
    greedy = [b"".join(stream(model, codebook, b"to b", 40, 0.0, None, seed)) for seed in (1, 2)]
    assert greedy[0] == greedy[1] == b"".join(stream(model, codebook, b"to b", 40, 1.0, 1, 3))


def test_exactly_as_many_bytes_come_as_were_asked_for(model, codebook):
    whole = b"".join(stream(model, codebook, b"the t", 30, 1.0, 20, 1))
    assert len(whole) == 30
    for n in range(30):
        pieces = list(stream(model, codebook, b"the t", n, 1.0, 20, 1))
        assert b"".join(pieces) == whole[:n]
        assert all(pieces)


def test_the_stream_ends_with_the_text(codebook):
    model = random_model(codebook)
    model.head.weight[0] *= 4
    drawn = list(codewords(model, codebook, b"the t", 1.0, None, 0))
    assert drawn[-1] == 0
    assert 0 not in drawn[:-1]
    text = b"".join(stream(model, codebook, b"the t", 10**9, 1.0, None, 0))
    assert b"the t" + text == parse.decode(codebook, np.array(drawn))


def test_low_temperatures_and_few_candidates_narrow_what_is_drawn():
    log_p = torch.tensor([0.1, 0.4, 0.0, 0.3, 0.2]).log()
    rng = np.random.default_rng(0)
    counts = np.bincount([draw(log_p, 1.0, None, rng) for _ in range(2000)], minlength=5)
    np.testing.assert_allclose(counts / 2000, log_p.exp(), atol=0.04)
    counts = np.bincount([draw(log_p, 1.0, 2, rng) for _ in range(2000)], minlength=5)
    np.testing.assert_allclose(counts / 2000, [0, 4 / 7, 0, 3 / 7, 0], atol=0.04)
    counts = np.bincount([draw(log_p, 0.5, 9, rng) for _ in range(2000)], minlength=5)
    np.testing.assert_allclose(counts / 2000, [1 / 30, 16 / 30, 0, 9 / 30, 4 / 30], atol=0.04)
    assert {draw(log_p, 1e-30, None, rng) for _ in range(50)} == {1}


def test_a_rest_that_a_short_block_cannot_cover_is_cut(codebook):
    prompt = b"\xff" * 5 + b"x" * 33
    assert split(codebook, prompt, 32) == (parse.encode(codebook, prompt[:6]).tolist(), b"x" * 32)
    assert split(codebook, prompt, 31) == (parse.encode(codebook, prompt[:7]).tolist(), b"x" * 31)
    model = random_model(codebook, block_size=8)
    assert len(b"".join(stream(model, codebook, prompt, 12, 1.0, 3, 0))) == 12


def test_settings_and_models_that_do_not_fit_are_refused(model, codebook):
    for n_bytes, temperature, top_k in [
        (-1, 1.0, None),
        (1, -0.5, None),
        (1, float("nan"), None),
        (1, 1.0, 0),
    ]:
        with pytest.raises(InputError, match="generation: a setting is out of range; found"):
            stream(model, codebook, b"", n_bytes, temperature, top_k, 0)
    other = Codebook([*codebook.windows, b"\xff" * 4], 9)
    broken = GPT(GPTConfig(len(codebook.windows), 8, 1, 1, 8))
    torch.nn.init.constant_(broken.head.weight, torch.nan)
    for temperature in (0.0, 1.0):
        with pytest.raises(InputError, match="generation: the model gives no probabilities"):
            list(stream(broken, codebook, b"a", 8, temperature, None, 0))
    with pytest.raises(MismatchError, match=f"found {len(codebook.windows)} tokens, want the"):
        stream(model, other, b"", 1, 1.0, None, 0)


def test_a_text_learnt_by_heart_is_continued_from_inside_words_and_characters(codebook, tmp_path):
    text = "that né(é) ought to be the other or not to be, the cat; ".encode() + b"end"
    ids = torch.from_numpy(np.append(parse.encode(codebook, text), 0).astype(np.int64))
    batch = torch.cat((torch.zeros(1, dtype=torch.int64), ids[:-1]))[None], ids[None]
    torch.manual_seed(0)
    model = GPT(GPTConfig(len(codebook.windows), 64, n_layer=2, n_head=2, n_embd=64))
    trainer = Trainer(model, Budget(steps=50), 64, 0.01, torch.device("cpu"))
    trainer.run(lambda _: batch, 1.0, tmp_path / "checkpoint.pt", lambda _: None, lambda: False)
    assert trainer.loss_nats < 0.05
    for at in [*range(1, 16), *range(17, len(text), 5)]:
        assert b"".join(stream(model, codebook, text[:at], 5, 0.0, None, 0)) == text[at:][:5]
    assert b"".join(stream(model, codebook, text[:1], 10**9, 0.0, None, 0)) == text[1:]
