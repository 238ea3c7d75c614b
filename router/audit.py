"""Reads the whole ledger and says what does not fit: edits, gaps, reorders, a cut tail, sums that differ from the bills.

What it can prove has limits. The chain is not signed: who may write to the database and knows the scheme can write
another history with hashes that fit. Against that, note the head that `understudy ledger verify` prints somewhere else
and give it back later (`--noted`): a rewritten past cannot contain it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from router.contract.words import Words, words
from router.db import Tx
from router.ledger import GENESIS, Head, chained, head
from router.pricing import from_micros, money
from router.tables import attempts, ledger


@dataclass(frozen=True)
class Audit:
    """What was read and what is wrong with it."""

    rows: int
    head: str
    """`rows:hash` of the last row, to be noted elsewhere."""
    problems: tuple[Words, ...]


def audit(tx: Tx, noted: str | None = None) -> Audit:
    """The whole book. `noted` is a head that an earlier audit printed."""
    # Others may append while this reads: the head is read on both sides of the rows.
    before = head(tx)
    wanted = _noted(noted)
    problems: list[Words] = []
    previous, count, kept = GENESIS, 0, wanted is None or wanted.rows == 0
    for row in tx.conn.execute(sa.select(ledger).order_by(ledger.c.seq)).mappings():
        count += 1
        if chained(previous, dict(row)) != row["hash"]:
            what = f"{row['job_id']}:a{row['n']} {row['kind']}"
            problems.append(
                words(
                    f"row {row['seq']} ({what}) does not match the chain",
                    f"{row['seq']} 行目({what})が連鎖と一致しません",
                )
            )
        previous = row["hash"]
        if before is not None and count == before.rows and previous != before.hash:
            problems.append(_other_end(count))
        if wanted is not None and count == wanted.rows:
            kept = previous == wanted.hash
    problems += _ends(count, before, head(tx))
    if not kept:
        problems.append(
            words(
                "the noted head is not in this ledger: rows before it were changed or removed",
                "控えておいた末尾がこの台帳にありません。それより前の行が変更または削除されています",
            )
        )
    problems += _sums(tx)
    return Audit(count, str(Head(count, previous)), tuple(problems))


def _noted(text: str | None) -> Head | None:
    if text is None:
        return None
    rows, _, last = text.strip().partition(":")
    return Head(int(rows), last) if rows.isdecimal() else Head(-1, text)


def _other_end(row: int) -> Words:
    return words(
        f"row {row} is not the one that was written last: the end of the ledger was replaced",
        f"{row} 行目が最後に書かれた行と異なります。台帳の末尾が置き換えられています",
    )


def _ends(count: int, before: Head | None, after: Head | None) -> Iterator[Words]:
    """Rows that are missing at the end, or more than were ever counted."""
    if before is None or after is None:
        if count:
            yield words(
                "the ledger's own count of its rows is gone, so a cut tail would not show",
                "台帳の行数の記録が失われているため、末尾の欠落を検出できません",
            )
        return
    if count < before.rows:
        yield words(
            f"{before.rows - count} row(s) are missing: {before.rows} were written, {count} are there",
            f"{before.rows - count} 行が欠けています({before.rows} 行が書き込まれ、残っているのは {count} 行)",
        )
    elif count > after.rows:
        yield words(
            f"{count - after.rows} row(s) more than were ever written",
            f"書き込まれた数より {count - after.rows} 行多くあります",
        )


def _sums(tx: Tx) -> Iterator[Words]:
    """Every attempt's bill and open reservation against its rows, in one statement: one moment on both databases."""
    c, a = ledger.c, attempts.c
    booked = (
        sa.select(
            c.job_id,
            c.n,
            sa.func.sum(c.settled).label("settled"),
            sa.func.sum(c.reserved).label("reserved"),
        )
        .group_by(c.job_id, c.n)
        .subquery("booked")
    )
    both = booked.outerjoin(attempts, sa.and_(a.job_id == booked.c.job_id, a.n == booked.c.n))
    settled, reserved = sa.func.coalesce(booked.c.settled, 0), sa.func.coalesce(booked.c.reserved, 0)
    # An attempt that ended without a known bill keeps what it reserved until a person settles it.
    promised = sa.case((a.billed.is_(None), a.reserved), else_=0)
    known = attempts.outerjoin(booked, sa.and_(a.job_id == booked.c.job_id, a.n == booked.c.n))
    wrong = (
        sa.select(
            a.job_id,
            a.n,
            settled.label("settled"),
            reserved.label("reserved"),
            a.billed,
            promised.label("promised"),
        )
        .select_from(known)
        .where(sa.or_(settled != sa.func.coalesce(a.billed, 0), reserved != promised))
    )
    orphans = (
        sa.select(
            booked.c.job_id,
            booked.c.n,
            booked.c.settled,
            booked.c.reserved,
            sa.null().label("billed"),
            sa.null().label("promised"),
        )
        .select_from(both)
        .where(a.job_id.is_(None))
    )
    for row in tx.conn.execute(sa.union_all(wrong, orphans)):
        have = money(from_micros(int(row.settled)))
        held = money(from_micros(int(row.reserved)))
        if row.promised is None:
            yield words(
                f"{row.job_id}:a{row.n} is in the ledger (${have} settled, ${held} reserved) and nowhere else",
                f"{row.job_id}:a{row.n} は台帳(確定 ${have}、予約 ${held})にだけあり、試行の記録がありません",
            )
            continue
        bill = money(from_micros(int(row.billed or 0)))
        open_ = money(from_micros(int(row.promised)))
        yield words(
            f"{row.job_id}:a{row.n}: the ledger says ${have} settled and ${held} reserved, the attempt ${bill} and ${open_}",
            f"{row.job_id}:a{row.n}: 台帳では確定 ${have}・予約 ${held}、試行の記録では ${bill}・${open_} です",
        )
