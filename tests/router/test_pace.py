"""Pacing: never more than a tenth of the day's budget ahead of the clock, and the time it names is exact."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from router import ledger
from router.pace import Pace

BEGINS = datetime(2026, 11, 21, tzinfo=UTC)
ENDS = BEGINS + timedelta(days=1)
DOLLAR = 1_000_000


def at(hours: float) -> datetime:
    return BEGINS + timedelta(hours=hours)


def test_a_tenth_is_free_at_midnight_and_all_of_it_from_2136() -> None:
    pace = Pace(10 * DOLLAR, 0, BEGINS, ENDS)
    assert pace.left(BEGINS) == 1 * DOLLAR
    assert pace.left(at(12)) == 6 * DOLLAR
    assert pace.left(at(21.6)) == pace.left(ENDS) == 10 * DOLLAR


def test_what_was_spent_ahead_of_the_clock_waits() -> None:
    pace = Pace(10 * DOLLAR, 3 * DOLLAR, BEGINS, ENDS)
    assert pace.left(at(2)) == 0
    assert pace.ready_at(DOLLAR) == at(7.2)
    assert pace.ready_at(8 * DOLLAR) is None, "today's budget itself does not hold it"


def test_a_clock_that_stands_before_the_day_gives_the_head_start_alone() -> None:
    assert Pace(10 * DOLLAR, 0, BEGINS, ENDS).left(BEGINS - timedelta(days=3)) == DOLLAR


@given(
    budget=st.integers(1, 10**9),
    spent=st.integers(0, 10**9),
    micros=st.integers(0, 10**9),
    hours=st.sampled_from([23, 24, 25]),
)
def test_at_the_named_time_it_fits_and_not_a_moment_before(
    budget: int, spent: int, micros: int, hours: int
) -> None:
    pace = Pace(budget, spent, BEGINS, BEGINS + timedelta(hours=hours))
    ready = pace.ready_at(micros)
    if ready is None:
        assert spent + micros > budget
        return
    assert BEGINS <= ready <= pace.ends
    # Whole micro-dollars are rounded down, so within a microsecond of it.
    assert pace.left(ready + timedelta(microseconds=86_400_000_000 // budget + 1)) >= micros
    if ready > BEGINS:
        assert pace.left(ready - timedelta(microseconds=2)) < micros or micros == 0


def test_the_budget_day_has_the_length_of_its_zone() -> None:
    from zoneinfo import ZoneInfo

    berlin = ZoneInfo("Europe/Berlin")
    begins, ends, month = ledger.turns(datetime(2026, 10, 25, 12, tzinfo=UTC), berlin)
    assert ends - begins == timedelta(hours=25)
    assert (begins.astimezone(berlin).hour, ends.astimezone(berlin).hour) == (0, 0)
    assert month == datetime(2026, 10, 31, 23, tzinfo=UTC)
