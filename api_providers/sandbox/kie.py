"""The twin of Kie.ai: createTask, recordInfo, credits, uploads and download links; every answer is HTTP 200.

What is wrong stands in the body's `code`. Kie gives the credits of a failed task back (marketing pages); that it takes
them at the creation is our reading. Kie allows 20 new tasks in 10 s, which has no place in the settings here: set
`per_minute` to rehearse its 429. It documents no Retry-After; one is sent for an ordered fault only.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Clip, Fate, Phase, Settings, Task
from api_providers.sandbox._faults import FaultKind
from api_providers.sandbox._kie_models import CREDIT_USD, MODELS, seconds, usd, wrong
from api_providers.sandbox._render import suffix

NAME = "kie"
DEFAULTS = Settings(concurrency=100)
"""About 100 tasks run at once per account."""
BALANCE_CREDITS = 1_000_000
DOWNLOAD_LINK_S = 20 * 60
STATES = {
    Phase.WAITING: "waiting",
    Phase.QUEUED: "queuing",
    Phase.RUNNING: "generating",
    Phase.SUCCEEDED: "success",
    Phase.FAILED: "fail",
}
FAILURES = {
    Fate.FAIL: ("500", "Internal Error, Please try again later."),
    Fate.REFUSE: ("501", "Your prompt was flagged as violating content policies."),
}
NO_KEY = (401, "You do not have access permissions")
REFUSED = {
    FaultKind.AUTH: NO_KEY,
    FaultKind.NO_CREDIT: (402, "The current credits are insufficient. Please top up."),
    FaultKind.RATE_LIMIT: (429, "Rate limit exceeded"),
    FaultKind.SERVER_ERROR: (500, "Server exception, please try again later"),
    FaultKind.UNAVAILABLE: (455, "The service is under maintenance"),
}


def charge(task: Task, phase: Phase) -> Decimal:
    """In full, but nothing for a task that failed; there is no cancel."""
    return Decimal(0) if phase is Phase.FAILED else task.price


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    twin = _Kie(bench)
    return Starlette(
        routes=[
            Route("/api/v1/jobs/createTask", twin.create, methods=["POST"]),
            Route("/api/v1/jobs/recordInfo", twin.record, methods=["GET"]),
            Route("/api/v1/chat/credit", twin.credit, methods=["GET"]),
            Route("/api/v1/common/download-url", twin.download_link, methods=["POST"]),
            Route("/_host/upload/api/file-base64-upload", twin.upload_base64, methods=["POST"]),
            Route("/_host/upload/api/file-stream-upload", twin.upload_stream, methods=["POST"]),
            Route("/_cdn/{id}/{name}", twin.download, methods=["GET"]),
        ],
        exception_handlers={_Said: _said, HTTPException: _http_error},
    )


class _Said(Exception):
    """An envelope with a code that is not 200."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(msg)
        self.code, self.msg = code, msg


class _Kie:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.link_secret = secrets.token_bytes(32)

    async def create(self, request: Request) -> Response:
        _authorize(request)
        refused = _desk.refusal(self.bench)
        if refused:
            return _refuse(refused)
        body = await _json(request)
        model, given = body.get("model"), body.get("input")
        if not isinstance(model, str) or model not in MODELS:
            raise _Said(422, "The model name you specified is not supported. Please verify it.")
        if not isinstance(given, dict):
            raise _Said(422, "input is required")
        if said := wrong(model, given):
            raise _Said(422, said)
        over = _desk.limit(self.bench)
        if over:
            return _refuse(over)
        price = usd(model, given)
        if price * self.bench.settings.price_factor > self._balance():
            return _refuse(_desk.Refusal(FaultKind.NO_CREDIT))
        task = self.bench.accept(
            f"task_{model.partition('/')[0]}_{secrets.token_hex(8)}",
            model=model,
            group=NAME,
            price=price,
            clip=_clip(given),
            data={"param": json.dumps(body)},
        )
        return await _desk.answer(self.bench, task, lambda accepted: _good({"taskId": accepted.id}))

    async def record(self, request: Request) -> Response:
        _authorize(request)
        task = self.bench.get(request.query_params.get("taskId", ""))
        if task is None:
            raise _Said(422, "recordInfo is null")
        phase = self.bench.phase(task)
        created = int(task.accepted_at.timestamp() * 1000)
        view: dict[str, Any] = {
            "taskId": task.id,
            "model": task.model,
            "state": STATES[phase],
            "param": task.data["param"],
            "resultJson": "",
            "failCode": None,
            "failMsg": None,
            "creditsConsumed": None,
            "costTime": None,
            "completeTime": None,
            "createTime": created,
        }
        if not phase.live:
            took = int((task.ends - task.accepted) * 1000)
            view |= {"costTime": took, "completeTime": created + took}
            view["creditsConsumed"] = float(self.bench.charged(task) / CREDIT_USD)
        if phase is Phase.SUCCEEDED:
            view["resultJson"] = json.dumps({"resultUrls": [self._url(request, task)]})
        elif phase is Phase.FAILED:
            view["failCode"], view["failMsg"] = FAILURES[task.fate]
        return _good(view)

    async def credit(self, request: Request) -> Response:
        _authorize(request)
        return _good(float(self._balance() / CREDIT_USD))

    async def download_link(self, request: Request) -> Response:
        _authorize(request)
        url = str((await _json(request)).get("url", ""))
        task = next((one for one in self.bench.tasks.values() if url == self._url(request, one)), None)
        if task is None or self.bench.phase(task) is not Phase.SUCCEEDED:
            raise _Said(422, "The URL was not generated by this service")
        expires = int((self.bench.clock() + DOWNLOAD_LINK_S) * 1000)
        return _good(f"{url}?token={expires}.{self._sign(f'{task.id}.{expires}')}")

    async def upload_base64(self, request: Request) -> Response:
        _authorize(request)
        body = await _json(request)
        head, comma, data = str(body.get("base64Data", "")).rpartition(",")
        try:
            content = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            content = b""
        if not content or not body.get("uploadPath"):
            raise _Said(400, "base64Data and uploadPath are required")
        mime = head.removeprefix("data:").partition(";")[0] if comma else "application/octet-stream"
        return self._uploaded(request, content, str(body.get("fileName") or "file"), mime)

    async def upload_stream(self, request: Request) -> Response:
        _authorize(request)
        async with request.form() as form:
            file, path, name = form.get("file"), form.get("uploadPath"), form.get("fileName")
            if not isinstance(file, UploadFile) or not path:
                raise _Said(400, "file and uploadPath are required")
            content, mime = await file.read(), file.content_type or "application/octet-stream"
            return self._uploaded(request, content, str(name or file.filename or "file"), mime)

    async def download(self, request: Request) -> Response:
        task = self.bench.get(request.path_params["id"])
        if task is None or self.bench.phase(task) is not Phase.SUCCEEDED:
            raise HTTPException(404, "Not Found")
        token = request.query_params.get("token")
        if token is None:
            alive = self.bench.clock() <= task.ends + self.bench.link_seconds
        else:
            expires, _, signature = token.partition(".")
            signed = hmac.compare_digest(signature, self._sign(f"{task.id}.{expires}"))
            alive = signed and expires.isdecimal() and self.bench.clock() * 1000 <= int(expires)
        if not alive:
            raise HTTPException(403, "Access denied")
        return await _desk.clip(self.bench, request, task)

    def _uploaded(self, request: Request, content: bytes, name: str, mime: str) -> Response:
        self.bench.uploads[name] = content
        return JSONResponse(
            {
                "success": True,
                "code": 200,
                "msg": "File uploaded successfully",
                "data": {
                    "fileName": name,
                    "filePath": f"understudy/{name}",
                    "downloadUrl": f"{_desk.base(request)}/_cdn/uploads/{name}",
                    "fileSize": len(content),
                    "mimeType": mime,
                    "uploadedAt": self.bench.now().isoformat(timespec="milliseconds"),
                },
            }
        )

    def _balance(self) -> Decimal:
        return BALANCE_CREDITS * CREDIT_USD - self.bench.spent()

    def _url(self, request: Request, task: Task) -> str:
        return f"{_desk.base(request)}/_cdn/{task.id}/output.{suffix(task.clip)}"

    def _sign(self, text: str) -> str:
        return hmac.new(self.link_secret, text.encode(), hashlib.sha256).hexdigest()


def _authorize(request: Request) -> None:
    if _desk.bearer(request) is None:
        raise _Said(*NO_KEY)


async def _json(request: Request) -> dict[str, Any]:
    return await _desk.json_object(request, lambda said: _Said(422, said))


def _good(data: Any) -> Response:
    return JSONResponse({"code": 200, "msg": "success", "data": data})


def _refuse(refusal: _desk.Refusal) -> Response:
    code, msg = REFUSED[refusal.kind]
    return JSONResponse({"code": code, "msg": msg, "data": None}, headers=_desk.retry_headers(refusal))


def _clip(body: dict[str, Any]) -> Clip:
    width, _, height = str(body.get("aspect_ratio") or body.get("ratio") or "").partition(":")
    w, h = (int(width), int(height)) if width.isdecimal() and height.isdecimal() else (16, 9)
    sound = body.get("sound") is True or body.get("audio") is True
    return Clip(w, h, seconds(body), f"{body.get('prompt', '')}{body.get('seed') or ''}", audio=sound)


async def _said(request: Request, error: Exception) -> Response:
    code, msg = (error.code, error.msg) if isinstance(error, _Said) else (500, "Server exception")
    return JSONResponse({"code": code, "msg": msg, "data": None})


async def _http_error(request: Request, error: Exception) -> Response:
    status, text = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    return JSONResponse({"code": status, "msg": text, "data": None}, status)
