"""Closed by default: no test reaches beyond this machine, sees the developer's keys, or writes outside its folder."""

import ipaddress
import os
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
