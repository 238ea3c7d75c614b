"""What the planner remembers of waiting jobs: read once, read again after an event, gone when they start or end."""

from collections.abc import Sequence

import pytest

from router import store
from router.contract.job import Status
from router.contract.request import VideoRequest
from router.contract.words import same
from router.db import Database, Tx
from router.store import Waiting
from router.waitlist import Waitlist


def create(tx: Tx, count: int) -> list[str]:
    request = VideoRequest(prompt="a boat")
    return [
        store.create(tx, request, {}, seed=n, idempotency_key=None, print_="")[0].id for n in range(count)
    ]


async def read(db: Database, waitlist: Waitlist, most: int = 10) -> list[Waiting]:
    return await db.read(lambda tx: waitlist.read(tx, store.newest_event(tx), most))


def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the jobs that were read from their rows from now on."""
    seen: list[str] = []
    real = store.load_waiting

    def loading(tx: Tx, ids: Sequence[str]) -> list[Waiting]:
        seen.extend(ids)
        return real(tx, ids)

    monkeypatch.setattr(store, "load_waiting", loading)
    return seen


async def test_a_pass_reads_only_what_is_new_or_touched(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waitlist = Waitlist()
    first = await db.write(lambda tx: create(tx, 3))
    assert [w.job.id for w in await read(db, waitlist)] == first
    loaded = parsed(monkeypatch)
    assert [w.job.id for w in await read(db, waitlist)] == first
    assert loaded == []
    more = await db.write(lambda tx: create(tx, 1))
    await db.write(lambda tx: store.request_cancel(tx, first[1]))
    again = await read(db, waitlist)
    assert [w.job.id for w in again] == first + more
    assert loaded == [first[1], *more]
    assert [w.job.cancel_requested for w in again] == [False, True, False, False]


async def test_what_started_or_ended_is_gone_and_its_place_is_taken_by_the_next(db: Database) -> None:
    waitlist = Waitlist()
    ids = await db.write(lambda tx: create(tx, 4))
    assert [w.job.id for w in await read(db, waitlist, most=3)] == ids[:3]
    await db.write(lambda tx: store.move_job(tx, ids[0], Status.CANCELLED))
    assert [w.job.id for w in await read(db, waitlist, most=3)] == ids[1:]


async def test_a_reason_is_written_for_all_that_still_wait_and_remembered(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waitlist = Waitlist()
    ids = await db.write(lambda tx: create(tx, 3))
    await read(db, waitlist)
    await db.write(lambda tx: store.move_job(tx, ids[2], Status.CANCELLED))
    moon = same("waits for the moon")
    await db.write(lambda tx: store.explain(tx, ids, moon))
    waitlist.told(ids, moon)
    loaded = parsed(monkeypatch)
    assert [w.job.reason for w in await read(db, waitlist)] == [moon, moon]
    assert loaded == []
    jobs = await db.read(lambda tx: store.load(tx, ids))
    assert [job.reason for job in jobs] == [moon, moon, None]
