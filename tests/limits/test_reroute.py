"""A 429 with Retry-After at the preferred provider: how soon the job runs elsewhere, and who is left alone how long."""

import asyncio
import itertools
import statistics
from datetime import datetime
from pathlib import Path

import pytest

from router.contract.job import AttemptStatus, Job
from router.contract.request import VideoRequest
from router.gateway import EngineRole, Gateway
from router.settings import Settings
from tests.sandbox_process import SandboxProcess

PREFERRED, OTHER = "runway/gen4.5", "fal/veo3.1-fast"
"""$0.60 against $0.80 for the default clip."""
TIMES = 20
RETRY_AFTER_S = 1
ROWS = {
    "runway": f'[[model]]\nid = "{PREFERRED}"\nlimits = {{ max_in_flight = 50, starts_per_day = 5000 }}\n',
    "fal": '[provider]\nname = "fal"\nlimits = { max_in_flight = 50 }\n',
}


def request(number: int) -> VideoRequest:
    wish = {"backends": [PREFERRED, OTHER]}
    return VideoRequest.model_validate({"prompt": f"a red ball, number {number}", "preferences": wish})


async def running_on(gateway: Gateway, job: Job, model: str) -> Job:
    async with asyncio.timeout(30):
        async for seen in gateway.watch(job.id):
            last = seen.attempts[-1] if seen.attempts else None
            if last is not None and last.model == model and last.accepted_at is not None:
                return seen
    raise AssertionError(f"{job.id} never ran on {model}")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_limited_job_runs_elsewhere_within_a_second_and_the_limit_is_obeyed(home: Path) -> None:
    (home / "providers").mkdir()
    for name, rows in ROWS.items():
        (home / "providers" / f"{name}.toml").write_text(rows, encoding="utf-8")
    took = []
    with SandboxProcess() as sandbox:
        for twin in ROWS:
            sandbox.settings(twin, render_seconds=0.2, concurrency=100, per_day=5000)
        environ = {
            "UNDERSTUDY_HOME": str(home),
            "UNDERSTUDY_SANDBOX_URL": sandbox.url,
            "UNDERSTUDY_LOCAL_ENABLED": "false",
        }
        async with Gateway.open(Settings.load(environ), EngineRole.SERVE) as gateway:
            for number in range(TIMES):
                await asyncio.to_thread(
                    sandbox.post_fault, "runway", "rate_limit", times=1, seconds=RETRY_AFTER_S
                )
                limited = await running_on(gateway, await gateway.submit(request(number)), OTHER)
                first, second = limited.attempts
                assert (first.model, first.status) == (PREFERRED, AttemptStatus.FAILED)
                assert first.error is not None and first.error.code == "rate_limited"
                assert second.accepted_at is not None and first.ended_at is not None
                took.append((second.accepted_at - limited.created_at).total_seconds())
                follower = await running_on(gateway, await gateway.submit(request(number)), OTHER)
                assert len(follower.attempts) == 1, "the resting offer is not even asked"
                # Real time has to pass: the provider said so.
                await asyncio.sleep(RETRY_AFTER_S + 0.2)
        calls = [
            (datetime.fromisoformat(row["time"]), row["status"])
            for row in sandbox.requests()
            if row["method"] == "POST" and row["path"].startswith("/runway/v1/text_to_video")
        ]
    assert [status for _, status in calls] == [429] * TIMES
    gaps = [(later[0] - earlier[0]).total_seconds() for earlier, later in itertools.pairwise(calls)]
    assert min(gaps) >= RETRY_AFTER_S
    assert statistics.median(took) < 1.0, sorted(took)
