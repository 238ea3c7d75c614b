"""MiniMax Hailuo (api.minimax.io): v1 for 2.3, 2.3-Fast and 02, v2 for the H3 models.

v1 takes three calls to a clip (submit, query, retrieve the file) and answers its errors inside HTTP 200. v2 nests the
task, gives the link in the query and uses real HTTP statuses. Neither has an idempotency key or a place for ours, so a
lost answer cannot be looked up (`lost_submit = "hold"`). Source: platform.minimax.io/docs (video generation, error
codes, video-generation-v2-*), as collected in the provider sheet.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from api_providers._answer import Answer
from api_providers._camera import prompt_with_camera
from api_providers._http import HttpProvider
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import GatewayError, Misfit
from router.contract.fit import prompt_length
from router.contract.request import Camera
from router.contract.words import words

POLL_AFTER_S = 10.0
"""The pace that the documentation asks for."""
INPUT_MAX_BYTES = 20_000_000
"""Documented for images; for the videos and sounds of v2 nothing is documented, and a body much larger than this one
would not come through."""
BAD_PARAMETER = 2013
REFUSED = frozenset({1026, 1027})
"""Input or output sensitive."""
BY_CODE: dict[int, type[GatewayError]] = {
    1002: errors.RateLimited,
    1004: errors.AuthenticationFailed,
    1008: errors.QuotaExhausted,
    1026: errors.ContentRejected,
    1027: errors.ContentRejected,
    1042: errors.InvalidRequest,
    BAD_PARAMETER: errors.InvalidRequest,
    # Real-name verification is missing (China): the account's owner must act, as with a wrong key.
    2038: errors.AuthenticationFailed,
    2049: errors.AuthenticationFailed,
    # A plan's usage limit of the day or of five hours: it passes by itself.
    2056: errors.RateLimited,
}
"""Any other code leaves doubt (1000 unknown, 1001 timeout, 1024 and 1033 internal): unexpected, which the base class
turns into OutcomeUnknown on the call that spends and into "look again" on every other."""
PRESETS = {
    "static": "Static shot",
    "zoom_in": "Zoom in",
    "zoom_out": "Zoom out",
    "pan_left": "Pan left",
    "pan_right": "Pan right",
    "tilt_up": "Tilt up",
    "tilt_down": "Tilt down",
    "dolly_in": "Push in",
    "dolly_out": "Pull out",
    "truck_left": "Truck left",
    "truck_right": "Truck right",
    "pedestal_up": "Pedestal up",
    "pedestal_down": "Pedestal down",
    "tracking": "Tracking shot",
    "handheld": "Shake",
    # Up to three words in one bracket happen together.
    "down_back": "Pedestal down,Pull out",
    "forward_up": "Push in,Pedestal up",
    "right_turn_forward": "Pan right,Push in",
    "left_turn_forward": "Pan left,Push in",
}
AXES = {
    # axis -> (words for a negative value, words for a positive value); roll has none.
    "horizontal": ("Truck left", "Truck right"),
    "vertical": ("Pedestal down", "Pedestal up"),
    "pan": ("Pan left", "Pan right"),
    "tilt": ("Tilt down", "Tilt up"),
    "zoom": ("Zoom out", "Zoom in"),
}


class _Loose(BaseModel):
    """Ids come as text in one answer and as a number in the next."""

    model_config = ConfigDict(coerce_numbers_to_str=True)


class _Submitted(_Loose):
    task_id: str = Field(min_length=1)


class _TaskV1(_Loose):
    status: str
    file_id: str = ""


class _File(_Loose):
    download_url: str = Field(min_length=1)


class _Retrieved(_Loose):
    file: _File


class _TaskV2(_Loose):
    status: str
    content: Any = None
    error: Any = None
    usage: Any = None


class _QueryV2(_Loose):
    task: _TaskV2


class _List(_Loose):
    items: list[Any]
    total: Any = None


class Hailuo(HttpProvider):
    """Submit and poll in both generations; cancel and list only in v2."""

    base_url = "https://api.minimax.io"
    not_accepted = frozenset()
    """After any 5xx on a submit the outcome is unknown here (provider sheet, section 4: "after 1001, 5xx or a lost
    connection"); there is no idempotency key and v1 has no list to look in."""

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))
        self._cancelled: set[str] = set()

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Inputs travel inside the body, so the first call is the one that buys. There is no field for `key`."""
        api = str(self.card(request).wire["api"])
        payload = await self.payload(request)
        answer = await self.call("POST", f"{api}/video_generation", spends=True, json=payload)
        task = self.view(_Submitted, answer, spends=True)
        return Operation(ref=task.task_id, data={"api": api}, warnings=_camera_warnings(request, api))

    async def payload(self, request: ResolvedRequest) -> dict[str, Any]:
        """The body of the create call of the card's generation."""
        card = self.card(request)
        common = {"model": card.wire_id, "duration": round(request.duration)}
        if request.resolution:
            common["resolution"] = request.resolution.upper()
        body = await (self._body_v2 if card.wire["api"] == "v2" else self._body_v1)(request, card)
        return {**common, **body, **request.options}

    async def poll(self, operation: Operation) -> Pending | Completed:
        """Statuses by name, each generation its own words (v1 in title case)."""
        if operation.data.get("api") == "v2":
            return await self._poll_v2(operation)
        return await self._poll_v1(operation)

    async def cancel(self, operation: Operation) -> bool:
        """Only a queued task of v2. Of an ended task the same call would delete the clip that was paid for, and a
        running one cannot be cancelled (docs: video-generation-v2-delete), so it is looked at first.
        """
        if operation.data.get("api") != "v2":
            return False
        answer = await self.ask("GET", _path_v2(operation))
        if _is_gone(answer):
            return operation.ref in self._cancelled
        if self.view(_QueryV2, self.read(answer)).task.status != "queued":
            return False
        answer = await self.ask("DELETE", f"v2/video_generation/{quote(operation.ref, safe='')}")
        if 400 <= answer.status < 500 and answer.status not in {401, 403, 429}:
            # It began to run in between.
            return False
        body = self.read(answer)
        word = (body.get("status") or body.get("action")) if isinstance(body, dict) else None
        if word not in {None, "cancelled", "cancel"}:
            return False
        self._cancelled.add(operation.ref)
        return True

    async def check(self) -> Mapping[str, JsonValue]:
        """One row of the list of v2 tasks; MiniMax has no call for the balance."""
        params = {"page_num": "1", "page_size": "1"}
        found = self.view(_List, await self.call("GET", "v2/query/video_generation", params=params))
        return {"tasks_total": found.total if isinstance(found.total, int) else None}

    # -- MiniMax's ways

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """`base_resp.status_code` inside a 200 (v1), or the code in brackets at the end of the message (v2)."""
        code = _code(answer)
        if answer.ok and code:
            return BY_CODE.get(code, errors.UnexpectedResponse)
        if 400 <= answer.status < 500 and code in BY_CODE:
            return BY_CODE[code]
        return super().kind_of_error(answer)

    def message_of(self, answer: Answer) -> str:
        """Their sentence with their code."""
        base = answer.json.get("base_resp") if isinstance(answer.json, dict) else None
        if not isinstance(base, dict):
            return super().message_of(answer)
        return f"{base.get('status_msg') or ''} (code {base.get('status_code')})".strip()

    def read(self, answer: Answer, *, spends: bool = False) -> Any:
        """A submit in doubt keeps the Trace-Id too, by which their support finds it."""
        try:
            return super().read(answer, spends=spends)
        except errors.OutcomeUnknown as error:
            error.detail = f"{error.detail}{_trace(answer)}"
            raise

    def error(self, kind: type[GatewayError], answer: Answer) -> GatewayError:
        """The Trace-Id goes into the log's part of the error."""
        error = super().error(kind, answer)
        error.detail = f"{error.detail}{_trace(answer)}"
        return error

    async def place(self, media: InputMedia) -> str:
        """A data URI, with its head (unlike Kling)."""
        if media.asset.size_bytes > INPUT_MAX_BYTES:
            raise errors.BackendError(
                words(
                    "an input file is larger than the 20 MB it takes",
                    "入力ファイルが上限の 20 MB を超えています。",
                ),
                backend=self.name,
                param="frame_images",
            )
        return await super().place(media)

    async def _body_v1(self, request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
        """The optimizer is on by their default and stays so; with a camera movement it is off, or it may rewrite the
        words in brackets. It is always said, and `prompt_optimizer` among the options decides otherwise.
        """
        body: dict[str, Any] = {"prompt_optimizer": request.camera is None}
        if prompt := prompt_with_brackets(request, card):
            body["prompt"] = prompt
        if request.first_frame:
            body["first_frame_image"] = await self.place(request.first_frame)
        if request.last_frame:
            body["last_frame_image"] = await self.place(request.last_frame)
        return body

    async def _body_v2(self, request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
        """Everything is an item of `content`; with frames the clip follows the image and no ratio is sent."""
        content: list[dict[str, Any]] = []
        if prompt := prompt_with_camera(request, card):
            content.append({"type": "text", "text": prompt})
        frames = {"first_frame": request.first_frame, "last_frame": request.last_frame}
        inputs = [(media, role) for role, media in frames.items() if media]
        inputs += [(media, f"reference_{media.type}") for media in request.references]
        for media, role in inputs:
            kind = f"{media.type}_url"
            content.append({"type": kind, kind: {"url": await self.place(media)}, "role": role})
        body: dict[str, Any] = {"content": content, "aigc_watermark": False}
        if request.aspect_ratio:
            body["ratio"] = request.aspect_ratio
        return body

    async def _poll_v1(self, operation: Operation) -> Pending | Completed:
        answer = await self.ask("GET", "v1/query/video_generation", params={"task_id": operation.ref})
        body = answer.json if answer.ok and isinstance(answer.json, dict) else {}
        if body.get("status") == "Fail":
            raise self._failure(_code(answer), answer)
        if answer.ok and _code(answer) == BAD_PARAMETER:
            # The id is this call's only parameter.
            raise self._gone(operation)
        task = self.view(_TaskV1, self.read(answer))
        match task.status:
            case "Preparing" | "Queueing":
                return Pending(poll_after=self._poll_after, queued=True)
            case "Processing":
                return Pending(poll_after=self._poll_after)
            case "Success" if task.file_id:
                return await self._file(task)
            case _:
                raise self._unheard_of(task.status, answer)

    async def _file(self, task: _TaskV1) -> Completed:
        """The third call: the file's link, which is signed and needs no key."""
        answer = await self.call("GET", "v1/files/retrieve", params={"file_id": task.file_id})
        found = self.view(_Retrieved, answer)
        return Completed((Output(url=found.file.download_url),), details={"file_id": task.file_id})

    async def _poll_v2(self, operation: Operation) -> Pending | Completed:
        answer = await self.ask("GET", _path_v2(operation))
        if _is_gone(answer):
            raise self._gone(operation)
        task = self.view(_QueryV2, self.read(answer)).task
        match task.status:
            case "queued":
                return Pending(poll_after=self._poll_after, queued=True)
            case "running":
                return Pending(poll_after=self._poll_after)
            case "succeeded" if isinstance(task.content, dict) and task.content.get("url"):
                return Completed((Output(url=str(task.content["url"])),), details=_usage(task))
            case "failed" | "expired":
                told = answer._replace(json={"error": _error_of(task)})
                raise self._failure(_code(told), told)
            case "cancelled":
                raise self._was_cancelled()
            case _:
                raise self._unheard_of(task.status, answer)

    def _failure(self, code: int | None, answer: Answer) -> GatewayError:
        refused = code in REFUSED or "sensitive" in self.message_of(answer).lower()
        return self.error(errors.ContentRejected if refused else errors.GenerationFailed, answer)

    def _unheard_of(self, status: str, answer: Answer) -> GatewayError:
        return self.error(errors.UnexpectedResponse, answer._replace(json={"error": f"status {status}"}))

    def _gone(self, operation: Operation) -> GatewayError:
        if operation.ref in self._cancelled:
            return self._was_cancelled()
        return errors.OperationLost(
            words(
                "no longer knows this task; look in its own console what became of it",
                "このタスクは先方に存在しません。プロバイダーのコンソールで状況を確認してください。",
            ),
            backend=self.name,
        )

    def _was_cancelled(self) -> GatewayError:
        """Only a queued task can be cancelled, and that is documented as free."""
        return errors.Cancelled(
            words("the task was cancelled", "タスクはキャンセルされました。"),
            backend=self.name,
            billed_usd=Decimal(0),
        )


def bracket_words(camera: Camera) -> str:
    """The movement as MiniMax writes it in a prompt, for example `[Push in]`."""
    if camera.preset is not None:
        return f"[{PRESETS[camera.preset]}]"
    value = camera.value or 0.0
    if camera.axis is None or value == 0:
        return f"[{PRESETS['static']}]"
    return f"[{AXES[camera.axis][value > 0]}]"


def prompt_with_brackets(request: ResolvedRequest, card: ModelCard) -> str:
    """The caller's prompt, then the movement; raises UnsupportedRequest if that is too long."""
    if request.camera is None:
        return request.prompt
    prompt = f"{request.prompt} {bracket_words(request.camera)}".strip()
    if card.prompt_max is not None and (length := prompt_length(prompt, card)) > card.prompt_max:
        over = length - card.prompt_max
        reason = words(
            f"with the camera movement written into it the prompt is {over} characters too long for {card.id}; "
            "shorten the prompt or leave the camera out",
            f"カメラの動きを書き加えると、プロンプトが {card.id} の上限を {over} 文字超えます。"
            "プロンプトを短くするか、カメラ指定を外してください。",
        )
        raise errors.UnsupportedRequest(
            reason, misfits=[Misfit(field="camera", reason=reason, droppable=True)]
        )
    return prompt


def _camera_warnings(request: ResolvedRequest, api: str) -> tuple[Any, ...]:
    """The bracket words have a direction and no strength."""
    if api != "v1" or request.camera is None or not request.camera.value:
        return ()
    said = bracket_words(request.camera)
    return (
        words(
            f"The camera movement was sent as {said}: this model takes a direction, not a strength.",
            f"カメラワークは {said} として送信しました。このモデルは方向だけを受け付け、強さは指定できません。",
        ),
    )


_CODE_AT_END = re.compile(r"\((\d{4})\)\s*$")


def _code(answer: Answer) -> int | None:
    """MiniMax's own number in an answer: a field in v1, the end of the sentence or a field of the error in v2."""
    body = answer.json if isinstance(answer.json, dict) else {}
    base, error = body.get("base_resp"), body.get("error")
    given: Any = base.get("status_code") if isinstance(base, dict) else None
    if given is None and isinstance(error, dict):
        found = _CODE_AT_END.search(str(error.get("message") or ""))
        given = found[1] if found else error.get("code")
    return int(given) if str(given).isdecimal() else None


def _trace(answer: Answer) -> str:
    found = answer.headers.get("trace-id", "")
    return f"; Trace-Id {found[:64]}" if found.isascii() and found.isprintable() and found else ""


def _is_gone(answer: Answer) -> bool:
    """An unknown id is an HTTP 500 that says so in words; one older than seven days an "invalid task_id"."""
    text = answer.text.lower()
    return not answer.ok and ("record not found" in text or "invalid task_id" in text)


def _error_of(task: _TaskV2) -> dict[str, Any]:
    told = task.error if isinstance(task.error, dict) else {}
    return {"message": str(told.get("message") or f"the task is {task.status}"), "code": told.get("code")}


def _usage(task: _TaskV2) -> dict[str, JsonValue]:
    """The seconds that they bill, input videos included."""
    given = task.usage if isinstance(task.usage, dict) else {}
    return {name: value for name, value in given.items() if isinstance(value, int | float)}


def _path_v2(operation: Operation) -> str:
    return f"v2/query/video_generation/{quote(operation.ref, safe='')}"
