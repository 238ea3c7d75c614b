"""The model process: loads one pipeline at a time, makes clips one after the other, ends when its pipe closes.

Started as `python -m local_models._worker` with messages on standard input and output; whatever a library prints
goes to standard error. Nothing of the gateway lives here, so running out of memory or a crash takes nothing along.
"""

import ctypes
import errno
import gc
import importlib
import os
import queue
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

from local_models._clock import PhaseClock
from local_models._encode import write_mp4
from local_models._memory import CONTEXT_GB, DeviceFacts, LoadPlan, plans
from local_models._messages import (
    Cancel,
    Done,
    Failed,
    FailureKind,
    FromChild,
    Load,
    Loaded,
    LoadFailed,
    Phase,
    Run,
    Step,
    decode,
    encode,
)
from local_models._weights import WeightsBroken, inspect
from router.contract.words import Words, same, words

_PR_SET_PDEATHSIG = 1
_ALLOCATION = re.compile(r"can't allocate memory|out of memory|_ALLOC_FAILED", re.IGNORECASE)
_PATH = re.compile(r"(?:[A-Za-z]:)?[/\\][^\s'\":]*[/\\]")


class Stop(BaseException):
    """The running job was cancelled. A BaseException, so that no library swallows it."""


class Worker:
    """The loaded model and the job on it."""

    def __init__(
        self, send: Callable[[FromChild], None], facts: Callable[[str], DeviceFacts] | None = None
    ) -> None:
        """`send` writes one message to the parent; `facts` tells about the device of a name."""
        self._send = send
        self._facts = facts or _facts
        self._inbox: queue.SimpleQueue[Load | Run] = queue.SimpleQueue()
        self._cancelled: str | None = None
        self._ticket: str | None = None
        self._load: Load | None = None
        self._module: Any = None
        self._pipe: Any = None
        self._plans: tuple[LoadPlan, ...] = ()
        """The plan in use, then smaller ones for when memory runs out."""

    def accept(self, message: Load | Run | Cancel) -> None:
        """From the listening thread."""
        if isinstance(message, Cancel):
            self._cancelled = message.ticket
        else:
            self._inbox.put(message)

    def serve(self) -> None:
        """Work for ever; the listening thread ends the process."""
        while True:
            match self._inbox.get():
                case Load() as load:
                    self._do_load(load)
                case Run() as run:
                    self._do_run(run)

    # -- loading

    def _do_load(self, load: Load) -> None:
        started = time.monotonic()
        self._drop()
        try:
            self._module = importlib.import_module(load.pipeline)
            weights = inspect(Path(load.directory))
            numbers = self._module.numbers(weights, load.width, load.height, load.frames)
            numbers = replace(numbers, steps=load.steps, passes=load.passes, peak_factor=load.peak_factor)
            self._load, self._plans = load, plans(numbers, self._facts(load.device))
            self._put()
        except Exception as error:
            kind, text = describe(error)
        else:
            self._send(Loaded(load.model, round(time.monotonic() - started, 3), str(self._plans[0])))
            return
        self._drop()
        self._send(LoadFailed(load.model, kind, text.en, text.ja))

    def _put(self) -> None:
        """Load by the first plan that the device has room for. Raises what the last one raised."""
        load = self._load
        assert load is not None
        while True:
            try:
                self._pipe = self._module.load(Path(load.directory), self._plans[0], _device(load.device))
                break
            except Exception as error:
                if len(self._plans) == 1 or not _out_of_memory(error):
                    raise
            self._next_plan()
        for module in self._pipe.stop_points():
            module.register_forward_pre_hook(self._stop_if_cancelled)

    def _next_plan(self) -> None:
        self._pipe = None
        _free()
        self._plans = self._plans[1:]

    def _drop(self) -> None:
        self._pipe, self._load, self._plans = None, None, ()
        _free()

    # -- running

    def _stop_if_cancelled(self, *_: Any) -> None:
        if self._cancelled is not None and self._cancelled == self._ticket:
            raise Stop

    def _do_run(self, run: Run) -> None:
        self._ticket = run.ticket
        try:
            self._send(self._outcome(run))
        finally:
            self._ticket = None

    def _outcome(self, run: Run) -> Done | Failed:
        """Make the clip, with a smaller plan if memory runs out and there is one."""
        while True:
            try:
                return Done(run.ticket, self._make(run))
            except Stop:
                kind: FailureKind = "cancelled"
                text = words("The job was cancelled.", "ジョブはキャンセルされました。")
            except Exception as error:
                kind, text = describe(error)
            # Here the exception is gone, and with it the tensors that its traceback held.
            if self._pipe is not None:
                self._pipe.settle()
            _free()
            if kind != "oom" or len(self._plans) < 2:
                return Failed(run.ticket, kind, text.en, text.ja)
            self._next_plan()
            try:
                self._put()
            except Exception as error:
                kind, text = describe(error)
                self._drop()
                return Failed(run.ticket, kind, text.en, text.ja)

    def _make(self, run: Run) -> dict[str, Any]:
        if self._pipe is None:
            raise RuntimeError("no model is loaded")
        started, clock = time.monotonic(), PhaseClock()
        render = run.render
        device = _device(self._load.device) if self._load else "cpu"
        _forget_peak(device)

        def on_step(phase: Phase, done: int, total: int) -> None:
            self._stop_if_cancelled()
            _finish_queued_work(device)
            clock.seen(phase, done)
            self._send(Step(run.ticket, phase, done, total))

        clip = self._module.generate(self._pipe, render, on_step)
        on_step("write", 0, 1)
        made = {
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
        facts = {**asked, "model": run.model, **made}
        write_mp4(Path(run.out), clip.frames, clip.fps, facts, clip.sound)
        seconds = round(time.monotonic() - started, 3)
        measured = {**clock.facts(), "plan": self._plans[0].word, **_peak(device)}
        cut = {"prompt_cut": True} if clip.prompt_cut else {}
        return {**made, "seconds": seconds, "measured": measured, **cut}


def _device(asked: str) -> str:
    import torch

    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


def _facts(asked: str) -> DeviceFacts:
    import torch

    device = torch.device(_device(asked))
    if device.type != "cuda":
        return DeviceFacts("cpu")
    free, _ = torch.cuda.mem_get_info(device)
    major, minor = torch.cuda.get_device_capability(device)
    return DeviceFacts(
        "cuda", free / 1e9, name=torch.cuda.get_device_name(device), capability=major + minor / 10
    )


def _cuda(device: str) -> Any:
    """`torch.cuda` where a model is on such a card, else None."""
    torch = sys.modules.get("torch")
    there = device.startswith("cuda") and torch is not None and torch.cuda.is_initialized()
    return torch.cuda if there and torch is not None else None


def _finish_queued_work(device: str) -> None:
    """A step is told when the card has done it, not when it was asked: else progress and times run ahead."""
    if (cuda := _cuda(device)) is not None:
        cuda.synchronize(device)


def _forget_peak(device: str) -> None:
    if (cuda := _cuda(device)) is not None:
        cuda.reset_peak_memory_stats(device)


def _peak(device: str) -> dict[str, float]:
    """The most that tensors held since, with the context; empty on the CPU."""
    cuda = _cuda(device)
    return {} if cuda is None else {"peak_gb": round(cuda.max_memory_allocated(device) / 1e9 + CONTEXT_GB, 2)}


def _free() -> None:
    """Give memory back to the device, if a model was ever on one."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _out_of_memory(error: BaseException) -> bool:
    """CUDA's own class, Python's, and the RuntimeError of torch's CPU allocator and of cuBLAS."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _ALLOCATION.search(str(error)) is not None
    )


def describe(error: Exception) -> tuple[FailureKind, Words]:
    """What kind of failure, and a message without machine paths."""
    traceback.print_exception(error)
    if _out_of_memory(error):
        return "oom", words(
            "The device has too little memory for this clip. Ask for a smaller or shorter one, or use a smaller model.",
            "デバイスのメモリが足りません。サイズや長さを小さくするか、より小さいモデルを使ってください。",
        )
    if isinstance(error, WeightsBroken):
        return "weights", error.message
    message = getattr(error, "message", None)
    if isinstance(message, Words):
        return "input", message
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk", words("The disk is full.", "ディスクの空き容量がありません。")
    said = f"{type(error).__name__}: {_PATH.sub('', str(error))}".splitlines()[0][:300]
    return "error", same(said)


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
    _quiet_cpu()
    worker.serve()


def _quiet_cpu() -> None:
    """All cores, no denormal numbers: both matter on a small CPU."""
    import torch

    torch.set_num_threads(
        max(1, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    )
    torch.set_flush_denormal(True)


if __name__ == "__main__":
    main()
