"""The same faults through a real gateway and a real model process: the job is completed all the same, and the money adds up."""

import os
import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import TYPE_CHECKING

import psutil
import pytest
import pytest_asyncio

from router import ledger
from router.contract.job import Job, Status
from router.gateway import EngineRole, Gateway
from router.settings import Settings
from tests import fakes
from tests.fakes import write_provider
from tests.local_models.conftest import SCRIPTED, until
from tests.local_models.scripted_pipeline import NEVER
from tests.router.house import ask, end, kinds
from tests.router.house import until as until_seen
from tests.router.media_files import clip

if TYPE_CHECKING:
    from tests.local_models.random_weights import Folders

pytestmark = pytest.mark.asyncio(loop_scope="module")

AWAY = "away/clip"
STEP_LIMIT_S = 3
MODELS = ("load", "denoise", "decode", "tiles", "killed", "hung", "written")
"""One per fault, so that the rest which one of them earns its model hinders no other test."""
ROW = """
[[model]]
id = "local/{name}"
wire_id = "{name}"
family = "scene"
tasks = ["text-to-video"]
durations = [5]
fps = [8]
resolutions = ["32x32"]
aspect_ratios = ["1:1"]
failure_billed = "never"
lost_submit = "resend"
cancel = "running"
typical_seconds = 1
as_of = 2026-11-21
source = "tests"

[[model.sizes]]
resolution = "32x32"
aspect_ratio = "1:1"
width = 32
height = 32

[model.local]
path = "{folder}"
licence = "Apache-2.0"
pipeline = "{pipeline}"
size_multiple = 32
native_frames = 41
max_frames = 41
steps = 3
guidance = 1.0
max_sequence_length = 16

[[model.prices]]
usd = "0"
per = "clip"
as_of = 2026-11-21
source = "tests"
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="gateway")
async def _gateway(tmp_path_factory: pytest.TempPathFactory, weights: "Folders") -> AsyncIterator[Gateway]:
    home = tmp_path_factory.mktemp("home")
    write_provider(home, "away", usd="0.10")
    large = tmp_path_factory.mktemp("large")
    for file in weights.ti2v.rglob("*"):
        if file.is_file():
            to = large / file.relative_to(weights.ti2v)
            to.parent.mkdir(exist_ok=True, parents=True)
            to.write_bytes(file.read_bytes())
    (large / "too-large").write_text(NEVER, encoding="utf-8")
    rows = [
        ROW.format(name=name, folder=large if name == "load" else weights.ti2v, pipeline=SCRIPTED)
        for name in MODELS
    ]
    (home / "providers" / "local.toml").write_text("".join(rows), encoding="utf-8")
    fakes.clips[:] = [clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=12)]
    own = f'[local]\ndevice = "cpu"\n[providers.local]\nstep_limit_s = {STEP_LIMIT_S}\n'
    (home / "understudy.toml").write_text(own, encoding="utf-8")
    async with Gateway.open(Settings.load({"UNDERSTUDY_HOME": str(home)}), EngineRole.SERVE) as opened:
        assert opened.problems == ()
        yield opened
    fakes.studios.clear()
    left = [child.cmdline() for child in psutil.Process().children() if child.status() != "zombie"]
    assert not [line for line in left if "local_models._worker" in line]


async def start(gateway: Gateway, model: str, prompt: str, *elsewhere: str) -> Job:
    """Our own device first: it costs nothing."""
    preferences = {"mode": "cheapest"}
    return await gateway.submit(ask(f"local/{model}", *elsewhere, prompt=prompt, preferences=preferences))


async def settled(gateway: Gateway, job: Job, usd: str) -> None:
    """Nothing stays reserved, the attempts' sums are the bill, the chain holds."""
    booked = [
        await gateway._db.read(lambda tx, n=a.n: ledger.attempt_sum(tx, job.id, n))  # type: ignore[misc]
        for a in job.attempts
    ]
    assert [reserved for reserved, _ in booked] == [0] * len(booked)
    assert sum(paid for _, paid in booked) == int(Decimal(usd) * 1_000_000)
    assert (job.reserved_usd, job.billed_usd) == (Decimal(0), Decimal(usd))
    assert (await gateway.verify_ledger())["problems"] == []


async def healthy(gateway: Gateway, model: str = "tiles") -> None:
    """The next job is made at home."""
    job = await end(gateway, await start(gateway, model, "fine"))
    assert (job.status, job.backend) == (Status.COMPLETED, "local"), await kinds(gateway, job)


def model_process() -> psutil.Process | None:
    children = psutil.Process().children(recursive=True)
    return next((c for c in children if "local_models._worker" in " ".join(c.cmdline())), None)


@pytest.mark.parametrize(
    ("model", "prompt"), [("load", "fine"), ("denoise", "out of memory"), ("decode", "no room to decode")]
)
async def test_a_job_without_room_is_completed_elsewhere(gateway: Gateway, model: str, prompt: str) -> None:
    job = await end(gateway, await start(gateway, model, prompt, AWAY))
    assert (job.status, job.backend) == (Status.COMPLETED, "away")
    first = job.attempts[0]
    assert (first.backend, first.error and first.error.code) == ("local", "out_of_memory")
    await settled(gateway, job, "0.50")
    await healthy(gateway)


async def test_a_job_that_fits_in_smaller_tiles_is_completed_here(gateway: Gateway) -> None:
    job = await end(gateway, await start(gateway, "tiles", "needs small tiles", AWAY))
    assert (job.status, job.backend, len(job.attempts)) == (Status.COMPLETED, "local", 1)
    await settled(gateway, job, "0")


async def test_a_killed_process_has_its_job_completed_elsewhere(gateway: Gateway) -> None:
    job = await start(gateway, "killed", "spin", AWAY)
    await until_seen(gateway, job, lambda seen: seen.progress > 0.2)
    child = model_process()
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    job = await end(gateway, job)
    assert (job.status, job.backend) == (Status.COMPLETED, "away")
    await until(lambda: not child.is_running())
    await settled(gateway, job, "0.50")
    await healthy(gateway)


async def test_a_hung_process_has_its_job_completed_elsewhere(gateway: Gateway) -> None:
    job = await end(gateway, await start(gateway, "hung", "spin", AWAY))
    assert (job.status, job.backend) == (Status.COMPLETED, "away")
    await settled(gateway, job, "0.50")
    await healthy(gateway)


async def test_a_clip_that_was_lost_while_it_was_written_is_made_again(gateway: Gateway) -> None:
    written = await start(gateway, "written", "held")
    await until_seen(gateway, written, lambda seen: seen.progress > 0.97)
    child = model_process()
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    release = await end(gateway, await start(gateway, "written", "release"))
    written = await end(gateway, written)
    assert (written.status, written.backend, len(written.attempts)) == (Status.COMPLETED, "local", 1)
    assert release.status is Status.COMPLETED
    await settled(gateway, written, "0")
