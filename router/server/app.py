"""The FastAPI app over one Gateway: guard in front, API routes first, the page last; and `serve`, which runs it."""

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from fastapi.telemetry import TelemetryConfig

from router.contract.errors import GatewayError, ServerTrouble
from router.contract.words import words
from router.gateway import Gateway
from router.server import errors, login, videos
from router.server.auth import Guard, Hosts, Sessions, is_loopback
from router.server.page_slot import PageFactory, PageSlot, PageState

log = logging.getLogger(__name__)

GRACE_S = 5
"""Seconds that open answers (downloads, the page's event streams) get when the server stops."""
_UNTRACED: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#1d4ed8"/>'
    '<path d="M12 9.5v13l11-6.5z" fill="#fff"/></svg>'
)
_MANIFEST = {
    "name": "Understudy",
    "short_name": "Understudy",
    "start_url": "/",
    "display": "standalone",
    "icons": [{"src": "/favicon.ico", "sizes": "any", "type": "image/svg+xml"}],
}


def create_app(gateway: Gateway, *, page: PageFactory | None = None, host: str, port: int) -> FastAPI:
    """The whole door. Its lifespan opens the gateway, then loads the page beside the running API.

    `/healthz` answers 503 until the gateway is open and the page, if one is given, is there.
    """
    server = gateway.settings.server
    sessions = Sessions(server.token, port) if server.token else None
    slot = PageSlot(page)
    engine = {"state": "starting"}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with gateway:
            # The catalogue and all code stay: walked again and again by the collector, they stop every request for 0.2 s.
            gc.collect()
            gc.freeze()
            engine["state"] = "running"
            stop = asyncio.Event()
            keeping = asyncio.create_task(slot.keep(stop), name="page")
            try:
                yield
            finally:
                engine["state"] = "stopping"
                stop.set()
                await keeping

    app = FastAPI(
        title="Understudy",
        version=_version(),
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        redirect_slashes=False,
        telemetry=None if _is_traced() else _UNTRACED,
    )

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        ready = engine["state"] == "running" and slot.state in {PageState.NONE, PageState.READY}
        state = engine["state"] if gateway.engine_here or engine["state"] != "running" else "elsewhere"
        view = {"status": "ok" if ready else "not ready", "engine": state}
        return JSONResponse(
            {**view, "page": slot.state.value, "version": app.version},
            status_code=200 if ready else 503,
            headers={"Cache-Control": "no-store"},
        )

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(_ICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})

    @app.get("/manifest.json", include_in_schema=False)
    async def manifest() -> Response:
        return JSONResponse(_MANIFEST, media_type="application/manifest+json")

    app.include_router(login.routes(sessions, gateway.has_keys))
    app.state.gateway = gateway
    app.include_router(videos.router)
    errors.install(app)
    app.add_middleware(
        Guard,
        hosts=Hosts.of(host, server.allowed_hosts),
        sessions=sessions,
        keyring=lambda: gateway.keyring,
    )
    app.router.default = slot
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schema["components"]["schemas"].update(videos.request_schemas())
        app.openapi_schema = schema
    return app.openapi_schema


def _is_traced() -> bool:
    """OpenTelemetry is set up through its own variables; without, FastAPI would ask it so at every request."""
    return any(name.startswith("OTEL_") for name in os.environ)


def _version() -> str:
    try:
        return version("understudy-gateway")
    except PackageNotFoundError:
        return "unknown"


async def serve(
    gateway: Gateway,
    *,
    host: str,
    port: int,
    page: PageFactory | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Run until SIGINT, SIGTERM or cancellation; then finish open answers, close the page, close the gateway.

    `on_listening` gets the base URL once the API answers; port 0 takes a free one. Raises ServerTrouble: neither token
    nor API key for an address that others can reach, an address or port that cannot be had, whatever the gateway finds at its start, or what ended the engine.
    """
    if not is_loopback(host) and gateway.settings.server.token is None and not await gateway.has_keys():
        raise ServerTrouble(
            words(
                f"Others can reach {host}, so a token is needed: set UNDERSTUDY_SERVER_TOKEN, make an API key "
                "(understudy keys add NAME), or listen on 127.0.0.1.",
                f"{host} は他のマシンから接続できるため、トークンが必要です。UNDERSTUDY_SERVER_TOKEN を設定するか、"
                "API キーを作成するか(understudy keys add 名前)、127.0.0.1 で待ち受けてください。",
            )
        )
    with _listening(host, port) as listener:
        port = listener.getsockname()[1]
        app = create_app(gateway, page=page, host=host, port=port)
        # Entered here and not by uvicorn, so that what is wrong at the start comes out as it is.
        async with app.router.lifespan_context(app):
            await _run(_Server(_config(app), _url(host, port), on_listening), listener, gateway)


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_S,
    )


class _Server(uvicorn.Server):
    """Tells when it listens, and leaves ending the process to its caller: the gateway is still to be closed."""

    def __init__(self, config: uvicorn.Config, url: str, on_listening: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._url = url
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_listening is not None:
            self._on_listening(self._url)

    def stop(self) -> None:
        """Take no more requests, finish those that are open."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn's own, but the signal is not raised again afterwards; a second SIGINT does not wait."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


async def _run(server: _Server, listener: socket.socket, gateway: Gateway) -> None:
    """A cancelled task, or an engine that broke, stops the server the way a signal does."""
    running = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    engine = asyncio.create_task(gateway.engine_failure(), name="engine failure")
    engine.add_done_callback(
        lambda task: None if task.cancelled() or task.exception() is None else server.stop()
    )
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        server.stop()
        await running
        raise
    finally:
        engine.cancel()
        ended = (await asyncio.gather(engine, return_exceptions=True))[0]
    if isinstance(ended, GatewayError):
        raise ended
    if isinstance(ended, Exception):
        log.error("the engine ended", exc_info=ended)
        raise ServerTrouble(
            words(
                "The engine ended; the log says why. Nothing is lost: start again and it goes on.",
                "エンジンが停止しました。原因はログを確認してください。"
                "データは失われていません。再起動すると続きから再開します。",
            )
        )


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Bound before the engine starts: a second server on the same port must not take up any work."""
    if not 0 <= port <= 65535:  # the resolver would take it modulo 65536
        raise _cannot_listen(host, port, OverflowError("a port is a number from 0 to 65535"))
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=512)
        # Connections inherit it; without, an answer's body waits 40 ms for the peer to acknowledge the head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise _cannot_listen(host, port, error) from None
    with listener:
        yield listener


def _cannot_listen(host: str, port: int, error: OSError | OverflowError) -> ServerTrouble:
    number = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
    if number == errno.EADDRINUSE:
        return ServerTrouble(
            words(
                f"Port {port} on {host} is in use. Stop what uses it, or choose another: --port {_other(port)}.",
                f"{host} のポート {port} は使用中です。使用中のプログラムを止めるか、"
                f"--port {_other(port)} のように別のポートを指定してください。",
            )
        )
    if number == errno.EACCES:
        return ServerTrouble(
            words(
                f"Port {port} needs rights this user does not have. Choose one above 1023: --port 7860.",
                f"ポート {port} を使う権限がありません。--port 7860 のように 1024 以上を指定してください。",
            )
        )
    why = str(error) if number is None else error.args[1]
    return ServerTrouble(
        words(
            f"Cannot listen on {host}, port {port}: {why}. --host and --port choose the address.",
            f"{host} のポート {port} で待ち受けできません({why})。--host と --port で変更できます。",
        )
    )


def _other(port: int) -> int:
    return port + 1 if port < 65535 else 7860


def _url(host: str, port: int) -> str:
    name = host.strip("[]")
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
