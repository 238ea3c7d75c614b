"""Jobs and attempts as frozen values, their states, and which step may follow which."""

import re
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue, ValidationError

from router.contract.backend import Operation
from router.contract.card import Asset, ResolvedRequest
from router.contract.request import VideoRequest
from router.contract.words import Words

_ASSET_ID = re.compile(r"[0-9a-f]{64}")


class Status(StrEnum):
    """States of a job."""

    QUEUED = "queued"
    """Waits for the planner."""
    SUBMITTING = "submitting"
    """Money reserved, an attempt is on its way to a backend."""
    RUNNING = "running"
    """A backend accepted it."""
    FETCHING = "fetching"
    """Done there; the clip is being downloaded."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNRESOLVED = "unresolved"
    """The answer to the call that spends was lost; a person settles it. The money stays reserved."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in {Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.UNRESOLVED}


class AttemptStatus(StrEnum):
    """States of an attempt."""

    SUBMITTING = "submitting"
    SENDING = "sending"
    """Committed as the last thing before the call that spends."""
    RUNNING = "running"
    FETCHING = "fetching"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNRESOLVED = "unresolved"

    @property
    def ended(self) -> bool:
        """Whether this attempt is over."""
        return self in {
            AttemptStatus.COMPLETED,
            AttemptStatus.FAILED,
            AttemptStatus.CANCELLED,
            AttemptStatus.UNRESOLVED,
        }


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.SUBMITTING, Status.FAILED, Status.CANCELLED}),
    Status.SUBMITTING: frozenset(
        {Status.RUNNING, Status.QUEUED, Status.FAILED, Status.CANCELLED, Status.UNRESOLVED}
    ),
    Status.RUNNING: frozenset(
        {Status.FETCHING, Status.QUEUED, Status.FAILED, Status.CANCELLED, Status.UNRESOLVED}
    ),
    Status.FETCHING: frozenset(
        {Status.COMPLETED, Status.QUEUED, Status.RUNNING, Status.FAILED, Status.CANCELLED}
    ),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
    # A person settles it: the lost clip stays lost, the job ends or (bill found, clip found) goes on.
    Status.UNRESOLVED: frozenset({Status.RUNNING, Status.QUEUED, Status.FAILED, Status.CANCELLED}),
}

ATTEMPT_TRANSITIONS: dict[AttemptStatus, frozenset[AttemptStatus]] = {
    AttemptStatus.SUBMITTING: frozenset(
        {AttemptStatus.SENDING, AttemptStatus.RUNNING, AttemptStatus.FAILED, AttemptStatus.CANCELLED}
    ),
    AttemptStatus.SENDING: frozenset(
        {AttemptStatus.RUNNING, AttemptStatus.FAILED, AttemptStatus.CANCELLED, AttemptStatus.UNRESOLVED}
    ),
    AttemptStatus.RUNNING: frozenset(
        {AttemptStatus.FETCHING, AttemptStatus.FAILED, AttemptStatus.CANCELLED, AttemptStatus.UNRESOLVED}
    ),
    AttemptStatus.FETCHING: frozenset(
        {AttemptStatus.COMPLETED, AttemptStatus.RUNNING, AttemptStatus.FAILED, AttemptStatus.CANCELLED}
    ),
    AttemptStatus.COMPLETED: frozenset(),
    AttemptStatus.FAILED: frozenset(),
    AttemptStatus.CANCELLED: frozenset(),
    AttemptStatus.UNRESOLVED: frozenset(
        {AttemptStatus.RUNNING, AttemptStatus.FAILED, AttemptStatus.CANCELLED}
    ),
}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobError(_Value):
    """Why a job or an attempt ended badly."""

    code: str
    message: Words
    backend: str | None = None
    detail: str | None = None


class Candidate(_Value):
    """An offer that could take the job, in the order the policy would use it."""

    backend: str
    model: str
    usd: Decimal | None
    """Estimate in US dollars; None where the price is not known."""
    seconds: float
    """Expected seconds until the clip is there, waiting included."""
    reason: Words
    """Why it stands where it stands."""
    price_as_of: str | None = None
    price_source: str | None = None


class Rejected(_Value):
    """An offer that cannot or may not take the job, and why."""

    backend: str
    model: str
    code: str
    """Machine word: misfit, price, budget, rate_limited, breaker_open, no_key, forbidden, task, ..."""
    reason: Words
    usd: Decimal | None = None
    ready_at: AwareDatetime | None = None
    """When this reason ends by itself, where that is known."""


class Decision(_Value):
    """A routing decision as it was made; stored with the attempt."""

    at: AwareDatetime
    mode: str
    chosen: Candidate | None
    start_at: AwareDatetime | None = None
    """When the chosen offer can start; None means now."""
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]
    reason: Words
    """One sentence: why it goes there, or why nowhere."""


class Attempt(_Value):
    """One try on one backend."""

    job_id: str
    n: int
    backend: str
    model: str
    status: AttemptStatus
    resolved: ResolvedRequest
    decision: Decision
    reason: Words
    estimate_usd: Decimal | None
    reserved_usd: Decimal
    billed_usd: Decimal | None
    """None until settled."""
    bill_basis: str | None = None
    """`provider` (their figure), `table` (our price table), `documented` (failures are free there), `none` (never
    accepted), `person` (`understudy settle`), `free` (our own device), `unknown` (no figure anywhere)."""
    operation: Operation | None = None
    error: JobError | None = None
    progress: float = 0.0
    created_at: AwareDatetime
    sent_at: AwareDatetime | None = None
    accepted_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None

    @property
    def id(self) -> str:
        """`<job>:a<n>`: workflow id, idempotency key and name in every log line."""
        return f"{self.job_id}:a{self.n}"


class Job(_Value):
    """Our durable record, read whole by every door."""

    id: str
    status: Status
    request: VideoRequest
    seed: int
    """Drawn at creation when the request gives none, so that every clip can be made again."""
    api_key: str | None = None
    """Name of the caller's key; None for the server's token, the page and the command line."""
    progress: float = 0.0
    """0..1; never falls, failover included."""
    model: str | None = None
    """Card id of the latest attempt."""
    backend: str | None = None
    reason: Words | None = None
    """Why it runs or ran there, or what it waits for."""
    estimate_usd: Decimal | None = None
    reserved_usd: Decimal = Decimal(0)
    billed_usd: Decimal = Decimal(0)
    """Sum over all attempts settled so far."""
    error: JobError | None = None
    warnings: tuple[Words, ...] = ()
    output: Asset | None = None
    poster: Asset | None = None
    details: dict[str, JsonValue] = {}
    cancel_requested: bool = False
    in_progress_once: bool = False
    """True from the first acceptance on: the public status never reads `queued` again."""
    attempts: tuple[Attempt, ...] = ()
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    """First acceptance."""
    ended_at: AwareDatetime | None = None
    deleted: bool = False

    @property
    def original_id(self) -> str | None:
        """Id of the clip as the backend made it, where `output` is what the request's steps made of it."""
        found = self.details.get("original")
        return found if isinstance(found, str) and _ASSET_ID.fullmatch(found) else None

    @property
    def preview(self) -> Asset | None:
        """The animated GIF or WebP, where the request asked for one."""
        try:
            return Asset.model_validate(self.details.get("preview"))
        except ValidationError:
            return None

    @property
    def made(self) -> tuple[str, ...]:
        """Ids of every file that this job made."""
        kept = [asset.id for asset in (self.output, self.poster, self.preview) if asset is not None]
        return (*kept, *([self.original_id] if self.original_id else []))


class Event(_Value):
    """One line of a job's history; append-only."""

    seq: int
    job_id: str
    attempt: int | None
    at: AwareDatetime
    kind: str
    """created, planned, waiting, submitting, sending, accepted, progress, fetching, completed, failed, ..."""
    data: dict[str, JsonValue]


def public_status(job: Job) -> str:
    """The four words of the OpenAI wire."""
    match job.status:
        case Status.COMPLETED:
            return "completed"
        case Status.FAILED | Status.CANCELLED:
            return "failed"
        case Status.QUEUED | Status.SUBMITTING:
            return "in_progress" if job.in_progress_once else "queued"
        case _:
            return "in_progress"


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Wall seconds, None while either end is open."""
    return (end - start).total_seconds() if start and end else None
