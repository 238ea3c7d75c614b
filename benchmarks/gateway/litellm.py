"""LiteLLM's proxy in a virtual environment of its own: installed where that works, configured, started."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gateway.floors import KEY
from benchmarks.gateway.processes import Server, bare_environment

VERSION = "1.109.1"
"""The version that shared notes measured; another one may behave differently."""
_LEFT_OUT = "litellm-proxy-extras"
"""Migrations of its own PostgreSQL database, which this bench does not give it; not every index has the pinned one."""
_PARTS = f"""
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
for text in requires("litellm"):
    need = Requirement(text)
    if need.name != "{_LEFT_OUT}" and need.marker and need.marker.evaluate({{"extra": "proxy"}}):
        if not need.marker.evaluate({{"extra": ""}}):
            need.marker = None
            print(need)
"""
INSTALL_S = 600


class NotInstalled(RuntimeError):
    """Why there is no LiteLLM to compare with."""


def cache() -> Path:
    """Where the virtual environment is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path(tempfile.gettempdir()) / f"understudy-bench-{os.getuid()}"
    return Path(base) / f"litellm-{VERSION}-py{sys.version_info.major}.{sys.version_info.minor}"


def install(folder: Path) -> Path:
    """The environment's folder, made if it is not there. Raises NotInstalled."""
    if (folder / "complete").is_file():
        return folder
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        try:
            _run([*pip, f"litellm[proxy]=={VERSION}"])
        except NotInstalled:
            _run([*pip, f"litellm=={VERSION}"])
            parts = _run([str(folder / "bin" / "python"), "-c", _PARTS]).split("\n")
            _run([*pip, *(part for part in parts if part)])
    except OSError as error:
        raise NotInstalled(str(error.strerror)) from None
    (folder / "complete").touch()
    return folder


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"installing took longer than {INSTALL_S} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
        raise NotInstalled(lines[-1][:300])
    return done.stdout


def deployment(url: str, name: str = "video", *, model: str = "sora-2", more: str = "") -> str:
    """One entry of `model_list`: the twin `openai` at that sandbox, as OpenAI's own service was."""
    return f"""
  - model_name: {name}
    litellm_params:
      model: openai/{model}
      api_base: {url}/openai/v1
      api_key: {KEY}{more}
"""


def config(deployments: Sequence[str], more: str = "") -> str:
    """A whole `config.yaml`."""
    return "model_list:" + "".join(deployments) + more


def litellm(folder: Path, home: Path, text: str) -> Server:
    """The proxy with one worker, no database, no key of its own, no look at the network."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.yaml").write_text(text, encoding="utf-8")
    env = bare_environment(
        home,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        LITELLM_TELEMETRY="False",
        LITELLM_LOG="ERROR",
        LITELLM_MODE="PRODUCTION",
        DISABLE_ADMIN_UI="True",
        # Loopback, and Understudy runs without a token here too.
        LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY="true",
        # Where a call loses its deployment it must end at a closed port, never at the vendor.
        OPENAI_API_BASE="http://127.0.0.1:9/v1",
        OPENAI_BASE_URL="http://127.0.0.1:9/v1",
        PATH=f"{folder / 'bin'}:{os.environ['PATH']}",
    )
    command = [str(folder / "bin" / "litellm"), "--host", "127.0.0.1", "--port", "{port}"]
    command += ["--config", str(home / "config.yaml"), "--num_workers", "1"]
    return Server("LiteLLM", command, env, ready_path="/health/liveliness", cwd=home)
