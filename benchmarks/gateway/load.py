"""The load: a client process of its own that knows only enough HTTP/1.1 to cost little beside what it measures.

It reads one order as JSON from standard input, connects, says `ready`, waits for a line, runs, and prints what it saw.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 60.0
_UNIQUE = "{n}"
"""In a path or a body: replaced by the number of the request."""


@dataclass(frozen=True)
class Order:
    """What to send. `paths` are taken in turn; the run ends after `count` requests or `seconds`, whatever is first."""

    url: str
    method: str
    paths: list[str]
    connections: int
    count: int
    seconds: float
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    keep_ids: bool = False
    """Whether the `id` of each JSON answer is told."""


class Connection:
    """One kept connection; a server that closes it gets a new one."""

    def __init__(self, host: str, port: int) -> None:
        """Connects at the first request, or in `open`."""
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)

    async def close(self) -> None:
        """Disconnect, if connected."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of one exchange."""
        if self._writer is None or self._reader is None:
            await self.open()
        assert self._writer is not None and self._reader is not None
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        if b"transfer-encoding: chunked" in head:
            body = await self._chunks(self._reader)
        else:
            at = head.find(b"content-length:")
            length = int(head[at + 15 : head.index(b"\r\n", at)]) if at >= 0 else 0
            body = await self._reader.readexactly(length)
        if b"connection: close" in head:
            await self.close()
        return status, body

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = b""
        while size := int((await reader.readline()).partition(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        while await reader.readline() != b"\r\n":
            pass
        return body


def request_bytes(order: Order, number: int) -> bytes:
    """The bytes of the request with that number."""
    path = order.paths[number % len(order.paths)].replace(_UNIQUE, str(number))
    body = order.body.replace(_UNIQUE, str(number)).encode() if order.body is not None else b""
    headers = {"Host": urlsplit(order.url).netloc, "Accept": "*/*", **order.headers}
    if order.body is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{order.method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def run(order: Order) -> dict[str, Any]:
    """Carry out one order; times in seconds."""
    parts = urlsplit(order.url)
    assert parts.hostname is not None and parts.port is not None
    connections = [Connection(parts.hostname, parts.port) for _ in range(order.connections)]
    await asyncio.gather(*(each.open() for each in connections))
    _say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    numbers = iter(range(order.count))
    requests = [request_bytes(order, n) for n in range(order.count)]
    times: list[float] = []
    statuses: Counter[str] = Counter()
    ids: list[str] = []
    sample = b""
    size = 0
    cpu, start = time.process_time(), time.perf_counter()
    until = start + order.seconds

    async def work(connection: Connection) -> None:
        nonlocal sample, size
        for number in numbers:
            at = time.perf_counter()
            if at >= until:
                return
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    status, body = await connection.ask(requests[number])
            except (OSError, EOFError, TimeoutError) as error:
                statuses[type(error).__name__] += 1
                await connection.close()
                continue
            times.append(time.perf_counter() - at)
            statuses[str(status)] += 1
            size += len(body)
            if status >= 300:
                sample = sample or body[:500]
            elif order.keep_ids:
                ids.append(json.loads(body)["id"])

    await asyncio.gather(*(work(each) for each in connections))
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    for each in connections:
        await each.close()
    return {
        "wall_s": wall,
        "client_cpu_s": cpu,
        "times_s": times,
        "statuses": dict(statuses),
        "ids": ids,
        "bytes": size,
        "refused": sample.decode("utf-8", "replace"),
    }


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Read the order, carry it out, print the result."""
    _say(json.dumps(asyncio.run(run(Order(**json.loads(sys.stdin.readline()))))))


if __name__ == "__main__":
    main()
