"""Limits of one job beside the budgets that the policy compares: its API key's money.

The policy knows a limit of the job's own, `max_usd`. It is shown the tightest of these there, and what it then says is
put into the words of the limit that spoke, with the time at which that ends.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from router import keys, ledger
from router.contract.job import Rejected
from router.contract.request import VideoRequest
from router.contract.words import Words, words
from router.db import Tx
from router.pace import Pace
from router.policy import Choice
from router.pricing import from_micros, money, to_micros
from router.settings import Settings


@dataclass(frozen=True)
class Purse:
    """What one such limit still allows the next attempt."""

    left: int
    """Micro-dollars."""
    why: Words
    ready: Callable[[int], datetime | None]
    """When that many micro-dollars will fit; None: never."""


Held = Mapping[str | None, Sequence[Purse]]
"""By the name of the API key; None for jobs of the server's own."""


def held(tx: Tx, settings: Settings, api_key: str | None) -> tuple[Purse, ...]:
    """The key's two budgets."""
    return tuple(_of_key(tx, settings, api_key))


def pace(tx: Tx, settings: Settings) -> Pace | None:
    """The day's budget against the clock; None where it is not paced."""
    budget = settings.budget
    if not budget.pacing or budget.day_usd is None:
        return None
    begins, ends, _ = ledger.turns(tx.now, budget.zone)
    spent = ledger.sums(tx, job_id=None, project=None, day=ledger.day_of(tx.now, budget.zone)).day
    return Pace(int(budget.day_usd * 1_000_000), spent, begins, ends)


def narrowed(request: VideoRequest, spent: int, purses: Sequence[Purse]) -> VideoRequest:
    """The request with `max_usd` no higher than the tightest purse allows; `spent` is what the job has cost so far."""
    if not purses:
        return request
    preferences = request.preferences
    most = from_micros(spent + min(purse.left for purse in purses))
    if preferences.max_usd is not None and preferences.max_usd <= most:
        return request
    return request.model_copy(update={"preferences": preferences.model_copy(update={"max_usd": most})})


def told(choice: Choice, request: VideoRequest, spent: int, purses: Sequence[Purse]) -> Choice:
    """The policy's choice over the narrowed request, in the words of the purses. `request` is the one that was made."""
    if not purses or narrowed(request, spent, purses) is request:
        return choice
    own = request.preferences.max_usd
    rows, swaps = [], []
    for row in choice.decision.rejected:
        mine = row.code != "max_usd" or (
            own is not None and row.usd is not None and from_micros(spent) + row.usd > own
        )
        new = row if mine else _said(row, purses)
        if new is not row:
            swaps.append((row.reason, new.reason))
        rows.append(new)
    if not swaps:
        return choice
    decision = choice.decision.model_copy(
        update={"rejected": tuple(rows), "reason": _swapped(choice.decision.reason, swaps)}
    )
    if choice.resolved is not None:
        return replace(choice, decision=decision)
    waits = sorted(
        (r for r in rows if r.ready_at is not None), key=lambda r: (r.ready_at or decision.at, r.model)
    )
    if not waits:
        return replace(choice, decision=decision)
    first = waits[0]
    text = words(
        f"waits for {first.model}: {first.reason.en}", f"{first.model} を待っています: {first.reason.ja}"
    )
    waiting = decision.model_copy(update={"reason": text})
    return replace(choice, decision=waiting, hopeless=False, wake_at=first.ready_at)


def _said(row: Rejected, purses: Sequence[Purse]) -> Rejected:
    """By the purse that keeps it out longest."""
    micros = None if row.usd is None else to_micros(row.usd)
    out = [p for p in purses if micros is not None and micros > p.left] or [min(purses, key=lambda p: p.left)]
    at = [(purse, None if micros is None else purse.ready(micros)) for purse in out]
    never = next((purse for purse, ready in at if ready is None), None)
    if never is not None:
        return row.model_copy(update={"code": "budget", "reason": never.why})
    last, ready = max(at, key=lambda pair: (pair[1] is not None, pair[1]))
    return row.model_copy(update={"code": "budget", "reason": last.why, "ready_at": ready})


def _swapped(reason: Words, swaps: Sequence[tuple[Words, Words]]) -> Words:
    en, ja = reason.en, reason.ja
    for old, new in swaps:
        en, ja = en.replace(old.en, new.en), ja.replace(old.ja, new.ja)
    return words(en, ja)


def _of_key(tx: Tx, settings: Settings, api_key: str | None) -> Iterator[Purse]:
    if api_key is None:
        return
    day_cap, month_cap = keys.budgets(tx, api_key)
    if day_cap is None and month_cap is None:
        return
    zone = settings.budget.zone
    spent = ledger.sums(tx, job_id=None, project=None, day=ledger.day_of(tx.now, zone), api_key=api_key)
    _, midnight, next_month = ledger.turns(tx.now, zone)
    for cap, have, turns_at, en, ja in (
        (day_cap, spent.key_day, midnight, "today", "本日"),
        (month_cap, spent.key_month, next_month, "this month", "今月"),
    ):
        if cap is None:
            continue
        left = max(cap - have, 0)
        has, total = money(from_micros(left)), money(from_micros(cap))
        yield Purse(
            left,
            words(
                f"the API key {api_key!r} has ${has} of ${total} left for {en}",
                f"API キー {api_key!r} の{ja}の予算 ${total} の残りは ${has} です",
            ),
            _from(cap, turns_at),
        )


def _from(cap: int, turns_at: datetime) -> Callable[[int], datetime | None]:
    """A budget that is whole again at that time."""
    return lambda micros: turns_at if micros <= cap else None
