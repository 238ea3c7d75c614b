"""Spreads a day's budget over the day: spending may run ahead of the clock by a head start and no more. Pure.

The head start is a tenth of the budget, 2.4 hours of an even day. Without one nothing could start at midnight, and
with a small budget no clip before noon: at $5 a day a $0.50 clip fits at once. Larger, and a burst in the first hour
could leave the afternoon without money, which is what pacing is for.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

HEAD_START = Fraction(1, 10)


@dataclass(frozen=True)
class Pace:
    """One budget day; money in micro-dollars."""

    budget: int
    spent: int
    """Reserved and settled today."""
    begins: datetime
    ends: datetime
    """Days with a change of the clock have 23 or 25 hours."""

    def left(self, now: datetime) -> int:
        """What may be reserved now; 0 while spending is ahead of the clock."""
        return max(int(self.budget * self._share(now)) - self.spent, 0)

    def ready_at(self, micros: int) -> datetime | None:
        """When that much may be reserved, if nothing else is spent; None where today's budget never allows it."""
        if self.budget <= 0 or self.spent + micros > self.budget:
            return None
        share = Fraction(self.spent + micros, self.budget) - HEAD_START
        length = (self.ends - self.begins) // timedelta(microseconds=1)
        # Rounded up: a microsecond too early it would not fit.
        return self.begins + timedelta(microseconds=max(-int(-share * length // 1), 0))

    def _share(self, now: datetime) -> Fraction:
        length = (self.ends - self.begins) // timedelta(microseconds=1)
        gone = (now - self.begins) // timedelta(microseconds=1)
        return min(max(Fraction(gone, length), Fraction(0)) + HEAD_START, Fraction(1))
