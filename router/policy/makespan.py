"""The soonest common end of a set of jobs that a budget buys (shared/routing.md, step 10)."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from router.policy.cost import billed_tries
from router.policy.planning import Pass
from router.policy.snapshot import Ask, Facts
from router.pricing import to_micros

STEPS = 9
"""Halvings of the interval between the soonest and the latest end."""


def soonest(facts: Facts, asks: Sequence[Ask], budget: int) -> datetime | None:
    """The earliest time by which all these jobs can safely be there within `budget` micro-dollars; None if none is.

    Plan them with `Ask.due` set to it, and ask again every two minutes.
    """
    if not asks:
        return facts.now
    pass_ = Pass(facts, [replace(ask, due=facts.now) for ask in asks])
    if any(not waiter.shape.options for waiter in pass_.waiters):
        return None
    low = max(waiter.shape.least_safe for waiter in pass_.waiters)
    slow = max(option.safe + option.wait for w in pass_.waiters for option in w.shape.options)
    high = low + slow
    while not _fits(pass_, high, budget):
        if high > 366 * 86_400:
            return None
        low, high = high, high * 4
    for _ in range(STEPS):
        middle = (low + high) / 2
        if _fits(pass_, middle, budget):
            high = middle
        else:
            low = middle
    return facts.now + timedelta(seconds=high)


def _fits(pass_: Pass, due: float, budget: int) -> bool:
    """Whether all are safe by then, at what they are expected to cost."""
    pass_.again(due)
    pass_.match()
    left = budget
    for waiter in pass_.waiters:
        option = waiter.option
        if option is None or waiter.fixed:
            return False
        price = option.made.price
        if price is not None and not option.house:
            # What failures on the way cost is part of the bill; what waiting for them costs is not.
            left -= to_micros(price.usd * option.offer.learned.price_factor * billed_tries(option.offer))
    return left >= 0
