import itertools

import numpy as np
import pytest
import torch

from eqinfo import coder
from eqinfo.compile import expand, next_byte_log_p, published
from eqinfo.model import BOS, GPT, GPTConfig


def silent(share):
    assert 0 <= share <= 1


def small_model(block_size=4, sharpness=0.35):
    """A model whose predictions are far from uniform, though it was never trained."""
    torch.manual_seed(3)
    model = GPT(GPTConfig(257, block_size, 1, 2, 16))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=sharpness)
    return model.eval()


def log_p_of(model, string):
    """log P(string) at a window's start, byte by byte."""
    return sum(
        next_byte_log_p(model, np.frombuffer(string[:i], np.uint8)[None])[0, byte]
        for i, byte in enumerate(string)
    )


def test_candidates_are_the_most_probable_strings_of_all():
    model = small_model(block_size=3, sharpness=1.0)
    n = 600
    one, two = next_byte_log_p(model, np.empty((1, 0), np.uint8))[0], {}
    every = {bytes([a]): one[a] for a in range(256)}
    after = next_byte_log_p(model, np.arange(256, dtype=np.uint8)[:, None])
    two = {bytes([a, b]): one[a] + after[a, b] for a in range(256) for b in range(256)}
    for start in sorted(two, key=two.get)[-n:]:  # no string after the n-th can have a child among the best
        rest = next_byte_log_p(model, np.frombuffer(start, np.uint8)[None])[0]
        every |= {start + bytes([c]): two[start] + rest[c] for c in range(256)}
    every |= two
    best = set(sorted(every, key=every.get)[-n:])
    found = expand(model, n, silent)
    assert found.strings == sorted(best | {bytes([a]) for a in range(256)})
    assert max(map(len, found.strings)) == 3
    for string, log_p in list(zip(found.strings, found.log_p, strict=True))[::50]:
        assert log_p == pytest.approx(log_p_of(model, string), abs=0.1)  # bfloat16 in batches


def test_expanding_tells_nothing_below_its_floor():
    found = expand(small_model(), 3000, silent)
    floor = np.sort(found.log_p)[-3000]
    assert all(len(string) == 1 for string, p in zip(found.strings, found.log_p, strict=True) if p < floor)


def test_the_published_windows_are_those_of_every_codeword_by_brute_force():
    model, bits = small_model(block_size=5, sharpness=0.5), 10
    codebook = published(model, bits, silent)
    expected = {b""} | {bytes([b]) for b in range(256)}
    tables = {}
    for codeword in range(1 << bits):
        string, low, width = b"", 0, 1 << coder.PRECISION_BITS
        at, size = codeword << (coder.PRECISION_BITS - bits), 1 << (coder.PRECISION_BITS - bits)
        while len(string) < 5:
            if string not in tables:
                idx = np.frombuffer(string, np.uint8)[None]
                tables[string] = coder.quantise(np.exp(next_byte_log_p(model, idx)))[0].tolist()
            sums = [0, *itertools.accumulate(tables[string])]
            inner = [coder.narrow(low, width, sums[b], tables[string][b], coder.TOTAL) for b in range(256)]
            fits = [b for b, (lo, w) in enumerate(inner) if lo <= at and at + size <= lo + w]
            if not fits:
                break
            string, (low, width) = string + bytes(fits), inner[fits[0]]
        expected.add(string)
    assert len(set(codebook.windows) ^ expected) <= 0.02 * len(expected)  # batches round bfloat16 differently
    assert codebook.method == "greedy"
    assert len(codebook.windows) <= 1 << bits


def test_the_head_is_read_at_the_last_position_only():
    model = small_model()
    strings = np.frombuffer(b"abcxyz", np.uint8).reshape(2, 3)
    idx = torch.cat((torch.full((2, 1), BOS), torch.from_numpy(strings.astype(np.int64))), 1)
    expected = model(idx)[:, -1, :256].double().log_softmax(-1).detach().numpy()
    assert np.allclose(next_byte_log_p(model, strings), expected, atol=0.1)
