"""`understudy keys`: make, list and revoke the API keys of our own callers."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import _options as o
from router.cli._app import keys as app
from router.cli._door import door_of
from router.cli._request import usd
from router.cli._show import moment
from router.cli._text import t
from router.contract.errors import ServerTrouble
from router.contract.words import words
from router.pricing import money

if TYPE_CHECKING:
    from router.gateway import ApiKey, Budget, Gateway, Keyring

Name = Annotated[
    str, typer.Argument(help=t("Name of the key, such as ci.", "キーの名前(ci など)。"), show_default=False)
]


def _ring(gateway: "Gateway") -> "Keyring":
    if gateway.keyring is None:
        raise ServerTrouble(words("the gateway is not open", "ゲートウェイが開いていません"))
    return gateway.keyring


def _row(key: "ApiKey") -> dict[str, Any]:
    return {
        "name": key.name,
        "prefix": key.prefix,
        "project": key.project,
        "day_usd": money(key.day_usd),
        "month_usd": money(key.month_usd),
        "created_at": key.created_at.isoformat(),
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }


@app.command(
    help=t(
        "Make a key for a program; it is shown once, only a hash is kept.",
        "プログラム用のキーを作成します。キーは一度だけ表示し、保存するのはハッシュのみです。",
    )
)
def add(
    context: typer.Context,
    name: Name,
    project: Annotated[
        str | None,
        typer.Option(
            "--project",
            help=t(
                "Its jobs belong to this project, and it sees no others.",
                "ジョブをこのプロジェクトに計上し、他のプロジェクトのジョブは見えません。",
            ),
        ),
    ] = None,
    day_usd: Annotated[
        str | None, typer.Option("--day-usd", help=t("Hard budget per day.", "1 日の予算(厳格)。"))
    ] = None,
    month_usd: Annotated[
        str | None, typer.Option("--month-usd", help=t("Hard budget per month.", "1 か月の予算(厳格)。"))
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """From the first key on, the API wants a key or the server's token."""
    door = door_of(context)
    door.json = as_json
    day = None if day_usd is None else usd(day_usd, "--day-usd")
    month = None if month_usd is None else usd(month_usd, "--month-usd")

    async def work(gateway: "Gateway") -> "tuple[ApiKey, str]":
        return await _ring(gateway).add(name, project=project, day_usd=day, month_usd=month)

    key, secret = door.ask(work)
    if door.json:
        door.value({**_row(key), "key": secret})
    else:
        door.out.print(secret, markup=False)
    door.note(
        words(
            "This is the only time the key is shown. Send it as: Authorization: Bearer <key>",
            "キーが表示されるのは今回だけです。Authorization: Bearer <キー> として送信してください。",
        )
    )
    if door.settings().server.token is None:
        door.note(
            words(
                "No UNDERSTUDY_SERVER_TOKEN is set: the page needs it from now on.",
                "UNDERSTUDY_SERVER_TOKEN が未設定です。今後、画面を使うには設定が必要です。",
            ),
            style="yellow",
        )


@app.command(
    "list",
    help=t(
        "Keys with their budgets; never the keys themselves.",
        "キーと予算を一覧します(キー自体は表示しません)。",
    ),
)
def listing(context: typer.Context, as_json: o.AsJson = False) -> None:
    """Revoked ones too: the books name them."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> "tuple[tuple[ApiKey, ...], tuple[Budget, ...]]":
        return await _ring(gateway).list(), (await gateway.spend()).budgets

    found, budgets = door.ask(work)
    spent = {(row.scope, row.period): row.spent_usd for row in budgets}
    if door.json:
        rows = []
        for key in found:
            used = {f"{p}_spent_usd": money(spent.get((f"key {key.name}", p))) for p in ("day", "month")}
            rows.append({**_row(key), **used})
        door.value(rows)
        return
    if not found:
        door.say(words("There are no keys.", "キーはありません。"))
        return

    def of(key: "ApiKey", period: str) -> str:
        cap = key.day_usd if period == "day" else key.month_usd
        if cap is None:
            return "-"
        return f"{door.amount(spent.get((f'key {key.name}', period)))} / {door.amount(cap)}"

    door.table(
        (
            words("key", "キー"),
            words("begins with", "先頭"),
            words("project", "プロジェクト"),
            words("today", "本日"),
            words("this month", "今月"),
            words("created", "作成"),
            words("state", "状態"),
        ),
        (
            (
                key.name,
                f"{key.prefix}…",
                key.project or "-",
                of(key, "day"),
                of(key, "month"),
                moment(key.created_at),
                words(f"revoked {moment(key.revoked_at)}", f"失効 {moment(key.revoked_at)}").in_(door.lang)
                if key.revoked_at
                else words("active", "有効").in_(door.lang),
            )
            for key in found
        ),
    )


@app.command(
    help=t(
        "A key opens nothing any more; its jobs go on.", "キーを失効させます。実行中のジョブは続行します。"
    )
)
def revoke(context: typer.Context, name: Name, as_json: o.AsJson = False) -> None:
    """Running servers know it within a second."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> "ApiKey":
        return await _ring(gateway).revoke(name)

    key = door.ask(work)
    if door.json:
        door.value(_row(key))
        return
    door.say(
        words(
            f"Key {key.name} is revoked. Its jobs go on, and its budgets hold for them.",
            f"キー {key.name} を失効させました。実行中のジョブは続行し、予算も引き続き適用されます。",
        )
    )
