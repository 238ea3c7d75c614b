"""Deferred acceptance: who gets the scarce place, what that is worth, and that nothing is planned beyond a limit."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import policy
from router.contract.job import Rejected
from router.contract.request import Mode
from router.contract.words import same
from router.pace import Pace
from router.policy import Ask, Choice, Facts, Money, OfferFacts, Tried, decide
from router.policy.planning import Pass
from router.pricing import to_micros
from tests.router.policy.scenes import NOW, SURE, ask, card, device, facts, offer

ANT, LYNX = offer("ant", "0.10"), offer("lynx", "2.00")


def started(choices: dict[str, Choice]) -> dict[str, str]:
    return {i: c.resolved.backend for i, c in choices.items() if c.resolved is not None}


def test_the_one_place_goes_to_the_job_that_saves_most_there() -> None:
    ant, dove = (
        offer("ant", "0.10", resolutions=("720p",)),
        offer("dove", None, hd_usd="0.90", resolutions=("1080p",)),
    )
    small, large = ask(1, due_s=250, resolution="720p"), ask(2, due_s=250, resolution="1080p")
    choices = policy.plan(facts(device(), ant, dove), [small, large])
    assert started(choices) == {"job002": "ours", "job001": "ant"}
    (refusal,) = [r for r in choices["job001"].decision.rejected if r.backend == "ours"]
    assert refusal.code == "busy"
    assert "1 job saves more per second" in refusal.reason.en
    assert "1 件" in refusal.reason.ja


def test_a_job_that_has_time_waits_for_its_turn_on_our_own_device() -> None:
    choices = policy.plan(facts(device(), ANT), [ask(1, due_s=3600), ask(2, due_s=3600)])
    assert started(choices) == {"job001": "ours"}
    second = choices["job002"]
    assert (second.planned, second.start_at) == ("ours/clip", NOW + timedelta(seconds=100))
    assert second.wake_at == second.start_at
    assert second.decision.reason.en.startswith("waits for ours/clip")


def test_a_job_nobody_can_make_in_time_goes_where_it_ends_first_and_is_told_late() -> None:
    slow = offer("slow", "0.10", sure=False, seconds=500)
    quick = offer("quick", "0.90", sure=False, seconds=50)
    choice = policy.decide(facts(slow, quick), ask(due_s=60))
    assert (choice.planned, choice.late) == ("quick/clip", True)
    assert [c.reason.en for c in choice.decision.candidates] == [
        "may come after the deadline",
        "expected after the deadline",
    ]


def test_a_job_without_a_deadline_is_never_called_late_and_a_slow_device_is_not_too_slow_for_it() -> None:
    slow = device(sure=False, seconds=600)
    choice = policy.decide(facts(slow, LYNX), ask())
    assert (choice.planned, choice.late) == ("ours/clip", False)
    old = replace(ask(), created_at=NOW - timedelta(days=2))
    assert policy.decide(facts(slow, LYNX), old).planned == "ours/clip"


def test_a_minute_window_lets_through_what_is_left_of_it() -> None:
    starts = tuple(NOW - timedelta(seconds=s) for s in (50, 20))
    limited = offer("ant", "0.10", starts_per_minute=3, starts=starts)
    choices = policy.plan(facts(limited), [ask(n, due_s=3600) for n in range(4)])
    assert started(choices) == {"job000": "ant"}
    begin = sorted(round((c.start_at - NOW).total_seconds()) for c in choices.values() if c.start_at)
    assert begin == [0, 10, 40, 60]


def test_a_used_up_day_is_waited_for_only_as_long_as_it_is_said_to_take() -> None:
    spent = offer("ant", "0.10", starts_per_day=5, left_today=0, free_at=NOW + timedelta(hours=1))
    choices = policy.plan(facts(spent, LYNX), [ask(1, due_s=7200), ask(2, due_s=1800)])
    assert started(choices) == {"job002": "lynx"}
    assert choices["job001"].start_at == NOW + timedelta(hours=1)


def test_an_account_limit_binds_all_models_of_a_backend() -> None:
    first = offer("fal", "0.10", model="one")
    second = OfferFacts(card("fal", "0.20", model="two"), learned=SURE)
    choices = policy.plan(
        replace(facts(first, second), backend_room={"fal": 2}, mode=Mode.CLOUD_FIRST),
        [ask(n, mode=Mode.CLOUD_FIRST) for n in range(4)],
    )
    assert len(started(choices)) == 2
    assert all(c.wake_at is not None for c in choices.values() if c.resolved is None)


def test_the_fastest_mode_spreads_jobs_by_where_each_would_end_first() -> None:
    quick = offer("quick", "0.90", learned=replace(SURE, mean_s=40.0), room=1)
    slow = offer("slow", "0.10", learned=replace(SURE, mean_s=90.0))
    choices = policy.plan(facts(quick, slow), [ask(n, mode=Mode.FASTEST) for n in range(3)])
    assert [choices[f"job{n:03}"].planned for n in range(3)] == ["quick/clip", "quick/clip", "slow/clip"]


def test_local_first_waits_for_our_own_device_only_while_it_is_safe() -> None:
    jobs = [ask(n, mode=Mode.LOCAL_FIRST) for n in range(20)]
    choices = policy.plan(facts(device(), ANT), jobs)
    planned = [c.planned for c in choices.values()]
    assert planned[0] == "ours/clip"
    assert 5 <= planned.count("ours/clip") <= 8
    assert all(backend == "ant" for i, backend in started(choices).items() if i != "job000")


def test_a_half_open_breaker_lets_one_job_through_in_every_mode() -> None:
    for mode in Mode:
        probe = (
            device(room=4, half_open=True) if mode is Mode.LOCAL_ONLY else offer("ant", "0.1", half_open=True)
        )
        choices = policy.plan(facts(probe), [ask(n, mode=mode) for n in range(3)])
        assert len(started(choices)) == 1


def test_who_is_short_of_time_does_not_try_again_what_was_down_but_takes_the_next_cheapest() -> None:
    world = facts(offer("ant", "0.15"), offer("crab", "0.22"), offer("hare", "0.40", seconds=50, sure=False))
    down = (Tried("ant/clip", "unavailable", False, NOW),)
    # 30 s until it may ask again, 60 s each for calls to ant and crab that hang, 120 s to be safe at hare.
    short, long = (replace(ask(due_s=due), tried=down) for due in (269, 271))
    assert decide(world, short).planned == "crab/clip"
    assert decide(world, long).planned == "ant/clip"


def test_the_probe_of_an_outage_is_a_job_that_can_still_go_elsewhere() -> None:
    world = facts(offer("ant", "0.15", half_open=True), offer("crab", "0.22"))
    assert decide(world, ask(due_s=174)).planned == "crab/clip"
    assert decide(world, ask(due_s=176)).planned == "ant/clip"
    assert decide(facts(offer("ant", "0.15", half_open=True)), ask(due_s=174)).planned == "ant/clip"


def test_an_offer_that_nobody_tried_for_long_is_tried_by_a_job_with_little_time_too() -> None:
    at = NOW - timedelta(seconds=601)
    world = facts(offer("ant", "0.15", half_open=True, rested_at=at), offer("crab", "0.22"))
    assert decide(world, ask(due_s=174)).planned == "ant/clip"
    newer = replace(world, now=NOW - timedelta(seconds=2))
    assert decide(newer, ask(due_s=172)).planned == "crab/clip"


def test_a_retry_after_is_believed() -> None:
    rest = Rejected(
        backend="ant",
        model="ant/clip",
        code="rate_limited",
        reason=same("rests"),
        ready_at=NOW + timedelta(seconds=30),
    )
    world = facts(offer("ant", "0.15", rest=rest), offer("crab", "0.22"))
    assert decide(world, ask(due_s=150)).planned == "ant/clip"
    down = rest.model_copy(update={"code": "unavailable"})
    world = facts(offer("ant", "0.15", rest=down), offer("crab", "0.22"))
    assert decide(world, ask(due_s=150)).planned == "crab/clip"


def test_alike_jobs_share_one_decision() -> None:
    choices = policy.plan(facts(device(), ANT), [ask(n, due_s=300) for n in range(20)])
    assert len({id(c.decision) for c in choices.values() if c.planned == "ant/clip"}) == 1


# -- properties

PRICES = ["0.10", "0.25", "0.60", "1.50"]
offers = st.lists(
    st.builds(
        offer,
        st.sampled_from(["ant", "bee", "crab", "dove"]),
        st.sampled_from(PRICES),
        room=st.none() | st.integers(0, 3),
        starts_per_minute=st.none() | st.integers(1, 5),
        half_open=st.booleans(),
        sure=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda o: o.card.id,
)
jobs = st.lists(
    st.tuples(
        st.none() | st.sampled_from([30.0, 200.0, 900.0, 4000.0]),
        st.sampled_from(list(Mode)),
        st.none() | st.sampled_from(["0.10", "0.50", "3"]),
        st.sampled_from([None, "1080p"]),
    ),
    max_size=10,
)
amounts = st.none() | st.sampled_from([0, 100_000, 700_000, 3_000_000])


def asks(rows: Sequence[tuple[float | None, Mode, str | None, str | None]]) -> list[Ask]:
    return [
        ask(
            n,
            due_s=due,
            mode=mode,
            preferences={"max_usd": cap} if cap else {},
            resolution=size,
            project="film" if n % 2 else None,
        )
        for n, (due, mode, cap, size) in enumerate(rows)
    ]


@settings(deadline=None)
@given(offers, st.booleans(), jobs, amounts, amounts, amounts, amounts)
def test_no_plan_is_above_a_cap_and_every_model_has_one_word(
    some: list[OfferFacts],
    own: bool,
    rows: list[tuple[float | None, Mode, str | None, str | None]],
    day: int | None,
    month: int | None,
    project: int | None,
    pace: int | None,
) -> None:
    found = [*some, *([device()] if own else [])]
    projects = {} if project is None else {"film": project}
    # At the beginning of its day a tenth of the budget is free.
    paced = None if pace is None else Pace(10 * pace, 0, NOW, NOW + timedelta(days=1))
    snapshot = facts(*found, money=Money(day, month, projects), pace=paced)
    waiting = asks(rows)
    choices = policy.plan(snapshot, waiting)
    assert choices == policy.plan(snapshot, waiting)
    everything = sorted(o.card.id for o in found)
    for asked in waiting:
        choice = choices[asked.id]
        said = choice.decision
        assert sorted([*(c.model for c in said.candidates), *(r.model for r in said.rejected)]) == everything
        assert all(words.en and words.ja for words in (said.reason, *(r.reason for r in said.rejected)))
        assert (choice.resolved is None) is (said.chosen is None)
        assert choice.hopeless or choice.resolved is not None or choice.wake_at is not None
        if choice.resolved is not None:
            assert choice.resolved.prompt == asked.request.prompt
            cap = asked.request.preferences.max_usd
            assert cap is None or choice.reserve <= to_micros(cap)
    for limit in (day, month, pace):
        assert limit is None or sum(c.reserve for c in choices.values()) <= limit
    film = sum(choices[a.id].reserve for a in waiting if a.request.project)
    assert project is None or film <= project
    for o in found:
        begun = [c for c in choices.values() if c.resolved and c.resolved.model == o.card.id]
        assert o.room is None or len(begun) <= max(o.room, 0)
        assert not o.half_open or len(begun) <= 1
        minute = o.card.limits.starts_per_minute
        assert minute is None or len(begun) <= minute


def cost(snapshot: Facts, waiting: Sequence[Ask]) -> float:
    """What the whole plan is expected to cost, late jobs at the value of their deadline."""
    pass_ = Pass(snapshot, waiting)
    pass_.match()
    return sum(
        (w.option.cost if w.option else 0.0) + (5.0 if w.fixed or w.option is None else 0.0)
        for w in pass_.waiters
    )


due_jobs = st.lists(
    st.tuples(st.sampled_from([150.0, 300.0, 500.0, 900.0]), st.sampled_from(["720p", "1080p"])),
    min_size=1,
    max_size=8,
)


def pair(rows: Sequence[tuple[float, str]]) -> list[Ask]:
    return [ask(n, due_s=due, resolution=size) for n, (due, size) in enumerate(rows)]


CLOUDS = (offer("ant", "0.10", hd_usd="0.80"), offer("bee", "0.30", hd_usd="0.50"))


@settings(deadline=None)
@given(due_jobs, st.integers(1, 3))
def test_more_places_and_lower_prices_never_make_the_plan_dearer(
    rows: list[tuple[float, str]], room: int
) -> None:
    waiting = pair(rows)
    cheap = OfferFacts(card("cheap", "0.02"), learned=SURE, room=room)
    base = cost(facts(cheap, *CLOUDS), waiting)
    assert cost(facts(replace(cheap, room=room + 1), *CLOUDS), waiting) <= base + 1e-6
    assert cost(facts(replace(cheap, card=card("cheap", "0.01")), *CLOUDS), waiting) <= base + 1e-6
    assert cost(facts(cheap, *CLOUDS, device()), waiting) <= base + 1e-6


@settings(deadline=None, max_examples=60)
@given(due_jobs)
def test_with_one_server_and_equal_times_the_plan_is_the_cheapest_there_is(
    rows: list[tuple[float, str]],
) -> None:
    waiting = pair(rows)
    snapshot = facts(device(), *CLOUDS)
    pass_ = Pass(snapshot, waiting)
    pass_.match()
    ways = []
    for w in pass_.waiters:
        own = next((o for o in w.shape.options if o.house), None)
        cloud = min((o.cost for o in w.shape.options if not o.house and o.safe <= w.due), default=5.0)
        ways.append((w.due, own, cloud))
    best = float("inf")
    for chosen in itertools.product((False, True), repeat=len(ways)):
        total, start = 0.0, 0.0
        for (due, own, cloud), here in sorted(zip(ways, chosen, strict=True), key=lambda x: x[0][0]):
            if not here:
                total += cloud
            elif own is None or start + own.safe > due:
                break
            else:
                total, start = total + own.cost, start + own.seconds
        else:
            best = min(best, total)
    assert cost(snapshot, waiting) == pytest.approx(best, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(due_jobs, st.sampled_from([200_000, 500_000, 1_500_000]))
def test_more_budget_never_starts_less(rows: list[tuple[float, str]], day: int) -> None:
    waiting = pair(rows)
    little = policy.plan(facts(*CLOUDS, money=Money(day)), waiting)
    more = policy.plan(facts(*CLOUDS, money=Money(day * 2)), waiting)
    assert len(started(more)) >= len(started(little))


def test_a_rest_without_an_end_is_a_rejection_and_one_with_an_end_is_a_time() -> None:
    stopped = Rejected(backend="ant", model="ant/clip", code="stopped", reason=same("stopped"))
    until = NOW + timedelta(seconds=40)
    resting = stopped.model_copy(update={"code": "rate_limited", "ready_at": until})
    never = policy.decide(facts(replace(ANT, rest=stopped)), ask(due_s=900))
    assert never.hopeless
    later = policy.decide(facts(replace(ANT, rest=resting)), ask(due_s=900))
    assert (later.planned, later.start_at, later.wake_at) == ("ant/clip", until, until)
    assert later.decision.rejected[0].usd == Decimal("0.10")
