"""The sign-in form for browsers, shown only where a token is set; it hands out a session, never the token."""

import html
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from router.contract.words import Lang, Words, words
from router.server.auth import SESSION_S, Sessions
from router.server.errors import TooLarge, language

_BODY_MAX = 16 * 1024

_TITLE = words("Sign in to Understudy", "Understudy にサインイン")
_FIELD = words("Server token (UNDERSTUDY_SERVER_TOKEN)", "サーバーのトークン(UNDERSTUDY_SERVER_TOKEN)")
_BUTTON = words("Sign in", "サインイン")
_WRONG = words("That is not this server's token.", "トークンが正しくありません。")
_OFF = words(
    "This server has no token set; no sign-in is needed.",
    "このサーバーにはトークンが設定されていないため、サインインは不要です。",
)

_KEYS_ONLY = words(
    "The page takes the server's token and none is set: set UNDERSTUDY_SERVER_TOKEN and start the server again. "
    "API keys open the API below /v1.",
    "画面を使うにはサーバーのトークンが必要ですが、設定されていません。UNDERSTUDY_SERVER_TOKEN を設定して再起動してください。"
    "API キーで使えるのは /v1 以下の API です。",
)

_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center;
background:#f4f6f8;color:#18202b}
form{background:#fff;border:1px solid #d5dbe3;border-radius:10px;padding:24px;width:min(360px,calc(100vw - 48px))}
h1{font-size:20px;margin:0 0 16px}label{display:block;margin-bottom:6px}
input{font:inherit;width:100%;box-sizing:border-box;padding:8px;border:1px solid #8793a3;border-radius:6px}
button{font:inherit;margin-top:16px;padding:8px 16px;border:0;border-radius:6px;background:#1d4ed8;color:#fff}
p{color:#b42318;margin:0 0 12px}
@media(prefers-color-scheme:dark){body{background:#0f141b;color:#e6ebf2}form{background:#18202b;border-color:#2f3a49}
input{background:#0f141b;color:inherit}p{color:#ff9b90}}
"""


def routes(sessions: Sessions | None, has_keys: Callable[[], Awaitable[bool]]) -> APIRouter:
    """`/login` and `/logout`; `has_keys` tells whether the door is shut although no token is set."""
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    async def form(request: Request, next: str = "/") -> Response:
        lang = language(request.scope)
        if sessions is None:
            told = _KEYS_ONLY if await has_keys() else _OFF
            return HTMLResponse(_page(lang, next, told, form=False), headers={"Cache-Control": "no-store"})
        return HTMLResponse(_page(lang, next), headers={"Cache-Control": "no-store"})

    @router.post("/login")
    async def sign_in(request: Request) -> Response:
        given = parse_qs((await _body(request)).decode("utf-8", "replace"))
        target = _local(given.get("next", ["/"])[0])
        if sessions is None:
            return RedirectResponse(target, status_code=303)
        token = given.get("token", [""])[0].strip()
        if not sessions.is_token(token.encode()):
            page = _page(language(request.scope), target, _WRONG)
            return HTMLResponse(page, status_code=401, headers={"Cache-Control": "no-store"})
        response = RedirectResponse(target, status_code=303)
        response.set_cookie(
            sessions.cookie,
            sessions.issue(),
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            # The guard has checked Origin: behind a TLS proxy it is the one honest sign of https.
            secure=request.headers.get("origin", request.url.scheme).startswith("https"),
        )
        return response

    @router.post("/logout")
    async def sign_out() -> Response:
        response = RedirectResponse("/login", status_code=303)
        if sessions is not None:
            response.delete_cookie(sessions.cookie, httponly=True, samesite="strict")
        return response

    return router


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_MAX:
            raise TooLarge(words("The form is too large.", "フォームが大きすぎます。"))
    return body


def _local(target: str) -> str:
    """Only a path of this server: a link to the sign-in page must not lead elsewhere afterwards."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain else "/"


def _page(lang: Lang, target: str, told: Words | None = None, *, form: bool = True) -> str:
    note = f'<p role="alert">{html.escape(told.in_(lang))}</p>' if told else ""
    fields = (
        f'<input type="hidden" name="next" value="{html.escape(_local(target), quote=True)}">'
        f'<label for="token">{html.escape(_FIELD.in_(lang))}</label>'
        '<input id="token" name="token" type="password" autocomplete="current-password" autofocus required>'
        f"<button>{html.escape(_BUTTON.in_(lang))}</button>"
    )
    title = html.escape(_TITLE.in_(lang))
    return (
        f'<!doctype html><html lang="{lang}"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><form method="post" action="/login"><h1>{title}</h1>{note}{fields if form else ""}</form></body></html>'
    )
