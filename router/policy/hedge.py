"""Whether a second, paid copy of a running job is worth its price (shared/routing.md, step 8). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from router.contract.words import words
from router.policy.answers import answer
from router.policy.cost import failure_rate, survival
from router.policy.lines import Lines
from router.policy.options import Option, Shapes
from router.policy.planning import Pass
from router.policy.rejections import Purse
from router.policy.snapshot import Ask, Choice, Facts, Running
from router.policy.timeline import NOW

WAITS = (1, 3, 6, 10)
"""Ticks after which the copy could be sent instead."""


@dataclass(frozen=True)
class Hedge:
    """Send a second copy now."""

    job: str
    model: str
    reserve: int
    """Micro-dollars, besides what the first copy holds."""
    gain_usd: float
    """Expected value less price."""
    late: float
    """How likely the first copy comes too late."""


def hedges(facts: Facts, running: Sequence[Running]) -> list[Hedge]:
    """Which running jobs deserve a copy elsewhere now: cloud only, at most one each, only where the job allows it."""
    if not facts.can_hedge:
        return []
    lines = Lines(facts)
    shapes = Shapes(facts, lines)
    offers = {offer.card.id: offer for offer in facts.offers}
    purse = Purse.of(facts)
    found: list[Hedge] = []
    for run in running:
        pref = run.ask.request.preferences
        if not pref.allow_duplicate_spend or pref.deadline is None or run.model not in offers:
            continue
        elapsed = (facts.now - run.started_at).total_seconds()
        left = (pref.deadline - facts.now).total_seconds()
        if left <= 0:
            continue
        risk = Risk(facts, elapsed, left, run)
        best = max(
            (h for o in shapes.of(run.ask).options if (h := risk.copy_at(o)) is not None),
            key=lambda h: (h.gain_usd, h.model),
            default=None,
        )
        room = purse.left(run.ask.request.project)
        if best is None or (room is not None and best.reserve > room):
            continue
        purse.take(run.ask.request.project, best.reserve)
        found.append(best)
    return found


def copy(facts: Facts, run: Running, hedge: Hedge) -> Choice | None:
    """The choice that starts this copy, decided over all offers as any other; None where the offer is gone."""
    pass_ = Pass(facts, [run.ask])
    (waiter,) = pass_.waiters
    waiter.option = next((o for o in waiter.shape.options if o.model == hedge.model), None)
    if waiter.option is None:
        return None
    waiter.now = True
    choice = answer(pass_, waiter)
    seconds, percent = f"{(facts.now - run.started_at).total_seconds():.0f}", f"{100 * hedge.late:.0f} %"
    why = words(
        f"a second copy, which the job allows: {run.model} has run for {seconds} s and misses the deadline with a "
        f"probability of {percent}",
        f"ジョブが許可した 2 つ目の試行: {run.model} は開始から {seconds} 秒経過し、{percent} の確率で期限に遅れる見込みです",
    )
    return replace(choice, decision=choice.decision.model_copy(update={"reason": why}))


class Risk:
    """One running job: how likely it comes too late, and what a copy would change."""

    def __init__(self, facts: Facts, elapsed: float, left: float, run: Running) -> None:
        """`elapsed` since it was accepted, `left` until its deadline, in seconds."""
        self._facts = facts
        self._elapsed = elapsed
        self._left = left
        self._ask: Ask = run.ask
        self._model = run.model
        self._offer = next(offer for offer in facts.offers if offer.card.id == run.model)
        alive = survival(self._offer, elapsed)
        self.late = min(1.0, survival(self._offer, elapsed + left) / alive) if alive > 0 else 1.0
        """P(late | still running)."""

    def copy_at(self, option: Option) -> Hedge | None:
        """The copy at this offer, when it is worth its price and no later moment is better."""
        if option.house or option.model == self._model or option.made.price is None:
            return None
        if option.earliest > NOW or option.line.at(0) > NOW or option.blocked is not None:
            return None
        worth = float(self._facts.value_of_deadline_usd) * self.late
        p1 = self._copy_late(option, 0.0)
        gain = worth * (1 - p1) - option.cost
        if gain <= 0:
            return None
        for ticks in WAITS:
            d = ticks * self._facts.tick_s
            if worth * (self._copy_late(option, d) - p1) < self._ends_within(d) * option.cost:
                return None
        return Hedge(self._ask.id, option.model, option.made.most, gain, self.late)

    def _copy_late(self, option: Option, d: float) -> float:
        """P(a copy sent after `d` seconds comes late or fails)."""
        fails = failure_rate(option.offer.learned)
        return fails + (1 - fails) * survival(option.offer, self._left - d)

    def _ends_within(self, d: float) -> float:
        alive = survival(self._offer, self._elapsed)
        return max(0.0, 1 - survival(self._offer, self._elapsed + d) / alive) if alive > 0 else 0.0
