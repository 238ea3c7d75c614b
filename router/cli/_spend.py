"""What was spent, by day, project and model."""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import _options as o
from router.cli._app import app
from router.cli._door import Door, door_of
from router.cli._show import dollars
from router.cli._text import t
from router.contract.words import words
from router.pricing import money

if TYPE_CHECKING:
    from router.gateway import Gateway, SpendReport


@app.command(
    help=t("What was spent, by day, project and model.", "支出を日・プロジェクト・モデル別に表示します。")
)
def spend(
    context: typer.Context,
    totals: Annotated[
        bool, typer.Option("--totals", help=t("Only the sums and budgets.", "合計と予算のみ。"))
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Settled and still reserved money; budgets and unresolved jobs below."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> "SpendReport":
        return await gateway.spend()

    report = door.ask(work)
    rows = [
        {
            "day": row.day,
            "project": row.project,
            "backend": row.backend,
            "model": row.model,
            "settled_usd": money(row.settled_usd),
            "reserved_usd": money(row.reserved_usd),
            "attempts": row.attempts,
            "overrun_usd": money(row.overrun_usd),
        }
        for row in report.rows
    ]
    if door.json:
        door.value(_totals(report) if totals else rows)
        return
    if not totals:
        door.table(
            (
                words("day", "日"),
                words("project", "プロジェクト"),
                words("model", "モデル"),
                words("settled", "確定"),
                words("reserved", "予約中"),
                words("attempts", "試行"),
            ),
            (
                (
                    row.day,
                    row.project or "-",
                    row.model,
                    dollars(row.settled_usd),
                    dollars(row.reserved_usd),
                    str(row.attempts),
                )
                for row in report.rows
            ),
        )
    _say_totals(door, report)


def _totals(report: "SpendReport") -> dict[str, Any]:
    return {
        "day": report.day,
        "timezone": report.timezone,
        "day_spent_usd": money(report.day_spent_usd),
        "day_budget_usd": money(report.day_budget_usd),
        "month_spent_usd": money(report.month_spent_usd),
        "month_budget_usd": money(report.month_budget_usd),
        "unresolved": list(report.unresolved),
    }


def _say_totals(door: Door, report: "SpendReport") -> None:
    def of(spent: Decimal, budget: Decimal | None) -> tuple[str, str]:
        if budget is None:
            return f"{dollars(spent)} (no budget set)", f"{dollars(spent)}(予算なし)"
        return f"{dollars(spent)} of {dollars(budget)}", f"{dollars(budget)} のうち {dollars(spent)}"

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
    if report.unresolved:
        listed = ", ".join(report.unresolved)
        door.note(
            words(
                f"Unresolved, waiting for understudy settle: {listed}",
                f"未解決(understudy settle が必要): {listed}",
            ),
            style="yellow",
        )
