"""The twin of MiniMax Hailuo (api.minimax.io): v1 with its errors inside HTTP 200, v2 with real statuses.

It sends no callbacks (`callback_url` is taken and ignored; no challenge is posted). The five submissions a minute of a
new account are not its default, so that rehearsals do not wait; set `per_minute` to have them. MiniMax documents no
`Retry-After`; the twin sends one where a fault or a limit gives it a time.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Clip, Fate, Phase, Settings, Task
from api_providers.sandbox._faults import FaultKind
from api_providers.sandbox._hailuo_models import SIZES, Invalid, Order, read_v1, read_v2
from api_providers.sandbox._render import suffix

NAME = "hailuo"
DEFAULTS = Settings(concurrency=5)
MARKER = "forbidden-by-the-sandbox"
"""A prompt with this word is refused at submit (1026)."""
SENSITIVE = "input new_sensitive"
STATUS_V1 = {
    Phase.WAITING: "Queueing",
    Phase.QUEUED: "Preparing",
    Phase.RUNNING: "Processing",
    Phase.SUCCEEDED: "Success",
    Phase.FAILED: "Fail",
}
STATUS_V2 = {Phase.WAITING: "queued"}
"""Else the phase's own word: they are the same."""
V1_REFUSALS = {
    FaultKind.AUTH: (2049, "invalid api key"),
    FaultKind.NO_CREDIT: (1008, "insufficient balance"),
    FaultKind.RATE_LIMIT: (1002, "rate limit exceeded, please try again later"),
}
V2_REFUSALS = {
    FaultKind.AUTH: (401, "authorized_error", "invalid api key (2049)"),
    FaultKind.NO_CREDIT: (402, "insufficient_balance_error", "insufficient balance (1008)"),
    FaultKind.RATE_LIMIT: (429, "rate_limit_error", "rate limit, please retry later (1002)"),
    FaultKind.SERVER_ERROR: (500, "server_error", "internal error (1000)"),
    FaultKind.UNAVAILABLE: (503, "server_error", "service unavailable (1000)"),
}


def charge(task: Task, phase: Phase) -> Decimal:
    """v1: failed and blocked clips are free (third parties say so). v2: free only when cancelled in the queue, as
    documented; a failed task is billed in full here, because nothing says otherwise.
    """
    if phase is Phase.CANCELLED or (phase is Phase.FAILED and task.data["api"] == "v1"):
        return Decimal(0)
    return task.price


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    twin = _Hailuo(bench)
    return Starlette(
        routes=[
            Route("/v1/video_generation", twin.submit_v1, methods=["POST"]),
            Route("/v1/query/video_generation", twin.query_v1, methods=["GET"]),
            Route("/v1/files/retrieve", twin.retrieve, methods=["GET"]),
            Route("/v2/video_generation", twin.submit_v2, methods=["POST"]),
            Route("/v2/query/video_generation", twin.list_v2, methods=["GET"]),
            Route("/v2/query/video_generation/{id}", twin.query_v2, methods=["GET"]),
            Route("/v2/video_generation/{id}", twin.delete_v2, methods=["DELETE"]),
            Route("/_cdn/{id}/{name}", twin.download, methods=["GET"]),
        ]
    )


class _Hailuo:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.link_secret = secrets.token_bytes(32)

    # -- v1

    async def submit_v1(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _no_key_v1(request)
        if refused := _desk.refusal(self.bench):
            return _refuse_v1(refused)
        order = await _read(request, read_v1)
        if isinstance(order, str):
            return _v1(2013, f"invalid params, {order}")
        if MARKER in order.text:
            return _v1(1026, SENSITIVE)
        if over := _desk.limit(self.bench):
            return _refuse_v1(over)
        task = await self._accept(request, order, "v1")
        return await _desk.answer(self.bench, task, lambda t: _v1(0, "success", task_id=t.id))

    async def query_v1(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _no_key_v1(request)
        task = self._find(request.query_params.get("task_id", ""), "v1")
        if task is None:
            return _v1(2013, "invalid params, task_id does not exist", task_id="", status="")
        phase = self.bench.phase(task)
        answer: dict[str, Any] = {"task_id": task.id, "status": STATUS_V1[phase]}
        if phase is Phase.SUCCEEDED:
            answer |= {
                "file_id": task.data["file_id"],
                "video_width": task.clip.width,
                "video_height": task.clip.height,
            }
        if phase is Phase.FAILED:
            refused = task.fate is Fate.REFUSE
            return _v1(
                1027 if refused else 1000, "output new_sensitive" if refused else "unknown error", **answer
            )
        return _v1(0, "success", **answer)

    async def retrieve(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _no_key_v1(request)
        wanted = request.query_params.get("file_id", "")
        for task in self.bench.tasks.values():
            if task.data["file_id"] == wanted and self.bench.phase(task) is Phase.SUCCEEDED:
                file = {
                    "file_id": int(wanted),
                    "bytes": 0,
                    "created_at": int(task.accepted_at.timestamp()),
                    "filename": "output.mp4",
                    "purpose": "video_generation",
                    "download_url": self._link(request, task),
                }
                return _v1(0, "success", file=file)
        return _v1(2013, "invalid params, file_id does not exist")

    # -- v2

    async def submit_v2(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _no_key_v2()
        if refused := _desk.refusal(self.bench):
            return _refuse_v2(refused)
        order = await _read(request, read_v2)
        if isinstance(order, str):
            return _v2_error(400, "bad_request_error", f"invalid params, {order} (2013)")
        if MARKER in order.text:
            message = "video description contains sensitive content (1026)"
            return _v2_error(422, "unprocessable_entity_error", message)
        if over := _desk.limit(self.bench):
            return _refuse_v2(over)
        task = await self._accept(request, order, "v2")
        return await _desk.answer(self.bench, task, lambda t: JSONResponse({"task_id": t.id}))

    async def query_v2(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _no_key_v2()
        task = self._find(request.path_params["id"], "v2")
        return JSONResponse({"task": self._view(request, task)}) if task else _not_found()

    async def list_v2(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _no_key_v2()
        number, size = (
            int(text) if (text := request.query_params.get(name, "")).isdecimal() else default
            for name, default in (("page_num", 1), ("page_size", 10))
        )
        tasks = [t for t in self.bench.tasks.values() if t.data["api"] == "v2" and not t.deleted][::-1]
        page = tasks[(number - 1) * size : number * size]
        return JSONResponse({"items": [self._view(request, task) for task in page], "total": len(tasks)})

    async def delete_v2(self, request: Request) -> Response:
        if _desk.bearer(request) is None:
            return _no_key_v2()
        task = self._find(request.path_params["id"], "v2")
        if task is None:
            return _not_found()
        phase = self.bench.phase(task)
        if phase in (Phase.RUNNING, Phase.CANCELLED):
            message = f"invalid params, a {phase.value} task cannot be cancelled or deleted (2013)"
            return _v2_error(400, "bad_request_error", message)
        if phase.live:
            self.bench.stop(task)
        else:
            task.deleted = True
        return JSONResponse({"task_id": task.id, "status": "cancelled" if phase.live else "deleted"})

    def _view(self, request: Request, task: Task) -> dict[str, Any]:
        phase, order = self.bench.phase(task), task.data["order"]
        stamp = int(task.accepted_at.timestamp())
        view: dict[str, Any] = {
            "id": task.id,
            "model": task.model,
            "status": STATUS_V2.get(phase, phase.value),
            "created_at": stamp,
            "updated_at": stamp,
            "resolution": order.resolution,
            "duration": order.seconds,
            "ratio": order.ratio,
        }
        if phase is Phase.SUCCEEDED:
            view["content"] = {"url": self._link(request, task)}
            view["usage"] = {
                "total_seconds": order.seconds + order.input_seconds,
                "input_seconds": order.input_seconds,
                "output_seconds": order.seconds,
                "input_image_count": order.images,
            }
        elif phase is Phase.FAILED:
            refused = task.fate is Fate.REFUSE
            view["error"] = {
                "code": "1027" if refused else "1000",
                "message": "generated video contains sensitive content" if refused else "internal error",
            }
        return view

    # -- both

    async def _accept(self, request: Request, order: Order, api: str) -> Task:
        short = SIZES[order.resolution]
        across, _, down = order.ratio.partition(":")
        wide, high = int(across), int(down)
        width, height = (
            (round(short * wide / high), short) if wide >= high else (short, round(short * high / wide))
        )
        body = await request.json()
        return self.bench.accept(
            _digits(),
            model=body["model"],
            group=body["model"],
            price=order.usd,
            clip=Clip(width, height, order.seconds, order.text, audio=api == "v2"),
            data={"api": api, "order": order, "file_id": _digits()},
        )

    def _find(self, id_: str, api: str) -> Task | None:
        task = self.bench.get(id_)
        return task if task is not None and task.data["api"] == api else None

    async def download(self, request: Request) -> Response:
        task = self.bench.tasks.get(request.path_params["id"])
        expires = request.query_params.get("Expires", "")
        signature = request.query_params.get("Signature", "")
        if task is None or not hmac.compare_digest(signature, self._sign(f"{task.id}.{expires}")):
            return Response("SignatureDoesNotMatch", 403)
        if task.deleted or not expires.isdecimal() or self.bench.clock() > int(expires) / 1000:
            return Response("Request has expired.", 403)
        return await _desk.clip(self.bench, request, task)

    def _link(self, request: Request, task: Task) -> str:
        expires = int((self.bench.clock() + self.bench.link_seconds) * 1000)
        signature = self._sign(f"{task.id}.{expires}")
        name = f"output.{suffix(task.clip)}"
        return f"{_desk.base(request)}/_cdn/{task.id}/{name}?Expires={expires}&Signature={signature}"

    def _sign(self, text: str) -> str:
        return hmac.new(self.link_secret, text.encode(), hashlib.sha256).hexdigest()


async def _read(request: Request, read: Callable[[dict[str, Any]], Order]) -> Order | str:
    """The order, or what is wrong with the body."""
    try:
        return await asyncio.to_thread(read, await _desk.json_object(request, Invalid))
    except Invalid as error:
        return str(error)


def _digits() -> str:
    return str(10**14 + secrets.randbelow(9 * 10**14))


def _v1(code: int, message: str, *, headers: Any = None, **fields: Any) -> Response:
    body = {**fields, "base_resp": {"status_code": code, "status_msg": message}}
    return JSONResponse(body, headers={"Trace-Id": secrets.token_hex(16), **(headers or {})})


def _no_key_v1(request: Request) -> Response:
    if request.headers.get("authorization", "").startswith("Bearer "):
        return _v1(*V1_REFUSALS[FaultKind.AUTH])
    return _v1(
        1004, "login fail: Please carry the API secret key in the 'Authorization' field of the request header"
    )


def _refuse_v1(refusal: _desk.Refusal) -> Response:
    if refusal.kind in V1_REFUSALS:
        return _v1(*V1_REFUSALS[refusal.kind], headers=_desk.retry_headers(refusal))
    status = 500 if refusal.kind is FaultKind.SERVER_ERROR else 503
    return Response("Internal Server Error" if status == 500 else "Service Unavailable", status)


def _v2_error(status: int, kind: str, message: str, headers: Any = None) -> Response:
    body = {
        "type": "error",
        "error": {"type": kind, "message": message, "http_code": str(status)},
        "request_id": secrets.token_hex(16),
    }
    return JSONResponse(body, status, headers={"Trace-Id": secrets.token_hex(16), **(headers or {})})


def _no_key_v2() -> Response:
    return _v2_error(*V2_REFUSALS[FaultKind.AUTH])


def _refuse_v2(refusal: _desk.Refusal) -> Response:
    return _v2_error(*V2_REFUSALS[refusal.kind], headers=_desk.retry_headers(refusal))


def _not_found() -> Response:
    return _v2_error(500, "server_error", "record not found (1000)")
