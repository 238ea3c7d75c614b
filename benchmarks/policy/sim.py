"""The clock: arrivals, ends of attempts and wake-ups in order, each told to the strategy."""

import heapq
import itertools
from collections.abc import Callable
from functools import partial
from typing import Protocol

from benchmarks.policy.provider import Answer, Providers
from benchmarks.policy.world import LOCAL, Job, Outcome, World


class Strategy(Protocol):
    """Decides; it knows only what its events and answers tell."""

    def arrived(self, job: Job) -> None:
        """A new job."""

    def ended(self, job: Job, offer: str, answer: Answer, started: float) -> None:
        """An accepted attempt is over, or a call that hung was given up."""

    def look(self) -> float | None:
        """Act on everything that happened at this moment; when to look again at the latest."""


class Sim:
    """One world and one strategy."""

    def __init__(self, world: World) -> None:
        """At time zero."""
        self.world = world
        self.now = 0.0
        self.spent = 0.0
        """Bills so far, electricity not included."""
        self.outcome = Outcome()
        self._providers = Providers(world)
        self.log: list[tuple[object, ...]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._strategy: Strategy | None = None
        self.open = len(world.jobs)

    def send(self, job: Job, offer: str) -> Answer:
        """Submit; what happens to an accepted attempt is told by `ended`."""
        answer = self._providers.submit(job, offer, self.now)
        self.outcome.calls += 1
        if answer.kind == "limited":
            self.outcome.refusals_429 += 1
        elif answer.kind in {"accepted", "hangs"}:
            started = self.now
            self._at(answer.ends, lambda: self._ended(job, offer, answer, started))
        return answer

    def run(self, strategy: Strategy) -> Outcome:
        """Until every job is done or nothing moves any more."""
        self._strategy = strategy
        for job in self.world.jobs:
            self._at(job.at, partial(strategy.arrived, job))
        end = max(job.due for job in self.world.jobs) + 6 * 3600.0
        waking = float("inf")
        while self._events and self.open:
            self.now = self._events[0][0]
            if self.now > end:
                break
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            waking = float("inf") if waking <= self.now else waking
            again = strategy.look()
            if again is not None and again < waking - 1e-6:
                waking = max(again, self.now + 0.05)
                self._at(waking, lambda: None)
        for _, _, event in sorted(self._events):
            # What still runs is billed too.
            if self.now <= end:
                event()
        out = self.outcome
        out.lost = len(self.world.jobs) - len(out.finished)
        by_n = {job.n: job for job in self.world.jobs}
        out.missed = sum(1 for n, at in out.finished.items() if at > by_n[n].due + 1e-6)
        out.makespan = max(out.finished.values(), default=0.0)
        if self.world.budget_usd is not None:
            out.overspent = max(0.0, self.spent - self.world.budget_usd)
        return out

    def _ended(self, job: Job, offer: str, answer: Answer, started: float) -> None:
        if answer.kind == "accepted":
            self.outcome.spend += answer.bill
            if offer != LOCAL:
                self.spent += answer.bill
            if answer.ok and job.n not in self.outcome.finished:
                self.outcome.finished[job.n] = answer.ends
                self.open -= 1
        assert self._strategy is not None
        self._strategy.ended(job, offer, answer, started)

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), what))
