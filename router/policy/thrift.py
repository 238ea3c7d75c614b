"""When the budget will not do for all waiting jobs: the dearest wait to the last, so that more clips come of the money."""

import math
from collections.abc import Sequence

from router.policy.acceptance import Waiter
from router.policy.snapshot import Facts
from router.policy.spill import last_moment, may_wait
from router.policy.timeline import NOW

DOUBT = 0.05
"""Share of the money that may go where nobody expects it: failures that are billed, places at home that did not come free."""
ALIKE = 1.01
"""Nothing is won by holding one job for others that cost the same."""


def save(facts: Facts, waiters: Sequence[Waiter]) -> None:
    """Hold whom the money does not reach, counted from the cheapest job on; every kept deadline is worth the same.

    Near its last moment a job may start if the cheaper ones before it leave enough, without any doubt added.
    """
    money = facts.money
    lefts = [left for left in (money.day, money.month) if left is not None]
    if not lefts:
        return
    left = min(lefts) / 1e6
    turns = [at for at in (money.day_turns_at, money.month_turns_at) if at is not None]
    fresh = min(((at - facts.now).total_seconds() for at in turns), default=None)
    claims = [w for w in waiters if _claims(w, fresh)]
    claims.sort(key=_worth)
    need, least = 0.0, math.inf
    for waiter in claims:
        assert waiter.option is not None
        need += waiter.option.cost
        least = min(least, waiter.option.cost)
        dearer = waiter.fixed or waiter.option.cost > least * ALIKE
        if need <= left * (1 - DOUBT) or not dearer:
            continue
        last = last_moment(waiter, waiter.option)
        if last > NOW and not waiter.fixed:
            waiter.held_until = max(waiter.held_until, last)
            waiter.short = True
        elif need > left:
            waiter.held_until = max(waiter.held_until, facts.tick_s)
            waiter.short = True


def _claims(waiter: Waiter, fresh: float | None) -> bool:
    """Whether it will want money of this budget; who can wait for the next day's counts nowhere."""
    option = waiter.option
    if option is None or option.made.most == 0 or not may_wait(waiter):
        return False
    return fresh is None or waiter.due <= fresh


def _worth(waiter: Waiter) -> tuple[bool, float, int]:
    """Who is late already comes last: its deadline is lost."""
    assert waiter.option is not None
    return waiter.fixed, waiter.option.cost, waiter.rank
