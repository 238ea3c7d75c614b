"""Our policy through the real `policy.plan`: what router.facts would write down, from what the providers answered."""

from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from benchmarks.policy.provider import Answer
from benchmarks.policy.sim import Sim
from benchmarks.policy.world import KWH_USD, WATTS, Job, Truth, World
from router import policy
from router.arrivals import Arrivals
from router.contract.card import Asset, InputMedia, ModelCard
from router.contract.job import Rejected
from router.contract.request import FrameType, Mode, VideoRequest
from router.contract.words import same
from router.facts import LOCAL_PLACES
from router.policy import Ask, Facts, Learned, Money, OfferFacts, Running, Tried
from router.pricing import to_micros

EPOCH = datetime(2026, 11, 21, tzinfo=UTC)
TICK_S = 30.0
AT_HAND = LOCAL_PLACES
"""Jobs handed to our GPU at once, as the engine does."""
DECAY = 0.98
BREAKER_AFTER, BREAKER_S, BREAKER_MAX_S = 3, 30.0, 300.0
MAKESPAN_EVERY_S = 120.0
_AS_OF = date(2026, 11, 21)
_KINDS: dict[str, dict[str, Any]] = {
    "plain": {"resolution": "720p"},
    "hd": {"resolution": "1080p"},
    "image": {"resolution": "720p", "image": True},
    "hd-image": {"resolution": "1080p", "image": True},
    "audio": {"resolution": "720p", "generate_audio": True},
}
_IMAGE = InputMedia(asset=Asset(id="0" * 64, mime="image/png", size_bytes=1, width=1280, height=720))


def card_of(world: World, truth: Truth, at: float) -> ModelCard:
    """The card that the catalogue would hold at that time; what an offer cannot do is an impossible combination."""
    conditions = {kind: _condition(kind) for kind in _KINDS}
    prices = [
        {
            "usd": str(round(world.price(truth.name, kind, at), 6)),
            "per": "clip",
            "when": conditions[kind],
            "as_of": _AS_OF,
            "source": "invented",
        }
        for kind in truth.prices
    ]
    kinds = set(truth.prices)
    return ModelCard.model_validate(
        {
            "id": f"{truth.name}/clip",
            "backend": truth.name,
            "wire_id": "clip",
            "family": truth.name,
            "where": "house" if truth.house else "cloud",
            "tasks": ("text-to-video", "image-to-video"),
            "durations": (5,),
            "resolutions": ("720p", "1080p"),
            "audio": "optional" if "audio" in kinds else "none",
            "impossible": tuple(conditions[kind] for kind in _KINDS if kind not in kinds and kind != "audio"),
            "seed": True,
            "prompt_max": 2000,
            "typical_seconds": truth.documented_s,
            "failure_billed": "never" if truth.house else "maybe",
            "limits": {
                key: value
                for key, value in (
                    ("max_in_flight", truth.in_flight),
                    ("starts_per_minute", truth.per_minute),
                    ("starts_per_day", truth.per_day),
                )
                if value is not None
            },
            "prices": prices,
            "as_of": _AS_OF,
            "source": "invented",
        }
    )


def _condition(kind: str) -> dict[str, Any]:
    wants = _KINDS[kind]
    return {
        "resolution": wants["resolution"],
        "has_image": wants.get("image", False),
        "audio": wants.get("generate_audio", False),
    }


def ask_of(job: Job, *, mode: Mode, duplicates: bool = False) -> Ask:
    """The job as the store would hold it."""
    wants = dict(_KINDS[job.kind])
    image = wants.pop("image", False)
    request = VideoRequest.model_validate(
        {
            "prompt": f"clip {job.n}",
            "duration": 5,
            **wants,
            "frame_images": ({"url": "asset:" + "0" * 64},) if image else (),
            "preferences": {
                "mode": mode,
                "deadline": EPOCH + timedelta(seconds=job.due),
                "allow_duplicate_spend": duplicates,
            },
        }
    )
    inputs: dict[FrameType | int, InputMedia] = {FrameType.FIRST: _IMAGE} if image else {}
    return Ask(f"{job.n:05}", request, job.n, inputs, created_at=EPOCH + timedelta(seconds=job.at))


@dataclass
class _Known:
    """What one offer taught so far."""

    results: float = 0.0
    failures: float = 0.0
    billed: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    streak: int = 0
    backoff_s: float = 0.0
    rest_until: float = 0.0
    rest_code: str = "rate_limited"
    probing: bool = False
    last_end: float = 0.0
    """When an attempt here ended last."""
    starts: list[float] = field(default_factory=list)
    running: dict[int, float] = field(default_factory=dict)
    """Start of each attempt in flight, by a number of its own."""
    learned: Learned = field(default_factory=Learned)

    def learn(self) -> None:
        """Bring the quantiles up to date."""
        taken = sorted(self.recent)

        def at(share: float) -> float | None:
            return taken[min(int(share * len(taken)), len(taken) - 1)] if taken else None

        self.learned = Learned(
            self.results,
            self.failures,
            self.billed,
            sum(taken) / len(taken) if taken else None,
            at(0.85),
            at(0.97),
            at(0.99),
            recent_s=tuple(taken),
        )


class Ours:
    """Keeps the books that the database would keep, and does what the plan says."""

    def __init__(self, sim: Sim, mode: Mode = Mode.CHEAPEST) -> None:
        """Nothing is known but the documents."""
        self._sim, self._world = sim, sim.world
        self._asks = {
            job.n: ask_of(job, mode=mode, duplicates=sim.world.duplicates) for job in sim.world.jobs
        }
        self._jobs = {job.n: job for job in sim.world.jobs}
        self._waiting: dict[int, None] = {}
        self._known: dict[str, _Known] = defaultdict(_Known)
        self._reserved: dict[tuple[int, str], float] = {}
        self._flying: dict[int, dict[str, float]] = defaultdict(dict)
        self._copied: set[int] = set()
        self._cards: dict[tuple[str, bool], ModelCard] = {}
        self._arrivals = Arrivals()
        self._numbers = 0
        self._by: tuple[float, datetime | None] = (-1e9, None)

    # -- events

    def arrived(self, job: Job) -> None:
        """Queue it."""
        ask = self._asks[job.n]
        self._arrivals.add(ask.id, EPOCH + timedelta(seconds=job.at), lambda: ask)
        self._waiting[job.n] = None

    def ended(self, job: Job, offer: str, answer: Answer, started: float) -> None:
        """Book it, learn from it, queue the job again where it failed."""
        now, known = self._sim.now, self._known[offer]
        self._reserved.pop((job.n, offer), None)
        self._flying[job.n].pop(offer, None)
        known.running.pop(next(k for k, at in known.running.items() if at == started), None)
        known.last_end = now
        if answer.kind == "hangs":
            self._down(offer)
            self._retry(job, offer, "unavailable", accepted=False)
            return
        known.results = known.results * DECAY + 1
        known.failures, known.billed = known.failures * DECAY, known.billed * DECAY
        if answer.ok:
            known.recent.append(now - answer.begins)
            self._waiting.pop(job.n, None)
        else:
            known.failures += 1
            known.billed += answer.bill > 0
            if job.n not in self._sim.outcome.finished:
                self._retry(job, offer, "generation_failed", accepted=True)
        known.learn()

    def _retry(self, job: Job, offer: str, code: str, *, accepted: bool) -> None:
        ask = self._asks[job.n]
        at = EPOCH + timedelta(seconds=self._sim.now)
        tried = (*ask.tried, Tried(f"{offer}/clip", code, accepted, at))
        self._asks[job.n] = replace(ask, tried=tried)
        if not self._flying[job.n]:
            self._waiting[job.n] = None

    def _down(self, offer: str) -> None:
        known = self._known[offer]
        known.streak += 1
        known.probing = False
        if known.streak >= BREAKER_AFTER and known.rest_until <= self._sim.now:
            known.backoff_s = min(max(known.backoff_s * 2, BREAKER_S), BREAKER_MAX_S)
            known.rest_until, known.rest_code = self._sim.now + known.backoff_s, "breaker_open"

    # -- deciding

    def look(self) -> float | None:
        """Plan until nothing changes, then hedge."""
        for _ in range(20):
            wake, again = self._plan()
            if not again:
                break
        self._hedge()
        busy = self._waiting or (self._world.duplicates and any(self._flying.values()))
        return min(wake, self._sim.now + TICK_S) if busy else None

    def _plan(self) -> tuple[float, bool]:
        """(when to wake, whether a submit was refused so that the plan must be made anew)."""
        now = self._sim.now
        if not self._waiting:
            return now + TICK_S, False
        facts, asks = self.facts(), [self._asks[n] for n in self._waiting]
        if self._world.makespan:
            choices = self._plan_makespan(facts, asks)
        else:
            choices = policy.plan(facts, asks)
        again, wake = False, now + TICK_S
        for job_id, choice in choices.items():
            if choice.wake_at is not None:
                wake = min(wake, max((choice.wake_at - EPOCH).total_seconds(), now + 1.0))
            if choice.resolved is not None:
                again |= not self._send(int(job_id), choice.resolved.backend, choice.reserve)
        return wake, again

    def _plan_makespan(self, facts: Facts, asks: list[Ask]) -> dict[str, policy.Choice]:
        found, by = self._by
        budget = to_micros(Decimal(str(round(self._left(), 6))))
        keep = by if self._sim.now < found + MAKESPAN_EVERY_S else None
        by, choices = policy.plan_by(facts, asks, max(budget, 0), keep)
        if keep is None:
            self._by = (self._sim.now, by)
        return choices

    def _left(self) -> float:
        return (self._world.budget_usd or 0.0) - self._sim.spent - sum(self._reserved.values())

    def _send(self, n: int, offer: str, reserve: int, *, copy: bool = False) -> bool:
        now, job, known = self._sim.now, self._jobs[n], self._known[offer]
        known.starts.append(now)
        answer = self._sim.send(job, offer)
        if answer.kind == "down":
            self._down(offer)
            self._retry(job, offer, "unavailable", accepted=False)
            return False
        if answer.kind == "limited":
            known.rest_until, known.rest_code = answer.ends, "rate_limited"
            self._retry(job, offer, "rate_limited", accepted=False)
            return False
        if answer.kind == "accepted":
            known.streak, known.backoff_s, known.probing = 0, 0.0, False
        elif known.streak >= BREAKER_AFTER:
            known.probing = True
        self._numbers += 1
        known.running[self._numbers] = now
        self._reserved[n, offer] = reserve / 1e6
        self._flying[n][offer] = now
        if not copy:
            self._waiting.pop(n, None)
        return True

    def _hedge(self) -> None:
        if not self._world.duplicates:
            return
        running = [
            Running(self._asks[n], f"{offer}/clip", EPOCH + timedelta(seconds=at))
            for n, flying in self._flying.items()
            if len(flying) == 1 and n not in self._copied and n not in self._sim.outcome.finished
            for offer, at in flying.items()
        ]
        for hedge in policy.hedges(self.facts(), running) if running else ():
            n = int(hedge.job)
            if self._send(n, hedge.model.partition("/")[0], hedge.reserve, copy=True):
                self._copied.add(n)
                self._sim.outcome.hedges += 1

    # -- the snapshot

    def facts(self) -> Facts:
        """What router.facts would take from the database now."""
        world = self._world
        money = Money()
        if world.budget_usd is not None:
            money = Money(day=int(max(self._left(), 0.0) * 1_000_000))
        return Facts(
            EPOCH + timedelta(seconds=self._sim.now),
            tuple(self._offer(truth) for truth in world.offers),
            money=money,
            mode=Mode.CHEAPEST,
            electricity_per_s=Decimal(str(WATTS)) / Decimal(3_600_000) * Decimal(str(KWH_USD)),
            tick_s=TICK_S,
            recent=self._arrivals.of(EPOCH + timedelta(seconds=self._sim.now)),
            can_hedge=world.duplicates,
        )

    def _offer(self, truth: Truth) -> OfferFacts:
        now, known = self._sim.now, self._known[truth.name]
        changed = any(c.offer == truth.name and now >= c.at for c in self._world.changes)
        card = self._cards.get((truth.name, changed))
        if card is None:
            card = self._cards[truth.name, changed] = card_of(self._world, truth, now)
        mean = known.learned.mean_s or truth.documented_s
        places = AT_HAND if truth.house else truth.in_flight
        rest = None
        half_open = known.streak >= BREAKER_AFTER
        if known.rest_until > now or (half_open and known.probing):
            until = known.rest_until if known.rest_until > now else now + BREAKER_S
            rest = Rejected(
                backend=truth.name,
                model=card.id,
                code=known.rest_code,
                reason=same("rests"),
                ready_at=EPOCH + timedelta(seconds=until),
            )
        known.starts = [at for at in known.starts if at > now - 86_400.0]
        return OfferFacts(
            card,
            rest=rest,
            room=None if places is None else places - len(known.running),
            half_open=half_open,
            rested_at=EPOCH + timedelta(seconds=known.rest_until) if half_open else None,
            learned=known.learned,
            busy_until=self._ends(truth, known, mean),
            starts=tuple(EPOCH + timedelta(seconds=at) for at in known.starts if at > now - 60.0),
            left_today=None if truth.per_day is None else truth.per_day - len(known.starts),
        )

    def _ends(self, truth: Truth, known: _Known, mean: float) -> tuple[datetime, ...]:
        """When the attempts in flight are expected to end; our GPU does one after the other."""
        ends: list[float] = []
        for at in sorted(known.running.values()):
            begins = max(at, ends[-1] if ends else known.last_end) if truth.house else at
            ends.append(max(begins + mean, self._sim.now + 0.1 * mean if truth.house else 0.0))
        return tuple(EPOCH + timedelta(seconds=end) for end in sorted(ends))
