"""`make limits`: 200 waiting jobs, four server processes on PostgreSQL, 5 starts a minute and 10 a day at the twin.

Real minutes pass: the twin counts in real time, and its log is the judge. Then the same with 0-3 s of random delay
before and after acceptance.
"""

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import httpx

from tests.crash.databases import database
from tests.sandbox_process import ROOT, SandboxProcess

PER_MINUTE, PER_DAY = 5, 10
MODEL = "runway/gen4.5"
ROW = f"""
[[model]]
id = "{MODEL}"
limits = {{ max_in_flight = 50, starts_per_minute = {PER_MINUTE}, starts_per_day = {PER_DAY} }}
"""


class Fleet:
    """Several `serve` processes over one database."""

    def __init__(self, home: Path, url: str, sandbox: str, size: int) -> None:
        self.environ = {
            "PATH": os.environ["PATH"],
            "UNDERSTUDY_HOME": str(home),
            "UNDERSTUDY_DATABASE_URL": url,
            "UNDERSTUDY_SANDBOX_URL": sandbox,
            "UNDERSTUDY_LOCAL_ENABLED": "false",
        }
        self.ports = [_free_port() for _ in range(size)]
        self.servers: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> "Fleet":
        for port in self.ports:
            server = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "router", "serve", "--no-page", "--port", str(port)),
                cwd=ROOT,
                env=self.environ,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            self.servers.append(server)
            await self._answers(port)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self.servers:
            with suppress(ProcessLookupError):
                server.terminate()
        for server in self.servers:
            try:
                await asyncio.wait_for(server.wait(), 60)
            except TimeoutError:
                server.kill()
                await server.wait()

    async def _answers(self, port: int) -> None:
        until = time.monotonic() + 60
        async with httpx.AsyncClient() as client:
            while time.monotonic() < until:
                with suppress(httpx.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200:
                        return
                await asyncio.sleep(0.1)
        raise RuntimeError("a server did not come up within a minute")

    async def submit(self, jobs: int) -> None:
        """Spread over all of them."""
        body = {"model": MODEL, "preferences": {"substitutes": "none"}}
        async with httpx.AsyncClient(timeout=60) as client:
            for number in range(jobs):
                port = self.ports[number % len(self.ports)]
                answer = await client.post(
                    f"http://127.0.0.1:{port}/v1/videos", json={**body, "prompt": f"clip {number}"}
                )
                answer.raise_for_status()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def most_in_a_minute(moments: list[float]) -> int:
    """The largest number of acceptances in any sliding minute."""
    return max((sum(first <= at < first + 60 for at in moments) for first in moments), default=0)


async def run(folder: Path, *, jobs: int, processes: int, delay: float, watch_s: float) -> bool:
    """One rehearsal; prints what the twin saw and says whether the limits held."""
    home = folder / f"home-{delay:g}"
    (home / "providers").mkdir(parents=True)
    (home / "providers" / "runway.toml").write_text(ROW, encoding="utf-8")
    folder = folder / f"db-{delay:g}"
    folder.mkdir(mode=0o755)
    with database("postgres", folder) as url, SandboxProcess() as sandbox:
        assert url is not None
        sandbox.settings(
            "runway",
            render_seconds=1,
            concurrency=100,
            per_minute=PER_MINUTE,
            per_day=PER_DAY,
            delay_before=delay,
            delay_after=delay,
        )
        async with Fleet(home, url, sandbox.url, processes) as fleet:
            await fleet.submit(jobs)
            await asyncio.sleep(watch_s)
        bill = sandbox.bill("runway")
        refused = [row for row in sandbox.requests() if row["status"] == 429]
    moments = [datetime.fromisoformat(row["accepted_at"]).timestamp() for row in bill]
    worst = most_in_a_minute(moments)
    good = worst <= PER_MINUTE and len(moments) == PER_DAY and not refused
    sys.stdout.write(
        f"{'ok  ' if good else 'FAIL'} {processes} processes, {jobs} jobs, 0-{delay:g} s of delay: "
        f"{len(moments)} accepted in {watch_s:.0f} s (limit {PER_DAY} a day), at most {worst} in any minute "
        f"(limit {PER_MINUTE}), {len(refused)} answered 429\n"
    )
    return good


def main() -> int:
    """Exit code 0 only when every rehearsal held."""
    parser = argparse.ArgumentParser(prog="python -m tests.limits")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--watch", type=float, default=135, help="seconds: two windows and a little")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="understudy-limits-") as name:
        Path(name).chmod(0o755)
        held = [
            asyncio.run(
                run(
                    Path(name),
                    jobs=wanted.jobs,
                    processes=wanted.processes,
                    delay=delay,
                    watch_s=wanted.watch,
                )
            )
            for delay in (0.0, 3.0)
        ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
