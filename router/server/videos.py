"""The endpoints below `/v1/videos`: each reads, asks the gateway, and answers; nothing is decided here."""

import asyncio
import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from router.contract.card import Asset
from router.contract.errors import InvalidRequest, NotFound, not_found
from router.contract.job import Job, Status
from router.contract.request import VideoRequest
from router.contract.words import words
from router.gateway import ApiKey, Gateway, Variant
from router.server import answers
from router.server.auth import CALLER
from router.server.errors import ErrorBody, language
from router.server.upload import Kind, read_request

POLL_AFTER_MS = 500
"""What the official SDK's poller is told to wait between two looks."""
_SUFFIX = {
    "video/mp4": ".mp4",
    "image/webp": ".webp",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
}
_SAFE = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
"""Never sniffed, never shown inside another site."""
_KEY_MAX = 255

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The caller must change something"},
    "5XX": {"model": ErrorBody, "description": "This server or a backend could not do it"},
}


class ListQuery(BaseModel):
    """Which jobs to list."""

    model_config = ConfigDict(extra="forbid")

    after: str | None = Field(default=None, min_length=1, max_length=200)
    """Id of the last job of the page before."""
    limit: int = Field(default=20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"
    """By time of creation."""
    project: str | None = None
    state: Status | None = None
    """Our own word for the status."""


class PlanQuery(BaseModel):
    """How many clips like this are wanted."""

    model_config = ConfigDict(extra="forbid")

    count: int | None = None
    """Adds `finishes`: the soonest common end and later ones that cost less."""
    budget_usd: Decimal | None = None
    """The most they may cost together."""


class ContentQuery(BaseModel):
    """Which file of a job."""

    model_config = ConfigDict(extra="forbid")

    variant: Variant | Literal["sketch"] = "video"
    """`preview`: the GIF or WebP that `post` asked for; `original`: the clip before the steps of `post`; `sketch`: a small
    WebP of a running local job's clip as far as it is, gone when the job ends."""
    look: int | None = Field(default=None, ge=0)
    """Of a `sketch`: says nothing here; a page that counts it up is not shown the picture before by its browser."""


def _body_schema() -> dict[str, Any]:
    """The request body for the OpenAPI document; it is read by hand because a form and JSON share it."""
    properties: dict[str, Any] = {
        "seconds": {
            "anyOf": [{"type": "string"}, {"type": "number"}],
            "description": "OpenAI's name of `duration`.",
        },
        "size": {"type": "string", "description": "OpenAI's name of an exact `resolution`, as `1280x720`."},
    }
    reference = {"anyOf": [{"type": "string"}, {"type": "object"}], "description": "The first frame."}
    file = {"type": "string", "format": "binary", "description": "The first frame."}

    def shape(input_reference: dict[str, Any]) -> dict[str, Any]:
        ours = {"$ref": "#/components/schemas/VideoRequest"}
        extra = {"type": "object", "properties": {**properties, "input_reference": input_reference}}
        return {"schema": {"allOf": [ours, extra]}}

    return {
        "required": True,
        "content": {"application/json": shape(reference), "multipart/form-data": shape(file)},
    }


BODY = {"requestBody": _body_schema()}
BINARY: dict[str, Any] = {"content": {"video/mp4": {}, "image/*": {}}, "description": "The file"}


# Read from the request by the endpoints themselves: FastAPI takes longer to solve a dependency than to parse a body.
def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


def _caller(request: Request) -> ApiKey | None:
    caller: ApiKey | None = request.scope.get(CALLER)
    return caller


def _answer(view: BaseModel, *, poll: bool = False) -> Response:
    """The view as JSON; as a finished response, since FastAPI would check again what is checked already."""
    headers = {"openai-poll-after-ms": str(POLL_AFTER_MS)} if poll else None
    return Response(view.model_dump_json(), headers=headers, media_type="application/json")


router = APIRouter(prefix="/v1/videos", responses=ERRORS, tags=["videos"])


@router.post("", openapi_extra=BODY, response_model=answers.VideoObject)
async def create(request: Request, idempotency_key: Annotated[str | None, Header()] = None) -> Response:
    """Start a video. The same `Idempotency-Key` with the same request answers the first job."""
    _check_key(idempotency_key)
    gateway = _gateway(request)

    async def keep(data: bytes | Path, kind: Kind) -> Asset:
        return await gateway.take_upload(data, expect=kind)

    wanted = await read_request(request, max_mb=gateway.settings.server.max_upload_mb, keep=keep)
    job = await gateway.submit(wanted, idempotency_key=idempotency_key, caller=_caller(request))
    return _answer(answers.video_object(job, language(request.scope)), poll=True)


@router.post("/plan", openapi_extra=BODY)
async def plan(request: Request, query: Annotated[PlanQuery, Query()]) -> dict[str, JsonValue]:
    """Where this request would go, for how much; with `count` also by when so many could be done. Nothing is written or spent."""
    if query.count is None and query.budget_usd is not None:
        raise InvalidRequest(
            words(
                "budget_usd is for many clips: give count too",
                "budget_usd は本数(count)と併せて指定してください",
            ),
            param="budget_usd",
        )
    gateway, caller = _gateway(request), _caller(request)
    wanted = await read_request(request, max_mb=gateway.settings.server.max_upload_mb, keep=None)
    decision = await gateway.plan(wanted, caller=caller)
    if query.count is None:
        return answers.plan_object(decision, language(request.scope))
    many = await gateway.finishes(wanted, count=query.count, budget_usd=query.budget_usd, caller=caller)
    return answers.plan_object(decision, language(request.scope), many)


@router.get("", response_model=answers.VideoList)
async def listing(request: Request, query: Annotated[ListQuery, Query()]) -> Response:
    """Jobs, newest first; those of its project for an API key that has one."""
    gateway, caller = _gateway(request), _caller(request)
    if query.after is not None:
        await _known(gateway, query.after, caller)
    page = await gateway.list(
        limit=query.limit,
        after=query.after,
        order=query.order,
        project=caller.within(query.project) if caller else query.project,
        state=query.state.value if query.state else None,
    )
    return _answer(answers.video_list(page, language(request.scope)))


@router.get("/models")
async def models(request: Request) -> answers.Rows:
    """Every model of every backend, also those that cannot run now."""
    lang = language(request.scope)
    return answers.Rows(data=[answers.model_row(row, lang) for row in await _gateway(request).models()])


@router.get("/providers")
async def providers(request: Request) -> answers.Rows:
    """Every backend: whether it has a key, rests, or has a problem."""
    lang = language(request.scope)
    return answers.Rows(data=[answers.provider_row(row, lang) for row in await _gateway(request).providers()])


@router.get("/{video_id}", response_model=answers.VideoObject)
async def retrieve(video_id: str, request: Request) -> Response:
    """One job."""
    job = await _known(_gateway(request), video_id, _caller(request))
    return _answer(answers.video_object(job, language(request.scope)), poll=not job.status.ended)


@router.delete("/{video_id}")
async def delete(video_id: str, request: Request) -> answers.Deleted:
    """Remove a job's clip and inputs; an unfinished job is cancelled first. What it cost stays on the books."""
    gateway = _gateway(request)
    await _known(gateway, video_id, _caller(request))
    await gateway.delete(video_id)
    return answers.Deleted(id=video_id)


@router.post("/{video_id}/cancel")
async def cancel(video_id: str, request: Request) -> answers.VideoObject:
    """Ask to cancel. A provider that cannot cancel goes on, is paid, and its clip is kept."""
    gateway = _gateway(request)
    await _known(gateway, video_id, _caller(request))
    return answers.video_object(await gateway.cancel(video_id), language(request.scope))


@router.get("/{video_id}/events")
async def events(video_id: str, request: Request) -> answers.Rows:
    """The job's history, oldest first."""
    gateway = _gateway(request)
    await _known(gateway, video_id, _caller(request))
    return answers.Rows(data=[answers.event_row(event) for event in await gateway.events(video_id)])


@router.get("/{video_id}/route")
async def route(video_id: str, request: Request) -> dict[str, JsonValue]:
    """Why each attempt went where it went, as it was decided then; what it cost; what changed until the next."""
    gateway = _gateway(request)
    job = await _known(gateway, video_id, _caller(request))
    return answers.route_object(job, await gateway.bookings(video_id), language(request.scope))


@router.head("/{video_id}/content", include_in_schema=False)
@router.get("/{video_id}/content", response_class=Response, responses={200: BINARY})
async def content(video_id: str, request: Request, query: Annotated[ContentQuery, Query()]) -> Response:
    """The clip, its still, its preview or the original; takes Range and If-None-Match. 409 while the job has not finished."""
    gateway = _gateway(request)
    job = await _known(gateway, video_id, _caller(request))
    if query.variant == "sketch":
        named = f'inline; filename="{_file_name(video_id, "sketch", "image/webp")}"'
        headers = {**_SAFE, "Cache-Control": "no-store", "Content-Disposition": named}
        return Response(await gateway.sketch(job), media_type="image/webp", headers=headers)
    path, asset = await gateway.content_of(job, query.variant)
    name = _file_name(video_id, query.variant, asset.mime)
    return await _file(path, asset, name, request.headers)


async def _known(gateway: Gateway, video_id: str, caller: ApiKey | None) -> Job:
    """The job; one of another project does not exist for the caller."""
    job = await gateway.get(video_id)
    if caller is not None and not caller.sees(job):
        raise not_found(video_id)
    if job.deleted:
        raise NotFound(
            words(f"The job {video_id!r} was deleted.", f"ジョブ {video_id!r} は削除されています。"),
            param="id",
        )
    return job


def _check_key(key: str | None) -> None:
    if key is not None and not (0 < len(key) <= _KEY_MAX and key.isprintable()):
        raise InvalidRequest(
            words(
                f"Idempotency-Key must be 1 to {_KEY_MAX} printable characters.",
                f"Idempotency-Key は 1 から {_KEY_MAX} 文字の印字可能な文字列にしてください。",
            ),
            param="Idempotency-Key",
        )


def _file_name(video_id: str, variant: Variant | Literal["sketch"], mime: str) -> str:
    """Files of one job that are saved side by side do not overwrite each other."""
    part = "" if variant == "video" else f"-{variant}"
    return f"{video_id}{part}{_SUFFIX.get(mime, '')}"


async def _file(path: Path, asset: Asset, name: str, asked: Mapping[str, str]) -> Response:
    """A media file under its content hash; never sniffed, never shown inside another site."""
    etag = f'"{asset.id}"'
    headers = {**_SAFE, "ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in {tag.strip().removeprefix("W/") for tag in asked.get("if-none-match", "").split(",")}:
        return Response(status_code=304, headers=headers)
    try:
        found = await asyncio.to_thread(os.stat, path)
    except FileNotFoundError:
        raise NotFound(
            words(
                "The file of this job is no longer in the data folder.",
                "このジョブのファイルはデータフォルダーに残っていません。",
            ),
            param="id",
        ) from None
    return FileResponse(
        path,
        headers=headers,
        media_type=asset.mime,
        stat_result=found,
        filename=name,
        content_disposition_type="inline",
    )


def request_schemas() -> dict[str, Any]:
    """VideoRequest and what it is made of, for the OpenAPI document."""
    schema = VideoRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schema.pop("$defs", {})
    # Only with OpenAI's own names beside ours is the body complete, so unknown keys are refused by the server alone.
    schema.pop("additionalProperties", None)
    return {**parts, "VideoRequest": schema}
