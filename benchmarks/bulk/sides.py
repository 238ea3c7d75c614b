"""Both sides of the bench under one face: load once, then carry a list of jobs and say how long it took."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from local_models._child import environment
from local_models._messages import Render
from local_models._runner import Local
from router.catalog import Catalog
from router.contract.backend import BackendConfig, Completed, Operation
from router.contract.card import ModelCard, ResolvedRequest
from router.contract.errors import NotFound


@dataclass(frozen=True)
class Took:
    """One list of jobs, in seconds."""

    wall: float
    cpu: float
    """Of every process that had a part in it, on all cores together."""


ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.02
COLOURS = ("red", "blue", "green", "yellow", "white")
MOVES = ("moves left", "moves right", "moves up", "moves down")


class NoImages:
    """The media store of jobs without images."""

    def path(self, asset: object) -> Path:
        """Never asked."""
        raise NotFound("no image is used here")


def card_of(model: str) -> ModelCard:
    """As our catalogue has it."""
    return Catalog.load().cards[model]


def renders(card: ModelCard, count: int, steps: int | None = None) -> list[Render]:
    """Different prompts and seeds, everything else by the card; both sides make exactly these."""
    local = card.local
    assert local is not None
    size = card.sizes[0]
    return [
        Render(
            prompt=f"a {COLOURS[n % len(COLOURS)]} ball {MOVES[n % len(MOVES)]}, take {n}",
            width=size.width,
            height=size.height,
            frames=local.native_frames,
            fps=card.fps[0],
            steps=steps or local.steps,
            seed=n + 1,
            guidance=local.guidance,
            negative_prompt=str(card.wire.get("negative_prompt", "")),
            max_sequence_length=local.max_sequence_length,
        )
        for n in range(count)
    ]


class Ours:
    """The local backend over its real model process."""

    def __init__(
        self, card: ModelCard, directory: Path, scratch: Path, device: str, cap_gb: float | None = None
    ) -> None:
        """Starts nothing."""
        models = {card.id.partition("/")[2]: str(directory)}
        options: dict[str, Any] = {"device": device, "models": models, "memory_gb": cap_gb}
        self._card = card
        self._local = Local(BackendConfig("local", {card.id: card}, NoImages(), scratch, options=options))
        self.load_s = 0.0

    async def open(self, first: Render) -> Self:
        """Load by making one clip. The time of a second one is not the load's."""
        began = time.monotonic()
        await self.carry([first])
        warm = time.monotonic()
        await self.carry([first])
        now = time.monotonic()
        self.load_s = max(0.0, (warm - began) - (now - warm))
        return self

    async def carry(self, jobs: Sequence[Render]) -> Took:
        """Until the last file is there; all jobs are handed over at once."""
        began, worked = time.monotonic(), self._cpu()
        waiting = [await self._local.submit(self._request(job), key=f"bench:{job.seed}") for job in jobs]
        for operation in waiting:
            await self._file(operation)
        return Took(time.monotonic() - began, self._cpu() - worked)

    def _cpu(self) -> float:
        """Of this process, which has the runner in it, and of the model process once it is there."""
        pid = self._local.child_pid
        times = psutil.Process(pid).cpu_times() if pid is not None else None
        return time.process_time() + (times.user + times.system if times is not None else 0.0)

    async def close(self) -> None:
        """End the model process."""
        await self._local.aclose()

    async def _file(self, operation: Operation) -> None:
        while True:
            look = await self._local.poll(operation)
            if isinstance(look, Completed):
                return
            await asyncio.sleep(POLL_S)

    def _request(self, job: Render) -> ResolvedRequest:
        return ResolvedRequest(
            model=self._card.id,
            backend="local",
            wire_id=self._card.wire_id,
            task=self._card.tasks[0],
            prompt=job.prompt,
            duration=job.frames / job.fps,
            width=job.width,
            height=job.height,
            fps=job.fps,
            seed=job.seed,
            options={"steps": job.steps},
        )


class Plain:
    """The loop, in a process of its own."""

    def __init__(
        self,
        directory: Path,
        scratch: Path,
        device: str,
        cap_gb: float | None = None,
        threads: int | None = None,
    ) -> None:
        """Starts nothing."""
        self._command = [sys.executable, "-m", "benchmarks.bulk.plain", str(directory), "--device", device]
        self._command += [] if cap_gb is None else ["--cap-gb", str(cap_gb)]
        self._command += [] if threads is None else ["--threads", str(threads)]
        self._scratch = scratch
        self._process: asyncio.subprocess.Process | None = None
        self.load_s = 0.0
        self.way = ""

    async def open(self, first: Render) -> Self:
        """Start, load, make one clip."""
        began = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env=environment(),
        )
        await self._answer()
        self.load_s = time.monotonic() - began
        await self.carry([first])
        return self

    async def carry(self, jobs: Sequence[Render]) -> Took:
        """The loop, as it measures itself."""
        assert self._process is not None and self._process.stdin is not None
        order = {"jobs": [asdict(job) for job in jobs], "folder": str(self._scratch)}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        answer = await self._answer()
        self.way = answer["way"]
        return Took(float(answer["seconds"]), float(answer["cpu"]))

    async def close(self) -> None:
        """End it."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()

    async def _answer(self) -> Mapping[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                "the plain loop ended; run python -m benchmarks.bulk.plain DIRECTORY to see why"
            )
        answer: Mapping[str, Any] = json.loads(line)
        return answer
