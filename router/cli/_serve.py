"""Commands that stay: serve, worker, sandbox."""

import asyncio
import importlib
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import _options as o
from router.cli._app import app
from router.cli._door import Door, door_of, set_up_logging
from router.cli._text import t
from router.contract.errors import ServerTrouble
from router.contract.words import words

if TYPE_CHECKING:
    from fastapi import FastAPI

SANDBOX_ENTRY = "api_providers.sandbox.app:serve"


@app.command(help=t("Serve the API and the page.", "API と画面を提供します。"))
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help=t("Address.", "アドレス。"))] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help=t("Port.", "ポート。"))] = 7860,
    no_page: Annotated[
        bool, typer.Option("--no-page", help=t("The API alone.", "API のみ提供します。"))
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Until Ctrl-C or SIGTERM; waits for a CLI that is just running a job on the same SQLite file."""
    from router.gateway import EngineRole, Gateway
    from router.server.app import serve as run_server

    door = door_of(context)
    door.json = as_json
    settings = door.settings()
    if not no_page and importlib.util.find_spec("gradio") is None:
        raise ServerTrouble(
            words(
                "The page needs Gradio: pip install '.[ui]', or serve the API alone with --no-page.",
                "画面の表示には Gradio が必要です。pip install '.[ui]' を実行するか、--no-page で API のみを提供してください。",
            )
        )
    set_up_logging(door.environ, quiet=False)
    gateway = Gateway.open(settings, EngineRole.SERVE, on_wait=door.note)

    def page(holder: "FastAPI") -> "FastAPI":
        from ui.app import mount

        return mount(holder, gateway)

    def listening(url: str) -> None:
        if door.json:
            door.value({"url": url})
            return
        what = words("API", "API") if no_page else words("Page and API", "画面と API")
        door.say(words(f"{what.en} on {url} (Ctrl-C ends it)", f"{what.ja}: {url}(Ctrl-C で終了)"))

    shown = None if no_page else page
    _stay(door, run_server(gateway, host=host, port=port, page=shown, on_listening=listening))


@app.command(
    help=t(
        "Carry the local jobs of a server (PostgreSQL).", "サーバーのローカルジョブを実行します(PostgreSQL)。"
    )
)
def worker(context: typer.Context, as_json: o.AsJson = False) -> None:
    """An engine without a door, for a GPU box of a PostgreSQL deployment."""
    from router.gateway import EngineRole

    door = door_of(context)
    door.json = as_json
    settings = door.settings()
    if settings.database_url.startswith("sqlite"):
        raise ServerTrouble(
            words(
                "One SQLite file takes one engine, and understudy serve is it. For workers, point "
                "UNDERSTUDY_DATABASE_URL at PostgreSQL and share the media folder.",
                "SQLite ではエンジンは 1 つだけで、understudy serve がその役目を担います。worker を使うには "
                "UNDERSTUDY_DATABASE_URL に PostgreSQL を指定し、メディアフォルダーを共有してください。",
            )
        )
    set_up_logging(door.environ, quiet=False)

    async def work() -> None:
        async with door.open_gateway(settings, EngineRole.WORKER):
            if door.json:
                door.value({"worker": "ready"})
            door.say(
                words("Worker is ready (Ctrl-C ends it).", "ワーカーの準備ができました(Ctrl-C で終了)。")
            )
            await asyncio.Event().wait()

    _stay(door, work())


def _stay(door: Door, work: Coroutine[Any, Any, None]) -> None:
    """Being told to end is how these commands end well."""
    try:
        door.run(work)
    except KeyboardInterrupt:
        door.note(words("Ended.", "終了しました。"))


@app.command(
    help=t(
        "Start the providers' stand-ins, for rehearsal.",
        "リハーサル用に各プロバイダーの代役サーバーを起動します。",
    )
)
def sandbox(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help=t("Address.", "アドレス。"))] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help=t("Port.", "ポート。"))] = 8787,
    tls_port: Annotated[
        int | None,
        typer.Option("--tls-port", min=0, max=65535, help=t("Serve over TLS too.", "TLS でも待ち受けます。")),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option("--tls-ca", help=t("Write the certificate authority here.", "認証局の証明書の出力先。")),
    ] = None,
    with_parent: Annotated[
        bool,
        typer.Option(
            "--with-parent",
            help=t("End when standard input closes.", "標準入力が閉じたら終了します。"),
        ),
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """One server, each twin under its provider's name."""
    door = door_of(context)
    door.json = as_json
    module, _, name = SANDBOX_ENTRY.partition(":")
    try:
        start = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ServerTrouble(
            words(f"The sandbox is not installed: {error.name}", f"サンドボックスがありません: {error.name}")
        ) from None
    if with_parent:
        threading.Thread(target=_end_with_stdin, daemon=True).start()

    def ready(url: str, tls_url: str | None) -> None:
        if door.json:
            door.value({"url": url, "tls_url": tls_url})
            return
        more = f", {tls_url}" if tls_url else ""
        door.say(
            words(
                f"Sandbox on {url}{more}. Point Understudy at it: UNDERSTUDY_SANDBOX_URL={url}",
                f"サンドボックス: {url}{more}。利用側の設定: UNDERSTUDY_SANDBOX_URL={url}",
            )
        )

    asyncio.run(start(host, port, tls_port=tls_port, tls_ca=tls_ca, on_ready=ready))


def _end_with_stdin() -> None:
    """A parent that was killed closes its pipe; nothing of it should be left running."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
