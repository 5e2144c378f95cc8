"""The errors that a user can cause. Bugs in this package are assertions, never these.

A message is one line: `<where>: <what is wrong>; found <x>, want <y>. <what to do>.`
"""

import shlex


class EqinfoError(Exception):
    """A job failed because of its inputs: one line on stderr, exit status 1."""


class InputError(EqinfoError):
    """Text, tokens or settings that cannot be used."""


class OptionError(InputError):
    """A value of an option that cannot be used: wrong usage, exit status 2."""


class PeerError(EqinfoError):
    """Another process of this job failed and says why; this one ends without a word."""


class LostPeerError(EqinfoError):
    """Another process of this job ended, perhaps without a word: it was killed, or its machine is gone."""


class FormatError(EqinfoError):
    """A file or stream that is damaged, incomplete, of another version, or of another format."""


class MismatchError(EqinfoError):
    """Two things that do not belong together: a stream and a codebook, a checkpoint and its settings."""


def argument(name: object) -> str:
    """The name of a file in a command that a message tells the user to type.

    >>> argument("-a b")
    "'./-a b'"
    """
    word = str(name)
    return shlex.quote(f"./{word}" if word.startswith("-") else word)


def damaged(where: str, what: str) -> FormatError:
    """The error to raise for a damaged file.

    Args:
        where: name of the file, and the place in it.
        what: what was found.
    """
    return FormatError(f"{where}: damaged; {what}. Get a fresh copy.")


def truncated(where: str, found: int, want: int) -> FormatError:
    """The error to raise for a file of `found` bytes that should have `want` or more."""
    return FormatError(f"{where}: truncated; found {found} bytes, want {want} or more. Get a complete copy.")


def check_version(where: str, found: object, want: int) -> None:
    """Raises FormatError if a file has another version than the only one that is known."""
    if found != want:
        raise FormatError(f"{where}: another version of the format; found {found!r:.9}, want {want}.")


def check_head(data: bytes, magic: bytes, version: int, size: int, where: str, what: str) -> None:
    """Raises FormatError unless data begin with a magic number, a byte of version, and more.

    Args:
        data: the beginning of a file, at least `size` bytes if it has so many.
        magic: the first bytes of the format.
        version: of the format.
        size: of the head in bytes.
        where: name of the file.
        what: name of the format, with its article.
    """
    if not data or data[: len(magic)] != magic[: len(data)]:
        found, want = (begin.decode("latin-1") for begin in (data[: len(magic)], magic))
        raise FormatError(f"{where}: not {what}; it begins with {found!r}, want {want!r}.")
    if len(data) < size:
        raise truncated(where, len(data), size)
    check_version(where, data[len(magic)], version)
