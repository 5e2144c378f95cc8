"""The log of a run: `metrics.jsonl`, a JSON object a line.

What this module does not do: decide what to log (`train`), or show it (`cli`).
"""

import json
import math
from pathlib import Path

from eqinfo.errors import FormatError
from eqinfo.system.atomic_files import errors_name
from eqinfo.training.run_folder import write_file


class Metrics:
    """The metrics file of a run: a JSON object of numbers a line, one of them `step`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, **figures: float) -> None:
        """Append a line."""
        with errors_name(str(self.path)), self.path.open("a") as file:
            file.write(json.dumps(figures) + "\n")

    def up_to(self, step: int) -> list[dict[str, float]]:
        """The lines of all steps up to this one; see `lines`."""
        return [line for line in self.lines() if line["step"] <= step]

    def lines(self) -> list[dict[str, float]]:
        """All lines, without the incomplete last line of a killed run.

        Raises:
            FormatError: a line is not an object of finite numbers with a `step`.
        """
        if not self.path.exists():
            return []
        *whole, _ = self.path.read_bytes().split(b"\n")
        return [self._parsed(number, line) for number, line in enumerate(whole, 1)]

    def _parsed(self, number: int, line: bytes) -> dict[str, float]:
        """A line as an object; its number is for messages."""
        try:
            figures: dict[str, float] = json.loads(line)
            if "step" in figures and all(type(n) is int or math.isfinite(n) for n in figures.values()):
                return figures
        except (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError):
            pass
        raise FormatError(f"{self.path}:{number}: damaged; not the figures of a step. Start a new run.")

    def forget_after(self, step: int) -> None:
        """Drop the lines after a step: a resumed run repeats the steps after its checkpoint."""
        if self.path.exists():
            lines = [json.dumps(line) + "\n" for line in self.up_to(step)]
            write_file(self.path, "".join(lines).encode())
