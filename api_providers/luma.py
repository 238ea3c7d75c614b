"""Luma Dream Machine (api.lumalabs.ai): ray-2 and ray-flash-2, from text, from an own earlier clip, and upscaling.

An input picture must lie at a public address of the caller's ("currently this is the only way to pass an image",
docs.lumalabs.ai/docs/api), and there is no upload. Ours are local files, so the cards do not offer image-to-video;
whoever has a public address gives it as the option `first_frame_url` or `last_frame_url`.
There is neither idempotency key nor a field for our id (`lost_submit = "hold"`), no cost in answers, and no cancel:
DELETE removes the record and may not stop the bill. Source of fields and states: the official SDK lumaai 1.21.0.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer, redact
from api_providers._errors import kind_by_status, said
from api_providers._http import HttpProvider
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.request import Task
from router.contract.words import words

POLL_AFTER_S = 5.0
CONCEPTS = {"dolly_in": "push_in", "dolly_out": "pull_out"}
"""Our camera presets whose concept has another name; the others are called alike."""
REFUSES_CONTENT = ("moderat", "content policy", "inappropriate", "nsfw")
"""Luma gives no machine code, only a sentence (`failure_reason`, `detail`)."""
NO_CREDIT = ("credit", "insufficient fund", "insufficient balance")


class _Generation(BaseModel):
    """Only the id matters at submit: a generation that was bought is not lost over a strange field beside it."""

    id: str = Field(min_length=1)


class _Assets(BaseModel):
    video: str | None = None


class _View(BaseModel):
    """The SDK has every field optional; without a state there is nothing to go by."""

    state: str
    failure_reason: str | None = None
    assets: _Assets | None = None


class _Credits(BaseModel):
    credit_balance: Decimal = Field(allow_inf_nan=False)
    """USD cents."""


class Luma(HttpProvider):
    """Submit, poll and balance."""

    base_url = "https://api.lumalabs.ai/dream-machine/v1"

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks; Luma documents no pace."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """One call; Luma has no field for `key`."""
        path, body = self.payload(request)
        answer = await self.call("POST", path, spends=True, json=body)
        return Operation(ref=self.view(_Generation, answer, spends=True).id)

    def payload(self, request: ResolvedRequest) -> tuple[str, dict[str, Any]]:
        """Path and body; see the SDK's `VideoCreateParams` and `GenerationUpscaleParams`."""
        card = self.card(request)
        if request.task is Task.UPSCALE:
            path = f"generations/{quote(_source(request), safe='')}/upscale"
            return path, {"generation_type": "upscale_video", "resolution": request.resolution}
        options = request.options
        body: dict[str, Any] = {
            "generation_type": "video",
            "model": card.wire_id,
            "duration": f"{round(request.duration)}s",
            "resolution": request.resolution,
            "aspect_ratio": request.aspect_ratio,
        }
        if request.prompt:
            body["prompt"] = request.prompt
        if keyframes := self._keyframes(request):
            body["keyframes"] = keyframes
        if concepts := self._concepts(request):
            body["concepts"] = [{"key": name} for name in concepts]
        if "loop" in options:
            body["loop"] = self._option(request, "loop", bool)
        return "generations/video", body

    async def poll(self, operation: Operation) -> Pending | Completed:
        """All four states by name, so that a fifth is noticed. Luma tells no progress."""
        answer = await self.ask("GET", f"generations/{quote(operation.ref, safe='')}")
        if answer.status == 404:
            raise self._gone()
        view = self.view(_View, self.read(answer))
        match view.state:
            case "queued":
                return Pending(poll_after=self._poll_after, queued=True)
            case "dreaming":
                return Pending(poll_after=self._poll_after)
            case "completed" if view.assets and view.assets.video:
                return Completed((Output(url=view.assets.video),))
            case "failed":
                raise self._failure(view)
            case _:
                raise self.error(
                    errors.UnexpectedResponse,
                    answer._replace(json={"detail": f"state {view.state}, no video"}),
                )

    async def check(self) -> Mapping[str, JsonValue]:
        """The balance, which Luma tells in cents."""
        credits = self.view(_Credits, await self.call("GET", "credits"))
        return {"balance_usd": str((credits.credit_balance / 100).quantize(Decimal("0.01")))}

    # -- Luma's ways

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """By the sentence where the status says too little: no status is documented for an empty account."""
        if 400 <= answer.status < 500 and answer.status not in {401, 404, 429}:
            text = self.message_of(answer).lower()
            if any(word in text for word in NO_CREDIT):
                return errors.QuotaExhausted
            if _refuses_content(text):
                return errors.ContentRejected
        return kind_by_status(answer)

    def message_of(self, answer: Answer) -> str:
        """`detail` is a sentence, or a list of fields with what is wrong with each (unverified)."""
        detail = answer.json.get("detail") if isinstance(answer.json, dict) else None
        if not isinstance(detail, list):
            return super().message_of(answer)
        return "; ".join(str(item.get("msg", "")) for item in detail[:5] if isinstance(item, dict))

    def _keyframes(self, request: ResolvedRequest) -> dict[str, Any]:
        """An own earlier clip to go on from, or pictures at the caller's public addresses."""
        if request.task is Task.EXTEND:
            return {"frame0": {"type": "generation", "id": _source(request)}}
        frames = {}
        for frame, name in (("frame0", "first_frame_url"), ("frame1", "last_frame_url")):
            if name in request.options:
                url = self._option(request, name, str)
                if urlsplit(url).scheme not in {"http", "https"}:
                    raise self._wrong(name, "a public http(s) address", "公開された http(s) アドレス")
                frames[frame] = {"type": "image", "url": url}
        return frames

    def _concepts(self, request: ResolvedRequest) -> list[str]:
        names = []
        if request.camera is not None and request.camera.preset:
            names.append(CONCEPTS.get(request.camera.preset, request.camera.preset))
        if "concepts" in request.options:
            given = self._option(request, "concepts", list)
            if not all(isinstance(name, str) for name in given):
                raise self._wrong("concepts", "a list of names", "名前のリスト")
            names += given
        return list(dict.fromkeys(names))

    def _option(self, request: ResolvedRequest, name: str, kind: type) -> Any:
        """A caller's option of the right type; anything else is refused before it could cost something."""
        value = request.options[name]
        if isinstance(value, kind):
            return value
        en = {bool: "true or false", str: "text", list: "a list of names"}[kind]
        ja = {bool: "true か false", str: "文字列", list: "名前のリスト"}[kind]
        raise self._wrong(name, en, ja)

    def _wrong(self, name: str, en: str, ja: str) -> GatewayError:
        return errors.InvalidRequest(
            words(f"option {name} must be {en}", f"オプション {name} は{ja}で指定してください。"),
            backend=self.name,
            param=f"provider_options.{self.name}.{name}",
        )

    def _failure(self, view: _View) -> GatewayError:
        """Whether a failure is billed is not documented, so the cost stays open."""
        text = redact(view.failure_reason or "", self._secrets()) or "no reason given"
        kind = errors.ContentRejected if _refuses_content(text.lower()) else errors.GenerationFailed
        return kind(said(kind, text), backend=self.name, detail=text)

    def _gone(self) -> GatewayError:
        return errors.OperationLost(
            words(
                "no longer knows this generation; look in its own dashboard what became of it",
                "この生成は先方に存在しません。プロバイダーのダッシュボードで状況を確認してください。",
            ),
            backend=self.name,
        )


def _source(request: ResolvedRequest) -> str:
    """Luma's id of the own earlier clip; the card's `own_source` made sure that it is one."""
    return next(str(media.source_ref) for media in request.references if media.type == "video")


def _refuses_content(text: str) -> bool:
    return any(word in text for word in REFUSES_CONTENT)
