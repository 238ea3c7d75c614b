"""The backend for our own device: a queue in front of one model process, with progress, cancel and recovery."""

import asyncio
import errno
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from pydantic import JsonValue

from local_models._desk import Desk
from local_models._language import unread
from local_models._planning import Planning
from local_models._render import render_of
from local_models._ticket import Patience, Ticket
from local_models._weights import Weights, WeightsBroken, inspect
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending, about_to_spend
from router.contract.card import ModelCard, ResolvedRequest
from router.contract.errors import (
    BackendError,
    GenerationFailed,
    OperationLost,
    StorageFull,
    Unavailable,
    UnsupportedRequest,
)
from router.contract.words import Words, words

FREE = Decimal(0)
STALE_S = 86400.0
"""What a crashed process left is removed when it is older than this."""
_LIMITS = ("idle_unload_s", "step_limit_s", "load_limit_s", "kill_limit_s")


class Local(Planning):
    """Backend `local`. A job waits here until the model process is free; nothing outlives this process.

    Options: `models` (name -> directory), `installed` (name -> where a pull puts its weights), `device`,
    `idle_unload_s`, `step_limit_s`, `load_limit_s`, `kill_limit_s`, `memory_gb` (the most to take of the card).
    """

    def __init__(self, config: BackendConfig) -> None:
        """Starts nothing and touches no file."""
        self.name = config.name
        self._config = config
        options = config.options
        self._models: Mapping[str, str] = options.get("models") or {}
        self._installed: Mapping[str, str] = options.get("installed") or {}
        self._folder: Path | None = None
        self._making_folder = threading.Lock()
        limits = {name: float(options[name]) for name in _LIMITS if name in options}
        self._desk = Desk(
            str(options.get("device", "auto")), Patience(**limits), memory_gb=options.get("memory_gb")
        )

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
        foreign = unread(request.prompt, request.task, card, self._config.cards.values())
        if foreign is not None:
            # Not the request's fault: a model that reads it may take it, here or elsewhere.
            raise BackendError(foreign, backend=self.name, param="prompt", billed_usd=FREE)
        try:
            directory = self.directory(card)
            await asyncio.to_thread(inspect, directory)
        except WeightsBroken as error:
            raise GenerationFailed(error.message, backend=self.name, billed_usd=FREE) from None
        render = render_of(request, card, self._config.media)
        if (refused := await self._refusal(card, render)) is not None:
            raise refused
        try:
            folder = await asyncio.to_thread(self._scratch)
        except OSError as error:
            raise Unavailable(
                words(
                    f"The folder for temporary files cannot be used: {error.strerror}",
                    f"一時ファイル用のフォルダーを使えません: {error.strerror}",
                ),
                backend=self.name,
            ) from None
        factor = await self._peak_factor(card)
        await about_to_spend()
        ref = uuid.uuid4().hex
        if not self._desk.put(Ticket(ref, card, directory, folder / f"{ref}.mp4", render, factor)):
            raise Unavailable(
                words("The local backend is closed.", "ローカル実行は終了しています。"), backend=self.name
            )
        return Operation(ref=ref)

    async def poll(self, operation: Operation) -> Pending | Completed:
        """Look at the ticket. Raises GenerationFailed, OutOfMemory, Cancelled, or OperationLost after a restart."""
        ticket = self._desk.get(operation.ref)
        if ticket is None:
            raise self._lost()
        if ticket.failure is not None:
            kind, message = ticket.failure
            raise kind(message, backend=self.name, billed_usd=FREE)
        if ticket.details is None:
            waiting = not ticket.running
            return Pending(
                progress=ticket.progress,
                poll_after=0.25 if waiting else 0.1,
                queued=waiting,
                sketch=ticket.sketch if ticket.sketched else None,
            )
        if not ticket.out.exists():
            raise self._lost()
        return Completed((Output(path=ticket.out),), billed_usd=FREE, details=dict(ticket.details))

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
        return self._desk.cancel(operation.ref)

    async def check(self) -> Mapping[str, JsonValue]:
        """For each model `ok`, or what is wrong with its folder."""
        found: dict[str, JsonValue] = {}
        for card in self._config.cards.values():
            problem = await asyncio.to_thread(self.problem, card)
            found[card.id] = "ok" if problem is None else problem.en
        return {"models": found}

    async def aclose(self) -> None:
        """End the model process and remove what was not fetched."""
        await asyncio.to_thread(self._desk.close)
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
        pulled = self._installed.get(name)
        if pulled and Path(pulled).is_dir():
            return Path(pulled)
        of = f" ({local.repository})" if local and local.repository else ""
        raise WeightsBroken(
            words(
                f"The weights of {name}{of} are not here. Fetch them: understudy models pull {name}. Or name a folder "
                f'that has them in [local] models: {name} = "FOLDER".',
                f"{name}{of} の重みがありません。understudy models pull {name} で取得するか、[local] models に "
                f'{name} = "フォルダー" を設定してください。',
            )
        )

    def problem(self, card: ModelCard) -> Words | None:
        """Why this model cannot run here, None when its files are whole. Reads a few kilobytes."""
        try:
            inspect(self.directory(card))
        except WeightsBroken as error:
            return error.message
        return None

    async def inspect(self, card: ModelCard, folder: Path) -> Words | None:
        """What keeps a folder from being loaded as this model; looks at names, headers, lengths and the number of weights."""
        try:
            found = await asyncio.to_thread(inspect, folder)
        except WeightsBroken as error:
            return error.message
        return _other_model(card, found)

    @property
    def child_pid(self) -> int | None:
        """Process id of the model process while there is one."""
        return self._desk.child_pid

    def _scratch(self) -> Path:
        """A folder of this process alone; what crashed ones left a day ago is removed."""
        with self._making_folder:
            if self._folder is None:
                base = self._config.scratch
                base.mkdir(parents=True, exist_ok=True)
                for old in base.glob("run-*"):
                    if time.time() - old.stat().st_mtime > STALE_S:
                        shutil.rmtree(old, ignore_errors=True)
                self._folder = Path(tempfile.mkdtemp(prefix="run-", dir=base))
            self._folder.mkdir(exist_ok=True)
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


_TOLERANCE = 0.25
"""Share by which a folder may differ from its card, whose number is rounded; the nearest two models differ by more."""


def _other_model(card: ModelCard, found: Weights) -> Words | None:
    """A whole folder of something else, told by the size of its transformer."""
    expected = card.local.parameters_b if card.local else None
    parts = [part for name, part in found.parts.items() if name.startswith("transformer")]
    have = sum(part.parameters for part in parts) / 1e9
    # A checkpoint in its makers' form holds the VAE too, a GGUF file is counted in blocks.
    plain = bool(parts) and all(part.form == "diffusers" for part in parts)
    if expected is None or not plain or abs(have - expected) <= _TOLERANCE * expected:
        return None
    return words(
        f"its transformer has {have:.3g} billion parameters, {card.id} has {expected:.3g}: this is another model.",
        f"transformer のパラメーター数は {have:.3g}B ですが、{card.id} は {expected:.3g}B です。別のモデルの重みです。",
    )
