"""How long the parts of one job took, from the progress it told; pure."""

import time
from collections.abc import Callable
from typing import Any

from local_models._messages import Phase


class PhaseClock:
    """Takes what `on_step` is told and says the seconds of each phase."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` in seconds."""
        self._now = now
        self._began: dict[Phase, float] = {}
        self._last: dict[Phase, float] = {}
        self._steps: list[float] = []
        self._done = 0

    def seen(self, phase: Phase, done: int) -> None:
        """`done` units of this phase are over."""
        at = self._now()
        self._began.setdefault(phase, at)
        if phase == "denoise" and done > self._done:
            self._steps += [(at - self._last.get(phase, at)) / (done - self._done)] * (done - self._done)
            self._done = done
        self._last[phase] = at

    def again(self, phase: Phase) -> None:
        """What was seen of this phase came to nothing; it begins once more."""
        self._began.pop(phase, None)
        self._last.pop(phase, None)

    def facts(self) -> dict[str, Any]:
        """`encode_s`, `steps_s` (one per step), `decode_s`; a phase that was not told counts as 0 s."""
        return {
            "encode_s": round(self._seconds("encode", "denoise"), 4),
            "steps_s": [round(step, 4) for step in self._steps],
            "decode_s": round(self._seconds("decode", "write"), 4),
        }

    def _seconds(self, phase: Phase, following: Phase) -> float:
        """Until the next phase begins, or until it last said something."""
        if phase not in self._began:
            return 0.0
        return self._began.get(following, self._last[phase]) - self._began[phase]
