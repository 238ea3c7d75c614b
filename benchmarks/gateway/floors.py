"""What there is to compare with: a pass-through without memory, and the least that a durable create can be.

`e1` commits one transaction per job, `e2` has one writer that commits up to 256 waiting jobs together; both are SQLite
with WAL and `synchronous=FULL`. None of them routes, limits, pays or carries anything.
"""

import argparse
import asyncio
import json
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field

TOGETHER = 256
KEY = "sandbox-bench"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS jobs (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, status TEXT NOT NULL, "
    "request TEXT NOT NULL, created_at INTEGER NOT NULL)"
)
_INSERT = "INSERT INTO jobs (id, status, request, created_at) VALUES (?, 'queued', ?, ?)"
Row = tuple[str, str, int]


class Wanted(BaseModel):
    """A create as the floors check it."""

    prompt: str = Field(min_length=1, max_length=32_000)
    model: str | None = None
    seconds: str = "4"
    size: str = "1280x720"


class Writer(Protocol):
    """Puts a row on disk."""

    async def put(self, row: Row) -> None:
        """Return once the row is committed."""
        ...


class OneByOne:
    """`e1`: a thread that commits each row by itself."""

    def __init__(self, file: Path) -> None:
        """Opens the file."""
        self._thread = ThreadPoolExecutor(1)
        self._db = connect(file)

    def _write(self, row: Row) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(_INSERT, row)
        self._db.execute("COMMIT")

    async def put(self, row: Row) -> None:
        """One transaction."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, row)


class Together:
    """`e2`: a thread that commits what waits in one transaction."""

    def __init__(self, file: Path) -> None:
        """Opens the file and starts the thread."""
        self._db = connect(file)
        self._queue: queue.SimpleQueue[tuple[Row, Future[None]]] = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def _write(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < TOGETHER and not self._queue.empty():
                batch.append(self._queue.get())
            self._db.execute("BEGIN IMMEDIATE")
            for row, _ in batch:
                self._db.execute(_INSERT, row)
            self._db.execute("COMMIT")
            for _, done in batch:
                done.set_result(None)

    async def put(self, row: Row) -> None:
        """In the next transaction."""
        done: Future[None] = Future()
        self._queue.put((row, done))
        await asyncio.wrap_future(done)


def connect(file: Path) -> sqlite3.Connection:
    """The durable settings that Understudy has too."""
    db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=30)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
        db.execute(f"PRAGMA {pragma}")
    db.execute(_SCHEMA)
    return db


def durable(file: Path, kind: str) -> FastAPI:
    """Create, status and list over one table, and nothing else."""
    writer: Writer = OneByOne(file) if kind == "e1" else Together(file)
    reading = connect(file)
    app = FastAPI()

    def view(row: tuple[str, str, str, int]) -> dict[str, Any]:
        wanted: dict[str, Any] = json.loads(row[2])
        return {"id": row[0], "object": "video", "status": row[1], "created_at": row[3] // 1_000_000} | wanted

    @app.post("/v1/videos")
    async def create(wanted: Wanted) -> dict[str, Any]:
        row = (f"vid_{secrets.token_hex(12)}", wanted.model_dump_json(), time.time_ns() // 1000)
        await writer.put(row)
        return view((row[0], "queued", row[1], row[2]))

    @app.get("/v1/videos/{video_id}")
    async def status(video_id: str) -> dict[str, Any]:
        query = "SELECT id, status, request, created_at FROM jobs WHERE id = ?"
        row = reading.execute(query, (video_id,)).fetchone()
        if row is None:
            raise HTTPException(404)
        return view(row)

    @app.get("/v1/videos")
    async def listing(limit: int = 20) -> dict[str, Any]:
        query = "SELECT id, status, request, created_at FROM jobs ORDER BY seq DESC LIMIT ?"
        return {"object": "list", "data": [view(row) for row in reading.execute(query, (limit,))]}

    return app


def passing(upstream: str) -> FastAPI:
    """Every call goes to the provider and its answer comes back: no memory, no routing."""
    client = httpx.AsyncClient(
        base_url=upstream,
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=60,
        limits=httpx.Limits(max_connections=64, max_keepalive_connections=64),
        trust_env=False,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(lifespan=lifespan)

    def passed(answer: httpx.Response) -> Response:
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    @app.post("/v1/videos")
    async def create(wanted: Wanted) -> Response:
        body = {"model": "sora-2", **wanted.model_dump(exclude_none=True)}
        return passed(await client.post("/v1/videos", json=body))

    @app.get("/v1/videos")
    async def listing(request: Request) -> Response:
        return passed(await client.get("/v1/videos", params=request.query_params))

    @app.get("/v1/videos/{video_id}")
    async def status(video_id: str) -> Response:
        return passed(await client.get(f"/v1/videos/{video_id}"))

    @app.get("/v1/videos/{video_id}/content")
    async def content(video_id: str) -> Response:
        return passed(await client.get(f"/v1/videos/{video_id}/content"))

    return app


def main() -> None:
    """Serve one of them on a port of loopback."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["e1", "e2", "pass"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--upstream")
    given = parser.parse_args()
    app = passing(given.upstream) if given.kind == "pass" else durable(given.file, given.kind)
    # The same settings as Understudy's own server.
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=given.port,
        ws="none",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
