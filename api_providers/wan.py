"""Alibaba Wan through DashScope / Model Studio (dashscope-intl.aliyuncs.com): 2.1 to 3.0, both input protocols.

Which fields a model takes is the card's `wire`: `named` fields of `input` (2.6 and older: `img_url`, ...) and typed
items of `input.media` (2.7, 3.0). The task can be cancelled while it is PENDING and is forgotten after 24 hours. There
is no idempotency key and no place for ours in the list of tasks (`lost_submit = "hold"`).
Source: alibabacloud.com Model Studio pages and the official SDK dashscope 2.0.2, as collected in the provider sheet.
"""

from collections.abc import Mapping
from decimal import Decimal
from math import ceil
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer
from api_providers._camera import prompt_with_camera
from api_providers._http import HttpProvider
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.words import Words, words

POLL_AFTER_S = 15.0
"""The pace that the documentation asks for."""
SEED_MAX = 2**31 - 1
DATA_URI_MAX_BYTES = 7_400_000
"""Raw bytes of an image that stay below 10 MB after base64; a larger one is uploaded. Video and sound always are."""
MAX_BYTES = {"image": 20_000_000, "audio": 15_000_000, "video": 100_000_000}
USED_UP = ("free", "billing", "current quota", "exhaust")
"""Words of a Throttling.AllocationQuota that mean the money or the free quota, not the rate."""


class _Output(BaseModel):
    task_id: str = Field(min_length=1)


class _Submitted(BaseModel):
    """Only the id matters: a task that was bought is not lost over a strange field beside it."""

    output: _Output


class _Task(BaseModel):
    task_status: str
    video_url: str | None = None
    code: Any = None
    message: Any = None
    actual_prompt: Any = None


class _TaskView(BaseModel):
    output: _Task
    usage: Any = None


class _Permit(BaseModel):
    policy: str
    signature: str
    upload_dir: str = Field(min_length=1)
    upload_host: str
    oss_access_key_id: str
    x_oss_object_acl: str
    x_oss_forbid_overwrite: str


class _List(BaseModel):
    total: int


class Wan(HttpProvider):
    """Upload what is no image, submit, poll, cancel while it waits."""

    base_url = "https://dashscope-intl.aliyuncs.com"

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Place the inputs, then buy. DashScope has no field for `key`."""
        service = self.card(request).wire.get("service", "video-generation")
        payload = await self.payload(request)
        headers = {"X-DashScope-Async": "enable"}
        if _has_upload(payload["input"]):
            headers["X-DashScope-OssResourceResolve"] = "enable"
        answer = await self.call(
            "POST",
            f"api/v1/services/aigc/{service}/video-synthesis",
            spends=True,
            json=payload,
            headers=headers,
        )
        task = self.view(_Submitted, answer, spends=True)
        return Operation(ref=task.output.task_id, warnings=_seed_warnings(request))

    async def payload(self, request: ResolvedRequest) -> dict[str, Any]:
        """The body of the create call."""
        card = self.card(request)
        parameters = self._parameters(request, card)
        return {"model": card.wire_id, "input": await self._input(request, card), "parameters": parameters}

    async def poll(self, operation: Operation) -> Pending | Completed:
        """All seven statuses by name; a failure comes inside HTTP 200."""
        answer = await self.ask("GET", f"api/v1/tasks/{quote(operation.ref, safe='')}")
        view = self.view(_TaskView, self.read(answer))
        task = view.output
        match task.task_status:
            case "PENDING" | "SUSPENDED":
                return Pending(poll_after=self._poll_after, queued=True)
            case "RUNNING":
                return Pending(poll_after=self._poll_after)
            case "SUCCEEDED" if task.video_url:
                return Completed((Output(url=task.video_url),), details=_details(view))
            case "FAILED":
                raise self._failure(task, answer)
            case "CANCELED":
                raise errors.Cancelled(
                    words("the task was cancelled", "タスクはキャンセルされました。"), backend=self.name
                )
            case "UNKNOWN":
                raise errors.OperationLost(
                    words(
                        "no longer knows this task: it forgets them after 24 hours; look in its own console",
                        "このタスクは先方に存在しません(24 時間で消去されます)。"
                        "プロバイダーのコンソールで状況を確認してください。",
                    ),
                    backend=self.name,
                )
            case _:
                told = {"message": f"status {task.task_status}"}
                raise self.error(errors.UnexpectedResponse, answer._replace(json=told))

    async def cancel(self, operation: Operation) -> bool:
        """Only a PENDING task; any other is refused with a 400."""
        answer = await self.ask("POST", f"api/v1/tasks/{quote(operation.ref, safe='')}/cancel")
        if answer.status in {400, 404, 409}:
            return False
        self.read(answer)
        return True

    async def check(self) -> Mapping[str, JsonValue]:
        """One row of the list of tasks; the balance is only in Alibaba Cloud's own console."""
        params = {"page_no": "1", "page_size": "1"}
        return {"tasks_total": self.view(_List, await self.call("GET", "api/v1/tasks", params=params)).total}

    # -- DashScope's ways

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """By the documented `code`; an account in arrears and refused content are both a 400."""
        if answer.ok:
            return super().kind_of_error(answer)
        match _code(answer).split("."):
            case ["DataInspectionFailed", *_]:
                return errors.ContentRejected
            case ["Arrearage", *_]:
                return errors.QuotaExhausted
            case ["Throttling", "AllocationQuota", *_] | ["AllocationQuota", *_]:
                said = answer.text.lower()
                return errors.QuotaExhausted if any(word in said for word in USED_UP) else errors.RateLimited
            case ["Throttling", *_]:
                return errors.RateLimited
            case ["Model", "AccessDenied", *_]:
                # The key is good, only this model is closed to it: another model may still run.
                return errors.BackendError
        return super().kind_of_error(answer)

    def message_of(self, answer: Answer) -> str:
        """Their code in front of their sentence."""
        return ": ".join(filter(None, (_code(answer), super().message_of(answer))))

    async def _input(self, request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
        """`wire.media` gives the type of an item of `input.media`, `wire.named` a field of `input` itself."""
        inputs: dict[str, Any] = {}
        if prompt := prompt_with_camera(request, card):
            inputs["prompt"] = prompt
        if card.negative_prompt and request.negative_prompt:
            inputs["negative_prompt"] = request.negative_prompt
        if request.effect:
            inputs["template"] = request.effect
        given = [("first_frame", request.first_frame), ("last_frame", request.last_frame)]
        given += [(media.type, media) for media in request.references]
        items = []
        for name, media in given:
            if media is None:
                continue
            url = await self._placed(media, card)
            if name in card.wire.get("media", {}):
                items.append({"type": card.wire["media"][name], "url": url})
            else:
                inputs[card.wire["named"][name]] = url
        if items:
            inputs["media"] = items
        return inputs

    def _parameters(self, request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
        """`prompt_extend` is on by their default; here it is off unless the options say otherwise, so that the prompt
        stays as it is and a seed means something. `watermark` is off, as with them.
        """
        body: dict[str, Any] = {
            "duration": self._seconds(request, card),
            "prompt_extend": False,
            "watermark": False,
        }
        if card.wire.get("shape") == "size":
            body["size"] = f"{request.width}*{request.height}"
        elif request.resolution:
            body["resolution"] = request.resolution.upper()
        if card.wire.get("ratio") and request.aspect_ratio:
            body["ratio"] = request.aspect_ratio
        if request.seed is not None:
            body["seed"] = request.seed % (SEED_MAX + 1)
        if card.audio == "optional":
            body["audio"] = request.generate_audio
        return body | request.options

    def _seconds(self, request: ResolvedRequest, card: ModelCard) -> int:
        """Our `duration` is what a continuation adds; theirs is the whole length, the given clip included."""
        seconds = round(request.duration)
        if card.wire.get("total_length"):
            clip = next(media for media in request.references if media.type == "video")
            seconds += ceil(self._length(clip))
        return seconds

    def _length(self, media: InputMedia) -> float:
        if media.asset.duration_s is None:
            raise self._unfit(
                words(
                    "the length of an input video is not known; give another file",
                    "入力動画の長さを確認できません。別のファイルを指定してください。",
                )
            )
        return media.asset.duration_s

    async def _placed(self, media: InputMedia, card: ModelCard) -> str:
        """A data URI for an image that fits into one, else an upload: bound to account and model, kept for 48 hours."""
        most = MAX_BYTES[media.type]
        if media.asset.size_bytes > most:
            raise self._unfit(
                words(
                    f"an input file is larger than the {most // 1_000_000} MB it takes",
                    f"入力ファイルが上限の {most // 1_000_000} MB を超えています。",
                )
            )
        low, high = card.wire.get(f"{media.type}_seconds", (0, 0))
        if high and not low <= self._length(media) <= high:
            raise self._unfit(
                words(
                    f"an input of type {media.type} must be {low} to {high} seconds long for this model",
                    f"このモデルの入力({media.type})の長さは {low}～{high} 秒です。",
                )
            )
        if media.type == "image" and media.asset.size_bytes <= DATA_URI_MAX_BYTES:
            return await self.place(media)
        return await self._uploaded(media, card.wire_id)

    async def _uploaded(self, media: InputMedia, model: str) -> str:
        """Ask for a permit, then post the file to the storage host without our key; the file is the last part."""
        params = {"action": "getPolicy", "model": model}
        answer = await self.call("GET", "api/v1/uploads", params=params)
        data = (answer.get("data") or answer.get("output")) if isinstance(answer, dict) else None
        permit = self.view(_Permit, data)
        filename = self.filename_of(media)
        key = f"{permit.upload_dir}/{filename}"
        fields = {
            "OSSAccessKeyId": permit.oss_access_key_id,
            "Signature": permit.signature,
            "policy": permit.policy,
            "key": key,
            "x-oss-object-acl": permit.x_oss_object_acl,
            "x-oss-forbid-overwrite": permit.x_oss_forbid_overwrite,
            "success_action_status": "200",
        }
        await self.post_form(permit.upload_host, fields, media, filename)
        return f"oss://{key}"

    def _unfit(self, reason: Words) -> GatewayError:
        return errors.BackendError(reason, backend=self.name, param="input_references")

    def _failure(self, task: _Task, answer: Answer) -> GatewayError:
        """Failed requests are neither billed nor counted (guide of 2026-07-10 citing the vendor)."""
        code = str(task.code or "")
        refused = code.startswith("DataInspection")
        told = answer._replace(json={"code": code, "message": str(task.message or "no reason given")})
        error = self.error(errors.ContentRejected if refused else errors.GenerationFailed, told)
        error.billed_usd = Decimal(0)
        return error


def _code(answer: Answer) -> str:
    code = answer.json.get("code") if isinstance(answer.json, dict) else None
    return code if isinstance(code, str) else ""


def _has_upload(inputs: Mapping[str, Any]) -> bool:
    """Whether an input lies in their storage: then the call must say that such links are to be resolved."""
    urls = [*inputs.values(), *(item["url"] for item in inputs.get("media", ()))]
    return any(isinstance(url, str) and url.startswith("oss://") for url in urls)


def _seed_warnings(request: ResolvedRequest) -> tuple[Words, ...]:
    if request.seed is None or request.seed <= SEED_MAX:
        return ()
    sent = request.seed % (SEED_MAX + 1)
    return (
        words(
            f"The seed was sent as {sent}: this provider takes 0 to {SEED_MAX}.",
            f"シードは {sent} として送信しました。このプロバイダーの範囲は 0～{SEED_MAX} です。",
        ),
    )


def _details(view: _TaskView) -> dict[str, JsonValue]:
    """What was billed, in seconds, and the prompt as rewritten where that was asked for."""
    usage = view.usage if isinstance(view.usage, dict) else {}
    found: dict[str, JsonValue] = {
        name: usage[name] for name in ("duration", "SR") if isinstance(usage.get(name), int | float)
    }
    if isinstance(view.output.actual_prompt, str):
        found["actual_prompt"] = view.output.actual_prompt
    return found
