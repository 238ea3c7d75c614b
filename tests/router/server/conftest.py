"""A server on a free loopback port over the gateway in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from router.gateway import Gateway
from router.server.app import serve
from router.server.page_slot import PageFactory
from router.settings import ServerSettings, Settings
from tests.router.server.fake_gateway import FakeGateway

Start = Callable[..., Awaitable[tuple[FakeGateway, str]]]


def settings_in(home: Path, **server: Any) -> Settings:
    return Settings(home=home, database_url="sqlite://", server=ServerSettings.model_validate(server))


@asynccontextmanager
async def running(
    gateway: Gateway, *, host: str = "127.0.0.1", page: PageFactory | None = None
) -> AsyncIterator[str]:
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        # A server that cannot start ends the group, and with it the wait.
        task = group.create_task(serve(gateway, host=host, port=0, page=page, on_listening=url.set_result))
        try:
            yield await url
        finally:
            task.cancel()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """`gateway, url = await start(token=...)`: further keywords are settings of the section [server]."""
    async with AsyncExitStack() as stack:

        async def begin(
            *, auto: bool = True, page: PageFactory | None = None, **server: Any
        ) -> tuple[FakeGateway, str]:
            gateway = FakeGateway(settings_in(tmp_path, **server), auto=auto)
            return gateway, await stack.enter_async_context(running(gateway, page=page))

        yield begin


@pytest.fixture
async def gateway_and_http(start: Start) -> AsyncIterator[tuple[FakeGateway, httpx.AsyncClient]]:
    gateway, url = await start(auto=False)
    async with httpx.AsyncClient(base_url=url) as client:
        yield gateway, client


@asynccontextmanager
async def sdk(url: str, key: str = "any-key") -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as client:
        yield client
