"""The twin of Runway (api.dev.runwayml.com, 2024-11-06): tasks, uploads, organisation, signed result links."""

import asyncio
import hashlib
import hmac
import secrets
import uuid
from collections import Counter
from decimal import ROUND_CEILING, Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Clip, Fate, Phase, Settings, Task
from api_providers.sandbox._faults import FaultKind
from api_providers.sandbox._render import suffix
from api_providers.sandbox._runway_inputs import ASSUMED_SECONDS, check
from api_providers.sandbox._runway_models import AUTO, ENDPOINTS
from api_providers.sandbox._runway_prices import CREDIT_USD, credits

NAME = "runway"
VERSION = "2024-11-06"
DEFAULTS = Settings(concurrency=3, per_day=1000)
"""Tier 2."""
BALANCE_CREDITS = 1_000_000
MONTHLY_CREDITS = 50_000
AUTO_SECONDS = 5
"""What a model chooses when `duration` is "auto"."""
UPLOAD_MAX = 200 * 1024 * 1024
NO_CREDIT = "You do not have enough credits to run this task."
FAILURES = {
    Fate.FAIL: ("An unexpected error occurred.", "INTERNAL"),
    Fate.REFUSE: ("The prompt was blocked by our content moderation.", "SAFETY.INPUT.TEXT"),
}


def charge(task: Task, phase: Phase) -> Decimal:
    """Charged at submit; refunded on an internal failure and a cancel before the start, not on moderation."""
    match phase:
        case Phase.FAILED if task.fate is not Fate.REFUSE:
            return Decimal(0)
        case Phase.CANCELLED if task.stopped_in is not Phase.RUNNING:
            return Decimal(0)
        case Phase.SUCCEEDED:
            return _whole_credits(task.price * task.data["used"]) * CREDIT_USD
    return _whole_credits(task.price) * CREDIT_USD


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    twin = _Runway(bench)
    routes = [Route(f"/v1/{name}", twin.submit, methods=["POST"], name=name) for name in ENDPOINTS]
    routes += [
        Route("/v1/tasks/{id}", twin.task, methods=["GET"]),
        Route("/v1/tasks/{id}", twin.delete, methods=["DELETE"]),
        Route("/v1/uploads", twin.start_upload, methods=["POST"]),
        Route("/v1/organization", twin.organization, methods=["GET"]),
        Route("/v1/organization/usage", twin.usage, methods=["POST"]),
        Route("/_upload/{id}", twin.take_upload, methods=["POST"]),
        Route("/_cdn/{id}/{name}", twin.download, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


class _Runway:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.link_secret = secrets.token_bytes(32)

    async def submit(self, request: Request) -> Response:
        _authorize(request)
        refused = _desk.refusal(self.bench)
        if refused:
            return _refuse(refused)
        endpoint = request.url.path.rsplit("/", 1)[-1]
        body = await _json(request)
        model = body.get("model")
        shape = ENDPOINTS[endpoint].get(model) if isinstance(model, str) else None
        if shape is None:
            known = ", ".join(sorted(ENDPOINTS[endpoint]))
            return _invalid([{"path": ["model"], "message": f"Expected one of {known}"}])
        found = await asyncio.to_thread(check, body, shape, self.bench)
        if found.issues:
            return _invalid(found.issues)
        over = _desk.limit(self.bench)
        if over:
            return _refuse(over)
        longest = shape.durations[-1]
        asked = body.get("duration", shape.seconds)
        seconds = float(longest if asked == AUTO else asked)
        if found.video_seconds is not None and "duration" not in body:
            seconds = found.video_seconds
        price = credits(endpoint, body, seconds, found)
        if price * self.bench.settings.price_factor > self._balance():
            return _refuse(_desk.Refusal(FaultKind.NO_CREDIT))
        used = Decimal(AUTO_SECONDS) / longest if asked == AUTO else Decimal(1)
        task = self.bench.accept(
            str(uuid.uuid4()),
            model=str(model),
            group=str(model),
            price=price * CREDIT_USD,
            clip=_clip(endpoint, body, float(AUTO_SECONDS) if asked == AUTO else seconds),
            data={"used": used},
        )
        return await _desk.answer(self.bench, task, self._accepted)

    async def task(self, request: Request) -> Response:
        _authorize(request)
        task = self._find(request)
        phase = self.bench.phase(task)
        created = task.accepted_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        answer: dict[str, Any] = {"id": task.id, "createdAt": created, "status": _status(phase)}
        if phase.live:
            answer["estimatedCost"] = {"credits": int(_whole_credits(task.price))}
        else:
            answer["cost"] = {"credits": int(self.bench.charged(task) / CREDIT_USD)}
        if phase is Phase.RUNNING:
            answer["progress"] = self.bench.progress(task)
        elif phase is Phase.SUCCEEDED:
            answer["output"] = [self._link(request, task)]
        elif phase is Phase.FAILED:
            answer["failure"], answer["failureCode"] = FAILURES[task.fate]
        return JSONResponse(answer)

    async def delete(self, request: Request) -> Response:
        _authorize(request)
        task = self._find(request)
        if not self.bench.stop(task).live:
            task.deleted = True
        return Response(status_code=204)

    async def start_upload(self, request: Request) -> Response:
        _authorize(request)
        body = await _json(request)
        if not isinstance(body.get("filename"), str) or not body["filename"]:
            return _invalid([{"path": ["filename"], "message": "Expected a non-empty string"}])
        if body.get("type") != "ephemeral":
            return _invalid([{"path": ["type"], "message": "Expected ephemeral"}])
        id_ = str(uuid.uuid4())
        self.bench.uploads[id_] = None
        fields = {
            "key": f"uploads/{id_}/{body['filename']}",
            "policy": "sandbox",
            "x-amz-signature": self._sign(id_),
        }
        answer = {
            "uploadUrl": f"{_desk.base(request)}/_upload/{id_}",
            "fields": fields,
            "runwayUri": f"runway://{id_}",
        }
        return JSONResponse(answer)

    async def take_upload(self, request: Request) -> Response:
        id_ = request.path_params["id"]
        async with request.form() as form:
            parts = form.multi_items()
            signed = form.get("x-amz-signature")
            if id_ not in self.bench.uploads or signed != self._sign(id_):
                raise HTTPException(403, "The upload signature does not match")
            file = parts[-1][1] if parts and parts[-1][0] == "file" else None
            if file is None or isinstance(file, str):
                raise HTTPException(400, "The last part of the form must be the file")
            content = await file.read()
        if len(content) > UPLOAD_MAX:
            raise HTTPException(400, "The file is larger than 200 MB")
        self.bench.uploads[id_] = content
        return Response(status_code=204)

    async def organization(self, request: Request) -> Response:
        _authorize(request)
        models = sorted({name for shapes in ENDPOINTS.values() for name in shapes})
        settings = self.bench.settings
        limits = {"maxConcurrentGenerations": settings.concurrency, "maxDailyGenerations": settings.per_day}
        used = Counter(task.model for task in self.bench.tasks.values())
        return JSONResponse(
            {
                "creditBalance": int(self._balance()),
                "tier": {"maxMonthlyCreditSpend": MONTHLY_CREDITS, "models": dict.fromkeys(models, limits)},
                "usage": {"models": {name: {"dailyGenerations": count} for name, count in used.items()}},
            }
        )

    async def usage(self, request: Request) -> Response:
        _authorize(request)
        body = await _json(request)
        days: dict[str, Counter[str]] = {}
        for task in self.bench.tasks.values():
            day = task.accepted_at.date().isoformat()
            if str(body.get("startDate", "")) <= day < str(body.get("beforeDate", "9999")):
                days.setdefault(day, Counter())[task.model] += int(self.bench.charged(task) / CREDIT_USD)
        rows = [
            {"date": day, "usedCredits": [{"model": name, "amount": amount} for name, amount in used.items()]}
            for day, used in sorted(days.items())
        ]
        return JSONResponse(
            {"results": rows, "models": sorted({name for used in days.values() for name in used})}
        )

    async def download(self, request: Request) -> Response:
        task = self.bench.tasks.get(request.path_params["id"])
        expires, _, signature = request.query_params.get("_jwt", "").partition(".")
        if task is None or not hmac.compare_digest(signature, self._sign(f"{task.id}.{expires}")):
            raise HTTPException(403, "Access denied")
        if task.deleted or not expires.isdecimal() or self.bench.clock() > int(expires) / 1000:
            raise HTTPException(403, "The link has expired")
        return await _desk.clip(self.bench, request, task)

    def _accepted(self, task: Task) -> Response:
        return JSONResponse({"id": task.id, "estimatedCost": {"credits": int(_whole_credits(task.price))}})

    def _find(self, request: Request) -> Task:
        task = self.bench.get(request.path_params["id"])
        if task is None:
            raise HTTPException(404, "Task not found")
        return task

    def _balance(self) -> Decimal:
        return BALANCE_CREDITS - self.bench.spent() / CREDIT_USD

    def _link(self, request: Request, task: Task) -> str:
        expires = int((self.bench.clock() + self.bench.link_seconds) * 1000)
        signature = self._sign(f"{task.id}.{expires}")
        return f"{_desk.base(request)}/_cdn/{task.id}/output.{suffix(task.clip)}?_jwt={expires}.{signature}"

    def _sign(self, text: str) -> str:
        return hmac.new(self.link_secret, text.encode(), hashlib.sha256).hexdigest()


def _authorize(request: Request) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not key.startswith("sandbox-"):
        raise HTTPException(401, "The API key is invalid or has been disabled.")
    if request.headers.get("x-runway-version") != VERSION:
        raise HTTPException(400, f"The X-Runway-Version header must be set to {VERSION}.")


async def _json(request: Request) -> dict[str, Any]:
    return await _desk.json_object(request, lambda said: HTTPException(400, said))


def _clip(endpoint: str, body: dict[str, Any], seconds: float) -> Clip:
    ratio = str(body.get("ratio", body.get("targetAspectRatio", "")))
    width, _, height = ratio.partition(":")
    sized = width.isdecimal() and height.isdecimal() and int(width) and int(height)
    w, h = (int(width), int(height)) if sized else (16, 9)
    still = endpoint == "text_to_image"
    text = str(body.get("promptText", "")) + str(body.get("seed", ""))
    audio = body.get("audio", str(body["model"]).startswith("veo")) is True and not still
    return Clip(w, h, seconds or ASSUMED_SECONDS, text, audio=audio, still=still)


def _status(phase: Phase) -> str:
    return {Phase.WAITING: "THROTTLED", Phase.QUEUED: "PENDING"}.get(phase, phase.value.upper())


def _whole_credits(usd: Decimal) -> Decimal:
    return (usd / CREDIT_USD).to_integral_value(ROUND_CEILING)


def _invalid(issues: list[dict[str, Any]]) -> Response:
    answer = {
        "error": "Validation of body failed",
        "docUrl": "https://docs.dev.runwayml.com/api",
        "issues": [{"code": "custom", **issue} for issue in issues],
    }
    return JSONResponse(answer, 400)


def _refuse(refusal: _desk.Refusal) -> Response:
    status, message = {
        FaultKind.AUTH: (401, "The API key is invalid or has been disabled."),
        FaultKind.NO_CREDIT: (400, NO_CREDIT),
        FaultKind.SERVER_ERROR: (500, "Internal server error"),
        FaultKind.UNAVAILABLE: (503, "The service is temporarily unavailable."),
        FaultKind.RATE_LIMIT: (429, "Too many requests. Please try again later."),
    }[refusal.kind]
    if refusal.daily:
        message = "You have reached the daily generation limit of this model."
    return JSONResponse({"error": message}, status, headers=_desk.retry_headers(refusal))


async def _http_error(request: Request, error: Exception) -> Response:
    status, detail = (
        (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "Internal error")
    )
    return JSONResponse({"error": detail}, status)
