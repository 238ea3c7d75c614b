"""Kie.ai (api.kie.ai): Kling, Hailuo, MiniMax and Wan models behind one pair of calls, createTask and recordInfo.

Kie answers almost everything with HTTP 200 and says what is wrong in the body's `code`. It has no idempotency key and
no list of tasks (`lost_submit = "hold"`) and no cancel. Which fields a model takes is data in `kie.toml`.
Sources: docs.kie.ai; two public clients whose authors note what the live service answered (kie-ai-cli, kie-ai-mcp).
"""

import json
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer, redact
from api_providers._camera import prompt_with_camera
from api_providers._errors import said
from api_providers._http import HttpProvider
from api_providers._refusal import refused_content
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.words import words

POLL_AFTER_S = 5.0
"""Kie documents no pace."""
FRESH_S = 300.0
"""A task may be unknown to recordInfo for a while after its creation; younger than this it is not given up."""
BASE64_MAX_BYTES = 10_000_000
"""Larger files go as a stream (docs: file upload)."""
IMAGE_MAX_BYTES = 10_000_000
"""What the generation fields take (docs)."""
UPLOAD_MAX_BYTES = 100_000_000
"""The largest audio an avatar takes; no larger file is documented for any field."""
IMAGES = frozenset({"image/jpeg", "image/png", "image/webp"})
UPLOAD_PATH = "understudy"

CODES: dict[int, type[GatewayError]] = {
    400: errors.InvalidRequest,
    401: errors.AuthenticationFailed,
    402: errors.QuotaExhausted,
    403: errors.AuthenticationFailed,
    404: errors.BackendError,
    405: errors.BackendError,
    408: errors.UnexpectedResponse,
    422: errors.InvalidRequest,
    429: errors.RateLimited,
    455: errors.Unavailable,
    500: errors.Unavailable,
    501: errors.UnexpectedResponse,
    505: errors.BackendError,
}
"""The body's `code`. On createTask UnexpectedResponse becomes OutcomeUnknown, so this also says which codes leave doubt:

- 408 (nothing from upstream for over 10 minutes) and 501 (generation failed) tell that a generation had begun there:
  in doubt, all the more as users dispute that a 501 is free. So is any code that the docs do not list.
- 500 does not: it is Kie's own refusal without a task id, documented as safe to send again, and the live service
  also words wrong parameters that way.
- 455 (maintenance) and 505 (feature off) come before anything is made.
"""
ENDED = frozenset({408, 501})
"""Codes of recordInfo that tell how the task ended, not how the look went (docs: treat as failed, make a new task)."""
UNKNOWN = {422: "recordinfo is null", 404: "task"}
"""Code and words of recordInfo for a task that it does not know, or does not know yet. The words matter: a 404 is also
said of a path, and a path that Kie renames must not make every running task look lost."""


class _Created(BaseModel):
    taskId: str = Field(min_length=1)


class _CreatedEnvelope(BaseModel):
    data: _Created


class _Record(BaseModel):
    state: str
    resultJson: str | None = None
    failCode: str | int | None = None
    failMsg: str | None = None
    creditsConsumed: Any = None
    progress: Any = None


class _RecordEnvelope(BaseModel):
    data: _Record


class _Result(BaseModel):
    resultUrls: list[str] = []


class _Uploaded(BaseModel):
    downloadUrl: str | None = None
    fileUrl: str | None = None


class _UploadedEnvelope(BaseModel):
    data: _Uploaded


class _Credit(BaseModel):
    data: Decimal


class Kie(HttpProvider):
    """Upload the inputs, create a task, look at its record; the code in the body counts, not the status."""

    base_url = "https://api.kie.ai"
    # The docs name api.kie.ai for uploads; that host answers 404 there (kie-ai-cli and two more clients).
    also_ours: ClassVar[Mapping[str, str]] = {"upload": "https://kieai.redpandaai.co"}

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Upload, then buy. Kie has no field for `key`. When it was bought is kept: `poll` needs the task's age."""
        payload = await self.payload(request)
        answer = await self.call("POST", "api/v1/jobs/createTask", spends=True, json=payload)
        created = self.view(_CreatedEnvelope, answer, spends=True).data
        return Operation(
            ref=created.taskId, data={"created": int(time.time())}, warnings=self._unsent(request)
        )

    async def payload(self, request: ResolvedRequest) -> dict[str, Any]:
        """The body of createTask; what the endpoint calls our values is the card's `wire`."""
        endpoint = self._endpoint(request)
        body: dict[str, Any] = json.loads(json.dumps(endpoint.get("always", {})))
        for name, theirs in endpoint["fields"].items():
            for value in await self._values(name, request):
                if theirs.endswith("[]"):
                    body.setdefault(theirs[:-2], []).append(value)
                else:
                    body[theirs] = value
        return {"model": endpoint["model"], "input": body | request.options}

    async def poll(self, operation: Operation) -> Pending | Completed:
        """All five states by name. `resultJson` is JSON inside a string."""
        answer = await self.ask("GET", "api/v1/jobs/recordInfo", params={"taskId": operation.ref})
        code = _code(answer)
        if code in UNKNOWN and UNKNOWN[code] in self._text(answer).lower():
            raise self._not_there(operation, answer)
        if code in ENDED:
            raise self._ended(errors.GenerationFailed, self._text(answer), f"code {code}", None)
        record = self.view(_RecordEnvelope, self.read(answer)).data
        match record.state:
            case "waiting" | "queuing":
                return Pending(poll_after=self._poll_after, queued=True)
            case "generating":
                return Pending(progress=_fraction(record.progress), poll_after=self._poll_after)
            case "success":
                return self._completed(record, answer)
            case "fail":
                raise self._failure(record)
            case _:
                raise self.error(
                    errors.UnexpectedResponse, answer._replace(json={"msg": f"state {record.state}"})
                )

    async def fetch(self, output: Output, to: Path) -> None:
        """The recorded URL needs no key; only when it is refused Kie is asked for a temporary link to the same file."""
        try:
            await super().fetch(output, to)
        except errors.LinkExpired:
            fresh = await self._fresh_link(output.url or "")
            if fresh is None:
                raise
            await super().fetch(Output(url=fresh, mime=output.mime), to)

    async def check(self) -> Mapping[str, JsonValue]:
        """The credits left, and what they are worth at the (unverified) rate."""
        credit = self.view(_Credit, await self.call("GET", "api/v1/chat/credit"))
        usd = self._usd(float(credit.data))
        return {"balance_usd": None if usd is None else str(usd), "balance_credits": str(credit.data)}

    # -- Kie's ways

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """By the body's `code`, whatever the status says; by the status where there is no code.

        A 403 without a code is the firewall in front of Kie, which dislikes some clients (public notes); our key is good.
        """
        code = _code(answer)
        if code is None and answer.status == 403:
            return errors.BackendError
        if code is None or code == 200:
            return super().kind_of_error(answer)
        return CODES.get(code, errors.UnexpectedResponse)

    def message_of(self, answer: Answer) -> str:
        """`msg`, with the code in front."""
        body = answer.json
        if isinstance(body, dict) and isinstance(body.get("msg"), str):
            code = _code(answer)
            return f"{code}: {body['msg']}" if code not in {None, 200} else str(body["msg"])
        return super().message_of(answer)

    async def place(self, media: InputMedia) -> str:
        """An upload to Kie's file host, kept there for 3 days: generation fields take URLs only."""
        size, mime = media.asset.size_bytes, media.asset.mime
        if media.type == "image" and mime not in IMAGES:
            raise self._unusable("JPEG, PNG, WebP", "JPEG・PNG・WebP", media)
        if size > (IMAGE_MAX_BYTES if media.type == "image" else UPLOAD_MAX_BYTES):
            most = 10 if media.type == "image" else 100
            raise self._unusable(f"at most {most} MB", f"{most} MB 以下", media)
        name = self.filename_of(media)
        if size <= BASE64_MAX_BYTES:
            data = f"data:{mime};base64,{await self.base64_of(media)}"
            body = {"base64Data": data, "uploadPath": UPLOAD_PATH, "fileName": name}
            answer = await self.call("POST", "api/file-base64-upload", json=body, at="upload")
        else:
            form = {"uploadPath": UPLOAD_PATH, "fileName": name}
            files = {"file": await self.upload_of(media)}
            answer = await self.call("POST", "api/file-stream-upload", form=form, files=files, at="upload")
        uploaded = self.view(_UploadedEnvelope, answer).data
        url = uploaded.downloadUrl or uploaded.fileUrl
        if not url:
            raise errors.UnexpectedResponse(
                words(
                    "took an upload without saying where it lies; nothing was bought",
                    "アップロード先の URL が返されませんでした。課金は発生していません。",
                ),
                backend=self.name,
            )
        return url

    def _endpoint(self, request: ResolvedRequest) -> Mapping[str, Any]:
        """The part of the card's `wire` for this request: some models take references at an endpoint of their own."""
        wire = self.card(request).wire
        mode = "references" if request.references and "references" in wire else request.task.value
        endpoint: Mapping[str, Any] = wire[mode]
        return endpoint

    async def _values(self, name: str, request: ResolvedRequest) -> list[Any]:
        """Our value of that name in Kie's spelling, as a list: empty for what was not asked."""
        card = self.card(request)
        if name in {"image", "video", "audio"}:
            return [await self.place(media) for media in request.references if media.type == name]
        if name in {"first_frame", "last_frame"}:
            frame = request.first_frame if name == "first_frame" else request.last_frame
            return [] if frame is None else [await self.place(frame)]
        value = _plain(name, request, card)
        return [] if value is None else [value]

    def _unsent(self, request: ResolvedRequest) -> tuple[Any, ...]:
        if request.prompt and "prompt" not in self._endpoint(request)["fields"]:
            return (
                words(
                    "The prompt was left out: this model takes none.",
                    "このモデルはプロンプトを受け付けないため、プロンプトは使われませんでした。",
                ),
            )
        return ()

    def _completed(self, record: _Record, answer: Answer) -> Completed:
        try:
            result = _Result.model_validate_json(record.resultJson or "")
        except ValueError:
            result = _Result()
        if not result.resultUrls:
            raise self.error(
                errors.UnexpectedResponse, answer._replace(json={"msg": "success without resultUrls"})
            )
        return Completed(
            tuple(Output(url=url) for url in result.resultUrls), billed_usd=self._usd(record.creditsConsumed)
        )

    def _failure(self, record: _Record) -> GatewayError:
        """`failMsg` says whose fault it was, no code does; `creditsConsumed` is 0 where Kie gave the credits back."""
        text = redact(record.failMsg or "", self._secrets()) or "no reason given"
        refused = refused_content(text) or "flagged" in text.lower()
        kind = errors.ContentRejected if refused else errors.GenerationFailed
        billed = self._usd(record.creditsConsumed)
        return self._ended(kind, text, f"failCode {record.failCode}", billed)

    def _ended(
        self, kind: type[GatewayError], text: str, detail: str, billed: Decimal | None
    ) -> GatewayError:
        return kind(said(kind, text), backend=self.name, billed_usd=billed, detail=f"{detail}: {text}")

    def _not_there(self, operation: Operation, answer: Answer) -> GatewayError:
        """`recordInfo is null` is said of an unknown task and of one that is too fresh: its age decides.

        The age is kept in the operation, so a restart does not change the answer. One without it is not fresh.
        """
        created = operation.data.get("created")
        if isinstance(created, int | float) and time.time() - created < FRESH_S:
            return self.error(errors.UnexpectedResponse, answer)
        return errors.OperationLost(
            words(
                "no longer knows this task; look in its own dashboard what became of it",
                "このタスクは先方に存在しません。プロバイダーのダッシュボードで状況を確認してください。",
            ),
            backend=self.name,
            detail=self._text(answer),
        )

    async def _fresh_link(self, url: str) -> str | None:
        """A link that works for 20 minutes; None for a file that Kie did not make or no longer has."""
        answer = await self.ask("POST", "api/v1/common/download-url", json={"url": url})
        link = answer.json.get("data") if isinstance(answer.json, dict) else None
        return link if self.kind_of_error(answer) is None and isinstance(link, str) and link else None

    def _usd(self, credits: Any) -> Decimal | None:
        """Dollars of Kie's own count of credits; None while it is null, and for what is no number."""
        if self.config.credit_usd is None or isinstance(credits, bool):
            return None
        if not isinstance(credits, int | float) or not 0 <= credits < 1e12:
            return None
        return Decimal(str(credits)) * self.config.credit_usd

    def _unusable(self, en: str, ja: str, media: InputMedia) -> errors.BackendError:
        names = {"image": "画像", "video": "動画", "audio": "音声"}
        return errors.BackendError(
            words(
                f"an input {media.type} cannot be sent to it; it takes {en}",
                f"入力の{names[media.type]}を送信できません。受け付けるのは {ja} のみです。",
            ),
            backend=self.name,
            param="frame_images" if media.type == "image" else "input_references",
        )


def _plain(name: str, request: ResolvedRequest, card: ModelCard) -> Any:
    """A value that is no file; None for what was not asked. `duration` is text, `seconds` a number."""
    match name:
        case "prompt":
            return prompt_with_camera(request, card) or None
        case "duration":
            return f"{request.duration:g}"
        case "seconds":
            return round(request.duration)
        case "resolution":
            return card.wire.get("resolutions", {}).get(request.resolution, request.resolution)
        case "sound":
            return request.generate_audio
        case "aspect_ratio" | "negative_prompt" | "seed":
            return getattr(request, name)
        case _:
            raise errors.ServerTrouble(
                words(
                    f"the [model.wire] of {card.id} has an unknown field {name!r}; correct the file",
                    f"{card.id} の [model.wire] に未知の項目 {name!r} があります。ファイルを修正してください。",
                )
            )


def _code(answer: Answer) -> int | None:
    """The `code` of the body; None where there is none."""
    code = answer.json.get("code") if isinstance(answer.json, dict) else None
    if isinstance(code, str) and code.isdecimal():
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _fraction(progress: Any) -> float | None:
    """One client reads a percentage here; Kie's docs have none."""
    if isinstance(progress, bool) or not isinstance(progress, int | float):
        return None
    return min(max(float(progress) / 100, 0.0), 1.0)
