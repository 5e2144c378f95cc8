"""The errors that a user can cause. Bugs in this package are assertions, never these.

A message is one line: `<where>: <what is wrong>; found <x>, want <y>. <what to do>.`
"""


class EqinfoError(Exception):
    """A job failed because of its inputs: one line on stderr, exit status 1."""


class InputError(EqinfoError):
    """Text, tokens or settings that cannot be used."""


class FormatError(EqinfoError):
    """A file or stream that is damaged, incomplete, of another version, or of another format."""


class MismatchError(EqinfoError):
    """Two things that do not belong together: a stream and a codebook, a checkpoint and its settings."""


def damaged(where: str, what: str) -> FormatError:
    """The error to raise for a damaged file.

    Args:
        where: name of the file, and the place in it.
        what: what was found.
    """
    return FormatError(f"{where}: damaged; {what}. Get a fresh copy.")
