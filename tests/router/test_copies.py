"""A second copy of a running job: sent once and only where allowed, the quicker one completes the job, both are paid."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from router import engine
from router.contract import errors
from router.contract.backend import Pending
from router.contract.job import AttemptStatus, Job, Status
from router.contract.words import same
from router.gateway import Gateway
from router.tables import ledger as table
from tests.fakes import Accept, Done, Refuse, Studio, write_provider
from tests.router.conftest import DatabaseUrl
from tests.router.house import ask, end, kinds, serving, until

Studios = Callable[[str], Studio]
FIRST, OTHER = "cheap", "dear"
ALLOWED: dict[str, Any] = {"mode": "cheapest", "deadline": "19s", "allow_duplicate_spend": True}
SAYS = Decimal("0.50")


@dataclass
class House:
    """What a test opens and looks at."""

    home: Path
    url: str | None
    first: Studio
    other: Studio

    def open(self) -> Gateway:
        # A kept deadline is worth so much here that any delay calls for a copy.
        return serving(self.home, self.url, router={"value_of_deadline_usd": "100000"})


@pytest.fixture
def house(home: Path, new_database: DatabaseUrl, studios: Studios, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(engine, "TICK_S", 0.2)
    write_provider(home, FIRST, usd="0.02", typical_s=1)
    write_provider(home, OTHER, usd="0.10", typical_s=1)
    return House(home, new_database(), studios(FIRST), studios(OTHER))


@pytest.fixture
async def gateway(house: House) -> AsyncIterator[Gateway]:
    async with house.open() as opened:
        yield opened


async def two_on_their_way(gateway: Gateway, house: House, **wishes: Any) -> Job:
    """The job once both providers have it."""
    house.first.looks = house.other.looks = (Pending(),)
    job = await gateway.submit(ask(FIRST, OTHER, preferences={**ALLOWED, **wishes}))
    return await until(
        gateway,
        job,
        lambda seen: [a.status for a in seen.attempts] == [AttemptStatus.RUNNING] * 2,
    )


async def over(gateway: Gateway, job: Job) -> Job:
    """The job once it and both attempts have ended."""
    return await until(
        gateway, job, lambda seen: seen.status.ended and all(a.status.ended for a in seen.attempts)
    )


async def booked(gateway: Gateway, job: Job) -> dict[int, tuple[int, int]]:
    """(still reserved, settled) of each attempt in micro-dollars, by the ledger."""
    query = (
        sa.select(table.c.n, sa.func.sum(table.c.reserved), sa.func.sum(table.c.settled))
        .where(table.c.job_id == job.id)
        .group_by(table.c.n)
    )
    rows = await gateway._db.read(lambda tx: tx.conn.execute(query).all())
    return {n: (int(reserved), int(settled)) for n, reserved, settled in rows}


def outcome(job: Job) -> list[tuple[str, str]]:
    return [(a.backend, a.status.value) for a in job.attempts]


async def test_the_copy_that_is_quicker_completes_the_job_and_the_first_is_cancelled(
    gateway: Gateway, house: House
) -> None:
    job = await two_on_their_way(gateway, house)
    assert (job.status, job.backend) == (Status.RUNNING, FIRST)
    assert "second copy" in job.attempts[1].decision.reason.en
    house.other.tasks[0].then(Done(SAYS))
    job = await over(gateway, job)
    assert (job.status, job.backend, job.error) == (Status.COMPLETED, OTHER, None)
    assert outcome(job) == [(FIRST, "cancelled"), (OTHER, "completed")]
    error = job.attempts[0].error
    assert error is not None and "other copy was quicker" in error.message.en
    assert (house.first.cancel_calls, house.first.posts, house.other.posts) == (1, 1, 1)
    assert (await booked(gateway, job))[2] == (0, 500_000)
    assert (await booked(gateway, job))[1][0] == 0
    assert (await gateway.spend()).unresolved == ()
    assert (await gateway.content(job.id))[0].exists()


async def test_the_first_that_is_quicker_completes_the_job_and_the_copy_is_cancelled(
    gateway: Gateway, house: House
) -> None:
    job = await two_on_their_way(gateway, house)
    house.first.tasks[0].then(Done(Decimal("0.10")))
    job = await over(gateway, job)
    assert (job.status, job.backend) == (Status.COMPLETED, FIRST)
    assert outcome(job) == [(FIRST, "completed"), (OTHER, "cancelled")]
    assert house.other.cancel_calls == 1


async def test_a_provider_that_does_not_cancel_is_paid_and_its_clip_is_not_fetched(
    gateway: Gateway, house: House
) -> None:
    house.first.cancels.append(False)
    job = await two_on_their_way(gateway, house)
    house.other.tasks[0].then(Done(SAYS))
    job = await end(gateway, job)
    clip = job.output
    house.first.fetches.append(errors.Unavailable(same("nobody may ask for this file")))
    house.first.tasks[0].then(Done(Decimal("0.10")))
    job = await over(gateway, job)
    assert (job.status, job.output) == (Status.COMPLETED, clip)
    assert outcome(job) == [(FIRST, "cancelled"), (OTHER, "completed")]
    assert (job.attempts[0].billed_usd, job.attempts[0].bill_basis) == (Decimal("0.10"), "provider")
    assert await booked(gateway, job) == {1: (0, 100_000), 2: (0, 500_000)}
    assert len(house.first.fetches) == 1


async def test_a_failure_of_one_leaves_the_job_to_the_other(gateway: Gateway, house: House) -> None:
    job = await two_on_their_way(gateway, house)
    house.first.tasks[0].then(errors.GenerationFailed(same("out of memory there"), billed_usd=Decimal(0)))
    job = await until(gateway, job, lambda seen: seen.attempts[0].status.ended)
    assert (job.status, job.attempts[1].status) == (Status.RUNNING, AttemptStatus.RUNNING)
    house.other.tasks[0].then(Done(SAYS))
    job = await over(gateway, job)
    assert (job.status, job.backend, len(job.attempts)) == (Status.COMPLETED, OTHER, 2)
    assert await booked(gateway, job) == {1: (0, 0), 2: (0, 500_000)}


async def test_a_job_whose_copies_both_fail_is_planned_again(gateway: Gateway, house: House) -> None:
    job = await two_on_their_way(gateway, house)
    house.first.looks = house.other.looks = (Done(Decimal("0.10")),)
    for studio in (house.first, house.other):
        studio.tasks[0].then(errors.GenerationFailed(same("broken"), billed_usd=Decimal(0)))
    job = await over(gateway, job)
    assert (job.status, len(job.attempts)) == (Status.COMPLETED, 3)
    assert (await kinds(gateway, job)).count("failed") == 2
    assert sum(settled for _, settled in (await booked(gateway, job)).values()) == 100_000


async def test_a_prompt_that_one_refuses_is_not_tried_further_when_the_other_fails(
    gateway: Gateway, house: House, studios: Studios
) -> None:
    write_provider(house.home, "third", usd="0.10")
    job = await two_on_their_way(gateway, house)
    house.first.tasks[0].then(errors.ContentRejected(same("not here"), billed_usd=Decimal(0)))
    await until(gateway, job, lambda seen: seen.attempts[0].status.ended)
    house.other.tasks[0].then(errors.GenerationFailed(same("broken"), billed_usd=Decimal(0)))
    job = await over(gateway, job)
    assert (job.status, len(job.attempts)) == (Status.FAILED, 2)


async def test_a_cancel_stops_both(gateway: Gateway, house: House) -> None:
    job = await two_on_their_way(gateway, house)
    await gateway.cancel(job.id)
    job = await over(gateway, job)
    assert job.status is Status.CANCELLED
    assert outcome(job) == [(FIRST, "cancelled"), (OTHER, "cancelled")]
    assert (house.first.cancel_calls, house.other.cancel_calls) == (1, 1)
    assert all(reserved == 0 for reserved, _ in (await booked(gateway, job)).values())


async def test_a_clip_that_was_being_fetched_still_completes_the_job_when_its_copy_is_accepted(
    gateway: Gateway, house: House
) -> None:
    """The copy's acceptance takes the job from `fetching` back to `running`."""
    house.first.looks = (Pending(),)
    house.other.looks = (Pending(),)
    house.other.before_send = hold = asyncio.Event()
    job = await gateway.submit(ask(FIRST, OTHER, preferences=ALLOWED))
    async with asyncio.timeout(15):
        await house.other.reached.wait()
    house.first.fetches.extend([errors.Unavailable(same("the file server is down"))] * 2)
    house.first.tasks[0].then(Done(Decimal("0.10")))
    await until(gateway, job, lambda seen: seen.status is Status.FETCHING)
    hold.set()
    await until(gateway, job, lambda seen: seen.attempts[1].accepted_at is not None)
    job = await over(gateway, job)
    assert (job.status, job.backend) == (Status.COMPLETED, FIRST)
    assert outcome(job) == [(FIRST, "completed"), (OTHER, "cancelled")]


async def test_a_copy_that_was_not_sent_when_the_first_completed_is_never_bought(
    gateway: Gateway, house: House
) -> None:
    house.first.looks = (Pending(),)
    house.other.before_send = hold = asyncio.Event()
    job = await gateway.submit(ask(FIRST, OTHER, preferences=ALLOWED))
    async with asyncio.timeout(15):
        await house.other.reached.wait()
    house.first.tasks[0].then(Done(Decimal("0.10")))
    await end(gateway, job)
    hold.set()
    job = await over(gateway, job)
    assert outcome(job) == [(FIRST, "completed"), (OTHER, "cancelled")]
    assert house.other.posts == 0
    assert await booked(gateway, job) == {1: (0, 100_000), 2: (0, 0)}


@pytest.mark.parametrize(
    "wishes",
    [
        {"allow_duplicate_spend": False},
        {"deadline": None},
        # The first copy's reservation is 0.10, the second's 0.50.
        {"max_usd": "0.59"},
    ],
)
async def test_no_copy_where_it_is_not_allowed_wanted_or_paid_for(
    gateway: Gateway, house: House, wishes: dict[str, Any]
) -> None:
    house.first.looks = (Pending(),)
    witness = await two_on_their_way(gateway, house)
    assert len(witness.attempts) == 2
    quiet = await gateway.submit(ask(FIRST, OTHER, preferences={**ALLOWED, **wishes}))
    await until(gateway, quiet, lambda seen: seen.status is Status.RUNNING)
    # Another job that is allowed one gets it in the same or a later look, so this one was looked at.
    await two_on_their_way(gateway, house)
    assert len((await gateway.get(quiet.id)).attempts) == 1
    assert house.other.posts == 2


async def test_one_copy_and_no_third_when_the_first_has_failed(gateway: Gateway, house: House) -> None:
    write_provider(house.home, "third", usd="0.10")
    job = await two_on_their_way(gateway, house)
    house.first.tasks[0].then(errors.GenerationFailed(same("broken"), billed_usd=Decimal(0)))
    await until(gateway, job, lambda seen: seen.attempts[0].status.ended)
    await two_on_their_way(gateway, house)
    assert len((await gateway.get(job.id)).attempts) == 2


async def test_both_are_carried_on_by_the_next_engine(house: House) -> None:
    async with house.open() as gateway:
        job = await two_on_their_way(gateway, house)
    house.other.tasks[0].then(Done(SAYS))
    async with house.open() as gateway:
        job = await over(gateway, job)
        assert (job.status, job.backend) == (Status.COMPLETED, OTHER)
        assert outcome(job) == [(FIRST, "cancelled"), (OTHER, "completed")]
        assert (await booked(gateway, job))[2] == (0, 500_000)
    assert (house.first.posts, house.other.posts) == (1, 1)


async def test_a_refused_copy_costs_nothing_and_the_first_goes_on(gateway: Gateway, house: House) -> None:
    house.first.looks = (Pending(),)
    house.other.submits.append(Refuse(errors.RateLimited(same("slow down"), retry_after=60)))
    house.other.submits.append(Accept())
    job = await gateway.submit(ask(FIRST, OTHER, preferences=ALLOWED))
    job = await until(gateway, job, lambda seen: len(seen.attempts) == 2 and seen.attempts[1].status.ended)
    assert (job.status, job.backend) == (Status.RUNNING, FIRST)
    house.first.tasks[0].then(Done(Decimal("0.10")))
    job = await over(gateway, job)
    assert await booked(gateway, job) == {1: (0, 100_000), 2: (0, 0)}
    assert (job.status, house.other.posts) == (Status.COMPLETED, 1)
