"""Start and stop: what serve refuses, when it is ready, how the page comes in."""

import asyncio
import os
import signal
import socket
import threading
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from router.contract.errors import ServerTrouble
from router.contract.words import words
from router.server.app import serve
from tests.router.server.conftest import Start, running, settings_in
from tests.router.server.fake_gateway import FakeGateway


async def test_an_address_others_can_reach_needs_a_token(tmp_path: Path) -> None:
    gateway = FakeGateway(settings_in(tmp_path))
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(ServerTrouble, match="UNDERSTUDY_SERVER_TOKEN"):
            await serve(gateway, host=host, port=0)
    assert gateway.opened == 0


async def test_with_a_token_it_listens_everywhere(tmp_path: Path) -> None:
    gateway = FakeGateway(settings_in(tmp_path, token="t"))
    async with running(gateway, host="0.0.0.0") as url, httpx.AsyncClient() as client:
        there = url.replace("0.0.0.0", "127.0.0.1")
        assert (
            await client.get(f"{there}/v1/videos", headers={"Authorization": "Bearer t"})
        ).status_code == 200


async def test_a_port_in_use_is_named_before_anything_is_opened(tmp_path: Path) -> None:
    gateway = FakeGateway(settings_in(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerTrouble, match=rf"Port {port} .*--port {port + 1}") as caught:
            await serve(gateway, host="127.0.0.1", port=port)
    assert "使用中" in caught.value.message.ja
    with pytest.raises(ServerTrouble, match="--port"):
        await serve(gateway, host="127.0.0.1", port=70_000)
    assert gateway.opened == 0


async def test_what_the_gateway_finds_wrong_comes_out_as_it_is(tmp_path: Path) -> None:
    class Broken(FakeGateway):
        async def __aenter__(self) -> "Broken":
            raise ServerTrouble(words("the folder is gone", "フォルダーがありません"))

    with pytest.raises(ServerTrouble, match="the folder is gone"):
        await serve(Broken(settings_in(tmp_path)), host="127.0.0.1", port=0)


async def test_it_does_not_live_on_without_its_engine(tmp_path: Path) -> None:
    gateway = FakeGateway(settings_in(tmp_path))
    with pytest.raises(ServerTrouble, match="engine ended"):
        await serve(gateway, host="127.0.0.1", port=0, on_listening=lambda _: gateway.engine_ended.set())
    assert gateway.closed == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_after_the_gateway_is_closed(tmp_path: Path, number: signal.Signals) -> None:
    gateway = FakeGateway(settings_in(tmp_path))
    before = signal.getsignal(number)
    async with asyncio.timeout(10):
        await serve(gateway, host="127.0.0.1", port=0, on_listening=lambda _: os.kill(os.getpid(), number))
    assert (gateway.opened, gateway.closed) == (1, 1)
    assert signal.getsignal(number) == before


async def test_the_api_answers_while_the_page_is_loading(start: Start) -> None:
    go_on = threading.Event()

    def page(app: FastAPI) -> FastAPI:
        assert go_on.wait(20)
        app.get("/{path:path}")(lambda path: PlainTextResponse(f"page {path}"))
        return app

    gateway, url = await start(page=page)
    async with httpx.AsyncClient(base_url=url) as client:
        try:
            assert gateway.opened == 1
            assert (await client.get("/v1/videos")).status_code == 200
            waiting = await client.get("/")
            assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "1")
            health = await client.get("/healthz")
            assert (health.status_code, health.json()["engine"], health.json()["page"]) == (
                503,
                "running",
                "loading",
            )
        finally:
            go_on.set()
        while (health := await client.get("/healthz")).status_code != 200:
            continue
        assert {"status", "engine", "version"} <= set(health.json()) and health.json()["status"] == "ok"
        assert (await client.get("/")).text == "page "
        assert (await client.get("/jobs")).text == "page jobs"
        assert (await client.get("/v1/nothing")).json()["error"]["code"] == "not_found"
        assert (await client.get("/manifest.json")).json()["name"] == "Understudy"
        assert (await client.get("/favicon.ico")).headers["content-type"] == "image/svg+xml"
        framed = (await client.get("/")).headers
        assert framed["x-frame-options"] == "SAMEORIGIN"


async def test_a_page_that_cannot_be_loaded_leaves_the_api(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def page(app: FastAPI) -> FastAPI:
        raise ImportError("no gradio")

    _, url = await start(page=page)
    async with httpx.AsyncClient(base_url=url) as client:
        while (health := await client.get("/healthz")).json()["page"] == "loading":
            continue
        assert (health.status_code, health.json()["page"]) == (503, "failed")
        assert (await client.get("/v1/videos")).status_code == 200
        assert (await client.get("/")).status_code == 503
    assert "no gradio" in caplog.text
