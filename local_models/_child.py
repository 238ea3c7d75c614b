"""The gateway's end of the model process: start it, talk to it, notice its silence and its end."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from local_models._messages import Message, ToChild, decode, encode

_ROOT = Path(__file__).resolve().parent.parent
_SECRET_ENDINGS = ("_KEY", "_TOKEN", "_SECRET", "_KEY_ID", "_CREDENTIALS", "_PASSWORD")
_SETTINGS = {
    # Weights come from a folder; nothing is looked up on the network.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_ENABLE_PARALLEL_LOADING": "yes",
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    # Waiting threads sleep instead of spinning: with two busy cores a tiny clip takes 0.4 s instead of 19 s.
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "PYTHONUNBUFFERED": "1",
}
LOOK_S = 0.5
"""How often `on_tick` is called."""


def environment() -> dict[str, str]:
    """Ours without anything that looks like a credential, with what the libraries need to know."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith(_SECRET_ENDINGS) and not name.startswith("UNDERSTUDY_")
    }
    return {**kept, **_SETTINGS}


class Child:
    """One model process. Callbacks come from its own threads."""

    def __init__(
        self,
        log: Path,
        *,
        on_message: Callable[["Child", Message], None],
        on_exit: Callable[["Child", int], None],
        on_tick: Callable[["Child"], None],
    ) -> None:
        """`log` takes what the process and its libraries print; it is written anew."""
        self.heard_at = time.monotonic()
        """When it last said something, or was given something to do (monotonic seconds)."""
        self.loaded: str | None = None
        """Card id of the loaded model."""
        self.planned = (0, 0, 0)
        """Width, height and frames that the loaded model was planned for."""
        self.loading: str | None = None
        self.hung = False
        """True once it was ended for its silence."""
        self.killed_at: float | None = None
        self._log = log
        self._on_message, self._on_exit, self._on_tick = on_message, on_exit, on_tick
        self._process: subprocess.Popen[bytes] | None = None
        self._outbox: list[bytes] = []
        self._stopping = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        # The starting thread must live as long as the process: the kernel's parent-death signal goes by thread.
        threading.Thread(target=self._live, name="model-process", daemon=True).start()
        threading.Thread(target=self._tick, name="model-process-watch", daemon=True).start()

    @property
    def pid(self) -> int | None:
        """Process id, None until it is started."""
        return self._process.pid if self._process else None

    def send(self, message: ToChild) -> None:
        """Write one message; a process that is gone is noticed by `on_exit`, not here."""
        with self._lock:
            self._outbox.append(encode(message))
            self.heard_at = time.monotonic()
            self._flush()

    def stop(self) -> None:
        """Close its pipe: it ends at once, also inside a step."""
        with self._lock:
            self._stopping = True
            self._close(self._process.stdin if self._process else None)

    def kill(self) -> None:
        """End it without asking."""
        with self._lock:
            self._stopping = True
            self.killed_at = self.killed_at or time.monotonic()
            if self._process is not None:
                self._process.kill()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; True when it has ended."""
        return self._ended.wait(timeout_s)

    def _flush(self) -> None:
        if self._process is None or self._process.stdin is None or self._stopping:
            return
        try:
            for line in self._outbox:
                self._process.stdin.write(line)
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass
        self._outbox.clear()

    def _close(self, pipe: IO[bytes] | None) -> None:
        try:
            if pipe is not None:
                pipe.close()
        except OSError:
            pass

    def _live(self) -> None:
        """Start the process, pass on what it says, wait for its end."""
        code = -1
        try:
            with self._log.open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "local_models._worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=_ROOT,
                    env=environment(),
                    close_fds=True,
                    start_new_session=True,
                )
            with self._lock:
                self._process = process
                if self._stopping:
                    self._close(process.stdin)
                self._flush()
            assert process.stdout is not None
            for line in process.stdout:
                self.heard_at = time.monotonic()
                self._on_message(self, decode(line))
            code = process.wait()
            process.stdout.close()
        except (OSError, ValueError):
            if self._process is not None:
                self._process.kill()
                code = self._process.wait()
        finally:
            with self._lock:
                self._close(self._process.stdin if self._process else None)
            self._ended.set()
            self._on_exit(self, code)

    def _tick(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._on_tick(self)
