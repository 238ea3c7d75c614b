"""Where a job goes, when, and why not elsewhere: a pure function over a snapshot.

Each waiting job proposes to the offers that can honour it, in the order of its mode; an offer that cannot start now
is named with the time at which that ends. The full plan (deferred acceptance over all jobs) grows behind `plan`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from router.contract.card import InputMedia, ModelCard, ResolvedRequest, Where
from router.contract.errors import Misfit, RateLimited, Unavailable, UnsupportedRequest
from router.contract.fit import fit
from router.contract.job import Candidate, Decision, Rejected
from router.contract.request import FrameType, Mode, Substitutes, VideoRequest
from router.contract.words import Words, words
from router.pricing import Estimate, estimate, from_micros, money, to_micros


@dataclass(frozen=True)
class OfferFacts:
    """One model on one backend as it stands now."""

    card: ModelCard
    unusable: Rejected | None = None
    """No key, broken import, no weights: out until somebody changes the installation."""
    rest: Rejected | None = None
    """Retry-After, open breaker, refused key, stopped price row; `ready_at` where it ends by itself."""
    free_at: datetime | None = None
    """When the documented windows let the next start through; None means now."""
    room: int | None = None
    """Free places at the model; None where the limit is not documented."""
    mean_s: float | None = None
    """Learned seconds per job; None while nothing was learned."""
    queued_s: float = 0.0
    """Seconds of work in front of a new job (our own device)."""
    half_open: bool = False
    """The breaker lets exactly one probe through."""

    @property
    def seconds(self) -> float:
        """Expected seconds of one job, without waiting."""
        return self.mean_s if self.mean_s is not None else self.card.typical_seconds


@dataclass(frozen=True)
class Money:
    """What the budgets still allow, in micro-dollars; None means no budget."""

    day: int | None = None
    month: int | None = None
    project_day: Mapping[str, int] = field(default_factory=dict)
    day_turns_at: datetime | None = None
    month_turns_at: datetime | None = None
    caps: Mapping[str, int] = field(default_factory=dict)
    """The whole budgets: `day`, `month`, and each project's: what is dearer never fits."""


@dataclass(frozen=True)
class Tried:
    """An earlier attempt of the same job."""

    model: str
    code: str
    """Error code of how it ended."""
    accepted: bool
    ended_at: datetime
    free_retry: bool = False
    """The work was lost with our own process and cost nothing: the same offer may do it again."""


@dataclass(frozen=True)
class Ask:
    """A job that waits for a decision, or a request that somebody wants planned."""

    id: str
    request: VideoRequest
    seed: int
    inputs: Mapping[FrameType | int, InputMedia] = field(default_factory=dict)
    spent: int = 0
    """Reserved and billed by its earlier attempts, micro-dollars."""
    tried: Sequence[Tried] = ()
    created_at: datetime | None = None


@dataclass(frozen=True)
class Facts:
    """Everything a decision depends on."""

    now: datetime
    offers: Sequence[OfferFacts]
    money: Money = Money()
    backend_room: Mapping[str, int] = field(default_factory=dict)
    """Free places per backend, where its account has a documented limit."""
    mode: Mode = Mode.CLOUD_FIRST
    substitutes: Substitutes | None = None
    too_expensive_per_second: Decimal | None = None
    demo_model: bool = False
    patience_s: float = 0.0
    electricity_per_s: Decimal = Decimal(0)
    """US dollars per second of work on our own device; orders `cheapest`, never billed."""


@dataclass(frozen=True)
class Choice:
    """A decision and, where something can start, what to send and how much to reserve."""

    decision: Decision
    resolved: ResolvedRequest | None = None
    reserve: int = 0
    """Micro-dollars."""
    wake_at: datetime | None = None
    """When to look again although nothing happened."""
    hopeless: bool = False
    """Nothing will ever take it as things are."""
    misfits: tuple[Misfit, ...] = ()


AGAIN_AFTER = timedelta(seconds=30)
"""A job comes back to an offer that was unavailable no sooner than this."""
PATIENT_REFUSALS = 5
"""After this many 429s from one offer a job waits longer than the offer asks for."""


def plan(facts: Facts, asks: Sequence[Ask]) -> dict[str, Choice]:
    """Decide for every job, oldest first; what one job takes, the next no longer sees."""
    room = {offer.card.id: offer.room for offer in facts.offers}
    backend_room = dict(facts.backend_room)
    probed: set[str] = set()
    spent = 0
    by_project: dict[str, int] = {}
    choices = {}
    for ask in asks:
        view = _View(room, backend_room, probed, spent, by_project)
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


@dataclass(frozen=True)
class _View:
    """What earlier jobs of the same planning pass have taken."""

    room: Mapping[str, int | None] = field(default_factory=dict)
    backend_room: Mapping[str, int] = field(default_factory=dict)
    probed: set[str] = field(default_factory=set)
    spent: int = 0
    by_project: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Offered:
    """A candidate with what is needed to order and start it."""

    candidate: Candidate
    resolved: ResolvedRequest
    reserve: int
    tier: int
    house: bool
    cost: Decimal
    late: bool
    refused: bool
    """A rate limit turned this job away here a moment ago."""


def decide(facts: Facts, ask: Ask, view: _View | None = None) -> Choice:
    """One job against all offers. Every offer is a candidate or rejected with a reason."""
    view = view or _View({o.card.id: o.room for o in facts.offers}, facts.backend_room)
    mode = ask.request.preferences.mode or facts.mode
    offered: list[_Offered] = []
    rejected: list[Rejected] = []
    misfits: dict[str, tuple[Misfit, ...]] = {}
    others = any(_set_up(offer) and not offer.card.demo for offer in facts.offers)
    named = [o.card for o in facts.offers if _names(ask.request.model, o.card)]
    for offer in facts.offers:
        found = _weigh(facts, ask, view, offer, mode, named, others, misfits)
        if isinstance(found, _Offered):
            offered.append(found)
        else:
            rejected.append(found)
    offered.sort(key=lambda o: _order(mode, o))
    candidates = tuple(o.candidate for o in offered)
    if offered:
        best = offered[0]
        decision = Decision(
            at=facts.now,
            mode=mode.value,
            chosen=best.candidate,
            candidates=candidates,
            rejected=tuple(rejected),
            reason=_why_chosen(ask.request, mode, best, rejected, {card.id for card in named}),
        )
        return Choice(decision, best.resolved, best.reserve)
    return _nothing(facts, ask, mode, rejected, misfits)


def _weigh(
    facts: Facts,
    ask: Ask,
    view: _View,
    offer: OfferFacts,
    mode: Mode,
    named: Sequence[ModelCard],
    others: bool,
    misfits: dict[str, tuple[Misfit, ...]],
) -> _Offered | Rejected:
    card, request = offer.card, ask.request
    tier = _tier(facts, request, card, named)
    no = _not_asked_for(facts, request, card, mode, tier, others)
    if no is not None or tier is None:
        return no or _no(card, "model", words("another model was named", "別のモデルが指定されています"))
    try:
        resolved = fit(request, card, seed=ask.seed, inputs=ask.inputs)
    except UnsupportedRequest as error:
        misfits[card.id] = error.misfits
        code = "task" if any(m.field == "task" for m in error.misfits) else "misfit"
        return _no(card, code, _join([m.reason for m in error.misfits]) or error.message)
    if offer.unusable is not None:
        return offer.unusable
    price = estimate(card, resolved)
    no = _money_says(facts, ask, view, card, resolved, price)
    if no is not None:
        return no
    no = _cannot_start(facts, ask, view, offer, price)
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
        reason=_why_candidate(house, usd, late),
        price_as_of=price.as_of.isoformat() if price else None,
        price_source=price.source if price else None,
    )
    reserve = to_micros(price.most_usd) if price else 0
    refused = _refused_lately(facts, ask, card)
    return _Offered(
        candidate, resolved, reserve, tier, house, cost if price else Decimal("Infinity"), late, refused
    )


def _names(model: str | None, card: ModelCard) -> bool:
    return model is not None and model in (card.id, card.family)


def _tier(facts: Facts, request: VideoRequest, card: ModelCard, named: Sequence[ModelCard]) -> int | None:
    """0 what was asked for, 1 the same family, 2 anything else; None when it may not stand in."""
    default = facts.substitutes or (Substitutes.FAMILY if request.model else Substitutes.ANY)
    allowed = request.preferences.substitutes or default
    if request.model is None or _names(request.model, card):
        return 0
    if allowed is not Substitutes.NONE and any(card.family == other.family for other in named):
        return 1
    # A name that nobody knows is a mistake to report, not a wish to replace.
    return 2 if allowed is Substitutes.ANY and named else None


def _not_asked_for(
    facts: Facts, request: VideoRequest, card: ModelCard, mode: Mode, tier: int | None, others: bool
) -> Rejected | None:
    pref = request.preferences
    if pref.backends and not {card.backend, card.id, card.family} & set(pref.backends):
        return _no(
            card,
            "forbidden",
            words("not among the allowed backends", "許可されたバックエンドに含まれていません"),
        )
    if {card.backend, card.id, card.family} & set(pref.forbid):
        return _no(card, "forbidden", words("forbidden by the request", "リクエストで禁止されています"))
    if tier is None:
        return _no(card, "model", words("another model was named", "別のモデルが指定されています"))
    if mode is Mode.LOCAL_ONLY and card.where is not Where.HOUSE:
        return _no(
            card, "mode", words("local-only: nothing leaves the house", "local-only: 外部には送信しません")
        )
    named = _names(request.model, card) or bool({card.backend, card.id} & set(pref.backends))
    if card.only_when_named and not named:
        return _no(card, "demo", words("runs only when it is named", "名前を指定した場合のみ実行されます"))
    if card.demo and not named and others and not facts.demo_model:
        return _no(
            card,
            "demo",
            words(
                "the demo model stands in only when named or when [local] demo_model is on",
                "デモ用モデルは、指定されたときか [local] demo_model が有効なときのみ代役になります",
            ),
        )
    return None


def _money_says(
    facts: Facts, ask: Ask, view: _View, card: ModelCard, resolved: ResolvedRequest, price: Estimate | None
) -> Rejected | None:
    pref, money_left = ask.request.preferences, facts.money
    house = card.where is Where.HOUSE
    project = ask.request.project
    project_left = money_left.project_day.get(project) if project else None
    if price is None:
        capped = pref.max_usd is not None or any(
            x is not None for x in (money_left.day, money_left.month, project_left)
        )
        capped = capped or facts.too_expensive_per_second is not None
        if capped and not pref.allow_unknown_price:
            return _no(
                card,
                "price_unknown",
                words(
                    "its price is not known and a cap or budget applies (preferences.allow_unknown_price allows it)",
                    "価格が不明で、上限または予算が設定されています(preferences.allow_unknown_price で許可できます)",
                ),
            )
        return None
    most = to_micros(price.most_usd)
    if most == 0:
        return None
    threshold = facts.too_expensive_per_second
    per_second = price.usd / Decimal(str(resolved.duration or 1))
    if not house and threshold is not None and per_second > threshold:
        limit = money(threshold)
        return _no(
            card,
            "too_expensive",
            words(
                f"${money(round(per_second, 4))} per second is above the limit of ${limit}",
                f"1 秒あたり ${money(round(per_second, 4))} は上限 ${limit} を超えています",
            ),
            usd=price.usd,
        )
    if pref.max_usd is not None and ask.spent + most > to_micros(pref.max_usd):
        left = money(from_micros(max(to_micros(pref.max_usd) - ask.spent, 0)))
        return _no(
            card,
            "max_usd",
            words(
                f"${money(price.most_usd)} is above what this job may still cost (${left})",
                f"${money(price.most_usd)} はこのジョブの残り上限額 (${left}) を超えています",
            ),
            usd=price.usd,
        )
    lefts = (
        (
            f"project {project}",
            project_left,
            view.by_project.get(project or "", 0),
            "the project's budget",
            "プロジェクト予算",
        ),
        ("day", money_left.day, view.spent, "today's budget", "本日の予算"),
        ("month", money_left.month, view.spent, "this month's budget", "今月の予算"),
    )
    for name, left_micros, taken, en, ja in lefts:
        if left_micros is not None and most > left_micros - taken:
            left = money(from_micros(max(left_micros - taken, 0)))
            turns_at = money_left.month_turns_at if name == "month" else money_left.day_turns_at
            return _no(
                card,
                "budget",
                words(
                    f"${money(price.most_usd)} does not fit {en}: ${left} left",
                    f"${money(price.most_usd)} は{ja}に収まりません(残り ${left})",
                ),
                usd=price.usd,
                ready_at=turns_at if most <= money_left.caps.get(name, most) else None,
            )
    return None


def _cannot_start(
    facts: Facts, ask: Ask, view: _View, offer: OfferFacts, price: Estimate | None
) -> Rejected | None:
    card, usd = offer.card, price.usd if price else None
    no = _tried_here(facts, ask, card, usd)
    if no is not None:
        return no
    if offer.rest is not None:
        return offer.rest.model_copy(update={"usd": usd})
    if offer.half_open and card.id in view.probed:
        return _no(
            card,
            "breaker_open",
            words("one probe is on its way after an outage", "障害後の確認ジョブを 1 件送信中です"),
            usd=usd,
            ready_at=facts.now + AGAIN_AFTER,
        )
    if offer.free_at is not None and offer.free_at > facts.now:
        at = offer.free_at.strftime("%H:%M:%S")
        return _no(
            card,
            "rate_limited",
            words(f"its rate limit is used up until {at} UTC", f"レート制限に達しています({at} UTC まで)"),
            usd=usd,
            ready_at=offer.free_at,
        )
    room = view.room.get(card.id)
    backend_room = view.backend_room.get(card.backend)
    if (room is not None and room <= 0) or (backend_room is not None and backend_room <= 0):
        return _no(
            card,
            "busy",
            words("all its places are taken", "同時実行数の上限に達しています"),
            usd=usd,
            ready_at=facts.now + timedelta(seconds=max(offer.seconds, 1.0)),
        )
    return None


def _tried_here(facts: Facts, ask: Ask, card: ModelCard, usd: Decimal | None) -> Rejected | None:
    """What this job's own earlier attempts say about the offer."""
    for tried in reversed(ask.tried):
        # A backend that could not be reached a moment ago is not asked again under another model's name.
        down = tried.code == Unavailable.code and tried.model.partition("/")[0] == card.backend
        if tried.free_retry or not (down or tried.model == card.id):
            continue
        if tried.accepted:
            text = words("already failed for this job", "このジョブですでに失敗しています")
            return _no(card, "tried", text, usd=usd)
        again = tried.ended_at + AGAIN_AFTER
        if tried.code == RateLimited.code:
            # The offer rests for as long as it asked; what it refuses for ever is asked ever more rarely.
            refusals = sum(1 for t in ask.tried if t.model == card.id and t.code == tried.code)
            slower = 2.0 ** (refusals - PATIENT_REFUSALS) if refusals > PATIENT_REFUSALS else 0.0
            again = tried.ended_at + min(timedelta(seconds=slower), 2 * AGAIN_AFTER)
        if again > facts.now:
            text = words("was not available a moment ago", "直前の試行で利用できませんでした")
            return _no(card, tried.code, text, usd=usd, ready_at=again)
    return None


def _refused_lately(facts: Facts, ask: Ask, card: ModelCard) -> bool:
    """A rate limit turned this job away a moment ago: whoever else can start goes first.

    Two models of one backend that both refuse, or one where no limit of its own is documented, mean the account.
    """
    lately = {
        t.model
        for t in ask.tried
        if t.code == RateLimited.code and not t.accepted and t.ended_at + AGAIN_AFTER > facts.now
    }
    there = {model for model in lately if model.partition("/")[0] == card.backend}
    return card.id in there or len(there) >= (2 if card.limits.windowed else 1)


def _order(mode: Mode, o: _Offered) -> tuple[object, ...]:
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
    near = _nearest(rejected)
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


MONEY_CODES = frozenset({"max_usd", "budget", "too_expensive", "price_unknown"})
"""Rejections that are about money and nothing else."""
NOT_ASKED_CODES = frozenset({"model", "forbidden", "demo", "mode", "misfit", "task"})
"""Rejections that say the offer is no answer to this request at all."""
_NEAR = (
    "max_usd",
    "budget",
    "too_expensive",
    "price_unknown",
    "misfit",
    "tried",
    "no_key",
    "demo",
    "mode",
    "task",
)


def _nearest(rejected: Sequence[Rejected]) -> Rejected | None:
    """The rejection that the caller is most likely to want to hear about."""
    rank = {code: i for i, code in enumerate(_NEAR)} | {"model": len(_NEAR) + 1, "forbidden": len(_NEAR) + 1}
    return min(rejected, key=lambda r: (rank.get(r.code, len(rank)), len(r.reason.en), r.model), default=None)


def _set_up(offer: OfferFacts) -> bool:
    return offer.unusable is None


def _why_candidate(house: bool, usd: Decimal | None, late: bool) -> Words:
    if late:
        return words("expected after the deadline", "期限に間に合わない見込みです")
    if house:
        return words("our own device, no bill", "自前のデバイス(請求なし)")
    return words("price not known", "価格不明") if usd is None else words("cloud", "クラウド")


_BLOCKED = (
    "too_expensive",
    "budget",
    "max_usd",
    "rate_limited",
    "unavailable",
    "breaker_open",
    "tried",
    "busy",
    "quota_exhausted",
    "authentication_failed",
    "generation_failed",
    "unexpected_response",
)


def _why_chosen(
    request: VideoRequest, mode: Mode, best: _Offered, rejected: Sequence[Rejected], named: set[str]
) -> Words:
    """One sentence; for the understudy it says what kept the cloud off the stage."""
    if best.tier > 0:
        why = _join(
            list(_distinct([r for r in rejected if r.code in _BLOCKED and r.model in named]).values())[:3]
        )
        return words(
            f"stands in for {request.model}" + (f": {why.en}" if why.en else ""),
            f"{request.model} の代役" + (f": {why.ja}" if why.ja else ""),
        )
    blocked = [r for r in rejected if r.code in _BLOCKED and r.backend != best.candidate.backend]
    if best.house and mode is Mode.CLOUD_FIRST and blocked:
        reasons = _join(list(_distinct(blocked).values())[:3])
        return words(f"local stands in: {reasons.en}", f"ローカルが代役: {reasons.ja}")
    if request.model == best.candidate.model:
        return words("the model that was named", "指定されたモデルです")
    if best.house and mode is Mode.CLOUD_FIRST:
        return words("local: no cloud model can do it", "ローカル: 対応できるクラウドモデルがありません")
    return _MODE_WORDS[mode, best.house]


_MODE_WORDS = {
    (Mode.CLOUD_FIRST, False): words(
        "cloud first: the cheapest cloud model that can start now",
        "cloud-first: 今すぐ開始できる最も安いクラウドモデル",
    ),
    (Mode.LOCAL_FIRST, True): words(
        "local first: our own device can do it", "local-first: 自前のデバイスで実行できます"
    ),
    (Mode.LOCAL_FIRST, False): words(
        "local cannot take it: the cheapest cloud model",
        "ローカルでは実行できないため、最も安いクラウドモデル",
    ),
    **{
        (Mode.CHEAPEST, house): words("the cheapest that fits", "条件に合う中で最も安いモデル")
        for house in (True, False)
    },
    **{
        (Mode.FASTEST, house): words("expected to finish first", "最も早く完了する見込み")
        for house in (True, False)
    },
    (Mode.LOCAL_ONLY, True): words(
        "local only: nothing leaves the house", "local-only: 外部には送信しません"
    ),
}


def _distinct(blocked: Sequence[Rejected]) -> dict[str, Words]:
    """One reason per backend."""
    found: dict[str, Words] = {}
    for r in blocked:
        found.setdefault(r.backend, words(f"{r.backend}: {r.reason.en}", f"{r.backend}: {r.reason.ja}"))
    return found


def _join(reasons: Sequence[Words]) -> Words:
    return words("; ".join(r.en for r in reasons), "、".join(r.ja for r in reasons))


def _no(
    card: ModelCard, code: str, reason: Words, *, usd: Decimal | None = None, ready_at: datetime | None = None
) -> Rejected:
    return Rejected(backend=card.backend, model=card.id, code=code, reason=reason, usd=usd, ready_at=ready_at)
