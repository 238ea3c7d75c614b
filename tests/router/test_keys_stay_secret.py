"""A marker key for every provider is planted, jobs go well and badly, and everything written is searched for it."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import psutil
import pytest

from router.catalog import Catalog, ProviderInfo
from router.contract.card import ModelCard, Where
from router.contract.request import Task
from tests.sandbox_process import ROOT, SandboxProcess

MARK = "sandbox-m4rk3r7e57"
PATIENCE_S = 90
OVER = frozenset({"completed", "failed", "unresolved", "cancelled"})
TROUBLES = ("malformed", "moderation", "fail_after_accept", "server_error", "auth")
"""A refused key comes last: it rests its provider."""


def clouds() -> list[tuple[ProviderInfo, ModelCard]]:
    """Every provider that has a twin, with one of its text-to-video models."""
    catalog = Catalog.load()
    found = []
    for info in catalog.providers.values():
        if info.where is not Where.CLOUD or info.sandbox_path is None:
            continue
        cards = [card for card in catalog.cards.values() if card.backend == info.name]
        found.append((info, next(card for card in cards if Task.TEXT_TO_VIDEO in card.tasks)))
    return found


def twin_of(info: ProviderInfo) -> str:
    """Two providers of one vendor may share a twin."""
    return (info.sandbox_path or "").lstrip("/")


def planted(info: ProviderInfo) -> dict[str, str]:
    """The provider's variables, each with a key of its own; the form of a pair where there is one."""
    key = f"{MARK}-{info.name}"
    names = info.key_pairs[0] if info.key_pairs else info.key_env[:1]
    return dict.fromkeys(names, key)


def disguises(key: str) -> set[bytes]:
    """The key as it is and as base64 at each alignment, where every encoded text shows one of them."""
    whole = {key.encode()}
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + key.encode())
        whole.add(encoded[4:-4])
    return whole


@pytest.fixture
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


ROOM = "{ max_in_flight = 60, starts_per_second = 60, starts_per_minute = 600 }"
"""A lost answer holds its place for a while; the next round's job must not wait for it."""


@pytest.fixture
def environ(home: Path, sandbox: SandboxProcess) -> dict[str, str]:
    (home / "providers").mkdir()
    for info, card in clouds():
        rows = f'[provider]\nname = "{info.name}"\nlimits = {ROOM}\n\n[[model]]\nid = "{card.id}"\nlimits = {ROOM}\n'
        (home / "providers" / f"{info.name}.toml").write_text(rows, encoding="utf-8")
    planted_all = {name: value for info, _ in clouds() for name, value in planted(info).items()}
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "UNDERSTUDY_HOME": str(home),
        "UNDERSTUDY_SANDBOX_URL": sandbox.url,
        "UNDERSTUDY_LOCAL_ENABLED": "false",
        "UNDERSTUDY_DEBUG": "1",
        **planted_all,
    }


def wait(what: str, true: Callable[[], Any]) -> Any:
    """The first truthy answer; another process tells nothing, so this looks again until it gives up."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := true():
            return found
        time.sleep(0.05)
    pytest.fail(f"waited {PATIENCE_S} s for: {what}")


def told_url(out: IO[str]) -> str:
    """What `serve --json` prints once it answers, on as many lines as it likes."""
    said = ""
    for line in out:
        said += line
        with contextlib.suppress(ValueError):
            return str(json.loads(said)["url"])
    pytest.fail(f"serve did not start: {said}")


def round_of_jobs(http: httpx.Client, sandbox: SandboxProcess, trouble: str | None, seen: list[str]) -> None:
    """One job for every provider, with that trouble at each; everything that is answered goes into `seen`."""
    jobs = {}
    for info, card in clouds():
        if trouble is not None:
            sandbox.post_fault(twin_of(info), trouble)
        wish = {"backends": [card.id], "substitutes": "none", "allow_unknown_price": True}
        # A prompt of its own, so that no two clips are one file.
        body = {"prompt": f"a ball for {info.name}, {trouble}", "model": card.id, "preferences": wish}
        answer = http.post("/v1/videos", json=body)
        seen.append(answer.text)
        if answer.is_success:
            jobs[info.name] = answer.json()["id"]
    assert trouble is not None or len(jobs) == len(clouds())

    def ended() -> bool:
        views = [http.get(f"/v1/videos/{job}").json() for job in jobs.values()]
        return all(
            view["state"] in OVER or any(attempt["status"] in OVER for attempt in view["attempts"])
            for view in views
        )

    wait(f"all jobs of the round {trouble}", ended)
    for job in jobs.values():
        seen += [http.get(f"/v1/videos/{job}{path}").text for path in ("", "/route", "/history")]
    if trouble is None:
        states = {name: http.get(f"/v1/videos/{job}").json()["state"] for name, job in jobs.items()}
        assert set(states.values()) == {"completed"}, states


@pytest.mark.timeout(300)
def test_a_key_is_in_no_log_error_event_response_bill_file_or_process_list(
    home: Path, sandbox: SandboxProcess, environ: dict[str, str], tmp_path: Path
) -> None:
    seen: list[str] = []
    logs = tmp_path / "serve.log"
    with logs.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "router", "serve", "--no-page", "--port", "0", "--json"],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
        )
    try:
        assert server.stdout is not None
        url = told_url(server.stdout)
        with httpx.Client(base_url=url, timeout=30) as http:
            for trouble in (None, *TROUBLES):
                round_of_jobs(http, sandbox, trouble, seen)
            seen += [
                http.get(path).text for path in ("/v1/videos/providers", "/v1/videos/models", "/v1/videos")
            ]
        for process in psutil.process_iter(["cmdline"]):
            seen.append(" ".join(process.info["cmdline"] or ()))
    finally:
        server.send_signal(signal.SIGTERM)
        seen.append(server.communicate(timeout=60)[0])
    for command in (("providers", "--json"), ("spend", "--json"), ("jobs", "--json"), ("doctor",)):
        done = subprocess.run(
            [sys.executable, "-m", "router", *command],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        seen += [done.stdout, done.stderr]
    seen += [json.dumps(sandbox.bill()), json.dumps(sandbox.requests())]
    written = {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert len([name for name in written if name.endswith((".sqlite", ".mp4"))]) > len(clouds())
    written |= {"serve.log": logs.read_bytes(), "seen": "\n".join(seen).encode()}
    names = "\n".join(str(path) for path in home.rglob("*")).encode()
    for info, _ in clouds():
        for disguise in disguises(next(iter(planted(info).values()))):
            assert disguise not in names
            leaks = [name for name, data in written.items() if disguise in data]
            assert leaks == [], info.name
    accepted = {row["provider"] for row in sandbox.bill()}
    assert accepted == {twin_of(info) for info, _ in clouds()}
