"""What a job is expected to cost at an offer and how long it safely takes there (shared/routing.md, steps 2 and 3).

These are expectations that order offers, so they are floats; what is reserved and billed stays in whole micro-dollars.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from router.contract.card import Where
from router.policy.snapshot import ENOUGH_RESULTS, Facts, Learned, OfferFacts

HANDLING_USD = 0.03
"""What a failure costs besides its bill: the time of everybody who waits."""
UNKNOWN_USD = 1e6
"""A price nobody knows is compared as if it were this."""
UNMEASURED = 2.2
"""Times the documented typical time that an offer we do not know yet is given."""
SLACK_S = 10.0
CALL_S = 60.0
"""How long a call that nobody answers hangs before it is given up."""
REDO_S = 300.0
"""Most room that a job on our own device is given to be made elsewhere."""
OFTEN = 0.02
"""From this failure rate on our own device the whole room is kept; below, its share: the room costs places."""


def failure_rate(learned: Learned) -> float:
    """Decayed share of failures, with half a failure in ten results assumed beforehand."""
    return min((learned.failures + 0.5) / (learned.results + 10.0), 0.95)


def billed_share(learned: Learned, documented: str) -> float:
    """Which share of its failures an offer bills; what the provider documents goes before what was seen."""
    if documented == "never":
        return 0.0
    return min((learned.billed_failures + 0.5) / (learned.failures + 1.0), 1.0)


def expected_cost(facts: Facts, offer: OfferFacts, usd: Decimal | None) -> float:
    """US dollars until one clip is there, failures on the way included; our own device costs its electricity."""
    if offer.card.where is Where.HOUSE:
        price = float(facts.electricity_per_s) * offer.seconds + (float(usd) if usd else 0.0)
    else:
        price = UNKNOWN_USD if usd is None else float(usd * offer.learned.price_factor)
    rate = failure_rate(offer.learned)
    odds = rate / (1 - rate)
    return price * (1 + odds * billed_share(offer.learned, offer.card.failure_billed)) + HANDLING_USD * odds


def billed_tries(offer: OfferFacts) -> Decimal:
    """How many bills one clip takes here."""
    rate = failure_rate(offer.learned)
    share = billed_share(offer.learned, offer.card.failure_billed)
    return Decimal(str(round(1 + share * rate / (1 - rate), 4)))


class Times(NamedTuple):
    """How long one job takes at an offer, in seconds without waiting."""

    mean: float
    p85: float
    p97: float
    p99: float
    known: bool


def times_of(offer: OfferFacts) -> Times:
    """Learned quantiles where there are enough results, else 2.2 times what is documented."""
    learned = offer.learned
    mean = offer.seconds
    if learned.results >= ENOUGH_RESULTS and learned.p99_s is not None:
        p99 = learned.p99_s
        return Times(mean, learned.p85_s or p99, learned.p97_s or p99, p99, True)
    most = UNMEASURED * max(offer.card.typical_seconds, mean)
    return Times(mean, most, most, most, False)


def safe_s(facts: Facts, offer: OfferFacts, times: Times, quickest_other: float, hedged: bool) -> float:
    """Seconds before the deadline at which a job must have started here.

    `quickest_other` is the 97 % time of the quickest alternative, infinite without one. Only a job that may be hedged
    counts on that alternative while it is still running here.
    """
    if offer.card.where is Where.HOUSE:
        redo = min(REDO_S, quickest_other if math.isfinite(quickest_other) else times.mean)
        redo *= min(1.0, failure_rate(offer.learned) / OFTEN)
        base = 1.15 * times.mean + redo if times.known else times.p99
        return base + (0.0 if offer.loaded else offer.switch_s) + SLACK_S
    alone = times.p99 * 1.05 if times.known else times.p99
    if hedged and times.known:
        alone = min(alone, times.p85 + quickest_other + 2 * facts.tick_s)
    return alone + SLACK_S


_QUANTILES = (0.0, 0.5, 0.85, 0.97, 0.99)


def survival(offer: OfferFacts, seconds: float) -> float:
    """P(a job here takes longer than `seconds`): empirical, with half a pseudo-observation on a Pareto(2) tail."""
    if seconds <= 0:
        return 1.0
    tail = min(1.0, (offer.seconds / seconds) ** 2)
    recent = offer.learned.recent_s
    if recent:
        longer = sum(1 for taken in recent if taken > seconds)
        return (longer + 0.5 * tail) / (len(recent) + 0.5)
    times = times_of(offer)
    if not times.known:
        return 1.0 if seconds < times.mean else tail
    points = (0.0, times.mean, times.p85, times.p97, times.p99)
    if seconds >= times.p99:
        return 0.01 * (times.p99 / seconds) ** 2
    return 1.0 - _between(points, _QUANTILES, seconds)


def _between(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Piecewise linear; `x` lies below the last point."""
    i = next(i for i in range(1, len(xs)) if x < xs[i])
    width = xs[i] - xs[i - 1]
    return ys[i - 1] + (ys[i] - ys[i - 1]) * ((x - xs[i - 1]) / width if width > 0 else 1.0)
