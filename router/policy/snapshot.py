"""What a decision depends on and what it answers: frozen values, no behaviour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import Misfit
from router.contract.job import Candidate, Decision, Rejected
from router.contract.request import FrameType, Mode, Substitutes, VideoRequest


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
    mean_s: float | None = None
    """Learned seconds per job; None while nothing was learned."""
    queued_s: float = 0.0
    """Seconds of work in front of a new job (our own device)."""
    half_open: bool = False
    """The breaker lets exactly one probe through."""
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
        return self.mean_s if self.mean_s is not None else self.card.typical_seconds


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


@dataclass(frozen=True)
class Choice:
    """A decision and, where something can start, what to send and how much to reserve."""

    decision: Decision
    resolved: ResolvedRequest | None = None
    reserve: int = 0
    """Micro-dollars."""
    wake_at: datetime | None = None
    """When to look again although nothing happened."""
    hopeless: bool = False
    """Nothing will ever take it as things are."""
    misfits: tuple[Misfit, ...] = ()


@dataclass(frozen=True)
class View:
    """What earlier jobs of the same planning pass have taken."""

    room: Mapping[str, int | None] = field(default_factory=dict)
    backend_room: Mapping[str, int] = field(default_factory=dict)
    probed: set[str] = field(default_factory=set)
    spent: int = 0
    by_project: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Offered:
    """A candidate with what is needed to order and start it."""

    candidate: Candidate
    resolved: ResolvedRequest
    reserve: int
    tier: int
    house: bool
    cost: Decimal
    late: bool
    refused: bool
    """A rate limit turned this job away here a moment ago."""
