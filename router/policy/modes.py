"""The order in which a job proposes to its options: the table of modes in shared/routing.md."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from router.contract.request import Mode
from router.policy.snapshot import Facts

if TYPE_CHECKING:
    from router.policy.options import Option

SPILLS_LAZILY = frozenset({Mode.CHEAPEST, Mode.LOCAL_FIRST})
"""Modes in which a job with a deadline may keep waiting for a cheaper offer."""


def order(mode: Mode, options: Sequence["Option"], facts: Facts) -> list["Option"]:
    """Sorted, each with the score of its mode; ties end with the model id: the same input gives the same plan."""
    worth_of_a_second = float(facts.value_of_deadline_usd) / facts.default_deadline_s
    cloud_first, fastest = mode is Mode.CLOUD_FIRST, mode is Mode.FASTEST
    for option in options:
        option.now_only = cloud_first and not option.house
        option.score = (option.wait + option.seconds) * worth_of_a_second if fastest else option.cost
    return sorted(options, key=_KEYS.get(mode, _by_cost))


def _by_cost(o: "Option") -> tuple[object, ...]:
    return (o.tier, o.refused, o.cost, o.wait + o.seconds, o.model)


def _by_end(o: "Option") -> tuple[object, ...]:
    return (o.tier, o.refused, o.wait + o.seconds, o.cost, o.model)


def _house_first(o: "Option") -> tuple[object, ...]:
    return (o.tier, o.refused, not o.house, o.cost, o.wait + o.seconds, o.model)


def _cloud_first(o: "Option") -> tuple[object, ...]:
    # Nobody asked for a surprise: a price we do not know comes after our own device.
    return (o.tier, o.refused, o.made.price is None, o.house, o.cost, o.wait + o.seconds, o.model)


_KEYS = {Mode.LOCAL_FIRST: _house_first, Mode.FASTEST: _by_end, Mode.CLOUD_FIRST: _cloud_first}
