"""The twin of Krea (api.krea.ai): submit at the model's path with a closed body, jobs, list, cancel, assets.

Concurrency and rates depend on the plan and have no public numbers; what is over the concurrency here is `backlogged`,
as documented. Failed and cancelled jobs are not billed (docs). No Retry-After is documented; one is sent for an ordered
fault only.
"""

import secrets
import uuid
from datetime import datetime, timedelta
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
from api_providers.sandbox._krea_models import MODELS, filled, wrong
from api_providers.sandbox._render import suffix

NAME = "krea"
DEFAULTS = Settings(concurrency=3)
BALANCE_USD = Decimal(10_000)
ASSET_MAX = 75_000_000
ASSET_TYPES = frozenset(
    {
        *("image/jpeg", "image/png", "image/webp", "image/heic"),
        *("video/mp4", "video/quicktime", "video/webm", "audio/wav", "audio/mpeg", "model/gltf-binary"),
    }
)
SAMPLES_AT = 0.5
"""From this part of its time on a running job says `sampling` instead of `processing`."""
FAILED: dict[Fate, dict[str, Any]] = {
    Fate.FAIL: {"error": {"code": "internal_error", "message": "Generation failed"}},
    Fate.REFUSE: {"result": {"urls": [], "error": "nsfw"}},
}
"""Both places in which Krea's pages show a reason."""
REFUSED = {
    FaultKind.AUTH: (401, "Unauthorized"),
    FaultKind.NO_CREDIT: (402, "Insufficient credits"),
    FaultKind.RATE_LIMIT: (429, "Too many concurrent jobs"),
    FaultKind.SERVER_ERROR: (500, "Internal server error"),
    FaultKind.UNAVAILABLE: (503, "Service unavailable"),
}


def charge(task: Task, phase: Phase) -> Decimal:
    """In full, but nothing for a job that failed or was cancelled, even while it ran."""
    return Decimal(0) if phase in (Phase.FAILED, Phase.CANCELLED) else task.price


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    twin = _Krea(bench)
    return Starlette(
        routes=[
            Route("/generate/video/{vendor}/{model}", twin.submit, methods=["POST"]),
            Route("/jobs", twin.jobs, methods=["GET"]),
            Route("/jobs/{id}", twin.job, methods=["GET"]),
            Route("/jobs/{id}", twin.delete, methods=["DELETE"]),
            Route("/assets", twin.upload, methods=["POST"]),
            Route("/_cdn/{id}/{name}", twin.download, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )


class _Krea:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def submit(self, request: Request) -> Response:
        _authorize(request)
        refused = _desk.refusal(self.bench)
        if refused:
            return _refuse(refused)
        path = f"{request.path_params['vendor']}/{request.path_params['model']}"
        model = MODELS.get(path)
        if model is None:
            raise HTTPException(404, "Not found")
        given = await _desk.json_object(request, lambda said: HTTPException(400, said))
        if said := wrong(given, model):
            raise HTTPException(400, said)
        over = _desk.limit(self.bench)
        if over:
            return _refuse(over)
        body = filled(given, model)
        price = model.usd(body)
        if price * self.bench.settings.price_factor > BALANCE_USD - self.bench.spent():
            return _refuse(_desk.Refusal(FaultKind.NO_CREDIT))
        task = self.bench.accept(str(uuid.uuid4()), model=path, group=NAME, price=price, clip=_clip(body))
        return await _desk.answer(self.bench, task, lambda one: JSONResponse(_fresh(one)))

    async def job(self, request: Request) -> Response:
        _authorize(request)
        return JSONResponse(self._view(request, self._find(request)))

    async def jobs(self, request: Request) -> Response:
        _authorize(request)
        query = request.query_params
        limit = query.get("limit", "100")
        if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
            raise HTTPException(400, "limit: must be between 1 and 1000")
        wanted = set(filter(None, query.get("status", "").split(",")))
        views = [self._view(request, task) for task in self.bench.tasks.values() if not task.deleted]
        views = [one for one in reversed(views) if not wanted or one["status"] in wanted]
        if cursor := query.get("cursor"):
            views = [one for one in views if one["created_at"] < cursor]
        page, rest = views[: int(limit)], views[int(limit) :]
        return JSONResponse({"items": page, "nextCursor": page[-1]["created_at"] if rest else None})

    async def delete(self, request: Request) -> Response:
        """Cancels a live job, deletes one that has ended."""
        _authorize(request)
        task = self._find(request)
        if not self.bench.stop(task).live:
            task.deleted = True
        return JSONResponse({"success": True})

    async def upload(self, request: Request) -> Response:
        _authorize(request)
        async with request.form() as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise HTTPException(400, "file: Required")
            content, mime = await file.read(), file.content_type or ""
            name, described = file.filename or "file", form.get("description")
        if mime.replace("x-wav", "wav") not in ASSET_TYPES:
            raise HTTPException(400, f"Unsupported file type {mime}")
        if len(content) > ASSET_MAX:
            raise HTTPException(400, "The file is larger than 75 MB")
        id_ = secrets.token_hex(12)
        self.bench.uploads[id_] = content
        return JSONResponse(
            {
                "id": id_,
                "image_url": f"{_desk.base(request)}/_cdn/{id_}/{name}",
                "uploaded_at": _iso(self.bench.now()),
                "width": None,
                "height": None,
                "size_bytes": len(content),
                "mime_type": mime,
                "description": described,
                "metadata": None,
            }
        )

    async def download(self, request: Request) -> Response:
        task = self.bench.get(request.path_params["id"])
        if task is None or self.bench.phase(task) is not Phase.SUCCEEDED:
            raise HTTPException(404, "Not found")
        if self.bench.clock() > task.ends + self.bench.link_seconds:
            raise HTTPException(403, "The link has expired")
        return await _desk.clip(self.bench, request, task)

    def _find(self, request: Request) -> Task:
        task = self.bench.get(request.path_params["id"])
        if task is None:
            raise HTTPException(404, "Job not found")
        return task

    def _view(self, request: Request, task: Task) -> dict[str, Any]:
        """`completed_at` and `result` are missing while there is neither."""
        phase = self.bench.phase(task)
        view: dict[str, Any] = {
            "job_id": task.id,
            "status": self._status(task, phase),
            "created_at": _iso(task.accepted_at),
        }
        if not phase.live:
            view["completed_at"] = _iso(task.accepted_at + timedelta(seconds=task.ends - task.accepted))
        if phase is Phase.SUCCEEDED:
            name = f"output.{suffix(task.clip)}"
            view["result"] = {"urls": [f"{_desk.base(request)}/_cdn/{task.id}/{name}"]}
        elif phase is Phase.FAILED:
            view |= FAILED[task.fate]
        return view

    def _status(self, task: Task, phase: Phase) -> str:
        if phase is Phase.RUNNING and self.bench.progress(task) >= SAMPLES_AT:
            return "sampling"
        return {
            Phase.WAITING: "backlogged",
            Phase.QUEUED: "queued",
            Phase.RUNNING: "processing",
            Phase.SUCCEEDED: "completed",
            Phase.FAILED: "failed",
            Phase.CANCELLED: "cancelled",
        }[phase]


def _fresh(task: Task) -> dict[str, Any]:
    """The answer to a submit says `queued`, with both later fields there and null."""
    return {
        "job_id": task.id,
        "status": "queued",
        "created_at": _iso(task.accepted_at),
        "completed_at": None,
        "result": None,
    }


def _authorize(request: Request) -> None:
    if _desk.bearer(request) is None:
        raise HTTPException(401, "Unauthorized")


def _refuse(refusal: _desk.Refusal) -> Response:
    status, text = REFUSED[refusal.kind]
    return JSONResponse({"error": text}, status, headers=_desk.retry_headers(refusal))


def _clip(body: dict[str, Any]) -> Clip:
    width, _, height = str(body.get("aspect_ratio") or "16:9").partition(":")
    text = f"{body['prompt']}{body.get('seed') or ''}"
    sound = body.get("generate_audio") is True
    return Clip(int(width), int(height), float(body["duration"]), text, audio=sound)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _http_error(request: Request, error: Exception) -> Response:
    status, text = (
        (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "Internal error")
    )
    return JSONResponse({"error": text}, status)
