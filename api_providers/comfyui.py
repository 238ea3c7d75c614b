"""A ComfyUI server through its HTTP API, with a workflow file whose named inputs are filled (docs/own-server.md).

Wire facts: Comfy-Org/ComfyUI server.py and execution.py, 2026-11. A prompt of ours has an id of ours (taken since
2025-07), so that a lost answer is repaired by a look. Waiting and running prompts stand in `/queue` and ended ones in
`/history/<id>`, never in both; the HTTP API tells no progress inside a prompt. The server keeps no list over a restart.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlencode
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer, redact
from api_providers._camera import prompt_with_camera
from api_providers._comfyui_workflow import MEDIA, Workflow, WorkflowError, frames_of, read
from api_providers._errors import kind_by_status, said
from api_providers._http import HttpProvider
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.words import words

POLL_AFTER_S = 2.0
CLIENT_ID = "understudy"
"""Shows in the server's queue whose prompt it is; no websocket of that name is open."""
UPLOADS = "understudy"
"""Subfolder of the server's input folder."""
CLIPS = frozenset({".mp4", ".webm", ".mov", ".mkv"})
LISTS = ("videos", "video", "gifs", "images")
"""Keys of a node's output that hold files: SaveVideo says `images`, VHS_VideoCombine `gifs`."""


class _Made(BaseModel):
    prompt_id: str = Field(min_length=1)


class _Queue(BaseModel):
    """Entries are `[number, prompt id, graph, ...]`; the waiting ones are in no order."""

    queue_running: list[list[Any]]
    queue_pending: list[list[Any]]


class _Stands(BaseModel):
    status_str: str
    messages: list[Any] = []


class _Entry(BaseModel):
    outputs: dict[str, Any] = {}
    status: _Stands


class _Stored(BaseModel):
    name: str
    subfolder: str = ""


class _System(BaseModel):
    comfyui_version: Any = None


class _Stats(BaseModel):
    system: _System
    devices: list[dict[str, Any]] = []


class _Place(NamedTuple):
    """Where an unfinished prompt stands."""

    stands: Literal["running", "pending"]
    ahead: int


class ComfyUI(HttpProvider):
    """Fill, queue, look, download; a key, where the server stands behind a proxy that wants one, goes nowhere else."""

    base_url = ""
    """There is none: the address is the user's."""
    fetch_with_key = True
    answer_max_bytes = 64 * 1024 * 1024
    """`/queue` repeats the whole workflow of every waiting prompt, whoever sent it."""

    def __init__(self, config: BackendConfig) -> None:
        """`options["home"]`: the data folder, where `workflows/` lies."""
        super().__init__(config)
        self._deleted: set[str] = set()

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Uploads first, then the one call that queues. `key` becomes the prompt's id."""
        card = self.card(request)
        workflow = await self._workflow(card)
        prompt = workflow.filled(await self._values(request, card, workflow))
        ours = prompt_id(key)
        body = {"prompt": prompt, "prompt_id": ours, "client_id": CLIENT_ID}
        answer = await self.ask("POST", "prompt", spends=True, json=body)
        if answer.status == 409:
            # "prompt_id already exists": only we make this id, so it is this attempt.
            return _operation(ours, workflow)
        made = self.view(_Made, self.read(answer, spends=True), spends=True)
        return _operation(made.prompt_id, workflow)

    async def poll(self, operation: Operation) -> Pending | Completed:
        """The queue first: a prompt moves from there into the history, so the other order could miss it."""
        after = float(self.config.options.get("poll_after", POLL_AFTER_S))
        place = await self._queued(operation.ref)
        if place is not None:
            waits = place.stands == "pending"
            return Pending(poll_after=after, queued=waits, ahead=place.ahead if waits else None)
        entry = await self._ended(operation.ref)
        if entry is None:
            if operation.ref in self._deleted:
                raise self._interrupted()
            raise errors.OperationLost(
                words(
                    "no longer knows this prompt: it was removed from the queue, or the server was started anew",
                    "このプロンプトは先方に存在しません。キューから削除されたか、サーバーが再起動されました。",
                ),
                backend=self.name,
            )
        match entry.status.status_str:
            case "success":
                return self._done(entry, operation)
            case "error":
                raise self._failure(entry.status)
            case other:
                text = redact(f"status {other}", self._secrets())
                raise errors.UnexpectedResponse(
                    said(errors.UnexpectedResponse, text), backend=self.name, detail=text
                )

    async def cancel(self, operation: Operation) -> bool:
        """A waiting prompt is deleted, which leaves no trace there; one that runs is interrupted, and only if it is ours."""
        if operation.ref in self._deleted:
            return True
        place = await self._queued(operation.ref)
        if place is not None and place.stands == "pending":
            await self._tell("queue", {"delete": [operation.ref]})
            place = await self._queued(operation.ref)
            if place is None and await self._ended(operation.ref) is None:
                self._deleted.add(operation.ref)
                return True
        if place is None:
            return False
        await self._tell("interrupt", {"prompt_id": operation.ref})
        return True

    async def find(self, request: ResolvedRequest, *, key: str, since: datetime) -> Operation | None:
        """The id is made from our key: it is there or it is not."""
        ours = prompt_id(key)
        if await self._queued(ours) is None and await self._ended(ours) is None:
            return None
        return _operation(ours, await self._workflow(self.card(request)))

    async def check(self) -> Mapping[str, JsonValue]:
        """Version, devices and queue of the server; raises ServerTrouble where a workflow of ours is not in order."""
        stats = self.view(_Stats, await self.call("GET", "system_stats"))
        queue = self.view(_Queue, await self.call("GET", "queue"))
        for card in self.config.cards.values():
            await self._workflow(card)
        return {
            "version": str(stats.system.comfyui_version),
            "devices": [str(device.get("name")) for device in stats.devices],
            "running": len(queue.queue_running),
            "waiting": len(queue.queue_pending),
            "workflows": len(self.config.cards),
        }

    async def place(self, media: InputMedia) -> str:
        """Into the server's input folder under the content's hash; the name as a loader node takes it."""
        form = {"type": "input", "subfolder": UPLOADS, "overwrite": "true"}
        files = {"image": await self.upload_of(media)}
        stored = self.view(_Stored, await self.call("POST", "upload/image", form=form, files=files))
        return f"{stored.subfolder}/{stored.name}" if stored.subfolder else stored.name

    # -- this server's ways

    def headers(self) -> dict[str, str]:
        """ComfyUI itself knows no key; one that is set is for a proxy before it."""
        return super().headers() if self.config.key is not None else {}

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """A 400 is about the workflow and this server's models and nodes: another backend may do it."""
        return errors.BackendError if answer.status == 400 else kind_by_status(answer)

    def message_of(self, answer: Answer) -> str:
        """What is wrong at which node, else the error's own sentence."""
        body = answer.json if isinstance(answer.json, dict) else {}
        lines = []
        nodes = body.get("node_errors")
        for id_, node in nodes.items() if isinstance(nodes, dict) else ():
            for error in node.get("errors", ()) if isinstance(node, dict) else ():
                if isinstance(error, dict):
                    told = ": ".join(str(error[k]) for k in ("message", "details") if error.get(k))
                    lines.append(f"node {id_} ({node.get('class_type')}): {told}")
        return "; ".join(lines[:5]) or super().message_of(answer)

    async def _workflow(self, card: ModelCard) -> Workflow:
        home = self.config.options.get("home")
        folders = [Path(str(home)) / name for name in ("workflows", "providers")] if home else []
        try:
            return await asyncio.to_thread(read, card, folders)
        except WorkflowError as error:
            raise errors.ServerTrouble(error.message, backend=self.name) from None

    async def _values(self, request: ResolvedRequest, card: ModelCard, workflow: Workflow) -> dict[str, Any]:
        """By our names; the inputs that have a place are uploaded on the way."""
        given: dict[str, list[InputMedia]] = {
            "first_frame": [request.first_frame] if request.first_frame else [],
            "last_frame": [request.last_frame] if request.last_frame else [],
        }
        for media in request.references:
            given.setdefault(media.type, []).append(media)
        files = {
            name: [await self.place(media) for media in given.get(name, ())]
            for name in MEDIA
            if name in workflow.places
        }
        frames = frames_of(card, request.duration, request.fps) if request.fps and request.duration else None
        return {
            **request.options,
            "prompt": prompt_with_camera(request, card),
            "negative_prompt": request.negative_prompt,
            "seed": request.seed,
            "width": request.width,
            "height": request.height,
            "frames": frames,
            "duration": request.duration or None,
            "fps": request.fps,
            "guidance": request.guidance,
            "generate_audio": request.generate_audio,
            **files,
        }

    async def _queued(self, ref: str) -> _Place | None:
        queue = self.view(_Queue, await self.call("GET", "queue"))
        if any(item[1:2] == [ref] for item in queue.queue_running):
            return _Place("running", 0)
        mine = next((item for item in queue.queue_pending if item[1:2] == [ref]), None)
        if mine is None:
            return None
        return _Place("pending", sum(1 for item in queue.queue_pending if _before(item, mine)))

    async def _ended(self, ref: str) -> _Entry | None:
        """The prompt's place in the history; an unknown id is answered with an empty object."""
        found = await self.call("GET", f"history/{quote(ref, safe='')}")
        if isinstance(found, dict) and not found.get(ref):
            return None
        return self.view(_Entry, found[ref] if isinstance(found, dict) else None)

    async def _tell(self, path: str, body: dict[str, Any]) -> None:
        """A call whose good answer has no body."""
        self.read(await self.ask("POST", path, json=body))

    def _done(self, entry: _Entry, operation: Operation) -> Completed:
        file = _clip(entry.outputs, operation.data.get("output"))
        if file is None:
            raise errors.OutputInvalid(
                words(
                    "the workflow ended without a video file; end it with SaveVideo or VHS_VideoCombine",
                    "ワークフローは動画ファイルを出力せずに終了しました。SaveVideo または VHS_VideoCombine で保存してください。",
                ),
                backend=self.name,
            )
        query = {name: str(file.get(name, "")) for name in ("filename", "subfolder")}
        url = f"{self._base}/view?{urlencode({**query, 'type': str(file.get('type', 'output'))})}"
        return Completed((Output(url=url),))

    def _failure(self, stands: _Stands) -> GatewayError:
        told = {m[0]: m[1] for m in stands.messages if isinstance(m, list) and len(m) == 2}
        if "execution_interrupted" in told:
            return self._interrupted()
        error = told.get("execution_error")
        error = error if isinstance(error, dict) else {}
        node = f"node {error.get('node_id')} ({error.get('node_type')})" if error.get("node_id") else ""
        raw = ": ".join(part for part in (node, str(error.get("exception_message") or "")) if part)
        text = redact(raw, self._secrets()) or "no reason given"
        kind = str(error.get("exception_type") or "")
        if "OutOfMemory" in kind:
            return errors.OutOfMemory(
                words(
                    f"its GPU has too little memory for this ({text}); ask for a smaller size or a shorter clip",
                    f"GPU メモリが不足しました({text})。解像度を下げるか、長さを短くしてください。",
                ),
                backend=self.name,
                detail=f"{kind}: {text}",
            )
        return errors.GenerationFailed(
            said(errors.GenerationFailed, text), backend=self.name, detail=f"{kind or 'no type'}: {text}"
        )

    def _interrupted(self) -> GatewayError:
        return errors.Cancelled(
            words("the prompt was interrupted", "プロンプトの実行は中断されました。"), backend=self.name
        )


def _operation(ref: str, workflow: Workflow) -> Operation:
    return Operation(ref=ref, data={"output": workflow.output})


def prompt_id(key: str) -> str:
    """Our attempt's id as the UUID that ComfyUI asks for; the same key gives the same one."""
    return str(uuid5(NAMESPACE_URL, f"understudy:{key}"))


def _before(item: list[Any], mine: list[Any]) -> bool:
    """Whether a waiting prompt starts before ours: a smaller number goes first."""
    return isinstance(item[0], int | float) and isinstance(mine[0], int | float) and item[0] < mine[0]


def _clip(outputs: Mapping[str, Any], node: Any) -> dict[str, Any] | None:
    """The first video file of that node, or of any; one that is kept goes before a preview."""
    files: list[dict[str, Any]] = []
    for id_, output in outputs.items():
        if not isinstance(output, dict) or node not in {None, id_}:
            continue
        for name in LISTS:
            listed = output.get(name)
            files += [file for file in (listed if isinstance(listed, list) else ()) if _is_clip(file)]
    return next((file for file in files if file.get("type", "output") == "output"), next(iter(files), None))


def _is_clip(file: Any) -> bool:
    name = file.get("filename") if isinstance(file, dict) else None
    return isinstance(name, str) and PurePosixPath(name).suffix.lower() in CLIPS
