"""Twenty $0.50 jobs at once on a $1.00 budget, over HTTP, in one server process and in four: two, by the twins' bill."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox_process import ROOT, SandboxProcess

MODEL = "replicate/wan-3"
"""$0.10 a second, so five seconds are $0.50."""
JOBS = 20
PATIENCE_S = 60
QUIET_S = 4.0
"""How long a third purchase is waited for after the second clip is there."""


def midday() -> str:
    """A time zone in which it is about noon now, so that the budget's day does not turn in the middle of a test."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"


@contextmanager
def servers(environ: dict[str, str], count: int, logs: Path) -> Iterator[list[str]]:
    """That many `understudy serve` processes over one data folder; their addresses."""
    started = []
    try:
        for number in range(count):
            with (logs / f"serve{number}.log").open("wb") as err:
                process = subprocess.Popen(
                    [sys.executable, "-m", "router", "serve", "--no-page", "--port", "0", "--json"],
                    cwd=ROOT,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=err,
                    text=True,
                )
            started.append(process)
        yield [told_url(process) for process in started]
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def told_url(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        try:
            return str(json.loads(said)["url"])
        except ValueError:
            continue
    pytest.fail(f"serve did not start: {said}")


async def order(clients: list[httpx.AsyncClient], **headers: str) -> list[httpx.Response]:
    """All jobs at once, spread over the servers."""
    body = {
        "prompt": "a red ball",
        "model": MODEL,
        "duration": 5,
        "preferences": {"substitutes": "none", "deadline": "30d"},
    }
    calls = (clients[n % len(clients)].post("/v1/videos", json=body, headers=headers) for n in range(JOBS))
    answers = list(await asyncio.gather(*calls))
    for answer in answers:
        assert answer.status_code in {200, 402}, answer.text
    return answers


async def states(client: httpx.AsyncClient, **headers: str) -> list[str]:
    found = (await client.get("/v1/videos", params={"limit": 100}, headers=headers)).json()["data"]
    return [view["state"] for view in found]


async def two_clips(client: httpx.AsyncClient, **headers: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (await states(client, **headers)).count("completed") >= 2:
                return
            await asyncio.sleep(0.2)


async def two_and_no_third(clients: list[httpx.AsyncClient], sandbox: SandboxProcess, **headers: str) -> None:
    await two_clips(clients[0], **headers)
    await asyncio.sleep(QUIET_S)
    assert len(sandbox.bill("replicate")) == 2
    left = await states(clients[-1], **headers)
    assert left.count("completed") == 2
    # Those that were let in wait for tomorrow's money; none of them ended in a purchase.
    assert set(left) <= {"completed", "queued"}


def environment(home: Path, sandbox: SandboxProcess, url: str | None, **more: str) -> dict[str, str]:
    found = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "UNDERSTUDY_HOME": str(home),
        "UNDERSTUDY_SANDBOX_URL": sandbox.url,
        "UNDERSTUDY_LOCAL_ENABLED": "false",
        "UNDERSTUDY_BUDGET_TIMEZONE": midday(),
        **more,
    }
    return found if url is None else {**found, "UNDERSTUDY_DATABASE_URL": url}


def command(environ: dict[str, str], *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "router", *words, "--json"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "processes", [1, pytest.param(4, marks=pytest.mark.postgres)], ids=["one-sqlite", "four-postgresql"]
)
def test_twenty_jobs_at_once_buy_two(
    processes: int, home: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = None
    if processes > 1:
        new: Callable[[], str] = request.getfixturevalue("postgres")
        url = new()
    with SandboxProcess() as sandbox:
        environ = environment(home, sandbox, url, UNDERSTUDY_BUDGET_DAY_USD="1.00")
        with servers(environ, processes, tmp_path) as urls:

            async def go() -> None:
                clients = [httpx.AsyncClient(base_url=url, timeout=60) for url in urls]
                await order(clients)
                await two_and_no_third(clients, sandbox)
                await asyncio.gather(*(client.aclose() for client in clients))

            asyncio.run(go())
        bill = sandbox.bill("replicate")
    assert (len(bill), sum(Decimal(row["usd"]) for row in bill)) == (2, Decimal(1))
    assert command(environ, "spend", "--totals")["day_spent_usd"] == "1.00"
    assert command(environ, "ledger", "verify")["problems"] == []


@pytest.mark.timeout(240)
def test_an_api_keys_budget_holds_for_its_own_jobs_alone(home: Path, tmp_path: Path) -> None:
    with SandboxProcess() as sandbox:
        environ = environment(home, sandbox, None, UNDERSTUDY_SERVER_TOKEN="owner-token")
        made = command(environ, "keys", "add", "ci", "--project", "film", "--day-usd", "1")
        with servers(environ, 1, tmp_path) as urls:

            async def go() -> None:
                key, owner = (f"Bearer {secret}" for secret in (made["key"], "owner-token"))
                async with httpx.AsyncClient(base_url=urls[0], timeout=60) as client:
                    await order([client], Authorization=key)
                    await two_clips(client, Authorization=key)
                    await asyncio.sleep(QUIET_S)
                    assert len(sandbox.bill("replicate")) == 2
                    body = {"prompt": "x", "model": MODEL, "duration": 5}
                    no = await client.post("/v1/videos", json=body, headers={"Authorization": key})
                    assert no.status_code == 402, no.text
                    assert "'ci' has $0.00 of $1.00 left for today" in no.json()["error"]["message"]
                    yes = await client.post("/v1/videos", json=body, headers={"Authorization": owner})
                    assert yes.status_code == 200
                    async with asyncio.timeout(PATIENCE_S):
                        while True:
                            if len(sandbox.bill("replicate")) == 3:
                                break
                            await asyncio.sleep(0.2)

            asyncio.run(go())
        (row,) = command(environ, "keys", "list")
        assert (row["day_spent_usd"], row["prefix"]) == ("1.00", made["key"][:9])
    leaks = [
        p
        for p in (*home.rglob("*"), *tmp_path.glob("*.log"))
        if p.is_file() and made["key"].encode() in p.read_bytes()
    ]
    assert leaks == []
