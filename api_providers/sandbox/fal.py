"""The twin of fal: queue API, model schemas, file storage and public CDN (queue.fal.run, fal.ai, rest.fal.ai, v3.fal.media)."""

import asyncio
import json
import secrets
import uuid
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Clip, Fate, Phase, Settings, Task
from api_providers.sandbox._fal_inputs import check, detail
from api_providers.sandbox._fal_models import MODELS, clip_seconds, openapi
from api_providers.sandbox._faults import FaultKind
from api_providers.sandbox._render import media_type, render, suffix

NAME = "fal"
DEFAULTS = Settings(concurrency=2)
NAMESPACES = ("workflows", "comfy")
LOCKED = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
STILL_RUNNING = "Request is still in progress"
LONGEST_AUTO_S = 5.0
REQUEST_ERRORS = {
    Fate.EXPIRE: (504, "Request timed out", "request_timeout"),
}
CANCELLED = (499, "Request was cancelled by the client", "client_cancelled")
APPS = {"/".join(name.split("/")[:2]) for name in MODELS}


def charge(task: Task, phase: Phase) -> Decimal:
    """Charged for what was made, and for a job whose runner was already at work when it was cancelled."""
    if phase is Phase.SUCCEEDED:
        return task.price
    if phase is Phase.CANCELLED and task.stopped_in is Phase.RUNNING:
        return task.price
    return Decimal(0)


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app; the same app also stands at the root of the TLS port."""
    twin = _Fal(bench)
    return Starlette(
        routes=[
            Route("/_host/schema/api/openapi/queue/openapi.json", _openapi, methods=["GET"]),
            Route("/_host/rest/storage/upload/initiate", twin.initiate_upload, methods=["POST"]),
            Route("/storage/auth/token", twin.storage_token, methods=["POST"]),
            Route("/storage/upload/initiate", twin.initiate_upload, methods=["POST"]),
            Route("/files/upload", twin.upload, methods=["POST"]),
            Route("/_cdn/files/b/{id}/{name}", twin.take_file, methods=["PUT"]),
            Route("/_cdn/files/b/{id}/{name}", twin.download, methods=["GET"]),
            Route("/{path:path}", twin.queue, methods=["GET", "POST", "PUT"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )


class _Fal:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.tokens: set[str] = set()

    async def queue(self, request: Request) -> Response:
        parts = request.path_params["path"].strip("/").split("/")
        start = 1 if parts[0] in NAMESPACES else 0
        app, rest = "/".join(parts[: start + 2]), parts[start + 2 :]
        _authorize(request, app)
        if request.method == "POST":
            return await self._submit(request, "/".join(parts), app)
        match rest:
            case ["requests", id_, "status"] if request.method == "GET":
                return self._status(request, self._find(app, id_))
            case ["requests", id_] | ["requests", id_, "response"] if request.method == "GET":
                return await self._result(request, self._find(app, id_))
            case ["requests", id_, "cancel"] if request.method == "PUT":
                return self._cancel(app, id_)
        raise HTTPException(
            405 if app in APPS else 404, "Method Not Allowed" if app in APPS else _unknown(app)
        )

    async def _submit(self, request: Request, name: str, app: str) -> Response:
        refused = _desk.refusal(self.bench)
        if refused:
            return _refuse(refused, app)
        model = MODELS.get(name)
        if model is None:
            raise HTTPException(404, _unknown(app) if app not in APPS else f"Path /{name} not found")
        try:
            body = await request.json()
        except ValueError:
            raise HTTPException(400, "Request body is not valid JSON") from None
        if not isinstance(body, dict):
            raise HTTPException(400, "Request body must be a JSON object")
        over = _desk.limit(self.bench)
        if over:
            return _refuse(over, app)
        longest_queue = request.query_params.get("fal_max_queue_length", "")
        if longest_queue.isdecimal() and self.bench.waiting(NAME) >= int(longest_queue):
            return _refuse(_desk.Refusal(FaultKind.RATE_LIMIT), app)
        filled, wrong = await asyncio.to_thread(check, body, model, self._is_lost)
        seconds = LONGEST_AUTO_S if wrong or filled.get("duration") == "auto" else clip_seconds(model, filled)
        task = self.bench.accept(
            str(uuid.uuid4()),
            model=name,
            group=NAME,
            price=Decimal(0) if wrong else model.price(filled, Decimal(str(seconds))),
            clip=_clip(filled, seconds),
            fate=Fate.INVALID if wrong else None,
            start_within_s=_seconds(request.headers.get("x-fal-request-timeout")),
            data={"app": app, "wrong": wrong, "seed": filled.get("seed"), "file_seconds": _lifetime(request)},
        )
        return await _desk.answer(self.bench, task, lambda accepted: self._accepted(request, accepted))

    def _accepted(self, request: Request, task: Task) -> Response:
        answer = {"status": "IN_QUEUE", "queue_position": self.bench.ahead(task), **_urls(request, task)}
        return JSONResponse(answer)

    def _status(self, request: Request, task: Task) -> Response:
        phase = self.bench.phase(task)
        answer: dict[str, Any] = {**_urls(request, task)}
        logged = request.query_params.get("logs", "").lower() in ("1", "true")
        if phase in (Phase.WAITING, Phase.QUEUED):
            answer |= {"status": "IN_QUEUE", "queue_position": self.bench.ahead(task)}
            return JSONResponse(answer, 202)
        answer["logs"] = self._logs(task) if logged else None
        if phase is Phase.RUNNING:
            return JSONResponse(answer | {"status": "IN_PROGRESS"}, 202)
        answer |= {"status": "COMPLETED"}
        error = _request_error(task, phase)
        if error:
            answer |= {"error": error[1], "error_type": error[2]}
        else:
            answer["metrics"] = {"inference_time": round(task.ends - (task.started or task.ends), 3)}
        return JSONResponse(answer)

    async def _result(self, request: Request, task: Task) -> Response:
        phase = self.bench.phase(task)
        headers = {"x-fal-request-id": task.id}
        if phase.live:
            return JSONResponse({"detail": STILL_RUNNING}, 400, headers=headers)
        error = _request_error(task, phase)
        if error:
            status, text, kind = error
            return JSONResponse(
                {"detail": text, "error_type": kind}, status, headers=headers | {"X-Fal-Error-Type": kind}
            )
        if phase is Phase.FAILED:
            status, wrong = _model_error(task)
            retry = {"X-Fal-Retryable": "true" if status >= 500 else "false"}
            return JSONResponse({"detail": wrong}, status, headers=headers | retry)
        name = f"output.{suffix(task.clip)}"
        file = {
            "url": f"{_desk.base(request)}/_cdn/files/b/{task.id}/{name}",
            "content_type": media_type(task.clip),
            "file_name": name,
            "file_size": len(await asyncio.to_thread(render, task.clip)),
        }
        seed = task.data["seed"]
        return JSONResponse({"video": file, **({} if seed is None else {"seed": seed})}, headers=headers)

    def _cancel(self, app: str, id_: str) -> Response:
        task = self.bench.get(id_)
        if task is None or task.data["app"] != app:
            return JSONResponse({"status": "NOT_FOUND"}, 404)
        phase = self.bench.stop(task)
        if not phase.live:
            return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    def _find(self, app: str, id_: str) -> Task:
        task = self.bench.get(id_)
        if task is None or task.data["app"] != app:
            raise HTTPException(404, "Request not found")
        return task

    def _logs(self, task: Task) -> list[dict[str, str]]:
        stamp = task.accepted_at.isoformat()
        return [{"message": "Rendering", "timestamp": stamp, "level": "INFO", "source": "USER"}]

    async def storage_token(self, request: Request) -> Response:
        _authorize(request, "storage")
        token = secrets.token_urlsafe(24)
        self.tokens.add(token)
        expires = "2099-01-01T00:00:00+00:00"
        return JSONResponse(
            {"token": token, "token_type": "Bearer", "base_url": _desk.base(request), "expires_at": expires}
        )

    async def upload(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            raise HTTPException(401, "Invalid token")
        url = self._new_file(request, request.headers.get("x-fal-file-name", "file"))
        self.bench.uploads[url.split("/")[-2]] = await request.body()
        return JSONResponse({"access_url": url})

    async def initiate_upload(self, request: Request) -> Response:
        _authorize(request, "storage")
        body = await request.json()
        url = self._new_file(request, str(body.get("file_name", "file")))
        return JSONResponse({"upload_url": url, "file_url": url})

    async def take_file(self, request: Request) -> Response:
        if self.bench.uploads.get(request.path_params["id"], b"") is not None:
            raise HTTPException(403, "Forbidden")
        self.bench.uploads[request.path_params["id"]] = await request.body()
        return Response(status_code=200)

    async def download(self, request: Request) -> Response:
        id_ = request.path_params["id"]
        content = self.bench.uploads.get(id_)
        if content is not None:
            return Response(content, media_type="application/octet-stream")
        task = self.bench.get(id_)
        if task is None or self.bench.phase(task) is not Phase.SUCCEEDED:
            raise HTTPException(404, "Not Found")
        lifetime = task.data["file_seconds"]
        if lifetime is not None and self.bench.clock() > task.ends + lifetime:
            raise HTTPException(404, "Not Found")
        return await _desk.clip(self.bench, request, task)

    def _is_lost(self, url: str) -> bool:
        """Whether a link names an upload of ours that was announced and never sent."""
        _, marker, rest = url.partition("/_cdn/files/b/")
        return bool(marker) and self.bench.uploads.get(rest.split("/")[0], b"") is None

    def _new_file(self, request: Request, name: str) -> str:
        id_ = secrets.token_hex(12)
        self.bench.uploads[id_] = None
        return f"{_desk.base(request)}/_cdn/files/b/{id_}/{name.rsplit('/', 1)[-1] or 'file'}"


async def _openapi(request: Request) -> Response:
    """What fal.ai tells anybody about an endpoint, without a key."""
    name = request.query_params.get("endpoint_id", "")
    if name not in MODELS:
        raise HTTPException(404, f"Endpoint {name!r} not found")
    return JSONResponse(openapi(name, MODELS[name]))


def _authorize(request: Request, app: str) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    id_, _, secret = key.partition(":")
    if scheme != "Key" or not id_.startswith("sandbox-") or id_ != secret:
        raise HTTPException(401, _no_access(app))


def _no_access(app: str) -> str:
    return f'Cannot access application "{app}". Authentication is required to access this application.'


def _unknown(app: str) -> str:
    return f'Application "{app}" not found'


def _urls(request: Request, task: Task) -> dict[str, str]:
    url = f"{_desk.base(request)}/{task.data['app']}/requests/{task.id}"
    return {
        "request_id": task.id,
        "response_url": url,
        "status_url": f"{url}/status",
        "cancel_url": f"{url}/cancel",
    }


def _request_error(task: Task, phase: Phase) -> tuple[int, str, str] | None:
    """Status, text and type where the platform, not the model, ended the request."""
    return CANCELLED if phase is Phase.CANCELLED else REQUEST_ERRORS.get(task.fate)


def _model_error(task: Task) -> tuple[int, list[dict[str, Any]]]:
    """Status and `detail` of a run that the model ended."""
    if task.fate is Fate.INVALID:
        return 422, task.data["wrong"]
    if task.fate is Fate.REFUSE:
        text = "The content could not be processed because it was flagged by a content checker."
        return 422, [detail("content_policy_violation", text, "prompt", given=task.clip.prompt)]
    return 500, [detail("internal_server_error", "Internal server error")]


def _clip(body: dict[str, Any], seconds: float) -> Clip:
    width, _, height = str(body.get("aspect_ratio", "")).partition(":")
    w, h = (int(width), int(height)) if width.isdecimal() and height.isdecimal() else (16, 9)
    text = f"{body.get('prompt', '')}{body.get('seed') or ''}"
    return Clip(w, h, seconds, text, audio=body.get("generate_audio") is True)


def _seconds(header: str | None) -> float | None:
    try:
        return None if header is None else float(header)
    except ValueError:
        raise HTTPException(400, "X-Fal-Request-Timeout must be a number of seconds") from None


def _lifetime(request: Request) -> float | None:
    """How long the result stays on the CDN, where the caller limits it."""
    header = request.headers.get("x-fal-object-lifecycle-preference")
    if header is None:
        return None
    try:
        wish = json.loads(header)
    except ValueError:
        wish = None
    seconds = wish.get("expiration_duration_seconds") if isinstance(wish, dict) else None
    return float(seconds) if isinstance(seconds, int) else None


def _refuse(refusal: _desk.Refusal, app: str) -> Response:
    status, text, kind = {
        FaultKind.AUTH: (401, _no_access(app), None),
        FaultKind.NO_CREDIT: (403, LOCKED, None),
        FaultKind.SERVER_ERROR: (500, "Internal server error", "internal_error"),
        FaultKind.UNAVAILABLE: (503, "No runner could be scheduled", "runner_scheduling_failure"),
        FaultKind.RATE_LIMIT: (429, "Too many requests", None),
    }[refusal.kind]
    headers = _desk.retry_headers(refusal)
    body = {"detail": text}
    if kind:
        body["error_type"] = kind
        headers["X-Fal-Error-Type"] = kind
    return JSONResponse(body, status, headers=headers)


async def _http_error(request: Request, error: Exception) -> Response:
    status, text = (
        (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "Internal error")
    )
    return JSONResponse({"detail": text}, status)
