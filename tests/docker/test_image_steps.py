"""The image's install steps, run outside Docker in a clean folder: what they install must start and answer."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker.dockerfile import FILE, ROOT, instructions

CPU_TORCH = "torch==2.13.0+cpu"
"""Instead of the CUDA build, which is 20 times as large and does the same without a card."""
INSTALL_S, START_S = 1500, 120


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The virtual environment that the build stage makes, from a copy of the tree. Pip settings of this machine hold."""
    folder = tmp_path_factory.mktemp("image")
    venv, source, constraint = folder / "venv", folder / "src", folder / "constraint.txt"
    source.mkdir()
    constraint.write_text(f"{CPU_TORCH}\n", encoding="utf-8")
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("UNDERSTUDY_", "PYTHON"))
    }
    environ |= {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "PIP_CONSTRAINT": str(constraint)}
    ran = 0
    for step in instructions(FILE.read_text(encoding="utf-8")):
        if step.stage != "build":
            continue
        if step.word == "COPY":
            *names, target = step.rest.split()
            for name in names:
                _copy(ROOT / name, source / target / ("" if (ROOT / name).is_dir() else name))
        if step.word == "RUN" and "apt-get" not in step.rest:
            command = re.sub(r"--mount=\S+ +", "", step.rest).replace("/opt/understudy", str(venv))
            command = re.sub(r"\bpython3\.12\b", shlex.quote(sys.executable), command)
            subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=source,
                env=environ,
                check=True,
                timeout=INSTALL_S,
            )
            ran += 1
    assert ran == 3, "environment, what it stands on, and itself"
    yield venv
    shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    else:
        shutil.copy(source, target)


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_S + 4 * START_S)
def test_what_the_image_installs_starts_and_answers(installed: Path, tmp_path: Path) -> None:
    environ = {
        "PATH": f"{installed / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "UNDERSTUDY_HOME": str(tmp_path / "data"),
        "UNDERSTUDY_SERVER_TOKEN": "a-token-for-this-test-alone-0123456789",
    }
    # Not the checkout: what answers must be what was installed.
    where: dict[str, Any] = {"cwd": tmp_path, "env": environ}
    listed = subprocess.run(
        ["understudy", "models", "--json"], **where, capture_output=True, check=True, timeout=START_S
    )
    rows = {row["model"]: row for row in json.loads(listed.stdout)}
    assert rows["local/tiny"]["available"], rows["local/tiny"]["why_not"]
    serve = ["understudy", "serve", "--no-page", "--host", "0.0.0.0", "--port", "0", "--json"]
    with subprocess.Popen(serve, **where, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            head = "".join(iter(server.stdout.readline, "}\n")) + "}"
            port = json.loads(head)["url"].rpartition(":")[2]
            assert _status(f"http://127.0.0.1:{port}/healthz") == 200
            assert _status(f"http://127.0.0.1:{port}/v1/videos") == 401, "the door is shut without the token"
        finally:
            server.terminate()


def _status(url: str) -> int:
    """The status of a GET; 503 while the engine recovers is looked at again, as the health check does."""
    until = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > until:
                return error.code
        time.sleep(0.1)
