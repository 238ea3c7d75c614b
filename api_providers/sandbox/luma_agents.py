"""The twin of Luma Agents (agents.lumalabs.ai/v1): generations with ray-3.2, and the file store with signed uploads."""

import asyncio
import hmac
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
from api_providers.sandbox._luma_agents_inputs import RATIOS, Inputs, refuse
from api_providers.sandbox._luma_links import Links

NAME = "luma-agents"
DEFAULTS = Settings(concurrency=3)
VERSION = {"X-API-Version": "2026-04-01"}
LINK_SECONDS = 3600.0
FILE_MAX = 5 * 1024**3
PER_CLIP = {
    ("360p", 5): Decimal("0.06"),
    ("360p", 10): Decimal("0.18"),
    ("540p", 5): Decimal("0.15"),
    ("540p", 10): Decimal("0.45"),
    ("720p", 5): Decimal("0.30"),
    ("720p", 10): Decimal("0.90"),
    ("1080p", 5): Decimal("1.20"),
    ("1080p", 10): Decimal("3.60"),
}
PER_SECOND = {
    ("video_edit", "360p"): Decimal("0.108"),
    ("video_edit", "540p"): Decimal("0.144"),
    ("video_edit", "720p"): Decimal("0.216"),
    ("video_edit", "1080p"): Decimal("0.432"),
    ("video_reframe", "360p"): Decimal("0.03"),
    ("video_reframe", "540p"): Decimal("0.06"),
    ("video_reframe", "720p"): Decimal("0.12"),
}
"""USD, both tables."""
FAILURES = {
    Fate.FAIL: ("generation_failed", "The generation failed."),
    Fate.REFUSE: ("content_moderated", "The content was flagged by moderation."),
}
STATES = {
    Phase.WAITING: "queued",
    Phase.QUEUED: "queued",
    Phase.RUNNING: "processing",
    Phase.SUCCEEDED: "completed",
    Phase.FAILED: "failed",
}


def charge(task: Task, phase: Phase) -> Decimal:
    """All but a failure is billed; that failures are free is not documented (unverified)."""
    return Decimal(0) if phase is Phase.FAILED else task.price


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    bench.link_seconds = LINK_SECONDS
    twin = _LumaAgents(bench)
    return Starlette(
        routes=[
            Route("/generations", twin.create, methods=["POST"]),
            Route("/generations/{id}", twin.retrieve, methods=["GET"]),
            Route("/files", twin.start_file, methods=["POST"]),
            Route("/files", twin.files, methods=["GET"]),
            Route("/files/{id}", twin.file, methods=["GET"]),
            Route("/files/{id}", twin.delete_file, methods=["DELETE"]),
            Route("/files/{id}/complete", twin.complete, methods=["POST"]),
            Route("/_upload/{id}", twin.take, methods=["PUT"]),
            Route("/_cdn/{id}/{name}", twin.download, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )


class _LumaAgents:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.links = Links(bench)
        self.records: dict[str, dict[str, Any]] = {}
        """Files as the API shows them; bytes are in the bench, which a reset empties."""

    async def create(self, request: Request) -> Response:
        _authorize(request)
        refused = _desk.refusal(self.bench)
        if refused:
            return _refuse(refused)
        body = await _json(request)
        ready = {id_: file["mime_type"] for id_, file in self._files().items() if file["state"] == "ready"}
        seconds = await asyncio.to_thread(Inputs(self.bench, ready).check, body)
        over = _desk.limit(self.bench)
        if over:
            return _refuse(over)
        kind, video = body["type"], body.get("video") or {}
        resolution = video.get("resolution") or "720p"
        extends = "generation_id" in (video.get("start_frame") or {})
        if kind == "video":
            price = PER_CLIP[resolution, 5 if extends else int(seconds)]
        else:
            price = PER_SECOND[kind, resolution] * Decimal(str(seconds))
        width, height = RATIOS[body.get("aspect_ratio") or "16:9"]
        task = self.bench.accept(
            str(uuid.uuid4()),
            model=body["model"],
            group=NAME,
            price=price,
            clip=Clip(width, height, seconds, body["prompt"]),
            data={"type": kind},
        )
        return await _desk.answer(
            self.bench, task, lambda accepted: JSONResponse(self._view(request, accepted), 201, VERSION)
        )

    async def retrieve(self, request: Request) -> Response:
        _authorize(request)
        task = self.bench.get(request.path_params["id"])
        if task is None:
            raise HTTPException(404, "Generation not found")
        return JSONResponse(self._view(request, task), headers=VERSION)

    async def start_file(self, request: Request) -> Response:
        """Multipart: the bytes come along. JSON: a place to put them."""
        _authorize(request)
        id_ = str(uuid.uuid4())
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with request.form() as form:
                part = form.get("file")
                if not isinstance(part, UploadFile):
                    refuse(400, "file is required")
                content = await part.read()
                body: dict[str, Any] = {
                    "mime_type": part.content_type,
                    "size_bytes": len(content),
                    "filename": part.filename,
                }
            self.bench.uploads[id_] = content
            record = self._record(id_, body)
            record["_looked"] = True
            return JSONResponse({"id": id_, "state": "pending", "file": _shown(record), "upload": None}, 201)
        body = await _json(request)
        size = body.get("size_bytes")
        if not isinstance(body.get("mime_type"), str) or type(size) is not int or not 0 < size <= FILE_MAX:
            refuse(400, "mime_type and size_bytes (at most 5 GiB) are required")
        self.bench.uploads[id_] = None
        record = self._record(id_, body)
        expires = self.bench.now() + timedelta(minutes=15)
        upload = {
            "method": "PUT",
            "url": f"{_desk.base(request)}/_upload/{id_}?X-Amz-Signature={self.links.sign(id_)}",
            "headers": {"Content-Type": body["mime_type"]},
            "expires_at": _stamp(expires),
        }
        answer = {"id": id_, "state": "pending", "file": _shown(record), "upload": upload}
        return JSONResponse(answer, 201)

    async def take(self, request: Request) -> Response:
        """The storage host: no key, but exactly the signed headers."""
        id_ = request.path_params["id"]
        signed = hmac.compare_digest(request.query_params.get("X-Amz-Signature", ""), self.links.sign(id_))
        record = self._files().get(id_)
        if record is None or not signed or request.headers.get("content-type") != record["mime_type"]:
            return Response(
                "<Error><Code>SignatureDoesNotMatch</Code></Error>", 403, media_type="application/xml"
            )
        content = await request.body()
        if len(content) != record["size_bytes"]:
            return Response("<Error><Code>IncompleteBody</Code></Error>", 400, media_type="application/xml")
        self.bench.uploads[id_] = content
        return Response(status_code=200)

    async def complete(self, request: Request) -> Response:
        """The file is looked at; it is ready at the next look."""
        _authorize(request)
        record = self._file(request)
        if self.bench.uploads[record["id"]] is None:
            refuse(400, "No bytes have been uploaded")
        record["_looked"] = True
        return JSONResponse(_shown(record))

    async def file(self, request: Request) -> Response:
        _authorize(request)
        record = self._file(request)
        if record["state"] == "pending" and record["_looked"]:
            record["state"] = "ready"
        return JSONResponse(_shown(record))

    async def files(self, request: Request) -> Response:
        _authorize(request)
        limit = request.query_params.get("limit", "20")
        if not limit.isdecimal() or int(limit) < 1:
            refuse(400, "limit must be a positive number")
        rows = [_shown(record) for record in reversed(self._files().values())]
        more = len(rows) > int(limit)
        answer = {"data": rows[: int(limit)], "has_more": more, "next_cursor": "more" if more else None}
        return JSONResponse(answer, headers=VERSION)

    async def delete_file(self, request: Request) -> Response:
        _authorize(request)
        record = self._file(request)
        record["state"], record["deleted_at"] = "deleted", _stamp(self.bench.now())
        return JSONResponse(_shown(record))

    async def download(self, request: Request) -> Response:
        task = self.bench.get(request.path_params["id"])
        if task is None or not self.links.good(request, task.id):
            return Response("<Error><Code>AccessDenied</Code></Error>", 403, media_type="application/xml")
        return await _desk.clip(self.bench, request, task)

    def _record(self, id_: str, body: dict[str, Any]) -> dict[str, Any]:
        self.records[id_] = {
            "id": id_,
            "created_at": _stamp(self.bench.now()),
            "mime_type": body["mime_type"],
            "purpose": body.get("purpose") or "input",
            "size_bytes": body["size_bytes"],
            "state": "pending",
            "filename": body.get("filename"),
            "failure_reason": None,
            "_looked": False,
        }
        return self.records[id_]

    def _files(self) -> dict[str, dict[str, Any]]:
        return {id_: self.records[id_] for id_ in self.bench.uploads if id_ in self.records}

    def _file(self, request: Request) -> dict[str, Any]:
        record = self._files().get(request.path_params["id"])
        if record is None:
            raise HTTPException(404, "File not found")
        return record

    def _view(self, request: Request, task: Task) -> dict[str, Any]:
        phase = self.bench.phase(task)
        answer: dict[str, Any] = {
            "id": task.id,
            "type": task.data["type"],
            "model": task.model,
            "state": STATES[phase],
            "created_at": _stamp(task.accepted_at),
            "output": None,
        }
        if phase is Phase.SUCCEEDED:
            answer["output"] = [{"type": "video", "url": self.links.of(request, task)}]
        elif phase is Phase.FAILED:
            answer["failure_code"], answer["failure_reason"] = FAILURES[task.fate]
        return answer


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if not name.startswith("_")}


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _authorize(request: Request) -> None:
    if _desk.bearer(request) is None:
        raise HTTPException(401, "Invalid API key")


async def _json(request: Request) -> dict[str, Any]:
    return await _desk.json_object(request, lambda said: HTTPException(400, said))


def _refuse(refusal: _desk.Refusal) -> Response:
    status, text = {
        FaultKind.AUTH: (401, "Invalid API key"),
        FaultKind.NO_CREDIT: (402, "Insufficient balance"),
        FaultKind.SERVER_ERROR: (500, "Internal server error"),
        FaultKind.UNAVAILABLE: (503, "Service temporarily unavailable"),
        FaultKind.RATE_LIMIT: (429, "Rate limit exceeded"),
    }[refusal.kind]
    return JSONResponse({"detail": text}, status, headers=VERSION | _desk.retry_headers(refusal))


async def _http_error(request: Request, error: Exception) -> Response:
    status, text = (
        (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "Internal error")
    )
    return JSONResponse({"detail": text}, status, headers=VERSION)
