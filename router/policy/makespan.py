"""The soonest common end of a set of jobs that a budget buys (shared/routing.md, step 10), and what waiting would save."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from router.policy.cost import billed_tries
from router.policy.options import Option
from router.policy.planning import Pass
from router.policy.snapshot import Ask, Facts
from router.pricing import from_micros, to_micros

STEPS = 9
"""Halvings of the interval between the soonest and the latest end."""
LONGEST_S = 366 * 86_400.0
FINISHES = 6
"""Most ends that are shown."""
WORTH = 0.02
"""A later end must save this share to be shown."""


@dataclass(frozen=True)
class Share:
    """The part of the jobs that one offer makes."""

    backend: str
    model: str
    jobs: int
    micros: int | None
    """What others are expected to bill for them, failures included, in micro-dollars; None where nobody knows the price."""


@dataclass(frozen=True)
class Finish:
    """One common end and what it costs."""

    at: datetime
    shares: tuple[Share, ...]
    """The largest first."""

    @property
    def usd(self) -> Decimal | None:
        """The sum in US dollars; None where one of the prices is not known."""
        known = all(share.micros is not None for share in self.shares)
        return from_micros(self.micros) if known else None

    @property
    def micros(self) -> int:
        """The sum of what is known, in micro-dollars."""
        return sum(share.micros or 0 for share in self.shares)


def soonest(facts: Facts, asks: Sequence[Ask], budget: int) -> datetime | None:
    """The earliest time by which all these jobs can safely be there within `budget` micro-dollars; None if none is.

    Plan them with `Ask.due` set to it, and ask again every two minutes.
    """
    if not asks:
        return facts.now
    seconds = _soonest(_pass(facts, asks), budget)
    return None if seconds is None else facts.now + timedelta(seconds=seconds)


def finishes(facts: Facts, asks: Sequence[Ask], budget: int | None = None) -> tuple[Finish, ...]:
    """The soonest end that the budget buys, then later ones as long as waiting saves money; empty if there is none."""
    if not asks:
        return ()
    pass_ = _pass(facts, asks)
    due = _soonest(pass_, budget)
    found: list[Finish] = []
    while due is not None and due < LONGEST_S and len(found) < FINISHES:
        _bill(pass_, due)
        finish = Finish(facts.now + timedelta(seconds=due), _shares(pass_))
        if not found or finish.micros < found[-1].micros * (1 - WORTH):
            found.append(finish)
        if finish.micros == 0 or _all_have_their_best(pass_):
            break
        due *= 2
    return tuple(found)


def _pass(facts: Facts, asks: Sequence[Ask]) -> Pass:
    return Pass(facts, [replace(ask, due=facts.now) for ask in asks])


def _soonest(pass_: Pass, budget: int | None) -> float | None:
    """Seconds from now."""
    if any(not waiter.shape.options for waiter in pass_.waiters):
        return None
    low = max(waiter.shape.least_safe for waiter in pass_.waiters)
    slow = max(option.safe + option.wait for w in pass_.waiters for option in w.shape.options)
    high = low + slow
    while not _fits(pass_, high, budget):
        if high > LONGEST_S:
            return None
        low, high = high, high * 4
    for _ in range(STEPS):
        middle = (low + high) / 2
        if _fits(pass_, middle, budget):
            high = middle
        else:
            low = middle
    return high


def _fits(pass_: Pass, due: float, budget: int | None) -> bool:
    """Whether all are safe by then, at what they are expected to cost."""
    micros = _bill(pass_, due)
    return micros is not None and (budget is None or micros <= budget)


def _bill(pass_: Pass, due: float) -> int | None:
    """Match for one common end; what others are expected to bill, None where a job would be late."""
    pass_.again(due)
    pass_.match()
    total = 0
    for waiter in pass_.waiters:
        if waiter.option is None or waiter.fixed:
            return None
        total += _expected(waiter.option) or 0
    return total


def _expected(option: Option) -> int | None:
    """What failures on the way cost is part of the bill; what waiting for them costs is not."""
    if option.house:
        return 0
    price = option.made.price
    if price is None:
        return None
    return to_micros(price.usd * option.offer.learned.price_factor * billed_tries(option.offer))


def _shares(pass_: Pass) -> tuple[Share, ...]:
    options = [waiter.option for waiter in pass_.waiters if waiter.option is not None]
    jobs = Counter((option.offer.card.backend, option.model, _expected(option)) for option in options)
    whole: dict[tuple[str, str], Share] = {}
    for (backend, model, each), count in jobs.items():
        before = whole.get((backend, model), Share(backend, model, 0, 0))
        micros = None if each is None or before.micros is None else before.micros + each * count
        whole[backend, model] = Share(backend, model, before.jobs + count, micros)
    return tuple(sorted(whole.values(), key=lambda share: (-share.jobs, share.model)))


def _all_have_their_best(pass_: Pass) -> bool:
    return all(waiter.at == 0 for waiter in pass_.waiters)
