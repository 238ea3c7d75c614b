"""One guard in front of API and page: which Host, which Origin, which token. Forwarded headers are not believed."""

import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.contract.errors import Forbidden, GatewayError, Unauthorized
from router.contract.words import words
from router.gateway import ApiKey, Keyring
from router.server.errors import answer, language

SESSION_S = 14 * 24 * 3600
"""How long a browser stays signed in."""
CALLER = "understudy.caller"
"""Where the guard leaves the caller's API key in the scope; None for the owner."""
OPEN_PATHS = frozenset({"/healthz", "/login", "/favicon.ico", "/manifest.json"})
"""Answered without a token: nothing about jobs. Browsers fetch the manifest without cookies."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_AUTHORITY = re.compile(r"^(?:\[([0-9a-f:.]+)\]|([^\s:/@\[\]]+))(?::(\d{1,5}))?$")
_FORWARDED = re.compile(rb"^(forwarded|x-forwarded-.*|x-real-ip|x-original-.*)$")
_SECURITY_HEADERS = (
    # A page that can spend money must not be laid under another site's buttons.
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"content-security-policy", b"frame-ancestors 'self'"),
    (b"referrer-policy", b"same-origin"),
)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    address = _ip(host.strip("[]"))
    return address.is_loopback if address else host.lower() == "localhost"


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _authority(text: str) -> tuple[str, str | None] | None:
    """Name and port of a Host value, lower case; None where it is none."""
    found = _AUTHORITY.match(text.strip().lower())
    return ((found[1] or found[2]).rstrip("."), found[3]) if found else None


@dataclass(frozen=True)
class Hosts:
    """The names under which this server may be addressed."""

    listens_on: str
    extra: frozenset[str]

    @classmethod
    def of(cls, listens_on: str, extra: Iterable[str]) -> "Hosts":
        """`extra` are names as in `[server] allowed_hosts`; a port there is ignored."""
        names = (_authority(name) for name in extra)
        return cls(listens_on.lower().strip("[]"), frozenset(name[0] for name in names if name))

    def knows(self, host: str) -> bool:
        """Whether a Host value is one of ours.

        A server that listens on every address takes any IP literal: only names can be rebound to us by a foreign site.
        """
        found = _authority(host)
        if found is None:
            return False
        name = found[0]
        if name in _NAMES or name in self.extra or name == self.listens_on:
            return True
        here = _ip(self.listens_on or "0.0.0.0")
        return here is not None and here.is_unspecified and _ip(name) is not None

    def same_origin(self, origin: str, host: str) -> bool:
        """Whether an Origin is this server as the request addressed it, or one of its public names."""
        try:
            parts = urlsplit(origin.strip().lower())
        except ValueError:
            return False
        theirs, ours = _authority(parts.netloc), _authority(host)
        if parts.scheme not in {"http", "https"} or theirs is None or ours is None:
            return False
        default = "443" if parts.scheme == "https" else "80"
        port = theirs[1] or default
        if theirs[0] == ours[0] and port == (ours[1] or default):
            return True
        return theirs[0] in self.extra and port == default


class Sessions:
    """Browser sessions without a table: a cookie holds an end time and a proof made with the token."""

    def __init__(self, token: SecretStr, port: int) -> None:
        """Takes some 50 ms: the key is made slowly on purpose."""
        self._token = token.get_secret_value().encode()
        # scrypt: a stolen cookie must not allow a weak token to be guessed offline.
        self._key = hashlib.scrypt(self._token, salt=b"understudy session 1", n=2**14, r=8, p=1)
        self.cookie = f"understudy_session_{port}"
        """Cookies know no ports; the name keeps two servers on one host apart."""

    def is_token(self, given: bytes) -> bool:
        """Whether this is the server's token."""
        return hmac.compare_digest(given, self._token)

    def issue(self) -> str:
        """A new cookie value."""
        body = f"{int(time.time()) + SESSION_S}.{secrets.token_hex(8)}"
        return f"{body}.{self._proof(body)}"

    def valid(self, value: str) -> bool:
        """Whether we issued that value for the present token, and its time has not passed."""
        body, _, proof = value.rpartition(".")
        until = body.partition(".")[0]
        if not hmac.compare_digest(proof.encode(), self._proof(body).encode()):
            return False
        return until.isdecimal() and int(until) > time.time()

    def _proof(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()


class Guard:
    """Pure ASGI, so that streams and websockets pass through it too."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Hosts,
        sessions: Sessions | None,
        keyring: Callable[[], Keyring | None] = lambda: None,
    ) -> None:
        """`sessions` is None where no token is set: then, unless there are API keys, everybody here is the owner."""
        self.app = app
        self.hosts = hosts
        self.sessions = sessions
        self.keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on without forwarded headers and with our security headers."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        caller, refused = None, self._foreign(scope, headers)
        if refused is None:
            try:
                caller = await self._caller(scope, headers)
            except GatewayError as error:
                refused = error
        if refused is None:
            kept = [(k, v) for k, v in scope["headers"] if not _FORWARDED.match(k.lower())]
            await self.app({**scope, "headers": kept, CALLER: caller}, receive, _secured(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refused.code})
        elif isinstance(refused, Unauthorized) and _is_browser(scope, headers):
            wanted = scope["path"] + (
                f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
            )
            target = "/login" if wanted == "/" else f"/login?next={quote(wanted, safe='')}"
            await RedirectResponse(target, status_code=303)(scope, receive, _secured(send))
        else:
            extra = (
                {"WWW-Authenticate": 'Bearer realm="understudy"'} if isinstance(refused, Unauthorized) else {}
            )
            await answer(refused, language(scope), extra)(scope, receive, _secured(send))

    def _foreign(self, scope: Scope, headers: Headers) -> GatewayError | None:
        """A request that another web site caused, or that reached us under a name that is not ours."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.hosts.knows(hosts[0]):
            return Forbidden(
                words(
                    "This server does not answer to that Host name; UNDERSTUDY_SERVER_ALLOWED_HOSTS adds names.",
                    "このサーバーはその Host 名に応答しません。"
                    "UNDERSTUDY_SERVER_ALLOWED_HOSTS でホスト名を追加できます。",
                )
            )
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
        if any(not self.hosts.same_origin(origin, hosts[0]) for origin in headers.getlist("origin")) or (
            changes and headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}
        ):
            return Forbidden(
                words(
                    "Requests from other web sites are refused.",
                    "他のウェブサイトからのリクエストは受け付けていません。",
                )
            )
        return None

    async def _caller(self, scope: Scope, headers: Headers) -> ApiKey | None:
        """The API key that asks; None for the owner. Raises Unauthorized for a stranger, Forbidden beside the API."""
        if scope["path"] in OPEN_PATHS:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        shown = given.strip() if scheme.lower() == "bearer" else ""
        if self.sessions is not None:
            if shown and self.sessions.is_token(shown.encode("latin-1")):
                return None
            if self.sessions.valid(cookie_parser(headers.get("cookie", "")).get(self.sessions.cookie, "")):
                return None
        keyring = self.keyring()
        key = await keyring.find(shown) if keyring is not None and shown else None
        if key is not None:
            return self._within_api(scope, key)
        if self.sessions is None and not (keyring is not None and await keyring.any()):
            return None
        raise Unauthorized(
            words(
                "A valid key is needed: Authorization: Bearer <the server's token or an API key>.",
                "有効なキーが必要です。Authorization: Bearer <サーバーのトークンまたは API キー> を送信してください。",
            )
        )

    def _within_api(self, scope: Scope, key: ApiKey) -> ApiKey:
        """The page shows every job and spends without a key's budget, so a key opens the API alone."""
        if scope["path"] == "/v1" or scope["path"].startswith("/v1/"):
            return key
        raise Forbidden(
            words(
                "An API key opens the API below /v1; the page takes the server's token.",
                "API キーで使えるのは /v1 以下の API だけです。画面にはサーバーのトークンが必要です。",
            )
        )


def _is_browser(scope: Scope, headers: Headers) -> bool:
    path = scope["path"]
    api = path == "/v1" or path.startswith(("/v1/", "/gradio_api/"))
    return scope["method"] in {"GET", "HEAD"} and not api and "text/html" in headers.get("accept", "")


def _secured(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            said = {name.lower() for name, _ in message["headers"]}
            more = [pair for pair in _SECURITY_HEADERS if pair[0] not in said]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending
