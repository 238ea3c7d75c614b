"""The money ledger: reserve, settle, release. Append-only and hash-chained, in whole micro-dollars.

Every row changes two sums of one attempt, `reserved` and `settled`; both together are what a budget sees. A row
carries the day on which its attempt was reserved, so a bill that comes after midnight counts where it was promised.
`router.audit` checks the chain.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from router.contract.errors import BudgetExceeded
from router.contract.words import Words, words
from router.db import Tx, get_meta, set_meta
from router.pricing import from_micros, money
from router.tables import ledger

GENESIS = "0" * 64
HEAD = "ledger_head"
"""In `meta`: how many rows the chain has and the hash of the last one, so that rows cut off at its end show."""


@dataclass(frozen=True)
class Entry:
    """Whose money a row is about."""

    job_id: str
    n: int
    project: str | None
    backend: str
    model: str
    api_key: str | None = None
    """Name of the caller's key."""


@dataclass(frozen=True)
class Caps:
    """Hard limits in micro-dollars; None means none."""

    job: int | None = None
    project_day: int | None = None
    day: int | None = None
    month: int | None = None
    project_month: int | None = None
    key_day: int | None = None
    key_month: int | None = None


@dataclass(frozen=True)
class Sums:
    """Reserved + settled so far, in micro-dollars."""

    job: int
    project_day: int
    day: int
    month: int
    project_month: int = 0
    key_day: int = 0
    key_month: int = 0


@dataclass(frozen=True)
class Head:
    """Where the chain ends."""

    rows: int
    hash: str

    def __str__(self) -> str:
        return f"{self.rows}:{self.hash}"


def day_of(at: datetime, zone: ZoneInfo) -> str:
    """The budget day, `YYYY-MM-DD` in the budget's time zone."""
    return at.astimezone(zone).date().isoformat()


def turns(now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime, datetime]:
    """When the budget day began, when it ends, when the month ends; in UTC."""
    local = now.astimezone(zone)
    begins = local.replace(hour=0, minute=0, second=0, microsecond=0)
    # Midnights of the wall clock: aware arithmetic within one zone keeps the wall's time, 23-hour days included.
    midnight = begins + timedelta(days=1)
    month = (begins.replace(day=1) + timedelta(days=32)).replace(day=1)
    return begins.astimezone(now.tzinfo), midnight.astimezone(now.tzinfo), month.astimezone(now.tzinfo)


def sums(tx: Tx, *, job_id: str | None, project: str | None, day: str, api_key: str | None = None) -> Sums:
    """What each cap compares with."""
    c = ledger.c
    total = sa.func.coalesce(sa.func.sum(c.reserved + c.settled), 0)

    def read(*where: sa.ColumnElement[bool]) -> int:
        return int(tx.conn.execute(sa.select(total).where(*where)).scalar_one())

    # A month is the text prefix of its days: an index range on both databases.
    month = (c.day >= f"{day[:7]}-01", c.day <= f"{day[:7]}-31")
    return Sums(
        job=read(c.job_id == job_id) if job_id else 0,
        project_day=read(c.day == day, c.project == project) if project else 0,
        day=read(c.day == day),
        month=read(*month),
        project_month=read(*month, c.project == project) if project else 0,
        key_day=read(c.day == day, c.api_key == api_key) if api_key else 0,
        key_month=read(*month, c.api_key == api_key) if api_key else 0,
    )


_NAMED: tuple[tuple[str, str, str], ...] = (
    ("job", "this job's own limit", "このジョブの上限"),
    ("project_day", "the project's budget for today", "このプロジェクトの本日の予算"),
    ("project_month", "the project's budget for this month", "このプロジェクトの今月の予算"),
    ("key_day", "this API key's budget for today", "この API キーの本日の予算"),
    ("key_month", "this API key's budget for this month", "この API キーの今月の予算"),
    ("day", "today's budget", "本日の予算"),
    ("month", "this month's budget", "今月の予算"),
)


def over(caps: Caps, spent: Sums, micros: int) -> Words | None:
    """Which cap this sum would break, in words; None when it fits."""
    for name, en, ja in _NAMED:
        cap, have = getattr(caps, name), getattr(spent, name)
        if cap is not None and have + micros > cap:
            left, need, total = (money(from_micros(m)) for m in (max(cap - have, 0), micros, cap))
            return words(
                f"it may cost ${need} and {en} of ${total} has ${left} left",
                f"費用は最大 ${need} ですが、{ja} ${total} の残りは ${left} です",
            )
    return None


def reserve(tx: Tx, entry: Entry, micros: int, caps: Caps, zone: ZoneInfo) -> None:
    """Set money aside, or raise BudgetExceeded. The caller's transaction holds the order of all writes."""
    if micros < 0:
        raise ValueError("a reservation is not negative")
    if micros == 0:
        return
    day = day_of(tx.now, zone)
    spent = sums(tx, job_id=entry.job_id, project=entry.project, day=day, api_key=entry.api_key)
    why = over(caps, spent, micros)
    if why is not None:
        raise BudgetExceeded(why, param="max_usd" if caps.job is not None else None)
    _append(tx, entry, day=day, kind="reserve", reserved=micros, settled=0, basis="table", note="")


def settle(tx: Tx, entry: Entry, billed: int, basis: str, zone: ZoneInfo, note: str = "") -> int:
    """Turn the open reservation into a bill; 0 releases it. Returns the overrun above the reservation.

    `zone` gives the day of a bill that nothing was reserved for.
    """
    if billed < 0:
        raise ValueError("a bill is not negative")
    open_, day = _open(tx, entry)
    if open_ == 0 and billed == 0:
        return 0
    kind = "settle" if billed else "release"
    day = day or day_of(tx.now, zone)
    _append(tx, entry, day=day, kind=kind, reserved=-open_, settled=billed, basis=basis, note=note)
    return max(billed - open_, 0)


def attempt_sum(tx: Tx, job_id: str, n: int) -> tuple[int, int]:
    """(still reserved, settled) of one attempt in micro-dollars."""
    c = ledger.c
    row = tx.conn.execute(
        sa.select(
            sa.func.coalesce(sa.func.sum(c.reserved), 0), sa.func.coalesce(sa.func.sum(c.settled), 0)
        ).where(c.job_id == job_id, c.n == n)
    ).one()
    return int(row[0]), int(row[1])


def head(tx: Tx) -> Head | None:
    """Where the chain should end; None in a database that never had a row."""
    text = get_meta(tx, HEAD)
    if text is None:
        return None
    rows, _, last = text.partition(":")
    # An edited head must not stop the books: it does not fit, and the audit says so.
    return Head(int(rows) if rows.isdecimal() else 0, last)


def _open(tx: Tx, entry: Entry) -> tuple[int, str | None]:
    c = ledger.c
    row = tx.conn.execute(
        sa.select(sa.func.coalesce(sa.func.sum(c.reserved), 0), sa.func.min(c.day)).where(
            c.job_id == entry.job_id, c.n == entry.n
        )
    ).one()
    return int(row[0]), row[1]


def _append(
    tx: Tx, entry: Entry, *, day: str, kind: str, reserved: int, settled: int, basis: str, note: str
) -> None:
    # From the head and not from the last row: what is appended after a cut tail does not fit, and shows.
    end = head(tx) or Head(0, GENESIS)
    row: dict[str, Any] = {
        "at": tx.us,
        "day": day,
        "job_id": entry.job_id,
        "n": entry.n,
        "project": entry.project,
        "backend": entry.backend,
        "model": entry.model,
        "kind": kind,
        "reserved": reserved,
        "settled": settled,
        "basis": basis,
        "note": note,
        "api_key": entry.api_key,
    }
    row["hash"] = chained(end.hash, row)
    tx.conn.execute(sa.insert(ledger).values(row))
    set_meta(tx, HEAD, str(Head(end.rows + 1, row["hash"])))


HASHED = (
    "at",
    "day",
    "job_id",
    "n",
    "project",
    "backend",
    "model",
    "kind",
    "reserved",
    "settled",
    "basis",
    "note",
)


def chained(previous: str, row: Mapping[str, Any]) -> str:
    """A row's hash. `api_key` is part of it only where there is one: rows older than keys keep theirs."""
    values = [row[key] for key in HASHED]
    if row["api_key"] is not None:
        values.append(row["api_key"])
    body = json.dumps(values, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()
