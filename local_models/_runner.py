"""The backend for our own device: a queue in front of one model process, with progress, cancel and recovery."""

import asyncio
import errno
import logging
import shutil
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
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
from local_models._render import largest, render_of
from local_models._weights import WeightsBroken, inspect
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending, about_to_spend
from router.contract.card import ModelCard, ResolvedRequest
from router.contract.errors import (
    Cancelled,
    GatewayError,
    GenerationFailed,
    OperationLost,
    OutOfMemory,
    StorageFull,
    Unavailable,
    UnsupportedRequest,
)
from router.contract.words import Words, words

log = logging.getLogger(__name__)

FREE = Decimal(0)
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
class _Ticket:
    """One accepted job."""

    ref: str
    card: ModelCard
    directory: Path
    out: Path
    render: Render
    progress: float = 0.0
    running: bool = False
    cancelled: bool = False
    details: dict[str, JsonValue] | None = None
    """Set when the clip lies at `out`."""
    failure: tuple[type[GatewayError], Words] | None = None

    @property
    def ended(self) -> bool:
        return self.details is not None or self.failure is not None


@dataclass
class _Desk:
    """What the caller's threads and the child's threads share; touched only under the lock."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    tickets: dict[str, _Ticket] = field(default_factory=dict)
    queue: deque[_Ticket] = field(default_factory=deque)
    current: _Ticket | None = None
    child: Child | None = None
    passed: int = 0
    idle_since: float = 0.0
    closed: bool = False


class Local:
    """Backend `local`. A job waits here until the model process is free; nothing outlives this process.

    Options: `models` (name -> directory), `device`, `idle_unload_s`, `step_limit_s`, `load_limit_s`.
    """

    def __init__(self, config: BackendConfig) -> None:
        """Starts nothing and touches no file."""
        self.name = config.name
        self._config = config
        options = config.options
        self._models: Mapping[str, str] = options.get("models") or {}
        self._device = str(options.get("device", "auto"))
        self._idle_unload_s = float(options.get("idle_unload_s", IDLE_UNLOAD_S))
        self._step_limit_s = float(options.get("step_limit_s", STEP_LIMIT_S))
        self._load_limit_s = float(options.get("load_limit_s", LOAD_LIMIT_S))
        self._folder: Path | None = None
        self._desk = _Desk()

    # -- the protocol

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Queue it. Raises GenerationFailed when the model's weights are missing or damaged."""
        card = self._config.cards.get(request.model)
        if card is None or card.local is None:
            raise UnsupportedRequest(
                words(
                    f"There is no local model {request.model!r}.",
                    f"ローカルモデル {request.model!r} はありません。",
                ),
                param="model",
            )
        try:
            directory = self.directory(card)
            await asyncio.to_thread(inspect, directory)
        except WeightsBroken as error:
            raise GenerationFailed(error.message, backend=self.name, billed_usd=FREE) from None
        render = render_of(request, card, self._config.media)
        folder = await asyncio.to_thread(self._scratch)
        await about_to_spend()
        ref = uuid.uuid4().hex
        ticket = _Ticket(ref, card, directory, folder / f"{ref}.mp4", render)
        with self._desk.lock:
            if self._desk.closed:
                raise Unavailable(
                    words("The local backend is closed.", "ローカル実行は終了しています。"), backend=self.name
                )
            self._forget_old()
            self._desk.tickets[ref] = ticket
            self._desk.queue.append(ticket)
            self._advance()
        return Operation(ref=ref)

    async def poll(self, operation: Operation) -> Pending | Completed:
        """Look at the ticket. Raises GenerationFailed, OutOfMemory, Cancelled, or OperationLost after a restart."""
        with self._desk.lock:
            ticket = self._desk.tickets.get(operation.ref)
            if ticket is None:
                raise self._lost()
            if ticket.failure is not None:
                kind, message = ticket.failure
                raise kind(message, backend=self.name, billed_usd=FREE)
            if ticket.details is None:
                waiting = not ticket.running
                return Pending(progress=ticket.progress, poll_after=0.25 if waiting else 0.1, queued=waiting)
            details = dict(ticket.details)
        if not ticket.out.exists():
            raise self._lost()
        return Completed((Output(path=ticket.out),), billed_usd=FREE, details=details)

    async def fetch(self, output: Output, to: Path) -> None:
        """Move the clip to `to`."""
        if output.path is None:
            raise self._lost()
        try:
            await asyncio.to_thread(shutil.move, output.path, to)
        except FileNotFoundError:
            raise self._lost() from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(
                    words(
                        "The disk is full; the clip waits.",
                        "ディスクの空き容量がありません。動画は保留されています。",
                    ),
                    backend=self.name,
                ) from None
            raise Unavailable(
                words(
                    f"The clip could not be stored: {error.strerror}",
                    f"動画を保存できません: {error.strerror}",
                ),
                backend=self.name,
            ) from None

    async def cancel(self, operation: Operation) -> bool:
        """Drop it from the queue, or stop it within a step; `poll` then raises Cancelled."""
        desk = self._desk
        with desk.lock:
            ticket = desk.tickets.get(operation.ref)
            if ticket is None or ticket.ended:
                return False
            ticket.cancelled = True
            if (
                ticket is desk.current
                and ticket.running
                and desk.child is not None
                and desk.child.loading is None
            ):
                desk.child.send(Cancel(ticket.ref))
                return True
            # Not begun: nothing needs to be asked. A model that is being loaded for it stays loaded.
            self._fail(ticket, Cancelled, _CANCELLED)
            if ticket in desk.queue:
                desk.queue.remove(ticket)
            return True

    async def check(self) -> Mapping[str, JsonValue]:
        """For each model `ok`, or what is wrong with its folder."""
        found: dict[str, JsonValue] = {}
        for card in self._config.cards.values():
            problem = await asyncio.to_thread(self.problem, card)
            found[card.id] = "ok" if problem is None else problem.en
        return {"models": found}

    async def aclose(self) -> None:
        """End the model process and remove what was not fetched."""
        with self._desk.lock:
            self._desk.closed = True
            child, self._desk.child = self._desk.child, None
            self._desk.queue.clear()
        if child is not None:
            child.stop()
            if not await asyncio.to_thread(child.join, 5.0):
                child.kill()
                await asyncio.to_thread(child.join, 5.0)
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, True)

    # -- models

    def directory(self, card: ModelCard) -> Path:
        """Where the card's weights lie. Raises WeightsBroken when nobody has said so."""
        local = card.local
        name = card.id.partition("/")[2]
        chosen = self._models.get(name)
        if chosen:
            return Path(chosen).expanduser()
        if local is not None and local.path:
            return Path(__file__).parent / local.path
        raise WeightsBroken(
            words(
                f"The weights of {name} are not set up. Download {local.repository if local else ''} and name "
                f'its folder in [local] models: {name} = "FOLDER".',
                f"{name} の重みが設定されていません。{local.repository if local else ''} をダウンロードし、"
                f'[local] models に {name} = "フォルダー" を設定してください。',
            )
        )

    def problem(self, card: ModelCard) -> Words | None:
        """Why this model cannot run here, None when its files are whole. Reads a few kilobytes."""
        try:
            inspect(self.directory(card))
        except WeightsBroken as error:
            return error.message
        return None

    @property
    def child_pid(self) -> int | None:
        """Process id of the model process while there is one."""
        child = self._desk.child
        return child.pid if child else None

    # -- under the lock

    def _advance(self) -> None:
        """Give the child the next job, or have it load the model for it."""
        desk = self._desk
        if desk.closed or desk.current is not None:
            return
        if not desk.queue:
            desk.idle_since = time.monotonic()
            return
        if desk.child is None:
            desk.child = Child(
                self._scratch() / "worker.log",
                on_message=self._on_message,
                on_exit=self._on_exit,
                on_tick=self._on_tick,
            )
        ticket = desk.current = self._take(desk.child.loaded)
        ticket.running = True
        if desk.child.loaded == ticket.card.id:
            self._run(desk.child, ticket)
        else:
            self._load(desk.child, ticket)

    def _take(self, loaded: str | None) -> _Ticket:
        """The oldest job, or up to SAME_MODEL_RUN times the oldest one of the loaded model."""
        queue = self._desk.queue
        same = next((ticket for ticket in queue if ticket.card.id == loaded), None)
        if same is None or same is queue[0] or self._desk.passed >= SAME_MODEL_RUN:
            self._desk.passed = 0
            return queue.popleft()
        self._desk.passed += 1
        queue.remove(same)
        return same

    def _load(self, child: Child, ticket: _Ticket) -> None:
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
            )
        )

    def _run(self, child: Child, ticket: _Ticket) -> None:
        assert ticket.card.local is not None
        self._progress(ticket, 0.05)
        child.send(
            Run(ticket.ref, str(ticket.out), ticket.render, ticket.card.id, ticket.card.local.revision)
        )

    def _end(self) -> None:
        """The current job is over: on to the next."""
        self._desk.current = None
        self._advance()

    def _fail(self, ticket: _Ticket, kind: type[GatewayError], message: Words) -> None:
        if not ticket.ended:
            ticket.failure = (kind, message)

    @staticmethod
    def _progress(ticket: _Ticket, value: float) -> None:
        ticket.progress = max(ticket.progress, min(1.0, value))

    def _forget_old(self) -> None:
        """Ended tickets are kept for later looks, the newest KEPT_TICKETS of them."""
        ended = [ref for ref, ticket in self._desk.tickets.items() if ticket.ended]
        for ref in ended[: max(0, len(ended) - KEPT_TICKETS)]:
            self._desk.tickets.pop(ref).out.unlink(missing_ok=True)

    # -- from the child's threads

    def _on_message(self, child: Child, message: Message) -> None:
        desk = self._desk
        with desk.lock:
            if child is not desk.child:
                return
            ticket = desk.current
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
        desk = self._desk
        with desk.lock:
            if child is not desk.child:
                return
            desk.child = None
            log.warning("the model process ended with code %s", code)
            if desk.current is not None:
                if desk.current.cancelled:
                    self._fail(desk.current, Cancelled, _CANCELLED)
                else:
                    self._fail(desk.current, GenerationFailed, _ended(child, code))
            self._end()

    def _on_tick(self, child: Child) -> None:
        """End a process that says nothing for too long, and one that has had nothing to do for too long."""
        desk = self._desk
        with desk.lock:
            if child is not desk.child:
                return
            now = time.monotonic()
            if desk.current is None:
                if now - desk.idle_since > self._idle_unload_s:
                    desk.child = None
                    child.stop()
                return
            if now - child.heard_at > (self._load_limit_s if child.loading else self._step_limit_s):
                child.hung = True
                child.kill()

    def _scratch(self) -> Path:
        """A folder of this process alone; what crashed ones left a day ago is removed."""
        with self._desk.lock:
            if self._folder is None:
                base = self._config.scratch
                base.mkdir(parents=True, exist_ok=True)
                for old in base.glob("run-*"):
                    if time.time() - old.stat().st_mtime > 86400:
                        shutil.rmtree(old, ignore_errors=True)
                self._folder = Path(tempfile.mkdtemp(prefix="run-", dir=base))
            return self._folder

    def _lost(self) -> OperationLost:
        return OperationLost(
            words(
                "This job is no longer known to the local backend (restarted in between).",
                "ローカル実行が再起動されたため、このジョブは失われました。",
            ),
            backend=self.name,
            billed_usd=FREE,
        )


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
