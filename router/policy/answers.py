"""The decision as people read it: every model is a candidate or rejected with a reason; alike jobs share one."""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime, timedelta

from router.contract.card import Where
from router.contract.job import Candidate, Decision, Rejected
from router.contract.language import reads, written_in
from router.contract.request import Mode, VideoRequest
from router.contract.words import Words, words
from router.policy.acceptance import No, Waiter
from router.policy.options import Option
from router.policy.planning import Pass
from router.policy.reasons import nearest, saves_more, why_chosen
from router.policy.rejections import ahead_of_pace, over_budget, reject
from router.policy.snapshot import Choice, Facts
from router.policy.timeline import NOW

_FOREVER_S = 366 * 86_400.0
_MONEY_FOR_OTHERS = words(
    "the budget may not do for all waiting jobs, and cheaper ones go first",
    "予算が待機中の全ジョブには足りない可能性があるため、より安いジョブを先に処理しています",
)
NAMED = 3
"""How many models are named that read a prompt."""


def answer(pass_: Pass, waiter: Waiter) -> Choice:
    """What this job does now, and why."""
    facts, shape, option = pass_.facts, waiter.shape, waiter.option
    if not shape.options:
        return _nowhere(facts, waiter)
    decision = _decision(pass_, waiter)
    if option is None:
        return _wait(facts, waiter, decision, _first_ready(decision.rejected))
    late = waiter.fixed and waiter.has_deadline and waiter.due - option.safe < waiter.start
    if decision.chosen is None:
        ready = min(waiter.start, _FOREVER_S)
        at = facts.now + timedelta(seconds=ready)
        wake = at if ready > NOW else _first_ready(decision.rejected)
        if waiter.now and (patient := _patience_ends(facts, waiter, decision.rejected)):
            wake = patient
        return _wait(facts, waiter, decision, wake, option, at, late)
    return Choice(
        decision,
        option.made.resolve(waiter.ask, option.offer.card),
        option.made.most,
        planned=option.model,
        start_at=facts.now,
        late=late,
    )


def _wait(
    facts: Facts,
    waiter: Waiter,
    decision: Decision,
    wake: datetime | None,
    option: Option | None = None,
    start_at: datetime | None = None,
    late: bool = False,
) -> Choice:
    hopeless = wake is None and option is None
    wake = wake if wake is not None or hopeless else facts.now + timedelta(seconds=facts.tick_s)
    return Choice(
        decision,
        wake_at=wake,
        hopeless=hopeless,
        misfits=waiter.shape.misfits if hopeless else (),
        planned=option.model if option else None,
        start_at=start_at,
        late=late,
    )


def _first_ready(rejected: Sequence[Rejected]) -> datetime | None:
    return min((r.ready_at for r in rejected if r.ready_at is not None), default=None)


def _decision(pass_: Pass, waiter: Waiter) -> Decision:
    """Shared by all jobs of the shape that were told the same."""
    shape = waiter.shape
    option = waiter.option
    on_time = bisect_left(shape.expected, waiter.due) if waiter.has_deadline else -1
    patient = waiter.now and _may_be_patient(pass_.facts, waiter)
    key = (
        "".join(waiter.noes),
        option.model if option is not None else None,
        waiter.now,
        waiter.held_until > NOW,
        waiter.short,
        on_time,
        waiter.ask.created_at if patient else None,
        waiter.ask.request.project,
    )
    found = shape.decisions.get(key)
    if found is None:
        found = shape.decisions[key] = _build(pass_, waiter)
    return found


def _build(pass_: Pass, waiter: Waiter) -> Decision:
    facts, shape, chosen = pass_.facts, waiter.shape, waiter.option if waiter.now else None
    sure: list[Candidate] = []
    doubtful: list[Candidate] = []
    rejected = list(shape.rejected)
    for i, option in enumerate(shape.options):
        no = waiter.noes[i] if i < len(waiter.noes) else None
        late = waiter.has_deadline and option.wait + option.seconds > waiter.due
        unsafe = no is No.LATE and waiter.has_deadline
        if option is chosen:
            sure.insert(0, option.candidate(late, unsafe))
            continue
        why = _why_not(pass_, waiter, option, no)
        if why is not None:
            rejected.append(why)
        else:
            (doubtful if late or unsafe else sure).append(option.candidate(late, unsafe))
    if chosen is not None and _patience_ends(facts, waiter, rejected):
        # The understudy waits in the wings while a cloud offer's rest ends soon enough.
        chosen = None
    rejected_ = tuple(rejected)
    if chosen is not None:
        reason = why_chosen(waiter.ask.request, shape.mode, chosen, rejected_, shape.named)
    else:
        reason = _what_it_waits_for(facts, waiter, rejected_)
    return Decision(
        at=facts.now,
        mode=shape.mode.value,
        chosen=sure[0] if chosen is not None else None,
        candidates=(*sure, *doubtful),
        rejected=rejected_,
        reason=reason,
    )


def _why_not(pass_: Pass, waiter: Waiter, option: Option, no: No | None) -> Rejected | None:
    """Why the job does not go there now; None where it could."""
    facts, usd = pass_.facts, option.made.price.usd if option.made.price else None
    if no is No.MONEY:
        card, made = option.offer.card, option.made
        found = over_budget(pass_.purse, waiter.ask, card, made)
        return found or ahead_of_pace(facts, pass_.purse.spent, card, made) or _busy(pass_, option)
    if no is No.FULL and (option.line.held or option.blocked is None):
        line = option.line
        mine = waiter.shape.options
        at = mine.index(option)
        following = mine[at + 1].score if at + 1 < len(mine) else option.score
        saving = following - option.score
        text = saves_more(
            len(line.held), line.least, saving / option.seconds if line.serial else saving, line.serial
        )
        return reject(
            option.offer.card,
            "busy",
            text,
            usd=usd,
            ready_at=facts.now + timedelta(seconds=max(line.interval_s, 1.0)),
        )
    if option.blocked is not None:
        return option.blocked
    if waiter.option is option and not waiter.now and waiter.held_until <= NOW and waiter.start > NOW:
        return _busy(pass_, option)
    return None if option.line.free_now else _busy(pass_, option)


def _busy(pass_: Pass, option: Option) -> Rejected:
    usd = option.made.price.usd if option.made.price else None
    found = pass_.lines.busy(option.offer, option.line.at(option.line.begun), usd)
    if option.offer.half_open and option.line.begun:
        text = words("one probe is on its way after an outage", "障害後の確認ジョブを 1 件送信中です")
        found = found.model_copy(update={"code": "breaker_open", "reason": text})
    return found


def _may_be_patient(facts: Facts, waiter: Waiter) -> bool:
    option = waiter.option
    return (
        facts.patience_s > 0 and waiter.shape.mode is Mode.CLOUD_FIRST and option is not None and option.house
    )


def _patience_ends(facts: Facts, waiter: Waiter, rejected: Sequence[Rejected]) -> datetime | None:
    """`cloud_patience_s`: when the cloud offer comes back that is worth waiting for."""
    if not _may_be_patient(facts, waiter):
        return None
    until = (waiter.ask.created_at or facts.now) + timedelta(seconds=facts.patience_s)
    cloud = {offer.card.id for offer in facts.offers if offer.card.where is Where.CLOUD}
    ready = [
        r.ready_at for r in rejected if r.model in cloud and r.code != "budget" and r.ready_at is not None
    ]
    return min((at for at in ready if at <= until), default=None)


def _what_it_waits_for(facts: Facts, waiter: Waiter, rejected: Sequence[Rejected]) -> Words:
    """One sentence that does not change from look to look, so that it is written once."""
    option = waiter.option
    if option is not None and waiter.short:
        return _MONEY_FOR_OTHERS
    if option is not None and waiter.held_until > NOW:
        cheap = next(o for o, no in zip(waiter.shape.options, waiter.noes, strict=False) if no is No.FULL)
        return words(
            f"waits for {cheap.model}, which costs less, as long as its deadline allows",
            f"期限が許す間、より安い {cheap.model} の空きを待っています",
        )
    waits = sorted(
        (r for r in rejected if r.ready_at is not None), key=lambda r: (r.ready_at or facts.now, r.model)
    )
    mine = option and next((r for r in waits if r.model == option.model and not waiter.now), None)
    first = mine or (waits[0] if waits else None)
    if first is None:
        return _nothing_ever(facts, waiter.ask.request, rejected)
    return words(
        f"waits for {first.model}: {first.reason.en}", f"{first.model} を待っています: {first.reason.ja}"
    )


def _nothing_ever(facts: Facts, request: VideoRequest, rejected: Sequence[Rejected]) -> Words:
    near = nearest(rejected)
    if near is None:
        return words("no model is set up", "利用できるモデルが設定されていません")
    if not any(r.code != "model" for r in rejected):
        return words(f"there is no model {request.model!r}", f"モデル {request.model!r} は存在しません")
    readers = _who_reads(facts, request, near.model)
    en = f" ({', '.join(readers)})" if readers else ""
    ja = f"({'、'.join(readers)})" if readers else ""
    return words(
        f"no backend can take it. Nearest: {near.model}: {near.reason.en}{en}",
        f"引き受けられるバックエンドがありません。最も近いもの: {near.model}: {near.reason.ja}{ja}",
    )


def _who_reads(facts: Facts, request: VideoRequest, nearest_model: str) -> list[str]:
    """Models that read a prompt which the nearest one does not; those that could start come first."""
    script = None if request.prompt_language else written_in(request.prompt)
    near = next((o.card for o in facts.offers if o.card.id == nearest_model), None)
    if script is None or near is None or reads(near.languages, script):
        return []
    others = [
        offer
        for offer in facts.offers
        if not offer.card.demo
        and script in {tag.lower().split("-")[0] for tag in offer.card.languages}
        and set(offer.card.tasks) & set(near.tasks)
    ]
    others.sort(key=lambda o: (o.unusable is not None, o.card.where is not near.where, o.card.id))
    return [offer.card.id for offer in others[:NAMED]]


def _nowhere(facts: Facts, waiter: Waiter) -> Choice:
    """Every offer is rejected: wait for the first that comes back, or say that nothing ever will."""
    shape = waiter.shape
    decision = shape.decisions.get(())
    if decision is None:
        rejected = tuple(shape.rejected)
        decision = shape.decisions[()] = Decision(
            at=facts.now,
            mode=shape.mode.value,
            chosen=None,
            candidates=(),
            rejected=rejected,
            reason=_what_it_waits_for(facts, waiter, rejected),
        )
    return _wait(facts, waiter, decision, _first_ready(decision.rejected))
