"""`python -m benchmarks.gateway`: everything in one run, well under six minutes, on loopback only."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gateway import litellm, players
from benchmarks.gateway.behaviour import Outcome, Refuser, Stage
from benchmarks.gateway.processes import NotStarted, Server
from benchmarks.gateway.report import RESULTS, Report, targets
from benchmarks.gateway.speed import Effort, Figure, Subject, floor, measure
from benchmarks.gateway.understudy import PROVIDERS, installation, understudy
from benchmarks.machine import machine
from tests.sandbox_process import SandboxProcess

FINISHES_IN_S = 0.2
BUSY_S = 86_400.0
NOTES = (
    "Understudy: `serve --no-page` on SQLite, three providers set up (fal, openai, runway), all others switched off. "
    "Their places fill up with jobs that run on, as in a busy installation: what is created then waits, and each new "
    "job is planned again with all that wait. The planner's CPU during the load is in these figures.",
    "e1, e2: FastAPI and one SQLite table, WAL, synchronous=FULL; e1 commits one row at a time, e2 up to 256 together. "
    "They check a body and write a row: no routing, limits, money, history. uvloop and httptools serve them as they serve us.",
    "pass-through: FastAPI and httpx, every call goes to the twin. Not durable.",
    "Behaviour, slow accept: LiteLLM has its timeout set to 3 s there; Understudy has no such setting and keeps its own. "
    "The budget is a project's at Understudy and the deployment's at LiteLLM.",
    "All servers run at once, each operation goes round them in turn, so that drift of the machine meets all alike.",
)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def speed(
    folder: Path, installed: Path | None, effort: Effort
) -> tuple[list[Figure], dict[str, float], list[Server]]:
    """The load part: start all servers, make the jobs that are looked at, measure."""
    with ExitStack() as stack:
        ours, theirs = stack.enter_context(SandboxProcess()), stack.enter_context(SandboxProcess())
        for name in PROVIDERS:
            ours.settings(name, render_seconds=FINISHES_IN_S, concurrency=200)
        theirs.settings("openai", render_seconds=FINISHES_IN_S, concurrency=100_000)
        subjects = [
            Subject(understudy(installation(folder / "understudy"), ours.url), None),
            Subject(floor("e1", folder), None),
            Subject(floor("e2", folder), None),
            Subject(floor("pass", folder, f"{theirs.url}/openai"), None),
        ]
        if installed is not None:
            text = litellm.config([litellm.deployment(theirs.url)])
            subjects.append(Subject(litellm.litellm(installed, folder / "litellm", text), "video"))
        for subject in subjects:
            stack.enter_context(subject.server)
        for subject in subjects:
            subject.prepare_one()
        for name in PROVIDERS:
            ours.settings(name, render_seconds=BUSY_S)
        for subject in subjects:
            subject.prepare_more()
        figures, idle = measure(subjects, effort, _say)
        for subject in subjects:
            subject.server.last_memory_mb = subject.server.memory_mb()
        return figures, idle, [subject.server for subject in subjects]


def behave(folder: Path, installed: Path | None) -> list[Outcome]:
    """The behaviour part: the same cases on both gateways."""
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        a, b = stack.enter_context(SandboxProcess()), stack.enter_context(SandboxProcess())
        refuser = stack.enter_context(Refuser().serving())
        gateways = [players.understudy(folder / "behaviour", a.url, b.url, refuser.url)]
        if installed is not None:
            gateways.append(
                players.litellm_proxy(installed, folder / "behaviour-litellm", a.url, b.url, refuser.url)
            )
        for gateway in gateways:
            with gateway:
                outcomes += Stage(gateway.name, gateway.url, a, b, refuser).play(_say)
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write. 0 also where a target is missed: the table says so."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--no-litellm", action="store_true", help="leave LiteLLM out")
    parser.add_argument("--litellm", type=Path, help="a virtual environment that has it already")
    parser.add_argument("--no-behaviour", action="store_true", help="the load part alone")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--count", type=int, help="requests per measurement, for a quick look")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the two files")
    given = parser.parse_args(arguments)
    about = machine("fastapi", "uvicorn")
    notes = list(NOTES)
    installed: Path | None = None
    if not given.no_litellm:
        try:
            installed = given.litellm or litellm.install(litellm.cache())
            notes.append(
                f"LiteLLM {litellm.VERSION}: one worker, one deployment, its OpenAI video route. Not durable."
            )
        except litellm.NotInstalled as error:
            notes.append(f"LiteLLM: not installed ({error}).")
            _say(notes[-1])
    counts = {1: given.count, 32: given.count} if given.count else None
    effort = Effort(rounds=given.rounds, creates=counts, reads=counts)
    at, started = datetime.now(UTC), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as name:
        folder = Path(name)
        try:
            figures, idle, servers = speed(folder, installed, effort)
            outcomes = [] if given.no_behaviour else behave(folder, installed)
        except NotStarted as error:
            _say(str(error))
            return 1
    report = Report(
        at=at,
        machine=about,
        seconds=time.monotonic() - started,
        figures=figures,
        idle=idle,
        start_s={server.name: server.start_s for server in servers},
        memory_mb={server.name: server.last_memory_mb for server in servers},
        outcomes=outcomes,
        notes=notes,
    )
    for target in targets(figures):
        value = "-" if target.value is None else f"{target.value:.2f}"
        sign = "<=" if target.at_most else ">="
        _say(f"{target.word:<13}{target.what}: {value} (target {sign} {target.bound:g})")
    report.write(given.results, _say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
