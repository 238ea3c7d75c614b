"""A budget that will not do for all waiting jobs buys as many clips as it can."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from router import policy
from router.contract.request import Mode
from router.policy import Ask, Choice, Learned, Money, OfferFacts
from tests.router.policy.scenes import NOW, SURE, ask, card, facts, offer

CHEAP = offer("ant", "0.15", resolutions=("720p",))
DEAR = offer("eel", "0.80", resolutions=("1080p",))


def plan(
    dollars: float, *, due_s: float = 9000.0, mode: Mode = Mode.CHEAPEST, **money: Any
) -> dict[str, Choice]:
    """One job for $0.80 that came first, five for $0.15."""
    jobs: list[Ask] = [ask(0, due_s=due_s, mode=mode, resolution="1080p")]
    jobs += [ask(n, due_s=due_s, mode=mode, resolution="720p") for n in range(1, 6)]
    return policy.plan(facts(CHEAP, DEAR, money=Money(day=int(dollars * 1e6), **money)), jobs)


def begun(choices: dict[str, Choice]) -> list[str]:
    return sorted(i for i, choice in choices.items() if choice.resolved is not None)


ALL = [f"job{n:03}" for n in range(6)]


def test_the_dearest_waits_to_its_last_moment_where_the_money_may_not_do_for_all() -> None:
    choices = plan(1.00)
    assert begun(choices) == ALL[1:]
    held = choices["job000"]
    assert held.decision.reason.en == "the budget may not do for all waiting jobs, and cheaper ones go first"
    # Two safe times and a minute before its deadline.
    assert held.wake_at == held.start_at == NOW + timedelta(seconds=9000 - 230 - 60)
    assert not held.hopeless


def test_with_money_for_all_and_some_to_spare_nobody_waits() -> None:
    assert begun(plan(1.70)) == ALL


def test_a_little_doubt_is_held_against_who_can_still_wait_but_not_at_the_last_moment() -> None:
    assert begun(plan(1.58)) == ALL[1:]
    assert begun(plan(1.58, due_s=280)) == ALL


def test_at_the_last_moment_the_cheaper_ones_are_bought_and_the_dearest_is_not() -> None:
    choices = plan(1.00, due_s=280)
    assert begun(choices) == ALL[1:]
    assert choices["job000"].wake_at == NOW + timedelta(seconds=20)


def test_who_can_wait_for_the_money_of_the_next_day_takes_none_of_this_days_from_others() -> None:
    turns = NOW + timedelta(seconds=600)
    assert "job000" in begun(plan(1.00, day_turns_at=turns))
    # The month's money is the scarcer, and the day brings none of it.
    month = {"month": 1_000_000, "month_turns_at": NOW + timedelta(days=9)}
    assert begun(plan(5.00, day_turns_at=turns, **month)) == ALL[1:]


def test_among_jobs_that_cost_the_same_nobody_is_held() -> None:
    alike = [ask(n, due_s=9000, resolution="720p") for n in range(3)]
    choices = policy.plan(facts(CHEAP, money=Money(day=310_000)), alike)
    assert begun(choices) == ["job000", "job001"]


@pytest.mark.parametrize("mode", [Mode.CLOUD_FIRST, Mode.FASTEST])
def test_other_modes_buy_in_the_order_of_arrival(mode: Mode) -> None:
    assert "job000" in begun(plan(1.00, mode=mode))


def test_whose_deadline_is_lost_takes_no_money_from_who_can_still_make_it() -> None:
    lost = ask(0, due_s=50, resolution="720p")
    kept = [ask(n, due_s=200, resolution="720p") for n in (1, 2)]
    world = facts(CHEAP, money=Money(day=310_000))
    assert begun(policy.plan(world, [lost, *kept])) == ["job001", "job002"]


def test_one_quick_clip_does_not_make_a_quick_device() -> None:
    new = OfferFacts(card("ours", "0", house=True), learned=Learned(results=1.0, mean_s=50.0))
    assert new.seconds == pytest.approx((1 * 50 + 3.8 * 100) / 4.8)
    assert replace(new, learned=replace(SURE, results=20.0, mean_s=50.0)).seconds == 50.0
