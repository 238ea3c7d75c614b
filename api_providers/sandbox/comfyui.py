"""The twin of a ComfyUI server, with the nodes of a Wan clip and its validation; behind a proxy that may want a key.

Source: Comfy-Org/ComfyUI server.py, execution.py and comfy_extras, 2026-11. One prompt runs at a time; a waiting one that
is deleted leaves no trace; an ended one stands in the history. Nobody sends a bill: every row costs 0.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Fate, Phase, Settings, Task
from api_providers.sandbox._comfyui_graph import (
    WrongGraph,
    clip_of,
    error_body,
    file_of,
    first,
    invalid_body,
    validate,
)
from api_providers.sandbox._faults import FaultKind

NAME = "comfyui"
DEFAULTS = Settings(concurrency=1)


class _Refused(Exception):
    """An answer that is no 2xx."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


def charge(task: Task, phase: Phase) -> Decimal:
    """An own server: nobody sends a bill."""
    return Decimal(0)


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app; every route also under `/api`."""
    twin = _ComfyUI(bench)
    routes: list[tuple[str, Callable[[Request], Any], str]] = [
        ("/prompt", twin.submit, "POST"),
        ("/queue", twin.queue, "GET"),
        ("/queue", twin.change_queue, "POST"),
        ("/interrupt", twin.interrupt, "POST"),
        ("/history", twin.history, "GET"),
        ("/history/{id}", twin.history, "GET"),
        ("/view", twin.view, "GET"),
        ("/upload/image", twin.upload, "POST"),
        ("/system_stats", twin.system_stats, "GET"),
    ]
    return Starlette(
        routes=[
            Route(f"{front}{path}", endpoint, methods=[method])
            for front in ("", "/api")
            for path, endpoint, method in routes
        ],
        exception_handlers={_Refused: _refused, WrongGraph: _wrong},
    )


class _ComfyUI:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def submit(self, request: Request) -> Response:
        _authorize(request)
        refused = _desk.refusal(self.bench)
        if refused:
            return _limited(refused)
        body = await _desk.json_object(request, lambda said: _Refused(500, {"error": said}))
        if "prompt" not in body:
            raise WrongGraph(error_body("no_prompt", "No prompt provided", "No prompt provided"))
        id_ = _prompt_id(body.get("prompt_id"))
        graph = body["prompt"]
        outputs, findings = validate(graph, self.bench.uploads)
        if not outputs:
            raise WrongGraph(invalid_body(findings))
        over = _desk.limit(self.bench)
        if over:
            return _limited(over)
        task = self.bench.tasks.get(id_)
        if task is not None and self.bench.phase(task).live:
            raise _Refused(409, {"error": "prompt_id already exists"})
        number = len(self.bench.tasks)
        task = self.bench.accept(
            id_,
            model=first(graph, "UNETLoader", "unet_name", "none"),
            group=NAME,
            price=Decimal(0),
            clip=clip_of(graph),
            client_ref=str(body.get("client_id") or "") or None,
            data={
                "number": number,
                "prompt": graph,
                "outputs": outputs,
                "client_id": body.get("client_id"),
                **file_of(graph, outputs[0], number),
            },
        )
        answer = {"prompt_id": id_, "number": number, "node_errors": findings}
        return await _desk.answer(self.bench, task, lambda _: JSONResponse(answer))

    async def queue(self, request: Request) -> Response:
        _authorize(request)
        rows: dict[str, list[Any]] = {"queue_running": [], "queue_pending": []}
        for task in self.bench.tasks.values():
            phase = self.bench.phase(task)
            if phase.live:
                name = "queue_pending" if phase is Phase.WAITING else "queue_running"
                rows[name].append(_item(task))
        # A heap's own order is not the order in which they run.
        rows["queue_pending"].reverse()
        return JSONResponse(rows)

    async def change_queue(self, request: Request) -> Response:
        """Takes waiting prompts out without a word; running, ended and unknown ids are no error."""
        _authorize(request)
        body = await _desk.json_object(request, lambda said: _Refused(500, {"error": said}))
        for task in self.bench.tasks.values():
            wanted = bool(body.get("clear")) or task.id in (body.get("delete") or [])
            if wanted and self.bench.phase(task) is Phase.WAITING:
                self.bench.stop(task)
                task.deleted = True
        return Response(status_code=200)

    async def interrupt(self, request: Request) -> Response:
        """With a `prompt_id` only that prompt, without one whatever runs."""
        _authorize(request)
        try:
            body = json.loads(await request.body() or b"{}")
        except ValueError:
            body = {}
        wanted = body.get("prompt_id")
        for task in self.bench.tasks.values():
            if wanted in {None, task.id} and self.bench.phase(task) in {Phase.QUEUED, Phase.RUNNING}:
                self.bench.stop(task)
        return Response(status_code=200)

    async def history(self, request: Request) -> Response:
        _authorize(request)
        wanted = request.path_params.get("id")
        return JSONResponse(
            {
                task.id: self._entry(task)
                for task in self.bench.tasks.values()
                if wanted in {None, task.id} and not task.deleted and not self.bench.phase(task).live
            }
        )

    async def view(self, request: Request) -> Response:
        _authorize(request)
        name = request.query_params.get("filename", "")
        if not name or name.startswith("/") or ".." in name:
            return Response(status_code=400)
        for task in self.bench.tasks.values():
            if task.data["file"] == name and self.bench.phase(task) is Phase.SUCCEEDED:
                if request.query_params.get("type", "output") != "output":
                    break
                if request.query_params.get("subfolder", "") == task.data["subfolder"]:
                    return await _desk.clip(self.bench, request, task)
        return Response(status_code=404)

    async def upload(self, request: Request) -> Response:
        _authorize(request)
        async with request.form() as form:
            image, subfolder = form.get("image"), str(form.get("subfolder") or "")
            if not isinstance(image, UploadFile) or not image.filename or ".." in subfolder:
                return Response(status_code=400)
            name, content = image.filename, await image.read()
            overwrite = form.get("overwrite") in {"true", "1"}
        stem, dot, ending = name.rpartition(".")
        path, number = _join(subfolder, name), 1
        while not overwrite and self.bench.uploads.get(path, content) != content:
            name = f"{stem} ({number}){dot}{ending}"
            path, number = _join(subfolder, name), number + 1
        self.bench.uploads[path] = content
        return JSONResponse({"name": name, "subfolder": subfolder, "type": "input"})

    async def system_stats(self, request: Request) -> Response:
        _authorize(request)
        gib = 1024**3
        device = {"name": "cuda:0 Sandbox", "type": "cuda", "index": 0, "vram_total": 24 * gib}
        system = {"os": "linux", "comfyui_version": "0.9.0", "python_version": "3.12", "argv": ["main.py"]}
        return JSONResponse({"system": system, "devices": [{**device, "vram_free": 23 * gib}]})

    def _entry(self, task: Task) -> dict[str, Any]:
        phase = self.bench.phase(task)
        messages: list[list[Any]] = [["execution_start", {"prompt_id": task.id}]]
        outputs: dict[str, Any] = {}
        where = {"prompt_id": task.id, "node_id": "9", "node_type": "KSampler", "executed": []}
        match phase:
            case Phase.SUCCEEDED:
                messages.append(["execution_success", {"prompt_id": task.id}])
                file = {"filename": task.data["file"], "subfolder": task.data["subfolder"], "type": "output"}
                outputs = {id_: {"images": [file], "animated": [True]} for id_ in task.data["outputs"]}
            case Phase.CANCELLED:
                messages.append(["execution_interrupted", where])
            case _:
                why = "the picture was refused" if task.fate is Fate.REFUSE else "mat1 and mat2 shapes differ"
                messages.append(
                    [
                        "execution_error",
                        {
                            **where,
                            "exception_type": "RuntimeError",
                            "exception_message": why,
                            "traceback": [],
                        },
                    ]
                )
        status = {
            "status_str": "success" if phase is Phase.SUCCEEDED else "error",
            "completed": phase is Phase.SUCCEEDED,
            "messages": messages,
        }
        return {"prompt": _item(task), "outputs": outputs, "status": status, "meta": {}}


def _item(task: Task) -> list[Any]:
    """An entry of the queue as the server gives it."""
    extra = {"client_id": task.data["client_id"], "create_time": int(task.accepted_at.timestamp() * 1000)}
    return [task.data["number"], task.id, task.data["prompt"], extra, task.data["outputs"]]


def _prompt_id(given: Any) -> str:
    """The caller's id, which must be a UUID in canonical form, or a new one."""
    if given is None:
        return str(uuid4())
    try:
        if isinstance(given, str) and str(UUID(given)) == given:
            return given
    except ValueError:
        pass
    raise WrongGraph(
        error_body(
            "invalid_prompt_id",
            "prompt_id must be a valid UUID",
            "prompt_id must be a UUID string in canonical lowercase hyphenated form; "
            "omit it to let the server generate one",
        ),
    )


def _join(subfolder: str, name: str) -> str:
    return f"{subfolder}/{name}" if subfolder else name


def _authorize(request: Request) -> None:
    """ComfyUI asks for no key; a proxy before it that gets one must know it."""
    if "authorization" in request.headers and _desk.bearer(request) is None:
        raise _Refused(401, {"error": "Unauthorized"})


def _limited(refusal: _desk.Refusal) -> Response:
    """ComfyUI has none of these: what a proxy or a host that rents it out answers."""
    status, said = {
        FaultKind.AUTH: (401, "Unauthorized"),
        FaultKind.NO_CREDIT: (402, "Payment Required"),
        FaultKind.SERVER_ERROR: (500, "Internal Server Error"),
        FaultKind.UNAVAILABLE: (503, "Service Unavailable"),
        FaultKind.RATE_LIMIT: (429, "Too Many Requests"),
    }[refusal.kind]
    return JSONResponse({"error": said}, status, headers=_desk.retry_headers(refusal))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, _Refused)
    return JSONResponse(error.body, error.status)


async def _wrong(request: Request, error: Exception) -> Response:
    assert isinstance(error, WrongGraph)
    return JSONResponse(error.body, 400)
