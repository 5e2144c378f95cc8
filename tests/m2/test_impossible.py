"""Tokens that cannot follow get lower logits: in training, in evaluation, in generation."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.codebooks import make_codebook
from helpers.commands import run
from helpers.texts import prose

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.pairs import impossible_pairs
from eqinfo.formats.model_folder import CODEBOOK_NAME
from eqinfo.m2 import loss
from eqinfo.m2.impossible import LOWERED, Impossible
from eqinfo.m2.model import GPT, GPTConfig
from eqinfo.m2.token_bytes import ByteNgrams, Spelling
from eqinfo.m2.trained import load_m2

CPU = torch.device("cpu")
SMALL = ["--preset", "1x1x8", "--block-size", "16", "--batch-tokens", "64", "--steps", "3", "--device", "cpu"]


@pytest.fixture(scope="module")
def codebook() -> Codebook:
    return make_codebook(9, unaligned_penalty=1.0)


@pytest.fixture(scope="module")
def known(codebook):
    return Impossible(impossible_pairs(codebook))


@pytest.fixture(scope="module")
def lowered(codebook):
    """What is added to the logits after each token, (V, V)."""
    table = torch.zeros(len(codebook.windows), len(codebook.windows))
    for a, b in impossible_pairs(codebook).listed():
        table[a, b] = -LOWERED
    return table


@pytest.fixture(scope="module")
def models(codebook, known):
    """One model that knows, one that does not; otherwise they are the same."""
    shape, windows = GPTConfig(len(codebook.windows), 16, 1, 2, 32), codebook.windows
    torch.manual_seed(0)
    knows = GPT(shape, Spelling(windows, 32), ByteNgrams(windows, 32), known)
    for weight in knows.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    plain = GPT(shape, Spelling(windows, 32), ByteNgrams(windows, 32))
    plain.load_state_dict(knows.state_dict())  # pairs are no part of it
    return knows, plain


@pytest.fixture(scope="module")
def idx(codebook):
    ids = parse.encode(codebook, prose(300)).astype(np.int64)
    return torch.from_numpy(ids[:97])


def test_logits_of_what_cannot_follow_are_lowered_and_no_others(models, idx, lowered):
    knows, plain = models
    tokens = idx[:96].view(6, 16)
    torch.testing.assert_close(knows(tokens), plain(tokens) + lowered[tokens])


def test_the_loss_and_its_gradients_are_those_of_the_lowered_logits(models, idx, lowered, monkeypatch):
    monkeypatch.setattr(loss, "MIN_SLICE_TOKENS", 7)
    monkeypatch.setattr(loss, "SLICE_ELEMENTS", {"cpu": 1})
    knows, plain = models
    tokens, targets = idx[:96].view(6, 16), idx[1:].clone().view(6, 16)
    targets[0, :5] = -1
    ours = knows.loss(tokens, targets, *knows.composed(tokens))
    logits = (plain(tokens) + lowered[tokens]).flatten(0, 1)
    theirs = F.cross_entropy(logits, targets.flatten(), ignore_index=-1, reduction="sum")
    torch.testing.assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    for (name, a), b in zip(knows.named_parameters(), plain.parameters(), strict=True):
        want = b.grad
        torch.testing.assert_close(a.grad.to_dense(), want, rtol=1e-3, atol=1e-4, msg=name)
    for model in models:
        model.zero_grad()


def test_a_continuation_is_read_with_the_same_logits(models, codebook, known, idx):
    knows, _ = models
    folded = GPT(knows.config, ngrams=ByteNgrams(codebook.windows, 32), impossible=known)
    folded.load_state_dict(knows.plain())
    for n in (1, 3):  # sequences at once
        nothing = torch.zeros(n, 2, 0, 16)
        tokens = idx[: 9 * n].view(n, 9)
        with torch.inference_mode():
            logits, _ = folded.extend(tokens, [(nothing, nothing)])
            torch.testing.assert_close(logits, knows(tokens)[:, -1])


@pytest.mark.filterwarnings("ignore")  # torch.compile warns of what it does itself
def test_compiled_training_has_the_same_loss(models, idx):
    knows, _ = models
    tokens, targets = idx[:96].view(6, 16), idx[1:].view(6, 16)
    arguments = (torch.zeros(96, len(knows.embedding.weight)), idx[:96], *knows.impossible.buffers())
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.eqinfo.lower.default, arguments, test_utils=tests)
    leaves = [t.detach().requires_grad_(t.is_floating_point()) for t in knows.composed(tokens)]
    ours, theirs = (
        f(tokens, targets, *leaves) for f in (torch.compile(knows.loss, backend="aot_eager"), knows.loss)
    )
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(value, leaves[1])[0] for value in (ours, theirs)]  # of the output matrix
    torch.testing.assert_close(*gradients)


def knows_cuts(folder, tokens, model, *words) -> bool:
    run("train-m2", tokens, "-m", model, "-o", folder, "-q", *SMALL, *words)
    found = load_m2(folder, CPU).model.impossible is not None
    assert json.loads((folder / "config.json").read_bytes())["knows_cuts"] == found
    return found


def test_a_run_knows_its_codebooks_cuts_and_those_alone(codebook, tmp_path):
    text = tmp_path / "text"
    text.write_bytes(prose(4000))
    other = Codebook(codebook.windows, 9, "greedy")  # the same fingerprint, other cuts
    for name, book in (("optimal", codebook), ("greedy", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / CODEBOOK_NAME).write_bytes(book.to_bytes())
        run("compress", "--tokens", text, "-m", tmp_path / name, "-o", tmp_path / f"{name}.bin", "-q")
    for cut_by in ("optimal", "greedy"):
        for model in ("optimal", "greedy"):
            folder = tmp_path / f"{cut_by}-{model}"
            assert knows_cuts(folder, tmp_path / f"{cut_by}.bin", tmp_path / model) == (cut_by == model)
    tokens, model = tmp_path / "optimal.bin", tmp_path / "optimal"
    assert not knows_cuts(tmp_path / "plain", tokens, model, "--plain-embeddings")
    # validation data count too
    assert not knows_cuts(tmp_path / "other", tokens, model, "--valid", tmp_path / "greedy.bin")


def test_a_run_of_an_earlier_version_knows_no_cuts(codebook, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / CODEBOOK_NAME).write_bytes(codebook.to_bytes())
    (tmp_path / "text").write_bytes(prose(4000))
    run("compress", "--tokens", tmp_path / "text", "-m", tmp_path / "model", "-o", tmp_path / "t.bin", "-q")
    assert knows_cuts(tmp_path / "run", tmp_path / "t.bin", tmp_path / "model")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_bytes())
    del config["knows_cuts"]
    path.write_text(json.dumps(config))
    assert load_m2(tmp_path / "run", CPU).model.impossible is None
