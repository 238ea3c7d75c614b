"""The providers' stand-ins as a child process, told over HTTP what to do."""

import asyncio
import json
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from router.contract.errors import ServerTrouble
from router.contract.words import words

RETRY_AFTER_S = 1
"""Seconds that a rate-limited stand-in asks for."""


class Sandbox:
    """The stand-ins in a process of their own, told over HTTP what to do."""

    def __init__(self, url: str) -> None:
        """`url` as the sandbox printed it."""
        self.url = url
        self.billed = Decimal(0)
        """Sum of all bills so far; a reset clears the stand-ins' own."""

    async def call(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """GET, or POST with a body; raises ServerTrouble when it does not answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/_sandbox/{path}", data=data, headers={"Content-Type": "application/json"}
        )

        def send() -> Any:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)

        try:
            return await asyncio.to_thread(send)
        except (urllib.error.URLError, TimeoutError, ValueError) as error:
            raise ServerTrouble(
                words(f"The sandbox does not answer: {error}", f"サンドボックスが応答しません: {error}")
            ) from None

    async def break_with(self, kind: str, providers: Sequence[str]) -> None:
        """From now on every one of them does that, until `heal`."""
        for provider in providers:
            order = {"provider": provider, "kind": kind, "times": -1, "seconds": RETRY_AFTER_S}
            await self.call("faults", order)

    async def heal(self) -> None:
        """All well again; what was billed until now is remembered here."""
        self.billed += sum((Decimal(row["usd"] or "0") for row in await self.call("bill")), Decimal(0))
        await self.call("reset", {})


@asynccontextmanager
async def sandbox(log: Path) -> AsyncIterator[Sandbox]:
    """Start the stand-ins on a free port; they end with the block, or when this process dies."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "router", "sandbox", "--port", "0", "--json", "--with-parent"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield Sandbox(await _told_url(process, log))
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _told_url(process: asyncio.subprocess.Process, log: Path) -> str:
    assert process.stdout is not None
    said = b""
    async for line in process.stdout:
        said += line
        with suppress(ValueError):
            return str(json.loads(said)["url"])
    raise ServerTrouble(
        words(
            f"The sandbox did not start; see {log}.",
            f"サンドボックスが起動しません。{log} を確認してください。",
        )
    )
