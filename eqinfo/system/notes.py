"""Notes: words about a job that goes on, such as that a file could not get the times of its input.

The commands print them; other Python programs get them from the logger "eqinfo".
"""

from collections.abc import Callable

Listener = Callable[[str, bool], None]  # the words, and whether they are a warning


def _log(words: str, is_warning: bool) -> None:
    """Hand the words to Python's logging."""
    import logging  # takes 9 ms, and few jobs have a note

    logging.getLogger("eqinfo").log(logging.WARNING if is_warning else logging.INFO, words)


_listener: Listener = _log


def listen(listener: Listener) -> None:
    """From now on, hand all notes to this listener."""
    global _listener
    _listener = listener


def warn(words: str) -> None:
    """Tell the user, unless they asked for quiet, that the result may not be what they want."""
    _listener(words, True)


def note(words: str) -> None:
    """Tell the user, if they asked for details, what was done in another way than usual."""
    _listener(words, False)
