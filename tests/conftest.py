"""Codebooks and texts that every test can use: small, made the same way each time, by no model."""

import io
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from networks import random_network

from eqinfo import network, parse
from eqinfo.codebook import Codebook, Method

settings.register_profile("eqinfo", deadline=None, derandomize=True)
settings.load_profile("eqinfo")

PROSE_WORDS = """
the of and to in a is that for it as was with be by on not he his but at are this have from or had an they
which one you were all her she there would their we him been has when who will no more if out so window
codeword interval probability compression equal information Straße naïve 世界 don't 1984 3.14
"""


def prose(n_words: int, seed: int = 0) -> bytes:
    """Words at random with the punctuation of sentences; UTF-8."""
    rng, words = random.Random(seed), PROSE_WORDS.split()
    return "".join(
        rng.choice(words) + rng.choice([" ", " ", " ", ", ", ".\n"]) for _ in range(n_words)
    ).encode()


def mixed(n_words: int, seed: int = 0) -> bytes:
    """Prose, noise, runs, repeats, invalid UTF-8, NUL and CRLF, in turns."""
    rng = random.Random(seed)
    text = prose(n_words, seed)
    return b"".join(
        [text, rng.randbytes(500), b"\0" * 3000, b"\r\n" * 40, text[:99] * 9, b"\xff\xfe\xc3", text]
    )


def make_codebook(
    window_bits: int, method: Method = "optimal", unaligned_penalty: float = 0.0, n_windows: int | None = None
) -> Codebook:
    """The substrings of some prose that would save most, up to 2**window_bits windows."""
    text = prose(4000, seed=1)
    counts: Counter[bytes] = Counter()
    for length in range(2, 15):
        counts.update(text[i : i + length] for i in range(0, len(text) - length, 1 + length // 4))
    windows = {b""} | {bytes([b]) for b in range(256)}
    best = sorted(counts, key=lambda window: (-counts[window] * (len(window) - 1), window))
    windows |= set(best[: (n_windows or 1 << window_bits) - len(windows)])
    return Codebook(sorted(windows), window_bits, method, unaligned_penalty)


def golden_codebook() -> Codebook:
    """The codebook of the golden values: fixed by what is written here."""
    words = ["to be", " or ", "not ", "that is the ", "question", "ing ", "th", "the ", "é"]
    return Codebook(sorted({b""} | {bytes([b]) for b in range(256)} | {word.encode() for word in words}), 9)


@pytest.fixture(scope="session")
def codebook() -> Codebook:
    return make_codebook(12)


@pytest.fixture(scope="session")
def codebooks() -> list[Codebook]:
    """One of each kind: sizes, both parses, penalties, and one that leaves codewords unused."""
    return [
        make_codebook(9),
        make_codebook(10, "greedy"),
        make_codebook(11, unaligned_penalty=0.3),
        make_codebook(12, unaligned_penalty=3.0),
        make_codebook(13, n_windows=5000),
        make_codebook(14),
        make_codebook(16, n_windows=20_000),
        make_codebook(17, n_windows=9_000),
        make_codebook(20, "greedy", n_windows=9_000),
    ]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, codebook: Codebook) -> Path:
    """A model folder with nothing in it but the codebook."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "codebook.eqcb").write_bytes(codebook.to_bytes())
    return folder


@pytest.fixture(scope="session")
def live_model(tmp_path_factory: pytest.TempPathFactory, codebook: Codebook) -> Path:
    """A model folder with a codebook and the weights of a small M1."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "codebook.eqcb").write_bytes(codebook.to_bytes())
    (folder / "m1.eqm1").write_bytes(network.to_bytes(random_network()))
    return folder


@pytest.fixture
def compiled_code_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the compiled loops for texts of any size but none."""
    monkeypatch.setattr(parse, "COMPILED_FROM", 1)


STOPPING = "stopping: writing a checkpoint, for --resume. Press Ctrl-C again to stop without one.\n"


@contextmanager
def heard(number: int) -> Iterator[None]:
    """Programs started in the block hear a signal; background jobs and nohup hand down ignored ones."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


class Trickle(io.RawIOBase):
    """A source that gives as many bytes as it likes, as pipes do, and counts what it gave."""

    def __init__(self, data: bytes, size: Callable[[], int]) -> None:
        self.file, self.size, self.given = io.BytesIO(data), size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(min(size, self.size()) if size >= 0 else self.size())
        self.given += len(data)
        return data
