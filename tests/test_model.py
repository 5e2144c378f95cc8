import math

import pytest
import torch

from eqinfo.model import BOS, GPT, M1_PRESETS, SHORT, GPTConfig, attention


def tiny(**changes):
    torch.manual_seed(0)
    model = GPT(
        GPTConfig(
            **({"vocab_size": 257, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 32} | changes)
        )
    )
    for weight in model.parameters():  # beyond the zeros it starts with
        torch.nn.init.normal_(weight, std=0.2)
    return model


def test_an_untrained_model_is_uniform():
    model = GPT(M1_PRESETS["tiny"])
    loss = model.loss(torch.full((2, 8), BOS), torch.randint(0, 256, (2, 8)))
    assert loss.item() == pytest.approx(math.log(257))


def test_parameters_are_as_the_formula_says():
    for config in M1_PRESETS.values():
        model = GPT(config)
        embeddings = 2 * config.vocab_size * config.n_embd
        assert sum(p.numel() for p in model.parameters()) == config.n_params + embeddings


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
    q, k, v = torch.randn(3, 2, 4, SHORT, 8)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(attention(q, k, v), fused)


def test_masked_targets_do_not_count():
    model = tiny()
    idx, targets = torch.randint(0, 256, (2, 3, 8)).unbind(0)
    targets[1:] = -1
    torch.testing.assert_close(model.loss(idx, targets), model.loss(idx[:1], targets[:1]))


def test_reading_token_by_token_gives_the_logits_of_reading_at_once():
    model = tiny()
    idx = torch.randint(0, 256, (3, 9))
    past = [(torch.empty(3, 2, 0, 16),) * 2 for _ in range(2)]
    for at in range(9):
        logits, present = model.extend(idx[:, at], past)
        layers = zip(past, present, strict=True)
        past = [tuple(torch.cat(pair, 2) for pair in zip(*layer, strict=True)) for layer in layers]
        torch.testing.assert_close(logits, model(idx)[:, at], rtol=1e-4, atol=1e-4)
