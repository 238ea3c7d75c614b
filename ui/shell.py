"""The HTML around the page: its language before any script runs, no foreign metadata, a strict content policy.

Gradio picks its language from `navigator.language` before our own `head` scripts are inserted, so `?lang=ja` has to be
told to the browser in the document itself. Gradio's template also carries social metadata that point to other hosts.
"""

import json
import re
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.contract.words import Lang
from ui.reader import ZONE_COOKIE, lang_of
from ui.text import Text

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # gr.HTML compiles its templates in the browser
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
_FOREIGN = re.compile(r"<meta\b[^>]*(?:property=\"og:|name=\"twitter:)[^>]*>", re.DOTALL)
_HTML_LANG = re.compile(r"(<html\b[^>]*?\blang=)\"[^\"]*\"", re.DOTALL)


class Shell:
    """Wraps Gradio's app; only the page itself is changed, everything else passes through."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` is the mounted Gradio application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or path not in ("", "/") or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        wanted = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("lang", [None])[0]
        lang = lang_of(wanted, headers.get("accept-language"))
        # Uncompressed, because it is rewritten.
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        await self.app({**scope, "headers": plain}, receive, _Rewriting(send, lang))


class _Rewriting:
    """Holds the answer back until it is whole."""

    def __init__(self, send: Send, lang: Lang) -> None:
        self.send = send
        self.lang = lang
        self.start: Message = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        if message["type"] != "http.response.body":
            await self.send(message)
            return
        self.body += message.get("body", b"")
        if message.get("more_body", False):
            return
        headers = MutableHeaders(scope=self.start)
        if headers.get("content-type", "").startswith("text/html"):
            if self.body:
                self.body = dressed(self.body.decode("utf-8"), self.lang).encode("utf-8")
                headers["content-length"] = str(len(self.body))
            headers["content-security-policy"] = POLICY
            headers["referrer-policy"] = "same-origin"
            headers["x-content-type-options"] = "nosniff"
            headers.append("vary", "Accept-Language")
            headers["cache-control"] = "no-store"
        await self.send(self.start)
        await self.send({"type": "http.response.body", "body": self.body})


def dressed(html: str, lang: Lang) -> str:
    """The page with our language and without metadata of others."""
    text = Text(lang)
    script = (
        f"<script>for(const[k,v]of[['language',{json.dumps(lang)}],['languages',[{json.dumps(lang)}]]])"
        "Object.defineProperty(navigator,k,{get:()=>v,configurable:true});"
        f"document.cookie='{ZONE_COOKIE}='+encodeURIComponent(Intl.DateTimeFormat().resolvedOptions().timeZone)"
        "+';path=/;SameSite=Strict;max-age=31536000';</script>"
    )
    icon = '<link rel="icon" href="favicon.ico">'
    description = f'<meta name="description" content="{text("tagline")}">'
    html = _HTML_LANG.sub(rf'\g<1>"{lang}"', _FOREIGN.sub("", html), count=1)
    return html.replace('<meta charset="utf-8" />', f'<meta charset="utf-8" />{script}{icon}{description}', 1)
