"""One rehearsal: start server and twins, submit over HTTP, kill, restart, and audit the end."""

import asyncio
import os
import random
import signal
import socket
import sqlite3
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from router.contract.job import Attempt, AttemptStatus, Job, Status
from router.gateway import Gateway
from router.pricing import money
from router.settings import Settings
from tests.sandbox_process import ROOT, SandboxProcess

MODELS = ("runway/gen4.5", "fal/kling-2.6-pro")
LIMITS = """
[provider]
name = "fal"
max_in_flight = 60
"""
RUNWAY_LIMITS = """
[[model]]
id = "runway/gen4.5"
limits = { max_in_flight = 60, starts_per_day = 20000 }
"""
COPIED = 5
"""Every so many jobs allow a second copy."""
DEADLINE = "15s"
RENDER_S = 2.0
"""Longer than a server lives between two kills on average, so that each kill hits work in every state."""
FIRST_PROGRESS_LIMIT_S = 3.0


@dataclass
class Report:
    """What the audit found; green only when every line holds."""

    lines: list[tuple[str, str, bool]] = field(default_factory=list)

    def add(self, what: str, value: object, holds: bool = True) -> None:
        """One checked figure."""
        self.lines.append((what, str(value), holds))

    @property
    def green(self) -> bool:
        """Whether everything holds."""
        return all(holds for _, _, holds in self.lines)

    def text(self) -> str:
        """A table."""
        width = max(len(what) for what, _, _ in self.lines)
        return "\n".join(
            f"  {'ok  ' if holds else 'FAIL'} {what:<{width}}  {value}" for what, value, holds in self.lines
        )


class Rehearsal:
    """Holds the moving parts of one run."""

    def __init__(self, home: Path, url: str | None, *, jobs: int, kills: int, seed: int | None) -> None:
        self.home = home
        self.jobs = jobs
        self.kills = kills
        self.random = random.Random(seed)
        self.environ = {
            "PATH": os.environ["PATH"],
            "UNDERSTUDY_HOME": str(home),
            "UNDERSTUDY_LOCAL_ENABLED": "false",
            "UNDERSTUDY_ROUTER_VALUE_OF_DEADLINE_USD": "100000",
            "PYTHONUNBUFFERED": "1",
        }
        if url is not None:
            self.environ["UNDERSTUDY_DATABASE_URL"] = url
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.server: asyncio.subprocess.Process | None = None
        self.accepted: dict[str, str] = {}
        self.first_progress: list[float] = []
        self.in_doubt = 0
        self.permits = asyncio.Semaphore(0)

    async def run(self) -> Report:
        """The whole rehearsal."""
        (self.home / "providers").mkdir(parents=True)
        (self.home / "providers" / "fal.toml").write_text(LIMITS, encoding="utf-8")
        (self.home / "providers" / "runway.toml").write_text(RUNWAY_LIMITS, encoding="utf-8")
        with SandboxProcess() as sandbox:
            self.environ["UNDERSTUDY_SANDBOX_URL"] = sandbox.url
            for provider in ("runway", "fal"):
                sandbox.settings(provider, render_seconds=RENDER_S, concurrency=200, per_day=100_000)
            started = time.monotonic()
            await self._start()
            feeding = asyncio.create_task(self._feed())
            try:
                for kill in range(self.kills):
                    # New work for every life of the server, spread so that the last kill finds some too.
                    self._allow(self.jobs * (kill + 1) // self.kills - self.jobs * kill // self.kills)
                    await asyncio.sleep(self.random.uniform(0.3, 2.5))
                    # Answers that come late make the moment of doubt wide enough to be hit.
                    sandbox.post_fault(
                        self.random.choice(["runway", "fal"]), "slow_accept", times=2, seconds=0.4
                    )
                    await self._kill()
                    await self._start()
                await feeding
                await self._until_ended()
            finally:
                feeding.cancel()
                await self._stop()
            report = await self._audit(sandbox)
            report.add("seconds", round(time.monotonic() - started))
            return report

    # -- the server under test

    async def _start(self) -> None:
        at = time.monotonic()
        before = await asyncio.to_thread(self._last_event)
        open_ = await asyncio.to_thread(self._open_attempts)
        self.server = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "router", "serve", "--no-page", "--port", str(self.port)),
            cwd=ROOT,
            env=self.environ,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        waits = before is not None and open_ > 0
        while time.monotonic() - at < 60:
            if self.server.returncode is not None:
                raise RuntimeError(f"the server ended by itself with {self.server.returncode}")
            if waits and await asyncio.to_thread(self._last_event) != before:
                self.first_progress.append(time.monotonic() - at)
                return
            if not waits and await self._healthy():
                return
            await asyncio.sleep(0.02)
        raise RuntimeError("the server did not come up within a minute")

    async def _healthy(self) -> bool:
        with suppress(httpx.HTTPError):
            async with httpx.AsyncClient() as client:
                return (await client.get(f"http://127.0.0.1:{self.port}/healthz")).status_code == 200
        return False

    async def _kill(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGKILL)
        await self.server.wait()
        self.in_doubt += await asyncio.to_thread(self._sending)

    async def _stop(self) -> None:
        if self.server is not None and self.server.returncode is None:
            self.server.terminate()
            try:
                await asyncio.wait_for(self.server.wait(), 90)
            except TimeoutError:
                self.server.kill()
                await self.server.wait()

    # -- a look from outside, without our own code in between

    def _ask(self, query: str) -> Any:
        url = self.environ.get("UNDERSTUDY_DATABASE_URL")
        try:
            if url is None:
                conn = sqlite3.connect(f"file:{self.home / 'understudy.sqlite'}?mode=ro", uri=True)
                try:
                    return conn.execute(query).fetchone()[0]
                finally:
                    conn.close()
            import psycopg

            with psycopg.connect(url, options="-c search_path=understudy") as conn_:
                row = conn_.execute(query.encode()).fetchone()
                return row[0] if row else None
        except (sqlite3.OperationalError, psycopg_error()):
            return None

    def _last_event(self) -> int | None:
        found = self._ask("SELECT coalesce(max(seq), 0) FROM events WHERE attempt IS NOT NULL")
        return None if found is None else int(found)

    def _open_attempts(self) -> int:
        states = "('submitting', 'sending', 'running', 'fetching')"
        return int(self._ask(f"SELECT count(*) FROM attempts WHERE status IN {states}") or 0)

    def _sending(self) -> int:
        return int(self._ask("SELECT count(*) FROM attempts WHERE status = 'sending'") or 0)

    # -- a client that does what a good client does

    async def _feed(self) -> None:
        """Submit all jobs, each under its own key, again and again until the server acknowledged it."""
        await asyncio.gather(*(self._submit(i) for i in range(self.jobs)))

    def _allow(self, more: int) -> None:
        for _ in range(more):
            self.permits.release()

    async def _submit(self, number: int) -> None:
        await self.permits.acquire()
        body: dict[str, Any] = {
            "prompt": f"clip {number}",
            "model": MODELS[number % len(MODELS)],
            "preferences": {"substitutes": "none"},
        }
        if number % COPIED == 0:
            # Likely to be late, by a deadline that is worth much: each gets a second copy.
            body["preferences"] = {
                "substitutes": "any",
                "backends": MODELS,
                "deadline": DEADLINE,
                "allow_duplicate_spend": True,
            }
        key = f"crash-{number}"
        while True:
            with suppress(httpx.HTTPError):
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=20) as client:
                    if key not in self.accepted:
                        answer = await client.post("/v1/videos", json=body, headers={"Idempotency-Key": key})
                        answer.raise_for_status()
                        self.accepted[key] = answer.json()["id"]
                    view = (await client.get(f"/v1/videos/{self.accepted[key]}")).raise_for_status().json()
                    if view["state"] in {"completed", "failed", "cancelled", "unresolved"}:
                        return
            await asyncio.sleep(0.3)

    async def _until_ended(self) -> None:
        """Every acknowledged job has come to an end that stays."""
        until = time.monotonic() + 180
        while time.monotonic() < until:
            jobs = await self._all_jobs()
            ended = all(job.status.ended and all(a.status.ended for a in job.attempts) for job in jobs)
            if len(jobs) >= len(self.accepted) and ended:
                return
            await asyncio.sleep(0.5)

    async def _all_jobs(self) -> list[Job]:
        jobs: list[Job] = []
        async with self._gateway() as gateway:
            after = None
            while True:
                page = await gateway.list(limit=100, after=after, order="asc")
                jobs += page.jobs
                if not page.has_more:
                    return jobs
                after = page.jobs[-1].id

    def _gateway(self) -> Gateway:
        return Gateway.open(Settings.load(self.environ))

    # -- the audit

    async def _audit(self, sandbox: SandboxProcess) -> Report:
        jobs = await self._all_jobs()
        bill = sandbox.bill()
        by_task = {row["task"]: row for row in bill}
        report = Report()
        known = {job.id for job in jobs}
        lost = [job_id for job_id in self.accepted.values() if job_id not in known]
        stuck = [job.id for job in jobs if not job.status.ended]
        report.add("jobs acknowledged", len(self.accepted), len(self.accepted) == self.jobs)
        report.add("jobs in the database", len(jobs), len(jobs) == self.jobs)
        report.add("lost jobs", len(lost) + len(stuck), not lost and not stuck)
        report.add("states", dict(Counter(job.status.value for job in jobs)))
        attempts = [attempt for job in jobs for attempt in job.attempts]
        settled = [
            a for a in attempts if a.operation is not None and a.status is not AttemptStatus.UNRESOLVED
        ]
        unresolved = [a for a in attempts if a.status is AttemptStatus.UNRESOLVED]
        report.add("kills", self.kills)
        report.add("attempts", len(attempts))
        copies = [job for job in jobs if any(_is_copy(job, attempt) for attempt in job.attempts)]
        report.add("jobs with a second copy", len(copies), bool(copies))
        more = [job.id for job in copies if sum(_is_copy(job, a) for a in job.attempts) > 1]
        report.add("jobs with a third", len(more), not more)
        twice = [
            task for task, n in Counter(a.operation.ref for a in settled if a.operation).items() if n > 1
        ]
        report.add("tasks claimed by two attempts", len(twice), not twice)
        leftover = _leftover(bill, settled)
        report.add(
            "bill rows without an attempt that may have made them",
            _unexplained(leftover, unresolved),
            _unexplained(leftover, unresolved) == 0,
        )
        wrong = [a.id for a in settled if a.operation and a.billed_usd != _usd(by_task.get(a.operation.ref))]
        report.add("settled attempts whose ledger differs from the bill", len(wrong), not wrong)
        report.add(
            "unresolved (in doubt at the kills)",
            f"{len(unresolved)} ({self.in_doubt})",
            len(unresolved) <= self.in_doubt,
        )
        uncovered = [a.id for a in unresolved if a.reserved_usd < _dearest(leftover, a)]
        report.add("unresolved with too small a reservation", len(uncovered), not uncovered)
        await self._settle(unresolved, leftover)
        billed = sum((Decimal(row["usd"]) for row in bill), Decimal(0))
        after = await self._all_jobs()
        booked = sum((job.billed_usd for job in after), Decimal(0))
        reserved = sum((job.reserved_usd for job in after), Decimal(0))
        report.add("twins' bill", f"${money(billed)}")
        report.add(
            "our books after settling",
            f"${money(booked)} + ${money(reserved)} reserved",
            booked == billed and not reserved,
        )
        async with self._gateway() as gateway:
            chain = await gateway.verify_ledger()
        report.add("ledger chain", f"{chain['rows']} rows", not chain["problems"])
        open_states = Counter(job.status.value for job in after if job.status is Status.UNRESOLVED)
        report.add("still unresolved after settling", sum(open_states.values()), not open_states)
        if self.first_progress:
            median = statistics.median(self.first_progress)
            report.add(
                "start to first progress, median / worst s",
                f"{median:.2f} / {max(self.first_progress):.2f}",
                median < FIRST_PROGRESS_LIMIT_S,
            )
        return report

    async def _settle(self, unresolved: Sequence[Attempt], leftover: Sequence[dict[str, Any]]) -> None:
        """What a person does: look at the provider's bill, enter what it says, nothing where it has no row."""
        rows = list(leftover)
        for attempt in unresolved:
            row = next((r for r in rows if r["provider"] == attempt.backend), None)
            how = ["--nothing"]
            if row is not None:
                rows.remove(row)
                how = ["--billed", row["usd"]]
            done = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "router",
                "settle",
                attempt.job_id,
                *how,
                cwd=ROOT,
                env=self.environ,
                stdout=asyncio.subprocess.DEVNULL,
            )
            if await done.wait() != 0:
                raise RuntimeError(f"settle {attempt.job_id} ended with {done.returncode}")


def _is_copy(job: Job, attempt: Attempt) -> bool:
    """Whether another attempt of the job was open when this one began."""
    return any(a.n < attempt.n and (a.ended_at or a.created_at) > attempt.created_at for a in job.attempts)


def psycopg_error() -> type[Exception]:
    """psycopg's base error; the module is only needed on PostgreSQL but always installed."""
    import psycopg

    return psycopg.Error


def _usd(row: dict[str, Any] | None) -> Decimal | None:
    return None if row is None else Decimal(row["usd"])


def _leftover(bill: Sequence[dict[str, Any]], settled: Sequence[Attempt]) -> list[dict[str, Any]]:
    """Bill rows whose task id no attempt of ours holds."""
    claimed = {a.operation.ref for a in settled if a.operation is not None}
    return [row for row in bill if row["task"] not in claimed]


def _unexplained(leftover: Sequence[dict[str, Any]], unresolved: Sequence[Attempt]) -> int:
    """Rows beyond one for each unresolved attempt of that provider: something was bought twice."""
    have = Counter(a.backend for a in unresolved)
    rows = Counter(row["provider"] for row in leftover)
    return sum(max(count - have[provider], 0) for provider, count in rows.items())


def _dearest(leftover: Sequence[dict[str, Any]], attempt: Attempt) -> Decimal:
    return max((Decimal(r["usd"]) for r in leftover if r["provider"] == attempt.backend), default=Decimal(0))
