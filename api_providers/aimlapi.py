"""AI/ML API (aimlapi.com): Kling, MiniMax and Wan behind one route; each model has field names of its own.

Which of our values a model takes, and what it calls them, is the card's `wire`: per task the `model` identifier (two
vocabularies, `kling-video/...` and `klingai/...`: never built from parts), the fields it calls as we do (`same`), the
fields it calls otherwise (`named`), and constants (`fixed`).

Inputs are sent as data URIs. Every media field is documented as a URL, there is no upload, and data URIs are not
mentioned (unverified). If one is refused, the answer is a 400: InvalidRequest, before anything was bought. If it is taken
and only fails later, the task ends as `error` and costs nothing either.

Money: "failed requests are never charged", an asynchronous video is charged after `completed` (docs), so whatever ended
without a clip cost nothing. `credits_used` has no documented worth in dollars: kept in the details, not booked.
There is neither idempotency key, list, nor cancel: `lost_submit = "hold"`, `cancel = "no"`.
Source: the vendor's public repository api-docs, 2026-08-21.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer, redact
from api_providers._camera import prompt_with_camera
from api_providers._errors import said
from api_providers._http import HttpProvider
from api_providers._kling_camera import COMPOUND, kling_axis, kling_control
from api_providers._refusal import refused_content
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.words import Words, words

PATH = "v2/video/generations"
"""Submit and look are the same path."""
POLL_AFTER_S = 10.0
"""Their samples ask every 10 to 15 s."""
DATA_URI_MAX_BYTES = 7_400_000
"""Raw bytes that stay below 10 MB after base64. No limit is documented; larger bodies are seldom let through."""
_NO_CREDIT = re.compile(r"credit|balance|top up|payment|billing|plan limit", re.IGNORECASE)
"""A 403 is an empty account or a thing that is not allowed; only the sentence tells."""


class _Submitted(BaseModel):
    """Only the id matters: a task that was bought is not lost over a strange field beside it."""

    id: str = Field(min_length=1)


class _TaskView(BaseModel):
    status: str
    video: Any = None
    error: Any = None
    meta: Any = None


class _Billing(BaseModel):
    current_balance: Any = None
    currency: Any = None


class AimlApi(HttpProvider):
    """Submit, look and balance."""

    base_url = "https://api.aimlapi.com"

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Place the inputs, then buy. There is no field for `key`; their inference id finds the charge in their list."""
        payload = await self.payload(request)
        answer = await self.ask("POST", PATH, spends=True, json=payload)
        task = self.view(_Submitted, self.read(answer, spends=True), spends=True)
        inference = answer.headers.get("x-inference-id", "")[:200]
        return Operation(
            ref=task.id,
            data={"inference_id": inference} if inference else {},
            warnings=self._warnings(request, payload),
        )

    async def payload(self, request: ResolvedRequest) -> dict[str, Any]:
        """The body for the task at hand."""
        card = self.card(request)
        mode = card.wire[request.task.value]
        names = {name: name for name in mode["same"]} | dict(mode.get("named", {}))
        body: dict[str, Any] = {"model": mode["model"], **mode.get("fixed", {})}
        plain: dict[str, Any] = {
            "prompt": prompt_with_camera(request, card) or None,
            "negative_prompt": request.negative_prompt or None,
            "duration": round(request.duration),
            "aspect_ratio": request.aspect_ratio,
            "resolution": request.resolution,
            # Always said: absent means true here, which doubles the price.
            "generate_audio": request.generate_audio,
            "seed": request.seed,
            "effect": request.effect,
        }
        for ours, theirs in names.items():
            value = plain[ours] if ours in plain else await self._placed(ours, request)
            if value is not None:
                body[theirs] = value
        return body | _camera(request, str(mode.get("camera", ""))) | request.options

    async def poll(self, operation: Operation) -> Pending | Completed:
        """Look once. The id holds colons and slashes and travels percent-encoded in the query."""
        answer = await self.ask("GET", PATH, params={"generation_id": operation.ref})
        if answer.status == 404:
            raise self._gone()
        task = self.view(_TaskView, self.read(answer))
        match task.status:
            case "queued" | "waiting":
                return Pending(poll_after=self._poll_after, queued=True)
            case "generating" | "active":
                return Pending(poll_after=self._poll_after)
            case "completed" if url := _link(task.video):
                return Completed((Output(url=url),), details=_details(task.meta))
            case "error" | "failed":
                raise self._failure(task.error)
            case status:
                text = "a finished task without a link" if status == "completed" else f"status {status}"
                raise self.error(errors.UnexpectedResponse, answer._replace(json={"message": text}))

    async def check(self) -> Mapping[str, JsonValue]:
        """The balance, where it is in dollars."""
        billing = self.view(_Billing, await self.call("GET", "v2/billing"))
        usd = _amount(billing.current_balance) if billing.currency == "USD" else None
        return {
            "balance_usd": None if usd is None else str(usd),
            "currency": billing.currency if isinstance(billing.currency, str) else None,
        }

    # -- AI/ML API's ways

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """403 is two things: out of credits, or not allowed."""
        if answer.status == 403 and _NO_CREDIT.search(self.message_of(answer)):
            return errors.QuotaExhausted
        return super().kind_of_error(answer)

    def message_of(self, answer: Answer) -> str:
        """`message`, and the fields of a validation error where an answer lists them."""
        text = super().message_of(answer)
        body = answer.json if isinstance(answer.json, dict) else {}
        issues = body.get("errors") or body.get("meta")
        lines = _issues(issues) if isinstance(issues, list) else ""
        return f"{text}; {lines}" if lines else text

    async def place(self, media: InputMedia) -> str:
        """A data URI (unverified, see above); a file too large for one is left to other backends."""
        if media.asset.size_bytes > DATA_URI_MAX_BYTES:
            raise errors.BackendError(
                words(
                    "an input file is larger than the 7 MB that can be sent to it",
                    "入力ファイルが送信できる上限の 7 MB を超えています。",
                ),
                backend=self.name,
                param="frame_images" if media.type == "image" else "input_references",
            )
        return await super().place(media)

    async def _placed(self, ours: str, request: ResolvedRequest) -> Any:
        """The inputs of that kind as the model takes them: one, a list, a list of elements, or the pair of a scene for two."""
        if ours in {"first_frame", "last_frame"}:
            frame = request.first_frame if ours == "first_frame" else request.last_frame
            return None if frame is None else await self.place(frame)
        kind = {"elements": "image", "pair": "image"}.get(ours, ours.removesuffix("s"))
        placed = [await self.place(media) for media in request.references if media.type == kind]
        if not placed:
            return None
        if ours == "elements":
            return [{"reference_image_urls": [url]} for url in placed]
        if ours == "pair" and request.first_frame:
            return [await self.place(request.first_frame), placed[0]]
        return placed if ours.endswith("s") else placed[0]

    def _warnings(self, request: ResolvedRequest, payload: Mapping[str, Any]) -> tuple[Words, ...]:
        """What this model leaves aside and no card can say."""
        found: list[Words] = []
        if request.prompt and "prompt" not in payload:
            found.append(
                words(
                    "The prompt was not used: the effect alone decides.",
                    "エフェクトだけで内容が決まるため、プロンプトは使われませんでした。",
                )
            )
        moved = payload.get("advanced_camera_control", {}).get("movement_value")
        asked = kling_axis(request.camera)[1] if request.camera and moved is not None else moved
        if moved != asked:
            found.append(
                words(
                    f"The camera moves by {abs(moved)}: whole numbers only.",
                    f"カメラの動きは整数のみのため {abs(moved)} になります。",
                )
            )
        return tuple(found)

    def _failure(self, error: Any) -> GatewayError:
        """How a task ended without a clip; never charged (docs)."""
        text = redact(_sentence(error), self._secrets()) or "no reason given"
        kind = errors.ContentRejected if refused_content(text) else errors.GenerationFailed
        return kind(said(kind, text), backend=self.name, billed_usd=Decimal(0), detail=text)

    def _gone(self) -> GatewayError:
        return errors.OperationLost(
            words(
                "no longer knows this task; look in its own dashboard what became of it",
                "このタスクは先方に存在しません。プロバイダーのダッシュボードで状況を確認してください。",
            ),
            backend=self.name,
        )


def _camera(request: ResolvedRequest, form: str) -> dict[str, Any]:
    """One field name, two types: a word (or the one-axis object beside it) with text, an object with an image."""
    camera = request.camera
    if camera is None or not form:
        return {}
    if form == "object":
        control = kling_control(camera)
        return {"camera_control": control} if control else {}
    if camera.preset in COMPOUND:
        return {"camera_control": camera.preset}
    axis, value = kling_axis(camera)
    whole = max(1, round(abs(value))) * (1 if value > 0 else -1)
    return {"advanced_camera_control": {"movement_type": axis, "movement_value": whole}} if value else {}


def _link(video: Any) -> str | None:
    url = video.get("url") if isinstance(video, dict) else None
    return url if isinstance(url, str) and url else None


def _sentence(error: Any) -> str:
    """`message`, else the list of fields in `detail`, else whatever stands there."""
    if not isinstance(error, dict):
        return str(error or "")
    message, detail = error.get("message"), error.get("detail")
    if isinstance(message, str) and message:
        return message
    return (_issues(detail) if isinstance(detail, list) else "") or str(detail or error)


def _issues(items: list[Any]) -> str:
    """`field: what is wrong`, of at most five."""
    lines = []
    for item in items[:5]:
        if isinstance(item, dict):
            where = item.get("loc") or item.get("path") or ()
            parts = [str(p) for p in where if p != "body"] if isinstance(where, list) else [str(where)]
            lines.append(
                ": ".join(filter(None, (".".join(parts), str(item.get("msg") or item.get("message")))))
            )
    return "; ".join(lines)


def _details(meta: Any) -> dict[str, JsonValue]:
    usage = meta.get("usage") if isinstance(meta, dict) else None
    used = usage.get("credits_used") if isinstance(usage, dict) else None
    return {"credits_used": used} if isinstance(used, int | float) else {}


def _amount(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
