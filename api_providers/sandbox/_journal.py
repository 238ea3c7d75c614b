"""Writes down every call to a twin: method, path, time and status; queries and headers stay out, they hold secrets."""

from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEEPS = 100_000
PUBLIC = frozenset({"_cdn", "_upload"})
"""Path segments of file servers: no client should send its API key there."""
CONTROL = "/_sandbox"


class Journal:
    """The calls since the last reset, oldest first."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        """`now` gives aware UTC."""
        self.rows: deque[dict[str, Any]] = deque(maxlen=KEEPS)
        self._now = now

    def begin(self, scope: Scope, path: str) -> dict[str, Any]:
        """A row for a call that has just come in; `status` stays None when it never gets an answer."""
        row = {
            "method": scope["method"],
            "path": path,
            "time": self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "status": None,
            "leaked_key": bool(PUBLIC & set(path.split("/"))) and carries_key(scope),
        }
        self.rows.append(row)
        return row


def carries_key(scope: Scope) -> bool:
    """Whether a sandbox key travels in the headers or the query of a call."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return any(b"sandbox-" in value for _, value in headers) or b"sandbox-" in scope.get("query_string", b"")


class Recorder:
    """ASGI middleware: journals calls to the twins, and puts one twin at the root of the TLS port.

    `fal-client` puts `https://` and nothing else before its paths, so over TLS what is no known prefix goes to it.
    """

    def __init__(
        self, app: ASGIApp, journal: Journal, prefixes: Iterable[str], at_root: tuple[str, ASGIApp]
    ) -> None:
        """`at_root` is the name of the twin for the TLS root, and its app."""
        self.app = app
        self.journal = journal
        self.prefixes = frozenset(prefixes)
        self.root_name, self.root_app = at_root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, noting the status of its answer."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self.app(scope, receive, send)
            return
        app, path = self.app, scope["path"]
        if scope["scheme"] == "https" and path.split("/")[1] not in self.prefixes:
            app, path = self.root_app, f"/{self.root_name}{path}"
        row = self.journal.begin(scope, path)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                row["status"] = message["status"]
            await send(message)

        await app(scope, receive, noting)
