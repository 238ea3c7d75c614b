"""The queue in front of the model process: which job it gets next, how far it is, what its silence or end means."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice

from local_models._child import Child
from local_models._failures import CANCELLED
from local_models._messages import (
    Cancel,
    Done,
    Failed,
    FailureKind,
    Left,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Render,
    Rendered,
    Run,
    Sketched,
    Step,
)
from local_models._ticket import Patience, Ticket
from router.contract.errors import Cancelled, GatewayError, GenerationFailed, OutOfMemory
from router.contract.words import Words, words

log = logging.getLogger(__name__)

SAME_MODEL_RUN = 4
"""How many jobs of the loaded model may pass a job that needs another one."""
AHEAD = 16
"""How many waiting jobs have their prompts read together with the one that begins."""
KEPT_TICKETS = 1000
MADE_AGAIN = 2
"""How often a clip is made anew whose process died while it only had to be written."""
_PHASES = {"encode": (0.05, 0.08), "denoise": (0.08, 0.90), "decode": (0.90, 0.98), "write": (0.98, 1.0)}
"""Share of the progress bar, after loading."""


class Desk:
    """Tickets, queue and child; called from any thread, and from the child's."""

    def __init__(
        self,
        device: str,
        patience: Patience,
        memory_gb: float | None = None,
        start: Callable[..., Child] = Child,
    ) -> None:
        """Starts nothing; `memory_gb` is the most to take of a card, `start` makes a model process."""
        self._device, self._memory_gb = device, memory_gb
        self._patience = patience
        self._start = start
        self._lock = threading.RLock()
        self._tickets: dict[str, Ticket] = {}
        self._queue: deque[Ticket] = deque()
        self._current: Ticket | None = None
        """The job whose frames are being made, or that a model is loaded for."""
        self._finishing: Ticket | None = None
        """The job before it, whose latents are becoming frames and a file."""
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
            begun = ticket is self._finishing or (
                ticket is self._current and child is not None and child.loading is None
            )
            if begun and child is not None:
                child.send(Cancel(ticket.ref))
                return True
            # Not begun: nothing needs to be asked. A model that is being loaded for it stays loaded.
            self._fail(ticket, Cancelled, CANCELLED)
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
            self._child = self._start(
                self._queue[0].out.with_name("worker.log"),
                on_message=self._on_message,
                on_exit=self._on_exit,
                on_tick=self._on_tick,
            )
        ticket = self._current = self._take(self._child.loaded)
        ticket.running = True
        if self._child.loaded == ticket.card.id and _covers(self._child.planned, ticket.render):
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
        """Planned for the largest clip of this model that waits now, not for the largest that a card allows."""
        local = ticket.card.local
        assert local is not None
        clips = [ticket.render, *(other.render for other in self._waiting(ticket))]
        sizes = [(clip.width, clip.height, clip.frames) for clip in clips]
        if child.loaded == ticket.card.id:
            # Planned again because this one is larger: what fitted until now must fit afterwards.
            sizes.append(child.planned)
        width, height, _ = max(sizes, key=lambda size: size[0] * size[1])
        frames = max(frames for _, _, frames in sizes)
        child.loaded, child.loading = None, ticket.card.id
        child.planned = (width, height, frames)
        child.send(
            Load(
                ticket.card.id,
                local.pipeline,
                str(ticket.directory),
                self._device,
                width,
                height,
                frames,
                local.steps,
                2 if local.guidance > 1 else 1,
                ticket.peak_factor,
                self._memory_gb,
            )
        )

    def _waiting(self, ticket: Ticket) -> list[Ticket]:
        """The next jobs of the same model."""
        same = (other for other in self._queue if other.card.id == ticket.card.id)
        return list(islice(same, AHEAD))

    def _run(self, child: Child, ticket: Ticket) -> None:
        assert ticket.card.local is not None
        self._progress(ticket, 0.05)
        length = ticket.render.max_sequence_length
        waiting = [other.render for other in self._waiting(ticket)]
        ahead = dict.fromkeys(
            text for clip in waiting if clip.max_sequence_length == length for text in clip.texts
        )
        revision = ticket.card.local.revision
        child.send(
            Run(
                ticket.ref,
                str(ticket.out),
                ticket.render,
                ticket.card.id,
                revision,
                ahead=list(ahead),
                alone=ticket.lost > 0,
            )
        )

    def _end(self, ticket: Ticket | None = None) -> None:
        """This job, or the current one, is over: on to the next."""
        if ticket is not None and ticket is self._finishing:
            self._finishing = None
        else:
            self._current = None
        self._advance()

    def _given(self, ref: str) -> Ticket | None:
        """The job of that name among those that the child has."""
        return next((t for t in (self._current, self._finishing) if t is not None and t.ref == ref), None)

    def _fail(self, ticket: Ticket, kind: type[GatewayError], message: Words) -> None:
        if not ticket.ended:
            ticket.forget_sketch()
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
            match message:
                case Loaded():
                    self._on_loaded(child, message)
                case LoadFailed():
                    child.loading = None
                    self._take_stock(child, message.left)
                    if self._current is not None:
                        self._fail(self._current, *_told(message))
                    self._end()
                case Sketched() if shown := self._given(message.ticket):
                    shown.sketched = True
                case Step() | Rendered() | Done() | Failed() if ticket := self._given(message.ticket):
                    self._on_job(child, ticket, message)
                case _:
                    pass

    def _on_loaded(self, child: Child, message: Loaded) -> None:
        log.info("loaded %s in %.1f s (%s)", message.model, message.seconds, message.plan)
        child.loaded, child.loading = message.model, None
        ticket = self._current
        if ticket is None or ticket.ended:
            self._end()
        else:
            self._run(child, ticket)

    def _on_job(self, child: Child, ticket: Ticket, message: Step | Rendered | Done | Failed) -> None:
        match message:
            case Step():
                ticket.decoding = ticket.decoding and message.phase != "write"
                start, end = _PHASES[message.phase]
                self._progress(ticket, start + (end - start) * message.done / max(1, message.total))
            case Rendered():
                self._finishing, self._current = ticket, None
                ticket.decoding = not message.decoded
                self._advance()
            case Done():
                self._progress(ticket, 1.0)
                ticket.forget_sketch()
                ticket.details = message.details
                self._end(ticket)
            case Failed() if message.left == "wreck" and self._both_at_work:
                # A card tells the error of one queue to whoever asks first.
                self._take_stock(child, message.left)
                self._advance()
            case Failed():
                self._fail(ticket, *_told(message))
                if ticket is self._finishing:
                    self._finishing = None
                else:
                    self._current = None
                self._take_stock(child, message.left)
                self._advance()

    def _take_stock(self, child: Child, left: Left) -> None:
        """What a failure left of the child."""
        if left == "nothing":
            child.loaded = None
        elif left == "wreck":
            log.warning("the device does not answer right any more: a fresh model process is started")
            child.kill()
            self._child = None
            self._lost(child, -9)

    def _on_exit(self, child: Child, code: int) -> None:
        """Jobs not begun go to a fresh process."""
        with self._lock:
            if child is not self._child:
                return
            self._child = None
            log.warning("the model process ended with code %s", code)
            self._lost(child, code)
            self._advance()

    @property
    def _both_at_work(self) -> bool:
        """Whether two jobs are on the device, so that either may be what ended its process."""
        return self._current is not None and self._finishing is not None and self._finishing.decoding

    def _lost(self, child: Child, code: int) -> None:
        """The process is gone. Its job fails; one that only had to be written is made again.

        Of two at work nobody knows which it was: each is made once more, alone.
        """
        both = self._both_at_work
        finishing, current = self._finishing, self._current
        self._finishing = self._current = None
        if current is not None:
            self._again(current, child, code, most=1 if both else 0)
        if finishing is not None:
            self._again(finishing, child, code, most=1 if both else MADE_AGAIN)

    def _again(self, ticket: Ticket, child: Child, code: int, most: int) -> None:
        """To the front of the queue, unless it was lost `most` times before."""
        if ticket.ended:
            return
        if ticket.cancelled:
            self._fail(ticket, Cancelled, CANCELLED)
        elif ticket.lost >= most:
            self._fail(ticket, GenerationFailed, _ended(child, code))
        else:
            ticket.forget_sketch()
            ticket.lost += 1
            ticket.running = ticket.decoding = False
            self._queue.appendleft(ticket)

    def _on_tick(self, child: Child) -> None:
        """End a process that says nothing for too long, and one that has had nothing to do for too long."""
        with self._lock:
            if child is not self._child:
                return
            now, patience = time.monotonic(), self._patience
            if child.killed_at is not None:
                if now - child.killed_at > patience.kill_limit_s:
                    self._on_exit(child, -9)
            elif self._current is None and self._finishing is None:
                if now - self._idle_since > patience.idle_unload_s:
                    self._child = None
                    child.stop()
            elif now - child.heard_at > (patience.load_limit_s if child.loading else patience.step_limit_s):
                child.hung = True
                child.kill()


def _covers(planned: tuple[int, int, int], clip: Render) -> bool:
    width, height, frames = planned
    return clip.width * clip.height <= width * height and clip.frames <= frames


def _told(message: Failed | LoadFailed) -> tuple[type[GatewayError], Words]:
    text = CANCELLED if message.kind == "cancelled" else Words(en=message.en, ja=message.ja)
    return _error_of(message.kind), text


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
