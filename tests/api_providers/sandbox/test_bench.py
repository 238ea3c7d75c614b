"""When tasks start, end, wait and count, seen with a clock of the test's own."""

from decimal import Decimal

import pytest

from api_providers.sandbox._bench import Bench, Clip, Fate, Phase, Settings, Task, plain
from api_providers.sandbox._faults import Fault, FaultKind
from tests.api_providers.sandbox.conftest import Clock


def full_price(task: Task, phase: Phase) -> Decimal:
    return task.price


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bench(clock: Clock) -> Bench:
    return Bench("x", defaults=Settings(render_seconds=10, concurrency=2), charge=full_price, clock=clock)


def take(bench: Bench, name: str, fate: Fate | None = None) -> Task:
    return bench.accept(name, model="m", group="g", price=Decimal(1), clip=Clip(16, 9, 5, "p"), fate=fate)


def test_a_task_is_queued_then_runs_then_has_succeeded(bench: Bench, clock: Clock) -> None:
    task = take(bench, "a")
    assert bench.phase(task) is Phase.QUEUED
    clock.pass_(5)
    assert (bench.phase(task), bench.progress(task)) == (Phase.RUNNING, 0.5)
    clock.pass_(5)
    assert bench.phase(task) is Phase.SUCCEEDED


def test_a_third_task_waits_and_starts_when_the_first_ends_even_if_nobody_looked(
    bench: Bench, clock: Clock
) -> None:
    take(bench, "a")
    clock.pass_(2)
    take(bench, "b")
    third = take(bench, "c")
    assert bench.phase(third) is Phase.WAITING
    clock.pass_(13)
    assert bench.phase(third) is Phase.RUNNING
    assert third.started == 1010.0


def test_a_hanging_task_never_ends_and_keeps_its_place(bench: Bench, clock: Clock) -> None:
    hanging = [take(bench, name, fate=Fate.HANG) for name in "ab"]
    waiting = take(bench, "c")
    clock.pass_(1e6)
    assert [bench.phase(task) for task in hanging] == [Phase.RUNNING, Phase.RUNNING]
    assert bench.phase(waiting) is Phase.WAITING
    bench.stop(hanging[0])
    assert bench.phase(waiting) is Phase.QUEUED


def test_limits_count_accepted_tasks_in_rolling_windows(bench: Bench, clock: Clock) -> None:
    bench.settings = Settings(per_minute=2, per_day=3)
    take(bench, "a")
    clock.pass_(20)
    take(bench, "b")
    assert bench.over_limit() == ("minute", 40.0)
    clock.pass_(41)
    assert bench.over_limit() is None
    take(bench, "c")
    clock.pass_(3600)
    over = bench.over_limit()
    assert over is not None and over[0] == "day"
    clock.pass_(86_400)
    assert bench.over_limit() is None


def test_faults_are_taken_in_order_by_kind_and_count_down(bench: Bench) -> None:
    bench.faults.add(Fault(FaultKind.HANG, times=2))
    bench.faults.add(Fault(FaultKind.RATE_LIMIT, times=-1, seconds=7))
    taken = [bench.faults.take(FaultKind.HANG) for _ in range(3)]
    assert [fault is not None for fault in taken] == [True, True, False]
    assert all(bench.faults.take(FaultKind.RATE_LIMIT) for _ in range(50))


@pytest.mark.parametrize(
    ("usd", "text"), [("0", "0"), ("0.250", "0.25"), ("10", "10"), ("0.00", "0"), ("100.0", "100")]
)
def test_money_is_written_plainly(usd: str, text: str) -> None:
    assert plain(Decimal(usd)) == text
