"""An Understudy installation like a small one in use: three providers with keys, all others switched off."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.gateway.processes import Server, bare_environment
from router.catalog import Catalog

PROVIDERS = ("fal", "openai", "runway")
POLL_S = 2.0
"""Seconds between looks at a running job: a vendor's pace instead of the twins' own haste."""
_OPENAI = """
[provider]
name = "openai"
max_in_flight = 2
"""
"""An own server takes what it has room for; without a limit every job of the load would start at once."""


def installation(
    home: Path,
    *,
    using: Iterable[str] = PROVIDERS,
    files: Mapping[str, str] | None = None,
    poll_s: float = POLL_S,
) -> Path:
    """Write the data folder. `files` are the user's own provider files by name."""
    own = {"openai.toml": _OPENAI} if files is None else files
    (home / "providers").mkdir(parents=True, mode=0o700)
    for name, text in own.items():
        (home / "providers" / name).write_text(text, encoding="utf-8")
    lines = ["[local]", "enabled = false"]
    used = set(using)
    for name, info in sorted(Catalog.load(home / "providers").providers.items()):
        if info.where.value == "house":
            continue
        line = f"poll_after = {poll_s}" if name in used else "enabled = false"
        lines += [f"[providers.{name}]", line]
    (home / "understudy.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return home


def serve_command() -> list[str]:
    """Serve the API alone on `{port}`."""
    return [sys.executable, "-m", "router", "serve", "--no-page", "--port", "{port}"]


def understudy(home: Path, sandbox_url: str) -> Server:
    """`serve --no-page` on SQLite with the twins behind it."""
    env = bare_environment(home, UNDERSTUDY_HOME=str(home), UNDERSTUDY_SANDBOX_URL=sandbox_url)
    return Server("Understudy", serve_command(), env, ready_path="/healthz")
