"""The worker's own decisions, without a process around it: smaller plans, failures by kind, what a message may say."""

import errno
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from local_models._failures import describe
from local_models._memory import DeviceFacts
from local_models._messages import Done, Failed, FromChild, Load, Loaded, LoadFailed, Render, Run, Step
from local_models._worker import Worker
from tests.local_models.conftest import PATIENCE_S, SCRIPTED

if TYPE_CHECKING:
    from tests.local_models.random_weights import Folders


class Desk:
    """Collects what a worker says; `await_end` blocks until it has said how a job or a load ended."""

    def __init__(self, free_gb: float, kind: Literal["cpu", "cuda"] = "cuda") -> None:
        self.said: list[FromChild] = []
        self._ended = threading.Semaphore(0)
        self._news = threading.Condition()
        self.worker = Worker(self._send, facts=lambda device: DeviceFacts(kind, free_gb))
        threading.Thread(target=self.worker.serve, daemon=True).start()

    def _send(self, message: FromChild) -> None:
        with self._news:
            self.said.append(message)
            self._news.notify_all()
        if isinstance(message, Done | Failed | Loaded | LoadFailed):
            self._ended.release()

    def await_step(self, ticket: str, phase: str) -> None:
        """Until that job has told that phase."""

        def told() -> bool:
            return any(isinstance(s, Step) and (s.ticket, s.phase) == (ticket, phase) for s in self.said)

        with self._news:
            assert self._news.wait_for(told, PATIENCE_S)

    def await_end(self) -> FromChild:
        """How the next job or load ended."""
        assert self._ended.acquire(timeout=PATIENCE_S)
        return next(
            said for said in reversed(self.said) if isinstance(said, Done | Failed | Loaded | LoadFailed)
        )

    def ask(self, message: Load | Run) -> FromChild:
        self.worker.accept(message)
        return self.await_end()


def load(folder: Path) -> Load:
    return Load("m", SCRIPTED, str(folder), "cuda", 832, 480, 81)


def run(prompt: str, to: Path) -> Run:
    return Run("t", str(to / "c.mp4"), Render(prompt, 32, 32, 9, 8, 3, 7), "m")


def test_when_memory_runs_out_the_next_smaller_plan_is_tried(weights: "Folders", tmp_path: Path) -> None:
    desk = Desk(free_gb=23.0)
    loaded = desk.ask(load(weights.ti2v))
    assert isinstance(loaded, Loaded)
    assert "fp8" not in loaded.plan
    assert isinstance(desk.ask(run("needs fp8", tmp_path)), Done)


def test_a_job_without_a_model_fails(tmp_path: Path) -> None:
    failed = Desk(free_gb=1.0).ask(run("fine", tmp_path))
    assert isinstance(failed, Failed)
    assert failed.kind == "error"


def test_a_clip_that_cannot_be_written_is_told(weights: "Folders", tmp_path: Path) -> None:
    desk = Desk(free_gb=23.0)
    desk.ask(load(weights.ti2v))
    failed = desk.ask(run("fine", tmp_path / "not" / "there"))
    assert isinstance(failed, Failed)
    assert str(tmp_path) not in failed.en


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "oom"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "oom"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), "oom"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "oom"),
        (ValueError("out of memory"), "error"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (OSError(errno.EACCES, "Permission denied", "/srv/someone/secret.bin"), "error"),
        (RuntimeError(""), "error"),
    ],
)
def test_failures_by_kind_and_without_machine_paths(error: Exception, kind: str) -> None:
    found, text = describe(error)
    assert found == kind
    assert "/home" not in text.en
    assert text.ja
