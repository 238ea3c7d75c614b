"""Krea (api.krea.ai): Kling, Hailuo, Wan and Veo models, each at a path of its own with a closed body.

An unknown key is a 400, so a body holds the fields that the card's `wire` lists and no others. Krea's job list names
nothing that we sent, so a lost answer cannot be looked up (`lost_submit = "hold"`). Failed and cancelled jobs are not
billed (docs.krea.ai). Over its concurrency a job is `backlogged`, not refused.
Sources: docs.krea.ai; Krea's OpenAPI document as mirrored 2026-08-22; the official scripts krea-ai/skills.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import Answer, redact
from api_providers._camera import prompt_with_camera
from api_providers._errors import said
from api_providers._http import HttpProvider
from api_providers._kling_camera import kling_control
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.words import words

POLL_AFTER_S = 5.0
"""The guide looks every 5 s, the official scripts every 3 s."""
ASSET_MAX_BYTES = 75_000_000
"""Of one upload (OpenAPI: assets)."""
WAITING = frozenset({"backlogged", "queued", "scheduled"})
WORKING = frozenset({"processing", "sampling", "intermediate-complete"})
_REFUSED = re.compile(r"(?i)\b(nsfw|ip_detected)\b")
"""The failure reasons that Krea names for content (krea-ai/skills)."""


class _Submitted(BaseModel):
    """Only the id matters: a job that was bought is not lost over a strange field beside it."""

    job_id: str = Field(min_length=1)


class _Job(BaseModel):
    status: str
    result: Any = None
    error: Any = None
    progress: Any = None
    cost_usd: Any = None
    cost_microdollars: Any = None


class _Asset(BaseModel):
    image_url: str = Field(min_length=1)


class _Jobs(BaseModel):
    items: list[dict[str, Any]]


class Krea(HttpProvider):
    """Upload the inputs, start a job at the model's path, look at it, cancel it."""

    base_url = "https://api.krea.ai"

    def __init__(self, config: BackendConfig) -> None:
        """`options["poll_after"]`: seconds between looks."""
        super().__init__(config)
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))
        self._cancelled: set[str] = set()

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Upload, then buy. Krea has no field for `key`."""
        path = f"generate/video/{self.card(request).wire_id}"
        answer = await self.call("POST", path, spends=True, json=await self.payload(request))
        return Operation(ref=self.view(_Submitted, answer, spends=True).job_id)

    async def payload(self, request: ResolvedRequest) -> dict[str, Any]:
        """The closed body of this model, in the card's field names (snake_case: camelCase ended on 2026-06-19)."""
        card = self.card(request)
        body: dict[str, Any] = dict(card.wire.get("always", {}))
        for name, theirs in card.wire["fields"].items():
            if name == "image":
                placed = [await self.place(media) for media in request.references if media.type == "image"]
                body |= {theirs.removesuffix("[]"): placed} if placed else {}
            elif name in {"first_frame", "last_frame"}:
                frame = request.first_frame if name == "first_frame" else request.last_frame
                body |= {theirs: await self.place(frame)} if frame else {}
            elif (value := _plain(name, request, card)) is not None:
                body[theirs] = value
        return body | request.options

    async def poll(self, operation: Operation) -> Pending | Completed:
        """All nine statuses by name, so that a tenth is noticed."""
        answer = await self.ask("GET", self._path(operation))
        if _unknown_job(answer):
            raise self._gone(operation)
        job = self.view(_Job, self.read(answer))
        if job.status in WAITING:
            return Pending(poll_after=self._poll_after, queued=True)
        if job.status in WORKING:
            return Pending(progress=_fraction(job.progress), poll_after=self._poll_after)
        match job.status:
            case "completed" if urls := _urls(job.result):
                return Completed(tuple(Output(url=url) for url in urls), billed_usd=_cost(job))
            case "failed":
                raise self._failure(job)
            case "cancelled":
                raise self._was_cancelled(Decimal(0))
            case _:
                raise self.error(
                    errors.UnexpectedResponse, answer._replace(json={"error": f"status {job.status}"})
                )

    async def cancel(self, operation: Operation) -> bool:
        """DELETE, but never on a job that has ended: there it would delete the clip that was paid for."""
        answer = await self.ask("GET", self._path(operation))
        if _unknown_job(answer):
            return operation.ref in self._cancelled
        job = self.view(_Job, self.read(answer))
        if job.status not in WAITING | WORKING:
            return job.status == "cancelled"
        answer = await self.ask("DELETE", self._path(operation))
        if _unknown_job(answer):
            return False
        self.read(answer)
        self._cancelled.add(operation.ref)
        return True

    async def check(self) -> Mapping[str, JsonValue]:
        """The newest job, if any; the balance stands in Krea's dashboard only."""
        jobs = self.view(_Jobs, await self.call("GET", "jobs", params={"limit": "1"})).items
        return {"newest_job_at": str(jobs[0].get("created_at")) if jobs else None}

    # -- Krea's ways

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """A 402 is an empty account, or a model that the plan does not have: that one is no reason to rest the others."""
        if answer.status == 402 and "plan required" in self.message_of(answer).lower():
            return errors.BackendError
        return super().kind_of_error(answer)

    def message_of(self, answer: Answer) -> str:
        """`error`; the official scripts also look for texts and lists under five more names."""
        body = answer.json if isinstance(answer.json, dict) else {}
        names = ("error", "message", "detail", "details", "errors", "issues")
        found = [text for name in names if (text := _sentence(body.get(name)))]
        return "; ".join(dict.fromkeys(found)) or super().message_of(answer)

    async def place(self, media: InputMedia) -> str:
        """An upload: bodies take URLs of at most 1024 characters."""
        if media.asset.size_bytes > ASSET_MAX_BYTES:
            raise errors.BackendError(
                words(
                    "an input file is larger than the 75 MB it takes",
                    "入力ファイルが上限の 75 MB を超えています。",
                ),
                backend=self.name,
                param="frame_images",
            )
        answer = await self.call("POST", "assets", files={"file": await self.upload_of(media)})
        return self.view(_Asset, answer).image_url

    def _failure(self, job: _Job) -> GatewayError:
        """`result.error` or `error`, a text or `{code, message}`; nothing is billed (docs)."""
        inner = job.result.get("error") if isinstance(job.result, dict) else None
        reasons = [text for text in map(_sentence, (inner, job.error)) if text]
        text = redact("; ".join(dict.fromkeys(reasons)), self._secrets()) or "no reason given"
        kind = errors.ContentRejected if _REFUSED.search(text) else errors.GenerationFailed
        return kind(said(kind, text), backend=self.name, billed_usd=Decimal(0), detail=text)

    def _gone(self, operation: Operation) -> GatewayError:
        """404: deleted by our own cancel (it may have ended just before), or no longer known."""
        if operation.ref in self._cancelled:
            return self._was_cancelled(None)
        return errors.OperationLost(
            words(
                "no longer knows this job; look in its own dashboard what became of it",
                "このジョブは先方に存在しません。プロバイダーのダッシュボードで状況を確認してください。",
            ),
            backend=self.name,
        )

    def _was_cancelled(self, billed: Decimal | None) -> GatewayError:
        return errors.Cancelled(
            words("the job was cancelled", "ジョブはキャンセルされました。"),
            backend=self.name,
            billed_usd=billed,
        )

    @staticmethod
    def _path(operation: Operation) -> str:
        return f"jobs/{quote(operation.ref, safe='')}"


def _plain(name: str, request: ResolvedRequest, card: ModelCard) -> Any:
    """A value that is no file; None for what was not asked."""
    match name:
        case "prompt":
            return prompt_with_camera(request, card)
        case "duration":
            return round(request.duration)
        case "resolution":
            return card.wire.get("resolutions", {}).get(request.resolution, request.resolution)
        case "sound":
            return request.generate_audio
        case "camera":
            return kling_control(request.camera) if request.camera else None
        case "aspect_ratio" | "seed":
            return getattr(request, name)
        case _:
            raise errors.ServerTrouble(
                words(
                    f"the [model.wire] of {card.id} has an unknown field {name!r}; correct the file",
                    f"{card.id} の [model.wire] に未知の項目 {name!r} があります。ファイルを修正してください。",
                )
            )


def _unknown_job(answer: Answer) -> bool:
    """A 404 in Krea's own form; one of a proxy, or of a path that was renamed, says nothing about the job."""
    return answer.status == 404 and isinstance(answer.json, dict) and "error" in answer.json


def _sentence(value: Any) -> str:
    """A text, `{code, message}`, or a list of texts or of `{path or loc, message}`."""
    if isinstance(value, list):
        return "; ".join(filter(None, map(_sentence, value[:5])))
    if isinstance(value, dict):
        where = value.get("path") or value.get("loc") or value.get("code") or ""
        where = ".".join(map(str, where)) if isinstance(where, list) else str(where)
        text = value.get("message") or value.get("msg") or ""
        return ": ".join(filter(None, (where, str(text))))
    return value if isinstance(value, str) else ""


def _urls(result: Any) -> list[str]:
    """`urls` as texts or as `{type, url}`; of the latter the videos where any is called so."""
    entries = result.get("urls") if isinstance(result, dict) else None
    entries = entries if isinstance(entries, list) else []
    typed = [entry for entry in entries if isinstance(entry, dict) and entry.get("type") == "video"]
    found = [entry.get("url") if isinstance(entry, dict) else entry for entry in typed or entries]
    return [url for url in found if isinstance(url, str) and url]


def _cost(job: _Job) -> Decimal | None:
    """Dollars, in the fields that users of Krea's SDK read; the schema has neither."""
    for value, scale in ((job.cost_usd, Decimal(1)), (job.cost_microdollars, Decimal(1_000_000))):
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
            return Decimal(str(value)) / scale
    return None


def _fraction(progress: Any) -> float | None:
    """A percentage in the guide; the schema has none."""
    if isinstance(progress, bool) or not isinstance(progress, int | float):
        return None
    return min(max(float(progress) / 100, 0.0), 1.0)
