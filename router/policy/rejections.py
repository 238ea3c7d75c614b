"""Why an offer may not take a job, each reason in words with the time at which it ends, if it does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Self

from router.contract.card import ModelCard, Where
from router.contract.errors import BackendError, GenerationFailed, OutOfMemory, RateLimited, Unavailable
from router.contract.job import Rejected
from router.contract.request import Mode, Substitutes, VideoRequest
from router.contract.words import Words, words
from router.policy.fitted import Fitted
from router.policy.snapshot import Ask, Facts, Money
from router.pricing import cents, from_micros, money, to_micros

AGAIN_AFTER = timedelta(seconds=30)
"""A job comes back to an offer that was unavailable no sooner than this."""
_FINAL_AT_HOME = {BackendError.code, GenerationFailed.code, OutOfMemory.code}
"""What our own device refuses before it begins (a clip beyond the card, damaged weights, a language it does not read) it
refuses again."""
TRIES, TRIES_AT_HOME = 2, 4
"""How often a job that waits for its price is made at an offer that fails it; at home, where a failure costs electricity
alone, the later tries come after everybody else."""
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
    if pref.forbid and {card.backend, card.id, card.family} & set(pref.forbid):
        return reject(card, "forbidden", words("forbidden by the request", "リクエストで禁止されています"))
    if tier is None:
        return reject(card, "model", words("another model was named", "別のモデルが指定されています"))
    if mode is Mode.LOCAL_ONLY and card.where is not Where.HOUSE:
        return reject(
            card, "mode", words("local-only: nothing leaves the house", "local-only: 外部には送信しません")
        )
    if not (card.only_when_named or card.demo):
        return None
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


@dataclass
class Purse:
    """What the budgets still allow, and what the jobs of this pass have taken of it, in micro-dollars."""

    money: Money
    pace: int | None = None
    spent: int = 0

    @classmethod
    def of(cls, facts: Facts) -> Self:
        """As the snapshot has it."""
        return cls(facts.money, facts.pace.left(facts.now) if facts.pace is not None else None)

    def __post_init__(self) -> None:
        """Nothing is taken yet."""
        self.by_project: dict[str, int] = {}

    def take(self, project: str | None, most: int) -> None:
        """One job starts."""
        self.spent += most
        if project:
            self.by_project[project] = self.by_project.get(project, 0) + most

    def left(self, project: str | None) -> int | None:
        """The most that one more job may cost; None without any budget."""
        lefts = [x - self.spent for x in (self.money.day, self.money.month, self.pace) if x is not None]
        mine = self.money.project_day.get(project) if project else None
        if mine is not None:
            lefts.append(mine - self.by_project.get(project or "", 0))
        return min(lefts, default=None)


def money_says(
    facts: Facts, purse: Purse, ask: Ask, card: ModelCard, made: Fitted, local_full_usd: Decimal | None
) -> Rejected | None:
    """Caps, budgets and the user's own thresholds; `purse` is as the snapshot has it, other jobs take from it later."""
    pref, price = ask.request.preferences, made.price
    if price is None:
        return _unknown_price(facts, ask, card)
    if made.most == 0:
        return None
    if card.where is not Where.HOUSE:
        no = _too_expensive(facts, card, made, price.usd, local_full_usd)
        if no is not None:
            return no
    if pref.max_usd is not None and ask.spent + made.most > to_micros(pref.max_usd):
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
    return over_budget(purse, ask, card, made)


def _unknown_price(facts: Facts, ask: Ask, card: ModelCard) -> Rejected | None:
    pref, left = ask.request.preferences, facts.money
    project = ask.request.project
    limits = (
        pref.max_usd,
        left.day,
        left.month,
        left.project_day.get(project) if project else None,
        facts.too_expensive_per_second,
        facts.too_expensive_multiple,
        facts.pace,
    )
    if pref.allow_unknown_price or all(limit is None for limit in limits):
        return None
    return reject(
        card,
        "price_unknown",
        words(
            "its price is not known and a cap or budget applies (preferences.allow_unknown_price allows it)",
            "価格が不明で、上限または予算が設定されています(preferences.allow_unknown_price で許可できます)",
        ),
    )


def _too_expensive(
    facts: Facts, card: ModelCard, made: Fitted, usd: Decimal, local_full_usd: Decimal | None
) -> Rejected | None:
    threshold = facts.too_expensive_per_second
    if threshold is not None and (per_second := usd / Decimal(str(made.duration or 1))) > threshold:
        limit = money(threshold)
        return reject(
            card,
            "too_expensive",
            words(
                f"${money(round(per_second, 4))} per second is above the limit of ${limit}",
                f"1 秒あたり ${money(round(per_second, 4))} は上限 ${limit} を超えています",
            ),
            usd=usd,
        )
    multiple = facts.too_expensive_multiple
    if multiple is not None and local_full_usd is not None and usd > multiple * local_full_usd:
        full, most = money(cents(local_full_usd)), money(cents(multiple * local_full_usd))
        return reject(
            card,
            "too_expensive",
            words(
                f"above ${most}, {multiple.normalize():f} times the ${full} that our own card costs in full for this clip",
                f"自前の GPU の総費用(この動画で ${full})の {multiple.normalize():f} 倍にあたる ${most} を超えています",
            ),
            usd=usd,
        )
    return None


def over_budget(purse: Purse, ask: Ask, card: ModelCard, made: Fitted) -> Rejected | None:
    """Which budget does not hold this reservation any more, and when that budget turns."""
    most, money_left, project = made.most, purse.money, ask.request.project
    if most == 0 or made.price is None:
        return None
    project_left = money_left.project_day.get(project) if project else None
    if project_left is None and money_left.day is None and money_left.month is None:
        return None
    lefts = (
        (
            f"project {project}",
            project_left,
            purse.by_project.get(project or "", 0),
            "the project's budget",
            "プロジェクト予算",
        ),
        ("day", money_left.day, purse.spent, "today's budget", "本日の予算"),
        ("month", money_left.month, purse.spent, "this month's budget", "今月の予算"),
    )
    for name, left_micros, taken, en, ja in lefts:
        if left_micros is not None and most > left_micros - taken:
            left = money(from_micros(max(left_micros - taken, 0)))
            turns_at = money_left.month_turns_at if name == "month" else money_left.day_turns_at
            return reject(
                card,
                "budget",
                words(
                    f"${money(made.price.most_usd)} does not fit {en}: ${left} left",
                    f"${money(made.price.most_usd)} は{ja}に収まりません(残り ${left})",
                ),
                usd=made.price.usd,
                ready_at=turns_at if most <= money_left.caps.get(name, most) else None,
            )
    return None


def ahead_of_pace(facts: Facts, taken: int, card: ModelCard, made: Fitted) -> Rejected | None:
    """The day's budget runs ahead of the clock: this job's money is not due yet. `taken`: by jobs of this pass."""
    pace = facts.pace
    if pace is None or made.most == 0 or made.price is None:
        return None
    left = max(pace.left(facts.now) - taken, 0)
    if made.most <= left:
        return None
    now = money(cents(from_micros(left)))
    return reject(
        card,
        "too_expensive",
        words(
            f"too expensive now: today's spending is ahead of the clock, ${now} may be spent at the moment",
            f"現時点では割高です。本日の支出が時間配分より先行しており、いま使えるのは ${now} です",
        ),
        usd=made.price.usd,
        ready_at=replace(pace, spent=pace.spent + taken).ready_at(made.most) or pace.ends,
    )


def tried_here(
    facts: Facts, ask: Ask, card: ModelCard, usd: Decimal | None, patient: bool
) -> Rejected | None:
    """What this job's own earlier attempts say about the offer; who is `patient` waits for its price (`cheapest`)."""
    for tried in reversed(ask.tried):
        # A backend that could not be reached a moment ago is not asked again under another model's name.
        down = tried.code == Unavailable.code and tried.model.partition("/")[0] == card.backend
        if tried.free_retry or not (down or tried.model == card.id):
            continue
        if tried.accepted and patient and tried.code == GenerationFailed.code:
            # A failure is part of the price: once more there, unless it failed too often.
            most = TRIES_AT_HOME if card.where is Where.HOUSE else TRIES
            if _failures(ask, card) < most:
                return None
        if tried.accepted:
            text = words("already failed for this job", "このジョブですでに失敗しています")
            return reject(card, "tried", text, usd=usd)
        if card.where is Where.HOUSE and tried.model == card.id and tried.code in _FINAL_AT_HOME:
            text = words("refused this job before it began", "このジョブは開始前に拒否されています")
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


def worn(ask: Ask, card: ModelCard) -> bool:
    """Our own device failed this job as often as a provider may: from here on it is the last resort."""
    return _failures(ask, card) >= TRIES


def _failures(ask: Ask, card: ModelCard) -> int:
    return sum(1 for t in ask.tried if t.model == card.id and t.accepted and not t.free_retry)


def refused_lately(facts: Facts, ask: Ask, card: ModelCard) -> bool:
    """A rate limit turned this job away a moment ago: whoever else can start goes first.

    Two models of one backend that both refuse, or one where no limit of its own is documented, mean the account.
    """
    if not ask.tried:
        return False
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
