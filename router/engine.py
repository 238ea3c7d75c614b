"""The engine process: DBOS carries attempts, one leader plans waiting jobs, a sweep finds what a crash left.

DBOS executes; our own tables are the truth. A lost or repeated workflow is harmless: the attempts table decides.
"""

import asyncio
import contextlib
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

from router import facts, ledger, limits, policy, purses, retention, store
from router.arrivals import Arrivals
from router.backends import Backends
from router.carrier import Carrier, Parts, end
from router.catalog import Catalog
from router.contract import errors
from router.contract.card import Where
from router.contract.job import Job, JobError, Status
from router.contract.words import Words, words
from router.db import Database, Tx
from router.media import MediaStore
from router.peers import Fenced, Peers, forget_dead
from router.policy import Choice
from router.pricing import to_micros
from router.settings import Settings
from router.store import Waiting
from router.waitlist import Waitlist

log = logging.getLogger("understudy.engine")

VERSION = "wf1"
"""Raise only when a workflow in flight could not go on with the new code (shared/engine.md, trap 2)."""
PACE, PACE_OF_MANY = 4.0, 19.0
"""Rest after a planning pass, in lengths of that pass: few waiting jobs want to start at once, many wait anyhow."""
MANY = 50
PACE_MAX_S = 1.0
CLOCK_BACK = timedelta(seconds=2)
TICK_S = 20.0
SWEEP_S = 10.0
BEAT_S = 2.0
LEAD_S = 1.0
RETAIN_S = 3600.0
TOGETHER = 500
"""Most jobs planned in one pass."""
CLOUD, GPU = "cloud", "gpu_local"
_PLACES = {CLOUD: 1000, GPU: facts.LOCAL_PLACES}
"""DBOS only dispatches; how much starts is the planner's decision."""
_POLL_S = {False: 0.1, True: 2.0}
"""On SQLite attempts start without a queue; only what an earlier version left in one is found there."""

_carrier: Carrier | None = None


@DBOS.step(name="carry")
async def carry(job_id: str, n: int) -> None:
    """One durable step: the attempts table keeps the checkpoints that matter (shared/engine.md, trap 5)."""
    assert _carrier is not None
    await _carrier.carry(job_id, n)


@DBOS.workflow(name="attempt", max_recovery_attempts=1_000_000)
async def attempt(job_id: str, n: int) -> None:
    """Workflow of one attempt, id `<job>:a<n>`."""
    await carry(job_id, n)


@contextlib.contextmanager
def _survives(what: str) -> Iterator[None]:
    """A full disk or a database that went away is no reason to end: nothing is lost, the loop looks again."""
    try:
        yield
    except Fenced:
        raise
    except errors.ServerTrouble as error:
        log.error("%s waits: %s", what, error)


@dataclass(frozen=True)
class _Look:
    """What one look at the database found; `facts` only when there is something to plan."""

    cancels: set[str]
    newest: int
    wait_s: float
    waiting: Sequence[Waiting] = ()
    running: Sequence[Waiting] = ()
    """Running jobs of which a second copy may be worth its price."""
    facts: policy.Facts | None = None
    held: purses.Held = field(default_factory=dict)
    """What the API keys of the waiting jobs still allow."""


class Engine:
    """At most one per process: DBOS is a singleton."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        catalog: Catalog,
        backends: Backends,
        media: MediaStore,
        *,
        worker: bool = False,
    ) -> None:
        """Nothing runs before `start`. A `worker` carries local jobs and plans nothing."""
        self._db = db
        self._worker = worker
        here = settings.local.carried_by == "here"
        self._queues = [GPU] if worker else [CLOUD, GPU] if here else [CLOUD]
        self._settings = settings
        self._catalog = catalog
        self._backends = backends
        self._peers = Peers(db, worker=worker)
        parts = Parts(db, settings, catalog, backends, media, self._peers.me, lambda: self._peers.dead)
        self.carrier = Carrier(parts)
        self._media = media
        self._tasks: list[asyncio.Task[None]] = []
        self._stray: set[str] = set()
        self._planned = (-1, datetime.now(UTC))
        """The newest event of the last plan, and when to plan again without one."""
        self._crowd = 0
        """Jobs that the last pass planned."""
        self._arrivals = Arrivals()
        self._waitlist = Waitlist()
        self._latest = datetime.fromtimestamp(0, UTC)
        """The latest time any pass saw."""
        self.failed: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Recover what was in flight, then plan and carry. The caller holds the lock file on SQLite."""
        global _carrier
        if _carrier is not None:
            raise RuntimeError("an engine already runs in this process")
        _carrier = self.carrier
        self.failed = asyncio.get_running_loop().create_future()
        try:
            if not self._db.sqlite:
                await self._peers.beat()
            await asyncio.to_thread(self._configure)
            DBOS.listen_queues(self._queues)
            DBOS.launch()
            for name, places in _PLACES.items():
                await DBOS.register_queue_async(
                    name, worker_concurrency=places, polling_interval_sec=_POLL_S[self._db.sqlite]
                )
            await self._sweep()
        except BaseException:
            _carrier = None
            raise
        loops = [self._plan_loop, self._sweep_loop, self._retain_loop]
        if not self._db.sqlite:
            loops.append(self._beat_loop)
            if not self._worker:
                loops.append(self._lead_loop)
        self._tasks = [asyncio.create_task(self._guard(loop()), name=loop.__name__) for loop in loops]

    async def stop(self) -> None:
        """Plan nothing more, let calls that spend get their answers, then leave; the next engine goes on."""
        global _carrier
        await end(self._tasks)
        await self.carrier.nothing_in_doubt(60)
        # Workflows in flight stay PENDING: they are durable and the next engine carries them on.
        await self.carrier.let_go()
        await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=5)
        # DBOS made its own thread pool the loop's default and has just closed it.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="understudy"))
        _carrier = None
        await self._peers.leave()

    def _configure(self) -> None:
        theirs = logging.getLogger("dbos")
        theirs.setLevel(logging.ERROR)
        # Its own handler keeps the stderr of the moment it was imported; the root's handler is the program's.
        theirs.handlers.clear()
        theirs.propagate = True
        config: dict[str, object] = {
            "name": "understudy",
            "executor_id": self._peers.me,
            "application_version": VERSION,
            "log_level": "ERROR",
            "console_log_level": "ERROR",
        }
        if self._db.file is not None:
            file = engine_file(self._db.file)
            prepare_engine_file(file)
            config |= {"system_database_url": f"sqlite:///{file}", "sys_db_pool_size": 1}
        else:
            config |= {"system_database_url": self._db.url}
        DBOS(config=config)  # type: ignore[arg-type]

    async def _guard(self, loop: Coroutine[Any, Any, None]) -> None:
        try:
            await loop
        except Exception as error:
            log.exception("an engine loop ended")
            if self.failed is not None and not self.failed.done():
                self.failed.set_exception(error)

    # -- planning

    async def _plan_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            seen, began = self._db.pulse.count, loop.time()
            try:
                wait = await self._plan_once()
            except errors.ServerTrouble as error:
                # A full disk or a database that went away: nothing is lost, look again.
                log.error("planning waits: %s", error)
                wait = 2.0
            # Every commit wakes the planner; under a burst it may take a part of the time, not all of it.
            pace = PACE if self._crowd <= MANY else PACE_OF_MANY
            await asyncio.sleep(min(pace * (loop.time() - began), PACE_MAX_S))
            await self._db.pulse.wait(seen, wait)

    async def _plan_once(self) -> float:
        """Plan all waiting jobs if anything happened that could matter; seconds until the next look."""
        look = await self._db.read(self._look)
        self.carrier.set_cancels(look.cancels)
        self._crowd = len(look.waiting)
        if look.facts is None:
            return look.wait_s
        await self._mind_the_clock(look.facts.now)
        for job in [w.job for w in look.waiting if w.job.id in look.cancels]:
            await self._db.write(partial(_cancel_waiting, job=job))
        jobs = {w.job.id: w for w in look.waiting if w.job.id not in look.cancels}
        asks = [
            facts.ask(w.job, w.inputs, self._catalog, look.held.get(w.job.api_key, ())) for w in jobs.values()
        ]
        choices = await self._choices(look.facts, asks)
        told = [(jobs[i].job, _told(jobs[i].job, choice, look.held)) for i, choice in choices.items()]
        results = await asyncio.gather(
            *(self._apply(job, choice) for job, choice in told if _acts(job, choice))
        )
        await self._explain((job, choice.decision.reason) for job, choice in told if not _acts(job, choice))
        for job_id, n, where in (s for s in results if s is not None):
            await self._hand_over(job_id, n, where)
        await self._copy(look.facts, look.running, look.held)
        wakes = [c.wake_at for c in choices.values() if c.wake_at is not None]
        wait_s = TICK_S
        if wakes:
            wait_s = min(max((min(wakes) - look.facts.now).total_seconds(), 0.05), TICK_S)
        self._planned = (look.newest, look.facts.now + timedelta(seconds=wait_s))
        return wait_s

    async def _mind_the_clock(self, now: datetime) -> None:
        """A clock that jumped back would leave starts and rests in the future, where they wait for it to catch up."""
        if now < self._latest - CLOCK_BACK:
            healed = await self._db.write(limits.heal_clock)
            log.warning(
                "the clock jumped back by %s; %d counted starts and rests were moved to now",
                self._latest - now,
                healed,
            )
            self._latest = now
        self._latest = max(self._latest, now)

    def _look(self, tx: Tx) -> "_Look":
        """Progress is written often and changes no decision: plan only after an event, or when it is time."""
        cancels = store.cancel_wanted(tx)
        newest = store.newest_event(tx)
        planned, until = self._planned
        if not self._peers.leads:
            return _Look(cancels, newest, TICK_S)
        if newest == planned and tx.now < until:
            return _Look(cancels, newest, (until - tx.now).total_seconds())
        waiting = self._waitlist.read(tx, newest, TOGETHER)
        running = self._copyable(tx)
        if not waiting and not running:
            self._planned = (newest, tx.now + timedelta(seconds=TICK_S))
            return _Look(cancels, newest, TICK_S)
        self._arrivals.read(tx)
        recent = self._arrivals.of(tx.now)
        snapshot = facts.take(tx, self._settings, self._catalog, self._backends, recent)
        names = {w.job.api_key for w in (*waiting, *running)}
        held = {name: purses.held(tx, self._settings, name) for name in names}
        return _Look(cancels, newest, TICK_S, waiting, running, snapshot, held)

    def _copyable(self, tx: Tx) -> list[Waiting]:
        found = store.load_waiting(tx, store.running_to_a_deadline(tx))
        return [w for w in found if w.job.request.preferences.allow_duplicate_spend and store.copyable(w.job)]

    async def _copy(self, snapshot: policy.Facts, jobs: Sequence[Waiting], held: purses.Held) -> None:
        """Send a second copy of each running job that allows it, where it is worth its price."""
        running = {w.job.id: self._running(w, held) for w in jobs}
        if not running:
            return
        found = await asyncio.to_thread(policy.hedges, snapshot, list(running.values()))
        by_id = {w.job.id: w.job for w in jobs}
        for hedge in found:
            choice = policy.copy(snapshot, running[hedge.job], hedge)
            if choice is not None:
                begun = await self._begin(by_id[hedge.job], choice, store.begin_copy)
                if begun is not None:
                    await self._hand_over(*begun)

    def _running(self, waiting: Waiting, held: purses.Held) -> policy.Running:
        job, attempt = waiting.job, waiting.job.attempts[-1]
        asked = facts.ask(job, waiting.inputs, self._catalog, held.get(job.api_key, ()))
        return policy.Running(asked, attempt.model, attempt.accepted_at or attempt.created_at)

    async def _choices(self, snapshot: policy.Facts, asks: list[policy.Ask]) -> dict[str, Choice]:
        """One pass in a thread; a job that breaks the pass ends alone, and is not tried for ever."""
        try:
            return await asyncio.to_thread(policy.plan, snapshot, asks)
        except Exception:
            log.exception("a plan of %d jobs failed; planning them one by one", len(asks))
        choices: dict[str, Choice] = {}
        for ask in asks:
            try:
                choices |= policy.plan(snapshot, [ask])
            except Exception as error:
                log.exception("job %s cannot be planned", ask.id)
                await self._db.write(partial(_broken, job_id=ask.id, kind=type(error).__name__))
        return choices

    async def _apply(self, job: Job, choice: Choice) -> tuple[str, int, Where] | None:
        if choice.resolved is not None:
            return await self._begin(job, choice)
        if choice.hopeless:
            await self._db.write(lambda tx: _give_up(tx, job, choice))
        elif choice.wake_at is not None and _out_of_money(job, choice):
            await self._db.write(lambda tx: _give_up(tx, job, choice))
        return None

    async def _explain(self, told: Iterable[tuple[Job, Words]]) -> None:
        """Write down what is waited for where that is new: most of a long queue waits for one thing."""
        news: defaultdict[Words, list[str]] = defaultdict(list)
        for job, reason in told:
            if job.reason != reason:
                news[reason].append(job.id)
        for reason, ids in news.items():
            await self._db.write(partial(store.explain, ids=ids, reason=reason), matters=False)
            self._waitlist.told(ids, reason)

    async def _begin(
        self, job: Job, choice: Choice, start: Callable[..., int | None] = store.begin_attempt
    ) -> tuple[str, int, Where] | None:
        """One transaction: the hit, the reservation, the attempt. None when something changed meanwhile."""
        resolved, reserve = choice.resolved, choice.reserve
        assert resolved is not None
        card = self._catalog.cards[resolved.model]

        def begin(tx: Tx) -> int | None:
            if facts.start_blocked(tx, self._catalog, card):
                return None
            pace = purses.pace(tx, self._settings) if reserve else None
            if pace is not None and reserve > pace.left(tx.now):
                return None
            n = start(tx, job, resolved, choice.decision, reserve)
            if n is None:
                return None
            entry = ledger.Entry(job.id, n, job.request.project, card.backend, card.id, job.api_key)
            caps = facts.caps(tx, self._settings, job)
            ledger.reserve(tx, entry, reserve, caps, self._settings.budget.zone)
            limits.take(tx, (card.id, card.backend), job.id, n)
            learned = limits.rests(tx).get(card.id)
            if learned is not None and learned.half_open:
                limits.probe(tx, card.id, job.id)
            return n

        try:
            n = await self._db.write(begin)
        except errors.BudgetExceeded:
            return None
        return (job.id, n, card.where) if n is not None else None

    async def _hand_over(self, job_id: str, n: int, where: Where, again: str = "") -> None:
        with SetWorkflowID(f"{job_id}:a{n}{again}"):
            if self._db.sqlite:
                # One engine: no other process could take it from a queue, so it need not wait there to be found.
                await DBOS.start_workflow_async(attempt, job_id, n)
                return
            queue = await DBOS.retrieve_queue_async(GPU if where is Where.HOUSE else CLOUD)
            assert queue is not None
            with SetEnqueueOptions(priority=1):
                await queue.enqueue_async(attempt, job_id, n)

    # -- recovery

    async def _sweep_loop(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            with _survives("looking for open attempts"):
                await self._sweep()

    async def _sweep(self) -> None:
        """Every open attempt must be in somebody's hands: enqueue what a crash left between the two databases."""
        open_ = await self._db.read(store.open_attempts)
        mine = [(j, n, b) for j, n, b in open_ if not self.carrier.carries(j, n)]
        stray: set[str] = set()
        for start in range(0, len(mine), 200):
            part = mine[start : start + 200]
            ids = [f"{j}:a{n}" for j, n, _ in part]
            known = {
                w.workflow_id: w
                for w in await DBOS.list_workflows_async(
                    workflow_ids=ids, load_input=False, load_output=False
                )
            }
            for job_id, n, backend in part:
                found = known.get(f"{job_id}:a{n}")
                info = self._catalog.providers.get(backend)
                where = info.where if info else Where.CLOUD
                if found is None:
                    await self._hand_over(job_id, n, where)
                elif found.status not in {"PENDING", "ENQUEUED", "DELAYED"}:
                    await self._hand_over(job_id, n, where, again=f":r{secrets.token_hex(3)}")
                elif found.status == "PENDING" and found.executor_id in self._peers.dead:
                    queue = GPU if where is Where.HOUSE else CLOUD
                    await asyncio.to_thread(DBOS.resume_workflows, [found.workflow_id], queue_name=queue)
                elif found.status == "PENDING" and found.executor_id == self._peers.me:
                    # DBOS believes that we carry it and we do not: give it one sweep's time, then start it anew.
                    if found.workflow_id in self._stray:
                        await self._hand_over(job_id, n, where, again=f":r{secrets.token_hex(3)}")
                    else:
                        stray.add(found.workflow_id)
        self._stray = stray

    # -- several processes on PostgreSQL

    async def _beat_loop(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            with _survives("the heartbeat"):
                if await self._peers.beat():
                    await self._sweep()

    async def _lead_loop(self) -> None:
        while True:
            await self._peers.try_to_lead()
            await asyncio.sleep(LEAD_S)

    # -- retention

    async def _retain_loop(self) -> None:
        while True:
            with _survives("cleaning up"):
                await self._retain()
            await asyncio.sleep(RETAIN_S)

    async def _retain(self) -> None:
        await self._db.write(limits.forget_old)
        await self._db.write(forget_dead)
        keep = self._settings.storage.keep_days
        if keep is not None and self._peers.leads:
            before = datetime.now(UTC) - timedelta(days=keep)
            while old := await self._db.read(lambda tx: store.ended_before(tx, before, 200)):
                for job_id in old:
                    await retention.forget(self._db, self._media, job_id, history=True)
        day_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        done = await DBOS.list_workflows_async(
            status=["SUCCESS", "ERROR", "CANCELLED"],
            end_time=day_ago,
            limit=1000,
            load_input=False,
            load_output=False,
        )
        if done:
            await DBOS.delete_workflows_async([w.workflow_id for w in done])


def engine_file(ours: Path) -> Path:
    """DBOS's own SQLite file, beside ours."""
    return ours.with_name("engine.sqlite")


def prepare_engine_file(file: Path) -> None:
    """DBOS does not set WAL by itself; once set, it stays with the file (shared/engine.md, trap 3)."""
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA journal_mode=WAL")
    engine.dispose()


def _cancel_waiting(tx: Tx, job: Job) -> None:
    error = JobError(code="cancelled", message=words("cancelled", "キャンセルされました"))
    if store.move_job(tx, job.id, Status.CANCELLED, error=error.model_dump_json()):
        store.event(tx, job.id, None, "cancelled", {})


def _give_up(tx: Tx, job: Job, choice: Choice) -> None:
    """No offer is left: the last attempt's error says most, else the decision's reason."""
    last = job.attempts[-1].error if job.attempts else None
    code = "budget_exceeded" if _about_money(choice) else "unsupported_request"
    if last is not None:
        text = words(
            f"{last.message.en.rstrip('.')}; then {choice.decision.reason.en}",
            f"{last.message.ja.rstrip('。')}。その後: {choice.decision.reason.ja}",
        )
        error = JobError(code=last.code, message=text, backend=last.backend, detail=last.detail)
    else:
        error = JobError(code=code, message=choice.decision.reason)
    if store.move_job(
        tx,
        job.id,
        Status.FAILED,
        error=error.model_dump_json(),
        reason=choice.decision.reason.model_dump_json(),
    ):
        store.event(tx, job.id, None, "failed", {"code": error.code, "message": error.message.en})


def _about_money(choice: Choice) -> bool:
    return any(r.code in policy.MONEY_CODES for r in choice.decision.rejected)


def _broken(tx: Tx, *, job_id: str, kind: str) -> None:
    error = JobError(
        code="internal_error",
        message=words(
            f"This job could not be planned ({kind}); the server's log has the details.",
            f"このジョブの計画中にエラーが発生しました({kind})。詳細はサーバーのログにあります。",
        ),
    )
    if store.move_job(tx, job_id, Status.FAILED, error=error.model_dump_json()):
        store.event(tx, job_id, None, "failed", {"code": error.code, "message": error.message.en})


def _out_of_money(job: Job, choice: Choice) -> bool:
    """Waits for money alone, and its deadline has passed."""
    deadline = job.request.preferences.deadline
    if deadline is None or deadline > choice.decision.at:
        return False
    waits = [r for r in choice.decision.rejected if r.ready_at is not None]
    return bool(waits) and all(r.code == "budget" for r in waits)


def _told(job: Job, choice: Choice, held: purses.Held) -> Choice:
    if not (mine := held.get(job.api_key, ())):
        return choice
    return purses.told(choice, job.request, to_micros(job.billed_usd + job.reserved_usd), mine)


def _acts(job: Job, choice: Choice) -> bool:
    """Whether the job starts or ends by this choice; all others wait on."""
    return choice.resolved is not None or choice.hopeless or _out_of_money(job, choice)
