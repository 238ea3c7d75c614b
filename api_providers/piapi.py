"""PiAPI (piapi.ai): Kling behind one task call; `task_type` and a nested `input` say what is made.

What is unusual here: errors stand in the body's `code`, also inside HTTP 200; a status may come in any case; a finished
task tells its link in one of three shapes; work on an earlier clip names PiAPI's own task, not a video.

Money. An answer tells points (`meta.usage`: frozen at create, consumed on success, returned on failure). That
10,000,000 points are one dollar is (unverified): an example on their Kling 3.0 page agrees with it, no page says it. So
points are kept in the details and never booked; the price table is the bill. The one figure that needs no scale is
nought: a task that ended without a clip and shows no point frozen or consumed cost nothing.
There is neither idempotency key nor list of finished tasks: `lost_submit = "hold"`.
Sources: piapi.ai/docs (Kling, unified API), the vendor's piapi-cli, n8n-nodes-piapi.
"""

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer, redact
from api_providers._camera import prompt_with_camera
from api_providers._errors import kind_by_status, said
from api_providers._http import HttpProvider
from api_providers._kling_camera import kling_control
from api_providers._piapi_answers import TaskView, amount, code_of, details_of, links, unbilled, url_of
from api_providers._refusal import refused_content
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import GatewayError, Misfit
from router.contract.words import Words, words

POLL_AFTER_S = 5.0
"""PiAPI documents no pace; clips take minutes."""
UPLOAD_MAX_BYTES = 10_000_000
"""The upload takes 10 MB (one client that quotes the documentation)."""
ENDINGS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
"""What the upload takes, by the ending of the file name."""
DONE = frozenset({"completed", "success", "succeeded"})
_GOES_ON = frozenset({"processing", "running"}) | DONE


class _Task(BaseModel):
    """Only the id matters: a task that was bought is not lost over a strange field beside it."""

    task_id: str = Field(min_length=1)


class _Submitted(BaseModel):
    data: _Task


class _View(BaseModel):
    data: TaskView


class _Account(BaseModel):
    equivalent_in_usd: Any = None
    plan: Any = None
    credit_pack_info: Any = None


class _AccountView(BaseModel):
    data: _Account


class PiApi(HttpProvider):
    """Create, get, cancel and account; inputs are uploaded to the vendor's own store, which keeps them for a day."""

    base_url = "https://api.piapi.ai"
    also_ours: ClassVar[Mapping[str, str]] = {"upload": "https://upload.theapi.app"}

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))
        self._cancelled: set[str] = set()

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Upload the inputs, then create the task. PiAPI has no field for `key`."""
        payload = await self.payload(request)
        answer = await self.call("POST", "api/v1/task", spends=True, json=payload)
        task = self.view(_Submitted, answer, spends=True).data
        return Operation(ref=task.task_id, warnings=_warnings(request, self.card(request)))

    async def payload(self, request: ResolvedRequest) -> dict[str, Any]:
        """The body of the create call: model and task type of the card, its fixed `input`, and the request's own."""
        card = self.card(request)
        task_type = str(card.wire["task_type"])
        make = {
            "video_generation": self._generation,
            "omni_video_generation": self._omni,
            "extend_video": self._extend,
            "lip_sync": self._lip_sync,
            "effects": self._effect,
            "motion_control": self._motion,
            "avatar": self._avatar,
        }[task_type]
        return {
            "model": card.wire["model"],
            "task_type": task_type,
            "input": {**card.wire.get("input", {}), **await make(request, card), **request.options},
            # Pay as you go, said aloud: the account's own default may be another mode with other prices.
            "config": {"service_mode": "public"},
        }

    async def poll(self, operation: Operation) -> Pending | Completed:
        """Look once; statuses are compared without regard to case, waiting ones by name."""
        answer = await self.ask("GET", self._path(operation))
        if 404 in {answer.status, code_of(answer)}:
            raise self._gone()
        task = self.view(_View, self.read(answer)).data
        match task.status.casefold():
            case "pending" | "staged":
                # Staged: over the plan's concurrency, held by PiAPI itself, pending later.
                return Pending(poll_after=self._poll_after, queued=True)
            case "processing" | "running":
                return Pending(poll_after=self._poll_after)
            case "completed" | "success" | "succeeded" if urls := links(task.output):
                return Completed(tuple(Output(url=url) for url in urls), details=details_of(task))
            case "failed" | "error":
                raise self._failure(operation, task)
            case "cancelled" | "canceled":
                raise self._was_cancelled(task)
            case status:
                text = f"status {task.status}" if status not in DONE else "a finished task without a link"
                raise self.error(errors.UnexpectedResponse, answer._replace(json={"message": text}))

    async def cancel(self, operation: Operation) -> bool:
        """DELETE, which works only while the task is pending; a refusal, or a task that runs on, is False."""
        answer = await self.ask("DELETE", self._path(operation))
        said_no = {status for status in (answer.status, code_of(answer)) if status and 400 <= status < 500}
        if said_no - {401, 408, 429}:
            return False
        body = self.read(answer)
        data = body.get("data") if isinstance(body, dict) else None
        status = str(data.get("status", "")).casefold() if isinstance(data, dict) else ""
        if status in _GOES_ON:
            return False
        self._cancelled.add(operation.ref)
        return True

    async def check(self) -> Mapping[str, JsonValue]:
        """Balance and plan; the account's name stays there."""
        account = self.view(_AccountView, await self.call("GET", "account/info")).data
        usd = amount(account.equivalent_in_usd)
        packs = account.credit_pack_info if isinstance(account.credit_pack_info, dict) else {}
        return {
            "balance_usd": None if usd is None else str(usd),
            "plan": account.plan if isinstance(account.plan, str) else None,
            "credits": {str(name): value for name, value in packs.items() if isinstance(value, int | float)},
        }

    # -- one body for each task type

    async def _generation(self, request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
        """Text or image to video. PiAPI takes camera and ratio with text only."""
        body: dict[str, Any] = {"duration": round(request.duration)}
        if prompt := prompt_with_camera(request, card):
            body["prompt"] = prompt
        if request.negative_prompt:
            body["negative_prompt"] = request.negative_prompt
        if request.aspect_ratio:
            body["aspect_ratio"] = request.aspect_ratio
        if request.first_frame:
            body["image_url"] = await self.place(request.first_frame)
        if request.last_frame:
            body["image_tail_url"] = await self.place(request.last_frame)
        if request.references:
            body["elements"] = [{"image_url": await self.place(media)} for media in request.references]
        if card.camera == "axes" and request.camera and (control := kling_control(request.camera)):
            body["camera_control"] = control
        if card.audio == "optional":
            body["enable_audio"] = request.generate_audio
        return body

    async def _omni(self, request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
        """Omni and O1; the prompt names the pictures as `@image_1`."""
        body: dict[str, Any] = {
            "prompt": prompt_with_camera(request, card),
            "resolution": request.resolution,
            "duration": round(request.duration),
            "aspect_ratio": request.aspect_ratio,
        }
        if request.references:
            body["images"] = [await self.place(media) for media in request.references]
        if card.audio == "optional":
            body["enable_audio"] = request.generate_audio
        return body

    async def _extend(self, request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
        return {"origin_task_id": self._origin(request)} | _prompt(request)

    async def _lip_sync(self, request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
        """All four fields, the unused way empty, as the client does that is known to work."""
        audio = _first(request, "audio")
        if audio is None and not request.prompt:
            raise _needs_words()
        return {
            "origin_task_id": self._origin(request),
            "tts_text": "" if audio else request.prompt,
            "tts_timbre": "",
            "tts_speed": 1,
            "local_dubbing_url": await self.place(audio) if audio else "",
        }

    async def _effect(self, request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
        return {
            "image_url": await self._framed(request),
            "effect": request.effect,
            "professional_mode": request.quality == "high",
            "duration": round(request.duration),
        } | _prompt(request)

    async def _motion(self, request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
        """The motion of a video; the other way, a preset motion, is sent empty as documented."""
        video = _first(request, "video")
        return {
            "image_url": await self._framed(request),
            "video_url": await self.place(video) if video else "",
            "preset_motion": "",
        } | _prompt(request)

    async def _avatar(self, request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
        """Field names after their menu and their lip-sync (unverified)."""
        audio = _first(request, "audio")
        return {
            "image_url": await self._framed(request),
            "local_dubbing_url": await self.place(audio) if audio else "",
        } | _prompt(request)

    # -- PiAPI's ways

    def headers(self) -> dict[str, str]:
        """The key in a header of its own, on both hosts."""
        return {"x-api-key": self.secret()}

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """The body's `code` says it, also in a 200; 403 is about the plan, not the key."""
        code = code_of(answer)
        inside = code if answer.ok and code not in {None, 200} else None
        if 403 in {answer.status, inside}:
            return errors.BackendError
        if inside is None:
            return super().kind_of_error(answer)
        # A 5xx in there leaves open whether a task was made: unexpected, and in doubt on the call that spends.
        return (
            kind_by_status(answer._replace(status=inside))
            if 400 <= inside < 500
            else errors.UnexpectedResponse
        )

    async def place(self, media: InputMedia) -> str:
        """A link to a copy in the vendor's own store; needs the Creator plan there."""
        param = "frame_images" if media.type == "image" else "input_references"
        ending = ENDINGS.get(media.asset.mime)
        if ending is None or media.asset.size_bytes > UPLOAD_MAX_BYTES:
            raise errors.BackendError(
                words(
                    "an input file is larger than 10 MB or of a kind its upload does not take"
                    " (it takes JPEG, PNG, WebP, MP4, WAV and MP3)",
                    "入力ファイルが 10 MB を超えているか、アップロードできない形式です"
                    "(JPEG、PNG、WebP、MP4、WAV、MP3 のみ)。",
                ),
                backend=self.name,
                param=param,
            )
        body = {"file_name": f"{media.asset.id[:16]}.{ending}", "file_data": await self.base64_of(media)}
        answer = await self.ask("POST", "api/ephemeral_resource", json=body, at="upload")
        if 403 in {answer.status, code_of(answer)}:
            raise errors.BackendError(
                words(
                    "its upload is not part of your plan there (Creator and above); nothing was bought",
                    "現在のプランではアップロードを利用できません(Creator 以上が必要です)。課金は発生していません。",
                ),
                backend=self.name,
                param=param,
                detail=f"HTTP {answer.status}: {self._text(answer)}",
            )
        url = url_of(self.read(answer))
        if url is None:
            raise self.error(
                errors.UnexpectedResponse, answer._replace(json={"message": "an upload without a link"})
            )
        return url

    async def _framed(self, request: ResolvedRequest) -> str:
        if request.first_frame is None:
            raise errors.InvalidRequest(
                words("this needs a first frame", "開始フレームの画像が必要です。"),
                backend=self.name,
                param="frame_images",
            )
        return await self.place(request.first_frame)

    def _origin(self, request: ResolvedRequest) -> str:
        """PiAPI's own id of the task that made the clip to go on from."""
        video = _first(request, "video")
        if video is None or not video.source_ref or video.source_backend != self.name:
            raise errors.InvalidRequest(
                words(
                    "only a clip that this provider made earlier can be used; give it as job:<id>",
                    "このプロバイダーで以前に生成した動画だけが使えます。job:<id> で指定してください。",
                ),
                backend=self.name,
                param="input_references",
            )
        return video.source_ref

    def _failure(self, operation: Operation, task: TaskView) -> GatewayError:
        """The sentences of `error`; which kind of failure it is shows in them alone."""
        if operation.ref in self._cancelled:
            return self._was_cancelled(task)
        error = task.error if isinstance(task.error, dict) else {}
        sentences = [str(error.get(name) or "") for name in ("message", "raw_message", "detail")]
        text = redact("; ".join(dict.fromkeys(filter(None, sentences))), self._secrets()) or "no reason given"
        kind = errors.ContentRejected if refused_content(text) else errors.GenerationFailed
        return kind(
            said(kind, text),
            backend=self.name,
            billed_usd=unbilled(task),
            detail=f"code {error.get('code')}: {text}",
        )

    def _was_cancelled(self, task: TaskView) -> GatewayError:
        return errors.Cancelled(
            words("the task was cancelled", "タスクはキャンセルされました。"),
            backend=self.name,
            billed_usd=unbilled(task),
        )

    def _gone(self) -> GatewayError:
        return errors.OperationLost(
            words(
                "no longer knows this task; look in its own dashboard what became of it",
                "このタスクは先方に存在しません。プロバイダーのダッシュボードで状況を確認してください。",
            ),
            backend=self.name,
        )

    @staticmethod
    def _path(operation: Operation) -> str:
        return f"api/v1/task/{quote(operation.ref, safe='')}"


def _first(request: ResolvedRequest, kind: str) -> InputMedia | None:
    return next((media for media in request.references if media.type == kind), None)


def _prompt(request: ResolvedRequest) -> dict[str, str]:
    return {"prompt": request.prompt} if request.prompt else {}


def _warnings(request: ResolvedRequest, card: ModelCard) -> tuple[Words, ...]:
    if card.wire["task_type"] != "lip_sync" or not request.prompt or _first(request, "audio") is None:
        return ()
    return (
        words(
            "The prompt was not used: the audio file is what is spoken.",
            "音声ファイルが優先されるため、プロンプトは使われませんでした。",
        ),
    )


def _needs_words() -> GatewayError:
    """A card cannot say "audio or a prompt", so this one choice is asked for here, before anything is sent."""
    reason = words(
        "lip-sync needs an audio file among input_references, or the words to speak as the prompt",
        "リップシンクには input_references の音声ファイル、または話す内容のプロンプトが必要です。",
    )
    return errors.UnsupportedRequest(
        reason, misfits=[Misfit(field="input_references", reason=reason, droppable=False)]
    )
