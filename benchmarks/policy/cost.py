"""What a planning pass costs in CPU time: one job, 500 and 5000 jobs against 13 offers.

python -m benchmarks.policy.cost
"""

import gc
import sys
import time
from dataclasses import dataclass, replace
from datetime import timedelta

from benchmarks.policy.ours import EPOCH, ask_of, card_of
from benchmarks.policy.world import CLOUD, GPU, KINDS, Job, World, s3
from router import policy
from router.contract.request import Mode
from router.policy import Ask, Facts, Learned, OfferFacts
from router.policy.fitted import forget

TARGETS_MS = {1: 0.5, 500: 10.0, 5000: 150.0}
REPEATS = {1: 200, 500: 30, 5000: 9}


@dataclass(frozen=True)
class Cost:
    """CPU milliseconds of one pass: the least of several, because whoever shares the machine only adds."""

    jobs: int
    mode: str
    case: str
    cold_ms: float
    """Nothing remembered of earlier passes."""
    warm_ms: float
    target_ms: float


def facts(world: World, *, busy: bool) -> Facts:
    """13 offers as after a day's work; `busy`: the first offers are full."""
    offers = []
    for truth in world.offers:
        learned = Learned(
            40.0, 1.0, 0.5, truth.median_s, truth.median_s * 1.3, truth.median_s * 1.6, truth.median_s * 1.9
        )
        card = card_of(world, truth, 0.0)
        room = 2 if truth.house else card.limits.max_in_flight
        taken = room if busy and room is not None else 0
        offers.append(
            OfferFacts(
                card,
                learned=learned,
                room=None if room is None else room - taken,
                busy_until=tuple(EPOCH + timedelta(seconds=20 * (i + 1)) for i in range(taken)),
                left_today=truth.per_day,
            )
        )
    return Facts(EPOCH, tuple(offers), mode=Mode.CHEAPEST)


def asks(count: int, mode: Mode) -> list[Ask]:
    """Jobs of five kinds; deadlines from 20 minutes on, all different."""
    jobs = [Job(n, KINDS[n % len(KINDS)], 0.0, 1200.0 + n * 28_800.0 / max(count, 1)) for n in range(count)]
    return [ask_of(job, mode=mode) for job in jobs]


def measure(count: int, mode: Mode = Mode.CHEAPEST, *, limits: bool = False, deadlines: bool = True) -> Cost:
    """Several passes, garbage collected between them, never during one."""
    world = s3(101) if limits else World("cost", 1, (*CLOUD, GPU), ())
    snapshot, waiting = facts(world, busy=True), asks(count, mode)
    if not deadlines:
        bare = {"deadline": None}
        waiting = [
            replace(
                ask,
                request=ask.request.model_copy(
                    update={"preferences": ask.request.preferences.model_copy(update=bare)}
                ),
            )
            for ask in waiting
        ]
    cold, warm = [], []
    for _ in range(REPEATS[count]):
        forget()
        cold.append(_once(snapshot, waiting))
        warm.append(_once(snapshot, waiting))
    case = f"{'tight limits' if limits else 'one GPU'}{'' if deadlines else ', no deadlines'}"
    return Cost(count, mode.value, case, min(cold), min(warm), TARGETS_MS[count])


def _once(snapshot: Facts, waiting: list[Ask]) -> float:
    gc.collect()
    gc.disable()
    start = time.process_time()
    policy.plan(snapshot, waiting)
    taken = (time.process_time() - start) * 1000
    gc.enable()
    return taken


def all_costs() -> list[Cost]:
    """The table."""
    return [
        *(measure(count) for count in TARGETS_MS),
        *(measure(count, limits=True) for count in TARGETS_MS),
        *(measure(count, Mode.CLOUD_FIRST, deadlines=False) for count in TARGETS_MS),
    ]


def table(costs: list[Cost]) -> str:
    """As printed."""
    rows = [f"{'jobs':>6} {'mode':12} {'case':26} {'cold ms':>9} {'warm ms':>9} {'target':>8}"]
    rows += [
        f"{c.jobs:>6} {c.mode:12} {c.case:26} {c.cold_ms:>9.2f} {c.warm_ms:>9.2f} {c.target_ms:>8.1f}"
        for c in costs
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    found = all_costs()
    sys.stdout.write(table(found) + "\n")
    sys.exit(any(c.warm_ms > c.target_ms for c in found))
