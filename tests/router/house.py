"""Opens real gateways over scripted providers, and waits for what they do without sleeping blindly."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from router.contract.job import Job, public_status
from router.contract.request import VideoRequest
from router.gateway import EngineRole, Gateway
from router.settings import Settings

PATIENCE_S = 15


def settings(home: Path, url: str | None = None, **sections: Mapping[str, Any]) -> Settings:
    """The settings of a data folder; our own models are off, so that only scripted ones can run."""
    environ = {"UNDERSTUDY_HOME": str(home), "UNDERSTUDY_LOCAL_ENABLED": "false"}
    if url is not None:
        environ["UNDERSTUDY_DATABASE_URL"] = url
    return Settings.load(environ, sections)


def serving(home: Path, url: str | None = None, **sections: Mapping[str, Any]) -> Gateway:
    """A gateway that carries jobs."""
    return Gateway.open(settings(home, url, **sections), EngineRole.SERVE)


def ask(*backends: str, **fields: Any) -> VideoRequest:
    """A request that only these backends may take."""
    preferences = {"backends": backends, **fields.pop("preferences", {})}
    return VideoRequest.model_validate({"prompt": "a red ball", "preferences": preferences, **fields})


async def until(gateway: Gateway, job: Job, when: Callable[[Job], bool]) -> Job:
    """The job as soon as it looks like that."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            pulse = gateway._db.pulse.count
            seen = await gateway.get(job.id)
            if when(seen):
                return seen
            await gateway._db.pulse.wait(pulse, 0.5)


async def end(gateway: Gateway, job: Job) -> Job:
    """The job once it has ended."""
    return await until(gateway, job, lambda seen: seen.status.ended)


async def seen_until_end(gateway: Gateway, job: Job) -> list[tuple[str, float]]:
    """(public status, progress) at every change until the end."""
    async with asyncio.timeout(PATIENCE_S):
        return [(public_status(seen), seen.progress) async for seen in gateway.watch(job.id)]


async def kinds(gateway: Gateway, job: Job) -> list[str]:
    """The job's history in words."""
    return [event.kind for event in await gateway.events(job.id)]
