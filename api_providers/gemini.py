"""Gemini Omni on the Gemini API (generativelanguage.googleapis.com): Interactions that run in the background.

Sources: the types of google-genai 3.6.1 (paths, statuses, fields), ai.google.dev/gemini-api/docs/omni (inputs, prompt tags,
delivery), and what others saw live: an unknown id is a 400 "Invalid interaction name", a refusal by the safety filter is
`completed` with words instead of a clip. There is no idempotency key and no list (`lost_submit = "hold"`).
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import redact
from api_providers._camera import prompt_with_camera
from api_providers._errors import said
from api_providers._google import GoogleProvider, refuses_content
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.request import Task
from router.contract.words import words

POLL_AFTER_S = 5.0
"""The docs' own loop waits 5 s."""
VERSION = "v1"
"""What the SDK 3.x sends; older ones say v1beta."""
INLINE_MAX_BYTES = 14_000_000
"""Raw bytes that stay below the 20 MB a request may have after base64 (docs: file input methods; unverified here)."""
_WAITS = frozenset({"in_progress", "requires_continuation", "idle"})
"""A background interaction is continued by the server itself."""
_ENDS_BADLY = frozenset({"failed", "incomplete", "budget_exceeded", "requires_action"})
"""`requires_action` waits for a tool's result; no tool was offered, so nobody will ever give one."""


class _Created(BaseModel):
    id: str = Field(min_length=1)


class _Content(BaseModel):
    type: str = ""
    text: str | None = None
    data: str | None = None
    uri: str | None = None
    mime_type: str | None = None


class _Error(BaseModel):
    code: Any = None
    message: str | None = None


class _Step(BaseModel):
    type: str = ""
    content: list[_Content] | None = None
    error: _Error | None = None


class _Interaction(BaseModel):
    id: str = Field(min_length=1)
    status: str
    steps: list[_Step] | None = None
    errors: list[_Error] | None = None
    error: _Error | None = None
    usage: Any = None

    def output(self) -> Iterator[_Content]:
        """What the model made in this turn, newest first. As the SDK reads it: before `user_input` lie earlier turns."""
        for step in reversed(self.steps or ()):
            if step.type == "user_input":
                return
            if step.type == "model_output":
                yield from reversed(step.content or ())

    def faults(self) -> Iterator[_Error]:
        """Every error it carries, wherever it stands."""
        yield from self.errors or ()
        yield from filter(None, [self.error, *(step.error for step in self.steps or ())])


class Gemini(GoogleProvider):
    """Create, get, cancel; pictures and videos inline, or the earlier interaction by its id."""

    base_url = "https://generativelanguage.googleapis.com"

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Buy one clip. There is no field for `key`: labels are a Vertex matter."""
        answer = await self.call(
            "POST", f"{VERSION}/interactions", spends=True, json=await self.payload(request)
        )
        return Operation(ref=self.view(_Created, answer, spends=True).id)

    async def payload(self, request: ResolvedRequest) -> dict[str, Any]:
        """The body as the SDK's `CreateModelInteractionParam`."""
        card = self.card(request)
        source = next((media for media in request.references if media.type == "video"), None)
        earlier = source.source_ref if source and source.source_backend == self.name else None
        media = [request.first_frame, request.last_frame, *request.references]
        if earlier:
            media.remove(source)
        elif source is not None:
            self._check_length(source, card.wire.get("longest_input_s"))
        parts = [await self._part(one) for one in media if one]
        prompt = prompt_with_camera(request, card)
        if request.last_frame:
            prompt = f"<FIRST_FRAME> <LAST_FRAME> {prompt}".strip()
        if prompt:
            parts.append({"type": "text", "text": prompt})
        form: dict[str, Any] = {"type": "video", "delivery": "uri", "resolution": request.resolution}
        if request.aspect_ratio:
            form["aspect_ratio"] = request.aspect_ratio
        if request.task is not Task.VIDEO_TO_VIDEO:
            form["duration"] = f"{request.duration:g}s"
        body: dict[str, Any] = {
            "model": card.wire_id,
            # A list of contents is wrapped into one turn, as the SDK does on its way out.
            "input": prompt if len(parts) == 1 and prompt else [{"type": "user_input", "content": parts}],
            "background": True,
            "store": True,
            "response_format": form,
        }
        if (task := _task(request)) is not None:
            body["generation_config"] = {"video_config": {"task": task}}
        if earlier:
            body["previous_interaction_id"] = earlier
        return body

    async def poll(self, operation: Operation) -> Pending | Completed:
        """All ten statuses of the SDK by name, so that an eleventh is noticed."""
        answer = await self.ask("GET", self._path(operation))
        if answer.status == 404 or (
            answer.status == 400 and "invalid interaction name" in self.message_of(answer).lower()
        ):
            raise errors.OperationLost(
                words(
                    "no longer knows this interaction; look in Google AI Studio what became of it",
                    "この処理は先方に存在しません。Google AI Studio で状況を確認してください。",
                ),
                backend=self.name,
            )
        view = self.view(_Interaction, self.read(answer))
        if view.status == "queued":
            return Pending(poll_after=self._poll_after, queued=True)
        if view.status in _WAITS:
            return Pending(poll_after=self._poll_after)
        if view.status == "completed":
            return await self._completed(operation, view)
        if view.status == "cancelled":
            raise errors.Cancelled(
                words("the interaction was cancelled", "処理はキャンセルされました。"), backend=self.name
            )
        if view.status in _ENDS_BADLY:
            raise self._failure(view)
        raise self.error(errors.UnexpectedResponse, answer._replace(json={"error": f"status {view.status}"}))

    async def cancel(self, operation: Operation) -> bool:
        """True when it stops; what had been made until then may be billed. Refused once it has ended."""
        answer = await self.ask("POST", f"{self._path(operation)}/cancel")
        if answer.status in {400, 404, 409}:
            return False
        status = self.view(_Interaction, self.read(answer)).status
        return status not in {"completed", *_ENDS_BADLY}

    async def check(self) -> Mapping[str, JsonValue]:
        """One page of one model. Google has no call for a balance."""
        page = await self.call("GET", f"{VERSION}/models", params={"pageSize": "1"})
        models = page.get("models") if isinstance(page, dict) else None
        return {"models": [str(one.get("name")) for one in models or () if isinstance(one, dict)]}

    # -- Google's ways

    def headers(self) -> dict[str, str]:
        """In a header: in the query it would stand in logs."""
        return {"x-goog-api-key": self.secret()}

    def _check_length(self, source: InputMedia, longest: Any) -> None:
        """An uploaded video has a longest length; no card field says so, and nothing is bought yet."""
        seconds = source.asset.duration_s
        if isinstance(longest, int | float) and seconds is not None and seconds > longest + 0.5:
            raise errors.BackendError(
                words(
                    f"an uploaded video may last {longest:g} s at most; cut it first, or use job:<id> of a clip made here",
                    f"アップロードする動画は最長 {longest:g} 秒です。先に切り出すか、ここで生成した動画を job:<id> で指定してください。",
                ),
                backend=self.name,
                param="input_references",
            )

    async def _part(self, media: InputMedia) -> dict[str, str]:
        if media.asset.size_bytes > INLINE_MAX_BYTES:
            raise errors.BackendError(
                words(
                    "an input file is larger than the 14 MB that can be sent to it",
                    "入力ファイルが送信できる上限の 14 MB を超えています。",
                ),
                backend=self.name,
                param="input_references" if media.type == "video" else "frame_images",
            )
        return {"type": media.type, "data": await self.base64_of(media), "mime_type": media.asset.mime}

    async def _completed(self, operation: Operation, view: _Interaction) -> Completed:
        """The newest clip: a link to a file of ours there, or base64 even where a link was asked for (docs)."""
        text: list[str] = []
        for content in view.output():
            mime = content.mime_type or "video/mp4"
            if content.type == "video" and content.uri:
                return Completed((Output(url=self._link(content.uri), mime=mime),))
            if content.type == "video" and content.data:
                return Completed((await self.keep(content.data, operation, 0, mime),))
            if content.text:
                text.append(content.text)
        if _made_video(view.usage):
            raise errors.UnexpectedResponse(
                words(
                    "says that a clip was made and does not hand it over; it is looked at again",
                    "動画は生成済みとされていますが、受け取れません。もう一度確認します。",
                ),
                backend=self.name,
            )
        reason = redact(" ".join(text), self._secrets()) or "no clip and no reason given"
        raise errors.ContentRejected(said(errors.ContentRejected, reason), backend=self.name, detail=reason)

    def _link(self, uri: str) -> str:
        """The SDK also takes a bare `files/<id>`."""
        if not uri.startswith("files/"):
            return uri
        name = quote(uri.removeprefix("files/").partition(":")[0], safe="")
        return f"{self._base}/{VERSION}/files/{name}:download?alt=media"

    def _failure(self, view: _Interaction) -> GatewayError:
        """What went wrong in their words. What a failed run costs is documented nowhere, so it stays open."""
        faults = list(view.faults())
        text = redact("; ".join(one.message for one in faults if one.message), self._secrets())
        codes = ", ".join(str(one.code) for one in faults if one.code is not None)
        detail = f"{view.status} {codes}: {text}"
        kind: type[GatewayError] = errors.GenerationFailed
        if any(refuses_content(one.message or "", one.code) for one in faults):
            kind = errors.ContentRejected
        return kind(said(kind, text or f"status {view.status}"), backend=self.name, detail=detail)

    @staticmethod
    def _path(operation: Operation) -> str:
        return f"{VERSION}/interactions/{quote(operation.ref, safe='')}"


def _task(request: ResolvedRequest) -> str | None:
    """The mode, where leaving it to the model could make something else of the inputs."""
    if request.task is Task.VIDEO_TO_VIDEO:
        return "edit"
    if request.task is Task.EXTEND:
        return "extend"
    if request.last_frame is not None:
        # First and last frame are told by tags in the prompt; no task stands for both.
        return None
    if request.first_frame is not None:
        return "image_to_video"
    return "reference_to_video" if request.references else "text_to_video"


def _made_video(usage: Any) -> bool:
    """Whether tokens of video were made, which is what is billed."""
    rows = usage.get("output_tokens_by_modality") if isinstance(usage, dict) else None
    return any(
        isinstance(row, dict) and str(row.get("modality")).lower() == "video" and bool(row.get("tokens"))
        for row in (rows if isinstance(rows, list) else ())
    )
