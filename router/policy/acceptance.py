"""Deferred acceptance: every job proposes to its best offer, a full offer refuses whom that costs least; until all rest.

After Gale and Shapley (1962). What an offer keeps is decided as by Moore and Hodgson (1968): in the order of the latest
starts, and whenever one comes too late, the job with the least saving goes. With one server and equal times that is the
exact optimum (a matroid greedy), and the saving of the last refused job is the shadow price of the server.
"""

import heapq
import math
from collections.abc import Sequence
from enum import StrEnum
from operator import attrgetter

from router.contract.request import Mode
from router.policy.options import Option, Shape
from router.policy.snapshot import Ask, Facts
from router.policy.timeline import NOW, Line

_EPSILON = 1e-9


class No(StrEnum):
    """Why an option did not keep a job."""

    FULL = "f"
    """Other jobs save more there."""
    LATE = "l"
    """Not safely before the deadline."""
    NOT_NOW = "n"
    """It would have to be waited for, and the mode does not."""
    MONEY = "m"
    """The jobs before it took what the budgets still allowed."""


class Waiter:
    """One job in a planning pass; times are seconds from now."""

    __slots__ = (
        "ask",
        "at",
        "due",
        "fixed",
        "has_deadline",
        "held_until",
        "latest",
        "noes",
        "now",
        "option",
        "order",
        "rank",
        "saving",
        "shape",
        "short",
        "start",
    )

    def __init__(self, ask: Ask, shape: Shape, due: float, has_deadline: bool) -> None:
        """Stands before its first option."""
        self.ask = ask
        self.shape = shape
        self.due = due
        self.has_deadline = has_deadline
        self.rank = 0
        """Place among all jobs by deadline, then by arrival."""
        self.restart()

    def restart(self) -> None:
        """As if nothing had been decided."""
        self.at = 0
        self.option: Option | None = None
        self.noes: list[No] = []
        """One for each option before `at`."""
        self.latest = 0.0
        """Latest start that its option keeps it with."""
        self.order = 0.0
        self.saving = 0.0
        self.start = math.inf
        self.held_until = 0.0
        self.short = False
        """It is held because the budget may not do for all (`thrift`)."""
        self.now = False
        """It starts in this pass."""
        self.fixed = False
        """Placed outside of deferred acceptance: the fastest, or the earliest although it is late."""


class Acceptance:
    """One matching of waiting jobs with offers."""

    def __init__(self, facts: Facts, waiters: Sequence[Waiter]) -> None:
        """Ranks the jobs; nothing is matched yet."""
        self._value = float(facts.value_of_deadline_usd)
        self.waiters = sorted(waiters, key=attrgetter("due"))
        for rank, waiter in enumerate(self.waiters):
            waiter.rank = rank
        self._dirty: dict[Line, None] = {}

    def match(self) -> None:
        """Everybody proposes until nobody is refused."""
        for waiter in self.waiters:
            if waiter.shape.mode is Mode.FASTEST:
                self._place_first(waiter)
            else:
                self._propose(waiter)
        self._settle()

    def refuse_for_money(self, broke: Sequence[tuple[Waiter, int]]) -> None:
        """These jobs' options, and all others above what is left (micro-dollars), are beyond the budgets."""
        gone = {waiter for waiter, _ in broke}
        for line in {w.option.line: None for w, _ in broke if w.option is not None}:
            line.held = [w for w in line.held if w not in gone]
            self._dirty[line] = None
        for waiter, left in broke:
            options = waiter.shape.options
            if waiter.fixed:
                waiter.fixed = False
                known = [*waiter.noes, *([No.LATE] * (len(options) - len(waiter.noes)))]
                waiter.noes = [
                    No.MONEY if o.made.most > left or no is No.MONEY else No.LATE
                    for o, no in zip(options, known, strict=True)
                ]
                waiter.at = len(options)
                self._place_last(waiter)
                continue
            self._next(waiter, No.MONEY)
            while waiter.at < len(options) and options[waiter.at].made.most > left:
                self._next(waiter, No.MONEY)
            # What it passed before and would now be its last resort may be beyond the budgets too.
            waiter.noes = [
                No.MONEY if o.made.most > left else no for o, no in zip(options, waiter.noes, strict=False)
            ]
            self._propose(waiter)
        self._settle()

    # -- one job

    def _next(self, waiter: Waiter, why: No) -> None:
        waiter.noes.append(why)
        waiter.at += 1
        waiter.option = None

    def _propose(self, waiter: Waiter) -> None:
        """To the next option that could be safe at all."""
        options = waiter.shape.options
        while waiter.at < len(options):
            option = options[waiter.at]
            why = _impossible(waiter, option)
            if why is None:
                break
            self._next(waiter, why)
        if waiter.at == len(options):
            self._place_last(waiter)
            return
        option = options[waiter.at]
        waiter.option = option
        waiter.latest = min(waiter.due - option.lead, NOW) if option.now_only else waiter.due - option.lead
        waiter.order = waiter.latest
        following = next((o for o in options[waiter.at + 1 :] if _impossible(waiter, o) is None), None)
        waiter.saving = (following.score if following else option.score + self._value) - option.score
        option.line.held.append(waiter)
        self._dirty[option.line] = None

    def _place_first(self, waiter: Waiter) -> None:
        """`fastest`: where it is expected to end first, before all jobs that can wait."""
        starts = _starts(waiter.shape.options)
        best = min(
            waiter.shape.options,
            key=lambda o: (o.tier, o.refused, starts[o] + o.seconds, o.score, o.model),
            default=None,
        )
        if best is not None:
            self._fix(waiter, best, -math.inf)

    def _place_last(self, waiter: Waiter) -> None:
        """Nobody is safe: the earliest safe end among the offers that are not beyond its money, behind the others."""
        open_ = [o for o, no in zip(waiter.shape.options, waiter.noes, strict=True) if no is not No.MONEY]
        if not open_:
            waiter.option = None
            return

        starts = _starts(open_)

        def key(o: Option) -> tuple[object, ...]:
            tier = 0 if waiter.has_deadline else o.tier
            return (tier, o.refused, starts[o] + o.safe, o.cost, o.model)

        self._fix(waiter, min(open_, key=key), math.inf)

    def _fix(self, waiter: Waiter, option: Option, order: float) -> None:
        waiter.fixed = True
        waiter.option = option
        waiter.order, waiter.latest, waiter.saving = order, math.inf, math.inf
        option.line.held.append(waiter)
        self._dirty[option.line] = None

    # -- all jobs

    def _settle(self) -> None:
        while self._dirty:
            lines, self._dirty = list(self._dirty), {}
            accounts: dict[Line, None] = {}
            refused: list[Waiter] = []
            for line in lines:
                refused += _keep(line)
                if line.account is not None:
                    accounts[line.account] = None
            for account in accounts:
                refused += _keep_account(account)
            refused.sort(key=attrgetter("rank"))
            for waiter in refused:
                now_only = waiter.option is not None and waiter.option.now_only
                self._next(waiter, No.NOT_NOW if now_only else No.FULL)
                self._propose(waiter)


def _impossible(waiter: Waiter, option: Option) -> No | None:
    """Why it need not be asked, whatever the others do."""
    first = option.wait
    if first + option.lead > waiter.due + _EPSILON:
        return No.LATE
    return No.NOT_NOW if option.now_only and first > NOW else None


def _starts(options: Sequence[Option]) -> dict[Option, float]:
    """When one more job would start at each."""
    accounts: dict[Line, float] = {}
    starts: dict[Option, float] = {}
    for option in options:
        line = option.line
        start = max(line.at(len(line.held)), option.earliest)
        if (account := line.account) is not None:
            if account not in accounts:
                accounts[account] = account.at(sum(len(member.held) for member in account.members))
            start = max(start, accounts[account])
        starts[option] = start
    return starts


def _by_order(held: list[Waiter]) -> None:
    held.sort(key=lambda w: (w.order, w.rank))


def _keep(line: Line) -> list[Waiter]:
    """Whom the line refuses; it keeps the others."""
    if not line.limited:
        return []
    _by_order(line.held)
    out = _keep_serial(line) if line.serial else _keep_equal(line, line.held)
    if out:
        gone = set(out)
        line.held = [w for w in line.held if w not in gone]
        line.refused += len(out)
    return out


def _keep_account(account: Line) -> list[Waiter]:
    held = [w for member in account.members for w in member.held]
    _by_order(held)
    out = _keep_equal(account, held)
    gone = set(out)
    for member in account.members if gone else ():
        before = len(member.held)
        member.held = [w for w in member.held if w not in gone]
        member.refused += before - len(member.held)
    return out


def _keep_equal(line: Line, held: Sequence[Waiter]) -> list[Waiter]:
    """The k-th start is the same whoever takes it."""
    kept: list[tuple[float, int, Waiter]] = []
    out: list[Waiter] = []
    k = 0
    start = line.at(0)
    for waiter in held:
        heapq.heappush(kept, (waiter.saving, -waiter.rank, waiter))
        if start <= waiter.latest + _EPSILON:
            k += 1
            start = line.at(k)
        else:
            out.append(heapq.heappop(kept)[2])
    line.least = kept[0][0] if kept else math.inf
    return out


def _keep_serial(line: Line) -> list[Waiter]:
    """One after the other, each with its own time; a model that is not loaded is loaded once (jobs are batched)."""
    kept: list[tuple[float, int, Waiter, float]] = []
    out: list[Waiter] = []
    seen: set[str] = set()
    total = line.earliest
    for waiter in held_options(line):
        option = waiter.option
        assert option is not None
        takes = option.seconds
        if option.model not in seen:
            seen.add(option.model)
            takes += 0.0 if option.offer.loaded else option.offer.switch_s
        heapq.heappush(kept, (waiter.saving / option.seconds, -waiter.rank, waiter, takes))
        start = total
        total += takes
        # What comes later and saves more will have gone before it.
        room = 1.0 - (line.demand.above(waiter.saving / option.seconds) if line.demand else 0.0)
        latest = line.earliest + max(waiter.latest - line.earliest, 0.0) * room
        latest = min(latest, waiter.latest)
        while start > latest + _EPSILON and kept:
            _, _, worst, worst_takes = heapq.heappop(kept)
            out.append(worst)
            total -= worst_takes
            if worst is waiter:
                break
            start -= worst_takes
    line.least = kept[0][0] if kept else math.inf
    return out


def held_options(line: Line) -> list[Waiter]:
    """Its jobs that have an option there."""
    return [w for w in line.held if w.option is not None and w.option.line is line]
