"""The program: `eqinfo`, and `python -m eqinfo`. Signals come first, for imports take a while."""

import os

from eqinfo.system import signals


def main() -> None:
    """Run the command line; the exit status is 0, 1 (a job failed), 2 (wrong usage) or 128 + a signal."""
    signals.end_when_told()
    _fill_closed_streams()
    from eqinfo.cli import app

    app.main()


def _fill_closed_streams() -> None:
    """Let no output have the number of a closed standard stream: what libraries say would go into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


if __name__ == "__main__":
    main()
