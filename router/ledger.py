"""The money ledger: reserve, settle, release. Append-only and hash-chained, in whole micro-dollars.

Every row changes two sums of one attempt, `reserved` and `settled`; both together are what a budget sees. A row
carries the day on which its attempt was reserved, so a bill that comes after midnight counts where it was promised.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from router.contract.errors import BudgetExceeded
from router.contract.words import Words, words
from router.db import Tx
from router.pricing import from_micros, money
from router.tables import ledger

GENESIS = "0" * 64


@dataclass(frozen=True)
class Entry:
    """Whose money a row is about."""

    job_id: str
    n: int
    project: str | None
    backend: str
    model: str


@dataclass(frozen=True)
class Caps:
    """Hard limits in micro-dollars; None means none."""

    job: int | None = None
    project_day: int | None = None
    day: int | None = None
    month: int | None = None


@dataclass(frozen=True)
class Sums:
    """Reserved + settled so far, in micro-dollars."""

    job: int
    project_day: int
    day: int
    month: int


def day_of(at: datetime, zone: ZoneInfo) -> str:
    """The budget day, `YYYY-MM-DD` in the budget's time zone."""
    return at.astimezone(zone).date().isoformat()


def sums(tx: Tx, *, job_id: str | None, project: str | None, day: str) -> Sums:
    """What each cap compares with."""
    total = sa.func.coalesce(sa.func.sum(ledger.c.reserved + ledger.c.settled), 0)

    def read(*where: sa.ColumnElement[bool]) -> int:
        return int(tx.conn.execute(sa.select(total).where(*where)).scalar_one())

    # A month is the text prefix of its days: an index range on both databases.
    month = (ledger.c.day >= f"{day[:7]}-01", ledger.c.day <= f"{day[:7]}-31")
    return Sums(
        job=read(ledger.c.job_id == job_id) if job_id else 0,
        project_day=read(ledger.c.day == day, ledger.c.project == project) if project else 0,
        day=read(ledger.c.day == day),
        month=read(*month),
    )


def over(caps: Caps, spent: Sums, micros: int) -> Words | None:
    """Which cap this sum would break, in words; None when it fits."""
    for cap, have, en, ja in (
        (caps.job, spent.job, "this job's own limit", "このジョブの上限"),
        (
            caps.project_day,
            spent.project_day,
            "the project's budget for today",
            "このプロジェクトの本日の予算",
        ),
        (caps.day, spent.day, "today's budget", "本日の予算"),
        (caps.month, spent.month, "this month's budget", "今月の予算"),
    ):
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
    why = over(caps, sums(tx, job_id=entry.job_id, project=entry.project, day=day), micros)
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


def rows_by_day(tx: Tx, since_day: str) -> list[Mapping[str, Any]]:
    """Sums per day, project, backend and model from that day on."""
    c = ledger.c
    settled = sa.func.sum(c.settled)
    query = (
        sa.select(
            c.day,
            c.project,
            c.backend,
            c.model,
            settled.label("settled"),
            sa.func.sum(c.reserved).label("reserved"),
            sa.func.count(sa.distinct(c.job_id + sa.literal(":") + sa.cast(c.n, sa.String))).label(
                "attempts"
            ),
        )
        .where(c.day >= since_day)
        .group_by(c.day, c.project, c.backend, c.model)
        .order_by(c.day.desc(), c.backend, c.model)
    )
    return [dict(row) for row in tx.conn.execute(query).mappings()]


def attempt_sum(tx: Tx, job_id: str, n: int) -> tuple[int, int]:
    """(still reserved, settled) of one attempt in micro-dollars."""
    c = ledger.c
    row = tx.conn.execute(
        sa.select(
            sa.func.coalesce(sa.func.sum(c.reserved), 0), sa.func.coalesce(sa.func.sum(c.settled), 0)
        ).where(c.job_id == job_id, c.n == n)
    ).one()
    return int(row[0]), int(row[1])


def verify(tx: Tx) -> tuple[int, tuple[str, ...]]:
    """(rows read, problems): recomputes the whole chain; any edit, gap or reorder shows."""
    previous, problems, count = GENESIS, [], 0
    for row in tx.conn.execute(sa.select(ledger).order_by(ledger.c.seq)).mappings():
        count += 1
        if _hash(previous, dict(row)) != row["hash"]:
            problems.append(
                f"row {row['seq']} ({row['job_id']}:a{row['n']} {row['kind']}) does not match the chain"
            )
        previous = row["hash"]
    return count, tuple(problems)


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
    last = tx.conn.execute(
        sa.select(ledger.c.hash).order_by(ledger.c.seq.desc()).limit(1)
    ).scalar_one_or_none()
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
    }
    row["hash"] = _hash(last or GENESIS, row)
    tx.conn.execute(sa.insert(ledger).values(row))


_HASHED = (
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


def _hash(previous: str, row: Mapping[str, Any]) -> str:
    body = json.dumps([row[key] for key in _HASHED], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()
