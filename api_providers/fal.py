"""fal.ai: a queue in front of many companies' models, each with field names of its own (data in `fal.toml`).

fal has neither idempotency key nor task list (`lost_submit = "hold"`) and no cost in its answers: the price table is
the bill. It tries a failed run again by itself, up to ten times, on 503, 504 and broken connections; those runs are
not charged, so we leave that on and do not send `x-fal-no-retry`.
Sources: fal.ai/docs (queue, errors, billing) and the official client fal-client 1.0.3.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer
from api_providers._camera import prompt_with_camera
from api_providers._errors import said
from api_providers._http import HttpProvider
from api_providers._schema import InputSchema, Shelf, read_schema
from api_providers._schema_payload import live_payload
from api_providers._schema_row import card_row
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.words import Words, words

POLL_AFTER_S = 2.0
"""fal documents no pace; its own client asks ten times a second, which helps nobody."""
DATA_URI_MAX_BYTES = 7_400_000
"""Raw bytes that stay below 10 MB after base64. fal documents no limit for data URIs."""
UPLOAD_MAX_BYTES = 100 * 1024 * 1024
"""From here on the official client uploads in parts, which we do not."""
STILL_RUNNING = "Request is still in progress"
REFUSED_CONTENT = "content_policy_violation"
SCHEMA_PATH = "api/openapi/queue/openapi.json"
"""On fal.ai, with `endpoint_id`; every model's llms.txt page links it as its OpenAPI schema. It asks for no key."""
NO_REQUEST = "fal-ai/veo3.1/requests/00000000-0000-4000-8000-000000000000/status"
"""The status of a request that cannot exist: 404 with a good key, 401 with a bad one."""


class Prepared(NamedTuple):
    """What a submit sends, and what could not be honoured."""

    path: str
    body: dict[str, Any]
    warnings: tuple[Words, ...] = ()


class _Submitted(BaseModel):
    """Only the id matters: a request that was bought is not lost over a strange field beside it."""

    request_id: str = Field(min_length=1)
    status_url: Any = None
    response_url: Any = None
    cancel_url: Any = None


class _Status(BaseModel):
    status: str
    queue_position: Any = None
    error: Any = None
    error_type: Any = None


class _File(BaseModel):
    url: str = Field(min_length=1)
    content_type: Any = None


class _Result(BaseModel):
    video: _File | None = None
    videos: list[_File] | None = None
    seed: Any = None


class _Upload(BaseModel):
    upload_url: str = Field(min_length=1)
    file_url: str = Field(min_length=1)


class Fal(HttpProvider):
    """Submit to the queue, look at the status, read the result; COMPLETED alone is no success."""

    base_url = "https://queue.fal.run"
    also_ours: ClassVar = {"rest": "https://rest.fal.ai", "schema": "https://fal.ai"}

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))
        self._cancelled: set[str] = set()
        self._schemas = Shelf()

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Queue the request. fal has no field for `key`."""
        path, payload, warnings = await self.prepare(request)
        answer = await self.call("POST", path, spends=True, json=payload)
        task = self.view(_Submitted, answer, spends=True)
        return Operation(ref=task.request_id, data=dict(self._paths(path, task)), warnings=warnings)

    async def prepare(self, request: ResolvedRequest) -> Prepared:
        """Path and body; the card's `wire` says what this endpoint takes, or that its own schema does (`live`)."""
        card = self.card(request)
        tasks = (
            [request.task.value] if request.last_frame is None else ["first-last-frame", request.task.value]
        )
        endpoint = next((card.wire[task] for task in tasks if task in card.wire), card.wire_id)
        if not isinstance(endpoint, Mapping):
            body, warnings = await live_payload(await self._schema(endpoint), request, card, self.place)
            return Prepared(endpoint, body, warnings)
        seconds = f"{request.duration:g}"
        duration: str | int = round(request.duration)
        if "duration" in card.wire:
            duration = str(card.wire["duration"]).replace("{}", seconds)
        names: Mapping[str, str] = card.wire.get("resolution", {})
        ours: dict[str, Any] = {
            "prompt": prompt_with_camera(request, card) or None,
            "negative_prompt": request.negative_prompt or None,
            "duration": duration,
            "aspect_ratio": request.aspect_ratio,
            "resolution": names.get(request.resolution or "", request.resolution),
            "generate_audio": request.generate_audio if card.audio == "optional" else None,
            "fps": request.fps,
            "seed": request.seed if card.seed else None,
        }
        body = {name: ours[name] for name in endpoint["fields"] if ours[name] is not None}
        for frame, media in (("first_frame", request.first_frame), ("last_frame", request.last_frame)):
            if media is not None:
                body[endpoint[frame]] = await self.place(media)
        return Prepared(endpoint["path"], request.options | body)

    async def poll(self, operation: Operation) -> Pending | Completed:
        """The status; when that says COMPLETED, the result, where a failure hides."""
        answer = await self.ask("GET", str(operation.data["status"]))
        if answer.status == 404:
            raise self._gone(operation)
        task = self.view(_Status, self.read(answer))
        match task.status:
            case "IN_QUEUE":
                return Pending(poll_after=self._poll_after, queued=True, ahead=_count(task.queue_position))
            case "IN_PROGRESS":
                return Pending(poll_after=self._poll_after)
            case "COMPLETED":
                return await self._result(operation, task)
            case _:
                raise self.error(
                    errors.UnexpectedResponse, answer._replace(json={"detail": f"status {task.status}"})
                )

    async def cancel(self, operation: Operation) -> bool:
        """True when it left the queue or the runner was told to stop; such a run may still finish and be billed."""
        answer = await self.ask("PUT", str(operation.data["cancel"]))
        said_so = answer.json.get("status") if isinstance(answer.json, dict) else None
        if said_so in {"ALREADY_COMPLETED", "NOT_FOUND"} or answer.status == 404:
            return False
        self.read(answer)
        self._cancelled.add(operation.ref)
        return True

    async def check(self) -> Mapping[str, JsonValue]:
        """Whether the key is let in; fal tells the balance to administrators' keys only."""
        answer = await self.ask("GET", NO_REQUEST)
        if answer.status != 404:
            self.read(answer)
        return {}

    async def describe(self, wire_id: str) -> Mapping[str, JsonValue]:
        """A row for any endpoint that publishes its schema (`fal-ai/...`)."""
        schema = await self._read_schema(wire_id)
        row = card_row(
            schema,
            backend=self.name,
            wire_id=wire_id,
            source=f"fal.ai/{SCHEMA_PATH}?endpoint_id={wire_id}",
            as_of=datetime.now(UTC).date().isoformat(),
        )
        return row | {"result_lifetime_s": 604800, "failure_billed": "maybe", "cancel": "running"}

    # -- fal's ways

    def headers(self) -> dict[str, str]:
        """The scheme word is Key; a bearer token is refused."""
        return {"Authorization": f"Key {self.secret()}"}

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """Branches on the documented `type` of a detail; an empty account is a 403 known by its text."""
        if not answer.ok and REFUSED_CONTENT in _types(answer):
            return errors.ContentRejected
        if answer.status == 403 and "balance" in self.message_of(answer).lower():
            return errors.QuotaExhausted
        return super().kind_of_error(answer)

    def message_of(self, answer: Answer) -> str:
        """`detail` is a sentence, or a list of fields with what is wrong with each."""
        detail = answer.json.get("detail") if isinstance(answer.json, dict) else None
        if not isinstance(detail, list):
            return super().message_of(answer)
        lines = []
        for item in detail[:5]:
            if isinstance(item, dict):
                loc = item.get("loc")
                where = ".".join(str(p) for p in loc if p != "body") if isinstance(loc, list) else ""
                lines.append(": ".join(filter(None, (where, str(item.get("msg", ""))))))
        return "; ".join(lines)

    async def place(self, media: InputMedia) -> str:
        """A data URI while it fits, else an upload to fal's storage.

        Of the official client's two ways this is the one whose bytes go to a signed link without any key; the other
        sends a token of its own kind to the CDN.
        """
        if media.asset.size_bytes <= DATA_URI_MAX_BYTES:
            return await super().place(media)
        if media.asset.size_bytes > UPLOAD_MAX_BYTES:
            raise errors.BackendError(
                words(
                    "an input file is larger than the 100 MB that can be sent to it",
                    "入力ファイルが送信できる上限の 100 MB を超えています。",
                ),
                backend=self.name,
                param="frame_images" if media.type == "image" else "input_references",
            )
        answer = await self.call(
            "POST",
            "storage/upload/initiate",
            at="rest",
            params={"storage_type": "gcs"},
            json={"file_name": self.filename_of(media), "content_type": media.asset.mime},
        )
        upload = self.view(_Upload, answer)
        await self.put_bytes(upload.upload_url, media, {"Content-Type": media.asset.mime})
        return upload.file_url

    async def _schema(self, endpoint: str) -> InputSchema:
        """As `_read_schema`, kept for a while; an endpoint that is gone leaves the job to other backends."""
        try:
            return await self._schemas.of(endpoint, lambda: self._read_schema(endpoint))
        except errors.NotFound as error:
            raise errors.BackendError(error.message, backend=self.name) from None

    async def _read_schema(self, endpoint: str) -> InputSchema:
        """Any refusal but 404 says nothing about our key: this host is fal's web site, with guards of its own."""
        answer = await self.ask(
            "GET", SCHEMA_PATH, at="schema", params={"endpoint_id": endpoint}, with_key=False
        )
        if answer.status == 404:
            raise errors.NotFound(
                words(f"fal has no model {endpoint!r}", f"fal に {endpoint!r} というモデルはありません")
            )
        if not answer.ok:
            raise errors.Unavailable(
                words(
                    f"the description of {endpoint} cannot be read now; nothing was bought",
                    f"{endpoint} のモデル定義を現在取得できません。課金は発生していません。",
                ),
                backend=self.name,
                detail=f"HTTP {answer.status}: {self._text(answer)}",
            )
        schema = read_schema(answer.json)
        if schema is None:
            raise errors.BackendError(
                words(
                    f"the description of {endpoint} names no inputs; nothing was bought",
                    f"{endpoint} のモデル定義に入力項目がありません。課金は発生していません。",
                ),
                backend=self.name,
            )
        return schema

    def _paths(self, endpoint: str, task: _Submitted) -> dict[str, str]:
        """Where to ask: their own URLs if they are on our origin, else built as documented (without the sub-path)."""
        parts = endpoint.split("/")
        app = "/".join(parts[:3] if parts[0] in {"workflows", "comfy"} else parts[:2])
        base = f"/{app}/requests/{quote(task.request_id, safe='')}"
        return {
            "status": self.own_path(str(task.status_url)) or f"{base}/status",
            "response": self.own_path(str(task.response_url)) or base,
            "cancel": self.own_path(str(task.cancel_url)) or f"{base}/cancel",
        }

    async def _result(self, operation: Operation, task: _Status) -> Pending | Completed:
        answer = await self.ask("GET", str(operation.data["response"]))
        if answer.ok:
            result = self.view(_Result, self.read(answer))
            files = [result.video] if result.video else result.videos or []
            if files:
                return Completed(
                    tuple(Output(url=f.url, mime=str(f.content_type or "video/mp4")) for f in files),
                    details={"seed": result.seed} if isinstance(result.seed, int) else {},
                )
            if task.error is None:
                raise self.error(
                    errors.UnexpectedResponse, answer._replace(json={"detail": "a result without a video"})
                )
        elif answer.status == 404:
            raise self._gone(operation)
        elif answer.status == 400 and self.message_of(answer) == STILL_RUNNING:
            return Pending(poll_after=self._poll_after)
        elif task.error is None and not self._is_models_own(answer):
            self.read(answer)
        raise self._failure(operation, task, answer)

    @staticmethod
    def _is_models_own(answer: Answer) -> bool:
        """Whether a bad answer tells how the run ended, not that this look at it failed (outage, key, rate limit)."""
        if answer.status in {401, 403, 429} or not isinstance(answer.json, dict):
            return isinstance(answer.json, dict) and isinstance(answer.json.get("detail"), list)
        return "detail" in answer.json

    def _failure(self, operation: Operation, task: _Status, answer: Answer) -> GatewayError:
        """How a run ended that gave no clip. 5xx is never charged (docs: billing); 422 may be."""
        billed = Decimal(0) if answer.status >= 500 else None
        kind: type[GatewayError] = errors.GenerationFailed
        if REFUSED_CONTENT in _types(answer) or task.error_type == REFUSED_CONTENT:
            kind = errors.ContentRejected
        elif task.error_type == "client_cancelled" or operation.ref in self._cancelled:
            return self._was_cancelled(billed)
        if answer.ok and task.error is not None:
            answer = answer._replace(json={"detail": str(task.error)})
        text = self._text(answer) or f"HTTP {answer.status}"
        types = ", ".join(sorted(_types(answer) | ({str(task.error_type)} if task.error_type else set())))
        return kind(
            said(kind, text),
            backend=self.name,
            billed_usd=billed,
            detail=f"HTTP {answer.status} {types}: {text}",
        )

    def _gone(self, operation: Operation) -> GatewayError:
        if operation.ref in self._cancelled:
            return self._was_cancelled(None)
        return errors.OperationLost(
            words(
                "no longer knows this request; look in its own dashboard what became of it",
                "このリクエストは先方に存在しません。プロバイダーのダッシュボードで状況を確認してください。",
            ),
            backend=self.name,
        )

    def _was_cancelled(self, billed: Decimal | None) -> GatewayError:
        return errors.Cancelled(
            words("the request was cancelled", "リクエストはキャンセルされました。"),
            backend=self.name,
            billed_usd=billed,
        )


def _types(answer: Answer) -> set[str]:
    """The machine words of an error: `type` of each detail, `error_type` of a platform error."""
    body = answer.json if isinstance(answer.json, dict) else {}
    detail = body.get("detail")
    found = (
        [item.get("type") for item in detail if isinstance(item, dict)] if isinstance(detail, list) else []
    )
    return {str(word) for word in (*found, body.get("error_type")) if word}


def _count(position: Any) -> int | None:
    """`queue_position`, 0-based: how many wait before it."""
    return (
        position if isinstance(position, int) and not isinstance(position, bool) and position >= 0 else None
    )
