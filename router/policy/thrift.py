"""When the budget will not do for all waiting jobs: the dearest wait to the last, so that more clips come of the money."""

import math
from collections.abc import Sequence
from operator import itemgetter

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
    budgets = [(money.day, money.day_turns_at), (money.month, money.month_turns_at)]
    least_left = min(
        ((micros, turns) for micros, turns in budgets if micros is not None), default=None, key=itemgetter(0)
    )
    if least_left is None:
        return
    left, turns = least_left[0] / 1e6, least_left[1]
    fresh = math.inf if turns is None else (turns - facts.now).total_seconds()
    claims = sorted((w for w in waiters if _claims(w, fresh)), key=_worth)
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


def _claims(waiter: Waiter, fresh: float) -> bool:
    """Whether it will want money of this budget; who can wait for the next day's (in `fresh` seconds) counts nowhere."""
    option = waiter.option
    return option is not None and option.made.most > 0 and may_wait(waiter) and waiter.due <= fresh


def _worth(waiter: Waiter) -> tuple[bool, float, int]:
    """Who is late already comes last: its deadline is lost."""
    assert waiter.option is not None
    return waiter.fixed, waiter.option.cost, waiter.rank
