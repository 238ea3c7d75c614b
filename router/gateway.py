"""Composition root and facade: the one thing the doors know."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from filelock import FileLock
from filelock import Timeout as LockTimeout

from router import backup as backups
from router import ledger, peers, report, retention, spending, store
from router.admission import Admission
from router.audit import audit
from router.backends import Backends
from router.catalog import Catalog, ProviderInfo
from router.contract import errors
from router.contract.backend import Checks, Describes, Inspects
from router.contract.card import Asset, ModelCard, Where
from router.contract.job import AttemptStatus, Decision, Event, Job, JobError, Status
from router.contract.request import Task, VideoRequest
from router.contract.words import Words, words
from router.db import Database, Tx, get_meta, set_meta
from router.forecasts import Forecasts, with_measured_times
from router.keyring import Keyring
from router.keys import ApiKey
from router.media import MediaStore
from router.policy import Finish
from router.pricing import money, to_micros
from router.report import Checked, ModelRow, ProviderRow
from router.settings import Settings
from router.spending import Booking, Budget, LocalDay, SpendReport, SpendRow
from router.weights import Installed, Pull, PullProgress, Weights

if TYPE_CHECKING:
    from router.engine import Engine

LOOK_S = 1.0
"""How often a watcher looks although nothing told it of a change: the engine it watches may be about to leave."""
DELETE_WAIT_S = 15.0
CHECK_S = 8.0
"""How long a provider's account call may take before it counts as unreachable."""
Variant = Literal["video", "thumbnail", "preview", "original"]
"""Which file of a job: the clip, its still, the GIF or WebP, the clip before the steps that the request asked for."""
LIVE_US = 6_000_000
"""An engine on PostgreSQL that beat within this time is alive."""

__all__ = [
    "ApiKey",
    "Booking",
    "Budget",
    "Checked",
    "EngineRole",
    "Finish",
    "Gateway",
    "Installed",
    "Keyring",
    "LocalDay",
    "ModelRow",
    "Page",
    "ProviderRow",
    "Pull",
    "PullProgress",
    "SpendReport",
    "SpendRow",
    "Variant",
    "Weights",
]


class EngineRole(StrEnum):
    """What this process does besides reading and writing jobs."""

    NONE = "none"
    """Read, write, watch; never carries a job (`jobs`, `cancel`, `spend`, ...)."""
    HELP = "help"
    """`generate`: watch a live engine, or be it until the own job has ended."""
    WORKER = "worker"
    """`worker`: carry local jobs of a PostgreSQL deployment, plan nothing."""
    SERVE = "serve"
    """`serve`: take the lock (waiting for a CLI that holds it), recover, run until closed."""


@dataclass(frozen=True)
class Page:
    """One page of jobs, newest first unless asked otherwise."""

    jobs: tuple[Job, ...]
    has_more: bool


class Gateway:
    """Open one per process: `async with Gateway.open(settings, role) as gateway`."""

    keyring: Keyring | None = None
    """The API keys; there once the gateway is open."""
    weights: Weights
    """The weights of local models in the data folder; there once the gateway is open."""
    forecasts: Forecasts
    """How local models would run on a card, and measuring how they do; there once the gateway is open."""

    def __init__(self, settings: Settings, role: EngineRole, on_wait: Callable[[Words], None] | None) -> None:
        """Use `open`."""
        self.settings = settings
        self.role = role
        self._on_wait = on_wait
        self._lock: FileLock | None = None
        self._engine: Engine | None = None

    @classmethod
    def open(
        cls,
        settings: Settings,
        role: EngineRole = EngineRole.NONE,
        *,
        on_wait: Callable[[Words], None] | None = None,
    ) -> Self:
        """Nothing happens before `async with`; raises ServerTrouble there when this installation cannot work.

        `on_wait` is told when `serve` has to wait for another process that holds the engine.
        """
        return cls(settings, role, on_wait)

    async def __aenter__(self) -> Self:
        """Connect, check the folder's identity, and start the engine where the role says so."""
        settings = self.settings
        try:
            await asyncio.to_thread(settings.home.mkdir, parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _no_folder(error) from None
        self._catalog = Catalog.load(settings.home / "providers")
        self._media = MediaStore(
            settings.media_dir,
            min_free_bytes=settings.storage.min_free_mb * 1_000_000,
            max_input_bytes=settings.server.max_upload_mb * 1_000_000,
        )
        await self._media.open()
        elsewhere = settings.local.carried_by == "worker" and self.role is not EngineRole.WORKER
        self._backends = Backends(settings, self._catalog, self._media, local_elsewhere=elsewhere)
        self.weights = Weights(settings, self._catalog.cards, self._would_load)
        self.forecasts = Forecasts(self._catalog, self._backends)
        if not elsewhere:
            self._catalog = await with_measured_times(self._catalog, self._backends, settings.home)
        self._db = await Database.open(settings.database_url)
        try:
            await self._db.write(self._same_folder)
            self.keyring = Keyring(self._db)
            self._admission = Admission(self._db, settings, self._catalog, self._backends, self._media)
            if self.role in {EngineRole.SERVE, EngineRole.WORKER}:
                await self._lead()
        except BaseException:
            await self._db.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop planning, let paid calls get their answer, close."""
        await self._stop_engine()
        await self._backends.aclose()
        await self._db.close()

    # -- admission

    async def submit(
        self, request: VideoRequest, *, idempotency_key: str | None = None, caller: ApiKey | None = None
    ) -> Job:
        """Check, take in the inputs, write the job. Raises InvalidRequest, UnsupportedRequest, BudgetExceeded, ...

        The same idempotency key with the same request answers the first job; with another request: Conflict. `caller`
        is the API key that asks: its project and its budgets hold.
        """
        job = await self._admission.admit(request, idempotency_key, caller)
        if job.deleted:
            raise errors.not_found(job.id)
        return job

    async def plan(self, request: VideoRequest, *, caller: ApiKey | None = None) -> Decision:
        """The same decision without writing anything: the price preview."""
        return await self._admission.preview(request, caller)

    async def finishes(
        self,
        request: VideoRequest,
        *,
        count: int,
        budget_usd: Decimal | None = None,
        caller: ApiKey | None = None,
    ) -> tuple[Finish, ...]:
        """By when so many clips like this could be done, and for how much: the soonest end that the budget buys, then
        later ones that save money; empty where there is none. Nothing is written. Raises InvalidRequest."""
        return await self._admission.finishes(request, count, budget_usd, caller)

    async def take_upload(
        self, data: bytes | Path, *, expect: Literal["image", "video", "audio"] = "image"
    ) -> Asset:
        """Check an uploaded file and keep it; refer to it as `asset:<id>`. Raises InvalidRequest."""
        if isinstance(data, bytes):
            return await self._media.take_bytes(data, expect)
        return await self._media.take_file(data, expect)

    # -- reading

    async def get(self, job_id: str) -> Job:
        """One job whole; raises NotFound."""
        job = await self._db.read(lambda tx: store.get(tx, job_id))
        if job is None or job.deleted:
            raise errors.not_found(job_id)
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
        """A page of jobs; `state` is a word of `Status`, `after` the last id of the page before."""
        if after is not None:
            await self.get(after)

        def read(tx: Tx) -> Page:
            jobs, more = store.page(tx, limit=limit, after=after, order=order, project=project, state=state)
            return Page(tuple(jobs), more)

        return await self._db.read(read)

    async def events(self, job_id: str) -> tuple[Event, ...]:
        """The job's history, oldest first."""
        await self.get(job_id)
        return await self._db.read(lambda tx: store.history(tx, job_id))

    async def content(self, job_id: str, variant: Variant = "video") -> tuple[Path, Asset]:
        """The file of a finished job. Raises NotFound, or Conflict while it is not there yet."""
        return await self.content_of(await self.get(job_id), variant)

    async def content_of(self, job: Job, variant: Variant = "video") -> tuple[Path, Asset]:
        """The same for a job that was read just now."""
        job_id = job.id
        asset = job.poster if variant == "thumbnail" else job.output
        if asset is not None and variant == "preview":
            asset = job.preview
            if asset is None:
                raise errors.NotFound(
                    words(
                        f"Job {job_id} has no preview: ask for one with post gif or webp.",
                        f"ジョブ {job_id} にプレビューはありません。作成するには post に gif か webp を指定します。",
                    ),
                    param="variant",
                )
        if asset is not None and variant == "original" and job.original_id is not None:
            asset = await self._media.get(job.original_id)
        if asset is None:
            if job.status.ended:
                raise errors.NotFound(
                    words(
                        f"Job {job_id} has no clip: it ended as {job.status}.",
                        f"ジョブ {job_id} に動画はありません({job.status})。",
                    )
                )
            raise errors.Conflict(
                words(f"Job {job_id} is not finished yet.", f"ジョブ {job_id} はまだ完了していません。"),
                param="id",
            )
        path = self._media.path(asset)
        if not await asyncio.to_thread(path.is_file):
            raise errors.NotFound(
                words(
                    f"The file of job {job_id} is gone from the media folder.",
                    f"ジョブ {job_id} のファイルがメディアフォルダーにありません。",
                )
            )
        return path, asset

    async def sketch(self, job: Job) -> bytes:
        """A small WebP of a running job's clip as far as it is. Raises NotFound, or Conflict once the job has ended."""
        job_id = job.id
        if job.status.ended:
            raise errors.Conflict(
                words(
                    f"Job {job_id} has ended ({job.status}); a sketch is there only while it is being made.",
                    f"ジョブ {job_id} は終了しています({job.status})。途中の画像は生成中にだけ取得できます。",
                ),
                param="variant",
            )
        found = await self._media.sketches.read(job_id)
        if found is None:
            raise errors.NotFound(
                words(
                    f"Job {job_id} has no sketch (yet): local models make one after the first steps, providers do not.",
                    f"ジョブ {job_id} の途中の画像は(まだ)ありません。ローカルモデルは最初の数ステップの後に作成しますが、"
                    "クラウドのプロバイダーにはありません。",
                ),
                param="variant",
            )
        return found

    async def sketches(self) -> dict[str, int]:
        """The jobs that have a sketch now; another number stands for another picture."""
        return await self._media.sketches.all()

    async def models(
        self, *, task: Task | None = None, aspect_ratio: str | None = None
    ) -> tuple[ModelRow, ...]:
        """Every model of the catalogue, usable or not; with a filter those that can do it, priced for just that."""
        today = datetime.now(UTC).date()
        return report.models(self._catalog, self._backends, today, task=task, aspect_ratio=aspect_ratio)

    async def providers(self) -> tuple[ProviderRow, ...]:
        """Every backend with what keeps it from working."""
        return await self._db.read(lambda tx: report.providers(tx, self._catalog, self._backends))

    async def check(self, name: str) -> Checked:
        """One harmless authenticated call. Raises NotFound for an unknown backend, else whatever the call raises."""
        info = self._catalog.providers.get(name)
        if info is None:
            known = ", ".join(sorted(self._catalog.providers))
            raise errors.NotFound(
                words(
                    f"there is no backend {name!r}. Known: {known}",
                    f"バックエンド {name!r} はありません。使えるもの: {known}",
                )
            )
        if not info.keyless and self._backends.key(info) is None:
            names = " / ".join([*info.key_env, *("+".join(pair) for pair in info.key_pairs)])
            raise errors.AuthenticationFailed(
                words(f"no key: set {names}", f"キーがありません。{names} を設定してください"), backend=name
            )
        backend = self._backends.get(name)
        if not isinstance(backend, Checks):
            return Checked(name, None)
        try:
            async with asyncio.timeout(CHECK_S):
                facts = dict(await backend.check())
        except TimeoutError:
            raise errors.Unavailable(
                words(f"no answer within {CHECK_S:.0f} s", f"{CHECK_S:.0f} 秒以内に応答がありません"),
                backend=name,
            ) from None
        usd = facts.pop("balance_usd", None)
        return Checked(name, True, None if usd is None else Decimal(str(usd)), facts)

    async def check_all(self) -> tuple[Checked, ...]:
        """Every cloud backend that has a key, side by side; what a call raised becomes its `problem`."""

        async def one(info: ProviderInfo) -> Checked:
            ready = info.where is Where.CLOUD and not (
                info.needs_base_url and not self._backends.own_address(info)
            )
            if not ready or (not info.keyless and self._backends.key(info) is None):
                return Checked(info.name, None)
            try:
                return await self.check(info.name)
            except errors.GatewayError as error:
                reached = not isinstance(error, errors.Unavailable | errors.ServerTrouble)
                return Checked(info.name, reached, problem=error.message)

        return tuple(await asyncio.gather(*(one(info) for info in self._catalog.providers.values())))

    async def describe(self, name: str, wire_id: str) -> dict[str, Any]:
        """A model row read from the provider's own schema now. Raises UnsupportedRequest where it publishes none."""
        backend = self._backends.get(name)
        if not isinstance(backend, Describes):
            able = words(
                f"{name} publishes no schema that could be read; write the row by hand (docs/add-a-provider.md)",
                f"{name} は読み取れるスキーマを公開していません。手動で記述してください(docs/add-a-provider.md)",
            )
            raise errors.UnsupportedRequest(able)
        return dict(await backend.describe(wire_id))

    async def _would_load(self, card: ModelCard, folder: Path) -> Words | None:
        backend = self._backends.get(card.backend)
        return await backend.inspect(card, folder) if isinstance(backend, Inspects) else None

    @property
    def problems(self) -> tuple[Words, ...]:
        """Files and rows that the catalogue had to leave out, and how to repair them."""
        return tuple(problem.message for problem in self._catalog.problems)

    async def spend(self) -> SpendReport:
        """This month's money and budgets."""
        return await self._db.read(lambda tx: spending.spend(tx, self.settings, self._catalog))

    async def verify_ledger(self, noted: str | None = None) -> dict[str, Any]:
        """`rows` read, the chain's `head`, and `problems` in words; `noted` is a head that was printed earlier."""
        found = await self._db.read(lambda tx: audit(tx, noted))
        return {"rows": found.rows, "head": found.head, "problems": list(found.problems)}

    async def bookings(self, job_id: str) -> tuple[Booking, ...]:
        """The ledger's rows of one job, oldest first: what was reserved, billed, released, and who said so."""
        await self.get(job_id)
        return await self._db.read(lambda tx: spending.bookings(tx, job_id))

    # -- changing

    async def cancel(self, job_id: str) -> Job:
        """Ask to cancel; the job shows how it ends. A finished job is left as it is."""
        await self.get(job_id)

        def ask(tx: Tx) -> None:
            if store.request_cancel(tx, job_id):
                error = JobError(code="cancelled", message=words("cancelled", "キャンセルされました"))
                idle = store.get(tx, job_id)
                if idle is not None and idle.status is Status.QUEUED:
                    store.move_job(tx, job_id, Status.CANCELLED, error=error.model_dump_json())
                    store.event(tx, job_id, None, "cancelled", {})

        await self._db.write(ask)
        return await self.get(job_id)

    async def delete(self, job_id: str) -> None:
        """Cancel if unfinished, remove its media; the ledger stays. Raises Conflict where it cannot end now."""
        job = await self.get(job_id)
        if not job.status.ended:
            job = await self.cancel(job_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(DELETE_WAIT_S):
                    async for seen in self.watch(job_id):
                        job = seen
        if job.status is Status.UNRESOLVED:
            raise errors.Conflict(
                words(
                    f"Job {job_id} has an unsettled paid call. Settle it first: understudy settle {job_id} --billed USD",
                    f"ジョブ {job_id} には未清算の有料呼び出しがあります。先に understudy settle {job_id} --billed 金額 を"
                    "実行してください。",
                )
            )
        if not job.status.ended:
            raise errors.Conflict(
                words(
                    f"Job {job_id} cannot be cancelled where it runs; delete it once it has ended.",
                    f"ジョブ {job_id} は実行先でキャンセルできません。終了後に削除してください。",
                )
            )
        await retention.forget(self._db, self._media, job_id)

    async def settle(self, job_id: str, billed_usd: Decimal) -> Job:
        """Close an unresolved job with what the provider's own bill says; 0 releases the reservation."""
        if not billed_usd.is_finite() or billed_usd < 0 or billed_usd > 1_000_000:
            raise errors.InvalidRequest(
                words(
                    "The billed sum is an amount in US dollars, 0 or more.",
                    "請求額は 0 以上の米ドルで指定してください。",
                ),
                param="billed",
            )

        def close(tx: Tx) -> None:
            job = store.get(tx, job_id)
            if job is None:
                raise errors.not_found(job_id)
            open_ = [a for a in job.attempts if a.status is AttemptStatus.UNRESOLVED and a.billed_usd is None]
            if not open_:
                raise errors.Conflict(
                    words(
                        f"Job {job_id} has nothing to settle.",
                        f"ジョブ {job_id} に清算するものはありません。",
                    )
                )
            attempt = open_[0]
            entry = ledger.Entry(
                job_id, attempt.n, job.request.project, attempt.backend, attempt.model, job.api_key
            )
            ledger.settle(
                tx,
                entry,
                to_micros(billed_usd),
                "person",
                self.settings.budget.zone,
                note="understudy settle",
            )
            store.move_attempt(
                tx, job_id, attempt.n, AttemptStatus.FAILED, billed=to_micros(billed_usd), bill_basis="person"
            )
            store.event(
                tx, job_id, attempt.n, "settled", {"billed_usd": money(billed_usd), "basis": "person"}
            )
            if job.status is Status.UNRESOLVED and len(open_) == 1:
                store.move_job(tx, job_id, Status.FAILED, error=_settled(billed_usd).model_dump_json())

        await self._db.write(close)
        return await self.get(job_id)

    # -- waiting

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """Yield the job at once and at every change until it has ended.

        With role HELP this also drives the engine whenever no other process does.
        """
        last: Job | None = None
        while True:
            since = self._db.pulse.count
            job = await self.get(job_id)
            if job != last:
                yield job
                last = job
            if job.status.ended:
                return
            if self.role is EngineRole.HELP and self._engine is None:
                await self._try_to_lead()
            self._check_engine()
            await self._db.pulse.wait(since, LOOK_S)

    async def engine_failure(self) -> None:
        """Return never, or raise what ended the engine: `serve` must not live on without it."""
        if self._engine is not None and self._engine.failed is not None:
            await self._engine.failed

    async def has_keys(self) -> bool:
        """Whether there ever was an API key; may be asked before the gateway is open."""
        if self.keyring is not None:
            return await self.keyring.any()
        db = await Database.open(self.settings.database_url)
        try:
            return await Keyring(db).any()
        finally:
            await db.close()

    @property
    def engine_here(self) -> bool:
        """Whether this process carries jobs now."""
        return self._engine is not None

    async def backup(self, file: Path, *, media: bool = False) -> dict[str, Any]:
        """Write both databases (and the media folder) to one archive, while everything runs."""
        return await asyncio.to_thread(backups.write, self.settings, file, media=media)

    @classmethod
    async def restore(cls, settings: Settings, file: Path) -> dict[str, Any]:
        """Fill an empty data folder and database from an archive; refuses to overwrite anything."""
        return await asyncio.to_thread(backups.restore, settings, file)

    # -- the engine in this process

    async def _lead(self) -> None:
        told = False
        while not await self._try_to_lead():
            if not told and self._on_wait is not None:
                self._on_wait(
                    words(
                        "Another process (a running generate or serve) has the engine of this data folder; waiting for it.",
                        "別のプロセス(実行中の generate または serve)がこのデータフォルダーのエンジンを使用中です。終了を待っています。",
                    )
                )
                told = True
            await asyncio.sleep(0.2)

    async def _try_to_lead(self) -> bool:
        """Take the lock and start the engine; False while another process has it."""
        if self._db.file is not None:
            lock = FileLock(f"{self._db.file}.engine.lock", thread_local=False)
            try:
                lock.acquire(blocking=False)
            except LockTimeout:
                return False
            self._lock = lock
        elif self.role is EngineRole.HELP and await self._db.read(
            lambda tx: peers.living(tx, within_us=LIVE_US) > 0
        ):
            return False
        from router.engine import Engine

        engine = Engine(
            self._db,
            self.settings,
            self._catalog,
            self._backends,
            self._media,
            worker=self.role is EngineRole.WORKER,
        )
        try:
            await engine.start()
        except BaseException:
            self._release()
            raise
        self._engine = engine
        return True

    async def _stop_engine(self) -> None:
        if self._engine is not None:
            await self._engine.stop()
            self._engine = None
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _check_engine(self) -> None:
        failed = self._engine.failed if self._engine is not None else None
        if failed is not None and failed.done():
            failed.result()

    def _same_folder(self, tx: Tx) -> None:
        """The media folder and the database belong together; several boxes share both or neither."""
        mine = self._media.identity
        known = get_meta(tx, "media_store")
        if known is None:
            set_meta(tx, "media_store", mine)
        elif known != mine:
            raise errors.ServerTrouble(
                words(
                    f"The media folder {self.settings.media_dir.name!r} in UNDERSTUDY_HOME is not the one this database was "
                    "made with. Mount the right folder, or use another database.",
                    f"UNDERSTUDY_HOME のメディアフォルダー {self.settings.media_dir.name!r} は、このデータベースと対応していません。"
                    "正しいフォルダーをマウントするか、別のデータベースを使用してください。",
                )
            )
        world = get_meta(tx, "money")
        here = "sandbox" if self.settings.sandbox_url else "real"
        if world is not None and world != here:
            raise errors.ServerTrouble(
                words(
                    f"This data folder holds {world} jobs and UNDERSTUDY_SANDBOX_URL makes this {here}. Rehearsal money never "
                    "mixes with real money: use another UNDERSTUDY_HOME.",
                    f"このデータフォルダーには {world} のジョブがありますが、現在の設定は {here} です。リハーサルと本番の費用は混在できません。"
                    "別の UNDERSTUDY_HOME を使用してください。",
                )
            )


def _settled(billed_usd: Decimal) -> JobError:
    usd = money(billed_usd)
    return JobError(
        code="outcome_unknown",
        message=words(
            f"The answer to the paid call was lost; a person settled it at ${usd} by the provider's bill.",
            f"有料の呼び出しの応答が失われ、プロバイダーの請求に基づき ${usd} で清算されました。",
        ),
    )


def _no_folder(error: OSError) -> errors.ServerTrouble:
    why = error.strerror or str(error)
    return errors.ServerTrouble(
        words(
            f"The data folder cannot be made or written ({why}). Set UNDERSTUDY_HOME to a folder you may write to.",
            f"データフォルダーを作成または書き込みできません({why})。UNDERSTUDY_HOME に書き込み可能なフォルダーを指定してください。",
        )
    )
