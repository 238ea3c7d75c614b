"""`understudy models pull` as a person runs it: interrupted, killed, resumed, then a job on what was pulled."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.cli import main
from tests.hub_twin import HubTwin, Repo
from tests.router.weights.conftest import CARD, FILE, MODEL, REPOSITORY, TINY, content
from tests.sandbox_process import ROOT

PATIENCE_S = 60
PROMPT_S = 8
"""An interrupted pull must not wait for a silent line, which would take 20 s to count as cut."""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hub() -> Iterator[HubTwin]:
    with HubTwin({REPOSITORY: Repo(content())}) as twin:
        yield twin


@pytest.fixture
def understudy(home: Path, tmp_path: Path, hub: HubTwin) -> Iterator[Start]:
    """Starts the program in a process of its own; what is left is killed at the end."""
    (home / "providers").mkdir()
    (home / "providers" / "own.toml").write_text(CARD, encoding="utf-8")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.url,
        "UNDERSTUDY_HOME": str(home),
        "LANG": "C.UTF-8",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "router", *arguments],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def _silent(hub: HubTwin, home: Path, arrived: int) -> None:
    """The line has fallen silent and more than `arrived` bytes of the file are on the disk."""
    assert hub.silent.wait(PATIENCE_S), "the pull never came to the large file"
    hub.silent.clear()
    part = home / "models" / "pulled.partial" / f"{FILE}.part"
    until = time.monotonic() + PATIENCE_S
    # Another process writes it and tells nobody.
    while part.stat().st_size <= arrived:
        assert time.monotonic() < until, f"no byte beyond {arrived} arrived"
        time.sleep(0.02)


@pytest.mark.timeout(240)
def test_interrupted_and_killed_it_goes_on_where_it_stopped_and_a_job_runs(
    understudy: Start, hub: HubTwin, home: Path
) -> None:
    pull = ("models", "pull", "pulled", "--accept-licence", "--json")
    hub.holds[FILE] = 200_000
    first = understudy(*pull)
    _silent(hub, home, 0)
    asked_to_end = time.monotonic()
    first.send_signal(signal.SIGINT)
    code, _, err = _ended(first)
    assert (code, time.monotonic() - asked_to_end < PROMPT_S) == (130, True), err

    hub.holds[FILE] = 300_000
    second = understudy(*pull)
    _silent(hub, home, 200_000)
    second.kill()
    second.communicate()
    assert not (home / "models" / "pulled").exists(), "what is half there must not look whole"
    code, out, err = _ended(understudy("models", "list", "--json"))
    row = next(row for row in json.loads(out) if row["model"] == MODEL)
    assert (row["from"], row["partial_bytes"] > 0) == (None, True), err

    hub.holds.clear()
    code, out, err = _ended(understudy(*pull))
    assert code == 0, err
    assert json.loads(out)["folder"] == str(home / "models" / "pulled")
    none, one, two = hub.ranges(FILE)
    offsets = [int(re.fullmatch(r"bytes=(\d+)-", str(asked))[1]) for asked in (one, two)]  # type: ignore[index]
    assert none is None
    assert 0 < offsets[0] <= 200_000 < offsets[1] <= 500_000
    assert (home / "models" / "pulled" / FILE).read_bytes() == (TINY / FILE).read_bytes()
    assert "100 %" in err

    code, out, err = _ended(understudy("generate", "a red ball", "--model", MODEL, "--json"))
    told = json.loads(out)
    assert (code, told["status"], told["model"]) == (0, "completed", MODEL), err


def test_people_see_the_licence_and_are_told_what_to_do(
    home: Path, hub: HubTwin, understudy: Start, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    environ = {"UNDERSTUDY_HOME": str(home)}

    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(argv), environ=environ)
        said = capsys.readouterr()
        return code, said.out, said.err

    code, out, err = run("models", "pull", "pulled")
    assert (code, out) == (2, "")
    assert "Any use is allowed" in err
    assert "--accept-licence" in err
    assert not (home / "models").exists()
    code, out, err = run("--lang", "ja", "models", "pull", "pulled")
    assert "あらゆる利用" in err
    code, out, err = run("models", "pull", "pulled", "--accept-licence")
    assert (code, f"--model {MODEL}" in out) == (0, True), err
    code, out, _ = run("models", "--json")
    row = next(row for row in json.loads(out) if row["model"] == MODEL)
    assert row["available"], row["why_not"]
    code, out, err = run("models", "remove", "pulled", "--json")
    assert (code, json.loads(out)["freed_bytes"] > 5_000_000) == (0, True), err
    code, out, _ = run("models", "--json")
    row = next(row for row in json.loads(out) if row["model"] == MODEL)
    assert "understudy models pull pulled" in row["why_not"]
