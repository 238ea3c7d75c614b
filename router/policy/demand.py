"""How much of our own device the jobs to come will want: a place that they would take is not promised to others.

A plan that sees only the jobs that wait fills the device with whatever has time, hours ahead; then better jobs arrive
and push out what was kept for later, at the worst moment. The jobs of the last hour tell what to expect. The median over
parts of that hour counts, so that one large bulk is no demand to come.
"""

import statistics
from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter

from router.policy.modes import SPILLS_LAZILY
from router.policy.options import Shape, Shapes
from router.policy.snapshot import Facts
from router.policy.timeline import Line

PARTS = 6
MOST = 0.95


class Demand:
    """Of one device: work per second that arrives, by what it saves there per second."""

    def __init__(self, parts: Sequence[Sequence[tuple[float, float]]]) -> None:
        """For each part of the time looked at: (saving per second, share of the device)."""
        self._savings: list[list[float]] = []
        self._sums: list[list[float]] = []
        for part in parts:
            rows = sorted(part, key=itemgetter(0), reverse=True)
            self._savings.append([-saving for saving, _ in rows])
            sums, total = [0.0], 0.0
            for _, share in rows:
                total += share
                sums.append(total)
            self._sums.append(sums)
        self._known: dict[float, float] = {}

    def above(self, saving: float) -> float:
        """The share of the device that jobs to come will take which save more than this per second."""
        found = self._known.get(saving)
        if found is None:
            shares = [
                sums[bisect_right(savings, -saving - 1e-9)]
                for savings, sums in zip(self._savings, self._sums, strict=True)
            ]
            found = self._known[saving] = min(statistics.median(shares), MOST)
        return found


def expect(facts: Facts, shapes: Shapes) -> None:
    """Give each device the demand that the recent jobs show."""
    span = facts.recent_s / PARTS
    if not facts.recent or span <= 0:
        return
    found: dict[Line, list[list[tuple[float, float]]]] = {}
    for seen in facts.recent:
        ask = seen.ask
        if ask.created_at is None:
            continue
        part = int((facts.now - ask.created_at).total_seconds() // span)
        shape = shapes.of(ask)
        own = _own_device(shape)
        if own is None or not 0 <= part < PARTS:
            continue
        line, saving, seconds = own
        parts = found.setdefault(line, [[] for _ in range(PARTS)])
        parts[part].append((saving / seconds, seen.jobs * seconds / span))
    for line, parts in found.items():
        line.demand = Demand(parts)


def _own_device(shape: Shape) -> tuple[Line, float, float] | None:
    """Where such a job would run at home, what that saves, how long it takes."""
    if shape.mode not in SPILLS_LAZILY:
        return None
    for i, option in enumerate(shape.options):
        if option.line.serial:
            others = shape.options[i + 1 :]
            return (option.line, others[0].score - option.score, option.seconds) if others else None
    return None
