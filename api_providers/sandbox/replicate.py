"""The twin of Replicate: predictions, models with their schemas, files and the delivery host (api.replicate.com)."""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Clip, Fate, Phase, Settings, Task
from api_providers.sandbox._faults import FaultKind
from api_providers.sandbox._render import suffix
from api_providers.sandbox._replicate_files import ALPHABET, NOT_FOUND, Files, Problem, authorize
from api_providers.sandbox._replicate_inputs import check, unusable
from api_providers.sandbox._replicate_models import (
    MODELS,
    Model,
    by_version,
    clip_seconds,
    openapi,
    version_of,
)

NAME = "replicate"
DEFAULTS = Settings(concurrency=10, per_minute=600)
KEEPS_S = 3600.0
"""Inputs, outputs and logs of a prediction are removed an hour after its end."""
STEPS = 50
NO_VERSION = (
    "The specified version does not exist (or perhaps you don't have permission to use it?)",
    "Invalid version or not permitted",
)


def charge(task: Task, phase: Phase) -> Decimal:
    """Charged for what was made and, to be on the safe side, in full for a run that was cancelled at work.

    The documentation charges the time that a cancelled run used, nothing for an aborted one, and (unverified) nothing
    for a failed run of an official model.
    """
    if phase is Phase.SUCCEEDED:
        return task.price
    if phase is Phase.CANCELLED and task.stopped_in is Phase.RUNNING:
        return task.price
    return Decimal(0)


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    bench.link_seconds = KEEPS_S
    twin = _Replicate(bench)
    return Starlette(
        routes=[
            Route("/v1/account", twin.account, methods=["GET"]),
            Route("/v1/predictions", twin.run_version, methods=["POST"]),
            Route("/v1/predictions", twin.list_predictions, methods=["GET"]),
            Route("/v1/predictions/{id}", twin.get, methods=["GET"]),
            Route("/v1/predictions/{id}/cancel", twin.cancel, methods=["POST"]),
            Route("/v1/models/{owner}/{name}", twin.model, methods=["GET"]),
            Route("/v1/models/{owner}/{name}/predictions", twin.run_model, methods=["POST"]),
            Route("/v1/models/{owner}/{name}/versions/{version}", twin.version, methods=["GET"]),
            Route("/v1/files", twin.files.take, methods=["POST"]),
            Route("/v1/files", twin.files.list_all, methods=["GET"]),
            Route("/v1/files/{id}", twin.files.one, methods=["GET", "DELETE"]),
            Route("/_cdn/xezq/{token}/{name}", twin.download, methods=["GET"]),
        ],
        exception_handlers={Problem: _say, 404: _no_route, 405: _no_route},
    )


class _Replicate:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.files = Files(bench)

    async def account(self, request: Request) -> Response:
        authorize(request)
        return JSONResponse(
            {
                "type": "user",
                "username": "sandbox",
                "name": "Sandbox",
                "github_url": "https://github.com/sandbox",
            }
        )

    async def run_model(self, request: Request) -> Response:
        refused = self._let_in(request)
        if refused:
            return refused
        name = _name(request)
        if name not in MODELS or not MODELS[name].official:
            raise Problem(404, NOT_FOUND)
        return await self._run(request, name, await _body(request), version="hidden")

    async def run_version(self, request: Request) -> Response:
        refused = self._let_in(request)
        if refused:
            return refused
        body = await _body(request)
        version = body.get("version")
        if not isinstance(version, str):
            raise Problem(
                422,
                "- version is required\n",
                "Input validation failed",
                invalid_fields=[
                    {"type": "required", "field": "version", "description": "version is required"}
                ],
            )
        name = by_version(version)
        if name is None:
            raise Problem(422, *NO_VERSION)
        return await self._run(
            request, name, body, version="hidden" if MODELS[name].official else version_of(name)
        )

    def _let_in(self, request: Request) -> Response | None:
        authorize(request)
        refused = _desk.refusal(self.bench)
        return _refuse(refused) if refused else None

    async def _run(self, request: Request, name: str, body: dict[str, Any], version: str) -> Response:
        given, model = body.get("input"), MODELS[name]
        if not isinstance(given, dict):
            given = {}
        filled, wrong = check(given, model)
        if wrong:
            raise Problem(
                422,
                "".join(f"- input: {description}\n" for _, description in wrong),
                "Input validation failed",
                invalid_fields=[
                    {"type": kind, "field": "input", "description": text} for kind, text in wrong
                ],
            )
        over = _desk.limit(self.bench)
        if over:
            return _refuse(over)
        seconds = clip_seconds(model, filled)
        failure = unusable(filled, model, self.files.known)
        task = self.bench.accept(
            "".join(secrets.choice(ALPHABET) for _ in range(26)),
            model=name,
            group=name,
            price=Decimal(0) if failure else model.price(filled, Decimal(str(seconds))),
            clip=_clip(filled, seconds),
            fate=Fate.INVALID if failure else None,
            data={"input": given, "version": version, "failure": failure},
        )
        # `Prefer: wait` is answered as if its time had run out: a twin does not hold a connection for a minute.
        status = 202 if request.headers.get("prefer", "").startswith("wait") else 201
        return await _desk.answer(
            self.bench, task, lambda accepted: JSONResponse(self._view(request, accepted), status)
        )

    async def get(self, request: Request) -> Response:
        authorize(request)
        return JSONResponse(self._view(request, self._find(request)))

    async def list_predictions(self, request: Request) -> Response:
        authorize(request)
        tasks = [task for task in reversed(self.bench.tasks.values()) if not task.deleted]
        views = [self._view(request, task) for task in tasks[:100]]
        return JSONResponse({"next": None, "previous": None, "results": views})

    async def cancel(self, request: Request) -> Response:
        authorize(request)
        task = self._find(request)
        self.bench.stop(task)
        return JSONResponse(self._view(request, task))

    async def model(self, request: Request) -> Response:
        authorize(request)
        name = _name(request)
        if name not in MODELS:
            raise Problem(404, NOT_FOUND)
        owner, _, short = name.partition("/")
        return JSONResponse(
            {
                "url": f"https://replicate.com/{name}",
                "owner": owner,
                "name": short,
                "description": None,
                "visibility": "public",
                "github_url": None,
                "paper_url": None,
                "license_url": None,
                "run_count": 1,
                "cover_image_url": None,
                "default_example": None,
                "latest_version": _version(name, MODELS[name]),
            }
        )

    async def version(self, request: Request) -> Response:
        authorize(request)
        name = _name(request)
        if name not in MODELS or version_of(name) != request.path_params["version"]:
            raise Problem(404, NOT_FOUND)
        return JSONResponse(_version(name, MODELS[name]))

    async def download(self, request: Request) -> Response:
        task = next((t for t in self.bench.tasks.values() if _token(t) == request.path_params["token"]), None)
        if task is None or self.bench.phase(task) is not Phase.SUCCEEDED or self._removed(task):
            return Response("Not Found", 404)
        return await _desk.clip(self.bench, request, task)

    def _view(self, request: Request, task: Task) -> dict[str, Any]:
        phase, removed = self.bench.phase(task), self._removed(task)
        base = f"{_desk.base(request)}/v1/predictions/{task.id}"
        status = _status(task, phase)
        done = task.ends if not phase.live else None
        metrics = None
        if status in {"succeeded", "failed", "canceled"} and done is not None:
            metrics = {"predict_time": round(done - (task.started or done), 3)}
        return {
            "id": task.id,
            "model": task.model,
            "version": task.data["version"],
            "status": status,
            "input": {} if removed else task.data["input"],
            "output": self._output(request, task) if status == "succeeded" and not removed else None,
            "error": _error(task) if status == "failed" else None,
            "logs": "" if removed else self._logs(task, phase),
            "metrics": metrics,
            "data_removed": removed,
            "created_at": self._at(task, task.accepted),
            "started_at": None if status in {"starting", "aborted"} else self._at(task, task.started),
            "completed_at": self._at(task, done),
            "urls": {"get": base, "cancel": f"{base}/cancel", "web": f"https://replicate.com/p/{task.id}"},
        }

    def _output(self, request: Request, task: Task) -> Any:
        link = f"{_desk.base(request)}/_cdn/xezq/{_token(task)}/output.{suffix(task.clip)}"
        return {"link": link, "list": [link], "table": {"video": link, "frames": 24}}[
            MODELS[task.model].output
        ]

    def _logs(self, task: Task, phase: Phase) -> str:
        """A progress bar as models print it, one line for every look of theirs."""
        if phase is not Phase.RUNNING:
            return ""
        done = int(self.bench.progress(task) * STEPS)
        lines = [
            f"{n * 100 // STEPS:3d}%|{'█' * (n // 5):10}| {n}/{STEPS} [00:01<00:02, 10.00it/s]"
            for n in sorted({0, done})
        ]
        return "\n".join(["Running...", *lines])

    def _removed(self, task: Task) -> bool:
        return not self.bench.phase(task).live and self.bench.clock() > task.ends + self.bench.link_seconds

    def _at(self, task: Task, moment: float | None) -> str | None:
        if moment is None or moment == float("inf"):
            return None
        at = task.accepted_at + timedelta(seconds=moment - task.accepted)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _find(self, request: Request) -> Task:
        task = self.bench.get(request.path_params["id"])
        if task is None:
            raise Problem(404, NOT_FOUND)
        return task


async def _body(request: Request) -> dict[str, Any]:
    return await _desk.json_object(request, lambda text: Problem(400, text, "Bad request"))


def _name(request: Request) -> str:
    return f"{request.path_params['owner']}/{request.path_params['name']}"


def _version(name: str, model: Model) -> dict[str, Any]:
    return {
        "id": version_of(name),
        "created_at": "2026-11-01T00:00:00.000Z",
        "cog_version": "0.16.0",
        "openapi_schema": openapi(model),
    }


def _status(task: Task, phase: Phase) -> str:
    if phase is Phase.CANCELLED:
        return "canceled" if task.stopped_in is Phase.RUNNING else "aborted"
    return {
        Phase.WAITING: "starting",
        Phase.QUEUED: "starting",
        Phase.RUNNING: "processing",
        Phase.SUCCEEDED: "succeeded",
    }.get(phase, "failed")


def _error(task: Task) -> str:
    if task.fate is Fate.REFUSE:
        return "The input or output was flagged as sensitive. Please try again with different inputs. (E005)"
    return str(task.data["failure"] or "Prediction failed: internal error of the model")


def _token(task: Task) -> str:
    """What stands in a link of the delivery host; it is not the prediction's id."""
    return hashlib.sha256(f"delivery {task.id}".encode()).hexdigest()[:40]


def _clip(body: Mapping[str, Any], seconds: float) -> Clip:
    width, _, height = str(body.get("aspect_ratio", "")).partition(":")
    w, h = (int(width), int(height)) if width.isdecimal() and height.isdecimal() else (16, 9)
    return Clip(
        w,
        h,
        seconds,
        f"{body.get('prompt', '')}{body.get('seed') or ''}",
        audio=body.get("generate_audio") is True,
    )


def _refuse(refusal: _desk.Refusal) -> Response:
    if refusal.kind is FaultKind.RATE_LIMIT:
        # Documented without title and status, and the seconds only in words.
        seconds = max(1, -int(-(refusal.retry_after or 30) // 1))
        return JSONResponse({"detail": f"Request was throttled. Your rate limit resets in ~{seconds}s."}, 429)
    status, detail, title = {
        FaultKind.AUTH: (401, "You did not pass a valid authentication token", "Unauthenticated"),
        FaultKind.NO_CREDIT: (402, "You have insufficient credit to run this model.", "Insufficient credit"),
    }.get(refusal.kind, (0, "", ""))
    if not status:
        code = 503 if refusal.kind is FaultKind.UNAVAILABLE else 500
        return Response("<html><body>Server Error</body></html>", code, media_type="text/html")
    return JSONResponse({"title": title, "detail": detail, "status": status}, status)


async def _say(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return JSONResponse(error.body, error.status)


async def _no_route(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": NOT_FOUND, "status": 404}, 404)
