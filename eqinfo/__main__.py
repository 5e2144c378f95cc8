"""The program `eqinfo`, also `python -m eqinfo`: handles signals first, as the other imports take a while."""

import os

from eqinfo.system import signals


def main() -> None:
    """Run the command line; the exit status is 0, 1 (a job failed) or 2 (wrong usage)."""
    signals.end_on_signals()
    _fill_closed_streams()
    from eqinfo.cli import app

    app.main()


def _fill_closed_streams() -> None:
    """Open the null device for each closed standard stream.

    Otherwise an output file would get the number 1 or 2, and warnings of libraries would go into it. Warnings
    are lost then, but text is not: -o /dev/stdout fails.
    """
    for descriptor, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest free number: this one


if __name__ == "__main__":
    main()
