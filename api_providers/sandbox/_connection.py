"""Breaking connections for real: uvicorn's h11 protocol, with the socket within reach of the answers."""

from collections.abc import Callable
from typing import cast

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.h11_impl import H11Protocol

CUT = "sandbox.cut"
"""ASGI extension: drop the connection at once, unsent bytes included."""
HANG_UP = "sandbox.hang_up"
"""ASGI extension: send what was written, then close the connection."""


class CuttableProtocol(H11Protocol):
    """HTTP/1.1 as usual; each request carries two ways to end its connection in `scope["extensions"]`."""

    def connection_made(self, transport: object) -> None:
        """Put the transport's own abort and close into every request of this connection."""
        super().connection_made(transport)  # type: ignore[arg-type]
        app = cast(ASGIApp, self.app)

        async def with_reach(scope: Scope, receive: Receive, send: Send) -> None:
            extensions = scope.setdefault("extensions", {})
            extensions[CUT] = self.transport.abort
            extensions[HANG_UP] = self.transport.close
            await app(scope, receive, send)

        self.app = cast(ASGI3Application, with_reach)


class CutResponse(Response):
    """No answer: the TCP connection ends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Cut, then wait until the server has noticed."""
        await _end(scope, receive, CUT)


class TruncatedResponse(Response):
    """Says the full length, sends half of the bytes, and hangs up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head with the true length, the first half, and end the connection."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await _end(scope, receive, HANG_UP)


async def _end(scope: Scope, receive: Receive, way: str) -> None:
    end: Callable[[], None] = scope["extensions"][way]
    end()
    while (await receive())["type"] != "http.disconnect":
        pass
