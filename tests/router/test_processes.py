"""Several processes over one data folder: two CLIs without a server, kills, and what is left afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.sandbox_process import ROOT

PATIENCE_S = 90
CARD = ("--model", "testcard/bars")


def _environ(home: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "UNDERSTUDY_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        **more,
    }


def _takes_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def cli(home: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts `understudy ...` on the test's data folder; whatever is left is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "router", *arguments],
            cwd=ROOT,
            env=_environ(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell ignores Ctrl-C for what it runs in the background, and children inherit that.
            preexec_fn=_takes_interrupts,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _wait(what: str, true: Callable[[], Any]) -> Any:
    """The first truthy answer. Other processes tell nothing, so this looks again until it gives up."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = true()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"waited {PATIENCE_S} s for: {what}")


def _jobs(home: Path) -> list[dict[str, Any]]:
    told = subprocess.run(
        [sys.executable, "-m", "router", "jobs", "--json"],
        cwd=ROOT,
        env=_environ(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    rows: list[dict[str, Any]] = json.loads(told.stdout)
    return rows


def _finish(process: "subprocess.Popen[str]") -> tuple[int, dict[str, Any], str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert out.strip(), err
    return process.returncode, json.loads(out), err


def test_two_generates_without_a_server_both_finish(cli: Callable[..., "subprocess.Popen[str]"]) -> None:
    first = cli("generate", "one", *CARD, "--option", "testcard.seconds=1", "--json")
    second = cli("generate", "two", *CARD, "--option", "testcard.seconds=3", "--json")
    for process in (first, second):
        code, told, err = _finish(process)
        assert (code, told["status"]) == (0, "completed"), err


def test_the_second_generate_goes_on_when_the_first_is_killed(
    cli: Callable[..., "subprocess.Popen[str]"], home: Path
) -> None:
    first = cli("generate", "one", *CARD, "--option", "testcard.seconds=600", "--json")
    _wait("the first job runs", lambda: any(job["status"] == "running" for job in _jobs(home)))
    second = cli("generate", "two", *CARD, "--option", "testcard.seconds=1", "--json")
    _wait("the second job is written", lambda: len(_jobs(home)) == 2)
    first.kill()
    code, told, err = _finish(second)
    assert (code, told["status"]) == (0, "completed"), err
    states = {job["prompt"]: job["status"] for job in _jobs(home)}
    assert states["one"] in {"queued", "submitting", "running"}, (
        "the killed CLI's job waits for the next engine"
    )


def test_an_interrupted_generate_keeps_its_job_and_says_how_to_cancel(
    cli: Callable[..., "subprocess.Popen[str]"], home: Path
) -> None:
    process = cli("generate", "one", *CARD, "--option", "testcard.seconds=600")
    _wait("the job runs", lambda: any(job["status"] == "running" for job in _jobs(home)))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    job = _jobs(home)[0]
    assert f"understudy cancel {job['job']}" in err
    assert job["status"] not in {"failed", "cancelled"}


@pytest.mark.timeout(240)
def test_kill_9_of_the_server_leaves_no_model_process_and_no_lock(
    cli: Callable[..., "subprocess.Popen[str]"], home: Path
) -> None:
    server = cli("serve", "--no-page", "--port", "0", "--json")
    assert server.stdout is not None
    assert server.stdout.readline(), "the server answers, so it has the engine"
    watcher = cli("generate", "a red ball moves left", "--model", "local/tiny", "--json")

    def model_process() -> psutil.Process | None:
        children = psutil.Process(server.pid).children(recursive=True)
        return next((c for c in children if "local_models._worker" in " ".join(c.cmdline())), None)

    child = _wait("the server's model process", model_process)
    server.kill()
    server.communicate()
    _wait("the model process ended with its parent", lambda: not child.is_running())
    # The watcher becomes the engine, which it could not with a lock that an orphan kept.
    code, told, err = _finish(watcher)
    assert (code, told["status"], told["backend"]) == (0, "completed", "local"), err
