import numpy as np
import torch
from helpers.texts import prose

from eqinfo.codebook import parse
from eqinfo.coder.integer_m1 import BOS
from eqinfo.m1.batches import RANDOM_SHARE, WINDOW_BYTES, WINDOW_SHARE, WindowBatches, window_tensors
from eqinfo.m1.corpus import Text


def text_of(*documents):
    data = np.frombuffer(b"".join(documents), np.uint8)
    return Text(data, np.cumsum([len(d) for d in documents]))


def test_windows_start_with_bos_and_stop_at_the_end_of_their_document():
    idx, targets = window_tensors(text_of(b"abcdef", b"xyz"), np.array([1, 4, 6]), 4)
    assert targets.tolist() == [[*b"bcde"], [*b"ef", -1, -1], [*b"xyz", -1]]
    assert idx.tolist() == [[BOS, *b"bcd"], [BOS, *b"ef", 0], [BOS, *b"xyz"]]


def test_a_batch_depends_on_seed_and_step_alone(codebook):
    text = text_of(prose(3000))
    for book in (None, codebook):
        batches = WindowBatches(text, book, 32, 64, seed=5)
        later = [batches(step) for step in (3, 1, 3)]
        assert torch.equal(later[0][1], later[2][1])
        assert torch.equal(later[0][0], WindowBatches(text, book, 32, 64, seed=5)(3)[0])
        assert not torch.equal(later[0][1], later[1][1])
        assert not torch.equal(later[0][1], WindowBatches(text, book, 32, 64, seed=6)(3)[1])


def test_a_quarter_of_the_rows_hold_windows_and_the_others_a_run_each(codebook):
    text = text_of(prose(20_000))
    idx, targets = WindowBatches(text, codebook, 40, 128, seed=0)(0)
    assert idx.shape == targets.shape == (40, 128)
    n_windows = round(40 * WINDOW_SHARE)
    starts = (idx == BOS).numpy()
    assert np.array_equal(starts[:n_windows], np.tile(np.arange(128) % WINDOW_BYTES == 0, (n_windows, 1)))
    assert np.array_equal(starts[n_windows:], np.tile(np.arange(128) == 0, (40 - n_windows, 1)))
    inside = ~starts[:, 1:]
    assert np.array_equal(idx.numpy()[:, 1:][inside], np.maximum(targets.numpy()[:, :-1][inside], 0))


def test_most_windows_are_windows_in_the_parse(codebook):
    text = text_of(prose(20_000))
    lengths = codebook.lengths[parse.encode(codebook, text.data)]
    starts = np.append(0, np.cumsum(lengths))[:-1]
    begins = {text.data[s : s + 12].tobytes() for s in starts}
    _, targets = WindowBatches(text, codebook, 400, 64, seed=0)(0)
    windows = targets[: round(400 * WINDOW_SHARE)].view(-1, WINDOW_BYTES)[:, :12]
    share = np.mean([bytes(row) in begins for row in windows.clamp(min=0).to(torch.uint8).numpy()])
    assert 0.95 - RANDOM_SHARE < share < 1
