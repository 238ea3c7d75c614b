"""Replicate (api.replicate.com): predictions of official models and of versions; inputs are read from the model's schema.

Replicate has no idempotency key and nothing in its list that could carry ours, so a lost answer cannot be looked up
(`lost_submit = "hold"`). It tells neither what a prediction may cost nor what it did cost: the price table is the
bill. What it made is deleted after one hour.
Sources: the official SDK replicate 1.0.7, its generated beta SDK (2025-12), and replicate.com/docs.
"""

import asyncio
import base64
import binascii
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer, redact
from api_providers._errors import said
from api_providers._http import HttpProvider
from api_providers._schema import InputSchema, Shelf, read_schema
from api_providers._schema_payload import live_payload
from api_providers._schema_row import card_row
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.words import words

POLL_AFTER_S = 2.0
"""Replicate documents no pace; its own client asks every half second."""
DATA_URI_MAX_BYTES = 256_000
"""Documented: a data URI up to 256 kB, a link above it."""
UPLOAD_MAX_BYTES = 100 * 1024 * 1024
"""Unverified in our sheet."""
_MODEL = re.compile(r"([\w.-]+)/([\w.-]+)(?::([0-9a-f]{64}))?", re.ASCII)
_PROGRESS = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)/(\d+)", re.MULTILINE)
"""As the SDK reads the progress bars that models print."""
_RESETS = re.compile(r"resets in ~?(\d+(?:\.\d+)?)\s*s")
_REFUSED = re.compile(
    r"flagged|sensitive|nsfw|moderat|content polic|prohibited content|safety (?:filter|system|check)|\bE005\b",
    re.I,
)
"""Failures are free text. Replicate's own filter says `flagged as sensitive (E005)`; the others are makers' words."""
_CLIP_KEYS = ("video", "output", "url", "video_url", "videos")


class _Submitted(BaseModel):
    """Only the id matters: a prediction that was bought is not lost over a strange field beside it."""

    id: str = Field(min_length=1)


class _Prediction(BaseModel):
    id: str
    status: str
    output: Any = None
    error: Any = None
    logs: Any = None
    data_removed: Any = None


class _File(BaseModel):
    urls: dict[str, str]


class Replicate(HttpProvider):
    """Read the schema, run the model, look at the prediction; cancel, upload and account."""

    base_url = "https://api.replicate.com"

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))
        self._schemas = Shelf()

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Check against the model's schema, place the inputs, then buy. Replicate has no field for `key`."""
        card = self.card(request)
        model = card.wire_id
        owner, name, version = self._parts(model)
        body, warnings = await live_payload(await self._schema(model), request, card, self.place)
        if version:
            path, payload = "v1/predictions", {"version": version, "input": body}
        else:
            path, payload = f"v1/models/{owner}/{name}/predictions", {"input": body}
        answer = await self.call("POST", path, spends=True, json=payload)
        task = self.view(_Submitted, answer, spends=True)
        seed = body.get("seed")
        return Operation(ref=task.id, data={"seed": seed} if isinstance(seed, int) else {}, warnings=warnings)

    async def poll(self, operation: Operation) -> Pending | Completed:
        """All six statuses by name. `aborted` is missing in the SDKs, which wait on it for ever."""
        answer = await self.ask("GET", self._path(operation))
        if answer.status == 404:
            raise self._gone()
        task = self.view(_Prediction, self.read(answer))
        match task.status:
            case "starting":
                return Pending(poll_after=self._poll_after, queued=True)
            case "processing":
                return Pending(progress=_progress(task.logs), poll_after=self._poll_after)
            case "succeeded":
                return await self._completed(operation, task, answer)
            case "failed":
                raise self._failure(task)
            case "canceled" | "aborted":
                raise errors.Cancelled(
                    words("the prediction was cancelled", "生成はキャンセルされました。"),
                    backend=self.name,
                    # Documented: an aborted one never started and is free, a canceled one pays for the time it used.
                    billed_usd=Decimal(0) if task.status == "aborted" else None,
                )
            case _:
                raise self.error(
                    errors.UnexpectedResponse, answer._replace(json={"detail": f"status {task.status}"})
                )

    async def cancel(self, operation: Operation) -> bool:
        """A POST that answers the prediction, which may go on `processing` for a while."""
        answer = await self.ask("POST", f"{self._path(operation)}/cancel")
        if answer.status == 404:
            return False
        task = self.view(_Prediction, self.read(answer))
        return task.status in {"starting", "processing", "canceled", "aborted"}

    async def check(self) -> Mapping[str, JsonValue]:
        """Whose key it is; the balance is told nowhere."""
        account = await self.call("GET", "v1/account")
        facts = account if isinstance(account, dict) else {}
        return {key: str(facts[key]) for key in ("type", "username", "name") if facts.get(key)}

    async def describe(self, wire_id: str) -> Mapping[str, JsonValue]:
        """A row for any model (`owner/name`) or version (`owner/name:id`) that our key can see."""
        row = card_row(
            await self._read_schema(wire_id),
            backend=self.name,
            wire_id=wire_id,
            source=f"api.replicate.com/v1/models/{wire_id.partition(':')[0]}",
            as_of=datetime.now(UTC).date().isoformat(),
        )
        return row | {"result_lifetime_s": 3600, "failure_billed": "maybe", "cancel": "running"}

    # -- Replicate's ways

    def message_of(self, answer: Answer) -> str:
        """`title: detail`; a rate limit has the second only, an outage maybe neither."""
        body = answer.json if isinstance(answer.json, dict) else {}
        parts = [body.get("title"), body.get("detail")]
        text = ": ".join(part.strip() for part in parts if isinstance(part, str) and part.strip())
        return text or super().message_of(answer)

    def error(self, kind: type[GatewayError], answer: Answer) -> GatewayError:
        """A rate limit says in words when it ends: `Your rate limit resets in ~30s.`"""
        found = super().error(kind, answer)
        said_s = _RESETS.search(self.message_of(answer)) if answer.status == 429 else None
        if found.retry_after is None and said_s:
            found.retry_after = float(said_s[1])
        return found

    async def place(self, media: InputMedia) -> str:
        """A data URI up to the documented size, else an upload that Replicate keeps for a day."""
        if media.asset.size_bytes <= DATA_URI_MAX_BYTES:
            return await super().place(media)
        if media.asset.size_bytes > UPLOAD_MAX_BYTES:
            raise errors.BackendError(
                words(
                    "an input file is larger than the 100 MB it takes",
                    "入力ファイルが上限の 100 MB を超えています。",
                ),
                backend=self.name,
                param="frame_images" if media.type == "image" else "input_references",
            )
        answer = await self.call("POST", "v1/files", files={"content": await self.upload_of(media)})
        link = self.view(_File, answer).urls.get("get", "")
        if not link.startswith("http"):
            raise self._unreadable("an upload without a link", "アップロード結果にリンクがありません")
        return link

    def _parts(self, model: str) -> tuple[str, str, str | None]:
        found = _MODEL.fullmatch(model)
        if found is None:
            raise errors.InvalidRequest(
                words(
                    f"{model!r} is no Replicate model; write owner/name or owner/name:version (64 hex digits)",
                    f"{model!r} は Replicate のモデル名ではありません。owner/name または owner/name:version"
                    "(16 進 64 桁)で指定してください",
                ),
                backend=self.name,
                param="model",
            )
        return found[1], found[2], found[3]

    async def _schema(self, model: str) -> InputSchema:
        """As `_read_schema`, kept for a while; a model that is gone leaves the job to other backends."""
        try:
            return await self._schemas.of(model, lambda: self._read_schema(model))
        except errors.NotFound as error:
            raise errors.BackendError(error.message, backend=self.name) from None

    async def _read_schema(self, model: str) -> InputSchema:
        owner, name, version = self._parts(model)
        path = f"v1/models/{owner}/{name}"
        answer = await self.ask("GET", f"{path}/versions/{version}" if version else path)
        if answer.status == 404:
            raise errors.NotFound(
                words(
                    f"Replicate has no model {model!r} that our key can see",
                    f"{model!r} というモデルは Replicate に存在しないか、このキーでは参照できません",
                )
            )
        found = self.read(answer)
        latest = found if version else found.get("latest_version") if isinstance(found, dict) else None
        schema = read_schema(latest.get("openapi_schema")) if isinstance(latest, dict) else None
        if schema is None:
            raise errors.BackendError(
                words(
                    f"{model} has no version whose inputs can be read; nothing was bought",
                    f"{model} には入力項目を読み取れるバージョンがありません。課金は発生していません。",
                ),
                backend=self.name,
            )
        return schema

    async def _completed(self, operation: Operation, task: _Prediction, answer: Answer) -> Completed:
        links = _links(task.output)
        if links:
            outputs = [await self._output(link) for link in links]
            return Completed(tuple(outputs), details=dict(operation.data))
        if task.data_removed is True:
            raise errors.OutputInvalid(
                words(
                    "deleted the result before it was fetched: Replicate keeps it for one hour",
                    "取得前に結果が削除されました。Replicate が結果を保持するのは 1 時間です。",
                ),
                backend=self.name,
            )
        if task.output is None:
            raise self.error(
                errors.UnexpectedResponse, answer._replace(json={"detail": "succeeded without an output"})
            )
        raise errors.OutputInvalid(
            words("delivered something that is no file", "ファイルではない結果が返されました。"),
            backend=self.name,
            detail=redact(str(task.output), self._secrets()),
        )

    async def _output(self, link: str) -> Output:
        """A link, or a data URI whose bytes go into our scratch folder."""
        head, comma, data = link.partition(",")
        if not link.startswith("data:"):
            return Output(url=link)
        path = self.config.scratch / f"replicate-{uuid.uuid4().hex}"
        try:
            content = base64.b64decode(data, validate=True) if comma and head.endswith(";base64") else b""
        except (binascii.Error, ValueError):
            content = b""
        if not content:
            raise errors.OutputInvalid(
                words("delivered a file that cannot be read", "読み取れないファイルが返されました。"),
                backend=self.name,
            )
        await asyncio.to_thread(path.write_bytes, content)
        return Output(path=path, mime=head.removeprefix("data:").removesuffix(";base64"))

    def _failure(self, task: _Prediction) -> GatewayError:
        """`error` is free text. Whether a failure was charged is documented for neither kind of model."""
        text = redact(str(task.error or ""), self._secrets()) or "no reason given"
        kind = errors.ContentRejected if _REFUSED.search(text) else errors.GenerationFailed
        return kind(said(kind, text), backend=self.name, detail=f"failed: {text}")

    def _gone(self) -> GatewayError:
        return errors.OperationLost(
            words(
                "no longer knows this prediction; look in its own dashboard what became of it",
                "この生成は先方に存在しません。プロバイダーのダッシュボードで状況を確認してください。",
            ),
            backend=self.name,
        )

    def _unreadable(self, en: str, ja: str) -> GatewayError:
        return errors.UnexpectedResponse(words(f"sent {en}", f"{ja}。"), backend=self.name)

    @staticmethod
    def _path(operation: Operation) -> str:
        return f"v1/predictions/{quote(operation.ref, safe='')}"


def _links(output: Any) -> list[str]:
    """A string, a list of strings, or a table with one of them: what models return for a clip."""
    if isinstance(output, str):
        return [output] if output.startswith(("http://", "https://", "data:")) else []
    if isinstance(output, list):
        return [link for item in output for link in _links(item)]
    if isinstance(output, dict):
        return next((found for key in _CLIP_KEYS if (found := _links(output.get(key)))), [])
    return []


def _progress(logs: Any) -> float | None:
    """The last progress bar in the logs, 0..1."""
    bars = _PROGRESS.findall(logs) if isinstance(logs, str) else []
    return min(int(bars[-1][0]) / 100, 1.0) if bars else None
