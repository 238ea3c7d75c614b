"""How money, moments and decisions look on a terminal."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from router.cli._door import Door
from router.contract.job import Decision, Rejected
from router.contract.words import words

if TYPE_CHECKING:
    from router.gateway import Finish

NAMED = 6
"""How many models that are out for one reason are named; the rest is counted. `--json` has them all."""


def moment(at: datetime | None) -> str:
    """The reader's own clock time."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def shorten(text: str, length: int) -> str:
    """One line of at most that many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _together(door: Door, rejected: Iterable[Rejected]) -> list[tuple[str, str, str]]:
    """Models of one backend that are out for one reason share a line."""
    groups: dict[tuple[str, str], list[Rejected]] = {}
    others: list[Rejected] = []
    for out in rejected:
        if out.code == "model":
            # The request named another model: that is no news about any of these.
            others.append(out)
            continue
        groups.setdefault((out.backend, out.reason.in_(door.lang)), []).append(out)
    lines = []
    for (backend, why), outs in groups.items():
        if len(outs) == 1:
            lines.append((outs[0].model, door.amount(outs[0].usd), why))
            continue
        shown = [out.model.partition("/")[2] for out in outs[:NAMED]]
        names = ", ".join([*shown, *([f"+{len(outs) - NAMED}"] if len(outs) > NAMED else [])])
        prices = {door.amount(out.usd) for out in outs}
        many = words(f"{backend}, {len(outs)} models", f"{backend} の {len(outs)} モデル").in_(door.lang)
        lines.append((many, prices.pop() if len(prices) == 1 else "…", f"{why} ({names})"))
    if others:
        many = words(f"{len(others)} other models", f"ほかの {len(others)} モデル").in_(door.lang)
        lines.append((many, "", others[0].reason.in_(door.lang)))
    return lines


def show_finishes(
    door: Door, decision: Decision, count: int, finishes: "Sequence[Finish]", beyond: "Sequence[Finish]"
) -> None:
    """The soonest common end of many clips, then later ones that cost less; `beyond`: those a larger budget would buy."""
    if beyond:
        least = door.amount(beyond[-1].usd)
        door.say(
            words(
                f"The budget does not hold {count} such clips; the cheapest way costs {least}:",
                f"この予算では {count} 本を作成できません。最も安い方法でも {least} かかります:",
            )
        )
    elif not finishes:
        door.say(
            words(
                f"{count} such clips cannot be made so: {decision.reason.en}",
                f"この条件では {count} 本を作成できません: {decision.reason.ja}",
            )
        )
        return
    heads = (
        words("done by", "完了予定"),
        words("together", "合計"),
        words("each", "1 本あたり"),
        words("where", "内訳"),
    )
    rows = []
    for finish in finishes or beyond:
        each = None if finish.usd is None else finish.usd / count
        where = ", ".join(f"{share.model} × {share.jobs}" for share in finish.shares)
        rows.append((moment(finish.at), door.amount(finish.usd), door.amount(each), where))
    door.table(heads, rows)
    door.say(
        words(
            "What others bill, failures on the way included; our own device costs its electricity. Jobs that already wait "
            "are not counted in. To have it so, give each job --mode cheapest and that time as --deadline.",
            "プロバイダーの請求見込み額(途中の失敗分を含む)です。自前のデバイスは電気代のみで、ここには含みません。待機中のジョブは"
            "考慮していません。この計画で実行するには、各ジョブに --mode cheapest と、その時刻を --deadline として指定してください。",
        )
    )


def show_decision(door: Door, decision: Decision) -> None:
    """The sentence, then every offer: the chosen one first, the rejected ones with their reason."""
    door.say(decision.reason)
    heads = (words("model", "モデル"), words("price", "価格"), words("seconds", "秒"), words("why", "理由"))
    chosen = decision.chosen.model if decision.chosen else None
    rows = [
        (
            f"{'→' if offer.model == chosen else ' '} {offer.model}",
            door.amount(offer.usd),
            f"{offer.seconds:.0f}",
            offer.reason.in_(door.lang),
        )
        for offer in decision.candidates
    ]
    rows += [(f"✗ {who}", cost, "", why) for (who, cost, why) in _together(door, decision.rejected)]
    if rows:
        door.table(heads, rows)
