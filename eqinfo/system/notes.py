"""Notes: words about a job that goes on, such as that a file could not get the times of its input.

The commands print them; other Python programs get them from the logger "eqinfo".
"""

from collections.abc import Callable
from enum import Enum


class Kind(Enum):
    """What a note is about."""

    WARNING = "the result may not be what the user wants"
    WAIT = "why a person has to wait"
    DETAIL = "what was done in another way than usual"


Listener = Callable[[str, Kind], None]


def _log(words: str, kind: Kind) -> None:
    """Hand the words to Python's logging."""
    import logging  # takes 9 ms, and few jobs have a note

    logging.getLogger("eqinfo").log(logging.WARNING if kind is Kind.WARNING else logging.INFO, words)


_listener: Listener = _log


def listen(listener: Listener) -> None:
    """From now on, hand all notes to this listener."""
    global _listener
    _listener = listener


def warn(words: str) -> None:
    """Tell the user, unless they asked for quiet, that the result may not be what they want."""
    _listener(words, Kind.WARNING)


def note(words: str) -> None:
    """Tell the user, if they asked for details, what was done in another way than usual."""
    _listener(words, Kind.DETAIL)


def explain_wait(words: str) -> None:
    """Tell a person at a terminal, unless they asked for quiet, why they have to wait."""
    _listener(words, Kind.WAIT)
