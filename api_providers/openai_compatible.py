"""Any server that speaks OpenAI's `/v1/videos`: an own inference server, a gateway, another Understudy.

OpenAI itself switched this API off on 2026-09-24; the protocol stayed. Statuses, fields and errors: the official SDK
openai 3.52.0 (types/video*.py). It has no balance, no price and no cancel; what single servers add is data in the
user's own TOML (docs/own-server.md).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer, redact
from api_providers._camera import prompt_with_camera
from api_providers._errors import kind_by_status, said
from api_providers._http import HttpProvider
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.length import number
from router.contract.words import words

POLL_AFTER_S = 2.0
"""The SDK's own default is 1 s; a clip takes minutes."""
SLOWEST_POLL_S = 60.0
REFUSED_CONTENT = frozenset(
    {"moderation_blocked", "sentinel_block", "content_policy_violation", "content_rejected"}
)
"""The first three were seen at OpenAI (unverified list), the last is another Understudy's."""
NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "budget_exceeded"})
"""Come with the same 429 as a rate limit, and waiting does not help."""


class _Error(BaseModel):
    """Servers differ: the code may be a number (vLLM-Omni) or missing (SGLang)."""

    code: Any = None
    message: Any = None


class _Video(BaseModel):
    """Only the id matters at submit: a task that was bought is not lost over a strange field beside it."""

    id: str = Field(min_length=1)
    status: Any = None


class _View(BaseModel):
    status: str
    progress: Any = None
    error: _Error | str | None = None
    state: Any = None
    """Another Understudy's own word for the status."""
    cancel_requested: Any = None
    billed_usd: Any = None
    """What another Understudy paid for the clip; no other server tells."""


class _List(BaseModel):
    data: list[Any]


class OpenAICompatible(HttpProvider):
    """Submit, poll and download; the key, where there is one, goes to this server and nowhere else."""

    base_url = ""
    """There is none: the address is the user's."""
    fetch_with_key = True

    def __init__(self, config: BackendConfig) -> None:
        """`base_url` with or without `/v1`. `options["cancel"]`: true or "delete", see docs/own-server.md."""
        super().__init__(replace(config, base_url=_versioned(config.base_url)))
        self._pace = config.options.get("poll_after")
        way = config.options.get("cancel")
        told = any(card.cancel != "no" for card in config.cards.values())
        self._cancel_way = (
            "delete" if way == "delete" else "post" if way is True or (way is None and told) else ""
        )
        self._deleted: set[str] = set()

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """One multipart call, as the official SDK makes it. `key` is the Idempotency-Key, which few servers read."""
        media = request.first_frame or next(iter(request.references), None)
        files = {"input_reference": await self.upload_of(media)} if media else None
        answer = await self.ask(
            "POST",
            "videos",
            spends=True,
            form=self.fields(request),
            files=files,
            headers={"Idempotency-Key": key},
        )
        if answer.status in {404, 410}:
            raise self._not_there(answer)
        video = self.view(_Video, self.read(answer, spends=True), spends=True)
        return Operation(ref=video.id)

    def fields(self, request: ResolvedRequest) -> dict[str, str]:
        """The form beside the file: the SDK's fields, then those that the card's `[model.wire.extra]` names."""
        card = self.card(request)
        body = {"prompt": prompt_with_camera(request, card)}
        if card.wire_id:
            body["model"] = card.wire_id
        if request.duration > 0:
            body["seconds"] = number(request.duration)
        if request.width and request.height:
            body["size"] = f"{request.width}x{request.height}"
        for ours, theirs in card.wire.get("extra", {}).items():
            value = getattr(request, ours, None)
            if value is not None and value != "":
                body[str(theirs)] = _text(value)
        return {name: _text(value) for name, value in request.options.items()} | body

    async def poll(self, operation: Operation) -> Pending | Completed:
        """OpenAI's four statuses, and `cancelled`, which some servers add."""
        answer = await self.ask("GET", self._path(operation))
        if answer.status == 404:
            raise self._gone(operation)
        task = self.view(_View, self.read(answer))
        match task.status:
            case "queued":
                return Pending(poll_after=self._look_again(answer), queued=True)
            case "in_progress":
                return Pending(progress=_fraction(task.progress), poll_after=self._look_again(answer))
            case "completed":
                url = f"{self._base}/{self._path(operation)}/content"
                return Completed((Output(url=url),), billed_usd=_usd(task.billed_usd))
            case "failed":
                raise self._failure(task)
            case "cancelled":
                raise self._was_cancelled(_usd(task.billed_usd))
            case _:
                raise self.error(
                    errors.UnexpectedResponse,
                    answer._replace(json={"error": {"message": f"status {task.status}"}}),
                )

    async def cancel(self, operation: Operation) -> bool:
        """Nothing in OpenAI's protocol; another Understudy has `/cancel`, some servers end a task that is deleted."""
        if not self._cancel_way:
            return False
        answer = await self.ask("GET", self._path(operation))
        if answer.status == 404:
            return operation.ref in self._deleted
        task = self.view(_View, self.read(answer))
        if task.status not in {"queued", "in_progress"}:
            return _is_cancelled(task)
        if self._cancel_way == "delete":
            answer = await self.ask("DELETE", self._path(operation))
            if answer.status != 404:
                self.read(answer)
            self._deleted.add(operation.ref)
            return True
        after = self.view(_View, await self.call("POST", f"{self._path(operation)}/cancel"))
        return _is_cancelled(after) or after.cancel_requested is True

    async def check(self) -> Mapping[str, JsonValue]:
        """The list of videos, one of them: every server of this kind has it, or says that it has not."""
        answer = await self.ask("GET", "videos", params={"limit": "1"})
        if answer.status in {404, 405, 501}:
            return {"list": "not offered"}
        return {"list": "offered", "empty": not self.view(_List, self.read(answer)).data}

    # -- this protocol's ways

    def headers(self) -> dict[str, str]:
        """An own server often has no key; then nothing is sent."""
        return super().headers() if self.config.key is not None else {}

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """By `error.code`: moderation is a 400, and an empty account is a 429 like a rate limit."""
        code = _code(answer)
        if not answer.ok and answer.status < 500:
            if code in REFUSED_CONTENT:
                return errors.ContentRejected
            if code in NO_CREDIT:
                return errors.QuotaExhausted
        return kind_by_status(answer)

    def message_of(self, answer: Answer) -> str:
        """`error.message`, or FastAPI's `detail`, which may be a list of fields."""
        detail = answer.json.get("detail") if isinstance(answer.json, dict) else None
        if not isinstance(detail, list):
            return super().message_of(answer)
        lines = []
        for item in detail[:5]:
            if isinstance(item, dict):
                loc = item.get("loc")
                where = ".".join(str(part) for part in loc if part != "body") if isinstance(loc, list) else ""
                lines.append(": ".join(filter(None, (where, str(item.get("msg", ""))))))
        return "; ".join(lines)

    def _not_there(self, answer: Answer) -> GatewayError:
        """404 or 410 on create: no such model there, or no such API any more, as at OpenAI."""
        text = self._text(answer) or f"HTTP {answer.status}"
        return errors.BackendError(
            words(
                f"has no video API at {self._base}, or not this model ({text}); check base_url and wire_id",
                f"{self._base} に動画 API がないか、このモデルがありません({text})。"
                "base_url と wire_id を確認してください。",
            ),
            backend=self.name,
            detail=f"HTTP {answer.status}: {text}",
        )

    def _failure(self, task: _View) -> GatewayError:
        error = _Error(message=task.error) if isinstance(task.error, str) else task.error or _Error()
        code = str(error.code) if error.code is not None else ""
        billed = _usd(task.billed_usd)
        if code == "cancelled" or _is_cancelled(task):
            return self._was_cancelled(billed)
        text = redact(str(error.message or ""), self._secrets()) or code or "no reason given"
        kind = errors.ContentRejected if code in REFUSED_CONTENT else errors.GenerationFailed
        return kind(
            said(kind, text), backend=self.name, billed_usd=billed, detail=f"{code or 'no code'}: {text}"
        )

    def _gone(self, operation: Operation) -> GatewayError:
        if operation.ref in self._deleted:
            return self._was_cancelled(None)
        return errors.OperationLost(
            words(
                "no longer knows this video; the server may have been started anew",
                "この動画は先方に存在しません。サーバーが再起動された可能性があります。",
            ),
            backend=self.name,
        )

    def _was_cancelled(self, billed: Decimal | None) -> GatewayError:
        return errors.Cancelled(
            words("the video was cancelled", "動画の生成はキャンセルされました。"),
            backend=self.name,
            billed_usd=billed,
        )

    def _look_again(self, answer: Answer) -> float:
        """The setting, else what the server asks for (`openai-poll-after-ms`, read by the SDK too)."""
        if self._pace is not None:
            return float(self._pace)
        wish = answer.headers.get("openai-poll-after-ms", "")
        return min(int(wish) / 1000, SLOWEST_POLL_S) if wish.isdecimal() and int(wish) else POLL_AFTER_S

    @staticmethod
    def _path(operation: Operation) -> str:
        return f"videos/{quote(operation.ref, safe='')}"


def _versioned(base_url: str | None) -> str | None:
    """The address up to and including its version, `/v1` where it names none."""
    base = (base_url or "").rstrip("/")
    return base if not base or re.search(r"/v\d+$", base) else f"{base}/v1"


def _text(value: Any) -> str:
    """A value as a form has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _code(answer: Answer) -> str:
    error = answer.json.get("error") if isinstance(answer.json, dict) else None
    return str(error.get("code") or "") if isinstance(error, dict) else ""


def _fraction(percent: Any) -> float | None:
    return min(max(percent / 100, 0.0), 1.0) if isinstance(percent, int | float) else None


def _usd(told: Any) -> Decimal | None:
    """Dollars as another Understudy writes them, a decimal string; None for anything else."""
    if not isinstance(told, str):
        return None
    try:
        usd = Decimal(told)
    except InvalidOperation:
        return None
    return usd if usd.is_finite() and 0 <= usd < 1_000_000 else None


def _is_cancelled(task: _View) -> bool:
    return task.status == "cancelled" or task.state == "cancelled"
