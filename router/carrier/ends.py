"""How an attempt ends: completed, failed, cancelled or unresolved, each with its money in one transaction."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeGuard

from router import facts, ledger, limits, store
from router.carrier.parts import Parts
from router.carrier.post import Finished
from router.catalog import Catalog
from router.contract import errors
from router.contract.backend import Completed
from router.contract.card import ModelCard, Where
from router.contract.job import Attempt, AttemptStatus, Job, JobError, Status
from router.contract.words import Words, words
from router.db import Tx
from router.ledger import Entry
from router.pricing import from_micros, money, to_micros

OUT_S = 600.0
"""A backend whose key or credit was refused rests this long, unless its key changes."""
QUICKER = words("the other copy was quicker", "もう一方の試行が先に完了しました")
MOST_FREE = 50
"""Attempts lost with our own process that a job may have: one that ends the process every time must end itself."""


@dataclass(frozen=True)
class Bill:
    """What an ended attempt costs and who says so."""

    usd: Decimal | None
    basis: str


class Taken(Exception):
    """Another process moved the attempt on."""


class Ends:
    """The last step of one attempt; every method raises `Taken` when another process was quicker."""

    def __init__(self, parts: Parts, attempt: Attempt) -> None:
        """`attempt` as it was claimed."""
        self.c = parts
        self.attempt = attempt
        self.id = attempt.job_id
        self.n = attempt.n
        self.card: ModelCard | None = parts.catalog.cards.get(attempt.model)

    async def completed(self, look: Completed, finished: Finished) -> None:
        """The clip is home: book the bill, finish the job."""
        bill = self.price_of(look)
        resolved = self.attempt.resolved

        def commit(tx: Tx) -> list[str]:
            began = facts.work_began(tx, self.c.catalog, self.attempt)
            if not store.move_attempt(
                tx,
                self.id,
                self.n,
                AttemptStatus.COMPLETED,
                progress=1.0,
                billed=micros(bill.usd),
                bill_basis=bill.basis,
            ):
                raise Taken
            overrun = self._settle(tx, bill)
            told = list(resolved.warnings) + list(
                self.attempt.operation.warnings if self.attempt.operation else ()
            )
            told += finished.warnings
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
            took = max((tx.now - began).total_seconds(), 0.0)
            limits.worked(tx, self.attempt.model, took, self._price_factor(bill))
            # A copy may have taken the job back to `running` while this clip was fetched.
            store.move_job(tx, self.id, Status.FETCHING)
            first = store.move_job(
                tx,
                self.id,
                Status.COMPLETED,
                progress=1.0,
                backend=self.attempt.backend,
                model=self.attempt.model,
                reason=self.attempt.reason.model_dump_json(),
                output=finished.output.model_dump_json(),
                poster=finished.poster.model_dump_json(),
                details=json.dumps({**look.details, **finished.details}, ensure_ascii=False),
                warnings="[" + ",".join(w.model_dump_json() for w in told) + "]",
                error=None,
            )
            told_of = {"billed_usd": money(bill.usd), "basis": bill.basis}
            store.event(tx, self.id, self.n, "completed" if first else "spare", told_of)
            spare = () if first else finished.made
            return [asset_id for asset_id in spare if not store.asset_used(tx, asset_id)]

        for asset_id in await self.c.db.write(commit):
            await self.c.media.remove(asset_id)

    async def failed(self, error: errors.GatewayError, *, accepted: bool, bill: Bill | None = None) -> None:
        """Book what it cost, learn from it, and give the job back to the planner unless it must stop. `bill` overrides the rule."""
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
                billed=micros(bill.usd),
                bill_basis=bill.basis,
            ):
                raise Taken
            overrun = self._settle(tx, bill)
            limits.answered(tx, self.id, self.n)
            self._learn(tx, error)
            if accepted and not isinstance(error, errors.ContentRejected | errors.OperationLost):
                limits.broke(tx, self.attempt.model, billed=bool(bill.usd))
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
            self._leave(tx, to, **ended)

        await self.c.db.write(commit)

    def _leave(self, tx: Tx, to: Status, **values: Any) -> None:
        """The job's next state, unless a copy of this attempt goes on: then the job is still running."""
        beside = store.open_beside(tx, self.id, self.n)
        if not beside:
            store.move_job(tx, self.id, to, **values)
        elif AttemptStatus.RUNNING in beside:
            store.move_job(tx, self.id, Status.RUNNING)

    def _after(self, error: errors.GatewayError, job: Job) -> Status:
        """Where the job goes when this attempt failed."""
        if job.cancel_requested:
            return Status.CANCELLED
        # A backend that this installation cannot load is no fault of the request: another may do it.
        stops = error.next_step is errors.NextStep.STOP and not isinstance(error, errors.ServerTrouble)
        if isinstance(error, errors.ContentRejected):
            stops = not job.request.preferences.retry_refused
        elif any(_refused_for_content(attempt) for attempt in job.attempts):
            # Its copy was, while this attempt went on.
            stops = stops or not job.request.preferences.retry_refused
        tries = _tries(job.attempts, self.c.catalog)
        return Status.FAILED if stops or tries >= self.c.settings.router.max_attempts else Status.QUEUED

    async def cancelled(
        self, error: errors.GatewayError, *, accepted: bool, bill: Bill | None = None
    ) -> None:
        """The provider let it go, it was never sent, or its clip is not needed any more. `bill` overrides the rule."""
        rule = self._failure_bill(error, accepted) if accepted else Bill(Decimal(0), "none")
        bill = bill or rule

        def commit(tx: Tx) -> None:
            job = store.get(tx, self.id)
            spare = job is not None and job.status is Status.COMPLETED
            text = errors.Cancelled(QUICKER if spare else words("cancelled", "キャンセルされました"))
            if not store.move_attempt(
                tx,
                self.id,
                self.n,
                AttemptStatus.CANCELLED,
                error=_job_error(text),
                billed=micros(bill.usd),
                bill_basis=bill.basis,
            ):
                raise Taken
            self._settle(tx, bill)
            limits.answered(tx, self.id, self.n)
            limits.probe_over(tx, self.attempt.model, self.id)
            store.event(
                tx, self.id, self.n, "cancelled", {"billed_usd": money(bill.usd), "basis": bill.basis}
            )
            # A provider may end a task as cancelled although nobody here asked for it.
            if job is not None and job.cancel_requested:
                self._leave(tx, Status.CANCELLED, error=_job_error(text))
            else:
                self._leave(tx, Status.QUEUED)

        await self.c.db.write(commit)

    async def unresolved(self, error: errors.GatewayError | None) -> None:
        """Nobody knows whether it was bought: the money stays reserved and a person decides."""
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
                raise Taken
            limits.answered(tx, self.id, self.n)
            self._learn(tx, error or text)
            store.event(tx, self.id, self.n, "unresolved", {"reserved_usd": reserved, "detail": text.detail})
            job = store.get(tx, self.id)
            if job is not None and job.request.preferences.allow_duplicate_spend:
                self._leave(tx, Status.QUEUED)
            else:
                store.move_job(tx, self.id, Status.UNRESOLVED, error=_job_error(text))

        await self.c.db.write(commit)

    # -- money and what is learned

    def price_of(self, look: Completed) -> Bill:
        """The provider's own figure where it can be money, else our table's."""
        if _is_amount(look.billed_usd):
            free = self.card is not None and self.card.where is Where.HOUSE and not look.billed_usd
            return Bill(look.billed_usd, "free" if free else "provider")
        return self._table_price()

    def _price_factor(self, bill: Bill) -> Decimal | None:
        """The provider's own bill divided by our estimate; None where either is not known."""
        estimate = self.attempt.estimate_usd
        if bill.basis != "provider" or bill.usd is None or not estimate:
            return None
        return (bill.usd / estimate).quantize(Decimal("0.0001"))

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
        job = store.get(tx, self.id)
        project, key = (job.request.project, job.api_key) if job else (None, None)
        entry = Entry(self.id, self.n, project, self.attempt.backend, self.attempt.model, key)
        zone = self.c.settings.budget.zone
        note = self._credit_rate() if bill.basis == "provider" else ""
        overrun = ledger.settle(tx, entry, to_micros(bill.usd), bill.basis, zone, note)
        if self.attempt.estimate_usd is None:
            # Nothing was promised for a price nobody knew: the bill is booked, and is no overrun of a table.
            return 0
        if overrun and bill.basis == "provider" and self.card is not None:
            limits.stop(tx, self.card.id, facts.price_mark(self.card))
            store.event(tx, self.id, self.n, "overrun", {"above_table_usd": money(from_micros(overrun))})
        return overrun

    def _credit_rate(self) -> str:
        """The dated rate behind the dollars of a provider that counts in credits, for `explain.note`; else empty."""
        info = self.c.catalog.providers.get(self.attempt.backend)
        if info is None or info.credit_usd is None:
            return ""
        return f"credit_usd {info.credit_usd.normalize():f} {info.credit_as_of}"

    def _learn(self, tx: Tx, error: errors.GatewayError) -> None:
        """What this error says about the offer or its whole backend."""
        model, backend = self.attempt.model, self.attempt.backend
        limits.probe_over(tx, model, self.id)
        match error:
            case errors.RateLimited():
                seconds = limits.REST_DEFAULT_S if error.retry_after is None else error.retry_after
                limits.rest(tx, model, seconds, error.code, error.message)
                if self.card is not None and not self.card.limits.windowed:
                    limits.refused(tx, model, facts.in_flight_at(tx, model) + 1)
            case errors.AuthenticationFailed() | errors.QuotaExhausted():
                mark = self.c.backends.key_mark(backend)
                limits.rest(tx, backend, error.retry_after or OUT_S, error.code, error.message, mark)
            case errors.Unavailable() | errors.Timeout() | errors.OutcomeUnknown():
                limits.failed(tx, model, error.message)
            case _:
                return


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


def _refused_for_content(attempt: Attempt) -> bool:
    return attempt.error is not None and attempt.error.code == errors.ContentRejected.code


def _is_amount(usd: Decimal | None) -> TypeGuard[Decimal]:
    """What a provider says it charged is believed only where it can be money."""
    return usd is not None and usd.is_finite() and usd >= 0


def micros(usd: Decimal | None) -> int | None:
    """As the ledger books it."""
    return None if usd is None else to_micros(usd)


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
