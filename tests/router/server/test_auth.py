"""Who may come in, over real sockets: Host, Origin, token, session, forwarded headers."""

import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from pydantic import SecretStr
from starlette.types import Message, Receive, Scope, Send

from router.server.auth import Guard, Hosts, Sessions
from tests.router.server.conftest import Start, sdk
from tests.router.server.fake_gateway import FakeGateway

TOKEN = "correct horse 電池"
CREATE: dict[str, Any] = {"json": {"prompt": "a fox"}}
Http = tuple[FakeGateway, httpx.AsyncClient]


def port_of(client: httpx.AsyncClient) -> int:
    port = client.base_url.port
    assert port is not None
    return port


OUR_NAMES: list[Any] = [
    "127.0.0.1:{port}",
    "localhost:{port}",
    "LOCALHOST",
    "[::1]:9",
    "localhost.:80",
]


async def test_loopback_names_are_answered(gateway_and_http: Http) -> None:
    _, client = gateway_and_http
    for name in OUR_NAMES:
        host = name.format(port=port_of(client))
        assert (await client.post("/v1/videos", **CREATE, headers={"Host": host})).status_code == 200


FOREIGN_HOSTS: list[Any] = [
    "evil.example",
    "evil.example:7860",
    "127.0.0.1.evil.example",
    "192.0.2.7",
    "a@localhost",
]


async def test_a_foreign_host_is_refused(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    for host in FOREIGN_HOSTS:
        for request in (
            client.post("/v1/videos", **CREATE, headers={"Host": host}),
            client.get("/", headers={"Host": host}),
        ):
            response = await request
            assert response.status_code == 403
            assert response.json()["error"]["code"] == "forbidden"
        assert gateway.calls.requests == []


FOREIGN_ORIGINS: list[Any] = [
    "http://evil.example",
    "null",
    "http://127.0.0.1:1",
    "https://127.0.0.1:{port}.evil.example",
    "file://",
    "x",
]


async def test_another_sites_request_spends_nothing(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    for origin in FOREIGN_ORIGINS:
        headers = {"Origin": origin.format(port=port_of(client))}
        assert (await client.post("/v1/videos", **CREATE, headers=headers)).status_code == 403
        assert (await client.get("/v1/videos", headers=headers)).status_code == 403
        assert gateway.calls.requests == []


async def test_the_pages_own_origin_is_answered(gateway_and_http: Http) -> None:
    _, client = gateway_and_http
    headers = {"Origin": f"http://127.0.0.1:{port_of(client)}", "Sec-Fetch-Site": "same-origin"}
    assert (await client.post("/v1/videos", **CREATE, headers=headers)).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_cross_site_form_post_is_refused_and_a_link_is_not(gateway_and_http: Http, site: str) -> None:
    _, client = gateway_and_http
    headers = {"Sec-Fetch-Site": site}
    assert (await client.post("/v1/videos", **CREATE, headers=headers)).status_code == 403
    assert (await client.get("/v1/videos", headers=headers)).status_code == 200


async def test_a_configured_name_and_its_https_origin_are_answered(start: Start) -> None:
    _, url = await start(allowed_hosts=("video.example",))
    async with httpx.AsyncClient(base_url=url) as client:
        for headers, status in (
            ({"Host": "video.example"}, 200),
            ({"Host": "video.example", "Origin": "https://video.example"}, 200),
            ({"Origin": "https://video.example"}, 200),  # a proxy that writes its own Host
            ({"Origin": "https://video.example:8443"}, 403),
            ({"Host": "other.example"}, 403),
        ):
            assert (await client.get("/v1/videos", headers=headers)).status_code == status, headers


def test_listening_everywhere_takes_addresses_but_no_foreign_names() -> None:
    hosts = Hosts.of("0.0.0.0", ())
    assert hosts.knows("192.0.2.7:7860") and hosts.knows("[2001:db8::1]:80") and hosts.knows("localhost")
    assert not hosts.knows("rebound.example") and not hosts.knows("") and not hosts.knows("[::1")


async def test_any_key_will_do_on_loopback_without_a_token(gateway_and_http: Http) -> None:
    _, client = gateway_and_http
    assert (await client.get("/v1/videos", headers={"Authorization": "Bearer whatever"})).status_code == 200
    assert (await client.get("/login")).status_code == 200


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
async def test_with_a_token_only_the_token_opens_the_api(start: Start) -> None:
    gateway, url = await start(token="correct-horse")
    async with httpx.AsyncClient(base_url=url) as client:
        for given in (None, "Bearer wrong", "Bearer", "Basic correct-horse", "Bearer correct-hors"):
            headers = {"Authorization": given} if given else {}
            refused = await client.post("/v1/videos", **CREATE, headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert refused.json()["error"]["type"] == "authentication_error"
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 401
    assert gateway.calls.requests == []
    async with sdk(url, key="correct-horse") as openai:
        assert (await openai.videos.list()).data == []


async def test_a_browser_signs_in_once_and_keeps_no_token(start: Start) -> None:
    def page(app: FastAPI) -> FastAPI:
        app.get("/")(lambda: HTMLResponse("the page"))
        return app

    _, url = await start(token=TOKEN, page=page)
    html = {"Accept": "text/html"}
    async with httpx.AsyncClient(base_url=url, headers=html) as client:
        away = await client.get("/?job=1")
        assert (away.status_code, away.headers["location"]) == (303, "/login?next=%2F%3Fjob%3D1")
        form = await client.get(away.headers["location"], headers={"Accept-Language": "ja,en;q=0.5"})
        assert "サインイン" in form.text and 'value="/?job=1"' in form.text
        wrong = await client.post("/login", data={"token": "no", "next": "/"})
        assert wrong.status_code == 401 and "set-cookie" not in wrong.headers
        right = await client.post("/login", data={"token": TOKEN, "next": "/?job=1"})
        assert (right.status_code, right.headers["location"]) == (303, "/?job=1")
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "correct" not in cookie
        assert (await client.get("/v1/videos")).status_code == 200
        assert (
            await client.post("/v1/videos", **CREATE, headers={"Origin": "http://evil.example"})
        ).status_code == 403
        await client.post("/logout")
        assert (await client.get("/v1/videos")).status_code == 401


FOREIGN_TARGETS: list[Any] = [
    "https://evil.example",
    "//evil.example",
    "/\\evil.example",
    "javascript:x",
    "/a\r\nb",
]


async def test_sign_in_leads_nowhere_else(start: Start) -> None:
    _, url = await start(token="t")
    for target in FOREIGN_TARGETS:
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.post("/login", data={"token": "t", "next": target})).headers[
                "location"
            ] == "/"


def test_a_session_ends_with_its_time_and_with_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(SecretStr("one"), 1)
    value = sessions.issue()
    assert sessions.valid(value)
    assert not Sessions(SecretStr("two"), 1).valid(value)
    until, rest = value.split(".", 1)
    assert not sessions.valid(f"{int(until) + 1}.{rest}")
    for forged in ("", ".", "..", "9999999999..", "x.y.電"):
        assert not sessions.valid(forged)
    monkeypatch.setattr(time, "time", lambda: float(int(until) + 1))
    assert not sessions.valid(value)


async def test_forwarded_headers_reach_nobody(start: Start) -> None:
    def page(app: FastAPI) -> FastAPI:
        @app.get("/seen")
        async def seen(request: Request) -> dict[str, str]:
            return {
                "base": str(request.base_url),
                "client": request.client.host if request.client else "",
                **request.headers,
            }

        return app

    _, url = await start(page=page)
    forged = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "192.0.2.1",
    }
    async with httpx.AsyncClient(base_url=url) as client:
        await ready(client)
        seen = (await client.get("/seen", headers=forged | {"Forwarded": "host=evil.example"})).json()
    assert seen["base"] == f"{url}/" and seen["client"] == "127.0.0.1"
    assert not any("evil" in value for value in seen.values())


async def ready(client: httpx.AsyncClient) -> None:
    while (await client.get("/healthz")).status_code != 200:
        continue


@pytest.mark.parametrize(
    ("headers", "token", "passes"),
    [
        ([(b"host", b"localhost:1")], None, True),
        ([(b"host", b"evil.example")], None, False),
        ([(b"host", b"localhost:1"), (b"origin", b"http://evil.example")], None, False),
        ([(b"host", b"localhost:1"), (b"sec-fetch-site", b"cross-site")], None, False),
        ([(b"host", b"localhost:1"), (b"host", b"localhost:1")], None, False),
        ([(b"host", b"localhost:1")], "t", False),
        ([(b"host", b"localhost:1"), (b"authorization", b"Bearer t")], "t", True),
    ],
)
async def test_websockets_pass_the_same_guard(
    headers: list[tuple[bytes, bytes]], token: str | None, passes: bool
) -> None:
    inside: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        inside.append(scope["path"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    sessions = Sessions(SecretStr(token), 1) if token else None
    guard = Guard(app, hosts=Hosts.of("127.0.0.1", ()), sessions=sessions)
    await guard({"type": "websocket", "path": "/x", "query_string": b"", "headers": headers}, receive, send)
    assert bool(inside) is passes
    assert [message["type"] for message in sent] == ([] if passes else ["websocket.close"])
