"""Carries one attempt from `submitting` to its end: submit, wait, fetch, settle. Re-entrant at every state.

The attempts table is the submit ledger (shared/engine.md, section 2): `sending` is committed as the last thing before
the call that spends, the provider's handle right after it. Whoever wakes up with `sending` and no handle does not know
whether it was bought, and never buys it again by itself.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeGuard

from pydantic import JsonValue

from router import facts, ledger, limits, store
from router.backends import Backends
from router.catalog import Catalog
from router.contract import errors
from router.contract.backend import Backend, Completed, Finds, Operation, Pending, commit_sending
from router.contract.card import Asset, LostSubmit, ModelCard, Where
from router.contract.job import Attempt, AttemptStatus, Job, JobError, Status
from router.contract.words import Words, words
from router.db import Database, Tx
from router.ledger import Entry
from router.media import MediaStore
from router.pricing import from_micros, money, to_micros
from router.settings import Settings

log = logging.getLogger("understudy.engine")

POLL_S = 5.0
LOOK_AGAIN_S = (2.0, 5.0, 10.0, 30.0, 60.0)
"""Waits after failed looks; a paid clip is looked for until it is given up, however long an outage takes."""
FETCH_TRIES = 8
INVALID_TRIES = 2
"""A result that came whole and is no video is fetched once more, then the money is better spent elsewhere."""
SEND_AGAIN = 3
"""How often an unanswered call is repeated where the provider answers a repeated key with the first task."""
DISK_WAIT_S = 15.0
RECORD_WAIT_S = 1.0
ACCEPT_WINDOW_S = 20.0
"""How long after a lost answer a provider's list may not yet show what it accepted."""
OUT_S = 600.0
"""A backend whose key or credit was refused rests this long, unless its key changes."""
PROGRESS_STEP = 0.01
MOST_FREE = 50
"""Attempts lost with our own process that a job may have: one that ends the process every time must end itself."""


@dataclass(frozen=True)
class Bill:
    """What an ended attempt costs and who says so."""

    usd: Decimal | None
    basis: str


class Carrier:
    """The part of an engine process that talks to backends."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        catalog: Catalog,
        backends: Backends,
        media: MediaStore,
        *,
        me: str,
        dead: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`me` names this process in the attempts it carries; `dead` are processes whose attempts may be taken."""
        self.db = db
        self.settings = settings
        self.catalog = catalog
        self.backends = backends
        self.media = media
        self.me = me
        self.dead = dead
        self.cancels: frozenset[str] = frozenset()
        self._running: dict[tuple[str, int], asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._buying = 0
        self._bought = asyncio.Event()

    def carries(self, job_id: str, n: int) -> bool:
        """Whether this process has the attempt in its hands now."""
        return (job_id, n) in self._running

    def set_cancels(self, wanted: Iterable[str]) -> None:
        """Jobs that somebody wants cancelled; those in our hands look at once."""
        new = frozenset(wanted)
        for (job_id, _), event in self._running.items():
            if job_id in new and job_id not in self.cancels:
                event.set()
        self.cancels = new

    async def nothing_in_doubt(self, timeout_s: float) -> None:
        """Wait until no call that spends is without its answer: then stopping leaves nothing unresolved."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._buying:
                    self._bought.clear()
                    await self._bought.wait()

    async def carry(self, job_id: str, n: int) -> None:
        """Bring the attempt to its end, or return at once when it ended or another process has it."""
        if self.carries(job_id, n):
            return
        self._running[job_id, n] = woken = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            dead = tuple(self.dead())
            attempt = await self.db.write(lambda tx: store.claim(tx, job_id, n, self.me, dead))
            if attempt is not None:
                await _Carried(self, attempt, woken).go()
        finally:
            del self._running[job_id, n]
            self._tasks.discard(task)

    async def let_go(self) -> None:
        """Stop carrying; every attempt stays where it is for the next engine."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.contextmanager
    def buying(self) -> Iterator[None]:
        """Around a call that may spend."""
        self._buying += 1
        try:
            yield
        finally:
            self._buying -= 1
            self._bought.set()


class _Taken(Exception):
    """Another process moved the attempt on."""


class _Carried:
    """One attempt in our hands."""

    def __init__(self, carrier: Carrier, attempt: Attempt, woken: asyncio.Event) -> None:
        self.c = carrier
        self.attempt = attempt
        self.id = attempt.job_id
        self.n = attempt.n
        self.card: ModelCard | None = carrier.catalog.cards.get(attempt.model)
        self.woken = woken
        self.sent = attempt.status is not AttemptStatus.SUBMITTING
        self.cancel_asked = False
        self.cancel_agreed = False
        self.shown = attempt.progress
        self.last_trouble: str | None = None
        self.in_doubt = False
        self.sent_again = 0

    async def go(self) -> None:
        operation = self.attempt.operation
        with contextlib.suppress(_Taken):
            if operation is None:
                operation = await (self._reconcile() if self.sent else self._submit())
            if operation is not None:
                await self._follow(operation)

    # -- submit

    async def _submit(self) -> Operation | None:
        try:
            backend = self.c.backends.get(self.attempt.backend)
        except errors.GatewayError as error:
            await self._failed(error, accepted=False)
            return None
        return await self._buy(backend)

    async def _buy(self, backend: Backend) -> Operation | None:
        token = commit_sending.set(self._commit_sending)
        try:
            with self.c.buying():
                operation = await backend.submit(self.attempt.resolved, key=self.attempt.id)
                await self._accepted(operation)
            return operation
        except _Taken:
            raise
        except errors.Cancelled as error:
            await self._cancelled(error, accepted=False)
        except errors.GatewayError as error:
            # A refusal of the repeated call says nothing about the first one.
            unknown = isinstance(error, errors.OutcomeUnknown | errors.UnexpectedResponse | errors.Timeout)
            if self.sent and (unknown or self.in_doubt):
                return await self._reconcile(error)
            await self._failed(error, accepted=False)
        except Exception as error:
            log.exception("%s: unforeseen error in submit", self.attempt.id)
            unforeseen = _unforeseen(self.attempt.backend, error)
            if self.sent:
                return await self._reconcile(unforeseen)
            await self._failed(unforeseen, accepted=False)
        finally:
            commit_sending.reset(token)
        return None

    async def _commit_sending(self) -> None:
        """The last thing before the money: from here on only the provider knows."""

        def commit(tx: Tx) -> None:
            job = store.get(tx, self.id)
            if job is None or job.cancel_requested:
                raise errors.Cancelled(words("cancelled before it was sent", "送信前にキャンセルされました"))
            if not store.move_attempt(tx, self.id, self.n, AttemptStatus.SENDING, sent_at=tx.us):
                raise _Taken
            store.event(tx, self.id, self.n, "sending", {})

        if not self.sent:
            await self.c.db.write(commit)
            self.sent = True

    async def _accepted(self, operation: Operation) -> None:
        def commit(tx: Tx) -> None:
            text = operation.model_dump_json()
            if not store.move_attempt(
                tx, self.id, self.n, AttemptStatus.RUNNING, operation=text, accepted_at=tx.us
            ):
                raise _Taken
            limits.answered(tx, self.id, self.n)
            limits.worked(tx, self.attempt.model)
            told = operation.estimated_usd
            store.event(
                tx,
                self.id,
                self.n,
                "accepted",
                {"task": operation.ref, "most_usd": money(told) if told else None},
            )
            self.attempt = store.get_attempt(tx, self.id, self.n) or self.attempt

        while True:
            try:
                return await self.c.db.write(commit)
            except errors.ServerTrouble as error:
                # Bought: the handle exists here alone until there is room to write it down.
                log.error("%s: accepted as %s, not yet recorded: %s", self.attempt.id, operation.ref, error)
                await asyncio.sleep(RECORD_WAIT_S)

    async def _reconcile(self, cause: errors.GatewayError | None = None) -> Operation | None:
        """The call was sent and the answer is lost: do what this backend allows, never buy again by guess."""
        self.in_doubt = True
        policy = self.card.lost_submit if self.card else LostSubmit.HOLD
        try:
            backend = self.c.backends.get(self.attempt.backend)
        except errors.GatewayError as error:
            await self._unresolved(error)
            return None
        if policy is LostSubmit.RESEND and cause is not None:
            # It failed in our own hands: that is not a loss by restart, which the same offer may do again at once.
            await self._failed(cause, accepted=False)
            return None
        if policy is LostSubmit.RESEND:
            lost = errors.OperationLost(
                words(
                    "the work was lost with the process that did it",
                    "処理中のプロセスとともに作業が失われました",
                ),
                backend=self.attempt.backend,
            )
            await self._failed(lost, accepted=False)
            return None
        if policy is LostSubmit.IDEMPOTENT and self.sent_again < SEND_AGAIN:
            if cause is not None:
                await self._sleep(max(cause.retry_after or 0.0, LOOK_AGAIN_S[self.sent_again]))
            self.sent_again += 1
            return await self._buy(backend)
        if policy is LostSubmit.FIND and isinstance(backend, Finds):
            return await self._find(backend)
        await self._unresolved(cause)
        return None

    async def _find(self, backend: Finds) -> Operation | None:
        since = (self.attempt.sent_at or self.attempt.created_at) - timedelta(minutes=1)
        loop = asyncio.get_running_loop()
        until = loop.time() + ACCEPT_WINDOW_S
        while True:
            try:
                found = await backend.find(self.attempt.id, since)
            except errors.GatewayError as error:
                found = None
                await self._trouble(error)
            else:
                if found is not None:
                    await self._accepted(found)
                    return found
                if loop.time() >= until:
                    gone = errors.Unavailable(
                        words("it never arrived there", "リクエストは届いていませんでした"),
                        backend=self.attempt.backend,
                    )
                    await self._failed(gone, accepted=False)
                    return None
            await self._sleep(LOOK_AGAIN_S[0])

    # -- wait and fetch

    async def _follow(self, operation: Operation) -> None:
        failures = fetches = 0
        while True:
            try:
                backend = self.c.backends.get(self.attempt.backend)
                await self._maybe_cancel(backend, operation)
                look = await backend.poll(operation)
            except errors.Cancelled as error:
                await self._cancelled(error, accepted=True)
                return
            except errors.ENDS_ACCEPTED as error:
                if self.cancel_agreed and not isinstance(error, errors.ContentRejected):
                    await self._cancelled(error, accepted=True)
                else:
                    await self._failed(error, accepted=True)
                return
            except errors.GatewayError as error:
                # Accepted is the watershed: a rate limit, an outage, a refused key mean "look again later".
                await self._trouble(error)
                delay = max(error.retry_after or 0.0, LOOK_AGAIN_S[min(failures, len(LOOK_AGAIN_S) - 1)])
                failures += 1
            except Exception as error:
                log.exception("%s: unforeseen error in poll", self.attempt.id)
                await self._trouble(_unforeseen(self.attempt.backend, error))
                delay = LOOK_AGAIN_S[min(failures, len(LOOK_AGAIN_S) - 1)]
                failures += 1
            else:
                failures = 0
                if isinstance(look, Completed):
                    wait = await self._fetch(backend, look, fetches)
                    if wait is None:
                        return
                    fetches += 1
                    delay = wait
                else:
                    await self._pending(look)
                    delay = look.poll_after if look.poll_after is not None else POLL_S
            if await self._too_long(operation):
                return
            await self._sleep(delay)

    async def _pending(self, look: Pending) -> None:
        if look.progress is not None and look.progress >= self.shown + PROGRESS_STEP:
            self.shown = value = look.progress
            await self.c.db.write(lambda tx: store.progress(tx, self.id, self.n, value))

    async def _maybe_cancel(self, backend: Backend, operation: Operation) -> None:
        if self.cancel_asked or not await self._cancel_wanted():
            return
        try:
            self.cancel_agreed = await backend.cancel(operation)
        except errors.GatewayError as error:
            # It did not get through: the look goes on, and the next one asks again.
            await self._trouble(error)
            return
        self.cancel_asked = True
        kind = "cancel_agreed" if self.cancel_agreed else "cancel_refused"
        await self.c.db.write(lambda tx: store.event(tx, self.id, self.n, kind, {}))

    async def _cancel_wanted(self) -> bool:
        return self.id in self.c.cancels

    async def _fetch(self, backend: Backend, look: Completed, tries: int) -> float | None:
        """Bring the clip home; seconds until the next try, None when the attempt has ended."""
        await self.c.db.write(self._fetching)
        tmp = self.c.media.scratch(".mp4")
        try:
            await self.c.media.ensure_room(self.c.settings.storage.min_free_mb * 1_000_000)
            if not look.outputs:
                raise errors.OutputInvalid(
                    words("it finished without a result", "結果なしで終了しました"),
                    backend=self.attempt.backend,
                )
            await backend.fetch(look.outputs[0], tmp)
            clip = await self.c.media.adopt_video(tmp)
            poster = await self.c.media.poster(clip)
        except errors.StorageFull as error:
            # Paid for: it waits for room, and is not failed.
            await self._trouble(error)
            return DISK_WAIT_S
        except errors.GatewayError as error:
            await self._trouble(error)
            most = INVALID_TRIES if isinstance(error, errors.OutputInvalid) else FETCH_TRIES
            if tries + 1 < most:
                return LOOK_AGAIN_S[min(tries, len(LOOK_AGAIN_S) - 1)]
            bad = errors.OutputInvalid(
                error.message,
                backend=self.attempt.backend,
                detail=error.code,
            )
            # It was made and is charged as a success: what came here is of no use.
            await self._failed(bad, accepted=True, bill=self._price_of(look))
            return None
        finally:
            await asyncio.to_thread(tmp.unlink, missing_ok=True)
        await self._completed(look, clip, poster)
        return None

    def _fetching(self, tx: Tx) -> None:
        if store.move_attempt(tx, self.id, self.n, AttemptStatus.FETCHING):
            store.event(tx, self.id, self.n, "fetching", {})

    async def _too_long(self, operation: Operation) -> bool:
        attempt, now = await self.c.db.read(lambda tx: (store.get_attempt(tx, self.id, self.n), tx.now))
        if attempt is None or attempt.status.ended:
            raise _Taken
        accepted = attempt.accepted_at or attempt.created_at
        longest = self.c.settings.router.give_up_s or (self.card.give_up_s if self.card else 3600.0)
        if attempt.status is AttemptStatus.FETCHING or (now - accepted).total_seconds() < longest:
            return False
        timeout = errors.Timeout(
            words(
                f"not done after {longest:.0f} s, the longest this model takes",
                f"このモデルの最長時間 {longest:.0f} 秒を過ぎても完了しませんでした",
            ),
            backend=self.attempt.backend,
        )
        agreed = False
        with contextlib.suppress(errors.GatewayError):
            agreed = await self.c.backends.get(self.attempt.backend).cancel(operation)
        if agreed:
            await self._failed(timeout, accepted=True)
        else:
            await self._unresolved(timeout)
        return True

    # -- ends, each in one transaction

    async def _completed(self, look: Completed, clip: Asset, poster: Asset) -> None:
        bill = self._price_of(look)
        resolved = self.attempt.resolved

        def commit(tx: Tx) -> None:
            if not store.move_attempt(
                tx,
                self.id,
                self.n,
                AttemptStatus.COMPLETED,
                progress=1.0,
                billed=_micros(bill.usd),
                bill_basis=bill.basis,
            ):
                raise _Taken
            overrun = self._settle(tx, bill)
            told = list(resolved.warnings) + list(
                self.attempt.operation.warnings if self.attempt.operation else ()
            )
            if overrun:
                told.append(_overrun_words(self.attempt.backend, overrun))
            job = store.get(tx, self.id)
            if job is not None and job.cancel_requested:
                told.append(
                    words(
                        "The cancel came too late or is not possible there: the clip was made and paid for.",
                        "キャンセルが間に合わなかったか、対応していないため、動画は生成され課金されました。",
                    )
                )
            accepted = self.attempt.accepted_at or self.attempt.created_at
            limits.worked(tx, self.attempt.model, max((tx.now - accepted).total_seconds(), 0.0))
            store.move_job(
                tx,
                self.id,
                Status.COMPLETED,
                progress=1.0,
                output=clip.model_dump_json(),
                poster=poster.model_dump_json(),
                details=json.dumps(look.details, ensure_ascii=False),
                warnings="[" + ",".join(w.model_dump_json() for w in told) + "]",
                error=None,
            )
            store.event(
                tx, self.id, self.n, "completed", {"billed_usd": money(bill.usd), "basis": bill.basis}
            )

        await self.c.db.write(commit)

    async def _failed(self, error: errors.GatewayError, *, accepted: bool, bill: Bill | None = None) -> None:
        bill = bill or self._failure_bill(error, accepted)

        def commit(tx: Tx) -> None:
            job = store.get(tx, self.id)
            assert job is not None
            if not store.move_attempt(
                tx,
                self.id,
                self.n,
                AttemptStatus.FAILED,
                error=_job_error(error),
                billed=_micros(bill.usd),
                bill_basis=bill.basis,
            ):
                raise _Taken
            overrun = self._settle(tx, bill)
            limits.answered(tx, self.id, self.n)
            self._learn(tx, error)
            store.event(
                tx,
                self.id,
                self.n,
                "failed",
                {
                    "code": error.code,
                    "message": error.message.en,
                    "accepted": accepted,
                    "billed_usd": money(bill.usd),
                    "basis": bill.basis,
                    "overrun_usd": money(from_micros(overrun)) if overrun else None,
                    "detail": error.detail,
                },
            )
            to = self._after(error, job)
            ended: dict[str, Any] = {"error": _job_error(error)} if to is not Status.QUEUED else {}
            store.move_job(tx, self.id, to, **ended)

        await self.c.db.write(commit)

    def _after(self, error: errors.GatewayError, job: Job) -> Status:
        """Where the job goes when this attempt failed."""
        if job.cancel_requested:
            return Status.CANCELLED
        # A backend that this installation cannot load is no fault of the request: another may do it.
        stops = error.next_step is errors.NextStep.STOP and not isinstance(error, errors.ServerTrouble)
        if isinstance(error, errors.ContentRejected):
            stops = not job.request.preferences.retry_refused
        tries = _tries(job.attempts, self.c.catalog)
        return Status.FAILED if stops or tries >= self.c.settings.router.max_attempts else Status.QUEUED

    async def _cancelled(self, error: errors.GatewayError, *, accepted: bool) -> None:
        bill = self._failure_bill(error, accepted) if accepted else Bill(Decimal(0), "none")
        text = errors.Cancelled(words("cancelled", "キャンセルされました"))

        def commit(tx: Tx) -> None:
            if not store.move_attempt(
                tx,
                self.id,
                self.n,
                AttemptStatus.CANCELLED,
                error=_job_error(text),
                billed=_micros(bill.usd),
                bill_basis=bill.basis,
            ):
                raise _Taken
            self._settle(tx, bill)
            limits.answered(tx, self.id, self.n)
            limits.probe_over(tx, self.attempt.model, self.id)
            store.event(
                tx, self.id, self.n, "cancelled", {"billed_usd": money(bill.usd), "basis": bill.basis}
            )
            job = store.get(tx, self.id)
            # A provider may end a task as cancelled although nobody here asked for it.
            if job is not None and job.cancel_requested:
                store.move_job(tx, self.id, Status.CANCELLED, error=_job_error(text))
            else:
                store.move_job(tx, self.id, Status.QUEUED)

        await self.c.db.write(commit)

    async def _unresolved(self, error: errors.GatewayError | None) -> None:
        reserved = money(self.attempt.reserved_usd)
        text = errors.OutcomeUnknown(
            words(
                f"The answer to the paid call was lost: it may run and may be billed. ${reserved} stay reserved. Look at "
                f"the provider's bill, then run: understudy settle {self.id} --billed USD   (or --nothing)",
                f"有料の呼び出しの応答が失われました。実行され課金されている可能性があります。${reserved} は確保したままです。"
                f"プロバイダーの請求を確認し、understudy settle {self.id} --billed 金額(または --nothing)を実行してください。",
            ),
            backend=self.attempt.backend,
            detail=error.message.en if error else None,
        )

        def commit(tx: Tx) -> None:
            if not store.move_attempt(tx, self.id, self.n, AttemptStatus.UNRESOLVED, error=_job_error(text)):
                raise _Taken
            limits.answered(tx, self.id, self.n)
            self._learn(tx, error or text)
            store.event(tx, self.id, self.n, "unresolved", {"reserved_usd": reserved, "detail": text.detail})
            job = store.get(tx, self.id)
            if job is not None and job.request.preferences.allow_duplicate_spend:
                store.move_job(tx, self.id, Status.QUEUED)
            else:
                store.move_job(tx, self.id, Status.UNRESOLVED, error=_job_error(text))

        await self.c.db.write(commit)

    # -- money and what is learned

    def _price_of(self, look: Completed) -> Bill:
        if _is_amount(look.billed_usd):
            free = self.card is not None and self.card.where is Where.HOUSE and not look.billed_usd
            return Bill(look.billed_usd, "free" if free else "provider")
        return self._table_price()

    def _table_price(self) -> Bill:
        """Our own table's price; unknown stays unknown and is never zero."""
        usd = self.attempt.estimate_usd
        return Bill(usd, "table" if usd is not None else "unknown")

    def _failure_bill(self, error: errors.GatewayError, accepted: bool) -> Bill:
        """Released only where it is proved unspent: refused at the door, told by the provider, or documented."""
        if _is_amount(error.billed_usd):
            return Bill(error.billed_usd, "provider")
        if not accepted:
            return Bill(Decimal(0), "none")
        if self.card is not None and self.card.failure_billed == "never":
            return Bill(Decimal(0), "documented")
        return self._table_price()

    def _settle(self, tx: Tx, bill: Bill) -> int:
        if bill.usd is None:
            return 0
        request = store.get(tx, self.id)
        project = request.request.project if request else None
        entry = Entry(self.id, self.n, project, self.attempt.backend, self.attempt.model)
        zone = self.c.settings.budget.zone
        overrun = ledger.settle(tx, entry, to_micros(bill.usd), bill.basis, zone)
        if self.attempt.estimate_usd is None:
            # Nothing was promised for a price nobody knew: the bill is booked, and is no overrun of a table.
            return 0
        if overrun and bill.basis == "provider" and self.card is not None:
            limits.stop(tx, self.card.id, facts.price_mark(self.card))
            store.event(tx, self.id, self.n, "overrun", {"above_table_usd": money(from_micros(overrun))})
        return overrun

    def _learn(self, tx: Tx, error: errors.GatewayError) -> None:
        """What this error says about the offer or its whole backend."""
        model, backend = self.attempt.model, self.attempt.backend
        limits.probe_over(tx, model, self.id)
        match error:
            case errors.RateLimited():
                seconds = limits.REST_DEFAULT_S if error.retry_after is None else error.retry_after
                limits.rest(tx, model, seconds, error.code, error.message)
            case errors.AuthenticationFailed() | errors.QuotaExhausted():
                mark = self.c.backends.key_mark(backend)
                limits.rest(tx, backend, error.retry_after or OUT_S, error.code, error.message, mark)
            case errors.Unavailable() | errors.Timeout() | errors.OutcomeUnknown():
                limits.failed(tx, model, error.message)
            case _:
                return

    async def _trouble(self, error: errors.GatewayError) -> None:
        """Write down a failed look once, not every time it repeats."""
        if error.code == self.last_trouble:
            return
        self.last_trouble = error.code
        data: dict[str, JsonValue] = {"code": error.code, "message": error.message.en, "detail": error.detail}
        await self.c.db.write(lambda tx: store.event(tx, self.id, self.n, "trouble", data))

    async def _sleep(self, seconds: float) -> None:
        """Until the time is over or somebody wants the job cancelled."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.woken.wait(), max(seconds, 0.02))
        self.woken.clear()


def _tries(attempts: Iterable[Attempt], catalog: Catalog) -> int:
    """Attempts that use up the job's tries: accepted somewhere, and not lost with our own process.

    A refusal at the door costs nothing: the next offer gets its chance, our own device last of all.
    """
    accepted = [a for a in attempts if a.accepted_at is not None]
    lost = sum(
        1
        for a in accepted
        if a.error is not None and facts.free_retry(catalog.cards.get(a.model), a.error.code)
    )
    return len(accepted) - min(lost, MOST_FREE)


def _is_amount(usd: Decimal | None) -> TypeGuard[Decimal]:
    """What a provider says it charged is believed only where it can be money."""
    return usd is not None and usd.is_finite() and usd >= 0


def _micros(usd: Decimal | None) -> int | None:
    """As the ledger books it."""
    return None if usd is None else to_micros(usd)


def _unforeseen(backend: str, error: Exception) -> errors.GatewayError:
    kind = type(error).__name__
    return errors.BackendError(
        words(
            f"unforeseen error ({kind}); the log has the details",
            f"予期しないエラー({kind})。詳細はログにあります",
        ),
        backend=backend,
    )


def _job_error(error: errors.GatewayError) -> str:
    return JobError(
        code=error.code, message=error.message, backend=error.backend, detail=error.detail
    ).model_dump_json()


def _overrun_words(backend: str, overrun: int) -> Words:
    usd = money(from_micros(overrun))
    return words(
        f"{backend} billed ${usd} more than its price table says; it is booked in full and the offer is stopped.",
        f"{backend} の請求が価格表より ${usd} 高くなりました。全額を計上し、このモデルは停止しました。",
    )
