"""Luma Agents (agents.lumalabs.ai): ray-3.2 from text, pictures and videos, editing, reframing and extension.

Small inputs go inside the request, larger ones through Luma's file store. There is neither idempotency key nor a list
of generations (`lost_submit = "hold"`), no cost in answers and no cancel. Source of fields, states and failure codes:
the official SDK luma-agents 0.5.0.
"""

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer, redact
from api_providers._camera import prompt_with_camera
from api_providers._errors import kind_by_status, said
from api_providers._http import HttpProvider
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.request import Task
from router.contract.words import Words, words

POLL_AFTER_S = 5.0
INLINE_MAX_BYTES = 4_000_000
"""Raw bytes that go inside the request; Luma documents no limit for them, only that there is one (413)."""
UPLOAD_MAX_BYTES = 5 * 1024**3
SOURCE_MAX_S = 18.0
"""Longest video that can be edited (SDK, VideoEditOptionsParam)."""
FPS = 24
"""The grid of `keyframe_indexes`."""
READY_TRIES = 60
STRENGTHS = tuple(f"{way}_{step}" for way in ("adhere", "flex", "reimagine") for step in (1, 2, 3))
REFUSES_CONTENT = ("moderat", "content policy")
_FAILURES = {
    "budget_exhausted": words(
        "the account's budget was used up ({text}); add funds",
        "アカウントの予算を使い切りました({text})。チャージしてください。",
    ),
    "image_too_large": words(
        "an input picture is too large ({text}); give a smaller one",
        "入力画像が大きすぎます({text})。小さい画像を指定してください。",
    ),
    "unsupported_format": words(
        "an input file has a format it does not take ({text}); give another file",
        "入力ファイルの形式に対応していません({text})。別のファイルを指定してください。",
    ),
    "corrupt_input": words(
        "an input file is broken ({text}); give another file",
        "入力ファイルが壊れています({text})。別のファイルを指定してください。",
    ),
    "invalid_request": words(
        "accepted the request and then found it wrong ({text}); change it",
        "受け付け後に、リクエストに誤りがあるとされました({text})。内容を変更してください。",
    ),
    "rate_limited": words(
        "accepted the job and then was too busy ({text}); try again later",
        "受け付け後に、混雑のため処理されませんでした({text})。時間をおいて再度お試しください。",
    ),
}
"""Failure codes with a sentence of their own; generation_failed and output_not_found are plain failures."""


class _Generation(BaseModel):
    """Only the id matters at submit: a generation that was bought is not lost over a strange field beside it."""

    id: str = Field(min_length=1)


class _Item(BaseModel):
    type: str
    url: str = Field(min_length=1)


class _View(BaseModel):
    state: str
    output: list[_Item] | None = None
    failure_code: str | None = None
    failure_reason: str | None = None


class _Upload(BaseModel):
    url: str
    headers: dict[str, str] | None = None


class _Created(BaseModel):
    id: str = Field(min_length=1)
    upload: _Upload


class _File(BaseModel):
    state: str
    failure_reason: str | None = None


class _Files(BaseModel):
    data: list[Any]


class LumaAgents(HttpProvider):
    """Submit and poll; pictures and videos inline or through the file store."""

    base_url = "https://agents.lumalabs.ai/v1"

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks; Luma documents no pace."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Place the inputs, then buy. Luma has no field for `key`: `user_id` names an end user."""
        payload = await self.payload(request)
        answer = await self.call("POST", "generations", spends=True, json=payload)
        return Operation(ref=self.view(_Generation, answer, spends=True).id)

    async def payload(self, request: ResolvedRequest) -> dict[str, Any]:
        """The body of the create call; see the SDK's `GenerationCreateParams`."""
        card = self.card(request)
        kind = str(card.wire["type"])
        video: dict[str, Any] = {"resolution": request.resolution}
        body = {
            "model": card.wire_id,
            "type": kind,
            "prompt": prompt_with_camera(request, card),
            "video": video,
        }
        if request.aspect_ratio:
            body["aspect_ratio"] = request.aspect_ratio
        if kind == "video":
            video["duration"] = f"{round(request.duration)}s"
            if self._loops(request):
                video["loop"] = True
            video |= await self._frames(request)
            return body
        if kind == "video_edit":
            video["edit"] = self._edit(request)
            self._refuse_long(request)
            if request.first_frame:
                video["start_frame"] = await self._reference(request.first_frame)
        body["source"] = await self._reference(_source(request))
        return body

    async def poll(self, operation: Operation) -> Pending | Completed:
        """All four states by name, so that a fifth is noticed. Luma tells no progress."""
        answer = await self.ask("GET", f"generations/{quote(operation.ref, safe='')}")
        if answer.status == 404:
            raise self._gone()
        view = self.view(_View, self.read(answer))
        videos = [item.url for item in view.output or () if item.type == "video"]
        match view.state:
            case "queued":
                return Pending(poll_after=self._poll_after, queued=True)
            case "processing":
                return Pending(poll_after=self._poll_after)
            case "completed" if videos:
                return Completed(tuple(Output(url=url) for url in videos))
            case "failed":
                raise self._failure(view)
            case _:
                raise self.error(
                    errors.UnexpectedResponse,
                    answer._replace(json={"detail": f"state {view.state}, no video"}),
                )

    async def check(self) -> Mapping[str, JsonValue]:
        """A look at the file store: there is no balance to ask for."""
        files = self.view(_Files, await self.call("GET", "files", params={"limit": "1"}))
        return {"files": bool(files.data)}

    # -- Luma's ways

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """The status first (docs); a picture or prompt that the filter refuses comes as 400 or 422."""
        if answer.status in {400, 422} and _refuses_content(self.message_of(answer)):
            return errors.ContentRejected
        return kind_by_status(answer)

    def message_of(self, answer: Answer) -> str:
        """`detail` is a sentence, or a list of fields with what is wrong with each."""
        detail = answer.json.get("detail") if isinstance(answer.json, dict) else None
        if not isinstance(detail, list):
            return super().message_of(answer)
        return "; ".join(str(item.get("msg", "")) for item in detail[:5] if isinstance(item, dict))

    async def _frames(self, request: ResolvedRequest) -> dict[str, Any]:
        """An earlier clip to go on from, or pictures: by name for 5 s, on the frame grid where that does not work.

        `start_frame` and `end_frame` are refused with 10 s (third party); keyframes are made for that (SDK).
        """
        if request.task is Task.EXTEND:
            return {"start_frame": {"generation_id": str(_source(request).source_ref)}}
        seconds = round(request.duration)
        given = {"start_frame": (request.first_frame, 0), "end_frame": (request.last_frame, seconds * FPS)}
        placed = {
            name: (await self._reference(media), index) for name, (media, index) in given.items() if media
        }
        if seconds <= 5 or not placed:
            return {name: reference for name, (reference, _) in placed.items()}
        return {
            "keyframes": [reference for reference, _ in placed.values()],
            "keyframe_indexes": [index for _, index in placed.values()],
        }

    def _loops(self, request: ResolvedRequest) -> bool:
        loop = request.options.get("loop", False)
        if not isinstance(loop, bool):
            raise self._wrong("loop", words("must be true or false", "は true か false で指定してください。"))
        if loop and round(request.duration) > 5:
            raise self._wrong("loop", words("works with 5 s only", "は 5 秒の動画でだけ使えます。"))
        return loop

    def _edit(self, request: ResolvedRequest) -> dict[str, Any]:
        """How far the result may leave the source; Luma judges by itself where nothing is said."""
        strength = request.options.get("strength")
        if strength is None:
            return {"auto_controls": True}
        if strength not in STRENGTHS:
            listed = ", ".join(STRENGTHS)
            raise self._wrong(
                "strength",
                words(f"must be one of {listed}", f"は次のいずれかを指定してください: {listed}"),
            )
        return {"strength": strength}

    def _wrong(self, name: str, what: Words) -> GatewayError:
        return errors.InvalidRequest(
            words(f"option {name} {what.en}", f"オプション {name} {what.ja}"),
            backend=self.name,
            param=f"provider_options.{self.name}.{name}",
        )

    def _refuse_long(self, request: ResolvedRequest) -> None:
        seconds = _source(request).asset.duration_s
        if seconds is not None and seconds > SOURCE_MAX_S:
            raise errors.BackendError(
                words(
                    f"the video lasts {seconds:g} s, it edits at most {SOURCE_MAX_S:g} s",
                    f"動画の長さが {seconds:g} 秒ですが、編集できるのは {SOURCE_MAX_S:g} 秒までです。",
                ),
                backend=self.name,
                param="input_references",
            )

    async def _reference(self, media: InputMedia) -> dict[str, str]:
        """A MediaRef: an earlier clip of Luma's by its id, else the bytes, else a file in Luma's store."""
        if media.source_backend == self.name and media.source_ref:
            return {"generation_id": media.source_ref}
        size = media.asset.size_bytes
        if size <= INLINE_MAX_BYTES:
            return {"data": await self.base64_of(media), "media_type": media.asset.mime}
        if size > UPLOAD_MAX_BYTES:
            raise errors.BackendError(
                words(
                    "an input file is larger than the 5 GiB it takes",
                    "入力ファイルが上限の 5 GiB を超えています。",
                ),
                backend=self.name,
                param="input_references" if media.type == "video" else "frame_images",
            )
        return {"file_id": await self._uploaded(media)}

    async def _uploaded(self, media: InputMedia) -> str:
        """Ask for a place, put the bytes there, say so, and wait until Luma has looked at them."""
        wanted = {
            "mime_type": media.asset.mime,
            "size_bytes": media.asset.size_bytes,
            "filename": self.filename_of(media),
            "purpose": "input",
        }
        created = self.view(_Created, await self.call("POST", "files", json=wanted))
        await self.put_bytes(created.upload.url, media, created.upload.headers or {})
        path = f"files/{quote(created.id, safe='')}"
        file = self.view(_File, await self.call("POST", f"{path}/complete"))
        for _ in range(READY_TRIES):
            if file.state != "pending":
                break
            await asyncio.sleep(min(self._poll_after, 1.0))
            file = self.view(_File, await self.call("GET", path))
        if file.state == "ready":
            return created.id
        raise self._not_ready(file)

    def _not_ready(self, file: _File) -> GatewayError:
        """The input was refused or is still looked at; nothing was bought."""
        if file.state == "pending":
            return errors.Unavailable(
                words(
                    "did not take an uploaded input in time; nothing was bought",
                    "アップロードした入力ファイルの処理が時間内に終わりませんでした。課金は発生していません。",
                ),
                backend=self.name,
            )
        text = redact(file.failure_reason or file.state, self._secrets())
        kind = errors.ContentRejected if _refuses_content(text) else errors.InvalidRequest
        return kind(said(kind, text), backend=self.name, detail=f"file {file.state}: {text}")

    def _failure(self, view: _View) -> GatewayError:
        """Whether a failure is billed is not documented, so the cost stays open."""
        code = view.failure_code or "no code"
        text = redact(view.failure_reason or "", self._secrets()) or code
        kind = errors.ContentRejected if code == "content_moderated" else errors.GenerationFailed
        told = _FAILURES.get(code)
        message = (
            words(told.en.replace("{text}", text), told.ja.replace("{text}", text))
            if told
            else said(kind, text)
        )
        return kind(message, backend=self.name, detail=f"{code}: {text}")

    def _gone(self) -> GatewayError:
        return errors.OperationLost(
            words(
                "no longer knows this generation; look in its own dashboard what became of it",
                "この生成は先方に存在しません。プロバイダーのダッシュボードで状況を確認してください。",
            ),
            backend=self.name,
        )


def _source(request: ResolvedRequest) -> InputMedia:
    """The video to work on; `fit` made sure that there is one."""
    return next(media for media in request.references if media.type == "video")


def _refuses_content(text: str) -> bool:
    return any(word in text.lower() for word in REFUSES_CONTENT)
