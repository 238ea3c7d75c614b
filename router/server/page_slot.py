"""Where the page will be: it is loaded after the engine has recovered and the API answers, and answers last."""

import asyncio
import html
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from enum import StrEnum

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from router.contract.words import words
from router.server.errors import language, no_such_endpoint

log = logging.getLogger(__name__)

PageFactory = Callable[[FastAPI], FastAPI]
"""Mounts the page into the app it is given and returns that app; runs in a thread, may take seconds."""

_LOADING = words(
    "The page is being loaded; the API answers already.",
    "ページを読み込んでいます。API はすでに利用できます。",
)
_FAILED = words(
    "The page could not be loaded; the server's log says why. The API works.",
    "ページを読み込めませんでした。原因はサーバーのログを確認してください。API は利用できます。",
)


class PageState(StrEnum):
    """How far the page is."""

    NONE = "none"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class PageSlot:
    """The app behind all routes of ours: the page, or what stands in until it is there."""

    def __init__(self, factory: PageFactory | None) -> None:
        """Nothing is loaded before `keep`; without a factory there is no page."""
        self._factory = factory
        self._app: ASGIApp | None = None
        self.state = PageState.LOADING if factory else PageState.NONE

    async def keep(self, stop: asyncio.Event) -> None:
        """Load the page and hold its lifespan open until `stop`; one task, since a lifespan must end where it began."""
        if self._factory is None:
            return
        async with AsyncExitStack() as stack:
            try:
                # An app of its own: what the page adds to it (routes, its OpenAPI) stays behind our routes.
                holder = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
                app = await asyncio.to_thread(self._factory, holder)
                await stack.enter_async_context(app.router.lifespan_context(app))
            except Exception:
                log.exception("the page could not be loaded; the API goes on without it")
                self.state = PageState.FAILED
                return
            self._app, self.state = app, PageState.READY
            await stop.wait()
            self._app, self.state = None, PageState.LOADING

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what no route of ours took."""
        path = scope["path"]
        if scope["type"] == "websocket" and self._app is None:
            await receive()
            await send({"type": "websocket.close", "code": 1001})
        elif path == "/v1" or path.startswith("/v1/") or self.state is PageState.NONE:
            raise no_such_endpoint()
        elif self._app is not None:
            await self._app(scope, receive, send)
        else:
            await self._meanwhile(scope)(scope, receive, send)

    def _meanwhile(self, scope: Scope) -> Response:
        lang = language(scope)
        loading = self.state is PageState.LOADING
        text = html.escape((_LOADING if loading else _FAILED).in_(lang))
        refresh = '<meta http-equiv="refresh" content="1">' if loading else ""
        page = (
            f'<!doctype html><html lang="{lang}"><head><meta charset="utf-8">{refresh}<title>Understudy</title></head>'
            f'<body style="font:16px system-ui;margin:3rem;color-scheme:light dark"><p>{text}</p></body></html>'
        )
        headers = {"Cache-Control": "no-store"} | ({"Retry-After": "1"} if loading else {})
        return HTMLResponse(page, status_code=503, headers=headers)
