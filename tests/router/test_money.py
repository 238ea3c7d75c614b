"""Money under random faults and under concurrency: books equal bills, no cap is ever broken, a refusal is paid once."""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router import keys, ledger
from router.contract import errors
from router.contract.backend import Pending
from router.contract.job import AttemptStatus, Job, Status
from router.contract.words import same
from router.db import Database, Tx
from router.explain import note
from router.gateway import Gateway
from router.ledger import Caps, Entry
from router.tables import ledger as table
from tests import fakes
from tests.fakes import Accept, Done, Lose, Refuse, Studio, write_provider
from tests.router.conftest import DatabaseUrl
from tests.router.house import ask, end, serving, until
from tests.router.test_ledger import START, books

UTC_ZONE = ZoneInfo("UTC")
Studios = Callable[[str], Studio]
ZERO = Decimal(0)
DAY = Decimal("3.00")
OVER_WITHIN_S = 60

# -- random faults

_SAYS = st.sampled_from([None, "0", "0.10", "0.50"])
"""What the provider tells as its bill; never above the table, so that no cap may be broken."""


def _usd(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


@st.composite
def accidents(draw: st.DrawFn) -> tuple[fakes.Submit, tuple[fakes.Look, ...]]:
    """How one submit is answered, and what the looks at the task find."""
    submit: fakes.Submit = draw(
        st.sampled_from(
            [
                Accept(),
                Accept(),
                Accept(),
                Refuse(errors.Unavailable(same("503"))),
                Refuse(errors.RateLimited(same("slow down"), retry_after=0.2)),
                Refuse(errors.ContentRejected(same("no"))),
                Refuse(errors.Unavailable(same("no route")), sent=False),
                Lose(),
            ]
        )
    )
    billed = _usd(draw(_SAYS))
    last: fakes.Look = draw(
        st.sampled_from(
            [
                Done(billed),
                Done(billed),
                errors.GenerationFailed(same("it broke"), billed_usd=billed),
                errors.ContentRejected(same("refused later"), billed_usd=billed),
                errors.OperationLost(same("gone"), billed_usd=billed),
            ]
        )
    )
    return submit, (Pending(0.3), last) if draw(st.booleans()) else (last,)


NAMES = ("maybe", "never", "always", "unpriced")


@pytest.mark.timeout(300)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    script=st.lists(st.tuples(st.sampled_from(NAMES), accidents()), min_size=4, max_size=24),
    jobs=st.integers(4, 16),
    cancels=st.sets(st.integers(0, 15), max_size=4),
    retry=st.booleans(),
)
def test_the_ledger_equals_the_bills_whatever_happens(
    clip_file: Path,
    script: list[tuple[str, tuple[fakes.Submit, tuple[fakes.Look, ...]]]],
    jobs: int,
    cancels: set[int],
    retry: bool,
) -> None:
    fakes.clips[:] = [clip_file]
    fakes.studios.clear()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_accidents(Path(folder), script, jobs, cancels, retry))
    fakes.studios.clear()


async def _accidents(
    home: Path,
    script: list[tuple[str, tuple[fakes.Submit, tuple[fakes.Look, ...]]]],
    count: int,
    cancels: set[int],
    retry: bool,
) -> None:
    for name in NAMES[:3]:
        write_provider(home, name, failure_billed=name)
    write_provider(home, "unpriced", usd=None)
    for name in NAMES:
        studio = fakes.studio(name)
        looks = [looks for where, (_, looks) in script if where == name]
        studio.submits.extend(submit for where, (submit, _) in script if where == name)
        # Tasks take their looks at acceptance: each further one takes the next script's.
        studio.looks = looks[0] if looks else (Done(),)
    zone = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
    budget = {"day_usd": str(DAY), "timezone": zone, "project_day_usd": {"film": "1.20"}}
    async with serving(home, budget=budget, router={"max_attempts": 3}) as gateway:
        watching = asyncio.create_task(_never_above(gateway))
        made: list[Job] = []
        for number in range(count):
            wish = {
                "allow_unknown_price": number % 2 == 0,
                "retry_refused": retry,
                "deadline": "10s",
                "allow_duplicate_spend": number % 5 == 0,
            }
            project = "film" if number % 3 == 0 else None
            try:
                made.append(await gateway.submit(ask(*NAMES, project=project, preferences=wish)))
            except errors.BudgetExceeded:
                continue
            if number in cancels:
                await gateway.cancel(made[-1].id)
        async with asyncio.timeout(OVER_WITHIN_S):
            ended = [await until_over(gateway, job) for job in made]
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert not watching.done() or watching.cancelled(), watching.exception()
        await _books_equal_bills(gateway, ended)


async def until_over(gateway: Gateway, job: Job) -> Job:
    while True:
        seen = await gateway.get(job.id)
        if seen.status.ended:
            return seen
        await gateway._db.pulse.wait(gateway._db.pulse.count, 0.3)


async def _never_above(gateway: Gateway) -> None:
    """Looks at every change: reserved + spent of the day and of the project."""

    def sums(tx: Tx) -> ledger.Sums:
        day = ledger.day_of(tx.now, gateway.settings.budget.zone)
        return ledger.sums(tx, job_id=None, project="film", day=day)

    while True:
        seen = gateway._db.pulse.count
        have = await gateway._db.read(sums)
        # An unpriced clip is booked at its bill, which nothing was reserved for: the caller allowed it.
        free = await gateway._db.read(_unreserved)
        assert have.day - free <= int(DAY * 1_000_000), have
        assert have.project_day - free <= 1_200_000, have
        await gateway._db.pulse.wait(seen, 0.2)


def _unreserved(tx: Tx) -> int:
    c = table.c
    total = sa.func.coalesce(sa.func.sum(c.settled), 0)
    return int(tx.conn.execute(sa.select(total).where(c.backend == "unpriced")).scalar_one())


async def _books_equal_bills(gateway: Gateway, jobs: list[Job]) -> None:
    assert (await gateway.verify_ledger())["problems"] == []
    booked = ZERO
    for job in jobs:
        for attempt in job.attempts:
            reserved, settled = await gateway._db.read(
                lambda tx, a=attempt: ledger.attempt_sum(tx, a.job_id, a.n)  # type: ignore[misc]
            )
            assert settled == int((attempt.billed_usd or ZERO) * 1_000_000), attempt
            open_ = attempt.status is AttemptStatus.UNRESOLVED
            assert reserved == (int(attempt.reserved_usd * 1_000_000) if open_ else 0), attempt
            booked += attempt.billed_usd or ZERO
            _by_the_rule(attempt.backend, attempt)
        assert job.billed_usd == sum((a.billed_usd or ZERO for a in job.attempts), ZERO)
    report = await gateway.spend()
    assert sum((row.settled_usd for row in report.rows), ZERO) == booked
    # What the providers told is in the books to the cent.
    told = sum((a.billed_usd or ZERO for j in jobs for a in j.attempts if a.bill_basis == "provider"), ZERO)
    assert told == sum((studio.bill for studio in fakes.studios.values()), ZERO)


def _by_the_rule(backend: str, attempt: Any) -> None:
    match attempt.bill_basis:
        case "provider":
            return
        case "none":
            assert attempt.billed_usd == 0 and attempt.accepted_at is None
        case "documented":
            assert attempt.billed_usd == 0 and backend == "never"
        case "table":
            assert attempt.billed_usd == attempt.estimate_usd and backend != "unpriced"
        case "unknown":
            assert attempt.billed_usd is None and backend == "unpriced"
        case None:
            assert attempt.status is AttemptStatus.UNRESOLVED
        case other:
            pytest.fail(f"basis {other}")


# -- concurrency


@pytest.fixture
async def two(new_database: DatabaseUrl, tmp_path: Path) -> AsyncIterator[list[Database]]:
    """Two programs over one database."""
    url = new_database() or f"sqlite:///{tmp_path / 'ours.sqlite'}"
    opened = [await Database.open(url) for _ in range(2)]
    yield opened
    for db in opened:
        await db.close()


@pytest.mark.parametrize("seed", range(3))
async def test_no_cap_is_broken_by_two_programs_that_reserve_and_settle_at_once(
    two: list[Database], seed: int
) -> None:
    draw = random.Random(seed)
    caps = Caps(
        day=4_000_000,
        month=5_000_000,
        project_day=2_000_000,
        project_month=2_500_000,
        key_day=1_500_000,
        key_month=1_700_000,
    )
    plans = [
        (
            Entry(
                f"job{n}",
                1,
                draw.choice([None, "film", "news"]),
                "paid",
                "paid/clip",
                draw.choice([None, "a", "b"]),
            ),
            draw.randrange(0, 700_000),
            draw.random(),
        )
        for n in range(60)
    ]

    async def one(number: int, entry: Entry, micros: int, share: float) -> None:
        db = two[number % 2]
        try:
            await db.write(lambda tx: ledger.reserve(tx, entry, micros, caps, UTC_ZONE))
        except errors.BudgetExceeded:
            return
        await asyncio.sleep(share / 20)
        await db.write(lambda tx: ledger.settle(tx, entry, int(micros * share), "provider", UTC_ZONE))

    await asyncio.gather(*(one(n, *plan) for n, plan in enumerate(plans)))

    def worst(tx: Tx) -> list[tuple[str, int]]:
        """The highest that each sum ever stood at, from the rows in their order."""
        found = []
        rows = tx.conn.execute(sa.select(table).order_by(table.c.seq)).mappings().all()
        for what, mine in (
            ("day", lambda row: True),
            *((f"project {p}", lambda row, p=p: row["project"] == p) for p in ("film", "news")),
            *((f"key {k}", lambda row, k=k: row["api_key"] == k) for k in ("a", "b")),
        ):
            have, most = 0, 0
            for row in rows:
                if mine(row):
                    have += row["reserved"] + row["settled"]
                    most = max(most, have)
            found.append((what, most))
        return found

    most = dict(await two[0].read(worst))
    assert most["day"] <= 4_000_000
    assert max(most["project film"], most["project news"]) <= 2_000_000
    assert max(most["key a"], most["key b"]) <= 1_500_000


def test_each_budget_of_a_key_and_a_project_stops_by_name() -> None:
    tx = books()(START)
    ledger.reserve(tx, Entry("job1", 1, "film", "paid", "paid/clip", "ci"), 500_000, Caps(), UTC_ZONE)
    for n, (caps, said) in enumerate(
        (
            (Caps(project_month=900_000), "the project's budget for this month of $0.90 has $0.40 left"),
            (Caps(key_day=900_000), "this API key's budget for today of $0.90 has $0.40 left"),
            (Caps(key_month=900_000), "this API key's budget for this month of $0.90 has $0.40 left"),
        )
    ):
        mine = Entry("job2", 1, "film", "paid", "paid/clip", "ci")
        with pytest.raises(errors.BudgetExceeded, match=said.replace("$", r"\$")) as refused:
            ledger.reserve(tx, mine, 500_000, caps, UTC_ZONE)
        assert refused.value.message.ja != refused.value.message.en
        another = Entry(f"other{n}", 1, f"news{n}", "paid", "paid/clip", f"key{n}")
        ledger.reserve(tx, another, 500_000, caps, UTC_ZONE)


# -- a clock that jumps back


async def test_a_clock_that_jumps_back_neither_opens_nor_breaks_a_budget(
    home: Path, studios: Studios, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_provider(home, "paid")
    now = datetime.now(UTC).replace(hour=12, minute=0)
    clock = {"ahead": timedelta(0)}
    async with serving(home, budget={"day_usd": "0.60"}) as gateway:
        started = datetime.now(UTC)
        monkeypatch.setattr(
            gateway._db, "_clock", lambda conn: now + (datetime.now(UTC) - started) + clock["ahead"]
        )
        job = await end(gateway, await gateway.submit(ask("paid")))
        assert job.status is Status.COMPLETED
        # Back within the day: the money of the day is still spent.
        clock["ahead"] = -timedelta(hours=3)
        with pytest.raises(errors.BudgetExceeded):
            await gateway.submit(ask("paid", preferences={"deadline": "30s"}))
        # Back over midnight: yesterday's own budget counts, and today's is still spent when the clock is right again.
        clock["ahead"] = -timedelta(days=1)
        assert (await gateway.spend()).day_spent_usd == 0
        clock["ahead"] = timedelta(0)
        assert (await gateway.spend()).day_spent_usd == Decimal("0.50")
        with pytest.raises(errors.BudgetExceeded):
            await gateway.submit(ask("paid", preferences={"deadline": "30s"}))
        assert (await gateway.verify_ledger())["problems"] == []


async def test_a_bill_that_comes_after_the_clock_jumped_back_counts_where_it_was_promised(
    home: Path, studios: Studios, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_provider(home, "paid")
    studios("paid").looks = (Pending(0.1),)
    now = datetime.now(UTC).replace(hour=12, minute=0)
    back = {"by": timedelta(0)}
    async with serving(home, budget={"day_usd": "0.60"}) as gateway:
        monkeypatch.setattr(gateway._db, "_clock", lambda conn: now - back["by"])
        job = await gateway.submit(ask("paid"))
        await until(gateway, job, lambda seen: seen.status is Status.RUNNING)
        back["by"] = timedelta(days=2)
        studios("paid").tasks[0].then(Done(Decimal("0.40")))
        assert (await end(gateway, job)).billed_usd == Decimal("0.40")
        days = {row.day: row.settled_usd for row in (await gateway.spend()).rows if row.settled_usd}
        back["by"] = timedelta(0)
        days |= {row.day: row.settled_usd for row in (await gateway.spend()).rows if row.settled_usd}
        assert days == {now.date().isoformat(): Decimal("0.40")}


# -- moderation


async def bills(gateway: Gateway, job: Job) -> list[tuple[int, str, Decimal]]:
    return [(b.n, b.kind, b.settled_usd) for b in await gateway.bookings(job.id) if b.kind != "reserve"]


@pytest.mark.parametrize("accepted", [False, True], ids=["at the door", "after acceptance"])
async def test_a_refused_prompt_ends_the_job_with_one_bill_row(
    home: Path, studios: Studios, accepted: bool
) -> None:
    write_provider(home, "strict", usd="0.10", failure_billed="always")
    write_provider(home, "lax", usd="0.20")
    refused = errors.ContentRejected(same("not this"))
    if accepted:
        studios("strict").looks = (refused,)
    else:
        studios("strict").submits.append(Refuse(refused))
    async with serving(home) as gateway:
        job = await end(gateway, await gateway.submit(ask("strict", "lax")))
        assert (job.status, job.error and job.error.code) == (Status.FAILED, "content_rejected")
        assert len(job.attempts) == 1
        assert studios("lax").posts == 0
        assert await bills(gateway, job) == [
            (1, "settle", Decimal("0.5")) if accepted else (1, "release", ZERO)
        ]


async def test_a_refused_prompt_goes_on_where_the_job_allows_it(home: Path, studios: Studios) -> None:
    write_provider(home, "strict", usd="0.10", failure_billed="always")
    write_provider(home, "lax", usd="0.20")
    studios("strict").looks = (errors.ContentRejected(same("not this")),)
    async with serving(home) as gateway:
        job = await end(
            gateway, await gateway.submit(ask("strict", "lax", preferences={"retry_refused": True}))
        )
        assert (job.status, job.backend) == (Status.COMPLETED, "lax")
        assert [n for n, _, _ in await bills(gateway, job)] == [1, 2]


# -- reports


async def test_overruns_bases_and_unknown_bills_are_in_the_report(home: Path, studios: Studios) -> None:
    write_provider(home, "low", usd="0.10")
    write_provider(home, "unpriced", usd=None)
    studios("low").looks = (Done(Decimal("0.80")),)
    async with serving(home) as gateway:
        await end(gateway, await gateway.submit(ask("low", project="film")))
        wish = {"allow_unknown_price": True}
        await end(gateway, await gateway.submit(ask("unpriced", preferences=wish)))
        rows = {row.backend: row for row in (await gateway.spend()).rows}
        low = rows["low"]
        assert (low.settled_usd, low.overrun_usd, low.basis) == (
            Decimal("0.8"),
            Decimal("0.3"),
            ("provider",),
        )
        assert (rows["unpriced"].settled_usd, rows["unpriced"].basis, rows["unpriced"].attempts) == (
            ZERO,
            ("unknown",),
            1,
        )


async def test_the_rate_that_made_dollars_of_credits_stands_beside_the_bill(
    home: Path, studios: Studios
) -> None:
    write_provider(home, "credits")
    file = home / "providers" / "credits.toml"
    rate = 'credit_usd = "0.005"\ncredit_as_of = 2025-12-29\ncredit_source = "tests"\n'
    text = await asyncio.to_thread(file.read_text, encoding="utf-8")
    await asyncio.to_thread(
        file.write_text, text.replace("[[model]]", rate + "[[model]]", 1), encoding="utf-8"
    )
    studios("credits").looks = (Done(Decimal("0.30")),)
    async with serving(home) as gateway:
        job = await end(gateway, await gateway.submit(ask("credits")))
        assert job.attempts[0].bill_basis == "provider"
        notes = [booking.note for booking in await gateway.bookings(job.id)]
    assert notes[0] == ""
    said = note(notes[1])
    assert said is not None
    assert said.en == "credits at $0.005 each, rate of 2025-12-29"
    assert said.ja == "1 クレジット $0.005(2025-12-29 時点のレート)で換算"


def test_a_keys_budgets_are_kept_in_whole_micro_dollars() -> None:
    tx = books()(START)
    keys.add(tx, "ci", project=None, day_usd=Decimal("0.000001"), month_usd=None)
    assert keys.budgets(tx, "ci") == (1, None)
    assert keys.budgets(tx, "nobody") == (None, None)
