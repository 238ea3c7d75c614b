"""When our own card pays for itself: exact formulas of routing.md, pure. What the router uses is `marginal` alone.

Assumptions are settings ([local] watts, kwh_usd, card_usd, ...); a report that shows a figure shows them beside it.
"""

from dataclasses import dataclass
from decimal import Decimal

YEAR_S = Decimal(31_536_000)
HOURS = Decimal("8.76")
"""Thousands of hours in a year: watts times this are kWh a year."""


@dataclass(frozen=True)
class Card:
    """What owning the card costs, US dollars; shares are 0..1."""

    card_usd: Decimal
    host_usd: Decimal
    resale_share: Decimal
    years: Decimal
    upkeep_usd: Decimal
    """Per year."""
    watts: Decimal
    """At work, host included."""
    idle_watts: Decimal
    kwh_usd: Decimal
    utilisation: Decimal
    """Share of the year in which it works."""
    usable: Decimal = Decimal(1)
    """Share of its clips that somebody keeps."""


def marginal(card: Card, seconds: Decimal) -> Decimal:
    """v: electricity of one usable clip. The rest is spent whether or not it runs, so the router asks for no more."""
    return card.watts * seconds / 3_600_000 * card.kwh_usd / card.usable


def fixed(card: Card) -> Decimal:
    """F: what the card costs in a year although nobody asks anything of it."""
    loss = (card.card_usd + card.host_usd) * (1 - card.resale_share) / card.years
    return loss + card.upkeep_usd + card.idle_watts * HOURS * (1 - card.utilisation) * card.kwh_usd


def most_clips(card: Card, seconds: Decimal) -> Decimal:
    """Usable clips of a year without a pause."""
    return YEAR_S * card.usable / seconds


def full(card: Card, seconds: Decimal) -> Decimal:
    """k: what one usable clip costs its owner at this utilisation, purchase included."""
    return fixed(card) / (card.utilisation * most_clips(card, seconds)) + marginal(card, seconds)


def break_even(
    card: Card, seconds: Decimal, price: Decimal, price_usable: Decimal = Decimal(1)
) -> Decimal | None:
    """N*: clips a year from which owning is cheaper than buying at `price`.

    None where no number is enough: the price is below our electricity, or the card would need more than a whole year.
    """
    gain = price / price_usable - marginal(card, seconds)
    if gain <= 0:
        return None
    clips = fixed(card) / gain
    return clips if clips <= most_clips(card, seconds) else None


def hours_a_day(clips_a_year: Decimal, seconds: Decimal) -> Decimal:
    """How long the card works on an average day."""
    return clips_a_year * seconds / (365 * 3600)
