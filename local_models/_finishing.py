"""Latents to frames and frames to a file, in a thread of the model process while the next clip is being denoised."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_models._clip import Clip, Finish
from local_models._clock import PhaseClock
from local_models._encode import write_mp4
from local_models._failures import CANCELLED, Stop, describe, device_lost, out_of_memory
from local_models._messages import Done, Failed, Left, Phase, Run


@dataclass
class Making:
    """One clip on its way from a Run to a file."""

    run: Run
    began: float
    """Monotonic."""
    clock: PhaseClock = field(default_factory=PhaseClock)
    phase: Phase = "encode"
    finish: Finish | None = None
    """Decodes its latents; None before they are there, and once they are decoded."""
    clip: Clip | None = None
    measured: dict[str, Any] = field(default_factory=dict)
    beside: bool = False
    """Another clip was on the device at the same time: its peak of memory is not known, its steps took longer."""

    def details(self, clip: Clip) -> dict[str, Any]:
        """For the gateway, and for the file."""
        render = self.run.render
        return {
            "seed": render.seed,
            "steps": render.steps,
            "guidance": render.guidance,
            "frames": len(clip.frames),
            "fps": clip.fps,
            "width": clip.width,
            "height": clip.height,
            "revision": self.run.revision,
        }


class Finisher:
    """One clip at a time: the frames or latents of a second one would be held in memory for nothing."""

    def __init__(
        self,
        decode: Callable[[Making], None],
        tell: Callable[[Done | Failed], None],
        cancelled: Callable[[str], bool],
        wake: Callable[[], None],
    ) -> None:
        """Everything is called from the finishing thread.

        `decode` makes the frames from the latents; `tell` is called once per clip; `cancelled` is asked before every
        frame that is written; `wake` when a clip had no room beside the next one and waits in `take_back`.
        """
        self._decode, self._tell, self._cancelled, self._wake = decode, tell, cancelled, wake
        self._thread: threading.Thread | None = None
        self._making: Making | None = None
        self._decoded = threading.Event()
        self._decoded.set()
        self._back: Making | None = None

    @property
    def decoding(self) -> Making | None:
        """The clip whose latents are being decoded now."""
        return None if self._decoded.is_set() else self._making

    def wait(self, *, file: bool) -> bool:
        """Until nothing is being decoded, or with `file` written either; whether something was."""
        if not file:
            busy = not self._decoded.is_set()
            self._decoded.wait()
            return busy
        thread, self._thread = self._thread, None
        if thread is None or not thread.is_alive():
            return False
        thread.join()
        return True

    def take_back(self) -> Making | None:
        """A clip that could not be decoded beside another for want of memory; asked by the thread that waited."""
        back, self._back = self._back, None
        return back

    def begin(self, making: Making) -> None:
        """Decode it where it is not decoded, and write it. Call `wait(file=True)` before."""
        self._making = making
        if making.clip is None:
            self._decoded.clear()
        self._thread = threading.Thread(target=self._finish, args=(making,), name="finisher", daemon=True)
        self._thread.start()

    def _finish(self, making: Making) -> None:
        try:
            ended = self._ended(making)
        finally:
            self._decoded.set()
        if ended is None:
            self._wake()
        else:
            making.clip = None
            self._tell(ended)

    def _ended(self, making: Making) -> Done | Failed | None:
        run = making.run
        try:
            if making.clip is None:
                self._decode(making)
                self._decoded.set()
            return self._written(making)
        except Stop:
            return Failed(run.ticket, "cancelled", CANCELLED.en, CANCELLED.ja)
        except Exception as error:
            if making.clip is None and out_of_memory(error):
                self._back = making
                return None
            kind, text = describe(error)
            left: Left = "wreck" if device_lost(error) else "model"
            return Failed(run.ticket, kind, text.en, text.ja, left)

    def _written(self, making: Making) -> Done:
        run, clip = making.run, making.clip
        assert clip is not None

        def stop_if_cancelled() -> None:
            if self._cancelled(run.ticket):
                raise Stop

        details, render = making.details(clip), run.render
        asked = {"prompt": render.prompt, "negative_prompt": render.negative_prompt}
        facts = {**asked, "model": run.model, **details}
        write_mp4(Path(run.out), clip.frames, clip.fps, facts, clip.sound, stop_if_cancelled)
        cut = {"prompt_cut": True} if clip.prompt_cut else {}
        seconds = round(time.monotonic() - making.began, 3)
        return Done(run.ticket, {**details, "measured": making.measured, **cut, "seconds": seconds})
