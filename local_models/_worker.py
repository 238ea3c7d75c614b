"""The model process: loads one pipeline at a time, makes clips one after the other, ends when its pipe closes.

Started as `python -m local_models._worker` with messages on standard input and output; whatever a library prints
goes to standard error. Nothing of the gateway lives here, so running out of memory or a crash takes nothing along.
The MP4 of one clip is written while the next one is being made.
"""

import ctypes
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, BinaryIO

from local_models._accelerator import (
    facts_of,
    finish_queued_work,
    forget_peak,
    give_back,
    peak,
    quiet_cpu,
)
from local_models._clip import Clip
from local_models._clock import PhaseClock
from local_models._failures import CANCELLED, Stop, describe, device_lost
from local_models._loaded import LoadedModel
from local_models._messages import (
    Cancel,
    Done,
    Failed,
    FailureKind,
    FromChild,
    Left,
    Load,
    Loaded,
    LoadFailed,
    Phase,
    Rendered,
    Run,
    Step,
    decode,
    encode,
)
from local_models._numbers import DeviceFacts
from local_models._writing import Made, Writer
from router.contract.words import Words

_PR_SET_PDEATHSIG = 1


class Worker:
    """The loaded model, the job on it, and the clip that is being written."""

    def __init__(
        self, send: Callable[[FromChild], None], facts: Callable[[str], DeviceFacts] | None = None
    ) -> None:
        """`send` writes one message to the parent; `facts` tells about the device of a name."""
        self._send = send
        self._facts = facts or facts_of
        self._inbox: queue.SimpleQueue[Load | Run] = queue.SimpleQueue()
        self._known: set[str] = set()
        """Tickets that were given to us and have not ended."""
        self._cancelled: set[str] = set()
        self._ticket: str | None = None
        self._phase: Phase = "encode"
        self._model: LoadedModel | None = None
        self._writer = Writer(self._tell, self._cancelled.__contains__)

    def accept(self, message: Load | Run | Cancel) -> None:
        """From the listening thread."""
        match message:
            case Cancel():
                if message.ticket in self._known:
                    self._cancelled.add(message.ticket)
            case Run():
                self._known.add(message.ticket)
                self._inbox.put(message)
            case Load():
                self._inbox.put(message)

    def serve(self) -> None:
        """Work for ever; the listening thread ends the process."""
        while True:
            match self._inbox.get():
                case Load() as load:
                    self._do_load(load)
                case Run() as run:
                    self._do_run(run)

    def _tell(self, ended: Done | Failed) -> None:
        """From either thread."""
        self._known.discard(ended.ticket)
        self._cancelled.discard(ended.ticket)
        self._send(ended)

    # -- loading

    def _do_load(self, load: Load) -> None:
        started = time.monotonic()
        try:
            if self._model is not None and self._model.same_weights(load):
                self._model.grow(load)
            else:
                self._drop()
                self._model = LoadedModel(load, self._facts, self._stop_if_cancelled)
                self._model.put()
            loaded = Loaded(load.model, round(time.monotonic() - started, 3), str(self._model.plan))
        except Exception as error:
            kind, text = describe(error)
            left: Left = "wreck" if device_lost(error) else "nothing"
        else:
            self._send(loaded)
            return
        self._drop()
        self._send(LoadFailed(load.model, kind, text.en, text.ja, left))

    def _drop(self) -> None:
        self._model = None
        give_back()

    # -- running

    def _stop_if_cancelled(self, *_: Any) -> None:
        if self._ticket in self._cancelled:
            raise Stop

    def _do_run(self, run: Run) -> None:
        self._ticket = run.ticket
        try:
            ended = self._outcome(run)
        finally:
            self._ticket = None
        if isinstance(ended, Failed):
            self._tell(ended)
            return
        # At most one clip waits to be a file: the frames of a third one would be held for nothing.
        self._writer.wait()
        self._send(Rendered(run.ticket))
        self._writer.begin(ended)

    def _outcome(self, run: Run) -> Made | Failed:
        """Make the clip, with smaller tiles or a smaller plan if memory runs out and there is one."""
        while True:
            left: Left = "model"
            try:
                return self._make(run)
            except Stop:
                kind: FailureKind = "cancelled"
                text = CANCELLED
            except Exception as error:
                kind, text = describe(error)
                left = "wreck" if device_lost(error) else "model"
            # Here the exception is gone, and with it the tensors that its traceback held.
            model = self._model
            if left == "wreck" or model is None or model.pipe is None:
                return self._failed(run, kind, text, left)
            model.pipe.settle()
            give_back()
            if kind != "oom":
                return self._failed(run, kind, text, left)
            if model.device == "cpu" and self._writer.wait():
                # The frames of the clip before lay in the same memory.
                continue
            try:
                if model.step_down(self._phase):
                    continue
            except Exception as error:
                kind, text = describe(error)
                left = "wreck" if device_lost(error) else "model"
            # Nothing smaller is left: a clean device, and a plan of its own for the next job.
            self._drop()
            return self._failed(run, kind, text, left if left == "wreck" else "nothing")

    def _failed(self, run: Run, kind: FailureKind, text: Words, left: Left) -> Failed:
        return Failed(run.ticket, kind, text.en, text.ja, left)

    def _make(self, run: Run) -> Made:
        model = self._model
        if model is None or model.pipe is None:
            raise RuntimeError("no model is loaded")
        began, clock = time.monotonic(), PhaseClock()
        render, device = run.render, model.device
        forget_peak(device)

        def on_step(phase: Phase, done: int, total: int) -> None:
            self._phase = phase
            self._stop_if_cancelled()
            finish_queued_work(device)
            clock.seen(phase, done)
            self._send(Step(run.ticket, phase, done, total))

        on_step("encode", 0, 1)
        if run.ahead:
            model.pipe.prompts.fill(render.texts, render.max_sequence_length, run.ahead)
        clip: Clip = model.generate(render, on_step)
        on_step("write", 0, 1)
        details = {
            "seed": render.seed,
            "steps": render.steps,
            "guidance": render.guidance,
            "frames": len(clip.frames),
            "fps": clip.fps,
            "width": clip.width,
            "height": clip.height,
            "revision": run.revision,
        }
        asked = {key: value for key, value in asdict(render).items() if key in ("prompt", "negative_prompt")}
        facts = {**asked, "model": run.model, **details}
        measured = {**clock.facts(), "plan": model.plan.word, **peak(device)}
        if model.tile_cuts:
            measured["tile_cuts"] = model.tile_cuts
        cut = {"prompt_cut": True} if clip.prompt_cut else {}
        return Made(run, clip, facts, {**details, "measured": measured, **cut}, began)


def _die_with_parent() -> None:
    """On Linux the kernel ends us with the thread that started us, even where a copy of our pipe is still open."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _listen(commands: BinaryIO, worker: Worker) -> None:
    """Read commands until the pipe closes; then end at once, also in the middle of a step."""
    try:
        for line in commands:
            message = decode(line)
            if isinstance(message, Load | Run | Cancel):
                worker.accept(message)
    finally:
        os._exit(0)


def main() -> None:
    """Take standard input and output for messages and serve."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    commands, messages = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sending = threading.Lock()

    def send(message: FromChild) -> None:
        try:
            with sending:
                messages.write(encode(message))
                messages.flush()
        except OSError:
            os._exit(0)

    worker = Worker(send)
    threading.Thread(target=_listen, args=(commands, worker), daemon=True).start()
    quiet_cpu()
    worker.serve()


if __name__ == "__main__":
    main()
