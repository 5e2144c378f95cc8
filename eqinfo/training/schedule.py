"""How long to train, and the learning rate on the way: pure functions of steps and time spent."""

from dataclasses import dataclass, replace

WARM_UP = 0.01  # share of the schedule
DECAY = 0.5  # share of the schedule
DEFAULT_MINUTES = 10.0


@dataclass(frozen=True)
class Budget:
    """How long to train: whichever is reached first.

    Attributes:
        steps: in all.
        minutes: in all.
        from_step: where the schedule began; above 0 after a run was extended.
        from_s: likewise, in seconds of training: the end of its first step, which may compile.
    """

    steps: int | None = None
    minutes: float | None = None
    from_step: int = 0
    from_s: float = 0.0

    @classmethod
    def of(cls, steps: int | None, n_items: int | None, items_a_step: int, minutes: float | None) -> "Budget":
        """The budget from a user's options; DEFAULT_MINUTES if all are None. Items are bytes or tokens."""
        if n_items is not None:
            by_items = -(-n_items // items_a_step)
            steps = min(steps or by_items, by_items)
        return cls(steps, DEFAULT_MINUTES if steps is None and minutes is None else minutes)

    def progress(self, step: int, time_s: float) -> float:
        """The share of the schedule that is over, in [0, 1].

        >>> Budget(steps=100, minutes=10).progress(step=20, time_s=300)
        0.5
        """
        by_steps = _share(step - self.from_step, self.steps - self.from_step) if self.steps else 0.0
        by_time = _share(time_s - self.from_s, 60 * self.minutes - self.from_s) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def extended(self, before: "Budget", step: int, time_s: float) -> "Budget":
        """This budget for a run that was trained under another one up to a step: a new schedule from there.

        >>> Budget(steps=100).extended(Budget(steps=40), step=40, time_s=9.0).progress(step=70, time_s=20.0)
        0.5
        """
        is_same = (self.steps, self.minutes) == (before.steps, before.minutes)
        return before if is_same else replace(self, from_step=step, from_s=time_s)


def _share(spent: float, whole: float) -> float:
    return spent / whole if whole > 0 else 1.0


def learning_rate(progress: float) -> float:
    """The learning rate as a share of its peak: linear warm-up, constant, linear decay to 0."""
    return min(1.0, (progress + 1e-4) / WARM_UP, max(0.0, 1 - progress) / DECAY)
