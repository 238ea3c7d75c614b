"""Guarded transitions and pages: two movers, one winner; no step that is not listed."""

import asyncio
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from router import store
from router.contract.card import ResolvedRequest
from router.contract.errors import Conflict
from router.contract.job import ATTEMPT_TRANSITIONS, TRANSITIONS, AttemptStatus, Decision, Job, Status
from router.contract.request import Task, VideoRequest
from router.contract.words import same
from router.db import Database, Tx
from router.tables import attempts, jobs

REQUEST = VideoRequest(prompt="a red ball")
RESOLVED = ResolvedRequest(
    backend="b", model="b/m", wire_id="m", task=Task.TEXT_TO_VIDEO, prompt="a red ball", duration=5
)


def decided(why: str) -> Decision:
    """A decision that differs by its reason alone."""
    at = datetime(2026, 11, 26, tzinfo=UTC)
    return Decision(at=at, mode="cheapest", chosen=None, candidates=(), rejected=(), reason=same(why))


def made(tx: Tx, key: str | None = None, request: VideoRequest = REQUEST) -> str:
    print_ = store.fingerprint(request)
    return store.create(tx, request, {}, seed=1, idempotency_key=key, print_=print_)[0].id


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
        seen += [job.id for job in page]
    assert seen == (ids if order == "asc" else ids[::-1])


async def test_a_key_answers_its_first_job_and_refuses_another_request(db: Database) -> None:
    job = await db.write(lambda tx: made(tx, "key"))
    assert await db.write(lambda tx: made(tx, "key")) == job
    with pytest.raises(Conflict):
        await db.write(lambda tx: made(tx, "key", VideoRequest(prompt="another")))


@pytest.mark.parametrize("key", [None, "key"])
async def test_a_new_job_is_answered_as_the_database_has_it(db: Database, key: str | None) -> None:
    request = VideoRequest.model_validate(
        {
            "prompt": "赤い球 \U0001f534",
            "duration": 5,
            "resolution": "1280x720",
            "project": "ads",
            "tags": ["a", "b"],
            "provider_options": {"fal": {"x": [1, {"y": None}]}},
            "preferences": {"max_usd": "0.50", "deadline": "2026-12-01T09:00:00+09:00", "mode": "cheapest"},
        }
    )

    def create(tx: Tx) -> tuple[Job, bool]:
        print_ = store.fingerprint(request)
        return store.create(tx, request, {}, seed=3, idempotency_key=key, print_=print_, api_key="someone")

    answered, new = await db.write(create)
    assert new
    assert await db.read(lambda tx: store.get(tx, answered.id)) == answered
    assert answered.request == request
    if key is not None:
        assert await db.write(create) == (answered, False)


async def test_an_attempt_that_was_undone_leaves_no_decision_behind(db: Database) -> None:
    job = await db.write(made)

    def begin(tx: Tx, why: str) -> Job | None:
        tx.conn.execute(
            sa.insert(attempts).values(
                job_id=job, n=1, backend="b", model="b/m", status=AttemptStatus.RUNNING, created_at=tx.us,
                resolved=RESOLVED.model_dump_json(), reason=same(why).model_dump_json(), reserved=0,
                decision=decided(why).model_dump_json(),
            )
        )  # fmt: skip
        return store.get(tx, job)

    def undone(tx: Tx) -> None:
        begin(tx, "first")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await db.write(undone)
    seen = [await db.write(lambda tx: begin(tx, "second")), await db.read(lambda tx: store.get(tx, job))]
    assert [found.attempts[0].decision for found in seen if found is not None] == [decided("second")] * 2
