"""Windows, rests and breakers, moved through time by hand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from router import limits
from router.contract.card import Limits
from router.contract.words import same
from router.db import Tx
from router.tables import metadata
from router.windows import Windows

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
At = Callable[[float], Tx]


@pytest.fixture(name="at")
def _at() -> At:
    """A transaction at that many seconds after the start."""
    return clock()


def clock() -> At:
    # Collected by whichever thread runs the collector then.
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    metadata.create_all(engine)
    conn = engine.connect()
    return lambda seconds: Tx(conn, START + timedelta(seconds=seconds))


def free_at(tx: Tx, rule: Limits) -> datetime | None:
    return Windows(tx, {"m": rule}).free_at("m")


def rest_of(tx: Tx) -> limits.Rest:
    return limits.rests(tx)["m"]


@settings(deadline=None)
@given(
    allowed=st.integers(1, 5),
    steps=st.lists(st.tuples(st.floats(0, 40), st.floats(0, 10)), min_size=1, max_size=40),
)
def test_no_window_of_the_provider_ever_holds_more_than_allowed(
    allowed: int, steps: list[tuple[float, float]]
) -> None:
    """Each step: wait, start if the window is free, be answered later; the provider counts at any time between."""
    at, now, arrived = clock(), 0.0, []
    rule = Limits(starts_per_minute=allowed)
    for number, (wait, answer) in enumerate(steps):
        now += wait
        if free_at(at(now), rule) is not None:
            continue
        limits.take(at(now), ["m"], f"job{number}", 1)
        seen = now + answer * (number % 3) / 2
        now += answer
        limits.answered(at(now), f"job{number}", 1)
        arrived.append(seen)
    for first in arrived:
        assert sum(first <= other < first + 60 - 1e-5 for other in arrived) <= allowed


def test_a_start_that_was_not_answered_counts_as_now(at: At) -> None:
    rule = Limits(starts_per_minute=1)
    limits.take(at(0), ["m"], "job", 1)
    assert free_at(at(500), rule) == START + timedelta(seconds=560)
    limits.answered(at(500), "job", 1)
    assert free_at(at(559.9), rule) == START + timedelta(seconds=560)
    assert free_at(at(560), rule) is None


def test_of_several_windows_the_last_to_open_decides(at: At) -> None:
    rule = Limits(starts_per_second=1, starts_per_day=1)
    limits.take(at(0), ["m"], "job", 1)
    limits.answered(at(0), "job", 1)
    assert free_at(at(5), rule) == START + timedelta(days=1)


def test_hits_that_count_nowhere_are_forgotten_and_others_are_not(at: At) -> None:
    rule = Limits(starts_per_day=1)
    limits.take(at(0), ["m"], "old", 1)
    limits.answered(at(0), "old", 1)
    limits.forget_old(at(86_000))
    assert free_at(at(86_000), rule) is not None
    limits.forget_old(at(3 * 86_400))
    assert free_at(at(3 * 86_400), rule) is None


def test_a_rest_until_the_year_3000_is_cut_to_a_day(at: At) -> None:
    until = limits.rest(at(0), "m", 974 * 365 * 86_400.0, "rate_limited", same("later"))
    assert until == START + timedelta(days=1)
    assert limits.rest(at(0), "n", float("inf"), "rate_limited", same("later")) == until


def test_a_rest_is_never_made_shorter(at: At) -> None:
    long = limits.rest(at(0), "m", 100, "rate_limited", same("first"))
    assert limits.rest(at(1), "m", 10, "rate_limited", same("second")) == long
    for _ in range(3):
        limits.failed(at(2), "m", same("503"))
    assert rest_of(at(2)).until == long


def test_the_breaker_opens_at_the_third_failure_in_a_row_and_doubles_to_five_minutes(at: At) -> None:
    assert limits.failed(at(0), "m", same("503")) is None
    limits.worked(at(1), "m")
    assert limits.failed(at(2), "m", same("503")) is None
    assert limits.failed(at(3), "m", same("503")) is None
    now, waits = 4.0, []
    for _ in range(6):
        until = limits.failed(at(now), "m", same("503"))
        assert until is not None
        waits.append((until - START).total_seconds() - now)
        now = (until - START).total_seconds()
        assert rest_of(at(now)).half_open
    assert waits == [30, 60, 120, 240, 300, 300]


def test_jobs_on_their_way_when_it_opens_do_not_lengthen_the_same_outage(at: At) -> None:
    untils = [limits.failed(at(number / 10), "m", same("503")) for number in range(12)]
    assert untils[:2] == [None, None]
    assert set(untils[2:]) == {START + timedelta(seconds=30.2)}


def test_success_closes_the_breaker_and_forgets_its_backoff_but_not_a_rest_that_was_asked_for(at: At) -> None:
    for _ in range(3):
        limits.failed(at(0), "m", same("503"))
    limits.worked(at(1), "m", seconds=10)
    assert (rest_of(at(1)).until, rest_of(at(1)).streak, rest_of(at(1)).mean_s) == (None, 0, 10)
    until = limits.rest(at(2), "m", 60, "rate_limited", same("later"))
    limits.worked(at(3), "m")
    assert rest_of(at(3)).until == until


def test_only_the_probe_itself_makes_room_for_the_next_probe(at: At) -> None:
    for _ in range(3):
        limits.failed(at(0), "m", same("503"))
    limits.probe(at(40), "m", "job1")
    limits.probe_over(at(41), "m", "job2")
    assert rest_of(at(41)).probe_job == "job1"
    limits.probe_over(at(42), "m", "job1")
    assert (rest_of(at(42)).probe_job, rest_of(at(42)).half_open) == (None, True)


def test_a_clock_that_jumps_back_makes_no_window_and_no_rest_wait_for_it(at: At) -> None:
    year = 365 * 86_400
    limits.take(at(year), ["m"], "job1", 1)
    limits.answered(at(year), "job1", 1)
    limits.rest(at(year), "m", 3600, "rate_limited", same("slow down"))
    rule = Limits(starts_per_minute=1)
    back = at(0)
    assert limits.heal_clock(back) == 2
    assert free_at(back, rule) is not None, "what was counted still counts"
    assert free_at(at(61), rule) is None
    until = rest_of(at(0)).until
    assert until is not None and until <= START + timedelta(days=1)
    assert limits.heal_clock(at(1)) == 0
