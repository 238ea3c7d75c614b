"""Documented windows: which starts count now, and when the next one fits. Read for many scopes at once.

A hit counts as now until the provider's answer came (see `router.limits`).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from router.contract.card import Limits
from router.db import Tx, from_us
from router.tables import hits

_WINDOWS = (("second", 1.0), ("minute", 60.0), ("day", 86_400.0))
_COUNTED = sa.func.coalesce(hits.c.at, sa.bindparam("now"))
# Built once: making a statement takes longer than running it.
_HITS = (
    sa.select(hits.c.scope, _COUNTED)
    .where(
        hits.c.scope.in_(sa.bindparam("scopes", expanding=True)),
        sa.or_(hits.c.at.is_(None), hits.c.at > sa.bindparam("since")),
    )
    .order_by(_COUNTED)
)


@dataclass(frozen=True)
class Use:
    """How much of one documented window is taken now."""

    scope: str
    window: str
    """`second`, `minute`, `day` or `in_flight`."""
    used: int
    allowed: int


class Windows:
    """The starts that count now at these scopes (model ids and backend names), each with its documented limits."""

    def __init__(self, tx: Tx, limits: Mapping[str, Limits]) -> None:
        """One statement for each length of window."""
        self._now = tx.us
        self._rules = {scope: tuple(_rules(its)) for scope, its in limits.items()}
        longest: defaultdict[float, list[str]] = defaultdict(list)
        for scope, rules in self._rules.items():
            if rules:
                longest[max(seconds for _, seconds, _ in rules)].append(scope)
        self._starts: defaultdict[str, list[int]] = defaultdict(list)
        for seconds, scopes in longest.items():
            asked = {"scopes": scopes, "now": tx.us, "since": tx.us - int(seconds * 1e6)}
            for scope, at in tx.conn.execute(_HITS, asked):
                self._starts[scope].append(int(at))

    def free_at(self, scope: str) -> datetime | None:
        """When the next start fits; None means now."""
        latest: datetime | None = None
        for _, seconds, allowed in self._rules[scope]:
            inside = self._inside(scope, seconds)
            if len(inside) >= allowed:
                # The allowed-th newest start decides: once it leaves the window, one more fits.
                free = from_us(inside[-allowed]) + timedelta(seconds=seconds)
                latest = free if latest is None or free > latest else latest
        return latest

    def minute(self, scope: str) -> tuple[datetime, ...]:
        """The starts that a minute window counts, oldest first; empty where none is documented."""
        if not any(name == "minute" for name, _, _ in self._rules[scope]):
            return ()
        return tuple(from_us(at) for at in self._inside(scope, 60.0))

    def used(self, scope: str) -> tuple[Use, ...]:
        """Each documented window and what is taken of it."""
        return tuple(
            Use(scope, name, len(self._inside(scope, seconds)), allowed)
            for name, seconds, allowed in self._rules[scope]
        )

    def left_today(self, scope: str) -> int | None:
        """Starts left in the day window; None where none is documented."""
        return next((max(use.allowed - use.used, 0) for use in self.used(scope) if use.window == "day"), None)

    def _inside(self, scope: str, seconds: float) -> list[int]:
        since = self._now - int(seconds * 1e6)
        return [at for at in self._starts.get(scope, ()) if at > since]


def _rules(limits: Limits) -> Iterator[tuple[str, float, int]]:
    """(name, seconds, starts) of each documented window."""
    for name, seconds in _WINDOWS:
        allowed: int | None = getattr(limits, f"starts_per_{name}")
        if allowed is not None:
            yield name, seconds, allowed
