"""What this door answers: OpenAI's video object with our fields added, lists, routes, plans; pure."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, JsonValue, PlainSerializer

from router.contract.job import Attempt, Decision, Event, Job, JobError, Status, public_status
from router.contract.words import Lang, words
from router.gateway import Booking, Finish, ModelRow, Page, ProviderRow
from router.result import decision_row, finish_row, money, route_rows

Usd = Annotated[Decimal, PlainSerializer(money, return_type=str)]
"""US dollars, a plain decimal string in JSON."""


class Failure(BaseModel):
    """Why a job or an attempt ended badly."""

    code: str
    message: str


class AttemptView(BaseModel):
    """One try on one backend."""

    n: int
    backend: str
    model: str
    status: str
    reason: str
    estimate_usd: Usd | None
    billed_usd: Usd | None
    error: Failure | None


class VideoObject(BaseModel):
    """OpenAI's video object; the fields from `state` on are ours."""

    id: str
    object: Literal["video"] = "video"
    created_at: int
    """Unix seconds, as all times of OpenAI's part."""
    completed_at: int | None
    expires_at: int | None = None
    """Always null: clips stay until they are deleted."""
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int
    """Percent; never falls, and reads 100 only when the clip is there."""
    model: str
    """The model that ran or runs; before that the one asked for, or `any`."""
    prompt: str
    seconds: str
    """Length of the clip as text; empty while neither the caller nor a model has decided it."""
    size: str
    """`WIDTHxHEIGHT`; empty while not known."""
    quality: str | None
    error: Failure | None
    remixed_from_video_id: str | None = None
    state: str
    """Our own word for the status: also submitting, fetching, cancelled, unresolved."""
    backend: str | None
    reason: str | None
    """Why it runs or ran there, or what it waits for."""
    estimate_usd: Usd | None
    reserved_usd: Usd
    billed_usd: Usd
    attempts: list[AttemptView]
    warnings: list[str]
    seed: int
    project: str | None
    tags: list[str]
    cancel_requested: bool
    content_url: str | None
    """Path of the clip on this server, once there is one."""


class VideoList(BaseModel):
    """One page of jobs."""

    object: Literal["list"] = "list"
    data: list[VideoObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    """The answer to a delete."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class Rows(BaseModel):
    """A whole list, not paged."""

    object: Literal["list"] = "list"
    data: list[dict[str, JsonValue]]


def video_object(job: Job, lang: Lang) -> VideoObject:
    """The job as this wire shows it."""
    done = job.status is Status.COMPLETED
    quality = job.attempts[-1].resolved.quality if job.attempts else job.request.quality
    status: Any = public_status(job)
    return VideoObject(
        id=job.id,
        created_at=_unix(job.created_at),
        completed_at=_unix(job.ended_at) if done and job.ended_at else None,
        status=status,
        progress=100 if done else max(0, min(99, int(job.progress * 100))),
        model=job.model or job.request.model or "any",
        prompt=job.request.prompt,
        seconds=_seconds(job),
        size=_size(job),
        quality=quality.value if quality else None,
        error=_failure(job, lang),
        state=job.status.value,
        backend=job.backend,
        reason=job.reason.in_(lang) if job.reason else None,
        estimate_usd=job.estimate_usd,
        reserved_usd=job.reserved_usd,
        billed_usd=job.billed_usd,
        attempts=[_attempt(attempt, lang) for attempt in job.attempts],
        warnings=[warning.in_(lang) for warning in job.warnings],
        seed=job.seed,
        project=job.request.project,
        tags=list(job.request.tags),
        cancel_requested=job.cancel_requested,
        content_url=f"/v1/videos/{job.id}/content" if done and job.output else None,
    )


def video_list(page: Page, lang: Lang) -> VideoList:
    """One page in the shape OpenAI's pager walks."""
    data = [video_object(job, lang) for job in page.jobs]
    return VideoList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


def plan_object(
    decision: Decision, lang: Lang, finishes: Sequence[Finish] | None = None
) -> dict[str, JsonValue]:
    """Where a request would go, and why nowhere else; by when many could be done."""
    row: dict[str, JsonValue] = decision_row(decision, lang)
    return row if finishes is None else {**row, "finishes": [finish_row(finish) for finish in finishes]}


def route_object(job: Job, bookings: Sequence[Booking], lang: Lang) -> dict[str, JsonValue]:
    """The routing decision of every attempt as it was stored, its money, and what changed until the next."""
    rows = route_rows(job, bookings, lang)
    attempts: list[JsonValue] = [
        {**_attempt(attempt, lang).model_dump(mode="json"), **row}
        for attempt, row in zip(job.attempts, rows, strict=True)
    ]
    return {
        "id": job.id,
        "object": "video.route",
        "state": job.status.value,
        "backend": job.backend,
        "model": job.model,
        "reason": job.reason.in_(lang) if job.reason else None,
        "attempts": attempts,
    }


def event_row(event: Event) -> dict[str, JsonValue]:
    """One line of a job's history."""
    return {
        "seq": event.seq,
        "attempt": event.attempt,
        "at": _iso(event.at),
        "kind": event.kind,
        "data": event.data,
    }


def model_row(row: ModelRow, lang: Lang) -> dict[str, JsonValue]:
    """One model: what it can do, what a clip costs, and why it is out where it is."""
    card = row.card
    view: dict[str, JsonValue] = card.model_dump(
        mode="json",
        include={
            "id",
            "backend",
            "family",
            "title",
            "where",
            "tasks",
            "durations",
            "duration_range",
            "resolutions",
        }
        | {
            "aspect_ratios",
            "fps",
            "last_frame",
            "audio",
            "camera",
            "negative_prompt",
            "seed",
            "qualities",
            "effects",
        },
    )
    return {
        "object": "model",
        **view,
        "available": row.available,
        "why_not": row.why_not.in_(lang) if row.why_not else None,
        "usd_example": money(row.usd_example),
        "price_as_of": row.price_as_of,
        "price_stale": row.price_stale,
    }


def provider_row(row: ProviderRow, lang: Lang) -> dict[str, JsonValue]:
    """One backend; names of key variables, never keys."""
    return {
        "object": "provider",
        "name": row.name,
        "title": row.title,
        "where": row.where,
        "key_env": list(row.key_env),
        "key_present": row.key_present,
        "models": row.models,
        "problem": row.problem.in_(lang) if row.problem else None,
        "resting_until": row.resting_until,
        "resting_why": row.resting_why.in_(lang) if row.resting_why else None,
        "in_flight": row.in_flight,
        "price_as_of": row.price_as_of,
        "price_stale": row.price_stale,
    }


def _attempt(attempt: Attempt, lang: Lang) -> AttemptView:
    return AttemptView(
        n=attempt.n,
        backend=attempt.backend,
        model=attempt.model,
        status=attempt.status.value,
        reason=attempt.reason.in_(lang),
        estimate_usd=attempt.estimate_usd,
        billed_usd=attempt.billed_usd,
        error=_told(attempt.error, lang) if attempt.error else None,
    )


def _told(error: JobError, lang: Lang) -> Failure:
    text = error.message.in_(lang)
    return Failure(code=error.code, message=f"{error.backend}: {text}" if error.backend else text)


def _failure(job: Job, lang: Lang) -> Failure | None:
    """Only a job that reads `failed` has an error; an unresolved one is still open, its `reason` tells."""
    if job.status is Status.CANCELLED:
        text = (
            job.error.message
            if job.error
            else words("The job was cancelled.", "ジョブはキャンセルされました。")
        )
        return Failure(code="cancelled", message=text.in_(lang))
    if job.status is not Status.FAILED:
        return None
    if job.error is None:
        text = words("The job failed.", "ジョブは失敗しました。")
        return Failure(code="generation_failed", message=text.in_(lang))
    return _told(job.error, lang)


def _seconds(job: Job) -> str:
    length = job.output.duration_s if job.output else None
    if length is None:
        length = job.attempts[-1].resolved.duration if job.attempts else job.request.duration
    return f"{length:.3f}".rstrip("0").rstrip(".") if length is not None else ""


def _size(job: Job) -> str:
    if job.output and job.output.width and job.output.height:
        return f"{job.output.width}x{job.output.height}"
    resolved = job.attempts[-1].resolved if job.attempts else None
    if resolved and resolved.width and resolved.height:
        return f"{resolved.width}x{resolved.height}"
    asked = job.request.resolution or ""
    return asked if "x" in asked else ""


def _unix(at: datetime) -> int:
    return int(at.timestamp())


def _iso(at: datetime) -> str:
    return at.isoformat()
