"""Runs the sandbox on its ports: sockets of our own, a certificate made at start, a clean end."""

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import trustme
import uvicorn
from starlette.types import ASGIApp

from api_providers.sandbox._connection import CuttableProtocol
from router.contract.errors import ServerTrouble
from router.contract.words import words

NAMES = ("localhost", "127.0.0.1", "::1")


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    tls_port: int | None = None,
    tls_ca: Path | None = None,
    on_ready: Callable[[str, str | None], None] | None = None,
) -> None:
    """Serve `app` on one or two ports until cancelled or told to end; see `app.serve`."""
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(contextlib.closing(_listen(host, port)))
        runs = [(_Server(_config(app, None)), plain)]
        if tls_port is not None:
            secure = stack.enter_context(contextlib.closing(_listen(host, tls_port)))
            runs.append((_Server(_config(app, _certificate(tls_ca))), secure))
        servers = [server for server, _ in runs]
        with _ends_on_signals(servers):
            tasks = [asyncio.create_task(server.serve(sockets=[listener])) for server, listener in runs]
            try:
                for server in servers:
                    await server.ready.wait()
                if on_ready is not None:
                    urls = [_url(host, listener, secure=n == 1) for n, (_, listener) in enumerate(runs)]
                    on_ready(urls[0], urls[1] if len(urls) > 1 else None)
                await asyncio.gather(*(asyncio.shield(task) for task in tasks))
            finally:
                _end(servers)
                await asyncio.gather(*tasks)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: two of them share this process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `_ends_on_signals`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell who waits that the port answers."""
        await super().startup(sockets)
        self.ready.set()


def _config(app: ASGIApp, context: ssl.SSLContext | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=CuttableProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        ssl_context_factory=None if context is None else lambda config, default: context,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, or a sentence that says why not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it each answer takes 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(256)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ServerTrouble(
            words(
                f"The sandbox cannot listen on {host}:{port}: {reason}. Choose another port with --port or --tls-port.",
                f"サンドボックスは {host}:{port} で待ち受けできません({reason})。"
                "--port または --tls-port で別のポートを指定してください。",
            )
        ) from None
    return listener


def _certificate(tls_ca: Path | None) -> ssl.SSLContext:
    """A TLS context with a fresh certificate for this machine; its CA is written to `tls_ca`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(context)
    if tls_ca is not None:
        try:
            authority.cert_pem.write_to_path(str(tls_ca))
        except OSError as error:
            raise ServerTrouble(
                words(
                    f"The CA certificate cannot be written to {tls_ca}: {error.strerror}.",
                    f"CA 証明書を {tls_ca} に書き込めません({error.strerror})。",
                )
            ) from None
    return context


def _url(host: str, listener: socket.socket, *, secure: bool) -> str:
    port = listener.getsockname()[1]
    if secure:
        return f"https://localhost:{port}"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _end(servers: list[_Server]) -> None:
    for server in servers:
        server.should_exit = True


@contextlib.contextmanager
def _ends_on_signals(servers: list[_Server]) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the servers; does nothing outside the main thread."""
    loop = asyncio.get_running_loop()
    taken: list[signal.Signals] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, _end, servers)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
