"""Composition root and facade: the one thing the doors know."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from router.contract.card import Asset, ModelCard
from router.contract.job import Decision, Event, Job
from router.contract.request import VideoRequest
from router.contract.words import Words
from router.settings import Settings


class EngineRole(StrEnum):
    """What this process does besides reading and writing jobs."""

    NONE = "none"
    """Read, write, watch; never carries a job (`jobs`, `cancel`, `spend`, ...)."""
    HELP = "help"
    """`generate`: watch a live engine, or be it until the own job has ended."""
    SERVE = "serve"
    """`serve`: take the lock (waiting for a CLI that holds it), recover, run until closed."""


@dataclass(frozen=True)
class Page:
    """One page of jobs, newest first unless asked otherwise."""

    jobs: tuple[Job, ...]
    has_more: bool


@dataclass(frozen=True)
class ModelRow:
    """One model as the lists show it."""

    card: ModelCard
    available: bool
    why_not: Words | None
    """Missing key, broken import, weights absent, ...; None when available."""
    usd_example: Decimal | None
    """Price of a clip with the model's defaults."""
    price_as_of: str | None
    price_stale: bool


@dataclass(frozen=True)
class ProviderRow:
    """One backend as the lists show it. `as_json()` gives plain values, money as text."""

    name: str
    title: str
    where: str
    key_env: tuple[str, ...]
    key_present: bool
    models: int
    problem: Words | None
    resting_until: str | None
    """ISO time until which it rests (Retry-After, open breaker, bad key), or None."""
    resting_why: Words | None
    in_flight: int
    price_as_of: str | None
    price_stale: bool


@dataclass(frozen=True)
class SpendRow:
    """Money of one day, project and backend."""

    day: str
    project: str | None
    backend: str
    model: str
    settled_usd: Decimal
    reserved_usd: Decimal
    attempts: int
    overrun_usd: Decimal
    """Billed above the reservation (the price table was too low)."""


@dataclass(frozen=True)
class SpendReport:
    """What was and may still be spent, with the budgets beside it."""

    rows: tuple[SpendRow, ...]
    day: str
    timezone: str
    day_spent_usd: Decimal
    """Settled + reserved today."""
    day_budget_usd: Decimal | None
    month_spent_usd: Decimal
    month_budget_usd: Decimal | None
    unresolved: tuple[str, ...]
    """Job ids that wait for `understudy settle`."""


class Gateway:
    """Open one per process: `async with Gateway.open(settings, role) as gateway`."""

    settings: Settings

    @classmethod
    def open(cls, settings: Settings, role: EngineRole = EngineRole.NONE) -> Self:
        """Nothing happens before `async with`; raises ServerTrouble there when this installation cannot work."""
        raise ServerTroubleStub

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None: ...

    # -- admission
    async def submit(self, request: VideoRequest, *, idempotency_key: str | None = None) -> Job:
        """Check, take in the inputs, write the job. Raises InvalidRequest, UnsupportedRequest, BudgetExceeded, ...

        The same idempotency key with the same request answers the first job; with another request: Conflict.
        """

    async def plan(self, request: VideoRequest) -> Decision:
        """The same decision without writing anything: the price preview."""

    async def take_upload(self, data: bytes | Path, *, expect: Literal["image", "video", "audio"] = "image") -> Asset:
        """Check an uploaded file and keep it; refer to it as `asset:<id>`. Raises InvalidRequest."""

    # -- reading
    async def get(self, job_id: str) -> Job: ...
    async def list(self, *, limit: int = 20, after: str | None = None, order: Literal["asc", "desc"] = "desc",
                   project: str | None = None, state: str | None = None) -> Page: ...
    async def events(self, job_id: str) -> tuple[Event, ...]: ...
    async def content(self, job_id: str, variant: Literal["video", "thumbnail"] = "video") -> tuple[Path, Asset]:
        """The file of a finished job. Raises NotFound, or Conflict while it is not there yet."""

    async def models(self) -> tuple[ModelRow, ...]: ...
    async def providers(self) -> tuple[ProviderRow, ...]: ...
    async def spend(self) -> SpendReport: ...

    # -- changing
    async def cancel(self, job_id: str) -> Job: ...
    async def delete(self, job_id: str) -> None:
        """Cancel if unfinished, remove its media; the ledger stays."""

    async def settle(self, job_id: str, billed_usd: Decimal) -> Job:
        """Close an unresolved job with what the provider's own bill says; 0 releases the reservation."""

    # -- waiting
    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """Yield the job at once and at every change until it has ended.

        With role HELP this also drives the engine whenever no other process does.
        """
        yield  # type: ignore

    async def backup(self, file: Path, *, media: bool = False) -> dict[str, Any]: ...
    @classmethod
    async def restore(cls, settings: Settings, file: Path) -> dict[str, Any]: ...
