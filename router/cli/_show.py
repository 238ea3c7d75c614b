"""How money, moments and decisions look on a terminal."""

from datetime import datetime
from decimal import Decimal

from router.cli._door import Door
from router.contract.job import Decision
from router.contract.words import words
from router.pricing import money


def dollars(value: Decimal | None) -> str:
    """`$0.25`, or `?` where the amount is not known."""
    return "?" if value is None else f"${money(value)}"


def moment(at: datetime | None) -> str:
    """The reader's own clock time."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def shorten(text: str, length: int) -> str:
    """One line of at most that many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def show_decision(door: Door, decision: Decision) -> None:
    """The sentence, then every offer: the chosen one first, the rejected ones with their reason."""
    door.say(decision.reason)
    heads = (words("model", "モデル"), words("price", "価格"), words("seconds", "秒"), words("why", "理由"))
    chosen = decision.chosen.model if decision.chosen else None
    rows = [
        (
            f"{'→' if offer.model == chosen else ' '} {offer.model}",
            dollars(offer.usd),
            f"{offer.seconds:.0f}",
            offer.reason.in_(door.lang),
        )
        for offer in decision.candidates
    ]
    rows += [(f"✗ {out.model}", dollars(out.usd), "", out.reason.in_(door.lang)) for out in decision.rejected]
    if rows:
        door.table(heads, rows)
