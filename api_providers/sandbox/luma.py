"""The twin of Luma Dream Machine (api.lumalabs.ai/dream-machine/v1): videos, upscaling, credits, concepts."""

import uuid
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Clip, Fate, Phase, Settings, Task
from api_providers.sandbox._faults import FaultKind
from api_providers.sandbox._luma_links import Links

NAME = "luma"
DEFAULTS = Settings(concurrency=10)
"""The Build tier's 10 at once; its 20 creates per minute (unverified) are off until a test orders them."""
BALANCE_CENTS = Decimal(231_000)
RATIOS = {
    "1:1": (1, 1),
    "16:9": (16, 9),
    "9:16": (9, 16),
    "4:3": (4, 3),
    "3:4": (3, 4),
    "21:9": (21, 9),
    "9:21": (9, 21),
}
SECONDS = {"5s": 5, "9s": 9}
PRICES = {
    ("ray-2", "540p"): Decimal("0.40"),
    ("ray-2", "720p"): Decimal("0.71"),
    ("ray-2", "1080p"): Decimal("1.59"),
    ("ray-2", "4k"): Decimal("6.40"),
    ("ray-flash-2", "540p"): Decimal("0.137"),
    ("ray-flash-2", "720p"): Decimal("0.243"),
    ("ray-flash-2", "1080p"): Decimal("0.547"),
    ("ray-flash-2", "4k"): Decimal("2.19"),
}
"""USD for 5 s of 16:9; 9 s are 1.8 times as much. Other ratios are billed alike here, which Luma does not."""
RESOLUTIONS = tuple(resolution for model, resolution in PRICES if model == "ray-2")
FIELDS = frozenset(
    {
        *("model", "aspect_ratio", "callback_url", "concepts", "duration", "generation_type"),
        *("keyframes", "loop", "prompt", "resolution"),
    }
)
CONCEPTS = (
    *("truck_left", "pan_right", "pedestal_down", "low_angle", "pedestal_up", "selfie", "pan_left"),
    *("roll_right", "zoom_in", "over_the_shoulder", "orbit_right", "orbit_left", "static", "tiny_planet"),
    *("high_angle", "bolt_cam", "dolly_zoom", "overhead", "zoom_out", "handheld", "roll_left", "pov"),
    *("aerial_drone", "push_in", "crane_down", "truck_right", "tilt_down", "elevator_doors", "tilt_up"),
    *("ground_level", "pull_out", "aerial", "crane_up", "eye_level"),
)
FAILURES = {
    Fate.FAIL: "The generation failed because of an internal error.",
    Fate.REFUSE: "The prompt was flagged by content moderation.",
}
STATES = {
    Phase.WAITING: "queued",
    Phase.QUEUED: "queued",
    Phase.RUNNING: "dreaming",
    Phase.SUCCEEDED: "completed",
    Phase.FAILED: "failed",
}


def charge(task: Task, phase: Phase) -> Decimal:
    """All but a failure is billed: no refund is documented, that failures are free is (unverified)."""
    return Decimal(0) if phase is Phase.FAILED else task.price


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    twin = _Luma(bench)
    return Starlette(
        routes=[
            Route("/generations/video", twin.create, methods=["POST"]),
            Route("/generations", twin.create, methods=["POST"]),
            Route("/generations", twin.listing, methods=["GET"]),
            Route("/generations/concepts/list", twin.concepts, methods=["GET"]),
            Route("/generations/{id}", twin.retrieve, methods=["GET"]),
            Route("/generations/{id}", twin.delete, methods=["DELETE"]),
            Route("/generations/{id}/upscale", twin.upscale, methods=["POST"]),
            Route("/credits", twin.credits, methods=["GET"]),
            Route("/ping", twin.ping, methods=["GET"]),
            Route("/_cdn/{id}/{name}", twin.download, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )


class _Luma:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.links = Links(bench)

    async def create(self, request: Request) -> Response:
        _authorize(request)
        refused = _desk.refusal(self.bench)
        if refused:
            return _refuse(refused)
        body = await _json(request)
        self._check(body)
        over = _desk.limit(self.bench)
        if over:
            return _refuse(over)
        seconds = SECONDS[body.get("duration", "5s")]
        resolution = body.get("resolution", "720p")
        width, height = RATIOS[body.get("aspect_ratio", "16:9")]
        return await self._accept(
            request,
            model=body["model"],
            price=PRICES[body["model"], resolution] * seconds / 5,
            clip=Clip(width, height, seconds, str(body.get("prompt", ""))),
            echo=body,
        )

    async def upscale(self, request: Request) -> Response:
        """Billed here as a new clip of the wanted resolution; what Luma takes is not documented."""
        _authorize(request)
        refused = _desk.refusal(self.bench)
        if refused:
            return _refuse(refused)
        source = self._finished(request.path_params["id"])
        body = await _json(request)
        if body.get("generation_type", "upscale_video") != "upscale_video":
            _bad("generation_type must be upscale_video")
        resolution = _choice(body, "resolution", RESOLUTIONS) or "1080p"
        over = _desk.limit(self.bench)
        if over:
            return _refuse(over)
        price = PRICES[source.model, resolution] * Decimal(str(source.clip.seconds)) / 5
        return await self._accept(request, model=source.model, price=price, clip=source.clip, echo=body)

    async def retrieve(self, request: Request) -> Response:
        _authorize(request)
        return JSONResponse(self._view(request, self._find(request.path_params["id"])))

    async def listing(self, request: Request) -> Response:
        _authorize(request)
        limit, offset = _count(request, "limit", 10), _count(request, "offset", 0)
        tasks = [task for task in reversed(self.bench.tasks.values()) if not task.deleted]
        page = [self._view(request, task) for task in tasks[offset : offset + limit]]
        return JSONResponse(
            {
                "generations": page,
                "count": len(page),
                "has_more": len(tasks) > offset + limit,
                "limit": limit,
                "offset": offset,
            }
        )

    async def delete(self, request: Request) -> Response:
        """Removal, no cancel: what was started stays on the bill."""
        _authorize(request)
        self._find(request.path_params["id"]).deleted = True
        return Response(status_code=204)

    async def concepts(self, request: Request) -> Response:
        _authorize(request)
        return JSONResponse(list(CONCEPTS))

    async def credits(self, request: Request) -> Response:
        """In cents."""
        _authorize(request)
        return JSONResponse({"credit_balance": float(BALANCE_CENTS - self.bench.spent() * 100)})

    async def ping(self, request: Request) -> Response:
        _authorize(request)
        return JSONResponse({"message": "pong"})

    async def download(self, request: Request) -> Response:
        task = self.bench.get(request.path_params["id"])
        if task is None or not self.links.good(request, task.id):
            return Response("<Error><Code>AccessDenied</Code></Error>", 403, media_type="application/xml")
        return await _desk.clip(self.bench, request, task)

    async def _accept(
        self, request: Request, *, model: str, price: Decimal, clip: Clip, echo: dict[str, Any]
    ) -> Response:
        task = self.bench.accept(
            str(uuid.uuid4()), model=model, group=NAME, price=price, clip=clip, data={"request": echo}
        )
        return await _desk.answer(
            self.bench, task, lambda accepted: JSONResponse(self._view(request, accepted), 201)
        )

    def _check(self, body: dict[str, Any]) -> None:
        """Everything that is refused before it costs something."""
        for name in sorted(set(body) - FIELDS):
            _bad(f"Unknown field: {name}")
        model = body.get("model")
        if model not in {"ray-2", "ray-flash-2"}:
            _bad(f"Invalid model: {model}")
        _choice(body, "aspect_ratio", RATIOS)
        _choice(body, "duration", SECONDS)
        _choice(body, "resolution", RESOLUTIONS)
        _choice(body, "generation_type", ("video",))
        prompt, keyframes = body.get("prompt"), body.get("keyframes") or {}
        if prompt is not None and not (isinstance(prompt, str) and 3 <= len(prompt) <= 5000):
            _bad("prompt must have 3 to 5000 characters")
        if not prompt and not keyframes:
            _bad("Either a prompt or keyframes are required")
        if not isinstance(body.get("loop", False), bool):
            _bad("loop must be a boolean")
        for concept in body.get("concepts") or ():
            if not isinstance(concept, dict) or concept.get("key") not in CONCEPTS:
                _bad(f"Unknown concept: {concept}")
        if not isinstance(keyframes, dict) or set(keyframes) - {"frame0", "frame1"}:
            _bad("keyframes takes frame0 and frame1")
        for frame in keyframes.values():
            self._keyframe(frame)

    def _keyframe(self, frame: Any) -> None:
        match frame:
            case {"type": "generation", "id": str(id_)}:
                self._finished(id_)
            case {"type": "image", "url": str(url)}:
                # The twin fetches nothing; what is no address of the web cannot be fetched by Luma either.
                if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
                    _bad("Invalid image url: a publicly accessible URL is required")
            case _:
                _bad("A keyframe is {type: image, url} or {type: generation, id}")

    def _finished(self, id_: str) -> Task:
        task = self.bench.get(id_)
        if task is None:
            _bad(f"Generation {id_} not found")
        if self.bench.phase(task) is not Phase.SUCCEEDED:
            _bad(f"Generation {id_} is not completed")
        return task

    def _find(self, id_: str) -> Task:
        task = self.bench.get(id_)
        if task is None:
            raise HTTPException(404, "Generation not found")
        return task

    def _view(self, request: Request, task: Task) -> dict[str, Any]:
        phase = self.bench.phase(task)
        return {
            "id": task.id,
            "generation_type": "video",
            "state": STATES[phase],
            "failure_reason": FAILURES.get(task.fate) if phase is Phase.FAILED else None,
            "created_at": task.accepted_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "assets": {"video": self.links.of(request, task)} if phase is Phase.SUCCEEDED else None,
            "model": task.model,
            "request": task.data["request"],
        }


def _choice(body: dict[str, Any], name: str, values: Any) -> str | None:
    """A field's value among those; an int is no duration."""
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or value not in values):
        _bad(f"Invalid {name}: {value}. Expected one of {', '.join(values)}")
    return value


def _count(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal():
        _bad(f"Invalid {name}: {text}")
    return int(text)


def _bad(text: str) -> NoReturn:
    raise HTTPException(400, text)


def _authorize(request: Request) -> None:
    if _desk.bearer(request) is None:
        raise HTTPException(401, "Invalid API key")


async def _json(request: Request) -> dict[str, Any]:
    return await _desk.json_object(request, lambda said: HTTPException(400, said))


def _refuse(refusal: _desk.Refusal) -> Response:
    status, text = {
        FaultKind.AUTH: (401, "Invalid API key"),
        FaultKind.NO_CREDIT: (400, "Insufficient credits"),
        FaultKind.SERVER_ERROR: (500, "Internal server error"),
        FaultKind.UNAVAILABLE: (503, "Service unavailable"),
        FaultKind.RATE_LIMIT: (429, "Rate limit exceeded"),
    }[refusal.kind]
    return JSONResponse({"detail": text}, status, headers=_desk.retry_headers(refusal))


async def _http_error(request: Request, error: Exception) -> Response:
    status, text = (
        (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "Internal error")
    )
    return JSONResponse({"detail": text}, status)
