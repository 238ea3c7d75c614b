"""What our own device cost: time that overlaps counts once, days turn with the budget, and it is in no settled sum."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.gateway import EngineRole, Gateway
from router.settings import Settings
from router.spending import by_day, merged
from tests.router.house import ask, end

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def test_jobs_that_wait_in_the_devices_own_queue_count_once() -> None:
    assert merged([(at(5), at(9)), (at(0), at(6)), (at(20), at(21)), (at(7), at(8))]) == [
        (at(0), at(9)),
        (at(20), at(21)),
    ]


def test_a_span_over_midnight_is_split_in_the_budgets_zone() -> None:
    start = datetime(2026, 11, 21, 14, 59, tzinfo=UTC)
    assert list(by_day(start, start + timedelta(minutes=3), ZoneInfo("Asia/Tokyo"))) == [
        ("2026-11-21", 60.0),
        ("2026-11-22", 120.0),
    ]


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 90)), max_size=12))
def test_no_minute_is_counted_twice_and_none_is_lost(spans: list[tuple[int, int]]) -> None:
    found = merged([(at(a), at(a + n)) for a, n in spans])
    whole = {m for a, n in spans for m in range(a, a + n)}
    assert sum((e - s).total_seconds() for s, e in found) == 60 * len(whole)
    assert all(one[1] < two[0] for one, two in itertools.pairwise(found))


@pytest.mark.timeout(240)
async def test_electricity_stands_beside_the_bills(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = {
        "UNDERSTUDY_HOME": str(home),
        "UNDERSTUDY_LOCAL_WATTS": "1000",
        "UNDERSTUDY_LOCAL_KWH_USD": "3.6",
    }
    async with Gateway.open(Settings.load(environ), EngineRole.SERVE) as gateway:
        job = await gateway.submit(ask("local/tiny", model="local/tiny"))
        done = await end(gateway, job)
        assert done.status == "completed", done.error
        report = await gateway.spend()
    (day,) = report.local
    assert (day.clips, report.day_spent_usd, done.billed_usd) == (1, Decimal(0), Decimal(0))
    # 1 kW at $3.60 a kWh is a tenth of a cent a second.
    assert day.electricity_usd == pytest.approx(Decimal(str(day.seconds)) / 1000, abs=Decimal("0.001"))
    assert day.per_clip_usd == day.electricity_usd
    assert report.owning_day_usd > 0
