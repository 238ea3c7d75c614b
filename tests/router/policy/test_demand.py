"""Room for the jobs to come: a steady stream of better jobs is expected to go on, one large bulk is not."""

from dataclasses import replace
from datetime import timedelta

from router import policy
from router.contract.request import Mode
from router.policy import Seen
from router.policy.demand import MOST, Demand
from tests.router.policy.scenes import NOW, ask, device, facts, offer

ANT = offer("ant", "0.10", resolutions=("720p",))
DOVE = offer("dove", None, hd_usd="0.90", resolutions=("1080p",))
SNAPSHOT = facts(device(), ANT, DOVE)


def came(number: int, ago_s: float, jobs: int = 1) -> Seen:
    """A job worth much to our own device, created a while ago."""
    made = ask(500 + number, due_s=900, resolution="1080p")
    return Seen(replace(made, created_at=NOW - timedelta(seconds=ago_s)), jobs)


STEADY = tuple(came(n, 50 + 100 * n) for n in range(36))
"""One every 100 s: they fill the device."""
BULK = tuple(came(n, 1800) for n in range(36))
WAITING = [ask(n, due_s=4000, resolution="720p") for n in range(6)]


def at_home(recent: tuple[Seen, ...]) -> int:
    choices = policy.plan(replace(SNAPSHOT, recent=recent), WAITING)
    return sum(choice.planned == "ours/clip" for choice in choices.values())


def test_places_that_better_jobs_will_want_are_not_promised_hours_ahead() -> None:
    assert at_home(()) == 6
    assert 1 <= at_home(STEADY) < 6


def test_the_device_never_stands_idle_for_jobs_that_may_not_come() -> None:
    choices = policy.plan(replace(SNAPSHOT, recent=STEADY), WAITING)
    assert [c.resolved.backend for c in choices.values() if c.resolved is not None] == ["ours"]


def test_one_large_bulk_is_no_demand_to_come() -> None:
    assert at_home(BULK) == 6


def test_a_sample_counts_for_those_it_stands_for() -> None:
    every_fourth = tuple(came(n, 50 + 400 * n, jobs=4) for n in range(9))
    assert at_home(every_fourth) < at_home(tuple(replace(seen, jobs=1) for seen in every_fourth)) <= 6


def test_what_tells_nothing_is_passed_over() -> None:
    unknown = Seen(replace(came(1, 0).ask, created_at=None))
    too_old = came(2, 9000)
    assert at_home((unknown, too_old)) == 6
    other_mode = tuple(Seen(replace(seen.ask, request=ask(mode=Mode.FASTEST).request)) for seen in STEADY)
    assert at_home(other_mode) == 6
    assert policy.plan(replace(SNAPSHOT, recent=STEADY, recent_s=0.0), WAITING) == policy.plan(
        replace(SNAPSHOT, recent_s=0.0), WAITING
    )


def test_only_better_jobs_count_and_something_is_always_left() -> None:
    demand = Demand([[(0.01, 0.4), (0.002, 0.5)]] * 6)
    assert [demand.above(saving) for saving in (0.02, 0.01, 0.005, 0.001)] == [0.0, 0.0, 0.4, 0.9]
    assert Demand([[(1.0, 7.0)]] * 6).above(0.0) == MOST
