"""Twins on a real socket, with a clock that only the test moves."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Iterator
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


@pytest.fixture
async def twins() -> AsyncIterator[Twins]:
    clock = Clock()
    app = create_app(clock=clock)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve(app, "127.0.0.1", 0, on_ready=lambda url, _: ready.set_result(url)))
    async with httpx.AsyncClient(timeout=30) as http:
        yield Twins(await ready, clock, app.state.benches, http)
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)


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
