"""Simpler rules behind the same queue: none of them looks at more than one job at a time."""

import random
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable

from benchmarks.policy.provider import Answer
from benchmarks.policy.sim import Sim
from benchmarks.policy.world import Job, Truth

TICK_S = 20.0
REST_S = 60.0
"""How long a rule leaves an offer alone that was down."""
CAUTION = 1.5
"""Times its documented time that a rule with an estimate allows for a clip."""


class Rule(ABC):
    """What all rules share: per-offer queues of ours under the documented limits, the budget, and failing over."""

    def __init__(self, sim: Sim) -> None:
        """Nothing waits."""
        self.sim, self.world = sim, sim.world
        self.queues: dict[str, deque[Job]] = {o.name: deque() for o in self.world.offers}
        self.running: dict[str, dict[int, float]] = defaultdict(dict)
        self.starts: dict[str, list[float]] = defaultdict(list)
        self.failed: dict[int, set[str]] = defaultdict(set)
        self.rests: dict[str, float] = {}
        self.todo: list[Job] = []
        self.reserved: dict[tuple[int, str], float] = {}

    # -- events

    def arrived(self, job: Job) -> None:
        """Decide at the next look."""
        self.todo.append(job)

    def ended(self, job: Job, offer: str, answer: Answer, started: float) -> None:
        """A failure goes elsewhere."""
        self.running[offer].pop(job.n, None)
        self.reserved.pop((job.n, offer), None)
        if answer.kind == "hangs":
            self.rests[offer] = self.sim.now + REST_S
            self.todo.append(job)
        elif not answer.ok and job.n not in self.sim.outcome.finished:
            self.failed[job.n].add(offer)
            self.todo.append(job)

    def look(self) -> float | None:
        """Place what is new, then send what the queues may."""
        todo, self.todo = self.todo, []
        for job in todo:
            self.place(job)
        for offer, queue in self.queues.items():
            while queue and self.may_start(offer):
                job = queue.popleft()
                if not self.send(job, offer):
                    self.todo.append(job)
                    break
        waiting = self.todo or any(self.queues.values())
        return self.sim.now + TICK_S if waiting else None

    @abstractmethod
    def place(self, job: Job) -> None:
        """The rule itself."""

    # -- what rules know

    def able(self, job: Job) -> list[Truth]:
        """Offers that can make it and have not failed it; all again when every one has."""
        can = [o for o in self.world.offers if job.kind in o.prices]
        return [o for o in can if o.name not in self.failed[job.n]] or can

    def healthy(self, offers: list[Truth]) -> list[Truth]:
        """Those that do not rest; all, when all do."""
        return [o for o in offers if self.rests.get(o.name, 0.0) <= self.sim.now] or offers

    def cost(self, job: Job, offer: Truth) -> float:
        """By the price table; our GPU first."""
        return self.world.price(offer.name, job.kind, self.sim.now) if not offer.house else 0.0

    def affordable(self, job: Job, offer: Truth) -> bool:
        """A hard budget binds everybody alike."""
        budget = self.world.budget_usd
        held = self.sim.spent + sum(self.reserved.values())
        return budget is None or held + self.cost(job, offer) <= budget + 1e-9

    def may_start(self, offer: str) -> bool:
        """Within the documented limits."""
        truth, now = self.world.by_name[offer], self.sim.now
        if self.rests.get(offer, 0.0) > now:
            return False
        most = 1 if truth.house else truth.in_flight
        if most is not None and len(self.running[offer]) >= most:
            return False
        starts = self.starts[offer]
        if truth.per_minute is not None and sum(1 for at in starts if at > now - 60.0) >= truth.per_minute:
            return False
        return truth.per_day is None or len(starts) < truth.per_day

    def send(self, job: Job, offer: str) -> bool:
        """Submit; False when it was refused."""
        truth = self.world.by_name[offer]
        if not self.affordable(job, truth):
            return False
        self.starts[offer].append(self.sim.now)
        answer = self.sim.send(job, offer)
        if answer.kind in {"down", "limited"}:
            self.rests[offer] = self.sim.now + (REST_S if answer.kind == "down" else 20.0)
            return False
        self.running[offer][job.n] = self.sim.now
        if not truth.house:
            self.reserved[job.n, offer] = self.cost(job, truth)
        return True

    def wait(self, offer: Truth) -> float:
        """Expected seconds until a new job would start there, by the documented time."""
        now, most = self.sim.now, 1 if offer.house else offer.in_flight
        ahead = len(self.queues[offer.name])
        rest = max(0.0, self.rests.get(offer.name, 0.0) - now)
        if offer.per_day is not None and len(self.starts[offer.name]) + ahead >= offer.per_day:
            return float("inf")
        by_minute = ahead / offer.per_minute * 60.0 if offer.per_minute else 0.0
        if most is None:
            return max(rest, by_minute)
        left = sorted(max(at + offer.documented_s - now, 0.0) for at in self.running[offer.name].values())
        first = left[0] if len(left) >= most else 0.0
        return max(rest, by_minute, first + ahead * offer.documented_s / most)


class RandomOffer(Rule):
    """Any that can, and wait for it."""

    def __init__(self, sim: Sim) -> None:
        """With dice of its own."""
        super().__init__(sim)
        self._dice = random.Random(f"random/{sim.world.seed}")

    def place(self, job: Job) -> None:
        """Draw one."""
        can = self.healthy([o for o in self.able(job) if self.wait(o) < 1e9] or self.able(job))
        self.queues[self._dice.choice(can).name].append(job)


class RoundRobin(Rule):
    """One after the other."""

    turn = 0

    def place(self, job: Job) -> None:
        """The next in turn."""
        can = self.healthy([o for o in self.able(job) if self.wait(o) < 1e9] or self.able(job))
        self.queues[can[self.turn % len(can)].name].append(job)
        self.turn += 1


class CheapestFallback(Rule):
    """The cheapest that can start now, else the next; nobody: again at the next tick."""

    def place(self, job: Job) -> None:
        """Send, or keep."""
        for offer in sorted(self.able(job), key=lambda o: (self.cost(job, o), o.name)):
            if self.may_start(offer.name) and self.affordable(job, offer) and self.send(job, offer.name):
                return
        self.todo.append(job)


class CheapestRequeue(Rule):
    """Only ever the cheapest; while it is full the job goes back into the queue."""

    def place(self, job: Job) -> None:
        """Send, or keep."""
        offer = min(self.able(job), key=lambda o: (self.cost(job, o), o.name))
        if not (self.may_start(offer.name) and self.send(job, offer.name)):
            self.todo.append(job)


class CheapestEta(Rule):
    """The cheapest whose queue and time let it be done by the deadline; the best simple rule."""

    def place(self, job: Job) -> None:
        """Into that offer's queue, for good."""
        can = [o for o in self.healthy(self.able(job)) if self.affordable(job, o)] or self.able(job)
        ends = {o.name: self.sim.now + self.wait(o) + CAUTION * o.documented_s for o in can}
        safe = [o for o in can if ends[o.name] <= job.due]
        if safe:
            best = min(safe, key=lambda o: (self.cost(job, o), o.name))
        else:
            best = min(can, key=lambda o: (ends[o.name], o.name))
        self.queues[best.name].append(job)


class LiteLlm(Rule):
    """LiteLLM's rules as measured (shared/routing.md), with a durable queue and our price order given for free.

    The first listed deployment that is not cooling down; three retries, then back into the queue; a refusal cools it
    down; a job that fails after it was accepted is reported as failed and not tried again.
    """

    COOLDOWN_S = 60.0
    RETRIES = 3

    def ended(self, job: Job, offer: str, answer: Answer, started: float) -> None:
        """An accepted failure is final."""
        self.running[offer].pop(job.n, None)
        self.reserved.pop((job.n, offer), None)
        if answer.kind == "hangs":
            self.rests[offer] = self.sim.now + self.COOLDOWN_S
            self.todo.append(job)

    def may_start(self, offer: str) -> bool:
        """It knows no limits but its own cooldown; our GPU takes whatever comes."""
        return self.rests.get(offer, 0.0) <= self.sim.now

    def place(self, job: Job) -> None:
        """In the order of the list: the price of video is not known to it."""
        tries = 0
        for offer in self.able(job):
            if tries > self.RETRIES:
                break
            if self.may_start(offer.name):
                tries += 1
                if self.send(job, offer.name):
                    return
        self.todo.append(job)


RULES: dict[str, Callable[[Sim], Rule]] = {
    "random": RandomOffer,
    "round robin": RoundRobin,
    "cheapest + requeue": CheapestRequeue,
    "cheapest + fallback": CheapestFallback,
    "cheapest + queue estimate": CheapestEta,
    "LiteLLM's rules": LiteLlm,
}
BEST_SIMPLE = "cheapest + queue estimate"
PLAYS_LITELLM = frozenset({"S1", "S2", "S3", "S6", "S7"})
