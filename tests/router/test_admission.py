"""One likely offer instead of the whole catalogue: the door says yes sooner, and never yes where it would say no."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from router import policy
from router.admission import Admission, _Seen
from router.catalog import Catalog
from router.contract.card import ModelCard
from router.contract.job import Rejected
from router.contract.request import Preferences, VideoRequest
from router.contract.words import same
from router.policy import Ask, Facts, Money, OfferFacts
from router.policy.rejections import names
from router.settings import Settings

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
EVERY = 20
"""Each twentieth card of the catalogue: enough kinds, and quick."""


@cache
def catalog() -> Catalog:
    return Catalog.load()


@cache
def cards() -> tuple[ModelCard, ...]:
    return tuple(catalog().cards.values())[::EVERY]


@cache
def admission() -> Admission:
    nothing: Any = None
    return Admission(nothing, Settings.load({}), catalog(), nothing, nothing)


def offer(card: ModelCard, dice: random.Random) -> OfferFacts:
    state = dice.choice(["free", "free", "full", "no_key", "resting", "stopped", "window"])
    later = NOW + timedelta(seconds=dice.randint(1, 5000))

    def no(code: str, ready_at: datetime | None = None) -> Rejected:
        return Rejected(backend=card.backend, model=card.id, code=code, reason=same(code), ready_at=ready_at)

    rest = {"resting": no("rate_limited", later), "stopped": no("stopped")}.get(state)
    return OfferFacts(
        card=card,
        unusable=no("no_key") if state == "no_key" else None,
        rest=rest,
        free_at=later if state == "window" else None,
        room=0 if state == "full" else None,
    )


def snapshot(dice: random.Random) -> Facts:
    left = dice.choice([None, 0, 300_000, 5_000_000])
    money = Money()
    if left is not None:
        turns = NOW + timedelta(seconds=dice.choice([60, 40_000]))
        money = Money(day=left, day_turns_at=turns, caps={"day": dice.choice([200_000, 10_000_000])})
    offers = tuple(offer(card, dice) for card in cards())
    return Facts(now=NOW, offers=offers, money=money, patience_s=dice.choice([0.0, 600.0]))


@st.composite
def requests(draw: st.DrawFn) -> VideoRequest:
    known = [None, None, *(name for card in cards() for name in (card.id, card.family))]
    preferences: dict[str, Any] = {
        "substitutes": draw(st.sampled_from([None, "none", "family", "any"])),
        "mode": draw(st.sampled_from([None, "cheapest", "fastest", "local-first", "local-only"])),
        "max_usd": draw(st.sampled_from([None, Decimal("0.05"), Decimal("2")])),
        "deadline": draw(st.sampled_from([None, NOW + timedelta(seconds=300)])),
    }
    return VideoRequest(
        prompt="a lighthouse",
        model=draw(st.sampled_from(known)),
        duration=draw(st.sampled_from([None, 4, 5, 10, 600])),
        resolution=draw(st.sampled_from([None, "720p", "1080p"])),
        preferences={name: value for name, value in preferences.items() if value is not None},
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), requests())
def test_one_offer_that_takes_a_request_means_that_the_whole_catalogue_does(
    seed: int, request: VideoRequest
) -> None:
    facts = snapshot(random.Random(seed))
    door, ask = admission(), Ask("new", request, 1)
    whole = door._refusal(request, policy.decide(facts, ask))
    named = {card.id for card in cards() if names(request.model, card)}
    for likely in (card for card in cards() if not card.demo):
        few = tuple(o for o in facts.offers if o.card.id in {likely.id, *named})
        if door._refusal(request, policy.decide(replace(facts, offers=few), ask)) is None:
            assert whole is None, likely.id


CHANGES: list[dict[str, Any]] = [
    {"prompt": "another lighthouse", "tags": ("x",)},
    {"seed": 7},
    {"prompt": "storm " * 300},
    {"prompt": "storm " * 3000},
    {"duration": 8},
    {"resolution": "4k"},
    {"negative_prompt": "fog"},
    {"provider_options": {"fal": {"x": 1}}},
    {"project": "ads"},
    {"preferences": Preferences(max_usd=Decimal("0.01"))},
]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), requests(), st.sampled_from(CHANGES))
def test_requests_of_one_key_are_answered_alike(
    dice: int, request: VideoRequest, change: dict[str, Any]
) -> None:
    facts = snapshot(random.Random(dice))
    seen, door = _Seen(facts, 0, 0.0), admission()
    other = request.model_copy(update=change)
    if seen.key(request, 1, {}) == seen.key(other, 2, {}):
        answers = [
            door._refusal(asked, policy.decide(facts, Ask("new", asked, seed, {}))) is None
            for asked, seed in ((request, 1), (other, 2))
        ]
        assert answers[0] == answers[1]
    else:
        assert change is not CHANGES[0]
