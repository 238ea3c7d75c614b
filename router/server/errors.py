"""Every error as the OpenAI shape: status, `{"error": {message, type, param, code}}`, and what a client may repeat."""

import logging
import math
import secrets
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.contract.errors import GatewayError, InvalidRequest, NotFound, UnsupportedRequest
from router.contract.refusals import told
from router.contract.words import Lang, pick_lang, words

log = logging.getLogger(__name__)

MESSAGE_MAX = 2_000
"""Characters. Messages may quote what a caller sent."""
_TYPES = {
    401: "authentication_error",
    402: "budget_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_WORTH_REPEATING = frozenset({429, 503})
"""The official SDK repeats 408, 409, 429 and every 5xx by itself, POST included; a repeated create may be a second
clip that is paid for, so everything else is answered with `x-should-retry: false`."""


class TooLarge(InvalidRequest):
    """The request body is larger than this server takes."""

    code = "too_large"
    http_status = 413


class MethodNotAllowed(InvalidRequest):
    """The endpoint exists, for other methods."""

    code = "method_not_allowed"
    http_status = 405


class UnsupportedBody(InvalidRequest):
    """The body is neither JSON nor multipart."""

    code = "unsupported_media_type"
    http_status = 415


class MisfitView(BaseModel):
    """One field that one model cannot honour."""

    field: str
    reason: str
    droppable: bool
    """True where `preferences.allow_drop` would let the clip be made without it."""


class ErrorView(BaseModel):
    """What went wrong, for the person who must act."""

    message: str
    type: str
    param: str | None = None
    """The field that is wrong, as a dotted path."""
    code: str
    misfits: list[MisfitView] | None = None
    """With `unsupported_request`: every field that does not fit."""
    error_id: str | None = None
    """With `internal_error`: what to look for in the server's log."""


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorView


def language(scope: Scope) -> Lang:
    """The reader's language, from Accept-Language."""
    value = next((v for k, v in scope.get("headers", ()) if k == b"accept-language"), b"")
    return pick_lang(value.decode("latin-1"))


def answer(error: GatewayError, lang: Lang, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response for an error raised on purpose."""
    status = error.http_status
    misfits = None
    if isinstance(error, UnsupportedRequest) and error.misfits:
        misfits = [
            MisfitView(field=misfit.field, reason=misfit.reason.in_(lang), droppable=misfit.droppable)
            for misfit in error.misfits
        ]
    view = ErrorView(
        message=_short(error.text(lang)),
        type=_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        param=error.param,
        code=error.code,
        misfits=misfits,
    )
    extra = dict(headers or {})
    if error.retry_after is not None and error.retry_after > 0:
        extra["Retry-After"] = str(math.ceil(error.retry_after))
    return _response(view, status, extra)


def _response(view: ErrorView, status: int, headers: dict[str, str]) -> JSONResponse:
    if status not in _WORTH_REPEATING:
        headers["X-Should-Retry"] = "false"
    headers["Cache-Control"] = "no-store"
    content: dict[str, Any] = view.model_dump(mode="json")
    for optional in ("misfits", "error_id"):
        if content[optional] is None:
            del content[optional]
    return JSONResponse({"error": content}, status_code=status, headers=headers)


def _short(text: str) -> str:
    return text if len(text) <= MESSAGE_MAX else f"{text[:MESSAGE_MAX]} ..."


def no_such_endpoint() -> NotFound:
    """For a path below `/v1` that nothing answers."""
    return NotFound(words("There is no such endpoint.", "そのようなエンドポイントはありません。"))


def _no_such_method(allowed: str | None) -> MethodNotAllowed:
    return MethodNotAllowed(
        words(
            f"This endpoint does not take that method; it takes {allowed or 'another'}.",
            f"このエンドポイントはそのメソッドに対応していません。使えるメソッド: {allowed or '別のもの'}",
        )
    )


async def _on_gateway_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GatewayError)
    if error.http_status >= 500:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return answer(error, language(request.scope))


async def _on_query_error(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's own checks of query and header values; `loc` begins with where the value stood."""
    assert isinstance(error, RequestValidationError)
    rows = ({**item, "loc": tuple(item["loc"][1:])} for item in error.errors())
    return answer(told(rows), language(request.scope))


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        return answer(_no_such_method(headers.get("Allow")), language(request.scope), headers)
    if error.status_code == 404:
        return answer(no_such_endpoint(), language(request.scope))
    refused = InvalidRequest(
        words(f"The request cannot be read: {error.detail}", f"リクエストを読み取れません: {error.detail}")
    )
    return answer(refused, language(request.scope), headers)


def install(app: FastAPI) -> None:
    """Answer everything this app raises in one shape."""
    app.add_exception_handler(GatewayError, _on_gateway_error)
    app.add_exception_handler(RequestValidationError, _on_query_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_middleware(Unforeseen)


class Unforeseen:
    """Turns an exception nobody expected into a 500 with an id; the trace goes to the log, once."""

    def __init__(self, app: ASGIApp) -> None:
        """Wraps the routes, inside the guard."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; answer only where no answer has begun."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            log.info("%s %s: the client went away", scope["method"], scope["path"])
        except Exception:
            error_id = secrets.token_hex(6)
            log.exception("error %s: %s %s", error_id, scope["method"], scope["path"])
            if begun:
                raise
            await unforeseen(error_id, language(scope))(scope, receive, send)


def unforeseen(error_id: str, lang: Lang) -> JSONResponse:
    """A fault of ours: no trace, no path, only where to look."""
    text = words(
        f"Something went wrong in the server; its log has the details under {error_id}.",
        f"サーバー内部で問題が発生しました。詳細はサーバーのログに {error_id} として記録されています。",
    )
    view = ErrorView(message=text.in_(lang), type="server_error", code="internal_error", error_id=error_id)
    return _response(view, 500, {})
