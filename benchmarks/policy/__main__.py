"""Every scenario with the seeds that count; exits 1 where a target is missed.

python -m benchmarks.policy [--seeds 1,2,3,4,5] [--scenarios S1,S2] [--jobs 2] [--results DIR] [--no-write]
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.policy.cost import all_costs
from benchmarks.policy.cost import table as cost_table
from benchmarks.policy.report import Row, as_rows, plot, table, write
from benchmarks.policy.run import TARGETS, broken, cost_by_deadline, rows_of
from benchmarks.policy.world import SCENARIOS, SEEDS, TUNING_SEEDS

RESULTS = Path(__file__).parents[1] / "results"
DEADLINES_MIN = (8.0, 15.0, 30.0, 60.0, 120.0, 240.0)


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every target is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    parser.add_argument("--no-write", action="store_true", help="only print")
    args = parser.parse_args(argv)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    scenarios = args.scenarios.split(",")
    costs = all_costs()
    with ProcessPoolExecutor(args.jobs) as pool:
        waiting = [pool.submit(rows_of, name, seed) for name in scenarios for seed in seeds]
        points = [(m, pool.submit(cost_by_deadline, m, seeds[0])) for m in DEADLINES_MIN]
        rows: list[Row] = [row for future in waiting for row in future.result()]
        curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for minutes, future in points:
            for name, usd in future.result().items():
                curves[name].append((minutes, usd * 100))
    said = broken(rows)
    said += [
        f"planning {c.jobs} jobs ({c.case}): {c.warm_ms:.2f} ms is above {c.target_ms}"
        for c in costs
        if c.warm_ms > c.target_ms
    ]
    out = [table(rows, TARGETS), "", "Planning, CPU per pass", cost_table(costs), ""]
    out += [f"MISSED {line}" for line in said] or ["All targets met."]
    sys.stdout.write("\n".join(out) + "\n")
    if not args.no_write:
        data = {
            "seeds": seeds,
            "tuning_seeds": TUNING_SEEDS,
            "targets": TARGETS,
            "missed_targets": said,
            "rows": as_rows(rows),
            "planning_ms": [asdict(c) for c in costs],
            "cost_by_deadline": curves,
        }
        svg = plot(
            "S1 with one deadline for all: cost per job",
            curves,
            "deadline, minutes (logarithmic)",
            "US cents per job",
        )
        write(args.results, "policy", data, svg)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
