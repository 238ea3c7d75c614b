"""The queue in front of the model process: which job it gets next, how far it is, what its silence or end means."""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from local_models._child import Child
from local_models._messages import (
    Cancel,
    Done,
    Failed,
    FailureKind,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Render,
    Run,
    Step,
)
from local_models._render import largest
from router.contract.card import ModelCard
from router.contract.errors import Cancelled, GatewayError, GenerationFailed, OutOfMemory
from router.contract.words import Words, words

log = logging.getLogger(__name__)

IDLE_UNLOAD_S = 600.0
STEP_LIMIT_S = 900.0
"""Silence of the process within a job after which it counts as hung. The slowest step we know of, a 14B model
streamed into 8 GB, stays below two minutes."""
LOAD_LIMIT_S = 1800.0
"""The same while a model is loaded: 60 GB from a slow disk."""
SAME_MODEL_RUN = 4
"""How many jobs of the loaded model may pass a job that needs another one."""
KEPT_TICKETS = 1000
_PHASES = {"encode": (0.05, 0.08), "denoise": (0.08, 0.90), "decode": (0.90, 0.98), "write": (0.98, 1.0)}
"""Share of the progress bar, after loading."""


@dataclass
class Ticket:
    """One accepted job."""

    ref: str
    card: ModelCard
    directory: Path
    out: Path
    render: Render
    peak_factor: float = 1.0
    """Measured by predicted peak of this model on this device."""
    progress: float = 0.0
    running: bool = False
    cancelled: bool = False
    details: dict[str, JsonValue] | None = None
    """Set when the clip lies at `out`."""
    failure: tuple[type[GatewayError], Words] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.details is not None or self.failure is not None


@dataclass(frozen=True)
class Patience:
    """Seconds of silence or idleness after which the process is ended."""

    idle_unload_s: float = IDLE_UNLOAD_S
    step_limit_s: float = STEP_LIMIT_S
    load_limit_s: float = LOAD_LIMIT_S


class Desk:
    """Tickets, queue and child; called from any thread, and from the child's."""

    def __init__(self, device: str, patience: Patience) -> None:
        """Starts nothing."""
        self._device = device
        self._patience = patience
        self._lock = threading.RLock()
        self._tickets: dict[str, Ticket] = {}
        self._queue: deque[Ticket] = deque()
        self._current: Ticket | None = None
        self._child: Child | None = None
        self._passed = 0
        self._idle_since = 0.0
        self._closed = False

    def put(self, ticket: Ticket) -> bool:
        """Queue it; False once the desk is closed."""
        with self._lock:
            if self._closed:
                return False
            self._forget_old()
            self._tickets[ticket.ref] = ticket
            self._queue.append(ticket)
            self._advance()
            return True

    def get(self, ref: str) -> Ticket | None:
        """The ticket as it stands; None after a restart."""
        with self._lock:
            return self._tickets.get(ref)

    def cancel(self, ref: str) -> bool:
        """Drop it from the queue, or ask the child to stop it; False where there is nothing to cancel."""
        with self._lock:
            ticket, child = self._tickets.get(ref), self._child
            if ticket is None or ticket.ended:
                return False
            ticket.cancelled = True
            if ticket is self._current and child is not None and child.loading is None:
                child.send(Cancel(ticket.ref))
                return True
            # Not begun: nothing needs to be asked. A model that is being loaded for it stays loaded.
            self._fail(ticket, Cancelled, _CANCELLED)
            if ticket in self._queue:
                self._queue.remove(ticket)
            return True

    def close(self) -> None:
        """End the child, also inside a step, and wait for its end. Blocks for up to ten seconds."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
            self._queue.clear()
        if child is not None:
            child.stop()
            if not child.join(5.0):
                child.kill()
                child.join(5.0)

    @property
    def child_pid(self) -> int | None:
        """Process id of the model process while there is one."""
        child = self._child
        return child.pid if child else None

    # -- under the lock

    def _advance(self) -> None:
        """Give the child the next job, or have it load the model for it."""
        if self._closed or self._current is not None:
            return
        if not self._queue:
            self._idle_since = time.monotonic()
            return
        if self._child is None:
            self._child = Child(
                self._queue[0].out.with_name("worker.log"),
                on_message=self._on_message,
                on_exit=self._on_exit,
                on_tick=self._on_tick,
            )
        ticket = self._current = self._take(self._child.loaded)
        ticket.running = True
        if self._child.loaded == ticket.card.id:
            self._run(self._child, ticket)
        else:
            self._load(self._child, ticket)

    def _take(self, loaded: str | None) -> Ticket:
        """The oldest job, or up to SAME_MODEL_RUN times the oldest one of the loaded model."""
        queue = self._queue
        same = next((ticket for ticket in queue if ticket.card.id == loaded), None)
        if same is None or same is queue[0] or self._passed >= SAME_MODEL_RUN:
            self._passed = 0
            return queue.popleft()
        self._passed += 1
        queue.remove(same)
        return same

    def _load(self, child: Child, ticket: Ticket) -> None:
        assert ticket.card.local is not None
        width, height, frames = largest(ticket.card)
        child.loaded, child.loading = None, ticket.card.id
        child.send(
            Load(
                ticket.card.id,
                ticket.card.local.pipeline,
                str(ticket.directory),
                self._device,
                max(width, ticket.render.width),
                max(height, ticket.render.height),
                max(frames, ticket.render.frames),
                ticket.card.local.steps,
                2 if ticket.card.local.guidance > 1 else 1,
                ticket.peak_factor,
            )
        )

    def _run(self, child: Child, ticket: Ticket) -> None:
        assert ticket.card.local is not None
        self._progress(ticket, 0.05)
        child.send(
            Run(ticket.ref, str(ticket.out), ticket.render, ticket.card.id, ticket.card.local.revision)
        )

    def _end(self) -> None:
        """The current job is over: on to the next."""
        self._current = None
        self._advance()

    def _fail(self, ticket: Ticket, kind: type[GatewayError], message: Words) -> None:
        if not ticket.ended:
            ticket.failure = (kind, message)

    @staticmethod
    def _progress(ticket: Ticket, value: float) -> None:
        ticket.progress = max(ticket.progress, min(1.0, value))

    def _forget_old(self) -> None:
        """Ended tickets are kept for later looks, the newest KEPT_TICKETS of them."""
        ended = [ref for ref, ticket in self._tickets.items() if ticket.ended]
        for ref in ended[: max(0, len(ended) - KEPT_TICKETS)]:
            self._tickets.pop(ref).out.unlink(missing_ok=True)

    # -- from the child's threads

    def _on_message(self, child: Child, message: Message) -> None:
        with self._lock:
            if child is not self._child:
                return
            ticket = self._current
            match message:
                case Loaded():
                    log.info("loaded %s in %.1f s (%s)", message.model, message.seconds, message.plan)
                    child.loaded, child.loading = message.model, None
                    if ticket is None:
                        self._advance()
                    elif ticket.ended:
                        self._end()
                    else:
                        self._run(child, ticket)
                case LoadFailed():
                    child.loading = None
                    if ticket is not None:
                        self._fail(ticket, _error_of(message.kind), Words(en=message.en, ja=message.ja))
                    self._end()
                case Step() if ticket is not None and ticket.ref == message.ticket:
                    start, end = _PHASES[message.phase]
                    self._progress(ticket, start + (end - start) * message.done / max(1, message.total))
                case Done() if ticket is not None and ticket.ref == message.ticket:
                    self._progress(ticket, 1.0)
                    ticket.details = message.details
                    self._end()
                case Failed() if ticket is not None and ticket.ref == message.ticket:
                    text = _CANCELLED if message.kind == "cancelled" else Words(en=message.en, ja=message.ja)
                    self._fail(ticket, _error_of(message.kind), text)
                    self._end()
                case _:
                    pass

    def _on_exit(self, child: Child, code: int) -> None:
        """Its job fails; jobs not begun go to a fresh process."""
        with self._lock:
            if child is not self._child:
                return
            self._child = None
            log.warning("the model process ended with code %s", code)
            if self._current is not None:
                if self._current.cancelled:
                    self._fail(self._current, Cancelled, _CANCELLED)
                else:
                    self._fail(self._current, GenerationFailed, _ended(child, code))
            self._end()

    def _on_tick(self, child: Child) -> None:
        """End a process that says nothing for too long, and one that has had nothing to do for too long."""
        with self._lock:
            if child is not self._child:
                return
            now = time.monotonic()
            if self._current is None:
                if now - self._idle_since > self._patience.idle_unload_s:
                    self._child = None
                    child.stop()
                return
            if now - child.heard_at > (
                self._patience.load_limit_s if child.loading else self._patience.step_limit_s
            ):
                child.hung = True
                child.kill()


_CANCELLED = words("The job was cancelled.", "ジョブはキャンセルされました。")


def _error_of(kind: FailureKind) -> type[GatewayError]:
    match kind:
        case "oom":
            return OutOfMemory
        case "cancelled":
            return Cancelled
        case _:
            return GenerationFailed


def _ended(child: Child, code: int) -> Words:
    if child.hung:
        return words(
            "The model process did not answer any more and was ended.",
            "モデルのプロセスが応答しなくなったため、終了しました。",
        )
    return words(
        f"The model process ended unexpectedly (exit code {code}).",
        f"モデルのプロセスが予期せず終了しました(終了コード {code})。",
    )
