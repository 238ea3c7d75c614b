"""Create, status, content and list over real HTTP, on every server in turn, round by round."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.gateway.load import Order
from benchmarks.gateway.processes import Run, Server, bare_environment, drive

OPERATIONS = ("status", "content", "list", "create")
"""Create comes last, so that the others find a server that has little to do."""
CONNECTIONS = (1, 32)
WITHOUT = {
    ("e1", "content"),
    ("e2", "content"),
    # Its list route takes no deployment: it calls the vendor's own address, and this bench stays on loopback.
    ("LiteLLM", "list"),
}
PREPARED = 20
"""Jobs that exist before the reading operations; one of them is finished."""
IDLE_S = 3.0
SECONDS_OF_VIDEO, SIZE = "4", "1280x720"


@dataclass(frozen=True)
class Effort:
    """How much is measured. Counts are per round, server and number of connections."""

    rounds: int = 2
    creates: Mapping[int, int] | None = None
    reads: Mapping[int, int] | None = None
    seconds: float = 2.5
    """No single measurement takes longer."""

    def count(self, operation: str, connections: int) -> int:
        """Most requests of one measurement."""
        given = (self.creates if operation == "create" else self.reads) or {}
        usual = {1: 100, 32: 512} if operation == "create" else {1: 200, 32: 400}
        return {**usual, **given}[connections]


@dataclass(frozen=True)
class Figure:
    """What the rounds of one operation on one server came to: medians, all rounds beside them."""

    server: str
    operation: str
    connections: int
    cpu_ms: float
    """Of the server's process tree, per answered request."""
    client_cpu_ms: float
    req_s: float
    p50_ms: float
    p99_ms: float
    requests: int
    failed: int
    rounds_cpu_ms: tuple[float, ...]


class Subject:
    """One server under load, with the body it wants."""

    def __init__(self, server: Server, model: str | None) -> None:
        """`model` is what the body of a create names, if anything."""
        self.server = server
        body = {"prompt": "A lighthouse in a storm, clip {n}", "seconds": SECONDS_OF_VIDEO, "size": SIZE}
        self.body = json.dumps(body | ({"model": model} if model else {}))
        self.ids: list[str] = []
        self.finished: str | None = None

    def prepare_one(self) -> None:
        """A finished job, where there is something that finishes jobs."""
        with self._client() as client:
            self._make(client, 0)
            if (self.server.name, "content") not in WITHOUT:
                self.finished = self._completed(client, self.ids[0])

    def prepare_more(self) -> None:
        """The other jobs that are looked at."""
        with self._client() as client:
            for n in range(1, PREPARED):
                self._make(client, n)

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self.server.url, trust_env=False, timeout=30)

    def _make(self, client: httpx.Client, n: int) -> None:
        body = json.loads(self.body.replace("{n}", f"prepared {n}"))
        self.ids.append(client.post("/v1/videos", json=body).raise_for_status().json()["id"])

    def _completed(self, client: httpx.Client, job: str) -> str:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if client.get(f"/v1/videos/{job}").raise_for_status().json()["status"] == "completed":
                return job
            time.sleep(0.1)
        raise RuntimeError(f"{self.server.name}: the first job did not end within 30 s")

    def order(self, operation: str, connections: int, effort: Effort) -> Order:
        """What the client is told."""
        paths = {
            "create": ["/v1/videos"],
            "status": [f"/v1/videos/{job}" for job in self.ids],
            "content": [f"/v1/videos/{self.finished}/content"],
            "list": [f"/v1/videos?limit={PREPARED}"],
        }[operation]
        create = operation == "create"
        return Order(
            url=self.server.url,
            method="POST" if create else "GET",
            paths=paths,
            connections=connections,
            count=effort.count(operation, connections),
            seconds=effort.seconds,
            body=self.body if create else None,
        )


def floor(kind: str, folder: Path, upstream: str | None = None) -> Server:
    """A server of `floors.py`."""
    more = ["--upstream", upstream] if upstream else ["--file", str(folder / f"{kind}.sqlite")]
    command = [sys.executable, "-m", "benchmarks.gateway.floors", kind, "--port", "{port}", *more]
    name = "pass-through" if kind == "pass" else kind
    return Server(name, command, bare_environment(folder), ready_path="/openapi.json")


def measure(
    subjects: Sequence[Subject], effort: Effort, say: Callable[[str], None]
) -> tuple[list[Figure], dict[str, float]]:
    """All figures, and the processor time each server takes per second while nobody asks anything."""
    idle = _idle([subject.server for subject in subjects])
    figures = []
    for operation in OPERATIONS:
        for connections in CONNECTIONS:
            runs: dict[str, list[Run]] = {}
            for _ in range(effort.rounds):
                for subject in subjects:
                    name = subject.server.name
                    if (name, operation) not in WITHOUT:
                        order = subject.order(operation, connections, effort)
                        runs.setdefault(name, []).append(drive(subject.server, order))
            for name, its in runs.items():
                figures.append(_figure(name, operation, connections, its))
                say(_line(figures[-1]))
    return figures, idle


def _idle(servers: Sequence[Server]) -> dict[str, float]:
    before = [server.cpu_s() for server in servers]
    time.sleep(IDLE_S)
    return {server.name: (server.cpu_s() - at) / IDLE_S for server, at in zip(servers, before, strict=True)}


def _figure(name: str, operation: str, connections: int, runs: Sequence[Run]) -> Figure:
    def median(of: Callable[[Run], float]) -> float:
        return statistics.median(of(run) for run in runs)

    refused = next((run.refused for run in runs if run.refused), None)
    if all(run.good == 0 for run in runs):
        raise RuntimeError(f"{name} answered no {operation}: {refused or runs[0].statuses}")
    return Figure(
        server=name,
        operation=operation,
        connections=connections,
        cpu_ms=median(lambda run: run.cpu_s / max(run.answered, 1) * 1000),
        client_cpu_ms=median(lambda run: run.client_cpu_s / max(run.answered, 1) * 1000),
        req_s=median(lambda run: run.answered / run.wall_s),
        p50_ms=median(lambda run: run.quantile_ms(0.5)),
        p99_ms=median(lambda run: run.quantile_ms(0.99)),
        requests=sum(run.answered for run in runs),
        failed=sum(sum(run.statuses.values()) - run.good for run in runs),
        rounds_cpu_ms=tuple(round(run.cpu_s / max(run.answered, 1) * 1000, 3) for run in runs),
    )


def _line(figure: Figure) -> str:
    return (
        f"{figure.operation:<8}c{figure.connections:<3}{figure.server:<13}{figure.cpu_ms:8.2f} ms CPU "
        f"{figure.req_s:8.0f} req/s  p50 {figure.p50_ms:8.2f} ms  p99 {figure.p99_ms:8.2f} ms"
        + (f"  {figure.failed} failed" if figure.failed else "")
    )


def found(figures: Sequence[Figure], server: str, operation: str, connections: int) -> Figure | None:
    """The figure of that row, where it was measured."""
    wanted = (server, operation, connections)
    return next((f for f in figures if (f.server, f.operation, f.connections) == wanted), None)


def as_row(figure: Figure) -> dict[str, Any]:
    """For the JSON."""
    return {
        name: round(value, 3) if isinstance(value, float) else value for name, value in vars(figure).items()
    }
