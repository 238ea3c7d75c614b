"""The measuring process seen from its parent, which loads no model library itself."""

import json
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from benchmarks.gpu.jobs import Job, Way
from local_models._child import environment

ROOT = Path(__file__).resolve().parents[2]
_OURS_ALONE = "PYTORCH_CUDA_ALLOC_CONF"


class TookTooLong(Exception):
    """The row was not ready in time; its process is ended."""


class RowProcess:
    """A process that measures rows one after the other."""

    def __init__(self, way: Way, log: Path) -> None:
        """`way` decides the environment: ours is the model process's own, the others keep the libraries' defaults.

        `log` is appended to.
        """
        known = environment()
        if way != "ours":
            known.pop(_OURS_ALONE, None)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.row"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=known,
                encoding="utf-8",
            )
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def ask(self, job: Job, timeout_s: float) -> dict[str, Any]:
        """Measure one row. A process that dies over it is a result too. Raises TookTooLong."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asdict(job)) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.close()
            raise TookTooLong from None
        except OSError:
            line = None
        if line is None:
            return {"outcome": "failed", "why": f"the process ended: {_end(self._process.wait())}"}
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End it; nothing of it is left on the card."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"{name}, perhaps because the host's memory ran out" if name == "SIGKILL" else name
    return f"exit code {code}"
