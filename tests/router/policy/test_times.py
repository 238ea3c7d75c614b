"""When things start: lazy spill, the model that is loaded, the soonest common end, the second copy."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from router import policy
from router.contract.request import Mode
from router.policy import Ask, Learned, OfferFacts, Running
from router.policy import fitted as memory
from router.policy.cost import billed_share, failure_rate, safe_s, survival, times_of
from router.policy.planning import Pass
from router.pricing import to_micros
from tests.router.policy.scenes import NOW, SURE, ask, card, device, facts, offer, waited

ANT = offer("ant", "0.10")


# -- lazy spill


ANT_SMALL = offer("ant", "0.10", resolutions=("720p",))
DOVE = offer("dove", None, hd_usd="0.90", resolutions=("1080p",))


def crowd(due_s: float) -> list[Ask]:
    """Large jobs, worth more to our own device than small ones, that fill it until then."""
    return [ask(100 + n, due_s=due_s, resolution="1080p") for n in range(int(due_s / 100))]


def test_a_job_that_the_cheap_server_refused_waits_for_it_as_long_as_is_safe() -> None:
    full = facts(device(), ANT_SMALL, DOVE)
    small = ask(due_s=1600, resolution="720p")
    choice = policy.plan(full, [small, *crowd(1600)])["job000"]
    # 2 x 115 s and a minute before the deadline.
    assert choice.start_at is not None
    assert (choice.start_at - NOW).total_seconds() == pytest.approx(1600 - 230 - 60)
    assert (choice.resolved, choice.wake_at, choice.planned) == (None, choice.start_at, "ant/clip")
    assert choice.decision.reason.en.startswith("waits for ours/clip, which costs less")
    assert [c.model for c in choice.decision.candidates] == ["ant/clip"]
    later = policy.plan(full, [waited(ask(due_s=289, resolution="720p"), 1311), *crowd(289)])["job000"]
    assert later.resolved is not None


def test_a_held_job_leaves_in_time_to_be_the_probe_of_an_offer_that_was_down() -> None:
    down = replace(ANT_SMALL, half_open=True)
    others = (offer("bee", "0.12", resolutions=("720p",)), offer("crab", "0.15", resolutions=("720p",)))
    full = facts(device(), down, *others, DOVE)
    held = policy.plan(full, [ask(due_s=1600, resolution="720p"), *crowd(1600)])["job000"]
    assert held.start_at is not None
    left = 1600 - (held.start_at - NOW).total_seconds()
    # Two calls that hang, 115 s to be safe at crab, and a minute.
    assert left == pytest.approx(120 + 115 + 60)
    then = policy.plan(full, [waited(ask(due_s=left, resolution="720p"), 1600 - left), *crowd(left)])
    assert (then["job000"].planned, then["job000"].resolved is not None) == ("ant/clip", True)


@pytest.mark.parametrize("mode", [Mode.CLOUD_FIRST, Mode.FASTEST])
def test_other_modes_do_not_wait(mode: Mode) -> None:
    full = facts(device(), ANT_SMALL, DOVE)
    small = ask(due_s=1600, mode=mode, resolution="720p")
    assert policy.plan(full, [small, *crowd(1600)])["job000"].resolved is not None


def test_a_job_without_a_deadline_or_with_a_common_end_is_not_held() -> None:
    full = facts(device(), ANT_SMALL, DOVE)
    free = ask(resolution="720p")
    common = replace(ask(1, due_s=9000, resolution="720p"), due=NOW + timedelta(seconds=900))
    choices = policy.plan(full, [free, common, *crowd(900)])
    assert [choices[job.id].planned for job in (free, common)] == ["ant/clip", "ant/clip"]
    assert all(choices[job.id].resolved is not None for job in (free, common))


def test_where_the_dear_offer_has_a_limit_those_that_save_least_leave_first() -> None:
    narrow = offer("dove", "0.10", hd_usd="0.30", starts_per_minute=1)
    worth_more = [ask(100 + n, due_s=1600, resolution="1080p") for n in range(20)]
    small = [ask(n, due_s=1600, resolution="720p") for n in range(2)]
    pass_ = Pass(facts(device(), narrow), [*small, *worth_more])
    pass_.allot()
    until = {w.ask.id: w.held_until for w in pass_.waiters if w.held_until}
    large = [until[i] for i in until if i >= "job100"]
    assert large
    assert max(until[w.id] for w in small) < min(large)
    assert until["job000"] - until["job001"] == pytest.approx(60)


# -- our own device


def two_models(loaded: str) -> tuple[OfferFacts, OfferFacts]:
    wide = device(model="wide", resolutions=("1080p",), loaded=loaded == "wide", switch_s=60.0)
    flat = device(model="flat", resolutions=("720p",), loaded=loaded == "flat", switch_s=60.0)
    return wide, flat


def test_the_loaded_model_goes_first_while_nobody_becomes_unsafe() -> None:
    first, second = ask(1, due_s=2000, resolution="1080p"), ask(2, due_s=3000, resolution="720p")
    choices = policy.plan(facts(*two_models("flat")), [first, second])
    assert [i for i, c in choices.items() if c.resolved] == ["job002"]
    urgent = ask(1, due_s=300, resolution="1080p")
    choices = policy.plan(facts(*two_models("flat")), [urgent, second])
    assert [i for i, c in choices.items() if c.resolved] == ["job001"]


def test_what_saves_most_runs_before_what_is_due_a_little_earlier() -> None:
    small = ask(1, due_s=2000, resolution="720p")
    large = ask(2, due_s=2100, resolution="1080p")
    choices = policy.plan(facts(device(), ANT_SMALL, DOVE), [small, large])
    assert [i for i, c in choices.items() if c.resolved] == ["job002"]
    assert choices["job001"].planned == "ours/clip"


SHORT = replace(SURE, mean_s=20.0, p85_s=20.0, p97_s=20.0, p99_s=20.0)


def test_a_device_that_keeps_some_jobs_at_hand_gets_that_many() -> None:
    jobs = [ask(n, due_s=9000) for n in range(6)]
    choices = policy.plan(facts(device(room=3, learned=SHORT)), jobs)
    assert sum(c.resolved is not None for c in choices.values()) == 3
    # Of long clips only the one that it makes and the next.
    choices = policy.plan(facts(device(room=3)), jobs)
    assert sum(c.resolved is not None for c in choices.values()) == 2
    choices = policy.plan(facts(device(room=4), devices=2), jobs)
    assert sum(c.resolved is not None for c in choices.values()) == 4


def test_a_device_that_others_were_refused_at_gets_only_the_next_job() -> None:
    busy = device(room=3, busy_until=(NOW + timedelta(seconds=5),), learned=SHORT)
    large = [ask(100 + n, due_s=400, resolution="1080p") for n in range(40)]
    scarce = policy.plan(facts(busy, ANT_SMALL, DOVE), [*large, *(ask(n, due_s=400) for n in range(3))])
    assert [i for i, c in scarce.items() if c.resolved and c.planned == "ours/clip"] == ["job100"]
    ample = policy.plan(facts(busy, ANT_SMALL, DOVE), large[:5])
    assert sum(c.resolved is not None for c in ample.values()) == 3


def test_jobs_are_handed_over_in_the_order_in_which_they_are_to_be_made() -> None:
    late, soon, sooner = ask(1, due_s=9000), ask(2, due_s=1000), ask(3, due_s=500)
    choices = policy.plan(facts(device(room=3, learned=SHORT)), [late, soon, sooner])
    assert list(choices) == ["job003", "job002", "job001"]
    assert all(choice.resolved is not None for choice in choices.values())


# -- the soonest end a budget buys


def test_more_money_brings_the_common_end_closer() -> None:
    snapshot = facts(device(), ANT)
    jobs = [ask(n) for n in range(20)]
    ends = [policy.soonest(snapshot, jobs, to_micros(Decimal(usd))) for usd in ("0", "0.5", "1.5", "5")]
    times = [(end - NOW).total_seconds() for end in ends if end is not None]
    assert times == sorted(times, reverse=True)
    assert times[0] == pytest.approx(19 * 100 + 225, abs=120)
    assert times[-1] < 300


def test_a_plan_by_a_common_end_stays_within_its_budget() -> None:
    snapshot = facts(device(), ANT)
    jobs = [ask(n, due_s=90_000) for n in range(20)]
    end, choices = policy.plan_by(snapshot, jobs, 700_000)
    assert end is not None
    assert sum(c.reserve for c in choices.values()) <= 700_000
    assert sum(c.planned == "ant/clip" for c in choices.values()) >= 6
    again, _ = policy.plan_by(snapshot, jobs, 0, by=end)
    assert again == end


def test_an_end_that_nothing_reaches_is_none() -> None:
    assert policy.soonest(facts(), [ask()], 10) is None
    assert policy.soonest(facts(ANT), [ask()], 1) is None
    assert policy.soonest(facts(ANT), [], 0) == NOW


def test_later_common_ends_cost_less_and_the_first_is_the_soonest_that_the_budget_buys() -> None:
    snapshot = facts(device(), ANT)
    jobs = [ask(n) for n in range(20)]
    found = policy.finishes(snapshot, jobs)
    assert [sum(share.jobs for share in finish.shares) for finish in found] == [20] * len(found)
    bills = [finish.micros for finish in found]
    assert len(found) >= 3
    assert bills == sorted(bills, reverse=True)
    assert bills[-1] == 0, "in the end our own device does all"
    assert [finish.at for finish in found] == sorted(finish.at for finish in found)
    middle = bills[1]
    first = policy.finishes(snapshot, jobs, middle)[0]
    assert first.micros <= middle
    assert found[0].at < first.at <= found[1].at


def test_no_common_end_where_the_budget_or_the_offers_do_not_reach() -> None:
    assert policy.finishes(facts(ANT), [ask()], 1) == ()
    assert policy.finishes(facts(), [ask()]) == ()
    assert policy.finishes(facts(ANT), []) == ()


# -- the second copy

SLOW = offer("slow", "0.10", learned=replace(SURE, recent_s=(80.0,) * 89 + (800.0,) * 11))
QUICK = offer("quick", "0.20", learned=replace(SURE, mean_s=50.0, recent_s=(50.0,) * 100))


def running(ago: float, due_s: float, *, allowed: bool = True) -> Running:
    job = ask(due_s=due_s, preferences={"allow_duplicate_spend": allowed})
    return Running(job, "slow/clip", NOW - timedelta(seconds=ago))


def test_a_running_job_that_became_slow_is_copied_once_it_would_miss_its_deadline() -> None:
    snapshot = facts(SLOW, QUICK, can_hedge=True)
    (hedge,) = policy.hedges(snapshot, [running(200, 150)])
    assert (hedge.model, hedge.reserve) == ("quick/clip", 200_000)
    assert policy.hedges(snapshot, [running(200, 3000)]) == []
    assert policy.hedges(snapshot, [running(10, 400)]) == []


def test_a_copy_is_decided_over_all_offers_and_says_why() -> None:
    snapshot = facts(SLOW, QUICK, device(), can_hedge=True)
    run = running(200, 150)
    (hedge,) = policy.hedges(snapshot, [run])
    choice = policy.copy(snapshot, run, hedge)
    assert choice is not None and choice.resolved is not None
    assert (choice.resolved.model, choice.reserve) == ("quick/clip", 200_000)
    decision = choice.decision
    assert decision.chosen is not None and decision.chosen.model == "quick/clip"
    shown = {c.model for c in decision.candidates} | {r.model for r in decision.rejected}
    assert shown == {"slow/clip", "quick/clip", "ours/clip"}
    assert "forbidden" not in {r.code for r in decision.rejected}
    assert "slow/clip has run for 200 s" in decision.reason.en
    assert "slow/clip は開始から 200 秒経過" in decision.reason.ja
    gone = policy.copy(facts(SLOW, can_hedge=True), run, hedge)
    assert gone is None


def test_no_copy_without_permission_money_an_engine_or_at_home() -> None:
    late = running(200, 150)
    assert policy.hedges(facts(SLOW, QUICK), [late]) == []
    able = facts(SLOW, QUICK, can_hedge=True)
    assert policy.hedges(able, [running(200, 150, allowed=False)]) == []
    assert policy.hedges(replace(able, money=policy.Money(day=100_000)), [late]) == []
    assert policy.hedges(facts(SLOW, device(), can_hedge=True), [late]) == []
    assert policy.hedges(able, [replace(late, model="gone/clip")]) == []
    assert policy.hedges(able, [running(200, -5)]) == []


def test_only_a_job_that_may_be_copied_counts_on_the_copy() -> None:
    tail = OfferFacts(card("tail", "0.10"), learned=replace(SURE, p99_s=900.0))
    plain, copied = ask(due_s=500), ask(due_s=500, preferences={"allow_duplicate_spend": True})
    snapshot = facts(tail, QUICK, can_hedge=True)
    assert policy.decide(snapshot, plain).planned == "quick/clip"
    assert policy.decide(snapshot, copied).planned == "tail/clip"


# -- the numbers behind it


def test_failure_rates_start_with_half_a_failure_in_ten_and_what_is_documented_counts() -> None:
    assert failure_rate(Learned()) == pytest.approx(0.05)
    assert failure_rate(Learned(results=40, failures=9.5)) == pytest.approx(0.2)
    assert failure_rate(Learned(results=50, failures=60)) == 0.95
    assert billed_share(Learned(), "maybe") == pytest.approx(0.5)
    assert billed_share(Learned(failures=3, billed_failures=3), "never") == 0.0


def test_an_offer_we_do_not_know_yet_gets_more_than_twice_its_documented_time() -> None:
    new = offer("new", "1", sure=False, seconds=60)
    times = times_of(new)
    assert (times.known, times.p99) == (False, pytest.approx(132))
    assert safe_s(facts(), new, times, float("inf"), False) == pytest.approx(142)
    home = device()
    assert safe_s(facts(), home, times_of(home), 50.0, False) == pytest.approx(
        115 + 50 * 0.5 / 60 / 0.02 + 10
    )
    cold = device(loaded=False, switch_s=40.0)
    assert safe_s(facts(), cold, times_of(cold), 50.0, False) == pytest.approx(
        165 + 50 * 0.5 / 60 / 0.02 - 0.0
    )


def test_the_chance_to_take_longer_falls_from_one_and_never_reaches_zero() -> None:
    for some in (ANT, SLOW, offer("new", "1", sure=False)):
        chances = [survival(some, s) for s in (0, 1, 50, 99, 101, 130, 500, 5000)]
        assert chances == sorted(chances, reverse=True)
        assert chances[0] == 1.0
        assert chances[-1] > 0.0


# -- cloud offers with places of their own


def test_a_full_cloud_offer_is_waited_for_too_and_lets_in_first_who_saves_most() -> None:
    one = offer("bee", "0.05", hd_usd="0.05", room=1)
    dear = offer("lynx", "0.10", hd_usd="1.00")
    jobs = [ask(1, due_s=520, resolution="720p"), ask(2, due_s=530, resolution="1080p")]
    choices = policy.plan(facts(one, dear), [*jobs, *(ask(n, due_s=900) for n in range(3, 12))])
    assert [i for i, c in choices.items() if c.resolved and c.planned == "bee/clip"] == ["job002"]
    held = [c for c in choices.values() if c.resolved is None and c.planned == "lynx/clip"]
    assert held
    assert all(c.decision.reason.en.startswith("waits for bee/clip, which costs less") for c in held)


def test_starts_in_one_second_and_places_taken_twice_over_are_counted() -> None:
    quick = offer("bee", "0.05", starts_per_second=2)
    choices = policy.plan(facts(quick), [ask(n, due_s=900) for n in range(3)])
    assert sum(c.resolved is not None for c in choices.values()) == 2
    ends = tuple(NOW + timedelta(seconds=s) for s in (10, 20, 40))
    over = offer("bee", "0.05", room=-1, busy_until=ends)
    assert policy.decide(facts(over), ask(due_s=900)).start_at == NOW + timedelta(seconds=20)
    lost = offer("bee", "0.05", room=0)
    assert policy.decide(facts(lost), ask(due_s=900)).start_at == NOW + timedelta(seconds=100)


def test_a_day_that_is_used_up_before_all_have_started_keeps_the_rest_waiting() -> None:
    few = offer("bee", "0.05", starts_per_day=5, left_today=2)
    choices = policy.plan(facts(few), [ask(n, due_s=900) for n in range(3)])
    assert sum(c.resolved is not None for c in choices.values()) == 2
    (third,) = [c for c in choices.values() if c.resolved is None]
    assert not third.hopeless
    assert third.wake_at is not None


def test_a_house_account_with_a_limit_hands_over_no_more_than_that() -> None:
    snapshot = facts(device(room=4), backend_room={"ours": 2})
    choices = policy.plan(snapshot, [ask(n, due_s=9000) for n in range(4)])
    assert sum(c.resolved is not None for c in choices.values()) == 2


def test_no_copy_goes_to_an_offer_that_is_full() -> None:
    full = replace(QUICK, room=0)
    assert policy.hedges(facts(SLOW, full, can_hedge=True), [running(200, 150)]) == []


def test_plans_stay_the_same_when_more_is_remembered_than_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MOST", 50)
    before = policy.plan(facts(device(), ANT), [ask(n, due_s=900) for n in range(4)])
    for length in ("720p", "1080p"):
        for seed in (None, 3):
            policy.decide(facts(ANT, DOVE), ask(resolution=length, seed=seed))
    assert policy.plan(facts(device(), ANT), [ask(n, due_s=900) for n in range(4)]) == before
