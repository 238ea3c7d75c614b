"""What the planner remembers of the last hour: new jobs only, a fair sample of a flood, the same after a restart."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from router import store
from router.arrivals import KEPT, Arrivals
from router.contract.request import VideoRequest
from router.db import Database, Tx
from router.policy import Ask

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BOAT, HORSE = VideoRequest(prompt="a boat"), VideoRequest(prompt="a horse")


def ask(number: int, at: datetime) -> Ask:
    return Ask(f"vid_{number:05}", HORSE if number % 2 else BOAT, number, created_at=at)


def fill(arrivals: Arrivals, count: int, at: datetime, first: int = 0) -> None:
    for n in range(first, first + count):
        arrivals.add(f"vid_{n:05}", at, partial(ask, n, at))


def test_few_jobs_are_all_remembered_for_an_hour() -> None:
    arrivals = Arrivals()
    fill(arrivals, 3, NOW - timedelta(minutes=61))
    fill(arrivals, 4, NOW - timedelta(minutes=59), first=10)
    fill(arrivals, 5, NOW, first=20)
    seen = arrivals.of(NOW)
    assert [s.jobs for s in seen] == [1] * 9
    assert [s.ask.seed for s in seen] == [10, 11, 12, 13, 20, 21, 22, 23, 24]
    assert len(arrivals.of(NOW + timedelta(minutes=30))) == 5


def test_a_flood_is_sampled_evenly_and_costs_the_quiet_times_nothing() -> None:
    arrivals = Arrivals()
    fill(arrivals, 7, NOW - timedelta(minutes=30))
    fill(arrivals, 5000, NOW, first=100)
    seen = arrivals.of(NOW)
    assert sum(s.jobs for s in seen if s.ask.created_at != NOW) == 7
    flood = [s for s in seen if s.ask.created_at == NOW]
    assert len(flood) <= KEPT
    assert sum(s.jobs for s in flood) == pytest.approx(5000, rel=0.35)
    kinds = Counter(s.ask.request.prompt for s in flood)
    assert min(kinds.values()) > len(flood) / 4, "alternating kinds are not sampled as one"


async def test_a_restarted_planner_remembers_the_same(tmp_path: Path) -> None:
    db = await Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    try:

        def create(tx: Tx) -> None:
            for n in range(5):
                store.create(tx, BOAT, {}, seed=n, idempotency_key=None, print_=f"{n}")

        await db.write(create)
        going_on, restarted = Arrivals(), Arrivals()
        await db.read(going_on.read)
        await db.read(going_on.read)
        await db.write(create)
        await db.read(going_on.read)
        await db.read(restarted.read)
        now = datetime.now(UTC)
        seen = going_on.of(now)
        assert [s.ask.seed for s in seen] == [0, 1, 2, 3, 4] * 2
        assert seen == restarted.of(now)
    finally:
        await db.close()
