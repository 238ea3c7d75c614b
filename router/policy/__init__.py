"""Where a job goes, when, and why not elsewhere: a pure function over a snapshot.

Each waiting job proposes to the offers that can honour it, in the order of its mode; an offer that cannot start now
is named with the time at which that ends. The full plan (deferred acceptance over all jobs) grows behind `plan`.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from router.contract.card import ModelCard, Where
from router.contract.errors import Misfit, UnsupportedRequest
from router.contract.fit import fit
from router.contract.job import Candidate, Decision, Rejected
from router.contract.request import Mode
from router.contract.words import Words, words
from router.policy.reasons import MONEY_CODES, NOT_ASKED_CODES, join, nearest, why_candidate, why_chosen
from router.policy.rejections import (
    AGAIN_AFTER,
    PATIENT_REFUSALS,
    cannot_start,
    money_says,
    names,
    not_asked_for,
    refused_lately,
    reject,
    tier_of,
)
from router.policy.snapshot import Ask, Choice, Facts, Money, Offered, OfferFacts, Tried, View
from router.pricing import estimate, to_micros

__all__ = [
    "AGAIN_AFTER",
    "MONEY_CODES",
    "NOT_ASKED_CODES",
    "PATIENT_REFUSALS",
    "Ask",
    "Choice",
    "Facts",
    "Money",
    "OfferFacts",
    "Tried",
    "decide",
    "plan",
]


def plan(facts: Facts, asks: Sequence[Ask]) -> dict[str, Choice]:
    """Decide for every job, oldest first; what one job takes, the next no longer sees."""
    room = {offer.card.id: offer.room for offer in facts.offers}
    backend_room = dict(facts.backend_room)
    probed: set[str] = set()
    spent = 0
    by_project: dict[str, int] = {}
    choices = {}
    for ask in asks:
        view = View(room, backend_room, probed, spent, by_project)
        choice = decide(facts, ask, view)
        choices[ask.id] = choice
        if choice.resolved is not None:
            model, backend = choice.resolved.model, choice.resolved.backend
            if (left := room.get(model)) is not None:
                room[model] = left - 1
            if backend in backend_room:
                backend_room[backend] -= 1
            probed.add(model)
            spent += choice.reserve
            if ask.request.project:
                by_project[ask.request.project] = by_project.get(ask.request.project, 0) + choice.reserve
    return choices


def decide(facts: Facts, ask: Ask, view: View | None = None) -> Choice:
    """One job against all offers. Every offer is a candidate or rejected with a reason."""
    view = view or View({o.card.id: o.room for o in facts.offers}, facts.backend_room)
    mode = ask.request.preferences.mode or facts.mode
    offered: list[Offered] = []
    rejected: list[Rejected] = []
    misfits: dict[str, tuple[Misfit, ...]] = {}
    others = any(_set_up(offer) and not offer.card.demo for offer in facts.offers)
    named = [o.card for o in facts.offers if names(ask.request.model, o.card)]
    for offer in facts.offers:
        found = _weigh(facts, ask, view, offer, mode, named, others, misfits)
        if isinstance(found, Offered):
            offered.append(found)
        else:
            rejected.append(found)
    offered.sort(key=lambda o: _order(mode, o))
    candidates = tuple(o.candidate for o in offered)
    if offered and not _worth_waiting(facts, ask, mode, offered[0], rejected):
        best = offered[0]
        decision = Decision(
            at=facts.now,
            mode=mode.value,
            chosen=best.candidate,
            candidates=candidates,
            rejected=tuple(rejected),
            reason=why_chosen(ask.request, mode, best, rejected, {card.id for card in named}),
        )
        return Choice(decision, best.resolved, best.reserve)
    return _nothing(facts, ask, mode, rejected, misfits)


def _weigh(
    facts: Facts,
    ask: Ask,
    view: View,
    offer: OfferFacts,
    mode: Mode,
    named: Sequence[ModelCard],
    others: bool,
    misfits: dict[str, tuple[Misfit, ...]],
) -> Offered | Rejected:
    card, request = offer.card, ask.request
    tier = tier_of(facts, request, card, named)
    no = not_asked_for(facts, request, card, mode, tier, others)
    if no is not None or tier is None:
        return no or reject(card, "model", words("another model was named", "別のモデルが指定されています"))
    if offer.unusable is not None:
        # Before the fit: most installations have keys for few of the many models.
        return offer.unusable
    try:
        resolved = fit(request, card, seed=ask.seed, inputs=ask.inputs)
    except UnsupportedRequest as error:
        misfits[card.id] = error.misfits
        code = "task" if any(m.field == "task" for m in error.misfits) else "misfit"
        return reject(card, code, join([m.reason for m in error.misfits]) or error.message)
    price = estimate(card, resolved)
    no = money_says(facts, ask, view, card, resolved, price)
    if no is not None:
        return no
    no = cannot_start(facts, ask, view, offer, price)
    if no is not None:
        return no
    usd = price.usd if price else None
    expected = offer.queued_s + offer.seconds
    deadline = request.preferences.deadline
    late = deadline is not None and facts.now + timedelta(seconds=expected) > deadline
    house = card.where is Where.HOUSE
    cost = facts.electricity_per_s * Decimal(str(offer.seconds)) if house else (usd or Decimal(0))
    candidate = Candidate(
        backend=card.backend,
        model=card.id,
        usd=usd,
        seconds=round(expected, 1),
        reason=why_candidate(house, usd, late),
        price_as_of=price.as_of.isoformat() if price else None,
        price_source=price.source if price else None,
    )
    reserve = to_micros(price.most_usd) if price else 0
    refused = refused_lately(facts, ask, card)
    return Offered(
        candidate, resolved, reserve, tier, house, cost if price else Decimal("Infinity"), late, refused
    )


def _order(mode: Mode, o: Offered) -> tuple[object, ...]:
    """Sort key; ties end with the model id, so that the same input gives the same plan."""
    tail = (o.candidate.seconds, o.candidate.model)
    match mode:
        case Mode.LOCAL_FIRST:
            return (o.tier, o.refused, o.late, not o.house, o.cost, *tail)
        case Mode.CHEAPEST:
            return (o.tier, o.refused, o.late, o.cost, *tail)
        case Mode.FASTEST:
            return (o.tier, o.refused, o.candidate.seconds, o.cost, o.candidate.model)
        case _:
            # Nobody asked for a surprise: a price we do not know comes after our own device.
            unpriced = o.candidate.usd is None
            return (o.tier, o.refused, o.late, unpriced, o.house, o.cost, *tail)


def _worth_waiting(facts: Facts, ask: Ask, mode: Mode, best: Offered, rejected: Sequence[Rejected]) -> bool:
    """`cloud_patience_s`: the understudy waits in the wings while a cloud offer's rest ends soon enough."""
    if mode is not Mode.CLOUD_FIRST or not best.house or facts.patience_s <= 0:
        return False
    until = (ask.created_at or facts.now) + timedelta(seconds=facts.patience_s)
    cloud = {offer.card.id for offer in facts.offers if offer.card.where is Where.CLOUD}
    return any(
        r.model in cloud and r.code != "budget" and r.ready_at is not None and r.ready_at <= until
        for r in rejected
    )


def _nothing(
    facts: Facts,
    ask: Ask,
    mode: Mode,
    rejected: Sequence[Rejected],
    misfits: Mapping[str, tuple[Misfit, ...]],
) -> Choice:
    """No offer can start now: wait for the earliest, or say that nothing ever will."""
    waits = sorted(
        (r for r in rejected if r.ready_at is not None), key=lambda r: (r.ready_at or facts.now, r.model)
    )

    def nowhere(reason: Words) -> Decision:
        return Decision(
            at=facts.now, mode=mode.value, chosen=None, candidates=(), rejected=tuple(rejected), reason=reason
        )

    if waits:
        first = waits[0]
        text = words(
            f"waits for {first.model}: {first.reason.en}", f"{first.model} を待っています: {first.reason.ja}"
        )
        return Choice(nowhere(text), wake_at=first.ready_at)
    near = nearest(rejected)
    if near is None:
        text = words("no model is set up", "利用できるモデルが設定されていません")
    elif not any(r.code != "model" for r in rejected):
        text = words(
            f"there is no model {ask.request.model!r}", f"モデル {ask.request.model!r} は存在しません"
        )
    else:
        text = words(
            f"no backend can take it. Nearest: {near.model}: {near.reason.en}",
            f"引き受けられるバックエンドがありません。最も近いもの: {near.model}: {near.reason.ja}",
        )
    closest = min(misfits.values(), key=len, default=())
    return Choice(nowhere(text), hopeless=True, misfits=closest)


def _set_up(offer: OfferFacts) -> bool:
    return offer.unusable is None
