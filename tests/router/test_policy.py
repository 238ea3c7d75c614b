"""The planner as a pure function: order by mode, reasons for all, nothing above a cap."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import policy
from router.contract.card import ModelCard
from router.contract.request import Mode, VideoRequest
from router.policy import Ask, Facts, Money, OfferFacts
from router.pricing import to_micros

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CHEAP, DEAR, HOUSE = "0.10", "0.40", "0"


def card(name: str, usd: str | None, *, house: bool = False, seconds: float = 60) -> ModelCard:
    price = {"usd": usd, "per": "second", "as_of": date(2026, 11, 21), "source": "tests"}
    return ModelCard.model_validate(
        {
            "id": f"{name}/clip",
            "backend": name,
            "wire_id": "clip",
            "family": name,
            "where": "house" if house else "cloud",
            "tasks": ("text-to-video",),
            "durations": (5,),
            "typical_seconds": seconds,
            "prices": (price,) if usd is not None else (),
            "as_of": date(2026, 11, 21),
            "source": "tests",
        }
    )


SLOW_CHEAP = OfferFacts(card("cheap", CHEAP, seconds=100))
QUICK_DEAR = OfferFacts(card("dear", DEAR, seconds=20))
OURS = OfferFacts(card("ours", HOUSE, house=True, seconds=60))
ALL = (QUICK_DEAR, OURS, SLOW_CHEAP)


def ask(number: int = 0, **preferences: Any) -> Ask:
    request = VideoRequest.model_validate({"prompt": "a ball", "preferences": preferences})
    return Ask(f"job{number}", request, seed=1)


@pytest.mark.parametrize(
    ("mode", "order"),
    [
        (Mode.CLOUD_FIRST, ["cheap", "dear", "ours"]),
        (Mode.LOCAL_FIRST, ["ours", "cheap", "dear"]),
        (Mode.CHEAPEST, ["ours", "cheap", "dear"]),
        (Mode.FASTEST, ["dear", "ours", "cheap"]),
        (Mode.LOCAL_ONLY, ["ours"]),
    ],
)
def test_each_mode_proposes_in_its_own_order(mode: Mode, order: list[str]) -> None:
    choice = policy.decide(Facts(NOW, ALL, mode=mode), ask())
    assert [c.backend for c in choice.decision.candidates] == order
    assert policy.decide(Facts(NOW, ALL), ask(mode=mode.value)).decision.candidates == (
        choice.decision.candidates
    )


def test_places_taken_by_one_job_are_gone_for_the_next() -> None:
    offers = (OfferFacts(SLOW_CHEAP.card, room=1), OfferFacts(QUICK_DEAR.card, room=2), OURS)
    choices = policy.plan(Facts(NOW, offers), [ask(n) for n in range(4)])
    assert [c.resolved.backend for c in choices.values() if c.resolved] == ["cheap", "dear", "dear", "ours"]


micros = st.none() | st.integers(0, 5_000_000)
offer = st.builds(
    OfferFacts,
    card=st.builds(
        card,
        st.sampled_from(["a", "b", "c", "d"]),
        st.none() | st.sampled_from(["0", "0.05", "0.1", "0.3"]),
        house=st.booleans(),
        seconds=st.sampled_from([1.0, 50.0]),
    ),
    room=st.none() | st.integers(-1, 3),
    half_open=st.booleans(),
)
facts = st.builds(
    Facts,
    now=st.just(NOW),
    offers=st.lists(offer, max_size=4, unique_by=lambda o: o.card.id),
    money=st.builds(Money, day=micros, month=micros),
    mode=st.sampled_from(list(Mode)),
    too_expensive_per_second=st.none() | st.sampled_from([Decimal("0.06"), Decimal("0.2")]),
)


@settings(deadline=None)
@given(facts=facts, caps=st.lists(st.none() | st.sampled_from(["0", "0.30", "1", "2"]), max_size=8))
def test_every_offer_has_a_word_and_no_plan_breaks_a_limit(facts: Facts, caps: list[str | None]) -> None:
    asks = [ask(n, **({"max_usd": cap} if cap else {})) for n, cap in enumerate(caps)]
    choices = policy.plan(facts, asks)
    assert choices == policy.plan(facts, asks)
    ids = sorted(o.card.id for o in facts.offers)
    for asked in asks:
        choice = choices[asked.id]
        said = choice.decision
        assert sorted([*(c.model for c in said.candidates), *(r.model for r in said.rejected)]) == ids
        reasons = [c.reason for c in said.candidates] + [r.reason for r in said.rejected]
        assert all(reason.en and reason.ja for reason in reasons)
        if choice.resolved is None:
            continue
        most = asked.request.preferences.max_usd
        assert most is None or choice.reserve <= to_micros(most)
        assert said.chosen is not None
        limit = facts.too_expensive_per_second
        cloud = next(o.card for o in facts.offers if o.card.id == said.chosen.model).where == "cloud"
        assert limit is None or not cloud or (said.chosen.usd or 0) / 5 <= limit
    reserved = sum(choice.reserve for choice in choices.values() if choice.resolved)
    for budget in (facts.money.day, facts.money.month):
        assert budget is None or reserved <= budget
    for o in facts.offers:
        started = [c for c in choices.values() if c.resolved and c.resolved.model == o.card.id]
        assert o.room is None or len(started) <= max(o.room, 0)
        assert not o.half_open or len(started) <= 1
