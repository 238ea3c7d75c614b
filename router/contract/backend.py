"""The one interface every backend implements, and the small values that cross it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr

from router.contract.card import Asset, ModelCard, ResolvedRequest
from router.contract.forecast import CalibratedDevice, ClipWish, DeviceWish, Forecast
from router.contract.words import Words


class Operation(BaseModel):
    """The backend's handle on an accepted job: opaque JSON, no secrets, no signed URLs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: str
    """The provider's own task id, as its bill shows it."""
    data: dict[str, JsonValue] = Field(default_factory=dict)
    warnings: tuple[Words, ...] = ()
    estimated_usd: Decimal | None = None
    """The most this task may cost, where the provider says so at submit."""


@dataclass(frozen=True)
class Pending:
    """Not done yet."""

    progress: float | None = None
    """0..1, None where the provider does not tell."""
    poll_after: float | None = None
    """Seconds until the next look makes sense."""
    queued: bool = False
    """Accepted but waiting in the provider's own queue."""
    ahead: int | None = None
    """How many tasks wait before it there; None where the provider does not tell."""
    sketch: Path | None = None
    """A small WebP of the clip as far as it has been made, replaced by newer ones; gone when the task ends."""


@dataclass(frozen=True)
class Output:
    """One result: a URL (maybe signed, maybe short-lived) or a file of ours."""

    url: str | None = None
    path: Path | None = None
    mime: str = "video/mp4"


@dataclass(frozen=True)
class Completed:
    """Done; fetch the outputs at once, links expire."""

    outputs: tuple[Output, ...]
    billed_usd: Decimal | None = None
    """What the provider says it charged; None where it does not say."""
    details: dict[str, JsonValue] = field(default_factory=dict)
    """Facts worth keeping with the clip (the seed the provider used, model version)."""


class MediaReader(Protocol):
    """Read access to the media store, all a backend gets of it."""

    def path(self, asset: Asset) -> Path:
        """The file itself; never written to."""
        ...


@dataclass(frozen=True)
class BackendConfig:
    """What a backend is made from. One per `[provider]` table."""

    name: str
    cards: Mapping[str, ModelCard]
    media: MediaReader
    scratch: Path
    """A folder for temporary files of this backend."""
    base_url: str | None = None
    """Overrides the provider's own, for a second account, a self-hosted server or the sandbox twin."""
    key: SecretStr | None = None
    extra_keys: Mapping[str, SecretStr] = field(default_factory=dict)
    """Further secrets by the name of their variable (a key pair's second half)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the `[provider]` table."""
    credit_usd: Decimal | None = None
    sandbox: bool = False
    """True while a sandbox twin stands in: loopback result links are allowed."""


@runtime_checkable
class Backend(Protocol):
    """Turns a request into a video. Raises GatewayError and nothing else on purpose."""

    name: str

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Start and return at once. `key` is our attempt id, sent where the provider has a place for it."""
        ...

    async def poll(self, operation: Operation) -> Pending | Completed:
        """Look once. Raises how the job ended, or that the look failed."""
        ...

    async def fetch(self, output: Output, to: Path) -> None:
        """Write the result to `to` (a new file). Raises LinkExpired, StorageFull, Unavailable, OutputInvalid."""
        ...

    async def cancel(self, operation: Operation) -> bool:
        """Ask to cancel; True when the provider agreed. `poll` then tells how it ended and what it cost."""
        ...

    async def aclose(self) -> None:
        """Release connections and children."""
        ...


@runtime_checkable
class Finds(Protocol):
    """A backend that can look for a job whose answer was lost."""

    async def find(self, request: ResolvedRequest, *, key: str, since: datetime) -> Operation | None:
        """The operation that was accepted for this request and `key` at or after `since`, if there is one."""
        ...


@runtime_checkable
class Checks(Protocol):
    """A backend that has a cheap harmless authenticated call."""

    async def check(self) -> Mapping[str, JsonValue]:
        """Facts about the account: `balance_usd` and whatever else the provider tells. Raises GatewayError."""
        ...


@runtime_checkable
class Describes(Protocol):
    """A backend that can read at run time what a model it serves takes."""

    async def describe(self, wire_id: str) -> Mapping[str, JsonValue]:
        """A `[[model]]` row without prices for the model of that name. Raises GatewayError; NotFound where there is none."""
        ...


@runtime_checkable
class Inspects(Protocol):
    """A backend whose models run from folders of weights."""

    async def inspect(self, card: ModelCard, folder: Path) -> Words | None:
        """What keeps that folder from being loaded as this model, None when nothing does. Reads headers, loads nothing."""
        ...


@runtime_checkable
class Plans(Protocol):
    """A backend that can say beforehand how its models would run on a device, and measure how they do."""

    async def plan_load(self, model: str, clip: ClipWish, device: DeviceWish) -> Forecast:
        """How this model would be loaded for such a clip. Raises GatewayError; a device that is too small is no error."""
        ...

    async def fit_cards(self, device: DeviceWish) -> tuple[Forecast, ...]:
        """Every model at its defaults on each usual memory size; of `device` only `ram_gb` and `capability` count."""
        ...

    async def typical_seconds(self) -> Mapping[str, float]:
        """Seconds of a default clip by model, where they were measured on this device; raises nothing."""
        ...

    async def calibrate(self, models: Sequence[str], told: Callable[[Words], None]) -> CalibratedDevice:
        """Make trial clips (of every model that is here, or of those named) and keep what they took. `told` hears of each
        clip, and of each model that cannot be measured."""
        ...


CommitSending = Callable[[], Awaitable[None]]
commit_sending: ContextVar[CommitSending | None] = ContextVar("commit_sending", default=None)
"""Set by the engine around `submit`; awaited by the backend as the last thing before the call that spends."""


told_to_pause: ContextVar[Callable[[float], None] | None] = ContextVar("told_to_pause", default=None)
"""Set by the engine around `submit`: a good answer may say that the next start must wait for so many seconds."""


async def about_to_spend() -> None:
    """Await the engine's commit of `sending`. Called once, right before the call that buys."""
    commit = commit_sending.get()
    if commit is not None:
        await commit()
