"""Where a job goes, when, and why not elsewhere: a pure function over a snapshot (shared/routing.md, "The policy").

`plan` looks at all waiting jobs at once: each proposes to the offers that can honour it in the order of its mode, full
offers keep the jobs that save most, and what may wait for a cheaper place does.

    snapshot    the values a decision depends on, and its answer
    fitted      a card's answer to one shape of request, computed once
    rejections  why an offer may not take a job: caps, budgets, wishes, earlier attempts
    cost        what a clip is expected to cost at an offer, and how long it safely takes
    lines       the queues behind the offers; `timeline` says when the next job could start in each
    options     all of it together: one offer as one shape of request sees it; `modes` orders them
    demand      what the jobs to come will take of our own device
    acceptance  deferred acceptance over the lines
    thrift      who waits to the last when the budget will not do for all
    spill       when the matched jobs start: lazily where that saves, same models together
    planning    one pass from snapshot to starts; `answers` puts it in words
    makespan    the soonest common end that a budget buys
    hedge       when a second copy of a running job is worth its price
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from router.policy.answers import answer
from router.policy.hedge import Hedge, copy, hedges
from router.policy.makespan import Finish, Share, finishes, soonest
from router.policy.planning import Pass
from router.policy.reasons import MONEY_CODES, NOT_ASKED_CODES
from router.policy.rejections import AGAIN_AFTER, PATIENT_REFUSALS
from router.policy.snapshot import Ask, Choice, Facts, Learned, Money, OfferFacts, Running, Seen, Tried

__all__ = [
    "AGAIN_AFTER",
    "MONEY_CODES",
    "NOT_ASKED_CODES",
    "PATIENT_REFUSALS",
    "Ask",
    "Choice",
    "Facts",
    "Finish",
    "Hedge",
    "Learned",
    "Money",
    "OfferFacts",
    "Running",
    "Seen",
    "Share",
    "Tried",
    "copy",
    "decide",
    "finishes",
    "hedges",
    "plan",
    "plan_by",
    "soonest",
]


def plan(facts: Facts, asks: Sequence[Ask]) -> dict[str, Choice]:
    """Decide for every waiting job; those with `resolved` start now, the others are planned again at the next event.

    Those that start come first, in the order in which they are to be handed over: our own device makes them in that order.
    """
    pass_ = Pass(facts, asks)
    pass_.allot()
    in_order = sorted(pass_.waiters, key=lambda w: (not w.now, w.start if w.now else 0.0))
    return {waiter.ask.id: answer(pass_, waiter) for waiter in in_order}


def decide(facts: Facts, ask: Ask) -> Choice:
    """One job as if it were alone. Every offer is a candidate or rejected with a reason."""
    return plan(facts, [ask])[ask.id]


def plan_by(
    facts: Facts, asks: Sequence[Ask], budget: int, by: datetime | None = None
) -> tuple[datetime | None, dict[str, Choice]]:
    """All these jobs as soon as `budget` micro-dollars buy: the common end and the plan for it.

    Pass the end of an earlier call as `by` to keep it; let it be found anew every two minutes. An end that nothing can
    reach is None: then each job goes its own way.
    """
    end = by or soonest(facts, asks, budget)
    return end, plan(facts, [replace(ask, due=end) for ask in asks])
