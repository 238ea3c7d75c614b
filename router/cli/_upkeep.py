"""Commands that look after an installation: demo, doctor, backup, restore, ledger verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import _options as o
from router.cli._app import app, ledger
from router.cli._door import FAILED, door_of
from router.cli._text import t
from router.contract.words import Words, words

if TYPE_CHECKING:
    from router.doctor import Finding
    from router.gateway import Gateway


@app.command(
    help=t("Show what Understudy does, without keys or a GPU.", "キーも GPU も使わずに、動作を実演します。")
)
def demo(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Option("--folder", help=t("Made afresh at each run.", "毎回作り直すフォルダー。")),
    ] = Path("demo-output"),
    as_json: o.AsJson = False,
) -> None:
    """Exit code 0 only when every case ended as it should."""
    from router.demo import Demo

    door = door_of(context)
    door.json = as_json
    show = Demo(folder=folder.absolute(), lang=door.lang, console=door.err if as_json else door.out)
    rows, good = door.run(show.run())
    if as_json:
        door.value(rows)
    door.stop(0 if good else FAILED)


SHOWN = 50
"""How many problems of the ledger are listed."""
_MARKS = {"ok": "[green]✓[/]", "note": "[yellow]![/]", "problem": "[red]✗[/]"}


@app.command(help=t("What is wrong here, and how to fix it.", "このインストールの問題と直し方を表示します。"))
def doctor(
    context: typer.Context,
    host: Annotated[
        str, typer.Option("--host", help=t("Address serve would use.", "serve のアドレス。"))
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help=t("Port serve would use.", "serve のポート。"))
    ] = 7860,
    as_json: o.AsJson = False,
) -> None:
    """Exit code 1 when there is a problem."""
    from router.doctor import Level, examine

    door = door_of(context)
    door.json = as_json

    def line(finding: "Finding") -> Words:
        fix = words("", "") if finding.fix is None else words(f" → {finding.fix.en}", f" → {finding.fix.ja}")
        return words(f"{finding.what.en}{fix.en}", f"{finding.what.ja}{fix.ja}")

    async def work() -> "list[Finding]":
        findings = []
        async for finding in examine(door.environ, door.open_gateway, host=host, port=port):
            findings.append(finding)
            if not as_json:
                door.out.print(_MARKS[finding.level.value], finding.check + ":", end=" ")
                door.say(line(finding))
        return findings

    findings = door.run(work())
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    if as_json:
        door.value(
            [
                {
                    "check": finding.check,
                    "level": finding.level.value,
                    "what": finding.what.in_(door.lang),
                    "fix": finding.fix.in_(door.lang) if finding.fix else None,
                }
                for finding in findings
            ]
        )
    elif problems:
        door.say(words(f"{problems} problem(s).", f"問題が {problems} 件あります。"))
    else:
        door.say(words("No problems.", "問題はありません。"))
    door.stop(FAILED if problems else 0)


@app.command(
    help=t(
        "Save both databases, and media if wanted, to one file.",
        "データベース(必要ならメディアも)を 1 つのファイルに保存します。",
    )
)
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help=t("New file.", "作成するファイル。"), show_default=False)],
    media: Annotated[
        bool, typer.Option("--media", help=t("Clips and inputs too.", "動画と入力画像も含めます。"))
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Safe while a server runs."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> dict[str, Any]:
        return await gateway.backup(file.expanduser().absolute(), media=media)

    told = door.ask(work)
    if as_json:
        door.value(told)
    else:
        door.say(words(f"Saved to {file}.", f"{file} に保存しました。"))


@app.command(
    help=t(
        "Bring a backup back into an empty data folder.", "バックアップを空のデータフォルダーに復元します。"
    )
)
def restore(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(help=t("File made by backup.", "backup で作成したファイル。"), show_default=False),
    ],
    as_json: o.AsJson = False,
) -> None:
    """Refuses to overwrite jobs that are there."""
    from router.gateway import Gateway

    door = door_of(context)
    door.json = as_json
    told = door.run(Gateway.restore(door.settings(), file.expanduser().absolute()))
    if as_json:
        door.value(told)
    else:
        door.say(words(f"Restored from {file}.", f"{file} から復元しました。"))


@ledger.command(help=t("Check the hash chain of the money book.", "台帳のハッシュ連鎖を検証します。"))
def verify(
    context: typer.Context,
    noted: Annotated[
        str | None,
        typer.Option(
            "--noted",
            help=t(
                "A head that an earlier check printed and you kept elsewhere: it must still be in the chain.",
                "以前の検証で表示され、別の場所に控えておいた末尾。連鎖に含まれているかを確認します。",
            ),
        ),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Exit code 1 when a row was changed, removed, moved or cut off, or a sum differs from its attempt's bill."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> dict[str, Any]:
        return await gateway.verify_ledger(noted)

    told = door.ask(work)
    problems = told["problems"]
    if as_json:
        door.value({**told, "problems": [problem.in_(door.lang) for problem in problems]})
    for problem in problems[:SHOWN]:
        door.note(problem, style="red")
    if len(problems) > SHOWN:
        door.note(words(f"and {len(problems) - SHOWN} more", f"ほか {len(problems) - SHOWN} 件"), style="red")
    door.say(
        words(
            f"{told['rows']} rows, {len(problems)} problem(s).",
            f"{told['rows']} 行を検証しました。問題は {len(problems)} 件です。",
        )
    )
    if not problems:
        door.say(
            words(
                f"Head: {told['head']} (note it elsewhere; --noted checks later that it is still there)",
                f"末尾: {told['head']}(別の場所に控えておくと、後で --noted で確認できます)",
            )
        )
    door.stop(FAILED if problems else 0)
