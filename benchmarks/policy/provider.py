"""The simulated providers and our GPU: they keep their limits, fail, hang and bill as the world says."""

from collections import defaultdict
from dataclasses import dataclass

from benchmarks.policy.world import LOCAL, Job, World, electricity

RETRY_AFTER_S = 20.0
HANG_S = 60.0
"""After this a call that is not answered is given up."""


@dataclass(frozen=True)
class Answer:
    """What a submit comes to: `accepted` with the end of the attempt, or a refusal."""

    kind: str
    """accepted, limited (429), down (503), hangs."""
    ends: float = 0.0
    begins: float = 0.0
    """On our GPU: when it is this job's turn."""
    ok: bool = True
    bill: float = 0.0


class Providers:
    """All offers of one world."""

    def __init__(self, world: World) -> None:
        """Nothing has been sent."""
        self._world = world
        self._starts: dict[str, list[float]] = defaultdict(list)
        self._ends: dict[str, list[float]] = defaultdict(list)
        self._tries: dict[tuple[int, str], int] = defaultdict(int)
        self._gpu_free = 0.0

    def submit(self, job: Job, offer: str, now: float) -> Answer:
        """One call that spends."""
        world = self._world
        outage = world.down(offer, now)
        if outage is not None:
            return Answer("hangs" if outage.hangs else "down", ends=now + (HANG_S if outage.hangs else 0.0))
        if not self._within(offer, now):
            return Answer("limited", ends=now + RETRY_AFTER_S)
        self._tries[job.n, offer] += 1
        draw = world.draw(job.n, offer, self._tries[job.n, offer])
        begins = max(now, self._gpu_free) if offer == LOCAL else now
        ends = begins + draw.seconds
        self._starts[offer].append(now)
        self._ends[offer].append(ends)
        if offer == LOCAL:
            self._gpu_free = ends
            bill = electricity(draw.seconds)
        else:
            bill = world.price(offer, job.kind, now) if not draw.fails or draw.billed else 0.0
        return Answer("accepted", ends, begins, not draw.fails, bill)

    def _within(self, offer: str, now: float) -> bool:
        truth = self._world.by_name[offer]
        starts = self._starts[offer]
        running = self._ends[offer] = [end for end in self._ends[offer] if end > now]
        if truth.in_flight is not None and len(running) >= truth.in_flight:
            return False
        last = sum(1 for at in starts if at > now - 60.0)
        if truth.per_minute is not None and last >= truth.per_minute:
            return False
        return truth.per_day is None or sum(1 for at in starts if at > now - 86_400.0) < truth.per_day
