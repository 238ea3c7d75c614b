"""Closed by default: no test reaches beyond this machine, sees the developer's keys, or writes outside its folder."""

import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for _name in [
    name
    for name in os.environ
    if name.startswith("UNDERSTUDY_")
    or name.endswith(("_API_KEY", "_API_TOKEN", "_API_SECRET", "_KEY_ID", "FAL_KEY"))
]:
    del os.environ[_name]
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    LC_ALL="C.UTF-8",
    LANG="C.UTF-8",
)

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


def _is_here(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True
    try:
        return ipaddress.ip_address(address[0].partition("%")[0]).is_loopback
    except ValueError:
        return address[0] == "localhost"


def _guarded_connect(self: socket.socket, address: Any) -> None:
    if not _is_here(address):
        raise RuntimeError(f"a test tried to reach {address!r}; tests talk to this machine only")
    _connect(self, address)


def _guarded_connect_ex(self: socket.socket, address: Any) -> int:
    if not _is_here(address):
        raise RuntimeError(f"a test tried to reach {address!r}; tests talk to this machine only")
    return _connect_ex(self, address)


socket.socket.connect = _guarded_connect  # type: ignore[method-assign, assignment]
socket.socket.connect_ex = _guarded_connect_ex  # type: ignore[method-assign, assignment]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A data folder of the test's own."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    yield folder


_CELL = re.compile(r"tests/api_providers/test_\w+\.py::Test(\w+)::test_([a-z0-9_]+)(?:\[.*\])?$")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the shared backend suite found: a table provider x case, with the reason for every case left out."""
    from tests.backend_suite import BackendSuite

    cases = [name.removeprefix("test_") for name in vars(BackendSuite) if name.startswith("test_")]
    cells: dict[str, dict[str, str]] = {}
    reasons: dict[str, str] = {}
    for outcome, mark in (("passed", "+"), ("skipped", ""), ("failed", "F"), ("error", "E")):
        for report in terminalreporter.stats.get(outcome, ()):
            found = _CELL.match(report.nodeid)
            if found is None or found[2] not in cases or not hasattr(report, "when"):
                continue
            if outcome == "skipped":
                text = str(report.longrepr[-1]).removeprefix("Skipped: ")
                mark = reasons.setdefault(text, chr(ord("a") + len(reasons)))
            row = cells.setdefault(found[1], {})
            row[found[2]] = mark if row.get(found[2], "+") == "+" else row[found[2]]
    if not cells:
        return
    write = terminalreporter.write_line
    write("")
    write("Backend suite: provider x case (+ passed, F failed, a letter: left out for the reason below)")
    width = max(map(len, cells))
    write(f"{'':{width}} " + " ".join(f"{n:>2}" for n in range(1, len(cases) + 1)))
    for provider in sorted(cells):
        marks = " ".join(f"{cells[provider].get(case, '?'):>2}" for case in cases)
        write(f"{provider:{width}} {marks}")
    for number, case in enumerate(cases, 1):
        write(f"{number:>3} {case.replace('_', ' ')}")
    for text, letter in sorted(reasons.items(), key=lambda item: item[1]):
        write(f"  {letter} {text}")
