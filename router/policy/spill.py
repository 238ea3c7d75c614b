"""When the matched jobs start: in order, the dear ones as late as is safe, same models together on our own device."""

import math
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence

from router.policy.acceptance import No, Waiter
from router.policy.modes import SPILLS_LAZILY
from router.policy.options import Option
from router.policy.timeline import NOW, Line

HASTE = 2.0
"""Safe times before its deadline at which a spilled job goes to the dear offer whatever happens: room for one more try."""
QUEUE = 1.0
"""Service times of the dear offer that each spilled job due earlier is given, where that offer has a limit."""
MARGIN_S = 60.0
SLACK_S = 450.0
"""Slack that makes a job as much less urgent as a saving of 1/e."""
HANDED_AT_ONCE = 4
"""Of a device that takes any number of jobs, as many are handed over with care for their order."""
IN_HAND = 2
"""Jobs each device has in hand while others were refused there, or whose clips are long: the one it makes and the next.

What is handed over cannot be pushed out by a job that saves more.
"""
LONG_S = 30.0
"""Reading the prompts of four short clips together is worth more than that; beside a long one it is little."""


def hold(waiters: Sequence[Waiter]) -> None:
    """Lazy spill: a job that is at a dearer offer only because the cheap one is full keeps waiting for it.

    Where the dear offer has a limit of its own, those that save least leave first: what comes free at the cheap one goes
    to the others.
    """
    spilled: dict[Line, list[tuple[float, float, int, Waiter]]] = defaultdict(list)
    for waiter in waiters:
        waiter.held_until = 0.0
        waiter.short = False
        option = waiter.option
        cheap = _cheaper_but_full(waiter) if may_wait(waiter) and not waiter.fixed else None
        if cheap is not None and option is not None:
            saving = (option.cost - cheap.cost) / cheap.seconds
            spilled[option.line].append((waiter.due, -saving, waiter.rank, waiter))
    for line, jobs in spilled.items():
        jobs.sort()
        queue = QUEUE * line.interval_s
        before: list[float] = []
        for _, loss, _, waiter in jobs:
            assert waiter.option is not None
            ahead = bisect_right(before, loss) if queue else 0
            if queue:
                insort(before, loss)
            waiter.held_until = last_moment(waiter, waiter.option) - queue * ahead


def last_moment(waiter: Waiter, option: Option) -> float:
    """When it leaves for the dear offer whatever happens, in seconds from now."""
    # Held longer than an offer that is down is tried, no job would ever be its probe.
    return waiter.due - max(HASTE * option.safe, option.lead) - MARGIN_S


def may_wait(waiter: Waiter) -> bool:
    """Whether its mode and its deadline let it wait for a better price."""
    return waiter.shape.mode in SPILLS_LAZILY and waiter.has_deadline and waiter.ask.due is None


def _cheaper_but_full(waiter: Waiter) -> Option | None:
    """The first option that refused it for others, if that one costs less and comes free at all."""
    option = waiter.option
    if option is None:
        return None
    for asked, no in zip(waiter.shape.options, waiter.noes, strict=False):
        if no is No.FULL and asked.cost < option.cost and asked.line.at(0) < waiter.due:
            return asked
    return None


def starts(lines: Sequence[Line]) -> list[Waiter]:
    """Set every job's start; those that start now, by deadline. A held job takes no place before its time."""
    now: list[Waiter] = []
    taken: dict[Line, int] = defaultdict(int)
    for line in lines:
        held = line.held
        if line.limited:
            held.sort(key=lambda w: (w.order, w.rank))
        ready = [w for w in held if w.held_until <= NOW]
        for waiter in held:
            waiter.now = False
            if waiter.held_until > NOW:
                waiter.start = waiter.held_until
        if line.serial:
            begun = _serial(line, ready)
        else:
            begun = _parallel(line, _worth_first(line, ready) if line.limited else ready, taken)
        line.begun = len(begun)
        if line.account is not None:
            line.account.begun = taken[line.account]
        now += begun
    return sorted(now, key=lambda w: (w.order, w.rank))


def _parallel(line: Line, ready: Sequence[Waiter], taken: dict[Line, int]) -> list[Waiter]:
    now: list[Waiter] = []
    k = 0
    for waiter in ready:
        option = waiter.option
        assert option is not None
        account = line.account
        start = max(line.at(k), option.earliest)
        if account is not None:
            start = max(start, account.at(taken[account]))
        waiter.start = start
        if start <= NOW:
            now.append(waiter)
        elif option.earliest > NOW and line.at(k) <= NOW:
            # It waits for a reason of its own and leaves the place to the next.
            continue
        k += 1
        if account is not None:
            taken[account] += 1
    return now


def _worth_first(line: Line, ready: list[Waiter]) -> list[Waiter]:
    """What saves most goes first while nobody becomes unsafe: who comes later can then push out only what saves less."""
    places = 0
    while places < len(ready) and line.at(places) <= NOW:
        places += 1
    if places == len(ready):
        return ready
    chosen: list[Waiter] = []
    rest = list(ready)
    for k in range(places):
        best, at = rest[0], 0
        for i, waiter in enumerate(rest):
            if waiter.order == math.inf:
                break
            if _startable(waiter) and _index(waiter, 1.0) > _index(best, 1.0):
                best, at = waiter, i
            # The next in line would start one place later, were it passed over.
            if line.at(k + 1 + i) > waiter.latest:
                break
        chosen.append(rest.pop(at))
    return chosen + rest


def _startable(waiter: Waiter) -> bool:
    return waiter.option is not None and waiter.option.earliest <= NOW


def _serial(line: Line, ready: list[Waiter]) -> list[Waiter]:
    """One after the other; as many are handed over as the device keeps at hand."""
    now: list[Waiter] = []
    probes: set[str] = set()
    total = line.earliest
    loaded = {w.option.model for w in ready if w.option is not None and w.option.offer.loaded}
    rest = list(ready)
    room = line.room
    if room is not None and (line.refused or line.service_s >= LONG_S):
        room = min(room, IN_HAND * line.devices - line.in_hand)
    while rest and (room is None or len(now) < room):
        at = _best_next(rest, total, loaded, probes) if len(rest) > 1 else 0
        waiter = rest[at]
        option = waiter.option
        assert option is not None
        if option.earliest > NOW or option.model in probes:
            break
        rest.pop(at)
        waiter.start = total
        total += option.seconds + (0.0 if option.model in loaded else option.offer.switch_s)
        loaded = {option.model}
        if option.offer.half_open:
            probes.add(option.model)
        now.append(waiter)
        if line.room is None and len(now) >= HANDED_AT_ONCE:
            # Nobody asked to keep the queue in our hands: the others follow in their order.
            break
    if line.room is None:
        now += [w for w in rest if w.option and w.option.earliest <= NOW and not w.option.offer.half_open]
    for waiter in rest:
        option = waiter.option
        assert option is not None
        waiter.start = max(total, option.earliest)
        total += option.seconds
    return now


def _index(waiter: Waiter, takes: float) -> float:
    """Apparent urgency (Vepsalainen and Morton, 1987), as a logarithm: what it saves for its time, less its slack."""
    if math.isinf(waiter.order):
        return -waiter.order
    return math.log(max(waiter.saving, 1e-6) / takes) - max(waiter.latest, 0.0) / SLACK_S


def _best_next(rest: Sequence[Waiter], total: float, loaded: set[str], probes: set[str]) -> int:
    """Who goes to the front: of the loaded model before others, then who saves most for its time; nobody becomes unsafe.

    Loading a model costs time (step 5); and what saves little stays behind, so that later jobs push out only that.
    """
    best, best_key = 0, (False, -math.inf)
    slack = math.inf
    ahead = total
    for i, waiter in enumerate(rest):
        option = waiter.option
        assert option is not None
        takes = option.seconds + (0.0 if option.model in loaded else option.offer.switch_s)
        free = option.earliest <= NOW and option.model not in probes
        key = (option.model in loaded, _index(waiter, takes))
        if free and takes <= slack and key > best_key:
            best, best_key = i, key
        slack = min(slack, waiter.latest - ahead)
        if slack <= 0:
            break
        ahead += option.seconds
    return best
