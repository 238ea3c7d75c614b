"""Own card or API: electricity and full cost of a clip, and the clips a day from which owning is cheaper."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from router import breakeven
from router.cli._door import Door
from router.contract.words import Words, words
from router.pricing import money

if TYPE_CHECKING:
    from router.gateway import Gateway, ModelRow


def say_assumptions(door: Door) -> None:
    """What the figures rest on; all of it can be set."""
    card = door.settings().local.cost
    percent, resale = f"{card.utilisation:.0%}", f"{card.resale_share:.0%}"
    kwh, bought = door.amount(card.kwh_usd), door.amount(card.card_usd + card.host_usd)
    upkeep = door.amount(card.upkeep_usd)
    door.say(
        words(
            f"Assumed ([local] in the settings): {card.watts:f} W at work, {card.idle_watts:f} W idle, {kwh} a kWh, "
            f"bought for {bought}, {resale} resale after {card.years:f} years, {upkeep} upkeep a year, at work {percent} "
            "of the time.",
            f"仮定(設定の [local]): 稼働時 {card.watts:f} W、待機時 {card.idle_watts:f} W、1 kWh {kwh}、購入額 {bought}、"
            f"{card.years:f} 年後の売却 {resale}、維持費 年 {upkeep}、稼働率 {percent}。",
        )
    )


def show(door: Door, seconds: float | None, prices: list[Decimal]) -> None:
    """A table, or one JSON value."""

    async def work(gateway: "Gateway") -> "tuple[ModelRow, ...]":
        return await gateway.models()

    rows = door.ask(work)
    card = door.settings().local.cost
    local = [row for row in rows if row.card.local is not None and not row.card.demo]
    times = (
        [(words("a clip", "1 本"), Decimal(str(seconds)))]
        if seconds is not None
        else [(words(row.card.id, row.card.id), Decimal(str(row.card.typical_seconds))) for row in local]
    )
    against = _against(rows, prices)
    figures = [(what, s, breakeven.marginal(card, s), breakeven.full(card, s)) for what, s in times]
    if door.json:
        door.value(_as_json(card, figures, against))
        return
    clip, each = words("on our own card", "自前の GPU"), words("against", "比較対象")
    heads = (
        clip,
        words("seconds", "秒"),
        words("electricity", "電気代"),
        words("full cost", "総費用"),
        each,
        words("from clips a day", "1 日の本数"),
        words("hours a day", "1 日の時間"),
    )
    table = []
    for what, s, v, k in figures:
        for name, usd_ in against or [("-", None)]:
            clips, hours = _clips(card, s, usd_)
            shown = f"{name} {door.amount(usd_)}" if usd_ is not None else name
            table.append(
                (
                    what.in_(door.lang),
                    f"{s:f}",
                    door.amount(_fine(v)),
                    door.amount(_fine(k)),
                    shown,
                    clips,
                    hours,
                )
            )
    door.table(heads, table)
    door.say(
        words(
            f"The router compares electricity alone; the card itself costs {door.amount(_fine(breakeven.fixed(card)))} a year.",
            f"ルーターが比較するのは電気代のみです。GPU の固定費は年 {door.amount(_fine(breakeven.fixed(card)))} です。",
        )
    )
    say_assumptions(door)
    if door.display.rate:
        door.say(words(f"Rate: {door.display.rate}", f"レート: {door.display.rate}"))


def _against(rows: "tuple[ModelRow, ...]", prices: list[Decimal]) -> list[tuple[str, Decimal | None]]:
    """The prices to beat: what was typed, else the catalogue's cloud models that have a key here, with their dates."""
    if prices:
        return [("API", usd_) for usd_ in prices]
    return [
        (f"{row.card.id} ({row.price_as_of})", row.usd_example)
        for row in rows
        if row.card.local is None and row.available and row.usd_example
    ]


def _clips(card: breakeven.Card, seconds: Decimal, price: Decimal | None) -> tuple[str, str]:
    found = None if price is None else breakeven.break_even(card, seconds, price)
    if found is None:
        return "-", "-"
    return f"{found / 365:.1f}", f"{breakeven.hours_a_day(found, seconds):.1f}"


def _fine(usd_: Decimal) -> Decimal:
    """Tenths of a cent are enough for a sum that rests on assumptions; below a cent, hundredths."""
    return usd_.quantize(Decimal("0.0001") if usd_ < 1 else Decimal("0.01"))


def _as_json(
    card: breakeven.Card,
    figures: list[tuple[Words, Decimal, Decimal, Decimal]],
    against: list[tuple[str, Decimal | None]],
) -> dict[str, Any]:
    def compared(seconds: Decimal) -> list[dict[str, Any]]:
        rows = []
        for name, price in against:
            found = None if price is None else breakeven.break_even(card, seconds, price)
            rows.append(
                {
                    "against": name,
                    "usd": money(price),
                    "clips_per_day": None if found is None else round(float(found / 365), 2),
                    "hours_per_day": None
                    if found is None
                    else round(float(breakeven.hours_a_day(found, seconds)), 2),
                }
            )
        return rows

    return {
        "assumptions": {name: f"{value:f}" for name, value in vars(card).items()},
        "fixed_usd_per_year": money(breakeven.fixed(card)),
        "clips": [
            {
                "what": what.en,
                "seconds": float(seconds),
                "electricity_usd": money(v),
                "full_usd": money(k),
                "break_even": compared(seconds),
            }
            for what, seconds, v, k in figures
        ],
    }
