"""API keys' money, pacing and the multiple of our card, as the policy's decision tells them."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from router import breakeven
from router.contract import errors
from router.contract.job import Decision, Job, Status
from router.gateway import Gateway
from tests.fakes import Studio, write_provider
from tests.router.house import ask, end, serving, until

Studios = Callable[[str], Studio]


def midday(hour: int = 12) -> str:
    """A time zone in which it is about that hour now."""
    shift = datetime.now(UTC).hour - hour
    return f"Etc/GMT{(shift + 12) % 24 - 12:+d}"


async def planned(gateway: Gateway, *backends: str) -> Decision:
    return await gateway.plan(ask(*backends, preferences={"deadline": "2d"}))


async def test_with_pacing_a_burst_waits_for_the_clock_and_our_own_device_stands_in(
    home: Path, studios: Studios
) -> None:
    write_provider(home, "paid", usd="0.10")
    write_provider(home, "house", usd="0", where="house", lost_submit="resend")
    # Half a day at $2: a tenth and what the clock has earned is about $1.20 at noon: two clips of $0.50.
    budget = {"day_usd": "2", "pacing": "true", "timezone": midday(12)}
    async with serving(home, budget=budget) as gateway:
        jobs = [await end(gateway, await gateway.submit(ask("paid", "house"))) for _ in range(4)]
        assert [job.backend for job in jobs] == ["paid", "paid", "house", "house"]
        reason = jobs[-1].reason
        assert reason is not None
        assert "too expensive now: today's spending is ahead of the clock" in reason.en
        assert "時間配分より先行" in reason.ja
        found = await planned(gateway, "paid")
        (out,) = [row for row in found.rejected if row.backend == "paid"]
        assert (out.code, out.usd) == ("too_expensive", Decimal("0.5"))
        assert out.ready_at is not None and out.ready_at > found.at
        assert (await gateway.spend()).pace_usd is not None


async def test_with_pacing_a_job_without_an_alternative_waits_and_says_so(
    home: Path, studios: Studios
) -> None:
    write_provider(home, "paid", usd="0.10")
    async with serving(home, budget={"day_usd": "2", "pacing": "true", "timezone": midday(12)}) as gateway:
        for _ in range(2):
            await end(gateway, await gateway.submit(ask("paid")))
        waiting = await gateway.submit(ask("paid"))
        seen = await until(gateway, waiting, lambda job: job.reason is not None and "ahead" in job.reason.en)
        assert seen.status is Status.QUEUED


async def test_with_pacing_a_budget_that_is_used_up_is_refused_as_such(home: Path, studios: Studios) -> None:
    write_provider(home, "paid", usd="0.10")
    # Late in the evening the pace allows all of it.
    async with serving(home, budget={"day_usd": "0.60", "pacing": "true", "timezone": midday(22)}) as gateway:
        await end(gateway, await gateway.submit(ask("paid")))
        with pytest.raises(errors.BudgetExceeded, match=r"does not fit today's budget: \$0.10 left"):
            await gateway.submit(ask("paid"))
        with pytest.raises(errors.BudgetExceeded):
            await gateway.submit(ask("paid", duration=5, preferences={"max_usd": "0.10"}))


async def test_with_pacing_what_no_day_holds_is_refused_at_once(home: Path, studios: Studios) -> None:
    write_provider(home, "dear", usd="1.00")
    async with serving(home, budget={"day_usd": "2", "pacing": "true", "timezone": midday(12)}) as gateway:
        with pytest.raises(errors.BudgetExceeded):
            await gateway.submit(ask("dear", preferences={"deadline": "3d"}))


async def test_with_pacing_twenty_jobs_at_once_stay_behind_the_clock(home: Path, studios: Studios) -> None:
    write_provider(home, "paid", usd="0.10")
    async with serving(home, budget={"day_usd": "5", "pacing": "true", "timezone": midday(12)}) as gateway:
        jobs: list[Job] = [await gateway.submit(ask("paid")) for _ in range(20)]
        for job in jobs:
            await until(gateway, job, lambda seen: seen.status is Status.COMPLETED or seen.reason is not None)
        # $3.00 to $3.21 at 12:00 to 12:59.
        assert (await gateway.spend()).day_spent_usd == Decimal("3.00")


@pytest.mark.parametrize(("multiple", "where"), [("1000000", "paid"), ("10", "house")])
async def test_a_multiple_of_what_our_card_costs_in_full_is_too_expensive(
    home: Path, studios: Studios, multiple: str, where: str
) -> None:
    write_provider(home, "paid", usd="0.10")
    write_provider(home, "house", usd="0", where="house", lost_submit="resend")
    async with serving(home, router={"too_expensive_multiple": multiple}) as gateway:
        full = breakeven.full(gateway.settings.local.cost, Decimal(2))
        assert full < Decimal("0.05")
        job = await end(gateway, await gateway.submit(ask("paid", "house")))
        assert job.backend == where
        if where == "house":
            assert job.reason is not None
            assert "10 times the" in job.reason.en and "10 倍" in job.reason.ja
            with pytest.raises(errors.BudgetExceeded, match="our own card costs in full"):
                await gateway.submit(ask("paid"))


async def test_without_a_local_model_the_multiple_has_nothing_to_compare_with(
    home: Path, studios: Studios
) -> None:
    write_provider(home, "paid", usd="0.10")
    async with serving(home, router={"too_expensive_multiple": "1"}) as gateway:
        assert (await end(gateway, await gateway.submit(ask("paid")))).backend == "paid"


async def test_a_key_without_money_goes_to_our_own_device(home: Path, studios: Studios) -> None:
    write_provider(home, "paid", usd="0.10")
    write_provider(home, "house", usd="0", where="house", lost_submit="resend")
    async with serving(home) as gateway:
        assert gateway.keyring is not None
        key, _ = await gateway.keyring.add("ci", day_usd=Decimal("0.60"))
        jobs = [await end(gateway, await gateway.submit(ask("paid", "house"), caller=key)) for _ in range(2)]
        assert [job.backend for job in jobs] == ["paid", "house"]
        assert jobs[1].reason is not None
        assert "'ci' has $0.10 of $0.60 left for today" in jobs[1].reason.en
        assert "残りは $0.10" in jobs[1].reason.ja
        # The job's own limit is still the job's own.
        capped = ask("paid", preferences={"max_usd": "0.20"})
        with pytest.raises(errors.BudgetExceeded, match="this job may still cost") as refused:
            await gateway.submit(capped)
        assert refused.value.param == "max_usd"


async def test_a_projects_month_binds_too(home: Path, studios: Studios) -> None:
    write_provider(home, "paid", usd="0.10")
    async with serving(home, budget={"project_month_usd": {"film": "0.60"}}) as gateway:
        await end(gateway, await gateway.submit(ask("paid", project="film")))
        with pytest.raises(errors.BudgetExceeded):
            await gateway.submit(ask("paid", project="film"))
        assert (await end(gateway, await gateway.submit(ask("paid", project="news")))).backend == "paid"
