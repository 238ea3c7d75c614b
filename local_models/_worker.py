"""The model process: loads one pipeline at a time, makes clips one after the other, ends when its pipe closes.

Started as `python -m local_models._worker` with messages on standard input and output; whatever a library prints
goes to standard error. Nothing of the gateway lives here, so running out of memory or a crash takes nothing along.
One clip becomes frames and a file while the next one is being denoised.
"""

import ctypes
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO

from local_models._accelerator import (
    facts_of,
    finish_queued_work,
    forget_peak,
    give_back,
    peak,
    quiet_cpu,
    same_as_main,
    second_queue,
)
from local_models._clip import OnStep
from local_models._clock import PhaseClock
from local_models._failures import CANCELLED, Stop, describe, device_lost
from local_models._finishing import Finisher, Making
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
from local_models._showing import Shower
from router.contract.words import Words

_PR_SET_PDEATHSIG = 1


class Worker:
    """The loaded model, the job on it, and the clip before it that is being finished."""

    def __init__(
        self, send: Callable[[FromChild], None], facts: Callable[[str], DeviceFacts] | None = None
    ) -> None:
        """`send` writes one message to the parent; `facts` tells about the device of a name."""
        self._send = send
        self._facts = facts or facts_of
        self._inbox: queue.SimpleQueue[Load | Run | None] = queue.SimpleQueue()
        """None: look whether a clip came back from the finisher."""
        self._known: set[str] = set()
        """Tickets that were given to us and have not ended."""
        self._cancelled: set[str] = set()
        self._here = threading.local()
        """`ticket`: the job that this thread works on."""
        self._model: LoadedModel | None = None
        self._shower = Shower(send)
        self._finisher = Finisher(
            self._decode_beside, self._tell, self._cancelled.__contains__, lambda: self._inbox.put(None)
        )

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
                    self._await(file=False)
                    self._do_load(load)
                case Run() as run:
                    self._do_run(run)
                case None:
                    self._await(file=False)

    def _tell(self, ended: Done | Failed) -> None:
        """From either thread."""
        self._shower.end(ended.ticket)
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
        if getattr(self._here, "ticket", None) in self._cancelled:
            raise Stop

    @contextmanager
    def _working_on(self, ticket: str) -> Iterator[None]:
        before = getattr(self._here, "ticket", None)
        self._here.ticket = ticket
        try:
            yield
        finally:
            self._here.ticket = before

    def _await(self, *, file: bool) -> bool:
        """Until the clip before is decoded, or with `file` is a file; whether that took a wait.

        One that had no room beside another is decoded here, now that it is alone.
        """
        waited = self._finisher.wait(file=file)
        back = self._finisher.take_back()
        if back is None:
            return waited
        if self._model is not None:
            self._model.room_beside = False
        self._hand_on(self._outcome(back, beside=False))
        if file:
            self._finisher.wait(file=True)
        return True

    def _hand_on(self, made: Making | Failed) -> None:
        """To the finisher, which has nothing to do now."""
        if isinstance(made, Failed):
            self._tell(made)
        else:
            self._finisher.begin(made)

    def _do_run(self, run: Run) -> None:
        # The VAE reads given frames with the same caches that it decodes with.
        if run.alone or run.render.first_frame or run.render.last_frame:
            self._await(file=False)
        making = Making(run, time.monotonic())
        made = self._outcome(making, beside=not run.alone)
        if isinstance(made, Making):
            # At most one clip waits to be a file: what a third one needs would be held for nothing.
            self._await(file=True)
            self._send(Rendered(run.ticket, decoded=made.clip is not None))
        self._hand_on(made)

    def _outcome(self, making: Making, *, beside: bool) -> Making | Failed:
        """Make it, with smaller tiles or a smaller plan if memory runs out and there is one.

        `beside`: leave the decoding to the finisher where model and device allow it.
        """
        while True:
            left: Left = "model"
            try:
                with self._working_on(making.run.ticket):
                    self._make(making, beside)
                return making
            except Stop:
                kind: FailureKind = "cancelled"
                text = CANCELLED
            except Exception as error:
                kind, text = describe(error)
                left = "wreck" if device_lost(error) else "model"
            # Here the exception is gone, and with it the tensors that its traceback held.
            model = self._model
            if left == "wreck" or model is None or model.pipe is None:
                return self._failed(making, kind, text, left)
            model.pipe.settle()
            give_back()
            if kind != "oom":
                return self._failed(making, kind, text, left)
            # The clip before lay, or its frames lie, in the same memory.
            if making.beside:
                making.beside = model.room_beside = False
                self._await(file=True)
                continue
            if model.device == "cpu" and self._await(file=True):
                continue
            if making.phase == "decode" and model.cut_tiles():
                making.clock.again("decode")
                continue
            making.finish = None
            try:
                if model.step_down(making.phase):
                    continue
            except Exception as error:
                kind, text = describe(error)
                left = "wreck" if device_lost(error) else "model"
            # Nothing smaller is left: a clean device, and a plan of its own for the next job.
            self._drop()
            return self._failed(making, kind, text, left if left == "wreck" else "nothing")

    def _failed(self, making: Making, kind: FailureKind, text: Words, left: Left) -> Failed:
        making.finish = None
        return Failed(making.run.ticket, kind, text.en, text.ja, left)

    def _make(self, making: Making, beside: bool) -> None:
        """As far as it has to come in this thread: its latents, and its frames where they are not made beside."""
        model = self._model
        if model is None or model.pipe is None:
            raise RuntimeError("no model is loaded")
        if making.finish is None:
            making.clock = PhaseClock()
            run, on_step = making.run, self._on_step(making, model.device)
            if (other := self._finisher.decoding) is not None:
                making.beside = other.beside = True
            else:
                forget_peak(model.device)
            on_step("encode", 0, 1)
            if run.ahead:
                model.pipe.prompts.fill(run.render.texts, run.render.max_sequence_length, run.ahead)
            model.pipe.show = partial(self._shower.show, run)
            making.finish = model.begin(run.render, on_step)
        if not (beside and model.decodes_beside):
            self._decode(making, model)

    def _decode_beside(self, making: Making) -> None:
        """From the finisher's thread."""
        model = self._model
        assert model is not None
        same_as_main()
        with self._working_on(making.run.ticket), second_queue(model.device):
            self._decode(making, model)

    def _decode(self, making: Making, model: LoadedModel) -> None:
        finish, on_step = making.finish, self._on_step(making, model.device)
        assert finish is not None
        making.clip = model.run(lambda: finish(on_step))
        making.finish = None
        on_step("write", 0, 1)
        making.measured = {**making.clock.facts(), "plan": model.plan.word}
        making.measured |= {"beside": True} if making.beside else peak(model.device)
        making.measured |= model.ran_out
        if model.tile_cuts:
            making.measured["tile_cuts"] = model.tile_cuts

    def _on_step(self, making: Making, device: str) -> OnStep:
        def on_step(phase: Phase, done: int, total: int) -> None:
            making.phase = phase
            self._stop_if_cancelled()
            finish_queued_work(device)
            making.clock.seen(phase, done)
            self._send(Step(making.run.ticket, phase, done, total))

        return on_step


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
