"""Kling (api-singapore.klingai.com): its own models in its two APIs, the older `/v1` and the newer one by path.

`/v1` is used by default: it takes both kinds of key. `[providers.kling] api = "new"` prefers the newer one, which
takes a plain key only and is the only one that knows 3.0 Turbo; a request with a negative prompt, which the newer one
does not have, still goes to `/v1`. A task is asked for where it was made, whatever the setting says by then.
Our attempt's id travels as `external_task_id`, unique per account, so that a lost answer can be looked up.
There is no cancel call. Sources: mirrors of kling.ai/document-api, and code that talks to both APIs (2026-07, -08).
"""

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import JsonValue

from api_providers._answer import Answer, redact
from api_providers._errors import said
from api_providers._http import HttpProvider
from api_providers._kling_answers import (
    EXPIRED,
    KINDS,
    REFUSED,
    Account,
    FoundFaces,
    OneTask,
    Submitted,
    Task,
    Tasks,
    amount,
    billed_usd,
    code_of,
    is_unknown,
)
from api_providers._kling_bodies import Face, Inputs, legacy_body, legacy_kind, new_call
from api_providers._kling_token import Signer
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.words import words

POLL_AFTER_S = 5.0
"""Kling documents no pace; queries are free."""
GRACE_S = 60
"""For so long after the submit an unknown task is one that is not known yet."""
TASKS = "tasks"
IMAGE_MAX_BYTES = 10_000_000
NEW_IMAGE_MAX_BYTES = 50_000_000
SOUND_MAX_BYTES = 5_000_000
SOUND_MIN_MS = 2000
COSTS_DAYS = 400
COSTS_EVERY_S = 1.0
"""The account's costs may be asked for once a second."""


class Kling(HttpProvider):
    """Submit, poll, find and balance; a signed token per call where the key is a pair."""

    base_url = "https://api-singapore.klingai.com"
    shapes: ClassVar[frozenset[str]] = frozenset({"legacy", "new"})

    def __init__(self, config: BackendConfig) -> None:
        """`options["api"]`: `legacy` or `new`; `options["poll_after"]`: seconds between looks."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))
        self._api = str(config.options.get("api", "legacy"))
        if self._api not in self.shapes:
            raise errors.ServerTrouble(
                words(
                    f'[providers.{self.name}] api is "legacy" or "new"',
                    f'[providers.{self.name}] の api は "legacy" か "new" です。',
                )
            )
        self.now: Callable[[], float] = time.time
        self._signer = Signer(lambda: self.now())
        self._costs: tuple[float, dict[str, JsonValue]] | None = None

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Make the inputs ready, then buy."""
        card = self.card(request)
        new = self._is_new(request, card)
        plain = self._plain_key() if new else None
        given, units = await self._inputs(request, card, new=new)
        external_id = external(key)
        if new:
            path, body = new_call(request, card, given, external_id)
            at = TASKS
        else:
            path = at = f"v1/videos/{legacy_kind(request, card)}"
            body = legacy_body(request, card, given, external_id)
        answer = await self.call("POST", path, spends=True, json=body, headers=plain)
        task = self.view(Submitted, answer, spends=True).data
        return self._operation(task.id, at, **({"units": str(units)} if units else {}))

    async def poll(self, operation: Operation) -> Pending | Completed:
        """All four statuses by name; the older API writes `succeed`."""
        at = str(operation.data.get("at", ""))
        try:
            task, answer = await self._task(at, operation.ref)
        except errors.OperationLost:
            if self._is_young(operation):
                raise self._not_yet() from None
            raise
        match task.status:
            case "submitted":
                return Pending(poll_after=self._poll_after, queued=True)
            case "processing":
                return Pending(poll_after=self._poll_after)
            case "succeed" | "succeeded" if task.video:
                return Completed(
                    (Output(url=task.video.url),),
                    billed_usd=self._billed(task, operation),
                    details={"video_id": task.video.id, "at": at},
                )
            case "failed":
                raise self._failure(task, operation)
            case _:
                raise self.error(
                    errors.UnexpectedResponse, answer._replace(json={"message": f"status {task.status}"})
                )

    async def find(self, request: ResolvedRequest, *, key: str, since: datetime) -> Operation | None:
        """By our own id, which no other task of the account can have; `since` adds nothing to that."""
        card = self.card(request)
        external_id = external(key)
        if self._is_new(request, card):
            rows, _ = await self._rows("external_task_ids", external_id)
            return self._operation(rows[0].id, TASKS) if rows else None
        at = f"v1/videos/{legacy_kind(request, card)}"
        answer = await self._look("GET", f"{at}/{external_id}")
        if is_unknown(answer):
            return None
        return self._operation(self.view(OneTask, self.read(answer)).data.id, at)

    async def check(self) -> Mapping[str, JsonValue]:
        """The packs of the last 400 days; what is left in those in use, in units (up to 12 h old) and US dollars."""
        if self._costs is not None and self.now() - self._costs[0] < COSTS_EVERY_S:
            return self._costs[1]
        now_ms = int(self.now() * 1000)
        params = {"start_time": str(now_ms - COSTS_DAYS * 86_400_000), "end_time": str(now_ms)}
        answer = await self._look("GET", "account/costs", params=params)
        costs = self.view(Account, self.read(answer)).data
        if costs.code != 0:
            raise self.error(errors.UnexpectedResponse, answer)
        packs = costs.resource_pack_subscribe_infos
        units = (
            None
            if packs is None
            else sum((p.remaining_quantity for p in packs if p.status == "online"), Decimal(0))
        )
        facts: dict[str, JsonValue] = {
            "balance_usd": _text(None if units is None else self._usd(units)),
            "balance_units": _text(units),
            "packs": [
                {
                    "name": pack.resource_pack_name,
                    "status": pack.status,
                    "units": str(pack.remaining_quantity),
                    "until": _date(pack.invalid_time),
                }
                for pack in packs or ()
            ],
        }
        self._costs = (self.now(), facts)
        return facts

    # -- Kling's ways

    def headers(self) -> dict[str, str]:
        """The key as it is, or a token signed with the pair."""
        key = self.secret()
        access, colon, secret = key.partition(":")
        return {"Authorization": f"Bearer {self._signer.token(access, secret) if colon else key}"}

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """By the body's `code`, which may tell of a failure under HTTP 200; one we do not know leaves doubt there."""
        code = code_of(answer)
        if code == EXPIRED:
            self._signer.forget()
        if code in KINDS:
            return KINDS[code]
        if answer.ok and code not in {0, None}:
            # The 5000s among them: whether the task was made is not certain.
            return errors.UnexpectedResponse
        return super().kind_of_error(answer)

    def _plain_key(self) -> dict[str, str]:
        """The header of the newer API, which takes no signed token."""
        key = self.secret()
        access, colon, _ = key.partition(":")
        if not colon:
            return {"Authorization": f"Bearer {key}"}
        if self.config.sandbox:
            # The twin takes either half as a plain key, so that a rehearsal reaches every model.
            return {"Authorization": f"Bearer {access}"}
        raise errors.AuthenticationFailed(
            words(
                "the new API, the only one with this model or the one the settings name, takes an API key and no"
                " access key pair; set KLING_API_KEY",
                "新 API(このモデル専用、または設定で選択)ではアクセスキーの組を使えません。"
                "KLING_API_KEY を設定してください。",
            ),
            backend=self.name,
            # The pair is good for the other models: the backend need not rest for it.
            retry_after=1.0,
        )

    def _is_new(self, request: ResolvedRequest, card: ModelCard) -> bool:
        if "new" not in card.wire:
            return False
        return bool(card.wire.get("only_new")) or (self._api == "new" and not request.negative_prompt)

    async def _look(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A call that buys nothing; asked once more with a new token where the old one is said to have expired."""
        answer = await self.ask(method, path, json=json, params=params, headers=headers)
        if code_of(answer) == EXPIRED and headers is None and ":" in self.secret():
            self._signer.forget()
            answer = await self.ask(method, path, json=json, params=params)
        return answer

    async def _task(self, at: str, ref: str) -> tuple[Task, Answer]:
        """A task where it was made; raises OperationLost where Kling does not know it."""
        if at == TASKS:
            rows, answer = await self._rows("task_ids", ref)
            if rows:
                return rows[0], answer
        else:
            answer = await self._look("GET", f"{at}/{quote(ref, safe='')}")
            if not is_unknown(answer):
                return self.view(OneTask, self.read(answer)).data, answer
        raise errors.OperationLost(
            words(
                "no longer knows this task; look in its own console what became of it",
                "このタスクは先方に存在しません。Kling のコンソールで状況を確認してください。",
            ),
            backend=self.name,
        )

    def _operation(self, ref: str, at: str, **more: str) -> Operation:
        """`at`: where the task is asked for; `since`: when we learned of it, in seconds since the epoch."""
        return Operation(ref=ref, data={"at": at, "since": int(self.now()), **more})

    def _is_young(self, operation: Operation) -> bool:
        since = operation.data.get("since")
        return isinstance(since, int) and 0 <= self.now() - since < GRACE_S

    def _not_yet(self) -> GatewayError:
        """A task that was just bought may not be known everywhere at Kling; calling it lost would buy it again."""
        return errors.UnexpectedResponse(
            words(
                "does not show this new task yet; it is asked for again",
                "新しいタスクがまだ先方に表示されません。もう一度問い合わせます。",
            ),
            backend=self.name,
        )

    async def _rows(self, by: str, value: str) -> tuple[list[Task], Answer]:
        answer = await self._look("GET", TASKS, params={by: value}, headers=self._plain_key())
        return self.view(Tasks, self.read(answer)).data, answer

    # -- inputs

    async def _inputs(
        self, request: ResolvedRequest, card: ModelCard, *, new: bool
    ) -> tuple[Inputs, Decimal]:
        """Inputs as the wire takes them, and the units that making them ready has used (a face search)."""
        most = NEW_IMAGE_MAX_BYTES if new else IMAGE_MAX_BYTES
        video = next((media for media in request.references if media.type == "video"), None)
        sound = next((media for media in request.references if media.type == "audio"), None)
        images = [media for media in request.references if media.type == "image"]
        kind = card.wire.get("kind")
        given = Inputs(
            first=await self._small(request.first_frame, most, "frame_images"),
            last=await self._small(request.last_frame, most, "frame_images"),
            images=tuple([await self._base64(media, most, "input_references") for media in images]),
            sound=await self._small(sound, SOUND_MAX_BYTES, "input_references"),
            video_id=self._video_id(video)
            if video and kind in {"advanced-lip-sync", "video-extend"}
            else None,
            video_url=await self._link(video) if video and kind in {"omni-video", "motion-control"} else None,
        )
        if kind != "advanced-lip-sync" or video is None or sound is None:
            return given, Decimal(0)
        face, units = await self._face(str(given.video_id), video, sound)
        return Inputs(sound=given.sound, video_id=given.video_id, face=face), units

    async def _small(self, media: InputMedia | None, most: int, field: str) -> str | None:
        return None if media is None else await self._base64(media, most, field)

    async def _base64(self, media: InputMedia, most: int, field: str) -> str:
        if media.asset.size_bytes > most:
            megabytes = most // 1_000_000
            raise errors.BackendError(
                words(
                    f"an input file is larger than the {megabytes} MB it takes",
                    f"入力ファイルが上限の {megabytes} MB を超えています。",
                ),
                backend=self.name,
                param=field,
            )
        return await self.base64_of(media)

    def _video_id(self, media: InputMedia) -> str:
        """Kling's id of the clip itself (not of its task), which `poll` left with the job."""
        video_id = media.source_data.get("video_id")
        if isinstance(video_id, str) and video_id:
            return video_id
        raise self._no_source()

    async def _link(self, media: InputMedia) -> str:
        """A fresh link to the earlier clip at Kling, the only form in which it takes a video here."""
        at = media.source_data.get("at")
        if not isinstance(at, str) or not media.source_ref:
            raise self._no_source()
        try:
            task, _ = await self._task(at, media.source_ref)
        except errors.OperationLost:
            raise self._no_source() from None
        if task.video is None or not task.video.url:
            raise self._no_source()
        return task.video.url

    def _no_source(self) -> GatewayError:
        return errors.BackendError(
            words(
                "no longer has the earlier clip (it keeps them 30 days); make it again",
                "元の動画が先方に残っていません(保存期間は 30 日)。もう一度生成してください。",
            ),
            backend=self.name,
            param="input_references",
        )

    async def _face(self, video_id: str, video: InputMedia, sound: InputMedia) -> tuple[Face, Decimal]:
        """The face that is seen longest, and where the sound goes: from its first moment, within the clip."""
        answer = await self._look("POST", "v1/videos/identify-face", json={"video_id": video_id})
        session = self.view(FoundFaces, self.read(answer)).data
        if not session.face_data:
            raise errors.InvalidRequest(
                words(
                    "found no face in the video; give a clip in which a face is seen",
                    "動画から顔が検出されませんでした。顔が映っている動画を指定してください。",
                ),
                backend=self.name,
                param="input_references",
            )
        face = max(session.face_data, key=lambda span: span.end_time - span.start_time)
        length = int((sound.asset.duration_s or 0) * 1000)
        clip_ends = int((video.asset.duration_s or 0) * 1000) or face.end_time
        used = min(length, clip_ends - face.start_time)
        if min(used, face.end_time - face.start_time) < SOUND_MIN_MS:
            raise errors.InvalidRequest(
                words(
                    "needs at least 2 s of sound while a face is seen; give a longer sound or another clip",
                    "顔が映っている間に 2 秒以上の音声が必要です。長い音声か別の動画を指定してください。",
                ),
                backend=self.name,
                param="input_references",
            )
        units = amount(session.final_unit_deduction) or Decimal(0)
        return Face(session.session_id, face.face_id, used, face.start_time), units

    # -- how it ended, and what it cost

    def _failure(self, task: Task, operation: Operation) -> GatewayError:
        """The reason is a sentence; whether a failed task is charged is not documented, so only what is told counts."""
        text = redact(task.message or "", self._secrets()) or "no reason given"
        kind = errors.ContentRejected if REFUSED.search(text) else errors.GenerationFailed
        return kind(
            said(kind, text),
            backend=self.name,
            billed_usd=self._billed(task, operation),
            detail=f"failed: {text}",
        )

    def _billed(self, task: Task, operation: Operation) -> Decimal | None:
        """US dollars of the task and of what was used to make it ready; None where that is not told."""
        told, before = billed_usd(task, self.config.credit_usd), amount(operation.data.get("units"))
        if told is None or before is None:
            return told
        used = self._usd(before)
        return None if used is None else told + used

    def _usd(self, units: Decimal) -> Decimal | None:
        return None if self.config.credit_usd is None else units * self.config.credit_usd


def external(key: str) -> str:
    """Our attempt's id in letters, digits, `_` and `-`: Kling does not say what it takes, and puts it into paths."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", key)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _date(milliseconds: int | None) -> str | None:
    if milliseconds is None or not 0 <= milliseconds < 10**14:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()
