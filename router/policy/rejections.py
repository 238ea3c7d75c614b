"""Why an offer cannot or may not take a job, each reason in words with the time at which it ends, if it does."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from router.contract.card import ModelCard, ResolvedRequest, Where
from router.contract.errors import RateLimited, Unavailable
from router.contract.job import Rejected
from router.contract.request import Mode, Substitutes, VideoRequest
from router.contract.words import Words, words
from router.policy.snapshot import Ask, Facts, OfferFacts, View
from router.pricing import Estimate, from_micros, money, to_micros

AGAIN_AFTER = timedelta(seconds=30)
"""A job comes back to an offer that was unavailable no sooner than this."""
PATIENT_REFUSALS = 5
"""After this many 429s from one offer a job waits longer than the offer asks for."""


def names(model: str | None, card: ModelCard) -> bool:
    """Whether the request names this card or its family."""
    return model is not None and model in (card.id, card.family)


def tier_of(facts: Facts, request: VideoRequest, card: ModelCard, named: Sequence[ModelCard]) -> int | None:
    """0 what was asked for, 1 the same family, 2 anything else; None when it may not stand in."""
    default = facts.substitutes or (Substitutes.FAMILY if request.model else Substitutes.ANY)
    allowed = request.preferences.substitutes or default
    if request.model is None or names(request.model, card):
        return 0
    if allowed is not Substitutes.NONE and any(card.family == other.family for other in named):
        return 1
    # A name that nobody knows is a mistake to report, not a wish to replace.
    return 2 if allowed is Substitutes.ANY and named else None


def not_asked_for(
    facts: Facts, request: VideoRequest, card: ModelCard, mode: Mode, tier: int | None, others: bool
) -> Rejected | None:
    """The request, its mode or its model keep this offer out."""
    pref = request.preferences
    if pref.backends and not {card.backend, card.id, card.family} & set(pref.backends):
        return reject(
            card,
            "forbidden",
            words("not among the allowed backends", "許可されたバックエンドに含まれていません"),
        )
    if {card.backend, card.id, card.family} & set(pref.forbid):
        return reject(card, "forbidden", words("forbidden by the request", "リクエストで禁止されています"))
    if tier is None:
        return reject(card, "model", words("another model was named", "別のモデルが指定されています"))
    if mode is Mode.LOCAL_ONLY and card.where is not Where.HOUSE:
        return reject(
            card, "mode", words("local-only: nothing leaves the house", "local-only: 外部には送信しません")
        )
    named = names(request.model, card) or bool({card.backend, card.id} & set(pref.backends))
    if card.only_when_named and not named:
        return reject(card, "demo", words("runs only when it is named", "名前を指定した場合のみ実行されます"))
    if card.demo and not named and others and not facts.demo_model:
        return reject(
            card,
            "demo",
            words(
                "the demo model stands in only when named or when [local] demo_model is on",
                "デモ用モデルは、指定されたときか [local] demo_model が有効なときのみ代役になります",
            ),
        )
    return None


def money_says(
    facts: Facts, ask: Ask, view: View, card: ModelCard, resolved: ResolvedRequest, price: Estimate | None
) -> Rejected | None:
    """Caps, budgets and the user's own threshold."""
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
            return reject(
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
        return reject(
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
        return reject(
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
            return reject(
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


def cannot_start(
    facts: Facts, ask: Ask, view: View, offer: OfferFacts, price: Estimate | None
) -> Rejected | None:
    """It could do the job, but not now."""
    card, usd = offer.card, price.usd if price else None
    no = _tried_here(facts, ask, card, usd)
    if no is not None:
        return no
    if offer.rest is not None:
        return offer.rest.model_copy(update={"usd": usd})
    if offer.half_open and card.id in view.probed:
        return reject(
            card,
            "breaker_open",
            words("one probe is on its way after an outage", "障害後の確認ジョブを 1 件送信中です"),
            usd=usd,
            ready_at=facts.now + AGAIN_AFTER,
        )
    if offer.free_at is not None and offer.free_at > facts.now:
        at = offer.free_at.strftime("%H:%M:%S")
        return reject(
            card,
            "rate_limited",
            words(f"its rate limit is used up until {at} UTC", f"レート制限に達しています({at} UTC まで)"),
            usd=usd,
            ready_at=offer.free_at,
        )
    room = view.room.get(card.id)
    backend_room = view.backend_room.get(card.backend)
    if (room is not None and room <= 0) or (backend_room is not None and backend_room <= 0):
        return reject(
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
            return reject(card, "tried", text, usd=usd)
        again = tried.ended_at + AGAIN_AFTER
        if tried.code == RateLimited.code:
            # The offer rests for as long as it asked; what it refuses for ever is asked ever more rarely.
            refusals = sum(1 for t in ask.tried if t.model == card.id and t.code == tried.code)
            slower = 2.0 ** (refusals - PATIENT_REFUSALS) if refusals > PATIENT_REFUSALS else 0.0
            again = tried.ended_at + min(timedelta(seconds=slower), 2 * AGAIN_AFTER)
        if again > facts.now:
            text = words("was not available a moment ago", "直前の試行で利用できませんでした")
            return reject(card, tried.code, text, usd=usd, ready_at=again)
    return None


def refused_lately(facts: Facts, ask: Ask, card: ModelCard) -> bool:
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


def reject(
    card: ModelCard, code: str, reason: Words, *, usd: Decimal | None = None, ready_at: datetime | None = None
) -> Rejected:
    """A rejection of this card."""
    return Rejected(backend=card.backend, model=card.id, code=code, reason=reason, usd=usd, ready_at=ready_at)
