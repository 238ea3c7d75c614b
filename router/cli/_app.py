"""The command tree's root and the options that stand before a command."""

import importlib.metadata
from typing import Annotated

import typer

from router.cli._door import door_of
from router.cli._text import t
from router.contract.errors import InvalidRequest
from router.contract.words import words

app = typer.Typer(
    name="understudy",
    help=t(
        "Video generation: cloud providers first, your own GPU as the understudy.",
        "動画生成ゲートウェイ。まずクラウド、だめなら手元の GPU が代役を務めます。",
    ),
    no_args_is_help=True,
    # The boxed help cuts lines of Japanese, which has no spaces, with an ellipsis.
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ledger = typer.Typer(help=t("The money book.", "台帳。"), no_args_is_help=True, rich_markup_mode=None)
app.add_typer(ledger, name="ledger")
keys = typer.Typer(
    help=t("API keys of your programs, with budgets.", "プログラム用の API キーと予算。"),
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(keys, name="keys")
models = typer.Typer(help=t("List models, with prices.", "モデルと価格を一覧します。"), rich_markup_mode=None)
app.add_typer(models, name="models", invoke_without_command=True)
providers = typer.Typer(
    help=t(
        "List backends: keys, balance, health, price dates.",
        "バックエンドを一覧します(キー、残高、状態、価格の日付)。",
    ),
    rich_markup_mode=None,
)
app.add_typer(providers, name="providers", invoke_without_command=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"understudy {importlib.metadata.version('understudy-gateway')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    lang: Annotated[
        str | None,
        typer.Option("--lang", help=t("Language of messages: en or ja.", "メッセージの言語: en または ja。")),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help=t("Print the version.", "バージョンを表示します。"),
        ),
    ] = False,
) -> None:
    """Take the language."""
    if lang is not None:
        if lang not in {"en", "ja"}:
            raise InvalidRequest(
                words(f"--lang: {lang!r} is not en or ja", f"--lang: {lang!r} は en でも ja でもありません")
            )
        door_of(context).lang = "ja" if lang == "ja" else "en"
