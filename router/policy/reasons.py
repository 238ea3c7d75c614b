"""One sentence for a decision: why there, or why nowhere, in both languages."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from router.contract.job import Rejected
from router.contract.request import Mode, VideoRequest
from router.contract.words import Words, words

if TYPE_CHECKING:
    from router.policy.options import Option

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


def nearest(rejected: Sequence[Rejected]) -> Rejected | None:
    """The rejection that the caller is most likely to want to hear about."""
    rank = {code: i for i, code in enumerate(_NEAR)} | {"model": len(_NEAR) + 1, "forbidden": len(_NEAR) + 1}
    return min(
        rejected, key=lambda r: (rank.get(r.code, len(_NEAR)), len(r.reason.en), r.model), default=None
    )


def why_candidate(house: bool, usd: Decimal | None, late: bool, unsafe: bool) -> Words:
    """A word or two beside a candidate."""
    if late:
        return _LATE
    if unsafe:
        return _UNSAFE
    if house:
        return _OWN
    return _NO_PRICE if usd is None else _CLOUD


_LATE = words("expected after the deadline", "期限に間に合わない見込みです")
_UNSAFE = words("may come after the deadline", "期限に間に合わない可能性があります")
_OWN = words("our own device, no bill", "自前のデバイス(請求なし)")
_NO_PRICE = words("price not known", "価格不明")
_CLOUD = words("cloud", "クラウド")


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


def why_chosen(
    request: VideoRequest, mode: Mode, best: "Option", rejected: Sequence[Rejected], named: frozenset[str]
) -> Words:
    """One sentence; for the understudy it says what kept the cloud off the stage."""
    if best.tier > 0:
        why = join(
            list(_distinct([r for r in rejected if r.code in _BLOCKED and r.model in named]).values())[:3]
        )
        return words(
            f"stands in for {request.model}" + (f": {why.en}" if why.en else ""),
            f"{request.model} の代役" + (f": {why.ja}" if why.ja else ""),
        )
    blocked = [r for r in rejected if r.code in _BLOCKED and r.backend != best.offer.card.backend]
    if best.house and mode is Mode.CLOUD_FIRST and blocked:
        reasons = join(list(_distinct(blocked).values())[:3])
        return words(f"local stands in: {reasons.en}", f"ローカルが代役: {reasons.ja}")
    if request.model == best.model:
        return words("the model that was named", "指定されたモデルです")
    if best.house and mode is Mode.CLOUD_FIRST:
        return words("local: no cloud model can do it", "ローカル: 対応できるクラウドモデルがありません")
    return _MODE_WORDS[mode, best.house]


def saves_more(jobs: int, least: float, mine: float, per_second: bool) -> Words:
    """Why a full offer refused a job: what the jobs it keeps save there, and what this one would."""
    if jobs == 0:
        return words("all its places are taken", "同時実行数の上限に達しています")
    en, ja = (" per second", "1 秒あたり ") if per_second else ("", "")
    many = "1 job saves" if jobs == 1 else f"{jobs} jobs save"
    if math.isinf(least) or least <= mine:
        return words(
            f"{many} as much{en} and go first", f"同じ額以上を節約する {jobs} 件のジョブが先に入ります"
        )
    return words(
        f"{many} more{en} (at least ${_short(least)}; this one ${_short(mine)})",
        f"より多く節約するジョブが {jobs} 件あります({ja}最低 ${_short(least)}、このジョブは ${_short(mine)})",
    )


def _short(usd: float) -> str:
    return f"{max(usd, 0.0):.4f}".rstrip("0").rstrip(".") if usd >= 0.0001 or usd <= 0 else f"{usd:.6f}"


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


def join(reasons: Sequence[Words]) -> Words:
    """Several reasons in one line."""
    return words("; ".join(r.en for r in reasons), "、".join(r.ja for r in reasons))
