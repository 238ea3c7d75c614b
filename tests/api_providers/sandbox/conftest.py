"""Twins on a real socket, with a clock that only the test moves."""

import asyncio
import base64
import contextlib
import io
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from api_providers.sandbox._bench import Bench
from api_providers.sandbox._serving import serve
from api_providers.sandbox.app import create_app
from tests.sandbox_process import SandboxProcess

RUNWAY = {"Authorization": "Bearer sandbox-test", "X-Runway-Version": "2024-11-06"}
FAL = {"Authorization": "Key sandbox-test:sandbox-test"}
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Loading the system's certificates for each client would take longer than most tests here."""
TEXT = {"model": "gen4.5", "promptText": "a red ball", "duration": 5, "ratio": "1280:720"}
VEO = {"prompt": "a red ball", "duration": "4s", "generate_audio": False}


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Twins:
    """A running sandbox: `url`, its clock, the inside of each twin, and a client."""

    url: str
    clock: Clock
    benches: dict[str, Bench]
    http: httpx.AsyncClient

    async def control(self, what: str, **order: Any) -> Any:
        answer = await self.http.post(f"{self.url}/_sandbox/{what}", json=order)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def bill(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await self.http.get(f"{self.url}/_sandbox/bill")).json()
        return rows

    async def runway(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self.http.request(
            method, f"{self.url}/runway{path}", json=body, headers=RUNWAY | headers
        )

    async def fal(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self.http.request(method, f"{self.url}/fal{path}", json=body, headers=FAL | headers)


@pytest.fixture(scope="session")
def running() -> Iterator[tuple[str, Clock, dict[str, Bench]]]:
    """One server for all tests, on a loop and a thread of its own: its URL, its clock, the inside of the twins."""
    clock = Clock()
    app = create_app(clock=clock)
    ready: Future[str] = Future()
    loop = asyncio.new_event_loop()
    server = loop.create_task(serve(app, "127.0.0.1", 0, on_ready=lambda url, _: ready.set_result(url)))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(server)
        loop.close()

    thread = threading.Thread(target=run, name="sandbox")
    thread.start()
    yield ready.result(30), clock, app.state.benches
    loop.call_soon_threadsafe(server.cancel)
    thread.join()


@pytest.fixture
async def twins(running: tuple[str, Clock, dict[str, Bench]]) -> AsyncIterator[Twins]:
    """The running sandbox as if it had just started."""
    async with httpx.AsyncClient(timeout=30, verify=PLAIN) as http:
        fresh = Twins(*running, http)
        await fresh.control("reset")
        yield fresh


@pytest.fixture(scope="session")
def tls_ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox") / "ca.pem"


@pytest.fixture(scope="session")
def process(tls_ca: Path) -> Iterator[SandboxProcess]:
    """One sandbox process with TLS for all tests that need a separate one; they reset it first."""
    with SandboxProcess(tls_ca=tls_ca) as sandbox:
        yield sandbox


@pytest.fixture
def png() -> str:
    """A small image as a data URI."""
    out = io.BytesIO()
    Image.new("RGB", (64, 36), (200, 30, 30)).save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
