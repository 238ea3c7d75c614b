"""A Gateway in memory: the door's tests steer its jobs by hand, nothing is rendered or spent."""

import asyncio
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from router.contract.card import Asset, ModelCard, ResolvedRequest
from router.contract.errors import Conflict, InvalidRequest, NotFound, not_found
from router.contract.job import Attempt, AttemptStatus, Candidate, Decision, Event, Job, Rejected, Status
from router.contract.request import Task, VideoRequest
from router.contract.words import words
from router.gateway import ApiKey, Booking, Gateway, ModelRow, Page, ProviderRow, Variant
from router.settings import Settings

T0 = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 40
CARD = ModelCard(
    id="local/testcard",
    backend="local",
    wire_id="testcard",
    family="testcard",
    tasks=(Task.TEXT_TO_VIDEO, Task.IMAGE_TO_VIDEO),
    as_of=date(2026, 11, 20),
    source="tests",
)


@dataclass
class Calls:
    """What the door asked for."""

    requests: list[VideoRequest] = field(default_factory=list)
    uploads: list[bytes] = field(default_factory=list)
    plans: list[VideoRequest] = field(default_factory=list)


def decision() -> Decision:
    chosen = Candidate(
        backend="local",
        model=CARD.id,
        usd=Decimal("0"),
        seconds=2.0,
        reason=words("it is free", "無料のため"),
    )
    return Decision(
        at=T0,
        mode="cloud-first",
        chosen=chosen,
        candidates=(chosen,),
        rejected=(
            Rejected(
                backend="fal", model="fal/veo3.1", code="no_key", reason=words("no key", "キーがありません")
            ),
        ),
        reason=words("only the local model is free", "ローカルモデルだけが使えるため"),
    )


class FakeGateway(Gateway):
    """Jobs move one step at each look (`auto`), or only when the test says so."""

    def __init__(self, settings: Settings, *, auto: bool = True) -> None:
        self.settings = settings
        self.auto = auto
        self.calls = Calls()
        self.jobs: dict[str, Job] = {}
        self.pictures: dict[str, bytes] = {}
        self.made_by_key: dict[str, str] = {}
        self.opened = 0
        self.closed = 0
        self.fail_with: Exception | None = None
        self.engine_ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.opened += 1
        return self

    async def __aexit__(
        self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.closed += 1

    @property
    def engine_here(self) -> bool:
        return True

    async def engine_failure(self) -> None:
        await self.engine_ended.wait()
        raise RuntimeError("the planner broke")

    async def has_keys(self) -> bool:
        return False

    async def bookings(self, job_id: str) -> tuple[Booking, ...]:
        return ()

    async def submit(
        self, request: VideoRequest, *, idempotency_key: str | None = None, caller: ApiKey | None = None
    ) -> Job:
        if self.fail_with is not None:
            raise self.fail_with
        if idempotency_key in self.made_by_key:
            return self.jobs[self.made_by_key[idempotency_key]]
        n = len(self.jobs) + 1
        job = Job(
            id=f"video_{n:04d}",
            status=Status.QUEUED,
            request=request,
            seed=request.seed or 7,
            created_at=T0 + timedelta(seconds=n),
        )
        self.jobs[job.id] = job
        if idempotency_key:
            self.made_by_key[idempotency_key] = job.id
        self.calls.requests.append(request)
        return job

    async def plan(self, request: VideoRequest, *, caller: ApiKey | None = None) -> Decision:
        self.calls.plans.append(request)
        return decision()

    async def take_upload(
        self, data: bytes | Path, *, expect: Literal["image", "video", "audio"] = "image"
    ) -> Asset:
        content = data if isinstance(data, bytes) else await asyncio.to_thread(data.read_bytes)
        if not content.startswith(b"\x89PNG"):
            raise InvalidRequest(words("That is no image.", "画像ではありません。"), param="input_reference")
        self.calls.uploads.append(content)
        return Asset(id=hashlib.sha256(content).hexdigest(), mime="image/png", size_bytes=len(content))

    async def get(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None:
            raise not_found(job_id)
        if self.auto and not job.deleted:
            self.step(job_id)
        return job

    async def list(
        self,
        *,
        limit: int = 20,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        project: str | None = None,
        state: str | None = None,
    ) -> Page:
        jobs = sorted(self.jobs.values(), key=lambda job: job.created_at, reverse=order == "desc")
        jobs = [job for job in jobs if not job.deleted and (state is None or job.status == state)]
        jobs = [job for job in jobs if project is None or job.request.project == project]
        if after is not None:
            ids = [job.id for job in jobs]
            if after not in ids:
                raise not_found(after)
            jobs = jobs[ids.index(after) + 1 :]
        return Page(tuple(jobs[:limit]), has_more=len(jobs) > limit)

    async def events(self, job_id: str) -> tuple[Event, ...]:
        return (Event(seq=1, job_id=job_id, attempt=None, at=T0, kind="created", data={}),)

    async def content_of(self, job: Job, variant: Variant = "video") -> tuple[Path, Asset]:
        if job.output is None:
            raise Conflict(words("The clip is not there yet.", "動画はまだできていません。"))
        if variant == "thumbnail":
            raise NotFound(words("There is no still.", "サムネイルはありません。"))
        return self._clip(), job.output

    async def sketch(self, job: Job) -> bytes:
        if job.id not in self.pictures:
            raise NotFound(words("There is no sketch.", "途中の画像はありません。"), param="variant")
        return self.pictures[job.id]

    async def models(self) -> tuple[ModelRow, ...]:
        return (ModelRow(CARD, True, None, Decimal("0.250000"), "2026-11-20", False),)

    async def providers(self) -> tuple[ProviderRow, ...]:
        problem = words("FAL_KEY is not set", "FAL_KEY が設定されていません")
        return (
            ProviderRow("fal", "fal", "cloud", ("FAL_KEY",), False, 3, problem, None, None, 0, None, False),
        )

    async def cancel(self, job_id: str) -> Job:
        return self.change(job_id, status=Status.CANCELLED, cancel_requested=True, ended_at=T0)

    async def delete(self, job_id: str) -> None:
        self.change(job_id, deleted=True, output=None)

    def change(self, job_id: str, **values: Any) -> Job:
        """What the engine would do."""
        self.jobs[job_id] = self.jobs[job_id].model_copy(update=values)
        return self.jobs[job_id]

    def step(self, job_id: str) -> None:
        """The next state of a job that goes well."""
        match self.jobs[job_id].status:
            case Status.QUEUED:
                self.run(job_id)
            case Status.RUNNING:
                self.finish(job_id)

    def run(self, job_id: str) -> Job:
        job = self.jobs[job_id]
        attempt = Attempt(
            job_id=job_id,
            n=1,
            backend="local",
            model=CARD.id,
            status=AttemptStatus.RUNNING,
            resolved=ResolvedRequest(
                model=CARD.id,
                backend="local",
                wire_id="testcard",
                task=job.request.effective_task,
                prompt=job.request.prompt,
                duration=job.request.duration or 2.125,
                width=1280,
                height=720,
            ),
            decision=decision(),
            reason=words("it is free", "無料のため"),
            estimate_usd=Decimal("0.250000"),
            reserved_usd=Decimal("0.25"),
            billed_usd=None,
            created_at=T0,
        )
        return self.change(
            job_id,
            status=Status.RUNNING,
            progress=0.5,
            backend="local",
            model=CARD.id,
            reason=attempt.reason,
            attempts=(attempt,),
            in_progress_once=True,
            reserved_usd=Decimal("0.25"),
        )

    def finish(self, job_id: str) -> Job:
        self._clip().write_bytes(MP4)
        clip = Asset(
            id=hashlib.sha256(MP4).hexdigest(),
            mime="video/mp4",
            size_bytes=len(MP4),
            width=1280,
            height=720,
            duration_s=4.0,
        )
        return self.change(
            job_id,
            status=Status.COMPLETED,
            progress=1.0,
            output=clip,
            ended_at=T0 + timedelta(minutes=1),
            reserved_usd=Decimal(0),
            billed_usd=Decimal("0.250000"),
        )

    def _clip(self) -> Path:
        return self.settings.home / "clip.mp4"
