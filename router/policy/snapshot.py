"""What a decision depends on and what it answers: frozen values, no behaviour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import Misfit
from router.contract.job import Decision, Rejected
from router.contract.request import FrameType, Mode, Substitutes, VideoRequest
from router.pace import Pace


@dataclass(frozen=True)
class Learned:
    """What earlier jobs taught about one offer; counts decay with every result (shared/routing.md, step 2)."""

    results: float = 0.0
    """Accepted attempts that ended, decayed."""
    failures: float = 0.0
    """Those of them that failed, decayed."""
    billed_failures: float = 0.0
    """Those failures that were billed, decayed."""
    mean_s: float | None = None
    """Seconds from acceptance to the clip; None while nothing was learned."""
    p85_s: float | None = None
    p97_s: float | None = None
    p99_s: float | None = None
    price_factor: Decimal = Decimal(1)
    """Last bill divided by its estimate."""
    recent_s: Sequence[float] = ()
    """The latest times from acceptance to the clip, in any order: what `hedge` reads; empty: from the quantiles."""


ENOUGH_RESULTS = 20.0
"""Below this many (decayed) results what is documented counts: in the expected time, and alone in the safe one."""
DOCUMENTED = 4.0
"""Results that the documented typical time counts as beside the very first ones; less with each."""


@dataclass(frozen=True)
class OfferFacts:
    """One model on one backend as it stands now."""

    card: ModelCard
    unusable: Rejected | None = None
    """No key, broken import, no weights: out until somebody changes the installation."""
    rest: Rejected | None = None
    """Retry-After, open breaker, refused key, stopped price row; `ready_at` where it ends by itself."""
    free_at: datetime | None = None
    """When the documented windows let the next start through; None means now."""
    room: int | None = None
    """Free places at the model; None where the limit is not documented."""
    queued_s: float = 0.0
    """Seconds of work in front of a new job (our own device)."""
    half_open: bool = False
    """The breaker lets exactly one probe through."""
    rested_at: datetime | None = None
    """Half open: when the rest was over that the last failure brought."""
    learned: Learned = Learned()
    busy_until: Sequence[datetime] = ()
    """When the attempts that occupy this offer's places are expected to end, soonest first."""
    starts: Sequence[datetime] = ()
    """Starts that the minute window counts, oldest first."""
    left_today: int | None = None
    """Starts left in the day window; None where none is documented."""
    loaded: bool = True
    """On our own device: whether this model is in memory."""
    switch_s: float = 0.0
    """Seconds to load it where it is not."""

    @property
    def seconds(self) -> float:
        """Expected seconds of one job, without waiting."""
        if self.learned.mean_s is None:
            return self.card.typical_seconds
        # One quick clip does not make a quick device: what is documented counts as a few results.
        results = self.learned.results
        documented = DOCUMENTED * max(1 - results / ENOUGH_RESULTS, 0.0)
        measured = results * self.learned.mean_s
        return (measured + documented * self.card.typical_seconds) / (results + documented)


@dataclass(frozen=True)
class Money:
    """What the budgets still allow, in micro-dollars; None means no budget."""

    day: int | None = None
    month: int | None = None
    project_day: Mapping[str, int] = field(default_factory=dict)
    day_turns_at: datetime | None = None
    month_turns_at: datetime | None = None
    caps: Mapping[str, int] = field(default_factory=dict)
    """The whole budgets: `day`, `month`, and each project's: what is dearer never fits."""


@dataclass(frozen=True)
class Tried:
    """An earlier attempt of the same job."""

    model: str
    code: str
    """Error code of how it ended."""
    accepted: bool
    ended_at: datetime
    free_retry: bool = False
    """The work was lost with our own process and cost nothing: the same offer may do it again."""


@dataclass(frozen=True)
class Ask:
    """A job that waits for a decision, or a request that somebody wants planned."""

    id: str
    request: VideoRequest
    seed: int
    inputs: Mapping[FrameType | int, InputMedia] = field(default_factory=dict)
    spent: int = 0
    """Reserved and billed by its earlier attempts, micro-dollars."""
    tried: Sequence[Tried] = ()
    created_at: datetime | None = None
    due: datetime | None = None
    """Plan it for this time instead of its deadline (`soonest`): it starts at once, and is never called late for it."""


@dataclass(frozen=True)
class Seen:
    """A job that came in lately."""

    ask: Ask
    jobs: int = 1
    """How many it stands for, where only a sample was kept."""


@dataclass(frozen=True)
class Running:
    """An accepted attempt that may deserve a second one beside it (`hedge`)."""

    ask: Ask
    model: str
    started_at: datetime


@dataclass(frozen=True)
class Facts:
    """Everything a decision depends on."""

    now: datetime
    offers: Sequence[OfferFacts]
    money: Money = Money()
    backend_room: Mapping[str, int] = field(default_factory=dict)
    """Free places per backend, where its account has a documented limit."""
    mode: Mode = Mode.CLOUD_FIRST
    substitutes: Substitutes | None = None
    too_expensive_per_second: Decimal | None = None
    demo_model: bool = False
    patience_s: float = 0.0
    electricity_per_s: Decimal = Decimal(0)
    """US dollars per second of work on our own device; orders `cheapest`, never billed."""
    value_of_deadline_usd: Decimal = Decimal(5)
    """What a kept deadline is worth: weighs a refusal that would miss it, and a hedge."""
    tick_s: float = 20.0
    """The longest time between two looks."""
    default_deadline_s: float = 900.0
    """What a job without a deadline is planned with; never failed or called late for it."""
    too_expensive_multiple: Decimal | None = None
    """Cloud prices above this multiple of what our own device would cost in full are too expensive."""
    local_full_usd_per_s: Decimal = Decimal(0)
    """What a second of work on our own device costs in full (purchase, upkeep, electricity at its utilisation)."""
    pace: Pace | None = None
    """The day's budget against the clock; None: no pacing."""
    recent: Sequence[Seen] = ()
    """Jobs that came in during the last `recent_s` seconds, whatever became of them: what to expect next (`demand`)."""
    recent_s: float = 3600.0
    devices: int = 1
    """Machines that carry local jobs; each needs a job in hand."""
    can_hedge: bool = False
    """Whether whoever carries attempts can carry a second one of the same job."""


@dataclass(frozen=True)
class Choice:
    """A decision and, where something can start, what to send and how much to reserve."""

    decision: Decision
    resolved: ResolvedRequest | None = None
    reserve: int = 0
    """Micro-dollars."""
    wake_at: datetime | None = None
    """When to look again although nothing happened."""
    planned: str | None = None
    """Where it is expected to run (a card's id), now or later; None while nothing can take it."""
    start_at: datetime | None = None
    """When it is expected to start there."""
    late: bool = False
    """No offer is expected to make it safely before its deadline."""
    hopeless: bool = False
    """Nothing will ever take it as things are."""
    misfits: tuple[Misfit, ...] = ()
