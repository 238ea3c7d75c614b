"""What was spent, on whose account, who says so, and what our own device cost beside it; read in one transaction."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from router import breakeven, keys, ledger, store
from router.catalog import Catalog
from router.contract.card import Where
from router.contract.job import AttemptStatus
from router.db import Tx, from_us, to_us
from router.pace import Pace
from router.pricing import from_micros
from router.settings import Settings
from router.tables import attempts, jobs
from router.tables import ledger as table


@dataclass(frozen=True)
class SpendRow:
    """Money of one day, project, backend and model."""

    day: str
    project: str | None
    backend: str
    model: str
    settled_usd: Decimal
    reserved_usd: Decimal
    attempts: int
    overrun_usd: Decimal
    """Billed above the reservation (the price table was too low)."""
    basis: tuple[str, ...] = ()
    """Who says so: `provider`, `table`, `documented`, `none`, `person`, `free`, `unknown`; empty while it is open."""


@dataclass(frozen=True)
class Budget:
    """One hard budget and what of it is spent or reserved."""

    scope: str
    """`server`, `project NAME` or `key NAME`."""
    period: str
    """`day` or `month`."""
    spent_usd: Decimal
    budget_usd: Decimal


@dataclass(frozen=True)
class LocalDay:
    """What our own device did on one day: electricity at the margin, never part of the ledger's sums."""

    day: str
    clips: int
    """Finished clips."""
    seconds: float
    """In which it was at work; jobs that overlap in its queue count once."""
    electricity_usd: Decimal

    @property
    def per_clip_usd(self) -> Decimal | None:
        """Electricity of one finished clip, failed tries included; None on a day without one."""
        return self.electricity_usd / self.clips if self.clips else None


@dataclass(frozen=True)
class SpendReport:
    """What was and may still be spent, with the budgets beside it."""

    rows: tuple[SpendRow, ...]
    day: str
    timezone: str
    day_spent_usd: Decimal
    """Settled + reserved today."""
    day_budget_usd: Decimal | None
    month_spent_usd: Decimal
    month_budget_usd: Decimal | None
    unresolved: tuple[str, ...]
    """Job ids that wait for `understudy settle`."""
    budgets: tuple[Budget, ...] = ()
    """Those of projects and API keys."""
    pace_usd: Decimal | None = None
    """With pacing: what may be reserved now."""
    local: tuple[LocalDay, ...] = ()
    owning_day_usd: Decimal = Decimal(0)
    """A day's share of what owning the card costs although nobody uses it (amortisation, upkeep, idle), by assumption."""


@dataclass(frozen=True)
class Booking:
    """One row of the ledger as a reader sees it."""

    n: int
    at: datetime
    kind: str
    """`reserve`, `settle` or `release`."""
    reserved_usd: Decimal
    settled_usd: Decimal
    basis: str
    note: str
    """Beside the basis: the dated rate that turned credits into dollars."""


def bookings(tx: Tx, job_id: str) -> tuple[Booking, ...]:
    """The rows of one job, oldest first."""
    rows = tx.conn.execute(sa.select(table).where(table.c.job_id == job_id).order_by(table.c.seq)).mappings()
    return tuple(
        Booking(
            n=row["n"],
            at=from_us(row["at"]),
            kind=row["kind"],
            reserved_usd=from_micros(row["reserved"]),
            settled_usd=from_micros(row["settled"]),
            basis=row["basis"],
            note=row["note"],
        )
        for row in rows
    )


def spend(tx: Tx, settings: Settings, catalog: Catalog) -> SpendReport:
    """This month's money by day, project, backend and model."""
    budget = settings.budget
    day = ledger.day_of(tx.now, budget.zone)
    have = ledger.sums(tx, job_id=None, project=None, day=day)
    begins, ends, _ = ledger.turns(tx.now, budget.zone)
    pace = None
    if budget.pacing and budget.day_usd is not None:
        pace = Pace(int(budget.day_usd * 1_000_000), have.day, begins, ends)
    return SpendReport(
        rows=_rows(tx, f"{day[:7]}-01", budget.zone),
        day=day,
        timezone=budget.timezone,
        day_spent_usd=from_micros(have.day),
        day_budget_usd=budget.day_usd,
        month_spent_usd=from_micros(have.month),
        month_budget_usd=budget.month_usd,
        unresolved=store.unresolved(tx),
        budgets=tuple(_budgets(tx, settings, day)),
        pace_usd=None if pace is None else from_micros(pace.left(tx.now)),
        local=_local(tx, settings, catalog),
        owning_day_usd=breakeven.fixed(settings.local.cost) / 365,
    )


def _budgets(tx: Tx, settings: Settings, day: str) -> Iterable[Budget]:
    budget = settings.budget
    for name in sorted({*budget.project_day_usd, *budget.project_month_usd}):
        of = ledger.sums(tx, job_id=None, project=name, day=day)
        caps = (
            ("day", of.project_day, budget.project_day_usd.get(name)),
            ("month", of.project_month, budget.project_month_usd.get(name)),
        )
        for period, have, cap in caps:
            if cap is not None:
                yield Budget(f"project {name}", period, from_micros(have), cap)
    for key in keys.listed(tx):
        of = ledger.sums(tx, job_id=None, project=None, day=day, api_key=key.name)
        for period, have, cap in (("day", of.key_day, key.day_usd), ("month", of.key_month, key.month_usd)):
            if cap is not None:
                yield Budget(f"key {key.name}", period, from_micros(have), cap)


_Where = tuple[str, str | None, str, str]
"""Day, project, backend, model."""


def _rows(tx: Tx, since: str, zone: ZoneInfo) -> tuple[SpendRow, ...]:
    c = table.c
    query = (
        sa.select(
            c.day,
            c.project,
            c.backend,
            c.model,
            sa.func.sum(c.settled).label("settled"),
            sa.func.sum(c.reserved).label("reserved"),
            sa.func.count(sa.distinct(c.job_id + sa.literal(":") + sa.cast(c.n, sa.String))).label("tries"),
        )
        .where(c.day >= since)
        .group_by(c.day, c.project, c.backend, c.model)
    )
    above, said = _overruns(tx, since), _said(tx, since)
    unknown = _unknown(tx, since, zone)
    rows = {}
    for row in tx.conn.execute(query):
        at = (row.day, row.project, row.backend, row.model)
        rows[at] = SpendRow(
            *at,
            settled_usd=from_micros(int(row.settled)),
            reserved_usd=from_micros(int(row.reserved)),
            attempts=int(row.tries) + unknown.get(at, 0),
            overrun_usd=from_micros(above.get(at, 0)),
            basis=tuple(sorted(said[at] | ({"unknown"} if at in unknown else set()))),
        )
    zero = Decimal(0)
    for at, count in unknown.items():
        # Nothing was booked for them: the row says that somebody should look at the provider's own bill.
        rows.setdefault(at, SpendRow(*at, zero, zero, count, zero, ("unknown",)))
    listed = sorted(rows.values(), key=lambda r: (r.backend, r.model, r.project or ""))
    return tuple(sorted(listed, key=lambda r: r.day, reverse=True))


def _said(tx: Tx, since: str) -> defaultdict[_Where, set[str]]:
    """Who the closing rows say told the bill."""
    c = table.c
    query = (
        sa.select(c.day, c.project, c.backend, c.model, c.basis)
        .where(c.day >= since, c.kind != "reserve")
        .distinct()
    )
    said: defaultdict[_Where, set[str]] = defaultdict(set)
    for day, project, backend, model, basis in tx.conn.execute(query):
        said[day, project, backend, model].add(basis)
    return said


def _overruns(tx: Tx, since: str) -> Mapping[_Where, int]:
    c = table.c
    query = (
        sa.select(c.day, c.project, c.backend, c.model, sa.func.sum(c.settled + c.reserved))
        .where(c.day >= since, c.kind == "settle", c.settled + c.reserved > 0)
        .group_by(c.day, c.project, c.backend, c.model)
    )
    return {(row[0], row[1], row[2], row[3]): int(row[4]) for row in tx.conn.execute(query)}


def _unknown(tx: Tx, since: str, zone: ZoneInfo) -> dict[_Where, int]:
    """Accepted attempts that nobody has told a price of."""
    a = attempts.c
    begins = to_us(datetime.fromisoformat(since).replace(tzinfo=zone))
    query = (
        sa.select(a.created_at, jobs.c.project, a.backend, a.model)
        .select_from(attempts.join(jobs, jobs.c.id == a.job_id))
        .where(a.bill_basis == "unknown", a.created_at >= begins)
    )
    found: dict[_Where, int] = defaultdict(int)
    for created, project, backend, model in tx.conn.execute(query):
        found[ledger.day_of(from_us(created), zone), project, backend, model] += 1
    return dict(found)


def _local(tx: Tx, settings: Settings, catalog: Catalog) -> tuple[LocalDay, ...]:
    """This month's work of our own device, from the attempts themselves."""
    zone = settings.budget.zone
    house = [
        card.id for card in catalog.cards.values() if card.where is Where.HOUSE and card.local is not None
    ]
    begins = ledger.turns(tx.now, zone)[0].astimezone(zone).replace(day=1)
    a = attempts.c
    query = sa.select(a.carrier, a.accepted_at, a.ended_at, a.status).where(
        a.model.in_(house), a.accepted_at.is_not(None), a.accepted_at >= to_us(begins)
    )
    spans: defaultdict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    clips: defaultdict[str, int] = defaultdict(int)
    for row in tx.conn.execute(query).mappings():
        start, end = (
            from_us(row["accepted_at"]),
            tx.now if row["ended_at"] is None else from_us(row["ended_at"]),
        )
        spans[row["carrier"] or ""].append((start, max(start, end)))
        if row["status"] == AttemptStatus.COMPLETED:
            clips[ledger.day_of(end, zone)] += 1
    worked: defaultdict[str, float] = defaultdict(float)
    for carried in spans.values():
        for start, end in merged(carried):
            for day, seconds in by_day(start, end, zone):
                worked[day] += seconds
    return tuple(
        LocalDay(
            day,
            clips[day],
            round(worked[day], 1),
            breakeven.marginal(settings.local.cost, Decimal(str(round(worked[day], 3)))),
        )
        for day in sorted({*worked, *clips}, reverse=True)
    )


def merged(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """The same time without overlaps: jobs at hand wait in the device's own queue."""
    found: list[tuple[datetime, datetime]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def by_day(start: datetime, end: datetime, zone: ZoneInfo) -> Iterable[tuple[str, float]]:
    """Seconds of a span by budget day."""
    while start < end:
        until = min(ledger.turns(start, zone)[1], end)
        yield ledger.day_of(start, zone), (until - start).total_seconds()
        start = until
