"""The twin of Kling (api-singapore.klingai.com): `/v1` tasks, the newer API by path, face search, packs.

Over its concurrency Kling refuses (1303), it has no queue beyond that and no cancel. What a failed task costs is not
documented, so the twin deducts it in full, the dearer reading, and says so in the task.
"""

import asyncio
import secrets
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import DAY_S, Bench, Phase, Settings, Task, plain
from api_providers.sandbox._faults import FaultKind
from api_providers.sandbox._kling_bodies import LEGACY, Bought, FaceSearch, Shelf, Source
from api_providers.sandbox._kling_inputs import ASSUMED_SECONDS, Refused, known, link
from api_providers.sandbox._kling_keys import authorise
from api_providers.sandbox._kling_models import FACE_SEARCH, NEW_MODELS, UNIT_USD
from api_providers.sandbox._kling_new import new_body
from api_providers.sandbox._kling_views import Views

NAME = "kling"
DEFAULTS = Settings(concurrency=20)
"""The smallest pack on sale."""
KEPT_S = 30 * DAY_S
PACK_UNITS = Decimal(100_000)
REFUSALS = {
    FaultKind.AUTH: (401, 1002, "api key not found"),
    FaultKind.NO_CREDIT: (429, 1102, "Resource pack depleted or expired"),
    FaultKind.RATE_LIMIT: (429, 1302, "The API request is too fast, exceeding the platform rate limit"),
    FaultKind.SERVER_ERROR: (500, 5000, "Server internal error"),
    FaultKind.UNAVAILABLE: (503, 5001, "Server temporarily unavailable, usually due to maintenance"),
}


def charge(task: Task, phase: Phase) -> Decimal:
    """Deducted with the submit and never given back: what a failure costs is not documented."""
    return task.price


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    bench.link_seconds = KEPT_S
    twin = _Kling(bench)
    routes = [Route("/v1/videos/identify-face", twin.identify, methods=["POST"])]
    for kind in LEGACY:
        routes += [
            Route(f"/v1/videos/{kind}", twin.submit_legacy(kind), methods=["POST"]),
            Route(f"/v1/videos/{kind}", twin.list_legacy(kind), methods=["GET"]),
            Route(f"/v1/videos/{kind}/{{id}}", twin.look_legacy(kind), methods=["GET"]),
        ]
    routes += [Route(f"/{kind}/{{model}}", twin.submit_new(kind), methods=["POST"]) for kind in NEW_MODELS]
    routes += [
        Route("/tasks", twin.look_new, methods=["GET"]),
        Route("/tasks", twin.list_new, methods=["POST"]),
        Route("/account/costs", twin.costs, methods=["GET"]),
        Route("/_cdn/{id}/{name}", twin.download, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={Refused: _refused, HTTPException: _http_error})


_Endpoint = Callable[[Request], Any]


class _Kling:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.views = Views(bench)
        self.sessions: dict[str, tuple[str, FaceSearch]] = {}
        """By their id: the task whose clip was searched (empty for a link), and what came of it."""
        self.shelf = Shelf(clip=self._clip, seconds=self._seconds, session=self._session)

    # -- creating

    def submit_legacy(self, kind: str) -> _Endpoint:
        async def submit(request: Request) -> Response:
            authorise(request, self.bench.now(), new=False)
            return await self._submit(
                request, f"v1/videos/{kind}", lambda body: LEGACY[kind](body, self.shelf), lambda body: body
            )

        return submit

    def submit_new(self, kind: str) -> _Endpoint:
        async def submit(request: Request) -> Response:
            authorise(request, self.bench.now(), new=True)
            model = request.path_params["model"]
            return await self._submit(
                request,
                "tasks",
                lambda body: new_body(kind, model, body, self.shelf),
                lambda body: body.get("options", {}),
            )

        return submit

    async def _submit(
        self,
        request: Request,
        at: str,
        check: Callable[[dict[str, Any]], Bought],
        options: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> Response:
        refused = _desk.refusal(self.bench)
        if refused:
            return _refuse(refused)
        body = await _desk.json_object(request, lambda said: Refused(said, code=1200))
        bought = await asyncio.to_thread(check, body)
        external_id = options(body).get("external_task_id") or None
        if external_id is not None:
            self._check_external(external_id)
        over = _desk.limit(self.bench)
        if over:
            return _refuse(over)
        price = bought.units * UNIT_USD
        if price * self.bench.settings.price_factor > self._left() * UNIT_USD:
            return _refuse(_desk.Refusal(FaultKind.NO_CREDIT))
        live = [t for t in self.bench.tasks.values() if t.group == bought.model and self.bench.phase(t).live]
        if len(live) >= self.bench.settings.concurrency:
            raise Refused("parallel task over resource pack limit", code=1303, status=429)
        session = body.get("session_id") if at.endswith("advanced-lip-sync") else None
        task = self.bench.accept(
            str(800_000_000_000_000_000 + secrets.randbelow(10**17)),
            model=bought.model,
            group=bought.model,
            price=price,
            clip=bought.clip,
            client_ref=external_id,
            data={
                "at": at,
                "video": secrets.token_hex(8),
                # Deducted before, by the search for the face; on the same row of the bill.
                "before": self.sessions[session][1].units if session else Decimal(0),
            },
        )
        return await _desk.answer(self.bench, task, lambda made: _ok(self.views.created(made)))

    def _check_external(self, external_id: Any) -> None:
        if not isinstance(external_id, str) or len(external_id) > 256:
            raise Refused("Invalid parameter: external_task_id must be a string")
        if any(task.client_ref == external_id for task in self.bench.tasks.values()):
            raise Refused("Invalid parameter: external_task_id already exists")

    async def identify(self, request: Request) -> Response:
        """Answers at once and starts no task."""
        authorise(request, self.bench.now(), new=False)
        body = await _desk.json_object(request, lambda said: Refused(said, code=1200))
        known(body, ("video_id", "video_url"))
        id_, url = body.get("video_id") or "", body.get("video_url") or ""
        if bool(id_) == bool(url):
            raise Refused("Invalid parameter: give either video_id or video_url")
        task = self._task_of_video(id_) if id_ else None
        if id_ and task is None:
            raise Refused("Invalid parameter: video_id does not exist")
        seconds = task.clip.seconds if task else self._seconds(link(url, "video_url"))
        if not 2 <= seconds <= 60:
            raise Refused("Invalid parameter: the video must last from 2 to 60 s")
        session = str(secrets.randbelow(10**18))
        units = FACE_SEARCH * self.bench.settings.price_factor
        self.sessions[session] = (task.id if task else "", FaceSearch(seconds, units))
        face = {
            "face_id": "0",
            "face_image": "https://example.com/face.png",
            "start_time": 0,
            "end_time": int(seconds * 1000),
        }
        return _ok({"session_id": session, "final_unit_deduction": plain(units), "face_data": [face]})

    # -- looking

    def look_legacy(self, kind: str) -> _Endpoint:
        async def look(request: Request) -> Response:
            authorise(request, self.bench.now(), new=False)
            id_ = request.path_params["id"]
            task = next((t for t in self._of(f"v1/videos/{kind}") if id_ in {t.id, t.client_ref}), None)
            if task is None:
                raise Refused("Task not found")
            return _ok(self.views.legacy(request, task))

        return look

    def list_legacy(self, kind: str) -> _Endpoint:
        async def listing(request: Request) -> Response:
            authorise(request, self.bench.now(), new=False)
            page, size = _whole(request, "pageNum", 1, 1000), _whole(request, "pageSize", 30, 500)
            tasks = self._of(f"v1/videos/{kind}")[::-1][(page - 1) * size : page * size]
            return _ok([self.views.legacy(request, task) for task in tasks])

        return listing

    async def look_new(self, request: Request) -> Response:
        authorise(request, self.bench.now(), new=True)
        ids, external = (request.query_params.get(name) for name in ("task_ids", "external_task_ids"))
        if bool(ids) == bool(external):
            raise Refused("Invalid parameter: give either task_ids or external_task_ids")
        wanted = (ids or external or "").split(",")
        tasks = [t for t in self._of("tasks") if (t.id if ids else t.client_ref) in wanted]
        return _ok([self.views.new(request, task) for task in tasks])

    async def list_new(self, request: Request) -> Response:
        authorise(request, self.bench.now(), new=True)
        body = await _desk.json_object(request, lambda said: Refused(said, code=1200))
        known(body, ("start_time", "end_time", "cursor", "limit", "filters"))
        limit = body.get("limit", 100)
        if not isinstance(limit, int) or not 1 <= limit <= 500:
            raise Refused("Invalid parameter: limit must be between 1 and 500")
        rows = [self.views.new(request, task) for task in self._of("tasks")[::-1]]
        for one in body.get("filters", []):
            if one.get("key") == "status":
                rows = [row for row in rows if row["status"] in one["values"]]
        shown = rows[:limit]
        return _ok(
            {"result": shown, "count": len(shown), "next_cursor": "", "has_more": len(rows) > len(shown)}
        )

    async def costs(self, request: Request) -> Response:
        """One pack in use and one that ran out long ago."""
        authorise(request, self.bench.now(), new=False)
        start, end = (_whole(request, name, 0, 10**14) for name in ("start_time", "end_time"))
        if not 0 < start < end:
            raise Refused("Invalid parameter: start_time and end_time are required")
        now = int(self.bench.now().timestamp() * 1000)
        pack = {"resource_pack_id": "p1", "resource_pack_type": "decreasing_total"}
        day = 86_400_000
        packs = [
            {
                **pack,
                "resource_pack_name": "Video Generation - 100000 units",
                "total_quantity": float(PACK_UNITS),
                "remaining_quantity": float(self._left()),
                "purchase_time": now - day,
                "effective_time": now - day,
                "invalid_time": now + 180 * day,
                "status": "online",
            },
            {
                **pack,
                "resource_pack_id": "p0",
                "resource_pack_name": "Trial",
                "total_quantity": 100.0,
                "remaining_quantity": 12.5,
                "purchase_time": now - 90 * day,
                "effective_time": now - 90 * day,
                "invalid_time": now - 60 * day,
                "status": "expired",
            },
        ]
        return _ok({"code": 0, "msg": "success", "resource_pack_subscribe_infos": packs})

    async def download(self, request: Request) -> Response:
        task = self.bench.tasks.get(request.path_params["id"])
        if task is None or not self.views.opens(request, task):
            raise HTTPException(403, "Forbidden")
        return await _desk.clip(self.bench, request, task)

    # -- what it remembers

    def _of(self, at: str) -> list[Task]:
        return [task for task in self.bench.tasks.values() if task.data["at"] == at]

    def _left(self) -> Decimal:
        return PACK_UNITS - self.bench.spent() / UNIT_USD

    def _task_of_video(self, id_: str) -> Task | None:
        return next(
            (
                task
                for task in self.bench.tasks.values()
                if task.data["video"] == id_ and self.bench.phase(task) is Phase.SUCCEEDED
            ),
            None,
        )

    def _clip(self, id_: str) -> Source | None:
        task = self._task_of_video(id_)
        return None if task is None else Source(task.model, task.clip.seconds)

    def _seconds(self, url: str) -> float:
        """A clip of the twin's own tells its length; a link to elsewhere is not followed."""
        parts = url.partition("?")[0].split("/")
        task = self.bench.tasks.get(parts[-2]) if len(parts) > 2 and parts[-3] == "_cdn" else None
        return task.clip.seconds if task else ASSUMED_SECONDS

    def _session(self, id_: str) -> FaceSearch | None:
        task_id, search = self.sessions.get(id_, ("", None))
        return search if not task_id or task_id in self.bench.tasks else None


def _whole(request: Request, name: str, default: int, most: int) -> int:
    value = request.query_params.get(name, str(default))
    if not value.isdecimal() or int(value) > most:
        raise Refused(f"Invalid parameter: {name} must be between 1 and {most}")
    return int(value)


def _ok(data: Any) -> Response:
    return JSONResponse({"code": 0, "message": "SUCCEED", "request_id": secrets.token_hex(8), "data": data})


def _wrong(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    body = {"code": code, "message": message, "request_id": secrets.token_hex(8)}
    return JSONResponse(body, status, headers=headers)


def _refuse(refusal: _desk.Refusal) -> Response:
    status, code, message = REFUSALS[refusal.kind]
    return _wrong(status, code, message, _desk.retry_headers(refusal))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _wrong(error.status, error.code, error.message)


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _wrong(500, 5000, "Server internal error")
    if error.status_code in {404, 405}:
        return _wrong(404, 1202, "The requested method is invalid")
    return JSONResponse({"error": error.detail}, error.status_code)
