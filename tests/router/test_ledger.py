"""Money: no edit goes unseen, no cap is broken, every bill lies on the day it was promised."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from router import ledger
from router.audit import audit
from router.contract.errors import BudgetExceeded
from router.contract.words import Words
from router.db import Tx
from router.ledger import Caps, Entry
from router.tables import ledger as table
from router.tables import metadata

TOKYO, UTC_ZONE = ZoneInfo("Asia/Tokyo"), ZoneInfo("UTC")
START = datetime(2026, 11, 21, 12, tzinfo=UTC)
At = Callable[[datetime], Tx]


def books() -> At:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    metadata.create_all(engine)
    conn = engine.connect()
    return lambda now: Tx(conn, now)


@pytest.fixture(name="at")
def _at() -> At:
    return books()


def entry(number: int = 1, project: str | None = None) -> Entry:
    return Entry(f"job{number}", 1, project, "paid", "paid/clip")


def filled() -> Tx:
    tx = books()(START)
    for number in range(4):
        ledger.reserve(tx, entry(number, "film"), 500_000, Caps(), UTC_ZONE)
        ledger.settle(tx, entry(number, "film"), number * 100_000, "provider", UTC_ZONE)
    return tx


def chain(tx: Tx) -> tuple[Words, ...]:
    """What the audit says of the rows themselves; these books have no attempts beside them."""
    return tuple(problem for problem in audit(tx).problems if "nowhere else" not in problem.en)


@settings(deadline=None)
@given(row=st.integers(1, 8), column=st.sampled_from([*ledger.HASHED, "api_key"]), data=st.data())
def test_any_edit_of_any_row_shows(row: int, column: str, data: st.DataObject) -> None:
    tx = filled()
    assert chain(tx) == ()
    old: Any = tx.conn.execute(sa.select(table.c[column]).where(table.c.seq == row)).scalar_one()
    numeric = isinstance(old, int)
    new: Any = data.draw(st.integers(-(2**40), 2**40) if numeric else st.text("abc-0123456789", max_size=12))
    tx.conn.execute(sa.update(table).where(table.c.seq == row).values({column: new}))
    problems = chain(tx)
    assert bool(problems) == (new != old)
    assert all(f"row {row} " in problem.en for problem in problems)


@settings(deadline=None)
@given(row=st.integers(1, 7))
def test_a_row_taken_out_of_the_middle_shows(row: int) -> None:
    tx = filled()
    tx.conn.execute(sa.delete(table).where(table.c.seq == row))
    assert chain(tx)


def test_the_day_turns_at_midnight_of_the_budgets_time_zone(at: At) -> None:
    before, after = (datetime(2026, 11, 30, 14, 59, 59, tzinfo=UTC) + timedelta(seconds=s) for s in (0, 1))
    assert (ledger.day_of(before, TOKYO), ledger.day_of(after, TOKYO)) == ("2026-11-30", "2026-12-01")
    ledger.reserve(at(before), entry(1), 600_000, Caps(day=1_000_000), TOKYO)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(at(before), entry(2), 600_000, Caps(day=1_000_000), TOKYO)
    ledger.reserve(at(after), entry(2), 600_000, Caps(day=1_000_000, month=1_000_000), TOKYO)


def test_a_bill_after_midnight_counts_on_the_day_it_was_reserved(at: At) -> None:
    ledger.reserve(at(START), entry(), 500_000, Caps(), UTC_ZONE)
    later = at(START + timedelta(days=11))
    assert ledger.settle(later, entry(), 700_000, "provider", UTC_ZONE) == 200_000
    assert ledger.sums(later, job_id=None, project=None, day="2026-11-21").day == 700_000
    december = ledger.sums(later, job_id=None, project=None, day="2026-12-02")
    assert (december.day, december.month) == (0, 0)


def test_a_bill_that_nothing_was_reserved_for_counts_on_the_budgets_own_day(at: At) -> None:
    tx = at(datetime(2026, 11, 30, 20, tzinfo=UTC))
    ledger.settle(tx, entry(), 300_000, "provider", TOKYO)
    assert ledger.sums(tx, job_id=None, project=None, day="2026-12-01").day == 300_000


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        (Caps(job=900_000), "this job's own limit of $0.90 has $0.40 left"),
        (Caps(project_day=800_000), "the project's budget for today of $0.80 has $0.30 left"),
        (Caps(day=500_000), "today's budget of $0.50 has $0.00 left"),
        (Caps(month=1_000_000 - 1), "this month's budget of $0.999999 has $0.499999 left"),
    ],
)
def test_a_broken_cap_is_named_with_what_is_left(caps: Caps, said: str) -> None:
    why = ledger.over(caps, ledger.Sums(500_000, 500_000, 500_000, 500_000), 500_000)
    assert why is not None
    assert why.en == f"it may cost $0.50 and {said}"
    assert why.ja != why.en


def test_what_fits_exactly_fits() -> None:
    full = ledger.Sums(500_000, 500_000, 500_000, 500_000)
    assert ledger.over(Caps(1_000_000, 1_000_000, 1_000_000, 1_000_000), full, 500_000) is None


@settings(deadline=None)
@given(
    moves=st.lists(
        st.tuples(
            st.integers(0, 5), st.integers(0, 700_000), st.sampled_from(["reserve", "settle", "release"])
        ),
        max_size=40,
    )
)
def test_sums_are_never_negative_and_never_above_a_cap(moves: list[tuple[int, int, str]]) -> None:
    tx, cap = books()(START), 1_000_000
    promised: dict[int, int] = {}
    for number, micros, kind in moves:
        who = entry(number)
        if kind == "reserve" and number not in promised:
            try:
                ledger.reserve(tx, who, micros, Caps(day=cap), UTC_ZONE)
                promised[number] = micros
            except BudgetExceeded:
                pass
        elif kind != "reserve" and promised.get(number, 0) > 0:
            billed = min(micros, promised[number]) if kind == "settle" else 0
            assert ledger.settle(tx, who, billed, "provider", UTC_ZONE) == 0
            promised[number] = -1
        reserved, settled = ledger.attempt_sum(tx, who.job_id, 1)
        assert reserved >= 0 and settled >= 0
        assert 0 <= ledger.sums(tx, job_id=None, project=None, day="2026-11-21").day <= cap
    assert chain(tx) == ()


def test_no_sum_is_negative_by_request(at: At) -> None:
    with pytest.raises(ValueError, match="negative"):
        ledger.reserve(at(START), entry(), -1, Caps(), UTC_ZONE)
    with pytest.raises(ValueError, match="negative"):
        ledger.settle(at(START), entry(), -1, "provider", UTC_ZONE)
