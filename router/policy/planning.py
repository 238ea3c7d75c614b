"""One planning pass: all waiting jobs against all offers, from the snapshot to who starts now."""

import math
from collections.abc import Sequence
from datetime import datetime

from router.policy.acceptance import Acceptance, Waiter
from router.policy.demand import expect
from router.policy.lines import Lines
from router.policy.options import Shape, Shapes
from router.policy.rejections import Purse
from router.policy.snapshot import Ask, Facts
from router.policy.spill import hold, starts
from router.policy.thrift import save


class Pass:
    """The jobs of one pass with their options; `allot` may be called again with another common deadline."""

    def __init__(self, facts: Facts, asks: Sequence[Ask]) -> None:
        """Looks every job's shape up; nothing is decided yet."""
        self.facts = facts
        self.lines = Lines(facts)
        shapes = Shapes(facts, self.lines)
        if len(asks) > 1:
            # A job that is alone stands first in every queue, whatever is to come.
            expect(facts, shapes)
        self.waiters = [_waiter(facts, ask, shapes.of(ask)) for ask in asks]
        self.purse = Purse.of(facts)
        """What the jobs that start now took."""

    def match(self) -> Acceptance:
        """Every job has an option, or none can take it."""
        acceptance = Acceptance(self.facts, self.waiters)
        acceptance.match()
        return acceptance

    def allot(self) -> None:
        """Match, hold what may wait, and let start what the budgets hold."""
        lines = self.lines.all()
        acceptance = self.match()
        while True:
            hold(acceptance.waiters)
            save(self.facts, acceptance.waiters)
            now = starts(lines)
            broke = self._pay(now)
            if not broke:
                break
            acceptance.refuse_for_money(broke)
        for waiter in now:
            waiter.now = True

    def again(self, due: float) -> None:
        """As new, with one deadline for all, in seconds from now."""
        for line in self.lines.all():
            line.fresh()
        for waiter in self.waiters:
            waiter.due = due
            waiter.restart()

    def _pay(self, now: Sequence[Waiter]) -> list[tuple[Waiter, int]]:
        """Take every start's reservation, in order; whose does not fit, with what was left."""
        self.purse = purse = Purse.of(self.facts)
        broke = []
        for waiter in now:
            option = waiter.option
            if option is None or option.made.most == 0:
                continue
            project = waiter.ask.request.project
            left = purse.left(project)
            if left is not None and option.made.most > left:
                broke.append((waiter, left))
            else:
                purse.take(project, option.made.most)
        return broke


def _waiter(facts: Facts, ask: Ask, shape: Shape) -> Waiter:
    deadline = ask.request.preferences.deadline
    wanted = ask.due or deadline
    if wanted is not None:
        return Waiter(ask, shape, _seconds(wanted, facts.now), deadline is not None)
    age = _seconds(facts.now, ask.created_at) if ask.created_at is not None else 0.0
    return Waiter(ask, shape, _default_due(facts, shape, max(age, 0.0)), False)


def _default_due(facts: Facts, shape: Shape, age: float) -> float:
    """Nobody gave a deadline: the default, but time enough for the offer it likes best, and again when that has passed."""
    window = facts.default_deadline_s
    if not shape.options:
        return window
    window = max(window, 2 * shape.options[0].safe)
    return window * math.ceil((age + shape.least_safe) / window) - age


def _seconds(later: datetime, earlier: datetime) -> float:
    return (later - earlier).total_seconds()
