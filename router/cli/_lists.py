"""Commands that list what is there: models, providers, spend."""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import _options as o
from router.cli._app import app
from router.cli._door import Door, door_of
from router.cli._request import usd
from router.cli._show import dollars
from router.cli._text import t
from router.contract.errors import InvalidRequest
from router.contract.request import TASK_ALIASES, Task
from router.contract.words import words
from router.pricing import money

if TYPE_CHECKING:
    from router.gateway import Gateway, ModelRow, ProviderRow, SpendReport


_SHORT = {task: alias for alias, task in TASK_ALIASES.items()}


def _task(name: str | None) -> Task | None:
    if name is None:
        return None
    lower = name.lower()
    known = {**{task.value: task for task in Task}, **TASK_ALIASES}
    if lower not in known:
        raise InvalidRequest(
            words(
                f"--task: {name!r} is not one of {', '.join(Task)}",
                f"--task: {name!r} は次のいずれでもありません: {'、'.join(Task)}",
            )
        )
    return known[lower]


def _model_row(row: "ModelRow", door: Door) -> dict[str, Any]:
    card = row.card
    return {
        "model": card.id,
        "backend": card.backend,
        "family": card.family,
        "title": card.title,
        "where": card.where.value,
        "tasks": [task.value for task in card.tasks],
        "durations": list(card.durations),
        "duration_range": list(card.duration_range) if card.duration_range else None,
        "resolutions": list(card.resolutions),
        "aspect_ratios": list(card.aspect_ratios),
        "audio": card.audio,
        "camera": card.camera,
        "seed": card.seed,
        "available": row.available,
        "why_not": row.why_not.in_(door.lang) if row.why_not else None,
        "usd_example": money(row.usd_example),
        "price_as_of": row.price_as_of,
        "price_stale": row.price_stale,
    }


@app.command(help=t("List models, with prices.", "モデルと価格を一覧します。"))
def models(
    context: typer.Context,
    task: o.TaskName = None,
    aspect: o.Aspect = None,
    max_usd: Annotated[
        str | None,
        typer.Option(
            "--max-usd",
            help=t(
                "Only where a clip with the model's defaults costs at most this.",
                "既定設定の 1 本がこの額以下のもの。",
            ),
        ),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Filters narrow the list; an unknown price passes no --max-usd."""
    door = door_of(context)
    door.json = as_json
    wanted = _task(task)
    most = None if max_usd is None else usd(max_usd, "--max-usd")

    async def work(gateway: "Gateway") -> "tuple[ModelRow, ...]":
        for problem in gateway.problems:
            door.note(problem, style="yellow")
        return await gateway.models()

    rows = [
        row
        for row in door.ask(work)
        if (wanted is None or wanted in row.card.tasks)
        and (aspect is None or not row.card.aspect_ratios or aspect in row.card.aspect_ratios)
        and (most is None or (row.usd_example is not None and row.usd_example <= most))
    ]
    if door.json:
        door.value([_model_row(row, door) for row in rows])
        return
    door.table(
        (
            words("model", "モデル"),
            words("tasks", "タスク"),
            words("seconds", "秒"),
            words("a clip", "1 本の価格"),
            words("prices as of", "価格の日付"),
            words("available", "利用"),
        ),
        (
            (
                row.card.id,
                " ".join(_SHORT.get(task, task.value) for task in row.card.tasks),
                _lengths(row),
                dollars(row.usd_example),
                (row.price_as_of or "") + (" (!)" if row.price_stale else ""),
                row.why_not.in_(door.lang) if row.why_not else "✓",
            )
            for row in rows
        ),
    )


def _lengths(row: "ModelRow") -> str:
    if row.card.duration_range:
        shortest, longest, _ = row.card.duration_range
        return f"{shortest:g}-{longest:g}"
    return " ".join(f"{length:g}" for length in row.card.durations)


def _provider_row(row: "ProviderRow", door: Door) -> dict[str, Any]:
    return {
        "backend": row.name,
        "title": row.title,
        "where": row.where,
        "key_env": list(row.key_env),
        "key_present": row.key_present,
        "models": row.models,
        "problem": row.problem.in_(door.lang) if row.problem else None,
        "resting_until": row.resting_until,
        "resting_why": row.resting_why.in_(door.lang) if row.resting_why else None,
        "in_flight": row.in_flight,
        "price_as_of": row.price_as_of,
        "price_stale": row.price_stale,
    }


def markdown_table(rows: "tuple[ProviderRow, ...]", *, japanese: bool = False) -> str:
    """README's table: only what is the same on every machine."""
    heads = (
        ("バックエンド", "名前", "キーの環境変数", "モデル数", "価格の日付")
        if japanese
        else ("Backend", "Name", "Key variable", "Models", "Prices as of")
    )
    none = "不要" if japanese else "none needed"
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in sorted(rows, key=lambda row: (row.where, row.name)):
        keys = ", ".join(f"`{name}`" for name in row.key_env) or none
        lines.append(f"| `{row.name}` | {row.title} | {keys} | {row.models} | {row.price_as_of or '-'} |")
    return "\n".join(lines)


@app.command(
    help=t("List backends: keys, health, price dates.", "バックエンドを一覧します(キー、状態、価格の日付)。")
)
def providers(
    context: typer.Context,
    markdown: Annotated[
        bool, typer.Option("--markdown", help=t("As README's table.", "README の表の形式で出力します。"))
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Names of keys only, never their values."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> "tuple[ProviderRow, ...]":
        for problem in gateway.problems:
            door.note(problem, style="yellow")
        return await gateway.providers()

    rows = door.ask(work)
    if door.json:
        door.value([_provider_row(row, door) for row in rows])
        return
    if markdown:
        door.out.print(markdown_table(rows, japanese=door.lang == "ja"), markup=False)
        return
    door.table(
        (
            words("backend", "バックエンド"),
            words("where", "場所"),
            words("key", "キー"),
            words("models", "モデル数"),
            words("running", "実行中"),
            words("state", "状態"),
        ),
        (
            (row.name, row.where, _keys(row), str(row.models), str(row.in_flight), _state(row, door))
            for row in rows
        ),
    )


def _keys(row: "ProviderRow") -> str:
    if not row.key_env:
        return "-"
    return f"{'✓' if row.key_present else '✗'} {' '.join(row.key_env)}"


def _state(row: "ProviderRow", door: Door) -> str:
    if row.problem:
        return row.problem.in_(door.lang)
    if row.resting_until:
        why = row.resting_why or words("", "")
        return words(
            f"rests until {row.resting_until}: {why.en}", f"{row.resting_until} まで休止: {why.ja}"
        ).in_(door.lang)
    return words("ready", "利用可能").in_(door.lang)


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
