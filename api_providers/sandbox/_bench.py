"""What one twin remembers: its tasks and where they stand, its bill, its limits, its faults.

Nothing runs in the background. A task's state is computed from the clock at each look, so a twin costs nothing while
nobody asks, and a test with a clock of its own needs no sleep.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api_providers.sandbox._faults import FATES, FaultKind, FaultQueue

DAY_S = 86_400.0
MINUTE_S = 60.0
QUEUED_PART = 0.1
"""The part of the render time a started task still shows as queued."""
FAILS_AT = 0.5
"""The part of the render time after which a task that fails does so."""
HANGS_AT = 0.4
"""The progress at which a hanging task stands still."""


class Settings(BaseModel):
    """The tunable behaviour of one twin; None means no such limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    render_seconds: float = Field(default=0.4, ge=0, le=86_400)
    per_minute: int | None = Field(default=None, ge=0)
    """Tasks accepted in any 60 s."""
    per_day: int | None = Field(default=None, ge=0)
    """Tasks accepted in any 24 h."""
    concurrency: int = Field(default=2, ge=1)
    """Tasks that run at once; further ones wait inside the provider."""
    price_factor: Decimal = Field(default=Decimal(1), ge=0, le=10_000)
    """All prices are multiplied by this."""
    delay_before: float = Field(default=0, ge=0, le=60)
    """A POST waits a random time up to this many seconds before the twin sees it, as on a slow network."""
    delay_after: float = Field(default=0, ge=0, le=60)
    """The answer to an accepted submit waits likewise."""


class Phase(StrEnum):
    """Where a task stands, in words that fit every provider (the bill shows them)."""

    WAITING = "waiting"
    """Accepted, held back by the concurrency limit."""
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def live(self) -> bool:
        """Whether the task can still change."""
        return self in (Phase.WAITING, Phase.QUEUED, Phase.RUNNING)


class Fate(StrEnum):
    """What an accepted task is going to do."""

    SUCCEED = "succeed"
    FAIL = FaultKind.FAIL_AFTER_ACCEPT
    HANG = FaultKind.HANG
    REFUSE = FaultKind.MODERATION
    """The provider's own filter refuses the content."""
    INVALID = "invalid"
    """The input does not fit the model and the provider only notices when it runs."""
    EXPIRE = "expire"
    """It did not start before the deadline the caller gave."""


@dataclass(frozen=True)
class Clip:
    """What the result looks like."""

    width: int
    height: int
    seconds: float
    prompt: str
    audio: bool = False
    still: bool = False
    """An image instead of a video."""


@dataclass
class Task:
    """One accepted task. `price` is what it costs in full, in USD, with the price factor of that moment."""

    id: str
    model: str
    group: str
    """Tasks of one group share the concurrency limit."""
    price: Decimal
    clip: Clip
    accepted: float
    """Monotonic seconds."""
    accepted_at: datetime
    render_s: float
    fate: Fate = Fate.SUCCEED
    client_ref: str | None = None
    start_within_s: float | None = None
    """Seconds after which a task that has not started is given up."""
    data: dict[str, Any] = field(default_factory=dict)
    started: float | None = None
    stopped: float | None = None
    """When it was cancelled."""
    stopped_in: Phase | None = None
    """The phase in which the cancel found it."""
    deleted: bool = False

    @property
    def ends(self) -> float:
        """When a started task ends, in monotonic seconds; infinity for one that never does."""
        if self.stopped is not None:
            return self.stopped
        if self.started is None or self.fate is Fate.HANG:
            return float("inf")
        if self.fate in (Fate.INVALID, Fate.EXPIRE):
            return self.started
        return self.started + self.render_s * (1.0 if self.fate is Fate.SUCCEED else FAILS_AT)


Charge = Callable[[Task, Phase], Decimal]
"""What the provider charges, in USD, for a task that stands in this phase."""


class Bench:
    """The state of one twin."""

    def __init__(
        self,
        provider: str,
        *,
        defaults: Settings,
        charge: Charge,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`clock` in monotonic seconds and `now` in aware UTC are replaced by tests only."""
        self.provider = provider
        self.defaults = defaults
        self.settings = defaults
        self.faults = FaultQueue()
        self.tasks: dict[str, Task] = {}
        self.uploads: dict[str, bytes | None] = {}
        """Uploaded inputs by their id; None until the bytes have come."""
        self.link_seconds = DAY_S
        """How long a signed result link lives."""
        self._charge = charge
        self.clock = clock
        self.now = now
        self._accepted: deque[float] = deque()
        self._waiting: list[Task] = []
        self._started: list[Task] = []
        """Those whose end may still decide when a waiting task starts."""
        self._unsettled: list[Task] = []
        self._settled = Decimal(0)

    def reset(self) -> None:
        """Forget tasks, bill, uploads, faults and settings."""
        self.settings = self.defaults
        self.faults.clear()
        self.tasks.clear()
        self.uploads.clear()
        self._accepted.clear()
        self._waiting.clear()
        self._started.clear()
        self._unsettled.clear()
        self._settled = Decimal(0)

    def over_limit(self) -> tuple[str, float] | None:
        """Which limit one more task would break (`minute` or `day`), and seconds until there is room."""
        now = self.clock()
        while self._accepted and self._accepted[0] <= now - DAY_S:
            self._accepted.popleft()
        for name, limit, window in (
            ("minute", self.settings.per_minute, MINUTE_S),
            ("day", self.settings.per_day, DAY_S),
        ):
            if limit is None:
                continue
            recent = [moment for moment in self._accepted if moment > now - window]
            if len(recent) >= limit:
                free = recent[len(recent) - limit] + window - now if limit else window
                return name, max(0.0, free)
        return None

    def accepted_today(self) -> int:
        """Tasks accepted in the last 24 hours."""
        return sum(1 for moment in self._accepted if moment > self.clock() - DAY_S)

    def accept(
        self,
        id_: str,
        *,
        model: str,
        group: str,
        price: Decimal,
        clip: Clip,
        fate: Fate | None = None,
        client_ref: str | None = None,
        start_within_s: float | None = None,
        data: dict[str, Any] | None = None,
    ) -> Task:
        """Take a task on: from here on it is on the bill, whatever happens to the connection."""
        if fate is None:
            fault = self.faults.take(*FATES)
            fate = Fate(fault.kind) if fault else Fate.SUCCEED
        task = Task(
            id=id_,
            model=model,
            group=group,
            price=price * self.settings.price_factor,
            clip=clip,
            accepted=self.clock(),
            accepted_at=self.now(),
            render_s=self.settings.render_seconds,
            fate=fate,
            client_ref=client_ref,
            start_within_s=start_within_s,
            data=data or {},
        )
        self._accepted.append(task.accepted)
        self.tasks[id_] = task
        self._waiting.append(task)
        self._unsettled.append(task)
        self._advance()
        return task

    def get(self, id_: str) -> Task | None:
        """The task, unless the caller deleted it or it never was."""
        task = self.tasks.get(id_)
        return None if task is None or task.deleted else task

    def phase(self, task: Task) -> Phase:
        """Where the task stands now."""
        self._advance()
        return self._stands(task)

    def _stands(self, task: Task) -> Phase:
        now = self.clock()
        if task.fate is Fate.EXPIRE:
            return Phase.FAILED
        if task.stopped is not None:
            return Phase.CANCELLED
        if task.started is None:
            return Phase.WAITING
        if now >= task.ends:
            return Phase.SUCCEEDED if task.fate is Fate.SUCCEED else Phase.FAILED
        return Phase.QUEUED if now < task.started + task.render_s * QUEUED_PART else Phase.RUNNING

    def progress(self, task: Task) -> float:
        """Done part of a running task, 0..1."""
        if task.started is None or task.render_s == 0:
            return HANGS_AT if task.fate is Fate.HANG else 0.0
        part = (self.clock() - task.started) / task.render_s
        return round(min(part, HANGS_AT if task.fate is Fate.HANG else 0.99), 4)

    def ahead(self, task: Task) -> int:
        """How many tasks of the same group wait before this one; none before one that has started."""
        self._advance()
        if task.started is not None:
            return 0
        place = 0
        for other in self._waiting:
            if other is task:
                break
            place += other.group == task.group
        return place

    def waiting(self, group: str) -> int:
        """How many tasks of a group wait for a free place."""
        self._advance()
        return sum(1 for task in self._waiting if task.group == group)

    def stop(self, task: Task) -> Phase:
        """Cancel a live task; answers the phase in which the cancel found it."""
        phase = self.phase(task)
        if phase.live:
            task.stopped, task.stopped_in = self.clock(), phase
            if task in self._waiting:
                self._waiting.remove(task)
        return phase

    def charged(self, task: Task) -> Decimal:
        """What the provider charges for the task as it stands now, in USD."""
        return self._charge(task, self.phase(task))

    def spent(self) -> Decimal:
        """The sum of the bill, in USD. What has ended costs the same for ever and is added up once."""
        self._advance()
        live: list[Task] = []
        running = Decimal(0)
        for task in self._unsettled:
            phase = self._stands(task)
            cost = self._charge(task, phase)
            if phase.live:
                live.append(task)
                running += cost
            else:
                self._settled += cost
        self._unsettled = live
        return self._settled + running

    def bill(self) -> list[dict[str, str | None]]:
        """One row for every task accepted since the last reset, in order of acceptance."""
        self._advance()
        return [self._row(task, self._stands(task)) for task in self.tasks.values()]

    def _row(self, task: Task, phase: Phase) -> dict[str, str | None]:
        return {
            "provider": self.provider,
            "task": task.id,
            "accepted_at": task.accepted_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "model": task.model,
            "usd": plain(self._charge(task, phase)),
            "status": phase.value,
            "client_ref": task.client_ref,
        }

    def _advance(self) -> None:
        """Start the waiting tasks whose turn has come, each at the moment its place became free."""
        now = self.clock()
        places = self.settings.concurrency
        still: list[Task] = []
        for task in self._waiting:
            ends = [
                other.ends
                for other in self._started
                if other.group == task.group and other.ends > task.accepted
            ]
            ends.sort(reverse=True)
            start = task.accepted if len(ends) < places else ends[places - 1]
            if task.start_within_s is not None and min(start, now) - task.accepted > task.start_within_s:
                task.fate = Fate.EXPIRE
            elif start <= now:
                task.started = start
                self._started.append(task)
            else:
                still.append(task)
        self._waiting = still
        oldest = min((task.accepted for task in still), default=now)
        self._started = [task for task in self._started if task.ends > oldest]


def plain(usd: Decimal) -> str:
    """A decimal string without exponent or trailing zeros: `0`, `0.25`."""
    text = f"{usd:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
