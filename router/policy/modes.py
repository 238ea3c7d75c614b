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
    for option in options:
        option.now_only = mode is Mode.CLOUD_FIRST and not option.house
        option.score = option.cost
        if mode is Mode.FASTEST:
            option.score = (option.wait + option.seconds) * worth_of_a_second
    return sorted(options, key=lambda o: _key(mode, o))


def _key(mode: Mode, o: "Option") -> tuple[object, ...]:
    tail = (o.wait + o.seconds, o.model)
    match mode:
        case Mode.LOCAL_FIRST:
            return (o.tier, o.refused, not o.house, o.cost, *tail)
        case Mode.FASTEST:
            return (o.tier, o.refused, o.wait + o.seconds, o.cost, o.model)
        case Mode.CLOUD_FIRST:
            # Nobody asked for a surprise: a price we do not know comes after our own device.
            return (o.tier, o.refused, o.made.price is None, o.house, o.cost, *tail)
        case _:
            return (o.tier, o.refused, o.cost, *tail)
