"""Guarded transitions and pages: two movers, one winner; no step that is not listed."""

import asyncio

import pytest
import sqlalchemy as sa

from router import store
from router.contract.errors import Conflict
from router.contract.job import ATTEMPT_TRANSITIONS, TRANSITIONS, AttemptStatus, Status
from router.contract.request import VideoRequest
from router.db import Database, Tx
from router.tables import attempts, jobs

REQUEST = VideoRequest(prompt="a red ball")


def made(tx: Tx, key: str | None = None, request: VideoRequest = REQUEST) -> str:
    print_ = store.fingerprint(request)
    return store.create(tx, request, {}, seed=1, idempotency_key=key, print_=print_)[0]


async def test_of_two_movers_one_wins(db: Database) -> None:
    job = await db.write(made)
    won = await asyncio.gather(
        *(db.write(lambda tx: store.move_job(tx, job, Status.SUBMITTING)) for _ in range(8))
    )
    assert sorted(won) == [False] * 7 + [True]


@pytest.mark.parametrize("start", list(Status))
async def test_a_job_takes_only_listed_steps(db: Database, start: Status) -> None:
    def steps(tx: Tx) -> set[Status]:
        taken = set()
        for to in Status:
            job = made(tx)
            tx.conn.execute(sa.update(jobs).where(jobs.c.id == job).values(status=start))
            if store.move_job(tx, job, to):
                taken.add(to)
        return taken

    assert await db.write(steps) == TRANSITIONS[start]


@pytest.mark.parametrize("start", list(AttemptStatus))
async def test_an_attempt_takes_only_listed_steps(db: Database, start: AttemptStatus) -> None:
    def steps(tx: Tx) -> set[AttemptStatus]:
        taken = set()
        for n, to in enumerate(AttemptStatus):
            tx.conn.execute(
                sa.insert(attempts).values(
                    job_id="job", n=n, backend="b", model="b/m", status=start, resolved="{}", decision="{}",
                    reason="{}", reserved=0, created_at=0,
                )
            )  # fmt: skip
            if store.move_attempt(tx, "job", n, to):
                taken.add(to)
        return taken

    assert await db.write(steps) == ATTEMPT_TRANSITIONS[start]


async def test_progress_never_falls(db: Database) -> None:
    job = await db.write(made)

    for value in (0.3, 0.1, 0.6, 2.0, 0.2):
        await db.write(lambda tx, v=value: store.progress(tx, job, 1, v))  # type: ignore[misc]
    found = await db.read(lambda tx: store.get(tx, job))
    assert found is not None and found.progress == 0.99


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_show_every_job_once_in_order(db: Database, order: str) -> None:
    ids = [await db.write(made) for _ in range(7)]
    seen: list[str] = []
    more = True
    while more:
        after = seen[-1] if seen else None
        page, more = await db.read(
            lambda tx, a=after: store.page(tx, limit=3, after=a, order=order, project=None, state=None)  # type: ignore[misc, arg-type]
        )
        seen += page
    assert seen == (ids if order == "asc" else ids[::-1])


async def test_a_key_answers_its_first_job_and_refuses_another_request(db: Database) -> None:
    job = await db.write(lambda tx: made(tx, "key"))
    assert await db.write(lambda tx: made(tx, "key")) == job
    with pytest.raises(Conflict):
        await db.write(lambda tx: made(tx, "key", VideoRequest(prompt="another")))
