"""Prices of attempts: exact, rounded up, unknown where unknown."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.card import ModelCard, ResolvedRequest
from router.contract.request import Quality, Task
from router.pricing import estimate, from_micros, money, to_micros


def row(usd: str, per: str = "second", **when: Any) -> dict[str, Any]:
    return {
        "usd": usd,
        "per": per,
        "when": when,
        "as_of": date(2026, 11, 20),
        "source": "https://acme.example/pricing",
    }


def card(*prices: dict[str, Any], **wire: Any) -> ModelCard:
    return ModelCard.model_validate(
        {
            "id": "acme/reel",
            "backend": "acme",
            "wire_id": "reel",
            "family": "reel",
            "tasks": ("text-to-video",),
            "prices": prices,
            "wire": wire,
            "as_of": date(2026, 11, 20),
            "source": "x",
        }
    )


def resolved(**given: Any) -> ResolvedRequest:
    base: dict[str, Any] = {
        "model": "acme/reel",
        "backend": "acme",
        "wire_id": "reel",
        "task": Task.TEXT_TO_VIDEO,
        "prompt": "x",
        "duration": 5.0,
        "resolution": "720p",
        "quality": Quality.STANDARD,
    }
    return ResolvedRequest.model_validate({**base, **given})


def usd(model: ModelCard, **given: Any) -> Decimal | None:
    found = estimate(model, resolved(**given))
    return found.usd if found else None


def test_a_price_per_second_is_exact() -> None:
    assert usd(card(row("0.1")), duration=0.3) == Decimal("0.03")
    assert usd(card(row("0.05")), duration=5) == Decimal("0.25")


def test_a_price_is_rounded_up_to_whole_micro_dollars() -> None:
    assert usd(card(row("0.0000011")), duration=1) == Decimal("0.000002")


def test_a_price_per_clip_does_not_depend_on_the_length() -> None:
    assert usd(card(row("0.4", "clip")), duration=0.0) == Decimal("0.4")


def test_the_first_row_that_holds_is_the_price() -> None:
    model = card(row("1", resolution="1080p"), row("2", resolution="720p", audio=False), row("3"))
    assert usd(model, duration=1) == 2
    assert usd(model, duration=1, generate_audio=True) == 3
    assert usd(model, duration=1, resolution="1080P") == 1


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({"duration": 5}, True),
        ({"duration": 5.0}, True),
        ({"duration": [4, 5]}, True),
        ({"duration": "5"}, False),
        ({"audio": False}, True),
        ({"audio": 0}, False),
        ({"has_image": True}, False),
        ({"quality": "standard", "task": "text-to-video"}, True),
        ({"fps": 24}, False),
        ({"aspect_ratio": "16:9"}, False),
    ],
)
def test_conditions(when: dict[str, Any], holds: bool) -> None:
    assert (usd(card(row("1", "clip", **when))) is not None) is holds


def test_an_unknown_price_is_none_and_a_known_zero_is_zero() -> None:
    assert usd(card()) is None
    assert usd(card(row("1", resolution="4k"))) is None
    assert usd(card(row("1")), duration=0.0) is None
    assert usd(card(row("0")), duration=0.0) == 0


def test_where_the_model_chooses_the_length_the_most_is_reserved() -> None:
    found = estimate(card(row("0.1"), auto_duration_max=15), resolved(duration=5))
    assert found is not None and (found.usd, found.most_usd) == (Decimal("0.5"), Decimal("1.5"))
    found = estimate(card(row("0.1")), resolved(duration=5))
    assert found is not None and found.most_usd == found.usd
    assert found.as_of == date(2026, 11, 20) and found.source


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0.00"),
        ("0.5", "0.50"),
        ("1", "1.00"),
        ("100", "100.00"),
        ("0.123456", "0.123456"),
        ("0.0000004", "0.00"),
        ("1E+3", "1000.00"),
        ("-2.5", "-2.50"),
        ("1000000.000001", "1000000.000001"),
    ],
)
def test_money_as_text(value: str, text: str) -> None:
    assert money(Decimal(value)) == text


def test_unknown_money_is_none() -> None:
    assert money(None) is None


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_what_is_no_amount_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        to_micros(Decimal(value))


@given(st.decimals(0, 10**9, places=9))
def test_micros_never_lose_money_and_round_trip(amount: Decimal) -> None:
    micros = to_micros(amount)
    assert 0 <= micros - amount * 1_000_000 < 1
    assert to_micros(from_micros(micros)) == micros
    shown = money(from_micros(micros))
    assert shown is not None and Decimal(shown) == from_micros(micros) and "E" not in shown
