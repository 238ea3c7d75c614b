"""The MP4 of one clip, written in a thread of the model process while the next clip is being made."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_models._clip import Clip
from local_models._encode import write_mp4
from local_models._failures import CANCELLED, Stop, describe
from local_models._messages import Done, Failed, Run


@dataclass(frozen=True)
class Made:
    """A clip that is no file yet."""

    run: Run
    clip: Clip
    facts: dict[str, Any]
    """Go into the file."""
    details: dict[str, Any]
    """Go to the gateway, with the `seconds` since `began`."""
    began: float
    """Monotonic."""


class Writer:
    """One clip at a time: the frames of a second one would be held in memory for nothing."""

    def __init__(self, tell: Callable[[Done | Failed], None], cancelled: Callable[[str], bool]) -> None:
        """`tell` is called from the writing thread, once per clip; `cancelled` is asked before every frame."""
        self._tell, self._cancelled = tell, cancelled
        self._thread: threading.Thread | None = None

    def wait(self) -> bool:
        """Until nothing is being written; whether something was."""
        thread, self._thread = self._thread, None
        if thread is None or not thread.is_alive():
            return False
        thread.join()
        return True

    def begin(self, made: Made) -> None:
        """Write it. Call `wait` before."""
        self._thread = threading.Thread(target=self._write, args=(made,), name="writer", daemon=True)
        self._thread.start()

    def _write(self, made: Made) -> None:
        run, clip = made.run, made.clip

        def stop_if_cancelled() -> None:
            if self._cancelled(run.ticket):
                raise Stop

        try:
            write_mp4(Path(run.out), clip.frames, clip.fps, made.facts, clip.sound, stop_if_cancelled)
        except Stop:
            ended: Done | Failed = Failed(run.ticket, "cancelled", CANCELLED.en, CANCELLED.ja)
        except Exception as error:
            kind, text = describe(error)
            ended = Failed(run.ticket, kind, text.en, text.ja)
        else:
            ended = Done(run.ticket, {**made.details, "seconds": round(time.monotonic() - made.began, 3)})
        self._tell(ended)
