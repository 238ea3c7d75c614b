"""The table of routing.md, cell by cell, from the formulas."""

from decimal import Decimal as D

import pytest

from router import breakeven
from router.breakeven import Card

CARD = Card(
    card_usd=D(2000),
    host_usd=D(800),
    resale_share=D("0.3"),
    years=D(3),
    upkeep_usd=D(50),
    watts=D(570),
    idle_watts=D(60),
    kwh_usd=D("0.207"),
    utilisation=D("0.2"),
)


def at(utilisation: str, usable: str = "1") -> Card:
    return Card(**{**vars(CARD), "utilisation": D(utilisation), "usable": D(usable)})


def test_the_fixed_cost_of_a_year() -> None:
    assert round(breakeven.fixed(CARD)) == 790


@pytest.mark.parametrize(
    ("seconds", "electricity", "k10", "k50", "k90", "clips", "hours"),
    [
        (90, "0.0029", "0.027", "0.0075", "0.0054", (14.7, 11.3, 8.8, 6.2), (0.37, 0.28, 0.22, 0.16)),
        (240, "0.0079", "0.071", "0.020", "0.014", (15.2, 11.6, 8.9, 6.3), (1.0, 0.8, 0.6, 0.4)),
        (540, "0.0177", "0.160", "0.045", "0.032", (16.4, 12.2, 9.3, 6.5), (2.5, 1.8, 1.4, 1.0)),
    ],
)
def test_the_table(
    seconds: int,
    electricity: str,
    k10: str,
    k50: str,
    k90: str,
    clips: tuple[float, ...],
    hours: tuple[float, ...],
) -> None:
    t = D(seconds)
    # The table cuts v off at four places (0.00295 is its 0.0029), its k counts 3 % of the clips as thrown away.
    assert abs(breakeven.marginal(CARD, t) - D(electricity)) < D("0.0001")
    for share, k in (("0.1", k10), ("0.5", k50), ("0.9", k90)):
        places = D(1).scaleb(D(k).as_tuple().exponent)  # type: ignore[arg-type]
        assert breakeven.full(at(share, "0.97"), t).quantize(places) == D(k)
    for price, most, day in zip(("0.15", "0.195", "0.25", "0.35"), clips, hours, strict=True):
        found = breakeven.break_even(CARD, t, D(price))
        assert found is not None
        assert abs(float(found / 365) - most) <= 0.06
        assert abs(float(breakeven.hours_a_day(found, t)) - day) <= 0.06


def test_the_price_of_the_card_moves_the_break_even_by_about_18_percent() -> None:
    dearer = Card(**{**vars(CARD), "card_usd": D(2600)})
    ratio = breakeven.fixed(dearer) / breakeven.fixed(CARD)
    assert D("1.17") < ratio < D("1.19")


def test_a_price_below_our_electricity_or_more_clips_than_a_year_holds_never_pays() -> None:
    assert breakeven.break_even(CARD, D(540), D("0.01")) is None
    assert breakeven.break_even(CARD, D(54_000), D("2.00")) is None


def test_at_ten_percent_use_a_slow_card_loses_to_a_cheap_api() -> None:
    assert breakeven.full(at("0.1"), D(540)) > D("0.15") > breakeven.full(at("0.5"), D(540))
