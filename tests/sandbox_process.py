"""A sandbox of its own in a separate process, for tests that need one that outlives what they kill."""

import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

ROOT = Path(__file__).resolve().parent.parent
ENDS_WITHIN_S = 10


class SandboxProcess:
    """Context manager: twins on free ports of this machine, until the block ends.

    `url` is the base for `UNDERSTUDY_SANDBOX_URL`; `tls_url` the TLS base, None without `tls_ca`.
    """

    def __init__(self, *, port: int = 0, tls_ca: Path | None = None) -> None:
        """`tls_ca`: also serve over TLS, and write the CA certificate there."""
        self._arguments = ["--port", str(port)]
        if tls_ca is not None:
            self._arguments += ["--tls-port", "0", "--tls-ca", str(tls_ca)]
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._client = httpx.Client(timeout=30)
        self.url = ""
        self.tls_url: str | None = None

    def __enter__(self) -> Self:
        """Start the process and wait for the line that says it answers."""
        command = [sys.executable, "-m", "api_providers.sandbox", *self._arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert self._process.stderr is not None
        said = ""
        for line in self._process.stderr:
            said += line
            if line.startswith("ready "):
                _, self.url, *rest = line.split()
                self.tls_url = rest[0] if rest else None
                # A full pipe would stop the process, so what it says later is read and dropped.
                self._reader = threading.Thread(target=deque, args=(self._process.stderr, 0), daemon=True)
                self._reader.start()
                return self
        self.__exit__(None, None, None)
        raise RuntimeError(f"the sandbox did not start: {said}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._client.close()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.join()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._process = None

    def post_fault(self, provider: str, kind: str, *, times: int = 1, seconds: float = 1.0) -> None:
        """Order a fault; `times` -1 lasts until `reset`."""
        order = {"provider": provider, "kind": kind, "times": times, "seconds": seconds}
        self._post("faults", order)

    def settings(self, provider: str, **changes: float | str | None) -> dict[str, Any]:
        """Change `render_seconds`, `per_minute`, `per_day`, `concurrency` or `price_factor`; answers all of them."""
        answer: dict[str, Any] = self._post("settings", {"provider": provider, **changes})
        return answer

    def heal(self) -> None:
        """End all faults; bill, tasks and settings stay."""
        self._post("heal", {})

    def reset(self) -> None:
        """Clear bill, faults, settings and journal."""
        self._post("reset", {})

    def bill(self, provider: str | None = None) -> list[dict[str, Any]]:
        """Every task accepted since the last reset, of one provider or of all."""
        return [row for row in self._get("bill") if provider in (None, row["provider"])]

    def requests(self) -> list[dict[str, Any]]:
        """Every call to a twin since the last reset, oldest first."""
        return self._get("requests")

    def _get(self, what: str) -> list[dict[str, Any]]:
        answer = self._client.get(f"{self.url}/_sandbox/{what}")
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()
        return rows

    def _post(self, what: str, order: dict[str, Any]) -> Any:
        answer = self._client.post(f"{self.url}/_sandbox/{what}", json=order)
        if answer.is_error:
            raise ValueError(f"{what}: {answer.text}")
        return answer.json()
