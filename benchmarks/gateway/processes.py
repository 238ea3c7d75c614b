"""Starts what is measured, each server in processes of its own on loopback, and reads what they cost."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from benchmarks.gateway.load import Order

ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0
STOP_S = 20.0
_PASSED_ON = ("PATH", "LANG", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT")


class NotStarted(RuntimeError):
    """A server that did not come up, with the end of what it said."""


def bare_environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the caller's keys, proxies or settings; no way out of the machine is taken."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**kept, "HOME": str(home), "NO_PROXY": "*", "PYTHONUNBUFFERED": "1", **more}


def free_port() -> int:
    """A port of loopback that nobody has, outside the range from which systems hand out ports by themselves."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """Context manager: one server process and what it started; up when `ready_path` answers.

    `{port}` in the command becomes a free port.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        ready_path: str,
        cwd: Path = ROOT,
    ) -> None:
        """Nothing starts before `with`."""
        port = free_port()
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._command = [part.replace("{port}", str(port)) for part in command]
        self._env, self._cwd, self._ready_path = env, cwd, ready_path
        self._said: deque[str] = deque(maxlen=40)
        self._process: subprocess.Popen[str] | None = None
        self._readers: list[threading.Thread] = []
        self.start_s = 0.0
        self.last_memory_mb = 0.0
        """As somebody who measured it noted it."""

    def __enter__(self) -> Self:
        """Start and wait until it answers. Raises NotStarted."""
        started = time.monotonic()
        self._process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=dict(self._env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        for stream in (self._process.stdout, self._process.stderr):
            reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
            reader.start()
            self._readers.append(reader)
        try:
            self._wait(started)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.start_s = time.monotonic() - started
        return self

    def _read(self, stream: Any) -> None:
        for line in stream:
            self._said.append(line.rstrip())

    def _wait(self, started: float) -> None:
        assert self._process is not None
        with httpx.Client(trust_env=False, timeout=5) as client:
            while time.monotonic() - started < START_S:
                if self._process.poll() is not None:
                    raise NotStarted(f"{self.name} ended with {self._process.returncode}: {self.said()}")
                with suppress(httpx.HTTPError):
                    answered = client.get(self.url + self._ready_path).status_code < 500
                    if answered and self._process.poll() is None:
                        return
                time.sleep(0.05)
        raise NotStarted(f"{self.name} did not answer within {START_S:.0f} s: {self.said()}")

    def said(self) -> str:
        """The last lines of its output."""
        return "\n".join(self._said)

    def cpu_s(self) -> float:
        """Processor time of the process tree so far, user and system."""
        assert self._process is not None
        return tree_cpu_s(self._process.pid)

    def memory_mb(self) -> float:
        """Resident memory of the process tree now."""
        assert self._process is not None
        return sum(each.memory_info().rss for each in _tree(self._process.pid)) / 1e6

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and what it started."""
        process, self._process = self._process, None
        if process is None:
            return
        children = _tree(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in children:
            if child.is_running() and child.pid != process.pid:
                child.kill()
        for reader in self._readers:
            reader.join(5)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def tree_cpu_s(pid: int) -> float:
    """User and system seconds of a process and its living descendants."""
    total = 0.0
    for each in _tree(pid):
        times = each.cpu_times()
        total += times.user + times.system
    return total


@dataclass(frozen=True)
class Run:
    """One order carried out against one server."""

    answered: int
    statuses: dict[str, int]
    wall_s: float
    cpu_s: float
    """Of the server's process tree, from the first request to the last answer."""
    client_cpu_s: float
    times_s: list[float]
    ids: list[str]
    refused: str

    def quantile_ms(self, share: float) -> float:
        """A latency that this share of the requests stayed within."""
        ordered = sorted(self.times_s)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000 if ordered else float("nan")

    @property
    def good(self) -> int:
        """Answers with 2xx."""
        return sum(count for status, count in self.statuses.items() if status.startswith("2"))


def drive(server: Server, order: Order) -> Run:
    """Run one order from a process of its own; CPU is read when the client stands ready and when it has ended."""
    client = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gateway.load"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    with client:
        assert client.stdin is not None and client.stdout is not None
        try:
            client.stdin.write(json.dumps(asdict(order)) + "\n")
            client.stdin.flush()
            if client.stdout.readline().strip() != "ready":
                raise NotStarted(f"the client could not reach {server.name}")
            before = server.cpu_s()
            client.stdin.write("go\n")
            client.stdin.flush()
            told = json.loads(client.stdout.readline())
            cpu = server.cpu_s() - before
        finally:
            if client.poll() is None:
                client.stdin.close()
    return Run(
        answered=len(told["times_s"]),
        statuses=told["statuses"],
        wall_s=told["wall_s"],
        cpu_s=cpu,
        client_cpu_s=told["client_cpu_s"],
        times_s=told["times_s"],
        ids=told["ids"],
        refused=told["refused"],
    )
