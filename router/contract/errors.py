"""Everything that can go wrong, and what to do next.

GatewayError                code, http_status, next_step, retry_after, backend, param
+- InvalidRequest           400  STOP       the caller must change something
|  +- UnsupportedRequest    400  STOP       lists every field that does not fit, and what would
|  +- ContentRejected       400  STOP       refused by a safety filter; not shopped around
+- Unauthorized/Forbidden   401 / 403
+- BudgetExceeded           402  STOP       our own cap
+- NotFound / Conflict / Cancelled     404 / 409 / 409
+- ServerTrouble            500/503/507     this installation: disk, folder, settings, weights
+- BackendError             502  REROUTE    this backend did not do it; another might
   +- AuthenticationFailed  502  REROUTE    backend out until its key changes
   +- QuotaExhausted        502  REROUTE    credit used up; backend out until reset or top-up
   +- RateLimited           429  WAIT       obey retry_after, else reroute if another is free
   +- Unavailable           503  WAIT       not accepted: safe to send again, then reroute
   +- GenerationFailed      502  REROUTE    accepted, failed, not about content
   +- OutOfMemory           507  REROUTE    local: smaller plan first, then elsewhere
   +- OperationLost         502  REROUTE    they no longer know the handle
   +- OutputInvalid         502  REROUTE    delivered, but what came is no playable video
   +- UnexpectedResponse    502  WAIT       their API changed; look again
   +- Timeout               504  RECONCILE  accepted, not done by our deadline
   +- OutcomeUnknown        502  RECONCILE  sent, no answer: may run, may be billed. Never sent again by itself

Before acceptance the engine follows `next_step`. After it only the errors in `ENDS_ACCEPTED` end an attempt.
"""

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from router.contract.words import Lang, Words, same, words


class NextStep(StrEnum):
    """What the engine does after an error that came before acceptance."""

    STOP = "stop"
    WAIT = "wait"
    REROUTE = "reroute"
    RECONCILE = "reconcile"


class Misfit(BaseModel):
    """One field of a request that one model cannot honour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    reason: Words
    droppable: bool = False
    """True where leaving the field out still makes a clip the caller may accept (`preferences.allow_drop`)."""


class GatewayError(Exception):
    """Base of every error that Understudy raises on purpose; `message` is for the person who must act."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    next_step: ClassVar[NextStep] = NextStep.STOP

    def __init__(
        self,
        message: Words | str,
        *,
        backend: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        billed_usd: Decimal | None = None,
        detail: str | None = None,
    ) -> None:
        """`retry_after` in seconds; `billed_usd` what the provider says it charged, None where it does not say.

        `detail` is provider text for the log and the event, already stripped of keys and signed URLs.
        """
        self.message = same(message) if isinstance(message, str) else message
        self.backend = backend
        self.param = param
        self.retry_after = retry_after
        self.billed_usd = billed_usd
        self.detail = detail
        super().__init__(self.message.en)

    def text(self, lang: Lang = "en") -> str:
        """The message in the reader's language, with the backend's name in front."""
        body = self.message.in_(lang)
        return f"{self.backend}: {body}" if self.backend else body


class InvalidRequest(GatewayError):
    """The caller must change something."""

    code = "invalid_request"
    http_status = 400


class UnsupportedRequest(InvalidRequest):
    """No backend, or not the one that was named, can honour these fields."""

    code = "unsupported_request"

    def __init__(
        self, message: Words | str, *, misfits: Sequence[Misfit] = (), param: str | None = None
    ) -> None:
        """Every misfit at once, so that the caller repairs the request in one go."""
        super().__init__(message, param=param or (misfits[0].field if misfits else None))
        self.misfits = tuple(misfits)


class ContentRejected(InvalidRequest):
    """A safety filter refused the prompt, an input or the result."""

    code = "content_rejected"


class Unauthorized(GatewayError):
    """Our own door wants a key."""

    code = "unauthorized"
    http_status = 401


class Forbidden(GatewayError):
    """Our own door refuses this caller (a foreign Host or Origin, another project)."""

    code = "forbidden"
    http_status = 403


class BudgetExceeded(GatewayError):
    """Our own cap, or the caller's."""

    code = "budget_exceeded"
    http_status = 402


class NotFound(GatewayError):
    """No such job, model, backend or clip."""

    code = "not_found"
    http_status = 404


class Conflict(GatewayError):
    """The job's state does not allow this, or an idempotency key is reused for another request."""

    code = "conflict"
    http_status = 409


class Cancelled(GatewayError):
    """The job was cancelled."""

    code = "cancelled"
    http_status = 409


class ServerTrouble(GatewayError):
    """This installation cannot work: folder, settings, port, database."""

    code = "server_trouble"
    http_status = 500


class StorageFull(ServerTrouble):
    """The disk is full; what was paid for waits and is fetched when there is room."""

    code = "storage_full"
    http_status = 507


class BackendError(GatewayError):
    """This backend did not do it; another might."""

    code = "backend_error"
    http_status = 502
    next_step = NextStep.REROUTE


class AuthenticationFailed(BackendError):
    """The provider refuses our key; the backend is out until the key changes."""

    code = "authentication_failed"


class QuotaExhausted(BackendError):
    """Credit used up; the backend is out until reset or top-up."""

    code = "quota_exhausted"


class RateLimited(BackendError):
    """Too many requests; `retry_after` is a time for that offer."""

    code = "rate_limited"
    http_status = 429
    next_step = NextStep.WAIT


class Unavailable(BackendError):
    """Provably not accepted (connect error, 500, 503): safe to send again."""

    code = "unavailable"
    http_status = 503
    next_step = NextStep.WAIT


class GenerationFailed(BackendError):
    """Accepted, then failed, and not about content."""

    code = "generation_failed"


class OutOfMemory(BackendError):
    """The local device has too little memory for this plan."""

    code = "out_of_memory"
    http_status = 507


class OperationLost(BackendError):
    """The backend no longer knows the handle."""

    code = "operation_lost"


class OutputInvalid(BackendError):
    """The backend delivered something that is no playable video."""

    code = "output_invalid"


class UnexpectedResponse(BackendError):
    """An answer that the provider's documentation does not allow."""

    code = "unexpected_response"
    next_step = NextStep.WAIT


class LinkExpired(BackendError):
    """The result link is dead; `poll` gives a fresh one where the provider has one."""

    code = "link_expired"
    next_step = NextStep.WAIT


class Timeout(BackendError):
    """Accepted and not done within the model's longest time."""

    code = "timeout"
    http_status = 504
    next_step = NextStep.RECONCILE


class OutcomeUnknown(BackendError):
    """The call that spends was sent and no answer came: it may run, it may be billed."""

    code = "outcome_unknown"
    next_step = NextStep.RECONCILE


ENDS_ACCEPTED: tuple[type[GatewayError], ...] = (
    ContentRejected,
    GenerationFailed,
    OutOfMemory,
    OperationLost,
    OutputInvalid,
)
"""After acceptance only these end an attempt; anything else means "look again later"."""


def not_found(job: str) -> NotFound:
    """The one message for an unknown job id."""
    return NotFound(words(f"There is no job {job!r}.", f"ジョブ {job!r} は見つかりません。"), param="id")
