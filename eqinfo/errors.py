"""The errors a user can cause. Our own mistakes are assertions, never these.

Messages are one line: `<where>: <what is wrong>; found <x>, want <y>. <what to do>.`
"""


class EqinfoError(Exception):
    """A job failed for a reason in the user's world: one line on stderr, exit status 1."""


class InputError(EqinfoError):
    """Text, tokens or settings cannot be used as they are."""


class FormatError(EqinfoError):
    """A file or stream is damaged, incomplete, of another version, or not ours."""


class MismatchError(EqinfoError):
    """Two things that belong together do not: a stream and a codebook, a checkpoint and its settings."""
