"""What "too expensive" means is the user's to say: per second, against our own device, or ahead of the clock."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from router import policy
from router.contract.request import Mode
from router.pace import Pace
from router.policy import Tried
from tests.router.policy.scenes import NOW, ask, device, facts, offer

ANT, LYNX = offer("ant", "0.10"), offer("lynx", "2.00")


def codes(choice: policy.Choice) -> dict[str, str]:
    return {r.backend: r.code for r in choice.decision.rejected}


def test_a_multiple_of_what_our_own_device_costs_in_full_is_a_limit() -> None:
    # 100 s of work at $0.002 a second: $0.20; five times that is $1.
    limited = facts(
        ANT, LYNX, device(), too_expensive_multiple=Decimal(5), local_full_usd_per_s=Decimal("0.002")
    )
    choice = policy.decide(limited, ask(mode=Mode.CLOUD_FIRST))
    assert codes(choice) == {"lynx": "too_expensive"}
    (no,) = choice.decision.rejected
    assert no.reason.en == "above $1.00, 5 times the $0.20 that our own card costs in full for this clip"
    without = replace(limited, offers=(ANT, LYNX))
    assert codes(policy.decide(without, ask(mode=Mode.CLOUD_FIRST))) == {}


def test_a_budget_ahead_of_the_clock_lets_our_own_device_stand_in() -> None:
    # From noon on a dollar comes every ten seconds; half of it has gone, a tenth is the head start.
    day = Pace(10_000_000, 500_000, NOW - timedelta(seconds=10), NOW + timedelta(seconds=90))
    paced = facts(LYNX, device(), pace=day)
    choice = policy.decide(paced, ask(mode=Mode.CLOUD_FIRST))
    assert choice.planned == "ours/clip"
    (no,) = choice.decision.rejected
    assert (no.code, no.ready_at) == ("too_expensive", NOW + timedelta(seconds=5))
    assert "ahead of the clock" in choice.decision.reason.en
    alone = policy.decide(replace(paced, offers=(LYNX,)), ask(mode=Mode.CLOUD_FIRST))
    assert (alone.resolved, alone.wake_at) == (None, NOW + timedelta(seconds=5))


def test_the_pace_counts_what_the_jobs_before_took() -> None:
    day = Pace(2_500_000, 0, NOW, NOW + timedelta(days=1))
    paced = facts(ANT, pace=day)
    choices = policy.plan(paced, [ask(n, mode=Mode.CLOUD_FIRST) for n in range(4)])
    assert sum(c.resolved is not None for c in choices.values()) == 2


def test_a_budget_that_others_took_sends_the_job_to_a_cheaper_offer() -> None:
    money = policy.Money(day=2_150_000)
    rows = [ask(n, mode=Mode.FASTEST) for n in range(3)]
    quick = offer("lynx", "2.00", learned=replace(LYNX.learned, mean_s=10.0))
    choices = policy.plan(facts(quick, ANT, money=money), rows)
    assert [c.planned for c in choices.values()].count("lynx/clip") == 1
    assert sum(c.reserve for c in choices.values()) <= 2_150_000
    broke = [c for c in choices.values() if c.resolved is None]
    assert all("budget" in codes(c).values() for c in broke)


def test_the_last_bill_corrects_the_price_that_orders_offers_but_not_the_reservation() -> None:
    bee = offer("bee", "0.09", learned=replace(ANT.learned, price_factor=Decimal(3)))
    choice = policy.decide(facts(ANT, bee), ask())
    assert [c.backend for c in choice.decision.candidates] == ["ant", "bee"]
    assert policy.decide(facts(bee), ask()).reserve == 90_000


def test_who_waits_for_the_price_tries_a_failed_offer_once_more_everybody_else_goes_on() -> None:
    failed = Tried("ant/clip", "generation_failed", accepted=True, ended_at=NOW)
    once, twice = replace(ask(), tried=(failed,)), replace(ask(), tried=(failed, failed))
    assert policy.decide(facts(ANT, LYNX), once).planned == "ant/clip"
    assert policy.decide(facts(ANT, LYNX), twice).planned == "lynx/clip"
    default = replace(ask(mode=Mode.CLOUD_FIRST), tried=(failed,))
    assert policy.decide(facts(ANT, LYNX), default).planned == "lynx/clip"


def test_our_own_device_may_fail_a_job_more_often_than_a_provider_that_bills() -> None:
    home = Tried("ours/clip", "generation_failed", True, NOW)
    paid = Tried("ant/clip", "generation_failed", True, NOW)
    # Nothing else is within the budget: a job that failed twice at home would be lost for want of money.
    poor = facts(device(), offer("ant", "0.10"), money=policy.Money(day=1, caps={"day": 1}))
    assert policy.decide(poor, replace(ask(), tried=(home,) * 3)).planned == "ours/clip"
    assert policy.decide(poor, replace(ask(), tried=(home,) * 4)).planned is None
    able = facts(device(), offer("ant", "0.10"))
    assert policy.decide(able, replace(ask(), tried=(home,))).planned == "ours/clip"
    assert policy.decide(able, replace(ask(), tried=(home,) * 2)).planned == "ant/clip"
    rich = facts(offer("ant", "0.10"))
    assert policy.decide(rich, replace(ask(), tried=(paid,))).planned == "ant/clip"
    assert policy.decide(rich, replace(ask(), tried=(paid,) * 2)).planned is None
