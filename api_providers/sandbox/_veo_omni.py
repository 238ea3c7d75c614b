"""The Gemini API part of the twin of Google: interactions of the Omni models, files, the list of models."""

import asyncio
import base64
import secrets
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Clip, Fate, Phase, Task
from api_providers.sandbox._render import media_type, render
from api_providers.sandbox._veo_inputs import Asked, Interaction
from api_providers.sandbox._veo_models import OMNI, size
from api_providers.sandbox._veo_words import No, bad_key, refuse

REFUSED = "I cannot create this video because it may go against the policies on safe content."
STATUS = {
    Phase.WAITING: "queued",
    Phase.QUEUED: "queued",
    Phase.RUNNING: "in_progress",
    Phase.SUCCEEDED: "completed",
    Phase.CANCELLED: "cancelled",
}


class Omni:
    """Routes under /v1 and /v1beta."""

    def __init__(self, bench: Bench) -> None:
        """Shares the bench with the Vertex part: one bill for all of Google."""
        self.bench = bench

    def routes(self) -> list[Route]:
        """What the Gemini API serves of it."""
        return [
            Route("/{version}/interactions", self.create, methods=["POST"]),
            Route("/{version}/interactions/{id}", self.get, methods=["GET"]),
            Route("/{version}/interactions/{id}", self.delete, methods=["DELETE"]),
            Route("/{version}/interactions/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/{version}/models", self.models, methods=["GET"]),
            Route("/{version}/models/{model}", self.gone, methods=["POST"]),
            Route("/{version}/files/{name}", self.file, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Only background interactions: a clip takes longer than a call should."""
        _authorize(request)
        refused = _desk.refusal(self.bench)
        if refused:
            return refuse(refused, vertex=False)
        body = await _desk.json_object(request, lambda said: No(400, said))
        if body.get("model") not in OMNI:
            raise No(404, f"Model {body.get('model')} is not found or is no longer available.")
        if body.get("background") is not True or body.get("stream"):
            raise No(400, "This sandbox makes videos in the background only.")
        try:
            asked = await asyncio.to_thread(Interaction, body, self._seconds)
        except Asked as error:
            raise No(400, str(error)) from None
        over = _desk.limit(self.bench)
        if over:
            return refuse(over, vertex=False)
        resolution = str(asked.form.get("resolution", "720p"))
        width, height = size(str(asked.form.get("aspect_ratio", "16:9")), resolution)
        task = self.bench.accept(
            f"v1_{secrets.token_hex(16)}",
            model=str(body["model"]),
            group="gemini",
            price=Decimal(asked.usd_per_second) * Decimal(str(asked.seconds)),
            clip=Clip(width, height, asked.seconds, asked.prompt or "image", audio=True),
            data={"uri": asked.form.get("delivery") == "uri", "stored": body.get("store") is not False},
        )
        return await _desk.answer(self.bench, task, lambda made: JSONResponse(self._view(made)))

    async def get(self, request: Request) -> Response:
        """An interaction with its steps, once there are any."""
        _authorize(request)
        task = self._find(request)
        view = self._view(task)
        phase = self.bench.phase(task)
        if phase is Phase.SUCCEEDED:
            view |= {
                "steps": [
                    *view["steps"],
                    {"type": "model_output", "content": [await self._video(request, task)]},
                ]
            }
            tokens = [{"modality": "video", "tokens": round(5800 * task.clip.seconds)}]
            view["usage"] = {"output_tokens_by_modality": tokens}
        elif phase is Phase.FAILED and task.fate is Fate.REFUSE:
            view["status"] = "completed"
            text = [{"type": "text", "text": REFUSED}]
            view["steps"] = [*view["steps"], {"type": "model_output", "content": text}]
            view["usage"] = {"output_tokens_by_modality": [{"modality": "text", "tokens": 20}]}
        elif phase is Phase.FAILED:
            view |= {
                "status": "failed",
                "errors": [
                    {
                        "code": "internal",
                        "message": "Video generation failed due to an internal server issue.",
                    }
                ],
            }
        return JSONResponse(view)

    async def cancel(self, request: Request) -> Response:
        """Only what still runs."""
        _authorize(request)
        task = self._find(request)
        if not self.bench.stop(task).live:
            raise No(400, "The interaction is not running and cannot be cancelled.")
        return JSONResponse(self._view(task))

    async def delete(self, request: Request) -> Response:
        """Forgets it; the bill stays."""
        _authorize(request)
        self._find(request).deleted = True
        return JSONResponse({})

    async def models(self, request: Request) -> Response:
        """The list, `pageSize` at a time."""
        _authorize(request)
        names = sorted(OMNI)[: int(request.query_params.get("pageSize", "50"))]
        return JSONResponse({"models": [{"name": f"models/{name}", "version": "001"} for name in names]})

    async def gone(self, request: Request) -> Response:
        """Veo on this API ended on 2026-10-22."""
        _authorize(request)
        model = request.path_params["model"].partition(":")[0]
        raise No(
            404,
            f"This model models/{model} is no longer available. Please update your code to use a newer model.",
        )

    async def file(self, request: Request) -> Response:
        """`files/<id>` tells about a file, `files/<id>:download?alt=media` is the file; both want the key."""
        _authorize(request)
        name, _, verb = request.path_params["name"].partition(":")
        task = self.bench.get(f"v1_{name}")
        if (
            task is None
            or self.bench.phase(task) is not Phase.SUCCEEDED
            or self.bench.clock() > task.ends + self.bench.link_seconds
        ):
            raise No(403, f"You do not have permission to access the File {name} or it may not exist.")
        if verb == "download" and request.query_params.get("alt") == "media":
            return await _desk.clip(self.bench, request, task)
        return JSONResponse({"name": f"files/{name}", "state": "ACTIVE", "mimeType": media_type(task.clip)})

    def _seconds(self, id_: str) -> float | None:
        """How long the clip of an earlier, stored interaction is."""
        task = self.bench.get(id_)
        done = task is not None and task.data.get("stored") and self.bench.phase(task) is Phase.SUCCEEDED
        return task.clip.seconds if task is not None and done else None

    def _find(self, request: Request) -> Task:
        task = self.bench.get(request.path_params["id"])
        if task is None or task.group != "gemini":
            raise No(400, "Invalid interaction name.")
        return task

    def _view(self, task: Task) -> dict[str, Any]:
        stamp = task.accepted_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        sent = {"type": "user_input", "content": [{"type": "text", "text": task.clip.prompt}]}
        return {
            "id": task.id,
            "object": "interaction",
            "model": task.model,
            "status": STATUS.get(self.bench.phase(task), "in_progress"),
            "created": stamp,
            "updated": stamp,
            "steps": [sent],
        }

    async def _video(self, request: Request, task: Task) -> dict[str, Any]:
        content = {"type": "video", "mime_type": media_type(task.clip)}
        if task.data["uri"]:
            name = task.id.removeprefix("v1_")
            return content | {"uri": f"{_desk.base(request)}/v1beta/files/{name}:download?alt=media"}
        clip = await asyncio.to_thread(render, task.clip)
        return content | {"data": base64.b64encode(clip).decode()}


def _authorize(request: Request) -> None:
    if request.path_params["version"] not in {"v1", "v1beta"}:
        raise No(404, "Method not found.")
    key = request.headers.get("x-goog-api-key") or request.query_params.get("key", "")
    if not key.startswith("sandbox-"):
        raise bad_key()
