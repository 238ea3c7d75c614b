"""Carries one attempt from `submitting` to its end: submit, wait, fetch, settle. Re-entrant at every state.

The attempts table is the submit ledger (shared/engine.md, section 2): `sending` is committed as the last thing before
the call that spends, the provider's handle right after it. Whoever wakes up with `sending` and no handle does not know
whether it was bought, and never buys it again by itself.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from pydantic import JsonValue

from router import limits, store
from router.carrier.ends import QUICKER, Ends, Taken
from router.carrier.parts import Parts
from router.carrier.post import Finished, finish
from router.contract import errors
from router.contract.backend import (
    Backend,
    Completed,
    Finds,
    Operation,
    Pending,
    commit_sending,
    told_to_pause,
)
from router.contract.card import Asset, LostSubmit
from router.contract.job import Attempt, AttemptStatus, Status
from router.contract.request import Task
from router.contract.words import words
from router.db import Tx
from router.pricing import money

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
PROGRESS_STEP = 0.01
WINDOW_FULL = words(
    "its rate headers say that the window is full", "レート制限のヘッダーによると、枠が埋まっています"
)


@dataclass(frozen=True)
class Grip:
    """The process's side of an attempt in its hands."""

    woken: asyncio.Event
    """Set when somebody wants this job cancelled."""
    cancel_wanted: Callable[[], bool]
    buying: Callable[[], contextlib.AbstractContextManager[None]]
    """Around a call that may spend, so that stopping can wait for its answer."""


class Carried(Ends):
    """One attempt in our hands, from wherever it stands to its end."""

    def __init__(self, parts: Parts, attempt: Attempt, grip: Grip) -> None:
        """`attempt` as it was claimed."""
        super().__init__(parts, attempt)
        self.grip = grip
        self.sent = attempt.status is not AttemptStatus.SUBMITTING
        self.cancel_asked = False
        self.cancel_agreed = False
        self.shown = attempt.progress
        self.sketch_ns = 0
        self.after_another = self.sent or attempt.n > 1
        """Somebody may have carried this job before us, and left a picture of it."""
        self.last_trouble: str | None = None
        self.ahead: int | None = None
        self.pause_s: float | None = None
        self.in_doubt = False
        self.sent_again = 0

    async def go(self) -> None:
        """Carry it to its end; returns early when another process took it."""
        operation = self.attempt.operation
        try:
            with contextlib.suppress(Taken):
                if operation is None:
                    operation = await (self._reconcile() if self.sent else self._submit())
                if operation is not None:
                    await self._follow(operation)
        finally:
            if self.sketch_ns or self.after_another:
                await self.c.media.sketches.remove(self.id)

    # -- submit

    async def _submit(self) -> Operation | None:
        try:
            backend = self.c.backends.get(self.attempt.backend)
        except errors.GatewayError as error:
            await self.failed(error, accepted=False)
            return None
        return await self._buy(backend)

    async def _buy(self, backend: Backend) -> Operation | None:
        token = commit_sending.set(self._commit_sending)
        pause = told_to_pause.set(self._told_to_pause)
        try:
            with self.grip.buying():
                operation = await backend.submit(self.attempt.resolved, key=self.attempt.id)
                await self._accepted(operation)
            return operation
        except Taken:
            raise
        except errors.Cancelled as error:
            await self.cancelled(error, accepted=False)
        except errors.GatewayError as error:
            # A refusal of the repeated call says nothing about the first one.
            unknown = isinstance(error, errors.OutcomeUnknown | errors.UnexpectedResponse | errors.Timeout)
            if self.sent and (unknown or self.in_doubt):
                return await self._reconcile(error)
            await self.failed(error, accepted=False)
        except Exception as error:
            log.exception("%s: unforeseen error in submit", self.attempt.id)
            unforeseen = _unforeseen(self.attempt.backend, error)
            if self.sent:
                return await self._reconcile(unforeseen)
            await self.failed(unforeseen, accepted=False)
        finally:
            commit_sending.reset(token)
            told_to_pause.reset(pause)
        return None

    def _told_to_pause(self, seconds: float) -> None:
        self.pause_s = seconds

    async def _commit_sending(self) -> None:
        """The last thing before the money: from here on only the provider knows."""

        def commit(tx: Tx) -> None:
            job = store.get(tx, self.id)
            if job is None or job.cancel_requested or job.status.ended:
                raise errors.Cancelled(words("cancelled before it was sent", "送信前にキャンセルされました"))
            if not store.move_attempt(tx, self.id, self.n, AttemptStatus.SENDING, sent_at=tx.us):
                raise Taken
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
                raise Taken
            limits.answered(tx, self.id, self.n)
            limits.worked(tx, self.attempt.model)
            if self.pause_s is not None:
                limits.rest(tx, self.attempt.model, self.pause_s, errors.RateLimited.code, WINDOW_FULL)
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
            await self.unresolved(error)
            return None
        if policy is LostSubmit.RESEND and cause is not None:
            # It failed in our own hands: that is not a loss by restart, which the same offer may do again at once.
            await self.failed(cause, accepted=False)
            return None
        if policy is LostSubmit.RESEND:
            lost = errors.OperationLost(
                words(
                    "the work was lost with the process that did it",
                    "処理中のプロセスとともに作業が失われました",
                ),
                backend=self.attempt.backend,
            )
            await self.failed(lost, accepted=False)
            return None
        if policy is LostSubmit.IDEMPOTENT and self.sent_again < SEND_AGAIN:
            if cause is not None:
                await self._sleep(max(cause.retry_after or 0.0, LOOK_AGAIN_S[self.sent_again]))
            self.sent_again += 1
            return await self._buy(backend)
        if policy is LostSubmit.FIND and isinstance(backend, Finds):
            return await self._find(backend)
        await self.unresolved(cause)
        return None

    async def _find(self, backend: Finds) -> Operation | None:
        since = (self.attempt.sent_at or self.attempt.created_at) - timedelta(minutes=1)
        loop = asyncio.get_running_loop()
        until = loop.time() + ACCEPT_WINDOW_S
        while True:
            try:
                found = await backend.find(self.attempt.resolved, key=self.attempt.id, since=since)
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
                    await self.failed(gone, accepted=False)
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
                await self.cancelled(error, accepted=True)
                return
            except errors.ENDS_ACCEPTED as error:
                if self.cancel_agreed and not isinstance(error, errors.ContentRejected):
                    await self.cancelled(error, accepted=True)
                else:
                    await self.failed(error, accepted=True)
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
        if look.sketch is not None:
            self.sketch_ns = await self.c.media.sketches.put(self.id, look.sketch, self.sketch_ns)
        if look.progress is not None and look.progress >= self.shown + PROGRESS_STEP:
            self.shown = value = look.progress
            await self.c.db.write(lambda tx: store.progress(tx, self.id, self.n, value), matters=False)
        if look.ahead is not None and look.ahead != self.ahead:
            self.ahead = ahead = look.ahead
            await self.c.db.write(lambda tx: store.event(tx, self.id, self.n, "queue", {"ahead": ahead}))

    async def _maybe_cancel(self, backend: Backend, operation: Operation) -> None:
        if self.cancel_asked or not self.grip.cancel_wanted():
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

    async def _fetch(self, backend: Backend, look: Completed, tries: int) -> float | None:
        """Bring the clip home; seconds until the next try, None when the attempt has ended."""
        if await self._is_spare():
            await self.cancelled(errors.Cancelled(QUICKER), accepted=True, bill=self.price_of(look))
            return None
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
            still = self.attempt.resolved.task is Task.TEXT_TO_IMAGE
            clip = await self.c.media.adopt(tmp, "image" if still else "video")
            finished = await self._finished(clip)
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
            await self.failed(bad, accepted=True, bill=self.price_of(look))
            return None
        finally:
            await asyncio.to_thread(tmp.unlink, missing_ok=True)
        await self.completed(look, finished)
        return None

    async def _is_spare(self) -> bool:
        """Whether the job has its clip already, from another attempt."""
        job = await self.c.db.read(lambda tx: store.get(tx, self.id))
        return job is not None and job.status is Status.COMPLETED

    async def _finished(self, clip: Asset) -> Finished:
        """The clip after the steps that its request asks for."""
        job = await self.c.db.read(lambda tx: store.get(tx, self.id))
        steps = job.request.post if job is not None else ()
        if steps:
            told: dict[str, JsonValue] = {"steps": [step.do for step in steps]}
            await self.c.db.write(lambda tx: store.event(tx, self.id, self.n, "processing", told))
        return await finish(
            self.c.media, clip, steps, woken=self.grip.woken, cancelled=self.grip.cancel_wanted
        )

    def _fetching(self, tx: Tx) -> None:
        if store.move_attempt(tx, self.id, self.n, AttemptStatus.FETCHING):
            store.event(tx, self.id, self.n, "fetching", {})

    async def _too_long(self, operation: Operation) -> bool:
        attempt, now = await self.c.db.read(lambda tx: (store.get_attempt(tx, self.id, self.n), tx.now))
        if attempt is None or attempt.status.ended:
            raise Taken
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
            await self.failed(timeout, accepted=True)
        else:
            await self.unresolved(timeout)
        return True

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
            # Not wait_for: on Python 3.11 it can swallow a cancellation that comes with the wake-up.
            async with asyncio.timeout(max(seconds, 0.02)):
                await self.grip.woken.wait()
        self.grip.woken.clear()


def _unforeseen(backend: str, error: Exception) -> errors.GatewayError:
    kind = type(error).__name__
    return errors.BackendError(
        words(
            f"unforeseen error ({kind}); the log has the details",
            f"予期しないエラー({kind})。詳細はログにあります",
        ),
        backend=backend,
    )
