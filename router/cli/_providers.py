"""`understudy providers`: every backend, its key, balance, health and prices; and one harmless call to try a key."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import _options as o
from router.cli._app import providers as app
from router.cli._door import Door, door_of
from router.cli._text import t
from router.contract.words import words
from router.pricing import money

if TYPE_CHECKING:
    from router.gateway import Checked, Gateway, ProviderRow


def _row(row: "ProviderRow", checked: "Checked | None", door: Door) -> dict[str, Any]:
    return {
        "backend": row.name,
        "title": row.title,
        "where": row.where,
        "key_env": list(row.key_env),
        "key_present": row.key_present,
        "reachable": checked.reachable if checked else None,
        "balance_usd": money(checked.balance_usd) if checked else None,
        "check_problem": checked.problem.in_(door.lang) if checked and checked.problem else None,
        "models": row.models,
        "problem": row.problem.in_(door.lang) if row.problem else None,
        "breaker": row.breaker,
        "resting_until": row.resting_until,
        "resting_why": row.resting_why.in_(door.lang) if row.resting_why else None,
        "in_flight": row.in_flight,
        "limits": [
            {"scope": use.scope, "window": use.window, "used": use.used, "allowed": use.allowed}
            for use in row.limits
        ],
        "price_as_of": row.price_as_of,
        "price_stale": row.price_stale,
    }


def markdown_table(rows: "tuple[ProviderRow, ...]", *, japanese: bool = False) -> str:
    """README's table: only what is the same on every machine."""
    heads = (
        ("バックエンド", "名前", "キーの環境変数", "モデル数", "最も古い価格の日付")
        if japanese
        else ("Backend", "Name", "Key variable", "Models", "Oldest price of")
    )
    none = "不要" if japanese else "none needed"
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in sorted(rows, key=lambda row: (row.where, row.name)):
        keys = ", ".join(f"`{name}`" for name in row.key_env) or none
        lines.append(f"| `{row.name}` | {row.title} | {keys} | {row.models} | {row.price_as_of or '-'} |")
    return "\n".join(lines)


@app.callback()
def providers(
    context: typer.Context,
    markdown: Annotated[
        bool, typer.Option("--markdown", help=t("As README's table.", "README の表の形式で出力します。"))
    ] = False,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help=t(
                "Ask no provider: neither reachable nor balance.",
                "プロバイダーに問い合わせません(到達性と残高は表示しません)。",
            ),
        ),
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Names of keys only, never their values. Where a key is set, one harmless call asks for the balance."""
    if context.invoked_subcommand is not None:
        return
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> "tuple[tuple[ProviderRow, ...], dict[str, Checked]]":
        for problem in gateway.problems:
            door.note(problem, style="yellow")
        rows = await gateway.providers()
        checked = () if offline or markdown else await gateway.check_all()
        return rows, {one.name: one for one in checked}

    rows, checked = door.ask(work)
    if door.json:
        door.value([_row(row, checked.get(row.name), door) for row in rows])
        return
    if markdown:
        door.out.print(markdown_table(rows, japanese=door.lang == "ja"), markup=False)
        return
    door.table(
        (
            words("backend", "バックエンド"),
            words("key", "キー"),
            words("reachable", "到達"),
            words("balance", "残高"),
            words("breaker", "遮断器"),
            words("limits used", "制限の使用"),
            words("prices of", "価格の日付"),
            words("models", "モデル数"),
            words("state", "状態"),
        ),
        (
            (
                row.name,
                _keys(row),
                _reachable(checked.get(row.name), door),
                _balance(checked.get(row.name), door),
                _BREAKER[row.breaker].in_(door.lang),
                _limits(row),
                _dated(row, door),
                str(row.models),
                _state(row, checked.get(row.name), door),
            )
            for row in rows
        ),
    )


_BREAKER = {
    "closed": words("closed", "正常"),
    "open": words("open", "遮断中"),
    "half-open": words("half-open", "試行待ち"),
}


def _keys(row: "ProviderRow") -> str:
    if not row.key_env:
        return "-"
    return f"{'✓' if row.key_present else '✗'} {' '.join(row.key_env)}"


def _reachable(checked: "Checked | None", door: Door) -> str:
    if checked is None or checked.reachable is None:
        return "-"
    return (words("yes", "可") if checked.reachable else words("no", "不可")).in_(door.lang)


def _balance(checked: "Checked | None", door: Door) -> str:
    return "-" if checked is None or checked.balance_usd is None else door.amount(checked.balance_usd)


def _limits(row: "ProviderRow") -> str:
    said = [f"{use.used}/{use.allowed} {use.window}" for use in row.limits if use.scope == row.name]
    said += [
        f"{use.scope.partition('/')[2]} {use.used}/{use.allowed} {use.window}"
        for use in row.limits
        if use.scope != row.name
    ]
    return ", ".join(said) or str(row.in_flight)


def _dated(row: "ProviderRow", door: Door) -> str:
    old = words(" (old)", "(古い)").in_(door.lang)
    return (row.price_as_of or "-") + (old if row.price_stale else "")


def _state(row: "ProviderRow", checked: "Checked | None", door: Door) -> str:
    if row.problem:
        return row.problem.in_(door.lang)
    if checked is not None and checked.problem:
        return checked.problem.in_(door.lang)
    if row.resting_until:
        why = row.resting_why or words("", "")
        return words(
            f"rests until {row.resting_until}: {why.en}", f"{row.resting_until} まで休止: {why.ja}"
        ).in_(door.lang)
    return words("ready", "利用可能").in_(door.lang)


@app.command(
    "check",
    help=t(
        "Try a backend's key with its cheapest harmless call; nothing is bought.",
        "バックエンドのキーを、課金の発生しない呼び出しで確認します。",
    ),
)
def check(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(help=t("Backend, such as kling.", "バックエンド(kling など)。"), show_default=False),
    ],
    as_json: o.AsJson = False,
) -> None:
    """Exit code 0 when the provider took the key, 1 when not, 2 for an unknown name."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> "Checked":
        return await gateway.check(name)

    found = door.ask(work)
    if door.json:
        door.value(
            {
                "backend": found.name,
                "reachable": found.reachable,
                "balance_usd": money(found.balance_usd),
                "facts": dict(found.facts),
            }
        )
        return
    if found.reachable is None:
        door.say(
            words(
                f"{name}: there is no call that would try it without making a clip.",
                f"{name}: 動画を生成せずに確認できる呼び出しがありません。",
            )
        )
        return
    balance = f", ${money(found.balance_usd)}" if found.balance_usd is not None else ""
    door.say(
        words(
            f"{name}: the key works{f'; balance{balance[1:]}' if balance else ''}.",
            f"{name}: キーは有効です{f'(残高{balance[1:]})' if balance else ''}。",
        )
    )
    for key, value in found.facts.items():
        door.out.print(f"  {key}: {json.dumps(value, ensure_ascii=False)}", markup=False)
