"""Runs commands in this process."""

from pathlib import Path

from typer.testing import CliRunner

from eqinfo.cli.app import app


def run(*words: object, stdin: bytes = b"", status: int = 0) -> tuple[bytes, str]:
    """What a command prints on stdout and stderr."""
    done = CliRunner().invoke(app, list(map(str, words)), input=stdin)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.stderr
    return done.stdout_bytes, done.stderr


class Shell:
    """Runs commands with a model; `out` and `err` are of the last one."""

    def __init__(self, model: Path) -> None:
        self.model = model

    def __call__(self, command: str, *words: object, stdin: bytes = b"", status: int = 0) -> bytes:
        self.out, self.err = run(command, "-m", self.model, *words, stdin=stdin, status=status)
        return self.out
