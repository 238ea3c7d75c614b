"""Runway (api.dev.runwayml.com): its own models and those of others that it sells; bodies in `_runway_payload.py`.

Runway has no idempotency key and no list of tasks, so a lost answer cannot be looked up (`lost_submit = "hold"`).
It says what a task may cost at submit and what it did cost at the end; both are taken as the truth.
Source of statuses, costs and fields: the types of the official SDK runwayml 5.24.0.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer, redact
from api_providers._http import HttpProvider
from api_providers._runway_payload import PATHS, body_of
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.words import words

VERSION = "2024-11-06"
POLL_AFTER_S = 5.0
"""The SDK's documentation: no more often than once per 5 s and task."""
DATA_URI_MAX_BYTES = 3_300_000
"""Raw bytes that stay within the 5 MB a data URI may have after base64."""
UPLOAD_MAX_BYTES = 200_000_000


class _Submitted(BaseModel):
    """Only the id matters: a task that was bought is not lost over a strange field beside it."""

    id: str = Field(min_length=1)
    estimatedCost: Any = None


class _TaskView(BaseModel):
    status: str
    progress: Any = None
    cost: Any = None
    output: list[str] = []
    failure: str | None = None
    failureCode: str | None = None


class _Upload(BaseModel):
    uploadUrl: str
    fields: dict[str, str] = {}
    runwayUri: str = Field(pattern=r"^runway://")


class _Organization(BaseModel):
    creditBalance: Decimal
    tier: dict[str, Any] = {}
    usage: dict[str, Any] = {}


class Runway(HttpProvider):
    """Submit, poll, cancel and balance; a data URI or an upload for inputs."""

    base_url = "https://api.dev.runwayml.com"

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks, for the sandbox, whose clips take less than 5 s."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))
        self._cancelled: set[str] = set()

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Place the inputs, then buy. Runway has no field for `key`."""
        payload = await self.payload(request)
        answer = await self.call("POST", PATHS[request.task], spends=True, json=payload)
        task = self.view(_Submitted, answer, spends=True)
        return Operation(ref=task.id, estimated_usd=self._usd(task.estimatedCost))

    async def payload(self, request: ResolvedRequest) -> dict[str, Any]:
        """The body of the create call, inputs uploaded where they are large."""
        try:
            return await body_of(request, self.card(request), self.place)
        except errors.InvalidRequest as error:
            error.backend = error.backend or self.name
            raise

    async def poll(self, operation: Operation) -> Pending | Completed:
        """All six statuses by name, so that a seventh is noticed."""
        answer = await self.ask("GET", self._path(operation))
        if answer.status == 404:
            raise self._gone(operation)
        task = self.view(_TaskView, self.read(answer))
        match task.status:
            case "PENDING" | "THROTTLED":
                # Throttled: accepted, waiting for the account's own concurrency. Never sent again.
                return Pending(poll_after=self._poll_after, queued=True)
            case "RUNNING":
                return Pending(progress=_fraction(task.progress), poll_after=self._poll_after)
            case "SUCCEEDED" if task.output:
                return Completed(
                    tuple(Output(url=url) for url in task.output), billed_usd=self._usd(task.cost)
                )
            case "FAILED":
                raise self._failure(task)
            case "CANCELLED":
                raise errors.Cancelled(
                    words("the task was cancelled", "タスクはキャンセルされました。"),
                    backend=self.name,
                    billed_usd=self._usd(task.cost),
                )
            case _:
                raise self.error(
                    errors.UnexpectedResponse, answer._replace(json={"error": f"status {task.status}"})
                )

    async def cancel(self, operation: Operation) -> bool:
        """DELETE, but never on a task that has ended: there it would delete the clip that was paid for.

        A running task is not refunded; `poll` tells what stays charged.
        """
        answer = await self.ask("GET", self._path(operation))
        if answer.status == 404:
            return operation.ref in self._cancelled
        task = self.view(_TaskView, self.read(answer))
        if task.status not in {"PENDING", "THROTTLED", "RUNNING"}:
            return task.status == "CANCELLED"
        answer = await self.ask("DELETE", self._path(operation))
        if answer.status != 404:
            self.read(answer)
        self._cancelled.add(operation.ref)
        return True

    async def check(self) -> Mapping[str, JsonValue]:
        """The organisation's balance, tier and today's use."""
        account = self.view(_Organization, await self.call("GET", "v1/organization"))
        usd = self._usd({"credits": account.creditBalance})
        return {
            "balance_usd": None if usd is None else str(usd),
            "balance_credits": str(account.creditBalance),
            "tier": account.tier,
            "usage": account.usage,
        }

    # -- Runway's ways

    def headers(self) -> dict[str, str]:
        """The version header is wanted on every call, GET and DELETE included."""
        return {**super().headers(), "X-Runway-Version": VERSION}

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """Out of credits is a 400 here, known by its text (docs: errors)."""
        if answer.status == 400 and "enough credits" in self.message_of(answer).lower():
            return errors.QuotaExhausted
        return super().kind_of_error(answer)

    def message_of(self, answer: Answer) -> str:
        """`error`, and the field messages of a validation error."""
        text = super().message_of(answer)
        issues = answer.json.get("issues") if isinstance(answer.json, dict) else None
        for issue in issues[:5] if isinstance(issues, list) else ():
            if isinstance(issue, dict):
                path = issue.get("path")
                where = ".".join(str(part) for part in path) if isinstance(path, list) else str(path or "")
                text += f"; {where}: {issue.get('message', '')}"
        return text

    async def place(self, media: InputMedia) -> str:
        """A data URI while it fits, else an upload that Runway keeps for a day."""
        size = media.asset.size_bytes
        if size <= DATA_URI_MAX_BYTES:
            return await super().place(media)
        if size > UPLOAD_MAX_BYTES:
            raise errors.BackendError(
                words(
                    "an input file is larger than the 200 MB it takes",
                    "入力ファイルが上限の 200 MB を超えています。",
                ),
                backend=self.name,
                param="frame_images" if media.type == "image" else "input_references",
            )
        filename = self.filename_of(media)
        answer = await self.call("POST", "v1/uploads", json={"filename": filename, "type": "ephemeral"})
        upload = self.view(_Upload, answer)
        await self.post_form(upload.uploadUrl, upload.fields, media, filename)
        return upload.runwayUri

    def _failure(self, task: _TaskView) -> GatewayError:
        """By `failureCode`: safety is the caller's to change, all else is a failure; the cost is what they say."""
        code = (task.failureCode or "").upper()
        text = redact(task.failure or "", self._secrets()) or "no reason given"
        billed = self._usd(task.cost)
        detail = f"{code or 'no failureCode'}: {text}"
        if "SAFETY" in code.split("."):
            return errors.ContentRejected(
                words(
                    f"the safety filter refused this ({text}); change the prompt or the image",
                    f"安全フィルターに拒否されました({text})。プロンプトまたは画像を変更してください。",
                ),
                backend=self.name,
                billed_usd=billed,
                detail=detail,
            )
        if code.startswith("ASSET"):
            reason = words(
                f"an input image or video cannot be used ({text}); give another file",
                f"入力の画像または動画を使用できません({text})。別のファイルを指定してください。",
            )
        else:
            reason = words(
                f"accepted the task and then failed ({text})", f"受け付け後に生成が失敗しました({text})。"
            )
        return errors.GenerationFailed(reason, backend=self.name, billed_usd=billed, detail=detail)

    def _gone(self, operation: Operation) -> GatewayError:
        """404: deleted by our own cancel, or no longer known. What it cost is not told any more."""
        if operation.ref in self._cancelled:
            return errors.Cancelled(
                words(
                    "the task was cancelled and deleted there",
                    "タスクはキャンセルされ、先方で削除されました。",
                ),
                backend=self.name,
            )
        return errors.OperationLost(
            words(
                "no longer knows this task; look in its own dashboard what became of it",
                "このタスクは先方に存在しません。プロバイダーのダッシュボードで状況を確認してください。",
            ),
            backend=self.name,
        )

    def _usd(self, cost: Any) -> Decimal | None:
        """Dollars of `{"credits": number}`; None where that is missing or makes no sense."""
        credits = cost.get("credits") if isinstance(cost, dict) else None
        if self.config.credit_usd is None or isinstance(credits, bool):
            return None
        if not isinstance(credits, int | float | Decimal) or not 0 <= credits < 1e12:
            return None
        return Decimal(str(credits)) * self.config.credit_usd

    @staticmethod
    def _path(operation: Operation) -> str:
        return f"v1/tasks/{quote(operation.ref, safe='')}"


def _fraction(progress: Any) -> float | None:
    return min(max(float(progress), 0.0), 1.0) if isinstance(progress, int | float) else None
