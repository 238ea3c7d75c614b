"""What each offer means to one shape of request: an option with its cost and its times, or a rejection with a reason.

Everything here is computed once per distinct shape in a planning pass; jobs only look things up.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from heapq import nsmallest
from typing import NamedTuple

from router.contract.card import Where
from router.contract.errors import Misfit, Unavailable
from router.contract.job import Candidate, Decision, Rejected
from router.contract.request import Mode
from router.policy.cost import CALL_S, UNKNOWN_USD, expected_cost, safe_s, times_of
from router.policy.fitted import Fitted, Key, PromptLimits, Unfit, fit_key, fitted
from router.policy.lines import Lines
from router.policy.modes import order
from router.policy.rejections import (
    Purse,
    ahead_of_pace,
    money_says,
    names,
    not_asked_for,
    refused_lately,
    tier_of,
    tried_here,
    worn,
)
from router.policy.snapshot import Ask, Facts, OfferFacts
from router.policy.timeline import Line

DOWN_FOR = timedelta(minutes=10)
"""So long after its rest an offer that nobody tried counts as down; then one whose deadline is near may try it too."""


@dataclass(eq=False, slots=True)
class Option:
    """One offer as one shape of request sees it; seconds are from now."""

    offer: OfferFacts
    made: Fitted
    line: Line
    tier: int
    refused: bool
    house: bool
    cost: float
    """Expected US dollars, failures included."""
    seconds: float
    """Expected seconds of work."""
    safe: float
    """Seconds before the deadline at which it must have started."""
    lead: float
    """The same; where the offer is `down`, with room to be turned away again and be made at the next offer."""
    down: bool
    """It did not answer when it was last asked, by this job or often enough by any."""
    earliest: float
    """Not before this, whatever the line says: this job's own earlier attempts, a rest."""
    wait: float
    """Expected seconds until it starts, were the job alone."""
    blocked: Rejected | None
    """Why it cannot start now, where that is known before any other job is looked at."""
    now_only: bool = False
    """Counts only while it can start now (`cloud-first`)."""
    score: float = 0.0
    """What its mode compares: a refusal costs the difference to the next option's."""

    @property
    def model(self) -> str:
        """The card's id."""
        return self.offer.card.id

    def candidate(self, late: bool, unsafe: bool) -> Candidate:
        """As the decision shows it."""
        return self.made.candidate(self.offer.card, round(self.wait + self.seconds, 1), late, unsafe)


@dataclass(eq=False)
class Shape:
    """All offers for all jobs that ask alike, in the order of their mode."""

    mode: Mode
    options: list[Option]
    rejected: list[Rejected]
    misfits: tuple[Misfit, ...]
    named: frozenset[str]
    least_safe: float
    """The shortest safe time of any option; infinite without one."""
    expected: list[float]
    """Sorted expected seconds until the clip, for telling which options come late."""
    decisions: dict[Hashable, Decision] = field(default_factory=dict)
    """Decisions of this pass that several jobs share."""


class _Rough(NamedTuple):
    """An offer that passed all filters, before its alternatives are known."""

    offer: OfferFacts
    made: Fitted
    tier: int
    refused: bool
    again: Rejected | None


def _down(facts: Facts, rough: _Rough) -> bool:
    offer, rest, again = rough.offer, rough.offer.rest, rough.again
    return (
        (offer.half_open and (offer.rested_at is None or facts.now < offer.rested_at + DOWN_FOR))
        or (rest is not None and rest.code == Unavailable.code)
        or (again is not None and again.code == Unavailable.code)
    )


def _leave_room(options: Sequence[Option]) -> None:
    """An outage is seldom over at the next try, and the next offer may be silent too.

    Who tries must still reach the next two that are not known to be down, not only the quickest.
    """
    for i, option in enumerate(options):
        if option.down:
            others = [o for o in options[i + 1 :] if not o.down][:2]
            needs = [CALL_S * k + other.safe for k, other in enumerate(others, start=1)]
            option.lead = max([option.safe, *needs])


class Shapes:
    """The shapes of one planning pass."""

    def __init__(self, facts: Facts, lines: Lines) -> None:
        """`lines` holds the queue of every offer."""
        self._facts = facts
        self._lines = lines
        self._prompts = PromptLimits([o.card for o in facts.offers if o.unusable is None])
        self._others = any(o.unusable is None and not o.card.demo for o in facts.offers)
        self._untouched = Purse(facts.money)
        self._known: dict[Key, Shape] = {}

    def of(self, ask: Ask) -> Shape:
        """The shape that this job shares with others."""
        pref, request = ask.request.preferences, ask.request
        fits = fit_key(ask, self._prompts)
        key = (
            fits,
            request.model,
            request.project,
            pref.mode,
            pref.backends,
            pref.forbid,
            pref.max_usd,
            ask.spent if pref.max_usd is not None else 0,
            pref.substitutes,
            pref.allow_unknown_price,
            pref.allow_duplicate_spend,
            tuple(ask.tried) if ask.tried else (),
        )
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._make(ask, fits)
        return found

    def _make(self, ask: Ask, key: Key) -> Shape:
        facts, mode = self._facts, ask.request.preferences.mode or self._facts.mode
        wanted = ask.request.model
        named = [o.card for o in facts.offers if names(wanted, o.card)] if wanted is not None else []
        rough: list[_Rough] = []
        rejected: list[Rejected] = []
        misfits: list[tuple[Misfit, ...]] = []
        full_usd = self._local_full_usd(ask, key)
        for offer in facts.offers:
            tier = tier_of(facts, ask.request, offer.card, named) if wanted is not None else 0
            no = not_asked_for(facts, ask.request, offer.card, mode, tier, self._others)
            if no is None and offer.unusable is not None:
                no, never = self._unusable(ask, key, offer)
                misfits += [never] if never else []
            if no is not None:
                rejected.append(no)
                continue
            found = self._weigh(ask, key, offer, tier or 0, full_usd)
            if isinstance(found, _Rough):
                rough.append(found)
            elif isinstance(found, Unfit):
                misfits.append(found.misfits)
                rejected.append(found.rejected)
            else:
                rejected.append(found)
        options = order(mode, self._options(ask, rough), facts)
        _leave_room(options)
        return Shape(
            mode,
            options,
            rejected,
            min(misfits, key=len, default=()),
            frozenset(card.id for card in named),
            min((o.safe for o in options), default=math.inf),
            sorted(o.wait + o.seconds for o in options),
        )

    def _unusable(self, ask: Ask, key: Key, offer: OfferFacts) -> tuple[Rejected | None, tuple[Misfit, ...]]:
        """Why not, and what can never be made there.

        Who names a model hears first what it cannot make: fetching its weights or buying a key would not help. The others are
        not fitted, most installations have keys for few of the many models.
        """
        made = fitted(ask, offer.card, key) if names(ask.request.model, offer.card) else None
        return (made.rejected, made.misfits) if isinstance(made, Unfit) else (offer.unusable, ())

    def _weigh(
        self, ask: Ask, key: Key, offer: OfferFacts, tier: int, full_usd: Decimal | None
    ) -> _Rough | Unfit | Rejected:
        facts, card = self._facts, offer.card
        made = fitted(ask, card, key)
        if isinstance(made, Unfit):
            return made
        usd = made.price.usd if made.price else None
        patient = (ask.request.preferences.mode or facts.mode) is Mode.CHEAPEST
        again = tried_here(facts, ask, card, usd, patient) if ask.tried else None
        no = money_says(facts, self._untouched, ask, card, made, full_usd) or ahead_of_pace(
            facts, 0, card, made
        )
        if no is None and again is not None and again.ready_at is None:
            no = again
        if no is None and offer.rest is not None and offer.rest.ready_at is None:
            no = offer.rest.model_copy(update={"usd": usd})
        if no is not None:
            return no
        # Who waits for a price waits out what turned it away; everybody else goes to whoever can start.
        behind = refused_lately(facts, ask, card) or (again is not None and not patient) or worn(ask, card)
        return _Rough(offer, made, tier, behind, again)

    def _options(self, ask: Ask, rough: Sequence[_Rough]) -> list[Option]:
        facts = self._facts
        times = [times_of(r.offer) for r in rough]
        quick = nsmallest(2, (t.p97 for t in times))
        hedged = facts.can_hedge and ask.request.preferences.allow_duplicate_spend
        options = []
        for i, r in enumerate(rough):
            # Of two that are equally quick each has the other.
            others = quick[1:] if times[i].p97 == quick[0] else quick
            other = others[0] if others else math.inf
            usd = r.made.price.usd if r.made.price else None
            line = self._lines.of(r.offer)
            earliest, blocked = self._blocked(r, line, usd)
            safe = safe_s(facts, r.offer, times[i], other, hedged)
            options.append(
                Option(
                    offer=r.offer,
                    made=r.made,
                    line=line,
                    tier=r.tier,
                    refused=r.refused,
                    house=r.offer.card.where is Where.HOUSE,
                    cost=expected_cost(facts, r.offer, usd) if r.made.price else UNKNOWN_USD,
                    seconds=times[i].mean,
                    safe=safe,
                    lead=safe,
                    down=_down(facts, r),
                    earliest=earliest,
                    wait=max(line.at(0), earliest, 0.0),
                    blocked=blocked,
                )
            )
        return options

    def _blocked(self, rough: _Rough, line: Line, usd: Decimal | None) -> tuple[float, Rejected | None]:
        """When this job could start here at the earliest, and what holds it until then."""
        offer = rough.offer
        first = self._lines.why_not_now(offer, line, usd)
        if rough.again is not None:
            return max(self._from_now(rough.again.ready_at), 0.0), rough.again
        earliest = self._from_now(offer.rest.ready_at) if offer.rest is not None else 0.0
        if offer.free_at is not None:
            earliest = max(earliest, self._from_now(offer.free_at))
        return max(earliest, 0.0), first

    def _from_now(self, when: datetime | None) -> float:
        return (when - self._facts.now).total_seconds() if when is not None else 0.0

    def _local_full_usd(self, ask: Ask, key: Key) -> Decimal | None:
        """What our own device would cost in full for this shape, where one of its models can make it."""
        facts = self._facts
        if facts.too_expensive_multiple is None:
            return None
        costs = [
            facts.local_full_usd_per_s * Decimal(str(offer.seconds))
            for offer in facts.offers
            if offer.card.where is Where.HOUSE
            and offer.unusable is None
            and not offer.card.only_when_named
            and (facts.demo_model or not offer.card.demo)
            and isinstance(fitted(ask, offer.card, key), Fitted)
        ]
        return min(costs, default=None)
