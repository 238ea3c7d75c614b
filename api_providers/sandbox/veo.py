"""The twin of Google: Veo on Vertex AI here, Gemini Omni through Interactions in `_veo_omni`; one bill for both."""

import asyncio
import base64
import re
import uuid
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Clip, Fate, Phase, Settings, Task
from api_providers.sandbox._connection import TruncatedResponse
from api_providers.sandbox._faults import FaultKind
from api_providers.sandbox._render import media_type, render
from api_providers.sandbox._veo_inputs import Asked, check_veo
from api_providers.sandbox._veo_models import VEO, size, veo_usd
from api_providers.sandbox._veo_omni import Omni
from api_providers.sandbox._veo_words import NO_TOKEN, No, refuse, say

NAME = "veo"
DEFAULTS = Settings(concurrency=4, per_minute=250)
"""Google counts 50 a minute for each model; this is about the sum over the models, the bench counts them together."""
TYPE = "type.googleapis.com/cloud.ai.large_models.vision.GenerateVideoResponse"
FILTERED = (
    "Veo could not generate 1 videos because the input image or the prompt violates Google's Responsible AI practices. "
    "You will not be charged for blocked videos. Support codes: 42237218"
)
RESOURCE = re.compile(
    r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/publishers/google/models/(?P<model>[^/:]+)"
)


def charge(task: Task, phase: Phase) -> Decimal:
    """Charged when made; never for what the safety filter held back (said in its reason).

    What a failed run or a cancelled one costs is documented nowhere: taken as the full price once it has started.
    """
    match phase:
        case Phase.SUCCEEDED:
            return task.price
        case Phase.FAILED if task.fate is not Fate.REFUSE:
            return task.price
        case Phase.CANCELLED if task.stopped_in is Phase.RUNNING:
            return task.price
    return Decimal(0)


def build(bench: Bench) -> Starlette:
    """The twin as an ASGI app."""
    twin = _Vertex(bench)
    routes = [
        Route("/{version}/projects/{rest:path}", twin.call, methods=["POST"]),
        Route("/{version}/projects/{rest:path}", twin.not_found, methods=["GET"]),
        Route("/_host/storage/storage/v1/b/{bucket}/o/{name:path}", twin.stored, methods=["GET"]),
        *Omni(bench).routes(),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: say})


class _Vertex:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def call(self, request: Request) -> Response:
        """`<model>:predictLongRunning` and `<model>:fetchPredictOperation`."""
        _authorize(request)
        resource, _, verb = f"projects/{request.path_params['rest']}".rpartition(":")
        found = RESOURCE.fullmatch(resource)
        if request.path_params["version"] not in {"v1", "v1beta1"} or found is None:
            raise No(404, "Method not found.")
        if verb == "predictLongRunning":
            return await self._submit(request, resource, found["model"])
        if verb == "fetchPredictOperation":
            return await self._look(request, resource)
        raise No(404, "Method not found.")

    async def not_found(self, request: Request) -> Response:
        """An operation is looked at with a POST; a GET on its name finds nothing."""
        _authorize(request)
        raise No(404, "The requested URL was not found on this server.")

    async def stored(self, request: Request) -> Response:
        """Cloud Storage's media download, with the same token."""
        _authorize(request)
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        for task in self.bench.tasks.values():
            if f"gs://{bucket}/{name}" in self._uris(task) and self.bench.phase(task) is Phase.SUCCEEDED:
                if request.query_params.get("alt") != "media":
                    return JSONResponse({"kind": "storage#object", "bucket": bucket, "name": name})
                return await _desk.clip(self.bench, request, task)
        raise No(404, f"No such object: {bucket}/{name}")

    async def _submit(self, request: Request, resource: str, name: str) -> Response:
        refused = _desk.refusal(self.bench)
        if refused:
            return refuse(refused, vertex=True)
        model = VEO.get(name)
        if model is None:
            raise No(
                404,
                f"Publisher Model `{resource}` was not found or your project does not have access to it. "
                "Please ensure you are using a valid model version.",
            )
        body = await _desk.json_object(request, lambda said: No(400, said))
        try:
            instance, parameters, seconds = await asyncio.to_thread(check_veo, body, model)
        except Asked as error:
            raise No(400, str(error)) from None
        over = _desk.limit(self.bench)
        if over:
            return refuse(over, vertex=True)
        labels = body.get("labels") or {}
        width, height = size(
            str(parameters.get("aspectRatio", "16:9")), str(parameters.get("resolution", "720p"))
        )
        text = f"{instance.get('prompt', '')}{parameters.get('seed', '')}"
        task = self.bench.accept(
            f"{resource}/operations/{uuid.uuid4()}",
            model=name,
            group=NAME,
            price=veo_usd(model, parameters, seconds),
            clip=Clip(width, height, seconds, text, audio=parameters["generateAudio"]),
            client_ref=labels.get("understudy"),
            data={"count": parameters.get("sampleCount", 1), "storage": parameters.get("storageUri")},
        )
        return await _desk.answer(self.bench, task, lambda made: JSONResponse({"name": made.id}))

    async def _look(self, request: Request, resource: str) -> Response:
        body = await _desk.json_object(request, lambda said: No(400, said))
        name = body.get("operationName")
        if not isinstance(name, str) or not name.startswith(f"{resource}/operations/"):
            raise No(400, "Invalid operation name.")
        task = self.bench.get(name)
        if task is None:
            raise No(404, f"Operation {name} is not found.")
        phase = self.bench.phase(task)
        answer: dict[str, Any] = {"name": name}
        if phase.live:
            return JSONResponse(answer)
        answer["done"] = True
        if phase is Phase.FAILED and task.fate is not Fate.REFUSE:
            answer["error"] = {
                "code": 13,
                "message": "Video generation failed due to an internal server issue.",
            }
            return JSONResponse(answer)
        response: dict[str, Any] = {"@type": TYPE, "raiMediaFilteredCount": 0}
        answer["response"] = response
        if phase is Phase.FAILED:
            response |= {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": [FILTERED]}
            return JSONResponse(answer)
        mime = media_type(task.clip)
        if uris := self._uris(task):
            response["videos"] = [{"gcsUri": uri, "mimeType": mime} for uri in uris]
            return JSONResponse(answer)
        clip = base64.b64encode(await asyncio.to_thread(render, task.clip)).decode()
        response["videos"] = [{"bytesBase64Encoded": clip, "mimeType": mime}] * task.data["count"]
        if self.bench.faults.take(FaultKind.TRUNCATED_DOWNLOAD):
            return TruncatedResponse(JSONResponse(answer).body, media_type="application/json")
        return JSONResponse(answer)

    def _uris(self, task: Task) -> list[str]:
        """Where the clips of a task lie in the caller's bucket, [] where none was named."""
        folder = task.data.get("storage")
        if not folder:
            return []
        number = task.id.rpartition("/")[2]
        return [f"{folder.rstrip('/')}/{number}/sample_{n}.mp4" for n in range(task.data["count"])]


def _authorize(request: Request) -> None:
    if _desk.bearer(request) is None:
        raise No(401, NO_TOKEN)
