import math

import pytest
import torch

from eqinfo.errors import InputError
from eqinfo.m2.model import GPT, M2_PRESETS, UNFUSED_TOKENS, GPTConfig, attention
from eqinfo.m2.run import shape_of_name
from eqinfo.m2.token_bytes import MAX_TOKENS, ByteNgrams

BYTES = [b"", *(bytes([byte]) for byte in range(256))]


def tiny(**changes):
    torch.manual_seed(0)
    shape = {"vocab_size": 257, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 32} | changes
    model = GPT(GPTConfig(**shape), ngrams=ByteNgrams(BYTES, shape["n_embd"]))
    for weight in model.parameters():  # beyond the zeros it starts with
        torch.nn.init.normal_(weight, std=0.2)
    return model


def test_an_untrained_model_is_uniform():
    model = GPT(GPTConfig(257, 16, 1, 2, 32))
    loss = model.loss(torch.full((2, 8), 256), torch.randint(0, 256, (2, 8)), *model.matrices())
    assert loss.item() == pytest.approx(16 * math.log(257))


def test_parameters_are_as_the_formula_says():
    for config in (GPTConfig(257, 16, 1, 2, 32), GPTConfig(1000, 64, 3, 4, 64)):
        model = GPT(config)
        embeddings = 2 * config.vocab_size * config.n_embd
        assert sum(p.numel() for p in model.parameters()) == config.n_params + embeddings


@pytest.mark.parametrize("preset", M2_PRESETS)
def test_presets_have_about_the_parameters_of_their_name(preset):
    config = GPTConfig(65536, 512, *M2_PRESETS[preset])
    want = {"nano": 0.79e6, "2b": 2e9}.get(preset) or float(preset.removesuffix("m")) * 1e6
    assert config.n_params == pytest.approx(want, rel=0.06)
    assert config.n_embd % (2 * config.n_head) == 0


def test_a_shape_may_be_named():
    assert shape_of_name("6x8x512") == (6, 8, 512)
    assert shape_of_name("nano") == M2_PRESETS["nano"]
    for name in ("", "big", "6x8", "6x8x512x1", "0x8x512", "6x8x-512", "6x8x 512", "6x8x²", "6x8x999999"):
        with pytest.raises(InputError, match=r"--preset: unknown; .* or LAYERSxHEADSxWIDTH\.$"):
            shape_of_name(name)
    with pytest.raises(InputError, match="found width 20, want a multiple of twice the 8 heads"):
        shape_of_name("6x8x20")


def test_training_flops_are_those_of_the_matrix_products():
    config = GPTConfig(300, 16, 2, 2, 32)
    linear = [m for m in GPT(config).modules() if isinstance(m, torch.nn.Linear)]
    forward = sum(2 * m.weight.numel() for m in linear)
    attention = config.n_layer * sum(2 * 2 * config.n_embd * (t + 1) for t in range(16)) / 16
    assert config.training_flops == pytest.approx(3 * (forward + attention), rel=0.05)


def test_later_tokens_do_not_change_earlier_logits():
    model = tiny()
    idx = torch.randint(0, 256, (1, 12))
    changed = idx.clone()
    changed[0, 7:] = 3
    assert torch.equal(model(idx)[:, :7], model(changed)[:, :7])
    assert not torch.equal(model(idx)[:, 7:], model(changed)[:, 7:])


def test_positions_matter():
    model = tiny()
    logits = model(torch.tensor([[5, 6, 5, 6, 5, 6]]))
    assert not torch.allclose(logits[0, 1], logits[0, 3])


def test_written_out_attention_is_the_fused_one():
    q, k, v = torch.randn(3, 2, 4, UNFUSED_TOKENS, 8)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(attention(q, k, v), fused)


def test_masked_targets_do_not_count():
    model = tiny()
    idx, targets = torch.randint(0, 256, (2, 3, 8)).unbind(0)
    targets[1:] = -1
    matrices = model.matrices()
    alone = model.loss(idx[:1], targets[:1], *matrices)
    torch.testing.assert_close(model.loss(idx, targets, *matrices), alone)


@pytest.mark.parametrize("n_at_once", [1, 2, 9, UNFUSED_TOKENS, UNFUSED_TOKENS + 9])
def test_reading_on_token_by_token_gives_the_logits_of_reading_at_once(n_at_once):
    model = tiny(block_size=2 * UNFUSED_TOKENS)
    n = n_at_once + 9
    idx = torch.randint(0, 256, (3, n))
    want = model(idx)
    past, at = [(torch.empty(3, 2, 0, 16),) * 2 for _ in range(2)], 0
    while at < n:
        step = 1 if at else n_at_once
        logits, present = model.extend(idx[:, at : at + step], past, idx[:, :at][:, -MAX_TOKENS:])
        layers = zip(past, present, strict=True)
        past = [tuple(torch.cat(pair, 2) for pair in zip(*layer, strict=True)) for layer in layers]
        at += step
        torch.testing.assert_close(logits, want[:, at - 1], rtol=1e-4, atol=1e-4)
