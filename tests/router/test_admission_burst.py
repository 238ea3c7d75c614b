"""A burst at the door is decided on one look at the books, and the next look comes with the first write that matters."""

from pathlib import Path
from typing import Any

import pytest

from router import admission, facts, ledger
from router.contract import errors
from router.gateway import EngineRole, Gateway
from router.ledger import Caps, Entry
from router.policy import Facts
from tests.fakes import write_provider
from tests.router.conftest import DatabaseUrl
from tests.router.house import ask, settings


async def test_jobs_of_one_kind_share_a_look_until_money_moves(
    home: Path, new_database: DatabaseUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    real = facts.take

    def take(*given: Any) -> Facts:
        looks.append(1)
        return real(*given)

    monkeypatch.setattr(facts, "take", take)
    # How long a look may be kept at most is not what this is about.
    monkeypatch.setattr(admission, "LOOK_S", 3600.0)
    write_provider(home, "paid", usd="0.10")
    ours = settings(home, new_database(), budget={"day_usd": "1.00"})
    request = ask("paid", preferences={"deadline": "30s"})
    async with Gateway.open(ours, EngineRole.NONE) as gateway:
        await gateway.submit(request)
        await gateway.submit(request)
        before = len(looks)
        jobs = [await gateway.submit(request) for _ in range(5)]
        assert len(looks) == before, "nothing happened that could change the answer"

        def spend(tx: Any) -> None:
            entry = Entry(jobs[0].id, 1, None, "paid", "paid/clip")
            ledger.reserve(tx, entry, 900_000, Caps(), ours.budget.zone)

        await gateway._db.write(spend)
        with pytest.raises(errors.BudgetExceeded):
            await gateway.submit(request)


async def test_a_look_is_not_kept_for_long(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have spent meanwhile; its commits are noticed within this time."""
    monkeypatch.setattr(admission, "LOOK_S", 0.0)
    write_provider(home, "paid", usd="0.10")
    ours = settings(home, None, budget={"day_usd": "1.00"})
    request = ask("paid", preferences={"deadline": "30s"})
    async with (
        Gateway.open(ours, EngineRole.NONE) as mine,
        Gateway.open(ours, EngineRole.NONE) as theirs,
    ):
        job, _, _ = [await mine.submit(request) for _ in range(3)]
        entry = Entry(job.id, 1, None, "paid", "paid/clip")
        await theirs._db.write(lambda tx: ledger.reserve(tx, entry, 900_000, Caps(), ours.budget.zone))
        with pytest.raises(errors.BudgetExceeded):
            await mine.submit(request)
