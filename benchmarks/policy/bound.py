"""The clairvoyant lower bound: a linear programme that knows every arrival and every attempt's time (HiGHS)."""

import math

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

from benchmarks.policy.world import LOCAL, VALUE_USD, Job, Truth, World, electricity

_GRID_S = 900.0
_FAILED_WORK = 0.6
"""Mean share of its time after which an attempt that fails does."""


class _Rows:
    """Inequalities a x <= b, entry by entry."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.cols: list[int] = []
        self.values: list[float] = []
        self.right: list[float] = []

    def add(self, entries: list[tuple[int, float]], right: float) -> None:
        row = len(self.right)
        for col, value in entries:
            self.rows.append(row)
            self.cols.append(col)
            self.values.append(value)
        self.right.append(right)


def _cost(world: World, job: Job, offer: str, seconds: float) -> float:
    truth = world.by_name[offer]
    if truth.house:
        usd = electricity(seconds)
    else:
        moments = [job.at, *(c.at for c in world.changes if c.offer == offer and job.at < c.at < job.due)]
        usd = min(world.price(offer, job.kind, at) for at in moments)
    if world.fluid and not truth.house:
        usd *= 1 + truth.billed * truth.fails / (1 - truth.fails)
    return usd


def _possible(world: World, job: Job, offer: str, seconds: float) -> bool:
    if job.kind not in world.by_name[offer].prices or job.at + seconds > job.due:
        return False
    # A job whose whole choice of starts lies in an outage cannot go there.
    return not any(
        o.offer == offer and o.start <= job.at and job.due - seconds < o.end for o in world.outages
    )


def bound(world: World, due: float | None = None) -> float | None:
    """US dollars that no policy can stay under; with `due`, all jobs by then within the budget, None if impossible."""
    pairs: list[tuple[int, str, float, float]] = []
    for i, job in enumerate(world.jobs):
        for truth in world.offers:
            seconds = _seconds(world, job, truth)
            if job.kind in truth.prices and _possible(world, _until(job, due), truth.name, seconds):
                pairs.append((i, truth.name, seconds, _cost(world, job, truth.name, seconds)))
    n = len(pairs)
    missing = len(world.jobs) if due is None else 0
    costs = np.array([p[3] for p in pairs] + [VALUE_USD] * missing)
    equal = coo_matrix(
        (
            np.ones(n + missing),
            ([p[0] for p in pairs] + list(range(missing)), list(range(n + missing))),
        ),
        shape=(len(world.jobs), n + missing),
    )
    rows = _Rows()
    _capacities(world, pairs, rows, due)
    if world.budget_usd is not None:
        rows.add([(k, p[3]) for k, p in enumerate(pairs) if p[1] != LOCAL], world.budget_usd)
    unequal = coo_matrix((rows.values, (rows.rows, rows.cols)), shape=(len(rows.right), n + missing))
    found = linprog(
        costs,
        A_ub=unequal if rows.right else None,
        b_ub=rows.right or None,
        A_eq=equal,
        b_eq=np.ones(len(world.jobs)),
        bounds=(0, 1),
        method="highs",
    )
    return float(found.fun) if found.status == 0 else None


def _seconds(world: World, job: Job, truth: Truth) -> float:
    """Work at the offer: what the first attempt will take; in the fluid bound the mean, failed tries included."""
    if not world.fluid:
        return world.draw(job.n, truth.name, 1).seconds
    mean = truth.median_s * math.exp(truth.sigma**2 / 2)
    return mean * (1 + _FAILED_WORK * truth.fails / (1 - truth.fails))


def _until(job: Job, due: float | None) -> Job:
    return job if due is None else Job(job.n, job.kind, job.at, due)


def _capacities(
    world: World, pairs: list[tuple[int, str, float, float]], rows: _Rows, due: float | None
) -> None:
    """For every limited offer and every window of time: work <= places x time, starts <= what the windows allow."""
    last = due if due is not None else max(job.due for job in world.jobs)
    points = [k * _GRID_S for k in range(int(last // _GRID_S) + 2)] if due is None else [0.0, due]
    for truth in world.offers:
        mine = [
            (k, world.jobs[i].at, due if due is not None else world.jobs[i].due, s)
            for k, (i, name, s, _) in enumerate(pairs)
            if name == truth.name
        ]
        places = 1 if truth.house else truth.in_flight
        if truth.per_day is not None:
            rows.add([(k, 1.0) for k, _, _, _ in mine], truth.per_day)
        if places is None and truth.per_minute is None:
            continue
        for a, start in enumerate(points):
            for end in points[a + 1 :]:
                inside = [(k, s) for k, at, until, s in mine if at >= start and until <= end]
                if not inside:
                    continue
                if places is not None and sum(s for _, s in inside) > places * (end - start):
                    rows.add(inside, places * (end - start))
                most = (truth.per_minute or 0) * ((end - start) / 60 + 1)
                if truth.per_minute is not None and len(inside) > most:
                    rows.add([(k, 1.0) for k, _ in inside], most)


def least_makespan(world: World) -> float:
    """The smallest common end that is possible within the budget."""
    low, high = 0.0, 8 * 3600.0
    while high - low > 5.0:
        middle = (low + high) / 2
        low, high = (low, middle) if bound(world, middle) is not None else (middle, high)
    return high
