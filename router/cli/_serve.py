"""Commands that stay: serve, worker, sandbox."""

import asyncio
import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from router.cli import _options as o
from router.cli._app import app
from router.cli._door import door_of
from router.cli._text import t
from router.contract.errors import ServerTrouble
from router.contract.words import words

SANDBOX_ENTRY = "api_providers.sandbox.app:serve"


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
