"""The bench itself: that it runs, judges and says what it measured. No figure of the policy is judged here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="the bound needs scipy")

from benchmarks.policy import __main__ as bench
from benchmarks.policy import cost
from benchmarks.policy import world as worlds
from benchmarks.policy.bound import bound, least_makespan
from benchmarks.policy.ours import Ours
from benchmarks.policy.report import OURS, Row
from benchmarks.policy.run import broken
from benchmarks.policy.sim import Sim
from benchmarks.policy.world import SCENARIOS, SEEDS, TUNING_SEEDS, World


def small(world: World, jobs: int = 25) -> World:
    return replace(world, jobs=world.jobs[:jobs])


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_every_scenario_ends_within_its_limits(name: str) -> None:
    world = small(SCENARIOS[name](101))
    sim = Sim(world)
    out = sim.run(Ours(sim))
    assert (out.lost, out.refusals_429, out.overspent) == (0, 0, 0.0)
    assert len(out.finished) == 25
    least = bound(world)
    assert least is not None
    # In expectation only, where failures are part of the price.
    assert world.fluid or out.score >= least - 1e-6


def test_the_bound_knows_limits_budgets_and_the_least_makespan() -> None:
    world = small(SCENARIOS["S4m"](101), 20)
    free, tight = least_makespan(world), least_makespan(replace(world, budget_usd=4.0))
    assert free < tight
    assert bound(replace(world, budget_usd=0.0), due=600.0) is None


def test_the_seeds_that_count_were_not_tuned_on() -> None:
    assert len(SEEDS) >= 5
    assert not set(SEEDS) & set(TUNING_SEEDS)


def test_a_small_run_writes_table_json_and_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "REPEATS", dict.fromkeys(cost.REPEATS, 1))
    monkeypatch.setattr(bench, "DEADLINES_MIN", (15.0, 60.0))
    monkeypatch.setattr(worlds, "_poisson", lambda *_: [60.0 * n for n in range(12)])
    bench.main(["--scenarios", "S1", "--seeds", "101", "--jobs", "1", "--results", str(tmp_path)])
    (found,) = tmp_path.glob("*-policy.json")
    data = json.loads(found.read_text(encoding="utf-8"))
    assert {row["strategy"] for row in data["rows"]} >= {OURS, "random", "cheapest + queue estimate"}
    assert set(data["cost_by_deadline"]) >= {OURS, "clairvoyant bound"}
    assert str(tmp_path) not in found.read_text(encoding="utf-8")
    assert found.with_suffix(".svg").read_text(encoding="utf-8").startswith("<svg")
    assert "score / clairvoyant bound" in capsys.readouterr().out


def test_every_broken_target_is_named() -> None:
    good = Row("S1", 1, OURS, 1.02, 51.0, 50.0, 51.0, 0, 0, 0, 0.0, 450)
    simple = replace(good, strategy="cheapest + queue estimate", ratio=1.8)
    assert broken([good, simple]) == []
    bad = replace(good, ratio=2.0, missed=9, refusals_429=1, overspent=0.5)
    assert len(broken([bad, simple])) == 5
