"""The twin of AI/ML API (api.aimlapi.com): one route for all video models, its own statuses, balance.

A look names the task in the query, percent-encoded or, as the vendor's own client sends it, raw. Failed tasks are never
charged, a clip when it is completed (docs). There is no cancel, no list and no upload.
"""

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._aimlapi_models import MODELS, issues, price, seconds, sounds
from api_providers.sandbox._bench import Bench, Clip, Fate, Phase, Settings, Task
from api_providers.sandbox._faults import FaultKind
from api_providers.sandbox._render import suffix

NAME = "aimlapi"
DEFAULTS = Settings(concurrency=5)
"""The real numbers depend on the plan and are not documented."""
BALANCE_USD = Decimal(1000)
CREDITS_PER_USD = 2_000_000
"""Made up; what a credit is worth is not documented."""
ROUTES = ("/v2/video/generations", "/v1/video/generations", "/video/generations")
OLDER = "/v2/generate/video/{vendor}/generation"
NO_KEY = (
    "This request requires a valid API key. You can create a new API key on the Billing page: "
    "https://aimlapi.com/app/keys"
)
NO_CREDIT = (
    "You've run out of credits. Please top up your balance or update your payment method to continue: "
    "https://aimlapi.com/app/billing/"
)
ERRORS = {
    Fate.FAIL: {"name": "Error", "message": "Could not detect face in the image"},
    Fate.REFUSE: {"name": "Error", "message": "The prompt was rejected by content moderation"},
}


def charge(task: Task, phase: Phase) -> Decimal:
    """Charged when completed; a failure never."""
    return task.price if phase is Phase.SUCCEEDED else Decimal(0)


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    twin = _AimlApi(bench)
    paths = [*ROUTES, OLDER]
    return Starlette(
        routes=[
            *(Route(path, twin.submit, methods=["POST"]) for path in paths),
            *(Route(path, twin.look, methods=["GET"]) for path in paths),
            Route("/v2/billing", twin.billing, methods=["GET"]),
            Route("/_cdn/{id}/{name}", twin.download, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )


class _AimlApi:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def submit(self, request: Request) -> Response:
        _authorize(request)
        refused = _desk.refusal(self.bench)
        if refused:
            return _refuse(request, refused)
        body = await _desk.json_object(request, lambda said: HTTPException(400, said))
        model = body.get("model")
        if not isinstance(model, str) or model not in MODELS:
            raise HTTPException(404, f"Model {model} not found")
        found = issues(body, MODELS[model])
        if found:
            return _said(request, 400, "Body validation error!", errors=found)
        over = _desk.limit(self.bench)
        if over:
            return _refuse(request, over)
        cost = price(model, body)
        if cost * self.bench.settings.price_factor > BALANCE_USD - self.bench.spent():
            return _refuse(request, _desk.Refusal(FaultKind.NO_CREDIT))
        task = self.bench.accept(
            f"{uuid.uuid4()}:{model}",
            model=model,
            group=NAME,
            price=cost,
            clip=_clip(model, body),
            data={"inference": str(uuid.uuid4())},
        )
        return await _desk.answer(self.bench, task, self._accepted)

    async def look(self, request: Request) -> Response:
        _authorize(request)
        id_ = request.query_params.get("generation_id")
        if not id_:
            raise HTTPException(400, "generation_id is required")
        task = self.bench.get(id_)
        if task is None:
            raise HTTPException(404, "Generation not found")
        phase = self.bench.phase(task)
        answer: dict[str, Any] = {"id": task.id, "status": _status(phase), "video": None, "error": None}
        if phase is Phase.SUCCEEDED:
            file = task.id.partition(":")[0]
            answer["video"] = {"url": f"{_desk.base(request)}/_cdn/{file}/output.{suffix(task.clip)}"}
            answer["meta"] = {"usage": {"credits_used": int(task.price * CREDITS_PER_USD)}}
        elif phase is Phase.FAILED:
            answer["error"] = ERRORS[task.fate]
        return JSONResponse(answer)

    async def billing(self, request: Request) -> Response:
        _authorize(request)
        left = BALANCE_USD - self.bench.spent()
        return JSONResponse({"current_balance": float(left), "currency": "USD"})

    async def download(self, request: Request) -> Response:
        file = request.path_params["id"]
        task = next((task for id_, task in self.bench.tasks.items() if id_.startswith(f"{file}:")), None)
        if task is None or self.bench.phase(task) is not Phase.SUCCEEDED:
            raise HTTPException(404, "Not Found")
        if self.bench.clock() > task.ends + self.bench.link_seconds:
            raise HTTPException(403, "Access denied")
        return await _desk.clip(self.bench, request, task)

    def _accepted(self, task: Task) -> Response:
        answer = {"id": task.id, "status": "queued"}
        return JSONResponse(answer, headers={"x-inference-id": task.data["inference"]})


def _authorize(request: Request) -> None:
    if _desk.bearer(request) is None:
        raise HTTPException(401, NO_KEY)


def _status(phase: Phase) -> str:
    """The vendor's client goes on asking at `queued` and `generating` only."""
    if phase.live:
        return "generating" if phase is Phase.RUNNING else "queued"
    return "completed" if phase is Phase.SUCCEEDED else "error"


def _clip(model: str, body: dict[str, Any]) -> Clip:
    ratio = str(body.get("aspect_ratio") or body.get("ratio") or "")
    width, _, height = ratio.partition(":")
    w, h = (int(width), int(height)) if width.isdecimal() and height.isdecimal() else (16, 9)
    text = f"{body.get('prompt', '')}{body.get('effect_scene', '')}{body.get('seed', '')}"
    return Clip(w, h, float(seconds(model, body)), text, audio=sounds(model, body))


def _said(
    request: Request, status: int, message: str, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    body = {
        "message": message,
        "path": request.url.path.removeprefix(request.scope.get("root_path", "")),
        "requestId": str(uuid.uuid4()),
        "statusCode": status,
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **more,
    }
    return JSONResponse(body, status, headers=headers)


def _refuse(request: Request, refusal: _desk.Refusal) -> Response:
    status, message = {
        FaultKind.AUTH: (401, NO_KEY),
        FaultKind.NO_CREDIT: (403, NO_CREDIT),
        FaultKind.SERVER_ERROR: (500, "Internal Server Error"),
        FaultKind.UNAVAILABLE: (503, "Service Unavailable"),
        FaultKind.RATE_LIMIT: (429, "Too Many Requests"),
    }[refusal.kind]
    return _said(request, status, message, _desk.retry_headers(refusal))


async def _http_error(request: Request, error: Exception) -> Response:
    status, text = (
        (error.status_code, error.detail)
        if isinstance(error, HTTPException)
        else (500, "Internal Server Error")
    )
    return _said(request, status, text)
