"""One gateway carries jobs over scripted providers: what is bought, billed, tried elsewhere, and never bought twice."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from router import ledger
from router.contract import errors
from router.contract.backend import Pending
from router.contract.job import AttemptStatus, Job, Status
from router.contract.words import same, words
from router.gateway import Gateway
from tests import fakes
from tests.fakes import Accept, Done, Lose, Refuse, Studio, write_provider
from tests.router.conftest import DatabaseUrl
from tests.router.house import ask, end, kinds, seen_until_end, serving, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ZERO = Decimal(0)
SETS = 60
"""Each test takes a set of providers of its own, so that what one test teaches the gateway no other test sees."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="gateway")
async def _gateway(
    new_database: DatabaseUrl, tmp_path_factory: pytest.TempPathFactory, clip_file: Path
) -> AsyncIterator[Gateway]:
    home = tmp_path_factory.mktemp("home")
    for i in range(SETS):
        write_provider(home, f"cheap{i}", usd="0.10", family=f"scene{i}")
        write_provider(home, f"dear{i}", usd="0.20", family=f"scene{i}")
        write_provider(home, f"other{i}", usd="0.30", family=f"other{i}")
        write_provider(home, f"finds{i}", entry="FindingBackend", lost_submit="find")
        write_provider(home, f"once{i}", lost_submit="idempotency_key", once=True)
        write_provider(home, f"never{i}", failure_billed="never")
        write_provider(home, f"unpriced{i}", usd=None)
        write_provider(home, f"broken{i}", usd="0.01", entry="BrokenBackend")
        write_provider(
            home, f"house{i}", usd="0", where="house", lost_submit="resend", failure_billed="never"
        )
    fakes.clips[:] = [clip_file]
    async with serving(home, new_database(), router={"max_attempts": 3}) as gateway:
        yield gateway
    fakes.studios.clear()


numbers = itertools.count()


@dataclass
class Set:
    """One test's providers."""

    n: int

    def __getattr__(self, kind: str) -> str:
        return f"{kind}{self.n}"

    def __call__(self, kind: str) -> Studio:
        return fakes.studio(f"{kind}{self.n}")


@pytest.fixture
def stage(gateway: Gateway) -> Iterator[Set]:
    yield Set(next(numbers) % SETS)


async def run(gateway: Gateway, *backends: str, **fields: Any) -> Job:
    return await end(gateway, await gateway.submit(ask(*backends, **fields)))


async def booked(gateway: Gateway, job: Job) -> list[tuple[int, int]]:
    """(still reserved, settled) in micro-dollars of each attempt."""
    return [
        await gateway._db.read(lambda tx, n=a.n: ledger.attempt_sum(tx, job.id, n))  # type: ignore[misc]
        for a in job.attempts
    ]


def failing(billed: str | None = None) -> errors.GenerationFailed:
    return errors.GenerationFailed(same("it broke"), billed_usd=Decimal(billed) if billed else None)


def limited(seconds: float | None) -> Refuse:
    return Refuse(errors.RateLimited(same("too many"), retry_after=seconds))


def down() -> Refuse:
    return Refuse(errors.Unavailable(same("503")))


# -- the plain way


async def test_a_job_completes_and_its_bill_is_the_providers(gateway: Gateway, stage: Set) -> None:
    stage("cheap").looks = (Pending(0.5), Done(Decimal("0.45")))
    job = await run(gateway, stage.cheap)
    assert (job.status, job.backend, job.progress) == (Status.COMPLETED, stage.cheap, 1.0)
    assert (job.estimate_usd, job.billed_usd, job.reserved_usd) == (Decimal("0.5"), Decimal("0.45"), ZERO)
    assert job.attempts[0].bill_basis == "provider"
    assert await booked(gateway, job) == [(0, 450_000)]
    assert await kinds(gateway, job) == [
        "created",
        "submitting",
        "sending",
        "accepted",
        "fetching",
        "completed",
    ]
    path, asset = await gateway.content(job.id)
    assert path.is_file() and asset.duration_s


async def test_a_picture_on_the_way_is_there_while_the_job_runs_and_gone_with_it(
    gateway: Gateway, stage: Set, tmp_path: Path
) -> None:
    studio, picture = stage("cheap"), tmp_path / "sketch.webp"
    studio.looks = (Pending(0.1),)
    job = await gateway.submit(ask(stage.cheap))
    await until(gateway, job, lambda job: job.progress >= 0.1)
    with pytest.raises(errors.NotFound, match="no sketch"):
        await gateway.sketch(await gateway.get(job.id))
    picture.write_bytes(b"first")
    studio.tasks[0].then(Pending(0.3, sketch=picture))
    await until(gateway, job, lambda job: job.progress >= 0.3)
    assert await gateway.sketch(await gateway.get(job.id)) == b"first"
    first = (await gateway.sketches())[job.id]
    picture.write_bytes(b"second")
    os.utime(picture, ns=(0, picture.stat().st_mtime_ns + 10**9))
    studio.tasks[0].then(Pending(0.5, sketch=picture))
    await until(gateway, job, lambda job: job.progress >= 0.5)
    assert await gateway.sketch(await gateway.get(job.id)) == b"second"
    assert (await gateway.sketches())[job.id] > first
    picture.unlink()
    # Its file is gone: the job does not care.
    studio.tasks[0].then(Pending(0.7, sketch=picture), Done())
    assert (await end(gateway, job)).status is Status.COMPLETED
    with pytest.raises(errors.Conflict, match="has ended"):
        await gateway.sketch(await gateway.get(job.id))
    async with asyncio.timeout(20):
        while True:
            if job.id not in await gateway.sketches():
                break
            await asyncio.sleep(0.01)


async def test_where_the_provider_tells_no_cost_the_table_is_the_bill(gateway: Gateway, stage: Set) -> None:
    job = await run(gateway, stage.cheap)
    assert (job.billed_usd, job.attempts[0].bill_basis) == (Decimal("0.5"), "table")


async def test_a_bill_of_more_than_six_places_is_the_same_in_job_and_ledger(
    gateway: Gateway, stage: Set
) -> None:
    stage("cheap").looks = (Done(Decimal("0.0333333333")),)
    job = await run(gateway, stage.cheap)
    ((reserved, settled),) = await booked(gateway, job)
    assert (reserved, Decimal(settled) / 1_000_000) == (0, job.billed_usd)


@pytest.mark.parametrize("nonsense", [Decimal("-1"), Decimal("NaN"), Decimal("Infinity")])
async def test_a_bill_that_is_no_amount_is_not_believed(
    gateway: Gateway, stage: Set, nonsense: Decimal
) -> None:
    stage("cheap").looks = (Done(nonsense),)
    job = await run(gateway, stage.cheap)
    assert (job.status, job.billed_usd, job.attempts[0].bill_basis) == (
        Status.COMPLETED,
        Decimal("0.5"),
        "table",
    )


async def test_what_the_provider_warned_about_at_submit_is_told_with_the_clip(
    gateway: Gateway, stage: Set
) -> None:
    warning = words("the seed is ignored", "シードは無視されます")
    stage("cheap").submits.append(Accept(warnings=(warning,)))
    job = await run(gateway, stage.cheap)
    assert warning in job.warnings


# -- failover


async def test_accepted_then_failed_goes_to_the_next_offer_and_pays_both(
    gateway: Gateway, stage: Set
) -> None:
    stage("cheap").looks = (Pending(0.6), failing("0.25"))
    stage("dear").looks = (Pending(0.1), Done(Decimal("1.00")))
    job = await gateway.submit(ask(stage.cheap, stage.dear))
    seen = await seen_until_end(gateway, job)
    job = await gateway.get(job.id)
    assert [(a.backend, a.status, a.billed_usd) for a in job.attempts] == [
        (stage.cheap, AttemptStatus.FAILED, Decimal("0.25")),
        (stage.dear, AttemptStatus.COMPLETED, Decimal("1.00")),
    ]
    assert (job.status, job.billed_usd, job.reserved_usd) == (Status.COMPLETED, Decimal("1.25"), ZERO)
    assert await booked(gateway, job) == [(0, 250_000), (0, 1_000_000)]
    statuses = [status for status, _ in seen]
    assert "queued" not in statuses[statuses.index("in_progress") :]
    progress = [value for _, value in seen]
    assert progress == sorted(progress) and 0.6 in progress


@pytest.mark.parametrize(("kind", "billed"), [("never", Decimal(0)), ("cheap", Decimal("0.5"))])
async def test_a_failure_of_unknown_cost_is_released_only_where_the_provider_documents_it(
    gateway: Gateway, stage: Set, kind: str, billed: Decimal
) -> None:
    stage(kind).looks = (failing(),)
    job = await run(gateway, f"{kind}{stage.n}")
    assert (job.status, job.billed_usd, job.reserved_usd) == (Status.FAILED, billed, ZERO)
    assert job.error is not None and job.error.code == "generation_failed"


async def test_a_task_the_provider_ended_as_cancelled_by_itself_is_paid_and_goes_elsewhere(
    gateway: Gateway, stage: Set
) -> None:
    stage("cheap").looks = (errors.Cancelled(same("evicted")),)
    job = await run(gateway, stage.cheap, stage.dear)
    assert [(a.status, a.billed_usd) for a in job.attempts] == [
        (AttemptStatus.CANCELLED, Decimal("0.5")),
        (AttemptStatus.COMPLETED, Decimal("1")),
    ]


async def test_a_429_moves_the_job_and_rests_the_offer_exactly_as_told(gateway: Gateway, stage: Set) -> None:
    stage("cheap").submits.append(limited(2.0))
    before = datetime.now(UTC)
    job = await run(gateway, stage.cheap, stage.dear)
    after = datetime.now(UTC)
    assert (job.status, job.backend, stage("cheap").posts) == (Status.COMPLETED, stage.dear, 1)
    assert job.attempts[0].billed_usd == 0
    (resting,) = [p for p in await gateway.providers() if p.name == stage.cheap]
    assert resting.resting_until is not None
    until_ = datetime.fromisoformat(resting.resting_until)
    assert before <= until_ - timedelta(seconds=2) <= after
    plan = await gateway.plan(ask(stage.cheap, stage.dear))
    assert [r.ready_at for r in plan.rejected if r.backend == stage.cheap] == [until_]


async def test_a_job_for_one_offer_waits_out_each_429_and_is_not_failed_by_them(
    gateway: Gateway, stage: Set
) -> None:
    stage("cheap").submits.extend(limited(0.05) for _ in range(5))
    job = await run(gateway, stage.cheap)
    assert (job.status, stage("cheap").posts, len(stage("cheap").tasks)) == (Status.COMPLETED, 6, 1)


async def test_a_retry_after_of_zero_means_at_once(gateway: Gateway, stage: Set) -> None:
    stage("cheap").submits.append(limited(0.0))
    job = await run(gateway, stage.cheap)
    assert job.status is Status.COMPLETED


async def test_a_503_moves_the_job_after_one_post(gateway: Gateway, stage: Set) -> None:
    stage("cheap").submits.append(down())
    job = await run(gateway, stage.cheap, stage.dear)
    assert (job.status, job.backend, stage("cheap").posts) == (Status.COMPLETED, stage.dear, 1)
    assert await booked(gateway, job) == [(0, 0), (0, 1_000_000)]


async def test_a_refused_key_puts_the_whole_backend_out(gateway: Gateway, stage: Set) -> None:
    stage("cheap").submits.append(Refuse(errors.AuthenticationFailed(same("bad key"))))
    await run(gateway, stage.cheap, stage.dear)
    job = await run(gateway, stage.cheap, stage.dear)
    assert [a.backend for a in job.attempts] == [stage.dear]


async def test_a_backend_that_breaks_while_it_is_made_costs_one_attempt_and_is_listed_as_broken(
    gateway: Gateway, stage: Set
) -> None:
    job = await run(gateway, stage.broken, stage.cheap)
    assert [(a.backend, a.status) for a in job.attempts] == [
        (stage.broken, AttemptStatus.FAILED),
        (stage.cheap, AttemptStatus.COMPLETED),
    ]
    (row,) = [p for p in await gateway.providers() if p.name == stage.broken]
    assert row.problem is not None and "KeyError" in row.problem.en


async def test_a_bug_before_the_spending_call_moves_the_job(gateway: Gateway, stage: Set) -> None:
    stage("cheap").submits.append(Refuse(ZeroDivisionError(), sent=False))
    job = await run(gateway, stage.cheap, stage.dear)
    assert (job.status, job.backend, job.billed_usd) == (Status.COMPLETED, stage.dear, Decimal("1"))


async def test_a_clip_that_is_no_video_fails_the_attempt_and_the_next_offer_makes_one(
    gateway: Gateway, stage: Set, tmp_path: Path
) -> None:
    stage("cheap").looks = (Done(Decimal("0.5"), outputs=0),)
    job = await run(gateway, stage.cheap, stage.dear)
    first = job.attempts[0]
    assert first.error is not None
    assert (first.status, first.error.code, first.billed_usd) == (
        AttemptStatus.FAILED,
        "output_invalid",
        Decimal("0.5"),
    )
    assert (job.status, job.backend) == (Status.COMPLETED, stage.dear)


# -- lost answers


async def test_a_cut_after_sending_is_unresolved_with_its_money_reserved_until_it_is_settled(
    gateway: Gateway, stage: Set
) -> None:
    stage("cheap").submits.append(Lose())
    job = await run(gateway, stage.cheap, stage.dear)
    assert (job.status, job.reserved_usd, job.billed_usd) == (Status.UNRESOLVED, Decimal("0.5"), ZERO)
    assert (stage("cheap").posts, stage("dear").posts) == (1, 0)
    assert job.id in (await gateway.spend()).unresolved
    with pytest.raises(errors.Conflict):
        await gateway.delete(job.id)
    job = await gateway.settle(job.id, Decimal("0.37"))
    assert (job.status, job.reserved_usd, job.billed_usd) == (Status.FAILED, ZERO, Decimal("0.37"))
    assert await booked(gateway, job) == [(0, 370_000)]
    assert job.id not in (await gateway.spend()).unresolved
    assert (stage("cheap").posts, stage("dear").posts) == (1, 0)
    with pytest.raises(errors.Conflict):
        await gateway.settle(job.id, Decimal("0.37"))


@pytest.mark.parametrize(
    "error", [errors.UnexpectedResponse(same("<html>")), errors.Timeout(same("slow")), KeyError("id")]
)
async def test_any_answer_that_tells_nothing_after_sending_is_never_sent_again(
    gateway: Gateway, stage: Set, error: Exception
) -> None:
    stage("cheap").submits.append(Lose(error))
    job = await run(gateway, stage.cheap, stage.dear)
    assert (job.status, stage("cheap").posts, stage("dear").posts) == (Status.UNRESOLVED, 1, 0)


async def test_a_caller_who_allows_it_gets_the_clip_elsewhere_while_the_first_call_is_in_doubt(
    gateway: Gateway, stage: Set
) -> None:
    stage("cheap").submits.append(Lose())
    job = await run(gateway, stage.cheap, stage.dear, preferences={"allow_duplicate_spend": True})
    assert (job.status, job.backend) == (Status.COMPLETED, stage.dear)
    assert (job.billed_usd, job.reserved_usd) == (Decimal("1"), Decimal("0.5"))
    job = await gateway.settle(job.id, Decimal(0))
    assert (job.status, job.billed_usd, job.reserved_usd) == (Status.COMPLETED, Decimal("1"), ZERO)


async def test_a_lost_answer_is_found_again_where_the_provider_lists_its_tasks(
    gateway: Gateway, stage: Set
) -> None:
    stage("finds").submits.append(Lose())
    job = await run(gateway, stage.finds)
    assert (job.status, len(job.attempts), stage("finds").posts) == (Status.COMPLETED, 1, 1)


async def test_a_lost_answer_is_asked_for_again_where_repeating_is_safe(gateway: Gateway, stage: Set) -> None:
    stage("once").submits.append(Lose())
    job = await run(gateway, stage.once)
    assert (job.status, len(job.attempts), len(stage("once").tasks)) == (Status.COMPLETED, 1, 1)


async def test_an_outage_while_asking_again_does_not_release_what_may_be_bought(
    gateway: Gateway, stage: Set
) -> None:
    stage("once").submits.extend([Lose(), down(), Accept()])
    job = await run(gateway, stage.once, stage.dear)
    assert (job.status, job.backend, len(stage("once").tasks)) == (Status.COMPLETED, stage.once, 1)
    assert stage("dear").posts == 0


async def test_our_own_device_that_loses_every_answer_is_not_asked_in_a_circle(
    gateway: Gateway, stage: Set
) -> None:
    stage("house").submits.extend(Refuse(ZeroDivisionError()) for _ in range(50))
    job = await run(gateway, stage.house, stage.dear, preferences={"mode": "local-first"})
    assert (job.status, job.backend, stage("house").posts) == (Status.COMPLETED, stage.dear, 1)


async def test_work_that_was_lost_with_our_own_process_is_done_again_there(
    gateway: Gateway, stage: Set
) -> None:
    stage("house").looks = (errors.OperationLost(same("gone")),)
    job = await gateway.submit(ask(stage.house))
    await until(gateway, job, lambda seen: len(seen.attempts) > 1)
    stage("house").looks = (Done(),)
    for task in stage("house").tasks:
        task.then(*task.looks) if task.polled else task.then(Done())
    job = await end(gateway, job)
    assert job.status is Status.COMPLETED
    assert {a.model for a in job.attempts} == {f"{stage.house}/clip"}


# -- refusals


async def test_refused_content_is_final_and_billed_once(gateway: Gateway, stage: Set) -> None:
    stage("cheap").looks = (errors.ContentRejected(same("no"), billed_usd=Decimal("0.5")),)
    job = await run(gateway, stage.cheap, stage.dear)
    assert job.error is not None
    assert (job.status, job.error.code, stage("dear").posts) == (Status.FAILED, "content_rejected", 0)
    assert await booked(gateway, job) == [(0, 500_000)]


async def test_refused_content_goes_elsewhere_where_the_caller_wants_that(
    gateway: Gateway, stage: Set
) -> None:
    stage("cheap").submits.append(Refuse(errors.ContentRejected(same("no"))))
    job = await run(gateway, stage.cheap, stage.dear, preferences={"retry_refused": True})
    assert (job.status, job.backend, job.billed_usd) == (Status.COMPLETED, stage.dear, Decimal("1"))


async def test_the_probe_of_an_offer_that_was_down_may_end_in_any_way(gateway: Gateway, stage: Set) -> None:
    stage("cheap").submits.append(Refuse(errors.ContentRejected(same("no"))))
    model = f"{stage.cheap}/clip"

    def half_open(tx: Any) -> None:
        from sqlalchemy import insert

        from router.tables import offers

        tx.conn.execute(insert(offers).values(scope=model, streak=3, rest_until=1, rest_code="breaker_open"))

    await gateway._db.write(half_open)
    assert (await run(gateway, stage.cheap)).status is Status.FAILED
    job = await run(gateway, stage.cheap)
    assert (job.status, job.backend) == (Status.COMPLETED, stage.cheap)


# -- cancel


async def test_cancelling_what_waits_costs_nothing(gateway: Gateway, stage: Set) -> None:
    stage("cheap").submits.append(limited(3000))
    await run(gateway, stage.cheap, stage.dear)
    job = await gateway.submit(ask(stage.cheap))
    job = await gateway.cancel((await until(gateway, job, lambda seen: seen.reason is not None)).id)
    assert (job.status, job.attempts, stage("cheap").posts) == (Status.CANCELLED, (), 1)


async def test_cancelling_before_the_call_that_spends_buys_nothing(gateway: Gateway, stage: Set) -> None:
    send = stage("cheap").before_send = asyncio.Event()
    job = await gateway.submit(ask(stage.cheap))
    await asyncio.wait_for(stage("cheap").reached.wait(), 20)
    await gateway.cancel(job.id)
    send.set()
    job = await end(gateway, job)
    assert (job.status, stage("cheap").posts, job.reserved_usd, job.billed_usd) == (
        Status.CANCELLED,
        0,
        ZERO,
        ZERO,
    )


async def test_cancelling_what_runs_ends_it_where_the_provider_agrees(gateway: Gateway, stage: Set) -> None:
    stage("never").looks = (Pending(0.3),)
    job = await gateway.submit(ask(stage.never))
    await until(gateway, job, lambda seen: seen.status is Status.RUNNING)
    await gateway.cancel(job.id)
    job = await end(gateway, job)
    assert (job.status, job.billed_usd, job.reserved_usd) == (Status.CANCELLED, ZERO, ZERO)
    assert stage("never").cancel_calls == 1


async def test_a_refused_cancel_is_told_with_the_clip_that_was_paid_for(gateway: Gateway, stage: Set) -> None:
    here = stage("cheap")
    here.looks, here.cancels = (Pending(0.3),), here.cancels.__class__([False])
    job = await gateway.submit(ask(stage.cheap))
    await until(gateway, job, lambda seen: seen.status is Status.RUNNING)
    await gateway.cancel(job.id)
    async with asyncio.timeout(20):
        while "cancel_refused" not in await kinds(gateway, job):
            await gateway._db.pulse.wait(gateway._db.pulse.count, 0.5)
    here.tasks[0].then(Done())
    job = await end(gateway, job)
    assert (job.status, job.billed_usd) == (Status.COMPLETED, Decimal("0.5"))
    assert any("cancel came too late" in warning.en for warning in job.warnings)


async def test_a_cancel_that_did_not_get_through_is_asked_again(gateway: Gateway, stage: Set) -> None:
    here = stage("cheap")
    here.looks = (Pending(0.3),)
    here.cancels.append(errors.Unavailable(same("503")))
    job = await gateway.submit(ask(stage.cheap))
    await until(gateway, job, lambda seen: seen.status is Status.RUNNING)
    await gateway.cancel(job.id)
    job = await end(gateway, job)
    assert (job.status, here.cancel_calls) == (Status.CANCELLED, 2)


# -- prices and caps


async def test_a_bill_above_the_table_is_booked_in_full_shown_and_stops_the_offer(
    gateway: Gateway, stage: Set
) -> None:
    stage("cheap").looks = (Done(Decimal("0.80")),)
    job = await run(gateway, stage.cheap)
    assert (job.billed_usd, await booked(gateway, job)) == (Decimal("0.8"), [(0, 800_000)])
    assert any("$0.30 more" in warning.en for warning in job.warnings)
    plan = await gateway.plan(ask(stage.cheap, stage.dear))
    assert plan.chosen is not None and plan.chosen.backend == stage.dear
    assert [r.code for r in plan.rejected if r.backend == stage.cheap] == ["stopped"]
    row = next(r for r in (await gateway.spend()).rows if r.backend == stage.cheap)
    assert (row.settled_usd, row.overrun_usd) == (Decimal("0.8"), Decimal("0.3"))


async def test_an_unknown_price_is_blocked_by_a_cap_unless_allowed(gateway: Gateway, stage: Set) -> None:
    with pytest.raises(errors.BudgetExceeded):
        await gateway.submit(ask(stage.unpriced, preferences={"max_usd": "5"}))
    allowed = {"max_usd": "5", "allow_unknown_price": True}
    stage("unpriced").looks = (Done(Decimal("0.30")),)
    for _ in range(2):
        job = await run(gateway, stage.unpriced, preferences=allowed)
        assert (job.status, job.billed_usd, job.warnings) == (Status.COMPLETED, Decimal("0.3"), ())


async def test_a_jobs_own_cap_counts_what_its_earlier_attempts_cost(gateway: Gateway, stage: Set) -> None:
    stage("cheap").looks = (failing("0.25"),)
    job = await run(gateway, stage.cheap, stage.dear, preferences={"max_usd": "1.20"})
    assert (job.status, job.billed_usd, stage("dear").posts) == (Status.FAILED, Decimal("0.25"), 0)


# -- substitutes


@pytest.mark.parametrize(
    ("substitutes", "may"),
    [
        ("none", {"cheap"}),
        ("family", {"cheap", "dear"}),
        ("any", {"cheap", "dear", "other"}),
        (None, {"cheap", "dear"}),
    ],
)
async def test_only_allowed_substitutes_stand_in_for_a_named_model(
    gateway: Gateway, stage: Set, substitutes: str | None, may: set[str]
) -> None:
    preferences = {} if substitutes is None else {"substitutes": substitutes}
    request = ask(stage.cheap, stage.dear, stage.other, model=f"{stage.cheap}/clip", preferences=preferences)
    plan = await gateway.plan(request)
    assert {c.backend for c in plan.candidates} == {f"{kind}{stage.n}" for kind in may}
    assert plan.chosen is not None and plan.chosen.backend == stage.cheap


async def test_a_named_model_that_fails_is_replaced_within_what_the_caller_allows(
    gateway: Gateway, stage: Set
) -> None:
    stage("cheap").looks = (failing("0"),)
    preferences = {"substitutes": "any"}
    job = await run(gateway, stage.cheap, stage.other, model=f"{stage.cheap}/clip", preferences=preferences)
    assert (job.status, job.backend) == (Status.COMPLETED, stage.other)


# -- idempotency


async def test_the_same_key_answers_the_first_job_even_when_both_come_at_once(
    gateway: Gateway, stage: Set
) -> None:
    key = f"key-{stage.n}-{id(stage)}"
    jobs = await asyncio.gather(*(gateway.submit(ask(stage.cheap), idempotency_key=key) for _ in range(5)))
    assert len({job.id for job in jobs}) == 1
    await end(gateway, jobs[0])
    assert (await gateway.submit(ask(stage.cheap), idempotency_key=key)).id == jobs[0].id
    assert stage("cheap").posts == 1
    with pytest.raises(errors.Conflict):
        await gateway.submit(ask(stage.cheap, prompt="another"), idempotency_key=key)


async def test_the_ledgers_chain_is_whole_after_all_this(gateway: Gateway) -> None:
    found = await gateway.verify_ledger()
    assert found["rows"] > 0
    assert found["problems"] == []
