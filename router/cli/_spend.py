"""What was spent, by day, project and model; what our own device cost beside it."""

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import _options as o
from router.cli._app import app
from router.cli._break_even import say_assumptions, show
from router.cli._door import Door, door_of
from router.cli._request import usd
from router.cli._text import t
from router.contract.errors import InvalidRequest
from router.contract.words import words
from router.pricing import money

if TYPE_CHECKING:
    from router.gateway import Gateway, SpendReport


@app.command(
    help=t(
        "What was spent, by day, project and model; or when an own card pays for itself.",
        "支出を日・プロジェクト・モデル別に表示します。自前の GPU の損益分岐点も計算できます。",
    )
)
def spend(
    context: typer.Context,
    totals: Annotated[
        bool, typer.Option("--totals", help=t("Only the sums and budgets.", "合計と予算のみ。"))
    ] = False,
    break_even: Annotated[
        bool,
        typer.Option(
            "--break-even",
            help=t(
                "Own card or API: electricity, full cost per clip, clips a day from which owning is cheaper.",
                "自前の GPU と API の比較: 電気代、1 本あたりの総費用、所有が得になる 1 日の本数。",
            ),
        ),
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            min=0.1,
            help=t(
                "With --break-even: seconds one clip takes on the card (absent: learned or documented).",
                "--break-even 用: 自前の GPU で 1 本にかかる秒数(省略時は実測値または公表値)。",
            ),
        ),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(
            "--price",
            help=t(
                "With --break-even: an API price per clip to compare with; repeatable (absent: the catalogue's).",
                "--break-even 用: 比較する API の 1 本の価格(複数可。省略時はカタログの価格)。",
            ),
        ),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Settled and still reserved money; budgets and unresolved jobs below."""
    door = door_of(context)
    door.json = as_json
    if break_even:
        show(door, seconds, [usd(text, "--price") for text in price or ()])
        return
    if seconds is not None or price:
        raise InvalidRequest(
            words(
                "--seconds and --price belong to --break-even",
                "--seconds と --price は --break-even と一緒に指定してください",
            )
        )

    async def work(gateway: "Gateway") -> "SpendReport":
        return await gateway.spend()

    report = door.ask(work)
    if door.json:
        door.value(_totals(report) if totals else _rows(report))
        return
    if not totals:
        _table(door, report)
    _say_totals(door, report)


def _rows(report: "SpendReport") -> list[dict[str, Any]]:
    return [
        {
            "day": row.day,
            "project": row.project,
            "backend": row.backend,
            "model": row.model,
            "settled_usd": money(row.settled_usd),
            "reserved_usd": money(row.reserved_usd),
            "attempts": row.attempts,
            "overrun_usd": money(row.overrun_usd),
            "basis": list(row.basis),
        }
        for row in report.rows
    ]


def _table(door: Door, report: "SpendReport") -> None:
    door.table(
        (
            words("day", "日"),
            words("project", "プロジェクト"),
            words("model", "モデル"),
            words("settled", "確定"),
            words("reserved", "予約中"),
            words("attempts", "試行"),
            words("above the table", "価格表の超過"),
            words("who says so", "金額の根拠"),
        ),
        (
            (
                row.day,
                row.project or "-",
                row.model,
                door.amount(row.settled_usd),
                door.amount(row.reserved_usd),
                str(row.attempts),
                door.amount(row.overrun_usd) if row.overrun_usd else "-",
                _basis(door, row.basis),
            )
            for row in report.rows
        ),
    )


_SHORT = {
    "provider": words("provider", "プロバイダー"),
    "table": words("price table", "価格表"),
    "documented": words("free by its documents", "文書により無料"),
    "none": words("not accepted", "受付なし"),
    "person": words("a person", "手動"),
    "free": words("own device", "自前"),
    "unknown": words("unknown", "不明"),
}


def _basis(door: Door, codes: Iterable[str]) -> str:
    return ", ".join(_SHORT[code].in_(door.lang) if code in _SHORT else code for code in codes) or "-"


def _totals(report: "SpendReport") -> dict[str, Any]:
    return {
        "day": report.day,
        "timezone": report.timezone,
        "day_spent_usd": money(report.day_spent_usd),
        "day_budget_usd": money(report.day_budget_usd),
        "month_spent_usd": money(report.month_spent_usd),
        "month_budget_usd": money(report.month_budget_usd),
        "pace_usd": money(report.pace_usd),
        "budgets": [
            {
                "scope": row.scope,
                "period": row.period,
                "spent_usd": money(row.spent_usd),
                "budget_usd": money(row.budget_usd),
            }
            for row in report.budgets
        ],
        "local": [
            {
                "day": row.day,
                "clips": row.clips,
                "seconds": row.seconds,
                "electricity_usd": money(row.electricity_usd),
                "per_clip_usd": money(row.per_clip_usd),
            }
            for row in report.local
        ],
        "owning_day_usd": money(report.owning_day_usd),
        "unresolved": list(report.unresolved),
    }


def _say_totals(door: Door, report: "SpendReport") -> None:
    def of(spent: Decimal, budget: Decimal | None) -> tuple[str, str]:
        have = door.amount(spent)
        if budget is None:
            return f"{have} (no budget set)", f"{have}(予算なし)"
        return f"{have} of {door.amount(budget)}", f"{door.amount(budget)} のうち {have}"

    day, month = (
        of(report.day_spent_usd, report.day_budget_usd),
        of(report.month_spent_usd, report.month_budget_usd),
    )
    door.say(
        words(
            f"Today ({report.day}, {report.timezone}): {day[0]}. This month: {month[0]}.",
            f"本日({report.day}、{report.timezone}): {day[1]}。今月: {month[1]}。",
        )
    )
    for row in report.budgets:
        period = words("today", "本日") if row.period == "day" else words("this month", "今月")
        en, ja = of(row.spent_usd, row.budget_usd)
        door.say(words(f"{row.scope}, {period.en}: {en}.", f"{row.scope}、{period.ja}: {ja}。"))
    if report.pace_usd is not None:
        left = door.amount(report.pace_usd)
        door.say(
            words(
                f"Pacing: {left} may be spent on the cloud now.",
                f"ペース配分: いまクラウドに使えるのは {left} です。",
            )
        )
    _say_local(door, report)
    if door.display.rate:
        door.say(words(f"Rate: {door.display.rate}", f"レート: {door.display.rate}"))
    if report.unresolved:
        listed = ", ".join(report.unresolved)
        door.note(
            words(
                f"Unresolved, waiting for understudy settle: {listed}",
                f"未解決(understudy settle が必要): {listed}",
            ),
            style="yellow",
        )


def _say_local(door: Door, report: "SpendReport") -> None:
    """Beside the bills, never in them: what our own device cost, with what was assumed."""
    for row in report.local:
        power, each = door.amount(row.electricity_usd), door.amount(row.per_clip_usd)
        door.say(
            words(
                f"Own device on {row.day}: {row.clips} clip(s), electricity {power} ({each} a clip).",
                f"自前のデバイス({row.day}): {row.clips} 本、電気代 {power}(1 本あたり {each})。",
            )
        )
    if report.local:
        owning = door.amount(report.owning_day_usd)
        door.say(
            words(
                f"Owning it costs about {owning} a day whether it works or not. None of this is in the sums above.",
                f"所有の費用は稼働にかかわらず 1 日あたり約 {owning} です。以上は上記の合計に含まれません。",
            )
        )
        say_assumptions(door)
