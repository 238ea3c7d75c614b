"""The twin of a server with OpenAI's /v1/videos: OpenAI's own as it was until 2026-09-24, and an own server's models.

`sora-2` and `sora-2-pro` are checked and priced as OpenAI did. A model with a slash in its name (`org/model`) is one
of a self-hosted server: any size, whole seconds up to 60, the usual extra fields, no bill.
"""

import re
import secrets
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Clip, Fate, Phase, Settings, Task
from api_providers.sandbox._faults import FaultKind

NAME = "openai"
DEFAULTS = Settings(concurrency=2)
ASSETS_LIVE_S = 3600.0
"""About an hour after completion (third party)."""
PRICES = {
    ("sora-2", "720x1280"): Decimal("0.10"),
    ("sora-2", "1280x720"): Decimal("0.10"),
    ("sora-2-pro", "720x1280"): Decimal("0.30"),
    ("sora-2-pro", "1280x720"): Decimal("0.30"),
    ("sora-2-pro", "1024x1792"): Decimal("0.50"),
    ("sora-2-pro", "1792x1024"): Decimal("0.50"),
}
"""USD per second at the end of life."""
SECONDS = ("4", "8", "12")
FIELDS = frozenset({"prompt", "model", "seconds", "size", "input_reference"})
IMAGES = frozenset({"image/jpeg", "image/png", "image/webp"})
FAILURES = {
    Fate.FAIL: ("video_generation_failed", "The video could not be generated."),
    Fate.REFUSE: ("moderation_blocked", "Your request was blocked by our moderation system."),
}
PAGE_MAX = 100


class _Refused(Exception):
    """An answer that is no 2xx, in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Wanted(NamedTuple):
    """A create that is in order."""

    prompt: str
    model: str
    seconds: int
    size: str
    price: Decimal


def charge(task: Task, phase: Phase) -> Decimal:
    """Per second of video that was made; a failed one is free (unverified), an abandoned one is not."""
    return Decimal(0) if phase is Phase.FAILED else task.price


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    bench.link_seconds = ASSETS_LIVE_S
    twin = _OpenAI(bench)
    return Starlette(
        routes=[
            Route("/v1/videos", twin.create, methods=["POST"]),
            Route("/v1/videos", twin.listing, methods=["GET"]),
            Route("/v1/videos/{id}", twin.retrieve, methods=["GET"]),
            Route("/v1/videos/{id}", twin.delete, methods=["DELETE"]),
            Route("/v1/videos/{id}/content", twin.content, methods=["GET"]),
        ],
        exception_handlers={_Refused: _refused},
    )


class _OpenAI:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def create(self, request: Request) -> Response:
        _authorize(request)
        refused = _desk.refusal(self.bench)
        if refused:
            return _limited(refused)
        wanted = _wanted(*await _body(request))
        over = _desk.limit(self.bench)
        if over:
            return _limited(over)
        width, _, height = wanted.size.partition("x")
        hosted = "/" not in wanted.model
        task = self.bench.accept(
            f"video_{secrets.token_hex(24)}",
            model=wanted.model,
            group=NAME,
            price=wanted.price * wanted.seconds,
            clip=Clip(int(width), int(height), wanted.seconds, wanted.prompt, audio=hosted),
            client_ref=request.headers.get("idempotency-key"),
            data={"size": wanted.size, "seconds": str(wanted.seconds)},
        )
        return await _desk.answer(self.bench, task, lambda accepted: JSONResponse(self._view(accepted)))

    async def listing(self, request: Request) -> Response:
        _authorize(request)
        limit = request.query_params.get("limit", "20")
        if not limit.isdecimal() or not 1 <= int(limit) <= PAGE_MAX:
            raise _Refused(400, "limit must be from 1 to 100.", "invalid_value", "limit")
        tasks = [task for task in self.bench.tasks.values() if not task.deleted]
        if request.query_params.get("order", "desc") != "asc":
            tasks.reverse()
        after = request.query_params.get("after")
        if after is not None:
            ids = [task.id for task in tasks]
            tasks = tasks[ids.index(after) + 1 :] if after in ids else []
        page = [self._view(task) for task in tasks[: int(limit)]]
        ends = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        more = len(tasks) > int(limit)
        return JSONResponse(
            {"object": "list", "data": page, "first_id": ends[0], "last_id": ends[1], "has_more": more}
        )

    async def retrieve(self, request: Request) -> Response:
        _authorize(request)
        return JSONResponse(self._view(self._find(request)))

    async def delete(self, request: Request) -> Response:
        """OpenAI offered it for finished videos; an own server ends a running one (vLLM-Omni's documentation)."""
        _authorize(request)
        task = self._find(request)
        if self.bench.phase(task).live:
            if "/" not in task.model:
                raise _Refused(400, "The video is still being generated.", "video_not_ready")
            self.bench.stop(task)
        task.deleted = True
        return JSONResponse({"id": task.id, "object": "video.deleted", "deleted": True})

    async def content(self, request: Request) -> Response:
        _authorize(request)
        task = self._find(request)
        if self.bench.phase(task) is not Phase.SUCCEEDED:
            raise _Refused(404, "The video is not ready.", "video_not_ready")
        if request.query_params.get("variant", "video") != "video":
            raise _Refused(404, "The sandbox has only the video.", "not_found", "variant")
        if self.bench.clock() > task.ends + self.bench.link_seconds:
            raise _Refused(404, "The assets of this video have expired.", "not_found")
        return await _desk.clip(self.bench, request, task)

    def _find(self, request: Request) -> Task:
        task = self.bench.get(request.path_params["id"])
        if task is None:
            raise _Refused(
                404, f"Video with id '{request.path_params['id']}' not found.", "not_found", "video_id"
            )
        return task

    def _view(self, task: Task) -> dict[str, Any]:
        phase = self.bench.phase(task)
        status = {
            Phase.WAITING: "queued",
            Phase.QUEUED: "queued",
            Phase.RUNNING: "in_progress",
            Phase.SUCCEEDED: "completed",
            Phase.FAILED: "failed",
            Phase.CANCELLED: "cancelled",
        }[phase]
        done = expires = None
        if phase is Phase.SUCCEEDED:
            ended = task.accepted_at + timedelta(seconds=task.ends - task.accepted)
            done, expires = int(ended.timestamp()), int(ended.timestamp() + self.bench.link_seconds)
        failure = FAILURES.get(task.fate) if phase is Phase.FAILED else None
        progress = 100 if phase is Phase.SUCCEEDED else 0
        if phase is Phase.RUNNING:
            progress = int(self.bench.progress(task) * 100)
        return {
            "id": task.id,
            "object": "video",
            "created_at": int(task.accepted_at.timestamp()),
            "status": status,
            "model": task.model,
            "progress": progress,
            "prompt": task.clip.prompt,
            "seconds": task.data["seconds"],
            "size": task.data["size"],
            "completed_at": done,
            "expires_at": expires,
            "error": {"code": failure[0], "message": failure[1]} if failure else None,
            "remixed_from_video_id": None,
        }


async def _body(request: Request) -> tuple[dict[str, Any], tuple[str, bytes] | None]:
    """Fields and the picture (its MIME type and bytes) of a form; JSON is taken too, without a file."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form() as form:
            return _fields(form), await _picture(form)
    body = await _desk.json_object(request, lambda said: _Refused(400, said, "invalid_json"))
    reference = body.get("input_reference")
    if reference is not None and not (isinstance(reference, dict) and len(reference) == 1):
        raise _Refused(400, "Send the file as multipart/form-data.", "invalid_value", "input_reference")
    return body, None


def _fields(form: FormData) -> dict[str, Any]:
    return {name.partition("[")[0]: value for name, value in form.multi_items() if isinstance(value, str)}


async def _picture(form: FormData) -> tuple[str, bytes] | None:
    file = form.get("input_reference")
    if not isinstance(file, UploadFile):
        return None
    if not file.filename or file.content_type not in IMAGES:
        raise _Refused(
            400,
            "Invalid input_reference: expected a file of image/jpeg, image/png or image/webp.",
            "unsupported_file",
            "input_reference",
        )
    return file.content_type, await file.read()


def _wanted(body: dict[str, Any], picture: tuple[str, bytes] | None) -> _Wanted:
    prompt, model = body.get("prompt"), body.get("model", "sora-2")
    if not isinstance(prompt, str) or not prompt:
        raise _Refused(400, "Missing required parameter: 'prompt'.", "missing_required_parameter", "prompt")
    if not isinstance(model, str) or not ("/" in model or any(model == known for known, _ in PRICES)):
        raise _Refused(404, f"The model '{model}' does not exist.", "model_not_found", "model")
    if picture is not None and not picture[1]:
        raise _Refused(400, "The file is empty.", "invalid_value", "input_reference")
    seconds, size = str(body.get("seconds", "4")), str(body.get("size", "720x1280"))
    if "/" in model:
        return _own(prompt, model, seconds, size)
    for name in sorted(set(body) - FIELDS):
        raise _Refused(400, f"Unknown parameter: '{name}'.", "unknown_parameter", name)
    if seconds not in SECONDS:
        raise _Refused(
            400,
            f"Invalid value: '{seconds}'. Supported values are: '4', '8', and '12'.",
            "invalid_value",
            "seconds",
        )
    price = PRICES.get((model, size))
    if price is None:
        known = ", ".join(f"'{one}'" for name, one in PRICES if name == model)
        raise _Refused(
            400, f"Invalid value: '{size}'. Supported values are: {known}.", "invalid_value", "size"
        )
    return _Wanted(prompt, model, int(seconds), size, price)


def _own(prompt: str, model: str, seconds: str, size: str) -> _Wanted:
    """vLLM-Omni's rules: `seconds` a whole number, `size` WIDTHxHEIGHT; fields it does not know are left alone."""
    if not re.fullmatch(r"[1-9]\d?", seconds) or int(seconds) > 60:
        raise _Refused(400, "seconds must match ^[1-9]\\d*$", "invalid_value", "seconds")
    if not re.fullmatch(r"[1-9]\d{1,3}x[1-9]\d{1,3}", size):
        raise _Refused(400, "size must match ^\\d+x\\d+$", "invalid_value", "size")
    return _Wanted(prompt, model, int(seconds), size, Decimal(0))


def _authorize(request: Request) -> None:
    if _desk.bearer(request) is None:
        raise _Refused(401, "Incorrect API key provided.", "invalid_api_key")


def _limited(refusal: _desk.Refusal) -> Response:
    status, message, kind, code = {
        FaultKind.AUTH: (401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
        FaultKind.NO_CREDIT: (
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
        FaultKind.SERVER_ERROR: (500, "The server had an error.", "server_error", "server_error"),
        FaultKind.UNAVAILABLE: (503, "The engine is currently overloaded.", "server_error", "overloaded"),
        FaultKind.RATE_LIMIT: (429, "Rate limit reached.", "requests", "rate_limit_exceeded"),
    }[refusal.kind]
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return JSONResponse(body, status, headers=_desk.retry_headers(refusal))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, _Refused)
    return JSONResponse(error.body, error.status)
