"""The twin of PiAPI (api.piapi.ai, upload.theapi.app): one task call, staging over the concurrency, points.

A cancelled task is told as `failed` with a sentence, the documented words have no `cancelled` (unverified). A staged task
can be cancelled like a pending one: PiAPI still holds it itself (the documentation names pending only).
"""

import asyncio
import base64
import binascii
import secrets
import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Fate, Phase, Settings, Task
from api_providers.sandbox._faults import FaultKind
from api_providers.sandbox._piapi_inputs import order
from api_providers.sandbox._render import suffix

NAME = "piapi"
DEFAULTS = Settings(concurrency=3)
"""Comes with the plan; the numbers vary."""
STAGED_MAX = 50
BALANCE_USD = Decimal(1000)
POINTS_PER_USD = 10_000_000
UPLOAD_MAX = 10_000_000
UPLOAD_LIVES_S = 86_400
NAME_MAX = 128
ENDINGS = ("jpg", "jpeg", "png", "webp", "mp4", "wav", "mp3")
NEVER = "0001-01-01T00:00:00Z"
STATUSES = {
    Phase.WAITING: "staged",
    Phase.QUEUED: "pending",
    Phase.RUNNING: "processing",
    Phase.SUCCEEDED: "completed",
    Phase.FAILED: "failed",
    Phase.CANCELLED: "failed",
}
NO_ERROR = {"code": 0, "raw_message": "", "message": "", "detail": None}


def charge(task: Task, phase: Phase) -> Decimal:
    """Points are consumed on success only and returned on failure and cancel (unverified for every kind of failure)."""
    return task.price if phase is Phase.SUCCEEDED else Decimal(0)


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app; the upload server stands under `/_host/upload`."""
    twin = _PiApi(bench)
    return Starlette(
        routes=[
            Route("/api/v1/task", twin.create, methods=["POST"]),
            Route("/api/v1/task/{id}", twin.task, methods=["GET"]),
            Route("/api/v1/task/{id}", twin.cancel, methods=["DELETE"]),
            Route("/account/info", twin.account, methods=["GET"]),
            Route("/account/active_tasks", twin.active, methods=["GET"]),
            Route("/_host/upload/api/ephemeral_resource", twin.upload, methods=["POST"]),
            Route("/_cdn/up/{id}/{name}", twin.uploaded, methods=["GET"]),
            Route("/_cdn/{id}/{name}", twin.download, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )


class _PiApi:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.kept_until: dict[str, float] = {}

    async def create(self, request: Request) -> Response:
        _authorize(request)
        refused = _desk.refusal(self.bench)
        if refused:
            return _refuse(refused)
        body = await _desk.json_object(request, lambda said: HTTPException(400, said))
        found = await asyncio.to_thread(order, body, self.bench)
        over = _desk.limit(self.bench)
        if over:
            return _refuse(over)
        if self.bench.waiting(NAME) >= STAGED_MAX:
            raise HTTPException(429, f"too many staged tasks, at most {STAGED_MAX}")
        if found.price * self.bench.settings.price_factor > BALANCE_USD - self.bench.spent():
            return _refuse(_desk.Refusal(FaultKind.NO_CREDIT))
        task = self.bench.accept(
            str(uuid.uuid4()),
            model=found.label,
            group=NAME,
            price=found.price,
            clip=found.clip,
            data={"body": body, "classic": found.classic},
        )
        return await _desk.answer(self.bench, task, lambda accepted: self._envelope(request, accepted))

    async def task(self, request: Request) -> Response:
        _authorize(request)
        return self._envelope(request, self._find(request))

    async def cancel(self, request: Request) -> Response:
        _authorize(request)
        task = self._find(request)
        if self.bench.phase(task) not in (Phase.QUEUED, Phase.WAITING):
            raise HTTPException(400, "only a pending task can be cancelled")
        self.bench.stop(task)
        return self._envelope(request, task)

    async def account(self, request: Request) -> Response:
        _authorize(request)
        left = BALANCE_USD - self.bench.spent()
        packs = {
            "available_credits": int(left * 100),
            "used_credits": int(self.bench.spent() * 100),
            "total_credits": int(BALANCE_USD * 100),
            "frozen_credits": 0,
            "expired_credits": 0,
            "inactive_credits": 0,
        }
        return _ok(
            {
                "id": 1,
                "name": "sandbox",
                "plan": "Creator",
                "type": "personal",
                "is_enable": True,
                "equivalent_in_usd": float(left),
                "credit_pack_info": packs,
            }
        )

    async def active(self, request: Request) -> Response:
        _authorize(request)
        phases = {task.id: self.bench.phase(task) for task in self.bench.tasks.values()}
        live = {id_: STATUSES[phase] for id_, phase in phases.items() if phase.live}
        counts = {
            f"{name}_count": list(live.values()).count(name) for name in ("staged", "pending", "processing")
        }
        return _ok({"kling": {**counts, "active_tasks": len(live)}})

    async def upload(self, request: Request) -> Response:
        _authorize(request)
        body = await _desk.json_object(request, lambda said: HTTPException(400, said))
        name, data = body.get("file_name"), body.get("file_data")
        if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or "/" in name:
            raise HTTPException(400, f"file_name must have 1 to {NAME_MAX} characters")
        if name.rpartition(".")[2].lower() not in ENDINGS:
            raise HTTPException(400, f"unsupported file type, expected {', '.join(ENDINGS)}")
        try:
            content = base64.b64decode(str(data).partition("base64,")[2] or str(data), validate=True)
        except (binascii.Error, ValueError):
            raise HTTPException(400, "file_data is not base64") from None
        if not content or len(content) > UPLOAD_MAX:
            raise HTTPException(400, "the file must have 1 byte to 10 MB")
        id_ = secrets.token_hex(8)
        self.bench.uploads[id_] = content
        self.kept_until[id_] = self.bench.clock() + UPLOAD_LIVES_S
        base = _desk.base(request).removesuffix("/_host/upload")
        return _ok({"url": f"{base}/_cdn/up/{id_}/{name}"})

    async def uploaded(self, request: Request) -> Response:
        id_ = request.path_params["id"]
        content = self.bench.uploads.get(id_)
        if content is None or self.bench.clock() > self.kept_until.get(id_, 0):
            raise HTTPException(404, "not found")
        return Response(content, media_type="application/octet-stream")

    async def download(self, request: Request) -> Response:
        task = self.bench.get(request.path_params["id"])
        if task is None or self.bench.phase(task) is not Phase.SUCCEEDED:
            raise HTTPException(404, "not found")
        if self.bench.clock() > task.ends + self.bench.link_seconds:
            raise HTTPException(404, "not found")
        return await _desk.clip(self.bench, request, task)

    def _find(self, request: Request) -> Task:
        task = self.bench.get(request.path_params["id"])
        if task is None:
            raise HTTPException(404, "task not found")
        return task

    def _envelope(self, request: Request, task: Task) -> Response:
        phase = self.bench.phase(task)
        points = int(task.price * POINTS_PER_USD)
        usage = {
            "type": "point",
            "frozen": points if phase.live else 0,
            "consume": points if phase is Phase.SUCCEEDED else 0,
        }
        body = task.data["body"]
        return _ok(
            {
                "task_id": task.id,
                "model": body["model"],
                "task_type": body["task_type"],
                "status": STATUSES[phase],
                "config": {"service_mode": "public", "webhook_config": {"endpoint": "", "secret": ""}},
                "input": body["input"],
                "output": self._output(request, task, phase),
                "meta": {
                    "created_at": _time(task, 0),
                    "started_at": NEVER
                    if task.started is None
                    else _time(task, task.started - task.accepted),
                    "ended_at": NEVER if phase.live else _time(task, task.ends - task.accepted),
                    "usage": usage,
                    "is_using_private_pool": False,
                },
                "detail": None,
                "logs": None,
                "error": _error(task, phase),
            }
        )

    def _output(self, request: Request, task: Task, phase: Phase) -> dict[str, Any]:
        """Two of the three shapes; the third is known from a marketing page only."""
        done = phase is Phase.SUCCEEDED
        link = f"{_desk.base(request)}/_cdn/{task.id}/"
        end = suffix(task.clip)
        if not task.data["classic"]:
            return {"video": f"{link}output.{end}" if done else ""}
        if not done:
            return {"type": "", "status": 0, "works": None}
        size = {"height": task.clip.height, "width": task.clip.width}
        video = {
            "resource": f"{link}output.{end}",
            "resource_without_watermark": f"{link}clean.{end}",
            "duration": round(task.clip.seconds * 1000),
            **size,
        }
        work = {
            "status": 99,
            "type": "video",
            "cover": {"resource": f"{link}cover.png", **size},
            "video": video,
        }
        return {"type": "m2v_txt2video_hq", "status": 99, "works": [work]}


def _authorize(request: Request) -> None:
    if not request.headers.get("x-api-key", "").startswith("sandbox-"):
        raise HTTPException(401, "Invalid API key")


def _error(task: Task, phase: Phase) -> dict[str, Any]:
    if phase is Phase.CANCELLED:
        return {
            **NO_ERROR,
            "code": 10000,
            "message": "task cancelled",
            "raw_message": "task cancelled by user",
        }
    if phase is not Phase.FAILED:
        return NO_ERROR
    if task.fate is Fate.REFUSE:
        said = "The prompt may contain sensitive content"
        return {**NO_ERROR, "code": 10000, "message": "task failed", "raw_message": said}
    return {**NO_ERROR, "code": 10000, "message": "task failed", "raw_message": "upstream service failed"}


def _time(task: Task, after_s: float) -> str:
    moment = task.accepted_at + timedelta(seconds=after_s)
    return moment.isoformat().replace("+00:00", "Z")


def _ok(data: dict[str, Any]) -> Response:
    return JSONResponse({"code": 200, "data": data, "message": "success"})


def _refuse(refusal: _desk.Refusal) -> Response:
    status, message = {
        FaultKind.AUTH: (401, "Invalid API key"),
        FaultKind.NO_CREDIT: (402, "insufficient credits"),
        FaultKind.SERVER_ERROR: (500, "internal server error"),
        FaultKind.UNAVAILABLE: (503, "service unavailable"),
        FaultKind.RATE_LIMIT: (429, "too many requests"),
    }[refusal.kind]
    return JSONResponse(
        {"code": status, "data": None, "message": message}, status, headers=_desk.retry_headers(refusal)
    )


async def _http_error(request: Request, error: Exception) -> Response:
    status, text = (
        (error.status_code, error.detail)
        if isinstance(error, HTTPException)
        else (500, "internal server error")
    )
    return JSONResponse({"code": status, "data": None, "message": text}, status)
