"""Texts that are the same in every run, and a source with short reads."""

import io
import random
from collections.abc import Callable

PROSE_WORDS = """
the of and to in a is that for it as was with be by on not he his but at are this have from or had an they
which one you were all her she there would their we him been has when who will no more if out so window
codeword interval probability compression equal information Straße naïve 世界 don't 1984 3.14
"""


def prose(n_words: int, seed: int = 0) -> bytes:
    """Random words with punctuation; UTF-8."""
    rng, words = random.Random(seed), PROSE_WORDS.split()
    return "".join(
        rng.choice(words) + rng.choice([" ", " ", " ", ", ", ".\n"]) for _ in range(n_words)
    ).encode()


def mixed(n_words: int, seed: int = 0) -> bytes:
    """Prose, noise, runs, repeats, invalid UTF-8, NUL and CRLF."""
    rng = random.Random(seed)
    text = prose(n_words, seed)
    return b"".join(
        [text, rng.randbytes(500), b"\0" * 3000, b"\r\n" * 40, text[:99] * 9, b"\xff\xfe\xc3", text]
    )


class Trickle(io.RawIOBase):
    """A source with short reads, like a pipe, that counts the bytes it has given."""

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
