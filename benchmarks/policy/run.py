"""Runs strategies in worlds and judges them."""

from benchmarks.policy.baselines import BEST_SIMPLE, PLAYS_LITELLM, RULES
from benchmarks.policy.bound import bound, least_makespan
from benchmarks.policy.ours import Ours
from benchmarks.policy.report import OURS, Row, mean
from benchmarks.policy.sim import Sim
from benchmarks.policy.world import SCENARIOS, Outcome, World

TARGETS = {"S1": 1.06, "S2": 1.06, "S3": 1.20, "S4": 1.06, "S4m": 1.35, "S5": 1.12, "S6": 1.08, "S7": 1.40}
MOST_MISSED = 0.002
"""Of the jobs of S1 to S6."""
MARGIN = 0.005
"""Two scores this close are the same."""


def rows_of(scenario: str, seed: int, *, rules: bool = True) -> list[Row]:
    """Ours and every rule that can play."""
    world = SCENARIOS[scenario](seed)
    least = least_makespan(world) if world.makespan else bound(world)
    if least is None:
        raise RuntimeError(f"{scenario}/{seed} has no bound")
    found = [_row(world, least, OURS, _ours(world))]
    for name, rule in RULES.items() if rules else ():
        if name == "LiteLLM's rules" and scenario not in PLAYS_LITELLM:
            continue
        sim = Sim(world)
        found.append(_row(world, least, name, sim.run(rule(sim))))
    return found


def _ours(world: World) -> Outcome:
    sim = Sim(world)
    return sim.run(Ours(sim))


def _row(world: World, least: float, name: str, out: Outcome) -> Row:
    score = out.score
    if world.makespan:
        # A job that never came is as bad as eight more hours.
        score = out.makespan + out.lost * 8 * 3600.0
    return Row(
        world.name,
        world.seed,
        name,
        score / least,
        score,
        least,
        out.spend,
        out.missed,
        out.lost,
        out.refusals_429,
        out.overspent,
        len(world.jobs),
        out.hedges,
    )


def cost_by_deadline(minutes: float, seed: int) -> dict[str, float]:
    """US dollars per job when everybody's deadline is the same: one point of each curve."""
    world = SCENARIOS["S1"](seed)
    jobs = tuple(type(j)(j.n, j.kind, j.at, j.at + minutes * 60) for j in world.jobs)
    world = World(f"D{minutes:g}", seed, world.offers, jobs)
    least = bound(world)
    points = {"clairvoyant bound": (least or 0.0) / len(jobs), OURS: _ours(world).score / len(jobs)}
    for name in (BEST_SIMPLE, "cheapest + fallback"):
        sim = Sim(world)
        points[name] = sim.run(RULES[name](sim)).score / len(jobs)
    return points


def broken(rows: list[Row]) -> list[str]:
    """Every target that was missed, in words."""
    said = []
    mine = [row for row in rows if row.strategy == OURS]
    for scenario, target in TARGETS.items():
        here = [row for row in mine if row.scenario == scenario]
        if not here:
            continue
        if mean(here) > target:
            said.append(f"{scenario}: {mean(here):.3f} is above {target}")
        simple = [r for r in rows if r.scenario == scenario and r.strategy == BEST_SIMPLE]
        if simple and mean(here) > mean(simple) + MARGIN:
            said.append(f"{scenario}: {mean(here):.3f} is above {BEST_SIMPLE} ({mean(simple):.3f})")
    counted = [row for row in mine if row.scenario != "S7"]
    jobs = sum(row.jobs for row in counted)
    bad = sum(row.missed + row.lost for row in counted)
    if bad > MOST_MISSED * jobs:
        said.append(f"{bad} of {jobs} jobs missed or lost in S1 to S6")
    if limited := sum(row.refusals_429 for row in mine):
        said.append(f"{limited} times 429 although all limits are documented")
    if over := sum(row.overspent for row in mine):
        said.append(f"${over:.2f} spent above a budget")
    return said
