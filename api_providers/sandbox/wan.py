"""The twin of DashScope for Wan: tasks, both input protocols, the storage permit and its bucket, result links.

Five submissions a second per model are not modelled (the bench knows minutes and days); the five running tasks are: the
sixth stays PENDING. DashScope documents no `Retry-After`; the twin sends one where a fault or a limit gives it a time.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import uuid
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import DAY_S, Bench, Clip, Fate, Phase, Settings, Task
from api_providers.sandbox._faults import FaultKind
from api_providers.sandbox._render import suffix
from api_providers.sandbox._wan_models import MODELS, Invalid, Order, read

NAME = "wan"
DEFAULTS = Settings(concurrency=5)
MARKER = "forbidden-by-the-sandbox"
"""A prompt with this word is refused at submit."""
INSPECTED = "Input data may contain inappropriate content."
STATUS = {
    Phase.WAITING: "PENDING",
    Phase.QUEUED: "PENDING",
    Phase.RUNNING: "RUNNING",
    Phase.SUCCEEDED: "SUCCEEDED",
    Phase.FAILED: "FAILED",
    Phase.CANCELLED: "CANCELED",
}
FAILURES = {
    Fate.FAIL: ("InternalError.Algo", "internal error"),
    Fate.REFUSE: ("DataInspectionFailed", "Output data may contain inappropriate content."),
}
REFUSALS = {
    FaultKind.AUTH: (401, "InvalidApiKey", "Invalid API-key provided."),
    FaultKind.NO_CREDIT: (
        400,
        "Arrearage",
        "Access denied, please make sure your account is in good standing.",
    ),
    FaultKind.RATE_LIMIT: (
        429,
        "Throttling.RateQuota",
        "Requests rate limit exceeded, please try again later.",
    ),
    FaultKind.SERVER_ERROR: (500, "InternalError", "An internal error has occured, please try again later."),
    FaultKind.UNAVAILABLE: (503, "ServiceUnavailable", "The service is temporarily unavailable."),
}


def charge(task: Task, phase: Phase) -> Decimal:
    """Output seconds are billed; failed requests are neither billed nor counted, and only a waiting one can be cancelled."""
    return task.price if phase is Phase.SUCCEEDED else Decimal(0)


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    twin = _Wan(bench)
    return Starlette(
        routes=[
            Route("/api/v1/services/aigc/{service}/video-synthesis", twin.submit, methods=["POST"]),
            Route("/api/v1/tasks", twin.list, methods=["GET"]),
            Route("/api/v1/tasks/{id}", twin.task, methods=["GET"]),
            Route("/api/v1/tasks/{id}/cancel", twin.cancel, methods=["POST"]),
            Route("/api/v1/uploads", twin.permit, methods=["GET"]),
            Route("/_upload", twin.take_upload, methods=["POST"]),
            Route("/_cdn/{id}/{name}", twin.download, methods=["GET"]),
        ]
    )


class _Wan:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.link_secret = secrets.token_bytes(32)
        self.permits: dict[str, str] = {}
        """Upload folder -> the model it is bound to."""

    async def submit(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _refuse(_desk.Refusal(FaultKind.AUTH))
        if refused := _desk.refusal(self.bench):
            return _refuse(refused)
        if request.headers.get("x-dashscope-async") != "enable":
            return _error(403, "AccessDenied", "current user api does not support synchronous calls.")
        try:
            body = await _desk.json_object(request, Invalid)
            order = await self._order(request, body)
        except Invalid as error:
            return _error(400, error.code, str(error))
        if order is None:
            return _error(404, "ModelNotFound", "Model not exist.")
        if MARKER in order.text:
            return _error(400, "DataInspectionFailed", INSPECTED)
        if over := _desk.limit(self.bench):
            return _refuse(over)
        task = self.bench.accept(
            str(uuid.uuid4()),
            model=str(body["model"]),
            group=str(body["model"]),
            price=order.usd,
            clip=Clip(order.width, order.height, order.seconds, order.text, audio=order.audio),
            data={"order": order, "extended": body.get("parameters", {}).get("prompt_extend", True)},
        )
        return await _desk.answer(
            self.bench, task, lambda t: _ok(output={"task_status": "PENDING", "task_id": t.id})
        )

    async def _order(self, request: Request, body: dict[str, Any]) -> Order | None:
        """None for a model that does not exist; raises Invalid."""
        name, service = str(body.get("model")), request.path_params["service"]
        model = MODELS.get(name)
        if model is None:
            return None
        if service not in ("video-generation", "image2video"):
            raise Invalid("url error, please check url!")
        if (service == "image2video") is not model.keyframes:
            raise Invalid("url error, please check url!")
        resolves = request.headers.get("x-dashscope-ossresourceresolve") == "enable"

        def stored(key: str) -> bytes | None:
            bound = self.permits.get(key.rpartition("/")[0])
            return self.bench.uploads.get(key) if resolves and bound == name else None

        return await asyncio.to_thread(read, body, model, stored)

    async def task(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _refuse(_desk.Refusal(FaultKind.AUTH))
        task = self._find(request)
        if task is None:
            return _ok(output={"task_id": request.path_params["id"], "task_status": "UNKNOWN"})
        phase = self.bench.phase(task)
        order: Order = task.data["order"]
        stamp = task.accepted_at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        output = {"task_id": task.id, "task_status": STATUS[phase], "submit_time": stamp}
        if phase is Phase.FAILED:
            output["code"], output["message"] = FAILURES[task.fate]
        if phase is not Phase.SUCCEEDED:
            return _ok(output=output)
        output |= {"orig_prompt": order.text, "video_url": self._link(request, task)}
        if task.data["extended"]:
            output["actual_prompt"] = f"{order.text}, in rich detail"
        usage = {
            "duration": order.billed_seconds,
            "output_video_duration": order.seconds,
            "input_video_duration": order.input_seconds,
            "SR": int(order.resolution.removesuffix("P")),
            "size": f"{order.width}*{order.height}",
            "video_count": 1,
        }
        return _ok(output=output, usage=usage)

    async def cancel(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _refuse(_desk.Refusal(FaultKind.AUTH))
        task = self._find(request)
        if task is None or STATUS[self.bench.phase(task)] != "PENDING":
            message = "Failed to cancel the task, please confirm if the task is in PENDING status."
            return _error(400, "UnsupportedOperation", message)
        self.bench.stop(task)
        return _ok()

    async def list(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _refuse(_desk.Refusal(FaultKind.AUTH))
        query = request.query_params
        number, size = int(query.get("page_no", 1)), int(query.get("page_size", 10))
        rows = [
            {"task_id": task.id, "model_name": task.model, "status": STATUS[self.bench.phase(task)]}
            for task in reversed(self.bench.tasks.values())
        ]
        for name in ("model_name", "status"):
            if wanted := query.get(name):
                rows = [row for row in rows if row[name] == wanted]
        page = rows[(number - 1) * size : number * size]
        pages = -(-len(rows) // size)
        return _ok(data=page, total=len(rows), total_page=pages, page_no=number, page_size=size)

    # -- storage

    async def permit(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _refuse(_desk.Refusal(FaultKind.AUTH))
        model = request.query_params.get("model", "")
        if request.query_params.get("action") != "getPolicy" or not model:
            return _error(400, "InvalidParameter", "action must be getPolicy and model must be given")
        folder = f"dashscope-instant/{secrets.token_hex(8)}/{uuid.uuid4()}"
        self.permits[folder] = model
        policy = base64.b64encode(folder.encode()).decode()
        data = {
            "policy": policy,
            "signature": self._sign(policy),
            "upload_dir": folder,
            "upload_host": f"{_desk.base(request)}/_upload",
            "expire_in_seconds": 300,
            "max_file_size_mb": 100,
            "capacity_limit_mb": 999999999,
            "oss_access_key_id": "LTAI-sandboxed",
            "x_oss_object_acl": "private",
            "x_oss_forbid_overwrite": "true",
        }
        return _ok(data=data)

    async def take_upload(self, request: Request) -> Response:
        async with request.form() as form:
            parts = form.multi_items()
            fields = {name: value for name, value in parts if isinstance(value, str)}
            policy, key = fields.get("policy", ""), fields.get("key", "")
            folder = base64.b64decode(policy.encode(), validate=False).decode("utf-8", "replace")
            signed = hmac.compare_digest(fields.get("Signature", ""), self._sign(policy))
            if not signed or fields.get("OSSAccessKeyId") != "LTAI-sandboxed":
                return _xml(403, "SignatureDoesNotMatch")
            if key.rpartition("/")[0] != folder or fields.get("x-oss-object-acl") != "private":
                return _xml(403, "AccessDenied")
            name, file = parts[-1]
            if name != "file" or isinstance(file, str):
                return _xml(400, "IncorrectNumberOfFilesInPOSTRequest")
            if key in self.bench.uploads:
                return _xml(409, "FileAlreadyExists")
            self.bench.uploads[key] = await file.read()
        return Response(status_code=int(fields.get("success_action_status", "204")))

    async def download(self, request: Request) -> Response:
        task = self.bench.get(request.path_params["id"])
        expires = request.query_params.get("Expires", "")
        signature = request.query_params.get("Signature", "")
        if task is None or not hmac.compare_digest(signature, self._sign(f"{task.id}.{expires}")):
            return _xml(403, "SignatureDoesNotMatch")
        if not expires.isdecimal() or self.bench.clock() > int(expires) / 1000:
            return _xml(403, "AccessDenied")
        return await _desk.clip(self.bench, request, task)

    def _find(self, request: Request) -> Task | None:
        """Tasks are forgotten after 24 hours."""
        task = self.bench.get(request.path_params["id"])
        return None if task is None or self.bench.clock() > task.accepted + DAY_S else task

    def _link(self, request: Request, task: Task) -> str:
        expires = int((task.ends + self.bench.link_seconds) * 1000)
        signature = self._sign(f"{task.id}.{expires}")
        name = f"output.{suffix(task.clip)}"
        return f"{_desk.base(request)}/_cdn/{task.id}/{name}?Expires={expires}&Signature={signature}"

    def _sign(self, text: str) -> str:
        return hmac.new(self.link_secret, text.encode(), hashlib.sha256).hexdigest()


def _ok(**fields: Any) -> Response:
    return JSONResponse({"request_id": str(uuid.uuid4()), **fields})


def _error(status: int, code: str, message: str, headers: Any = None) -> Response:
    body = {"code": code, "message": message, "request_id": str(uuid.uuid4())}
    return JSONResponse(body, status, headers=headers)


def _refuse(refusal: _desk.Refusal) -> Response:
    return _error(*REFUSALS[refusal.kind], headers=_desk.retry_headers(refusal))


def _xml(status: int, code: str) -> Response:
    return Response(f"<Error><Code>{code}</Code></Error>", status, media_type="application/xml")
