"""The planner as a pure function: order by mode, reasons for all, nothing above a cap."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import policy
from router.contract.card import ModelCard
from router.contract.job import Rejected
from router.contract.request import Mode, VideoRequest
from router.contract.words import same
from router.policy import Ask, Facts, Money, OfferFacts, Tried
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


def _resting(offer: OfferFacts, seconds: float) -> OfferFacts:
    until = NOW + timedelta(seconds=seconds)
    why = same("rests")
    rest = Rejected(
        backend=offer.card.backend, model=offer.card.id, code="rate_limited", reason=why, ready_at=until
    )
    return replace(offer, rest=rest)


def _tried(offer: OfferFacts, code: str, *, ago: float = 1, accepted: bool = False) -> Tried:
    return Tried(offer.card.id, code, accepted, NOW - timedelta(seconds=ago))


def test_patience_waits_for_a_cloud_offer_whose_rest_ends_in_time() -> None:
    patient = Facts(NOW, (_resting(SLOW_CHEAP, 8), OURS), patience_s=10)
    waiting = replace(ask(), created_at=NOW)
    choice = policy.decide(patient, waiting)
    assert (choice.resolved, choice.wake_at) == (None, NOW + timedelta(seconds=8))
    for impatient in (replace(patient, patience_s=5), replace(patient, mode=Mode.CHEAPEST)):
        chosen = policy.decide(impatient, waiting).resolved
        assert chosen is not None
        assert chosen.backend == "ours"


def test_a_cloud_that_just_said_429_goes_behind_our_own_device_even_after_its_rest() -> None:
    turned_away = replace(ask(), tried=(_tried(SLOW_CHEAP, "rate_limited"),))
    chosen = policy.decide(Facts(NOW, (SLOW_CHEAP, OURS)), turned_away).resolved
    assert chosen is not None
    assert chosen.backend == "ours"
    again = policy.decide(Facts(NOW, (SLOW_CHEAP,)), turned_away).resolved
    assert again is not None
    assert again.backend == "cheap"


def test_a_backend_that_is_down_is_not_asked_again_under_another_models_name() -> None:
    second = OfferFacts(SLOW_CHEAP.card.model_copy(update={"id": "cheap/other", "wire_id": "other"}))
    down = replace(ask(), tried=(_tried(SLOW_CHEAP, "unavailable"),))
    choice = policy.decide(Facts(NOW, (SLOW_CHEAP, second, OURS)), down)
    assert [c.backend for c in choice.decision.candidates] == ["ours"]


def test_a_price_nobody_knows_comes_after_our_own_device_and_never_under_a_cap() -> None:
    unknown = OfferFacts(card("secret", None))
    free = policy.decide(Facts(NOW, (unknown, OURS)), ask())
    assert [c.backend for c in free.decision.candidates] == ["ours", "secret"]
    capped = policy.decide(Facts(NOW, (unknown,)), ask(max_usd="5"))
    assert [(r.backend, r.code) for r in capped.decision.rejected] == [("secret", "price_unknown")]


def test_a_used_up_month_is_waited_for_and_a_job_dearer_than_the_whole_budget_is_not() -> None:
    turns = NOW + timedelta(days=10)
    price = to_micros(Decimal("0.50"))
    empty = Money(month=0, month_turns_at=turns, caps={"month": price})
    choice = policy.decide(Facts(NOW, (SLOW_CHEAP,), money=empty), ask())
    assert (choice.wake_at, choice.hopeless) == (turns, False)
    small = replace(empty, caps={"month": price - 1})
    assert policy.decide(Facts(NOW, (SLOW_CHEAP,), money=small), ask()).hopeless


def test_a_named_model_that_is_not_set_up_is_what_the_refusal_talks_about() -> None:
    missing = Rejected(
        backend="ours", model="ours/clip", code="no_weights", reason=same("its weights are not here")
    )
    named = replace(ask(), request=VideoRequest(prompt="a ball", model="ours/clip"))
    choice = policy.decide(Facts(NOW, (SLOW_CHEAP, replace(OURS, unusable=missing))), named)
    assert choice.hopeless
    assert "its weights are not here" in choice.decision.reason.en


def test_what_a_named_model_can_never_make_comes_before_what_it_lacks_here() -> None:
    missing = Rejected(
        backend="ours", model="ours/clip", code="no_weights", reason=same("its weights are not here")
    )
    wish = VideoRequest(prompt="a ball", model="ours/clip", duration=7)
    facts = Facts(NOW, (SLOW_CHEAP, replace(OURS, unusable=missing)))
    choice = policy.decide(facts, replace(ask(), request=wish))
    assert choice.hopeless
    assert "weights" not in choice.decision.reason.en
    assert [misfit.field for misfit in choice.misfits] == ["duration"]
    unnamed = policy.decide(facts, replace(ask(), request=wish.model_copy(update={"model": None})))
    assert ("ours", "no_weights") in {(r.backend, r.code) for r in unnamed.decision.rejected}


@pytest.mark.parametrize("code", ["backend_error", "generation_failed", "out_of_memory"])
def test_what_our_own_device_refused_before_it_began_is_not_asked_again(code: str) -> None:
    """A clip beyond the card or a language that the model does not read stays so: asking every 30 s would go on for ever."""
    refused = Tried(model="ours/clip", code=code, accepted=False, ended_at=NOW)
    named = VideoRequest(prompt="a ball", model="ours/clip")
    choice = policy.decide(Facts(NOW, (OURS,)), replace(ask(), request=named, tried=(refused,)))
    assert choice.hopeless
    elsewhere = policy.decide(Facts(NOW, (OURS, SLOW_CHEAP)), replace(ask(), tried=(refused,)))
    assert [c.backend for c in elsewhere.decision.candidates] == ["cheap"]


def test_an_own_device_that_was_unavailable_is_asked_again() -> None:
    away = Tried(model="ours/clip", code="unavailable", accepted=False, ended_at=NOW)
    choice = policy.decide(Facts(NOW, (OURS,)), replace(ask(), tried=(away,)))
    assert (choice.hopeless, choice.wake_at is not None) == (False, True)


def test_jobs_in_different_scripts_are_told_apart() -> None:
    english = OfferFacts(OURS.card.model_copy(update={"languages": ("en",)}))
    facts = Facts(NOW, (english,))
    first = replace(ask(1), request=VideoRequest(prompt="a red balloon"))
    second = replace(ask(2), request=VideoRequest(prompt="赤い風船が飛ぶ"))
    choices = policy.plan(facts, [first, second])
    assert choices["job1"].resolved is not None
    assert choices["job2"].hopeless
    assert "does not read Japanese" in choices["job2"].decision.reason.en
    assert "日本語のプロンプト" in choices["job2"].decision.reason.ja


def test_who_reads_a_prompt_is_named_and_who_could_start_comes_first() -> None:
    english = OfferFacts(OURS.card.model_copy(update={"languages": ("en",)}))
    reads = {"languages": ("en", "ja")}
    ready = OfferFacts(card("ready", "0.10").model_copy(update=reads))
    absent = OfferFacts(
        card("absent", "0.01").model_copy(update=reads),
        unusable=Rejected(backend="absent", model="absent/clip", code="no_key", reason=same("no key")),
    )
    silent = OfferFacts(card("silent", "0.01"))
    job = replace(ask(), request=VideoRequest(prompt="赤い風船が飛ぶ", model="ours/clip"))
    choice = policy.decide(Facts(NOW, (english, absent, silent, ready)), job)
    assert choice.hopeless
    assert choice.decision.reason.en.endswith("(ready/clip, absent/clip)")
    assert choice.decision.reason.ja.endswith("(ready/clip、absent/clip)")
    told = replace(job, request=job.request.model_copy(update={"prompt": "a red balloon flies"}))
    assert policy.decide(Facts(NOW, (english, ready)), told).resolved is not None
