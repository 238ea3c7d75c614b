"""An outage in the middle of a stream of jobs, drawn as a timeline.

A real server, a real twin that answers 503 for a while, the shipped tiny model as the understudy. The breaker must open
after three refusals, every job of the outage must run on our own device, one probe must go when the pause is over, and
all jobs must return after it. The twin's own log is the judge of what reached it.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from router.contract.job import Job, Status
from router.contract.request import VideoRequest
from router.gateway import EngineRole, Gateway
from router.settings import Settings
from tests.sandbox_process import SandboxProcess

CLOUD, LOCAL = "runway/gen4.5", "local/tiny"
ROW = f"""
[[model]]
id = "{CLOUD}"
limits = {{ max_in_flight = 20, starts_per_day = 5000 }}
"""
RESULTS = Path(__file__).resolve().parent.parent / "results"
SUBMIT = "/runway/v1/text_to_video"


@dataclass(frozen=True)
class Times:
    """Seconds from the first job."""

    down: float
    up: float
    end: float


def main() -> int:
    """Exit code 0 when the breaker did what it promises."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outage", description=__doc__)
    parser.add_argument("--per-second", type=float, default=1.0)
    parser.add_argument("--down", type=float, default=12)
    parser.add_argument("--up", type=float, default=36)
    parser.add_argument("--end", type=float, default=75)
    wanted = parser.parse_args()
    times = Times(wanted.down, wanted.up, wanted.end)
    with tempfile.TemporaryDirectory(prefix="understudy-outage-") as folder, SandboxProcess() as sandbox:
        home = Path(folder)
        (home / "providers").mkdir()
        (home / "providers" / "runway.toml").write_text(ROW, encoding="utf-8")
        sandbox.settings("runway", render_seconds=1, concurrency=50, per_day=5000)
        started, jobs = asyncio.run(_run(home, sandbox, times, wanted.per_second))
        calls = [
            (_since(started, row["time"]), row["status"])
            for row in sandbox.requests()
            if row["method"] == "POST" and row["path"] == SUBMIT
        ]
    found = audit(jobs, calls, times)
    RESULTS.mkdir(exist_ok=True)
    stamp = datetime.now(UTC).date().isoformat()
    (RESULTS / f"{stamp}-outage.svg").write_text(draw(started, jobs, calls, times), encoding="utf-8")
    report = {"date": stamp, "machine": machine(), "checks": found}
    (RESULTS / f"{stamp}-outage.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for what, (value, holds) in found.items():
        sys.stdout.write(f"  {'ok  ' if holds else 'FAIL'} {what}: {value}\n")
    return 0 if all(holds for _, holds in found.values()) else 1


async def _run(
    home: Path, sandbox: SandboxProcess, times: Times, per_second: float
) -> tuple[datetime, list[Job]]:
    environ = {
        "PATH": os.environ["PATH"],
        "UNDERSTUDY_HOME": str(home),
        "UNDERSTUDY_SANDBOX_URL": sandbox.url,
    }
    settings = Settings.load(environ, {"local": {"demo_model": True}})
    async with Gateway.open(settings, EngineRole.SERVE) as gateway:
        # The model process loads before the clock runs: its start is no part of the outage.
        await _ended(gateway, await gateway.submit(_request("warm up", LOCAL)))
        loop, started = asyncio.get_running_loop(), datetime.now(UTC)
        zero = loop.time()
        ids: list[str] = []
        switched = [False, False]
        while (now := loop.time() - zero) < times.end:
            if now >= times.down and not switched[0]:
                await asyncio.to_thread(sandbox.post_fault, "runway", "unavailable", times=-1)
                switched[0] = True
            if now >= times.up and not switched[1]:
                await asyncio.to_thread(sandbox.heal)
                switched[1] = True
            ids.append((await gateway.submit(_request(f"a red ball, number {len(ids)}", CLOUD, LOCAL))).id)
            await asyncio.sleep(max(len(ids) / per_second - (loop.time() - zero), 0))
        return started, [await _ended(gateway, await gateway.get(job_id)) for job_id in ids]


def _request(prompt: str, *backends: str) -> VideoRequest:
    return VideoRequest.model_validate({"prompt": prompt, "preferences": {"backends": backends}})


async def _ended(gateway: Gateway, job: Job) -> Job:
    async with asyncio.timeout(120):
        async for changed in gateway.watch(job.id):
            job = changed
    return job


def _since(started: datetime, moment: str) -> float:
    return (datetime.fromisoformat(moment) - started).total_seconds()


def audit(
    jobs: Sequence[Job], calls: Sequence[tuple[float, int | None]], times: Times
) -> dict[str, tuple[Any, bool]]:
    """What must hold, by the jobs themselves and by the twin's log."""
    refused = [at for at, status in calls if status == 503]
    good = [at for at, status in calls if status == 200]
    returned = min((at for at in good if at > times.up), default=float("inf"))
    opened = refused[2] if len(refused) >= 3 else float("inf")
    probes = [at for at, _ in calls if opened + 2 < at <= returned]
    after = [job for job in jobs if (job.created_at - jobs[0].created_at).total_seconds() > returned + 2]
    # By when their clip was begun: a job that waited for a free place of ours may return with the cloud.
    during = [job for job in jobs if opened + 1 < _begun(job, jobs[0]) < min(returned, times.end) - 2]
    return {
        "jobs, all completed": (len(jobs), all(job.status is Status.COMPLETED for job in jobs)),
        "refusals before the breaker held": (
            len([at for at in refused if at <= opened + 2]),
            len(refused) >= 3,
        ),
        "jobs of the outage on our own device": (
            f"{sum(job.model == LOCAL for job in during)} of {len(during)}",
            bool(during) and all(job.model == LOCAL for job in during),
        ),
        "probes until it answered again": (len(probes), len(probes) == 1),
        "jobs after the return in the cloud": (
            f"{sum(job.model == CLOUD for job in after)} of {len(after)}",
            bool(after) and all(job.model == CLOUD for job in after),
        ),
    }


def _begun(job: Job, first: Job) -> float:
    """Seconds from the first job to the start of the attempt that made the clip."""
    return (job.attempts[-1].created_at - first.created_at).total_seconds()


def draw(
    started: datetime, jobs: Sequence[Job], calls: Sequence[tuple[float, int | None]], times: Times
) -> str:
    """An SVG: each job when its clip was begun, on the lane where it ran; below them every call that reached the twin."""
    width, left, scale = 960, 130, 800 / times.end

    def x(seconds: float) -> float:
        return round(left + seconds * scale, 1)

    lanes = {CLOUD: 50, LOCAL: 110}
    colours = {CLOUD: "#1d4ed8", LOCAL: "#15803d"}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="230" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<rect x="{x(times.down)}" y="20" width="{round((times.up - times.down) * scale, 1)}" height="160" fill="#fee2e2"/>',
        f'<text x="{x(times.down) + 4}" y="34" fill="#b91c1c">provider down (503)</text>',
    ]
    for lane, y in {**lanes, "calls at the twin": 165}.items():
        parts.append(f'<text x="8" y="{y + 4}">{lane}</text>')
        parts.append(f'<line x1="{left}" x2="{left + 800}" y1="{y}" y2="{y}" stroke="#d1d5db"/>')
    for job in jobs:
        at = x((job.attempts[-1].created_at - started).total_seconds())
        if job.model in lanes:
            parts.append(f'<circle cx="{at}" cy="{lanes[job.model]}" r="4" fill="{colours[job.model]}"/>')
    for at_s, status in calls:
        colour = "#1d4ed8" if status == 200 else "#b91c1c"
        parts.append(f'<rect x="{x(at_s) - 1}" y="157" width="3" height="16" fill="{colour}"/>')
    parts += [
        f'<text x="{x(second)}" y="205" text-anchor="middle">{second} s</text>'
        for second in range(0, int(times.end) + 1, 15)
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
