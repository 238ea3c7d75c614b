"""Rate limits, resting times and breakers as rows, taken in the transaction that starts an attempt.

A hit counts as now until the provider's answer came, then at the time of the answer: the provider saw it no later,
so no window of theirs can hold more than ours (shared/routing.md, "Rate limits and breakers").
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from router.contract.words import Words
from router.db import Tx, from_us, to_us
from router.tables import hits, offers

REST_DEFAULT_S = 20.0
"""A 429 without Retry-After rests the offer this long."""
REST_MAX_S = 86_400.0
BREAKER_AFTER = 3
BREAKER_S = 30.0
BREAKER_MAX_S = 300.0
DECAY = 0.98
"""Per result (shared/routing.md, step 2)."""
LATENCIES = 100
"""How many latest results the quantiles are read from."""
ENOUGH = 20
"""Results below which a quantile says nothing; the policy then assumes 2.2 times the documented time."""
CEILING_CUT = 0.7
CEILING_MAX = 64.0
"""An adaptive ceiling that grew this far is none any more."""
CLOCK_SLACK_US = 2_000_000


_OFFERS = sa.select(offers)


@dataclass(frozen=True)
class Rest:
    """What is known of one scope (a model id or a backend name)."""

    until: datetime | None = None
    code: str | None = None
    why: Words | None = None
    key_mark: str | None = None
    streak: int = 0
    probe_job: str | None = None
    stopped_mark: str | None = None
    results: int = 0
    mean_s: float | None = None
    weight: float = 0.0
    """Accepted attempts that ended, decayed by `DECAY` with each further one."""
    failures: float = 0.0
    billed_failures: float = 0.0
    latencies: tuple[float, ...] = ()
    """Seconds from acceptance to the clip of the latest results, sorted."""
    price_factor: Decimal = Decimal(1)
    """The last bill divided by its estimate."""
    ceiling: float | None = None
    """Adaptive limit of starts in flight where none is documented; None until a 429 taught one."""

    def quantile(self, share: float) -> float | None:
        """The latency that this share of the latest results stayed within; None below `ENOUGH` results."""
        if len(self.latencies) < ENOUGH:
            return None
        return self.latencies[min(math.ceil(share * len(self.latencies)), len(self.latencies)) - 1]

    @property
    def half_open(self) -> bool:
        """The breaker's time is over and one probe may go."""
        return self.streak >= BREAKER_AFTER


def take(tx: Tx, scopes: Iterable[str], job_id: str, n: int) -> None:
    """Count one start, before the call; never given back."""
    tx.conn.execute(sa.insert(hits), [{"scope": s, "job_id": job_id, "n": n, "at": None} for s in scopes])


def answered(tx: Tx, job_id: str, n: int) -> None:
    """The provider answered (or never will): from here the hit ages."""
    tx.conn.execute(
        sa.update(hits).where(hits.c.job_id == job_id, hits.c.n == n, hits.c.at.is_(None)).values(at=tx.us)
    )


def forget_old(tx: Tx) -> None:
    """Hits older than the longest window count nowhere."""
    tx.conn.execute(sa.delete(hits).where(hits.c.at < tx.us - int(2 * REST_MAX_S * 1e6)))


def rests(tx: Tx) -> dict[str, Rest]:
    """Everything learned, by scope."""
    return {
        row["scope"]: Rest(
            until=from_us(row["rest_until"]) if row["rest_until"] is not None else None,
            code=row["rest_code"],
            why=Words.model_validate_json(row["rest_why"]) if row["rest_why"] else None,
            key_mark=row["key_mark"],
            streak=row["streak"],
            probe_job=row["probe_job"],
            stopped_mark=row["stopped_mark"],
            results=row["results"],
            mean_s=row["mean_s"],
            weight=row["weight"],
            failures=row["failures"],
            billed_failures=row["billed_failures"],
            latencies=tuple(sorted(_latencies(row))),
            price_factor=Decimal(row["price_factor"] or 1),
            ceiling=row["ceiling"],
        )
        for row in tx.conn.execute(_OFFERS).mappings()
    }


def rest(tx: Tx, scope: str, seconds: float, code: str, why: Words, key_mark: str | None = None) -> datetime:
    """Let a scope rest; never shorter than it already does. A claim beyond a day is cut to a day."""
    until = to_us(tx.now) + int(min(max(seconds, 0.0), REST_MAX_S) * 1e6)
    row = _row(tx, scope)
    if row["rest_until"] is not None and row["rest_until"] > until:
        return from_us(row["rest_until"])
    _update(
        tx,
        scope,
        rest_until=until,
        rest_code=code,
        rest_why=why.model_dump_json(),
        key_mark=key_mark,
        probe_job=None,
    )
    return from_us(until)


def failed(tx: Tx, scope: str, why: Words) -> datetime | None:
    """One more failure in a row; opens the breaker at the third. Returns until when it is open."""
    row = _row(tx, scope)
    streak = row["streak"] + 1
    open_until = row["rest_until"] if row["rest_code"] == "breaker_open" else None
    if open_until is not None and open_until > tx.us:
        # Jobs that were on their way when it opened fail too; that is still the same outage.
        _update(tx, scope, streak=streak)
        return from_us(open_until)
    if streak < BREAKER_AFTER:
        _update(tx, scope, streak=streak)
        return None
    backoff = min(max(row["backoff_s"] * 2, BREAKER_S), BREAKER_MAX_S)
    until = tx.us + int(backoff * 1e6)
    if row["rest_until"] is not None and row["rest_until"] > until:
        # A longer rest that the provider asked for stays.
        _update(tx, scope, streak=streak, backoff_s=backoff, probe_job=None)
        return from_us(row["rest_until"])
    _update(
        tx,
        scope,
        streak=streak,
        backoff_s=backoff,
        rest_until=until,
        rest_code="breaker_open",
        rest_why=why.model_dump_json(),
        probe_job=None,
    )
    return from_us(until)


def worked(tx: Tx, scope: str, seconds: float | None = None, price_factor: Decimal | None = None) -> None:
    """It accepted (or, with `seconds`, finished) a job: the breaker closes, times and price are learned.

    `price_factor`: the bill divided by its estimate, where the provider told a bill.
    """
    row = _row(tx, scope)
    values: dict[str, Any] = {"streak": 0, "backoff_s": 0.0, "probe_job": None}
    if row["ceiling"] is not None and seconds is None:
        # Additive increase: one more place after a whole window of acceptances.
        grown = row["ceiling"] + 1 / max(row["ceiling"], 1.0)
        values["ceiling"] = grown if grown < CEILING_MAX else None
    if row["rest_code"] == "breaker_open":
        values |= {"rest_until": None, "rest_code": None, "rest_why": None}
    if seconds is not None:
        results = row["results"] + 1
        # Newer results weigh more: the decay 0.98 of shared/routing.md, faster while there are few.
        weight = max(1 / results, 0.02)
        mean = seconds if row["mean_s"] is None else row["mean_s"] + weight * (seconds - row["mean_s"])
        values |= {"results": results, "mean_s": mean, **_one_more(row, failed=False, billed=False)}
        values["latencies"] = json.dumps([*_latencies(row), round(seconds, 3)][-LATENCIES:])
        if price_factor is not None:
            values["price_factor"] = f"{price_factor:f}"
    _update(tx, scope, **values)


def broke(tx: Tx, scope: str, *, billed: bool) -> None:
    """An accepted attempt failed: the failure rate of this offer, and whether failures cost money here."""
    _update(tx, scope, **_one_more(_row(tx, scope), failed=True, billed=billed))


def refused(tx: Tx, scope: str, in_flight: int) -> None:
    """A 429 where no limit is documented: multiplicative decrease of what may be in flight at once."""
    row = _row(tx, scope)
    at = in_flight if row["ceiling"] is None else min(row["ceiling"], float(in_flight))
    _update(tx, scope, ceiling=max(at * CEILING_CUT, 1.0))


def heal_clock(tx: Tx) -> int:
    """After the clock jumped back: what lies in the future counts as now, so that no window or rest waits for years."""
    future = tx.us + CLOCK_SLACK_US
    healed = tx.conn.execute(sa.update(hits).where(hits.c.at > future).values(at=tx.us)).rowcount
    latest = tx.us + int(REST_MAX_S * 1e6)
    healed += tx.conn.execute(
        sa.update(offers).where(offers.c.rest_until > latest).values(rest_until=latest)
    ).rowcount
    return int(healed)


def _one_more(row: Mapping[str, Any], *, failed: bool, billed: bool) -> dict[str, float]:
    return {
        "weight": row["weight"] * DECAY + 1,
        "failures": row["failures"] * DECAY + failed,
        "billed_failures": row["billed_failures"] * DECAY + (failed and billed),
    }


def _latencies(row: Mapping[str, Any] | RowMapping) -> list[float]:
    return json.loads(row["latencies"]) if row["latencies"] else []


def probe(tx: Tx, scope: str, job_id: str) -> None:
    """This job is the one probe of a half-open breaker."""
    _update(tx, scope, probe_job=job_id)


def probe_over(tx: Tx, scope: str, job_id: str) -> None:
    """The probe came to an end that says nothing about the outage: the next job may be the probe."""
    tx.conn.execute(
        sa.update(offers).where(offers.c.scope == scope, offers.c.probe_job == job_id).values(probe_job=None)
    )


def stop(tx: Tx, scope: str, mark: str) -> None:
    """A bill above the price table: no further job until the table's row changes (`mark` names the row as it is)."""
    _row(tx, scope)
    _update(tx, scope, stopped_mark=mark)


def _row(tx: Tx, scope: str) -> dict[str, Any]:
    found = tx.conn.execute(sa.select(offers).where(offers.c.scope == scope)).mappings().one_or_none()
    if found is not None:
        return dict(found)
    tx.conn.execute(sa.insert(offers).values(scope=scope))
    return dict(tx.conn.execute(sa.select(offers).where(offers.c.scope == scope)).mappings().one())


def _update(tx: Tx, scope: str, **values: Any) -> None:
    tx.conn.execute(sa.update(offers).where(offers.c.scope == scope).values(**values))
