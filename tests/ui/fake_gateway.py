"""A Gateway in memory for the page's tests: jobs stand still unless the test moves them."""

import asyncio
import hashlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from router.contract.card import Asset, ModelCard, Price, ResolvedRequest, Where
from router.contract.errors import InvalidRequest, NotFound, not_found
from router.contract.job import Attempt, AttemptStatus, Candidate, Decision, Job, JobError, Rejected, Status
from router.contract.request import Task, VideoRequest
from router.contract.words import words
from router.gateway import Gateway, ModelRow, Page, ProviderRow, Variant
from router.settings import Settings

T0 = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
DAY = date(2026, 11, 20)


def card(id_: str, title: str, family: str, **more: Any) -> ModelCard:
    given: dict[str, Any] = {
        "tasks": (Task.TEXT_TO_VIDEO, Task.IMAGE_TO_VIDEO),
        "durations": (5, 10),
        "resolutions": ("720p", "1080p"),
        "aspect_ratios": ("16:9", "9:16", "1:1"),
        "prices": (
            Price(usd=Decimal("0.05"), per="second", as_of=DAY, source="https://runway.example/pricing"),
        ),
        "as_of": DAY,
        "source": "tests",
        **more,
    }
    return ModelCard(id=id_, backend=id_.split("/")[0], wire_id=id_, family=family, title=title, **given)


CARDS = (
    card("runway/gen4_turbo", "Gen-4 Turbo", "gen4"),
    card("fal/kling-2.6-pro", "Kling 2.6 Pro", "kling-2.6-pro", resolutions=("1080p",)),
    card("runway/veo3.1", "Veo 3.1", "veo3.1", durations=(4, 6, 8)),
    card("fal/veo3.1", "Veo 3.1", "veo3.1", durations=(4, 6, 8)),
    card(
        "local/tiny",
        "Tiny demo model",
        "tiny",
        where=Where.HOUSE,
        durations=(),
        resolutions=(),
        aspect_ratios=(),
        prices=(Price(usd=Decimal(0), per="clip", as_of=DAY, source="our own"),),
        demo=True,
    ),
)
BACKENDS = (("runway", "Runway"), ("fal", "fal"), ("local", "This machine"))


def plan(*, at: datetime = T0, nowhere: bool = False) -> Decision:
    first = Candidate(
        backend="runway",
        model="runway/gen4_turbo",
        usd=Decimal("0.25"),
        seconds=38,
        reason=words("cheapest cloud offer that can start now", "今すぐ開始できるクラウドの中で最安"),
        price_as_of="2026-11-20",
        price_source="https://runway.example/pricing",
    )
    second = Candidate(
        backend="local",
        model="local/tiny",
        usd=Decimal(0),
        seconds=14,
        reason=words("stands in when no cloud offer is left", "クラウドが使えないときの代役"),
    )
    limited = Rejected(
        backend="fal",
        model="fal/kling-2.6-pro",
        code="rate_limited",
        reason=words("rate limit reached", "レート制限に達しています"),
        usd=Decimal("0.35"),
        ready_at=at + timedelta(seconds=42),
    )
    costly = Rejected(
        backend="fal",
        model="fal/veo3.1",
        code="budget",
        reason=words("over the limit of this job ($0.50)", "このジョブの上限($0.50)を超えます"),
        usd=Decimal("3.20"),
    )
    return Decision(
        at=at,
        mode="cloud-first",
        chosen=None if nowhere else first,
        candidates=() if nowhere else (first, second),
        rejected=(limited, costly),
        reason=words(
            "Every offer is over the limit of this job.", "どの候補もこのジョブの上限を超えています。"
        )
        if nowhere
        else words(
            "Cloud first, and this is the cheapest that can start now.",
            "クラウド優先の設定で、すぐに開始できる最安の候補です。",
        ),
    )


class FakeGateway(Gateway):
    """`step` and `change` do what the engine would do."""

    def __init__(self, settings: Settings, *, clip: Path | None = None, poster: Path | None = None) -> None:
        self.settings = settings
        self.clip = clip
        self.poster = poster
        self.jobs: dict[str, Job] = {}
        self.pictures: dict[str, int] = {}
        self.submitted: list[VideoRequest] = []
        self.fail_with: Exception | None = None
        self.nowhere = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        return None

    async def submit(self, request: VideoRequest, *, idempotency_key: str | None = None) -> Job:
        if self.fail_with is not None:
            raise self.fail_with
        self.submitted.append(request)
        return self.add(request)

    def add(self, request: VideoRequest | str, **values: Any) -> Job:
        wish = VideoRequest(prompt=request) if isinstance(request, str) else request
        number = len(self.jobs) + 1
        made = {
            "id": f"video_{number:04d}",
            "status": Status.QUEUED,
            "request": wish,
            "seed": wish.seed or 71,
            "created_at": T0 + timedelta(minutes=number),
            **values,
        }
        job = Job(**made)
        self.jobs[job.id] = job
        return job

    async def plan(self, request: VideoRequest) -> Decision:
        if request.preferences.max_usd == 0 and request.model:
            raise InvalidRequest(
                words("No model of that name.", "その名前のモデルはありません。"), param="model"
            )
        return plan(at=datetime.now(UTC), nowhere=self.nowhere or request.preferences.max_usd == 0)

    async def take_upload(
        self, data: bytes | Path, *, expect: Literal["image", "video", "audio"] = "image"
    ) -> Asset:
        content = data if isinstance(data, bytes) else data.read_bytes()  # noqa: ASYNC240
        if not content.startswith(b"\x89PNG"):
            raise InvalidRequest(
                words("That is no image.", "画像ファイルではありません。"), param="frame_images"
            )
        return Asset(id=hashlib.sha256(content).hexdigest(), mime="image/png", size_bytes=len(content))

    async def get(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None or job.deleted:
            raise not_found(job_id)
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
        if after is not None:
            jobs = jobs[[job.id for job in jobs].index(after) + 1 :]
        return Page(tuple(jobs[:limit]), has_more=len(jobs) > limit)

    async def content(self, job_id: str, variant: Variant = "video") -> tuple[Path, Asset]:
        job = await self.get(job_id)
        path, asset = (self.clip, job.output) if variant == "video" else (self.poster, job.poster)
        if path is None or asset is None:
            raise NotFound(words("There is no file.", "ファイルがありません。"))
        return path, asset

    async def sketches(self) -> dict[str, int]:
        return self.pictures

    async def models(self) -> tuple[ModelRow, ...]:
        return tuple(ModelRow(one, True, None, Decimal("0.25"), "2026-11-20", False) for one in CARDS)

    async def providers(self) -> tuple[ProviderRow, ...]:
        return tuple(
            ProviderRow(name, title, "cloud", (), True, 2, None, None, None, 0, None, False)
            for name, title in BACKENDS
        )

    async def cancel(self, job_id: str) -> Job:
        return self.change(job_id, status=Status.CANCELLED, cancel_requested=True, ended_at=T0)

    async def delete(self, job_id: str) -> None:
        self.change(job_id, deleted=True, output=None, poster=None)

    @property
    def engine_here(self) -> bool:
        return True

    async def engine_failure(self) -> None:
        await asyncio.Event().wait()

    def change(self, job_id: str, **values: Any) -> Job:
        self.jobs[job_id] = self.jobs[job_id].model_copy(update=values)
        return self.jobs[job_id]

    def attempt(self, job: Job, n: int = 1, **values: Any) -> Attempt:
        made = {
            "job_id": job.id,
            "n": n,
            "backend": "runway",
            "model": "runway/gen4_turbo",
            "status": AttemptStatus.RUNNING,
            "resolved": ResolvedRequest(
                model="runway/gen4_turbo",
                backend="runway",
                wire_id="gen4_turbo",
                task=job.request.effective_task,
                prompt=job.request.prompt,
                duration=5,
                resolution="720p",
                aspect_ratio="16:9",
            ),
            "decision": plan(),
            "reason": words("cheapest cloud offer that can start now", "今すぐ開始できるクラウドの中で最安"),
            "estimate_usd": Decimal("0.25"),
            "reserved_usd": Decimal("0.25"),
            "billed_usd": None,
            "created_at": job.created_at,
            **values,
        }
        return Attempt(**made)

    def run(self, job_id: str, progress: float = 0.4) -> Job:
        job = self.jobs[job_id]
        attempt = self.attempt(job)
        return self.change(
            job_id,
            status=Status.RUNNING,
            progress=progress,
            backend=attempt.backend,
            model=attempt.model,
            reason=attempt.reason,
            estimate_usd=attempt.estimate_usd,
            reserved_usd=attempt.reserved_usd,
            attempts=(attempt,),
        )

    def finish(self, job_id: str) -> Job:
        job = self.run(job_id)
        done = job.attempts[0].model_copy(
            update={"status": AttemptStatus.COMPLETED, "billed_usd": Decimal("0.25")}
        )
        size = self.clip.stat().st_size if self.clip else 1000
        output = Asset(id="a" * 64, mime="video/mp4", size_bytes=size, width=1280, height=720, duration_s=5.0)
        return self.change(
            job_id,
            status=Status.COMPLETED,
            progress=1.0,
            output=output,
            poster=Asset(id="b" * 64, mime="image/jpeg", size_bytes=100) if self.poster else None,
            ended_at=job.created_at + timedelta(seconds=41),
            reserved_usd=Decimal(0),
            billed_usd=Decimal("0.25"),
            attempts=(done,),
        )

    def fail(self, job_id: str) -> Job:
        job = self.run(job_id)
        error = JobError(
            code="content_rejected",
            message=words(
                "The provider's safety filter refused the prompt.",
                "プロバイダーの安全フィルターがプロンプトを拒否しました。",
            ),
        )
        bad = job.attempts[0].model_copy(
            update={"status": AttemptStatus.FAILED, "billed_usd": Decimal(0), "error": error}
        )
        return self.change(
            job_id, status=Status.FAILED, ended_at=T0, reserved_usd=Decimal(0), error=error, attempts=(bad,)
        )


def without_token(home: Path) -> Settings:
    return Settings(home=home, database_url=f"sqlite:///{home / 'understudy.sqlite'}")


__all__ = ["BACKENDS", "CARDS", "FakeGateway", "card", "plan", "without_token"]
