"""A backend whose outcomes a test writes beforehand; it is loaded by the catalogue like any other backend."""

import asyncio
import shutil
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from router.contract.backend import (
    BackendConfig,
    Completed,
    Operation,
    Output,
    Pending,
    about_to_spend,
)
from router.contract.card import ResolvedRequest
from router.contract.errors import Cancelled, GatewayError, OperationLost, OutcomeUnknown
from router.contract.words import Words, same

LOOK_S = 0.03


@dataclass(frozen=True)
class Accept:
    """The task is accepted and the answer arrives."""

    warnings: tuple[Words, ...] = ()


@dataclass(frozen=True)
class Refuse:
    """Nothing is accepted; `sent` says whether the call that spends had begun."""

    error: Exception
    sent: bool = True


@dataclass(frozen=True)
class Lose:
    """The task is accepted and the answer never arrives."""

    error: Exception = field(default_factory=lambda: OutcomeUnknown(same("the connection broke")))


@dataclass(frozen=True)
class Done:
    """A look that finds the clip; `billed` is what the provider says, None where it does not say."""

    billed: Decimal | None = None
    outputs: int = 1


Submit = Accept | Refuse | Lose
Look = Pending | Done | GatewayError


@dataclass
class Task:
    """Something the provider accepted."""

    ref: str
    key: str
    request: ResolvedRequest
    looks: deque[Look]
    billed: Decimal | None = None
    cancelled: bool = False
    polled: int = 0

    def then(self, *looks: Look) -> None:
        """What the next looks find; the last one stays."""
        self.looks = deque(looks)


@dataclass
class Studio:
    """The provider's side of one backend; it outlives every gateway that talks to it."""

    submits: deque[Submit] = field(default_factory=deque)
    looks: tuple[Look, ...] = (Done(),)
    """What the looks at a new task find, one after another; the last one stays."""
    fetches: deque[Exception | Path] = field(default_factory=deque)
    """What the next downloads give; after that the clip."""
    cancels: deque[bool | GatewayError] = field(default_factory=deque)
    """Answers to the next cancels; after that it agrees."""
    tasks: list[Task] = field(default_factory=list)
    posts: int = 0
    """Calls that spend which reached the provider, accepted or not."""
    cancel_calls: int = 0
    before_send: asyncio.Event | None = None
    """Where set, a submit waits for it before it commits to spending."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a submit has begun."""

    @property
    def bill(self) -> Decimal:
        """What this provider charged altogether."""
        return sum((t.billed for t in self.tasks if t.billed is not None), Decimal(0))


studios: dict[str, Studio] = {}
"""By backend name."""
clips: list[Path] = []
"""The file that downloads give, made once by a fixture."""


def studio(name: str) -> Studio:
    """The provider of that name, made at the first use."""
    return studios.setdefault(name, Studio())


class ScriptedBackend:
    """Implements the Backend protocol over a `Studio`."""

    def __init__(self, config: BackendConfig) -> None:
        """`config.name` finds the studio."""
        self.name = config.name
        self.studio = studio(config.name)
        self._once = bool(config.options.get("repeats_are_safe"))

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """As the next entry of `submits` says; accepted when there is none."""
        here = self.studio
        here.reached.set()
        if here.before_send is not None:
            await here.before_send.wait()
        step = here.submits.popleft() if here.submits else Accept()
        if isinstance(step, Refuse):
            if step.sent:
                await about_to_spend()
                here.posts += 1
            raise step.error
        await about_to_spend()
        here.posts += 1
        task = next((t for t in here.tasks if self._once and t.key == key), None)
        if task is None:
            task = Task(f"{self.name}-{len(here.tasks) + 1}", key, request, deque(here.looks))
            here.tasks.append(task)
        if isinstance(step, Lose):
            raise step.error
        return Operation(ref=task.ref, warnings=step.warnings)

    async def poll(self, operation: Operation) -> Pending | Completed:
        """The task's next look."""
        task = self._task(operation)
        task.polled += 1
        if task.cancelled:
            raise Cancelled(same("cancelled there"), backend=self.name, billed_usd=task.billed)
        look = task.looks.popleft() if len(task.looks) > 1 else task.looks[0]
        if isinstance(look, Pending):
            return replace(look, poll_after=LOOK_S if look.poll_after is None else look.poll_after)
        if isinstance(look, GatewayError):
            task.billed = look.billed_usd
            raise look
        task.billed = look.billed
        return Completed(tuple(Output(path=clips[0]) for _ in range(look.outputs)), billed_usd=look.billed)

    async def fetch(self, output: Output, to: Path) -> None:
        """The next entry of `fetches`, then the clip."""
        given: Exception | Path | None = self.studio.fetches.popleft() if self.studio.fetches else output.path
        if isinstance(given, Exception):
            raise given
        assert given is not None
        await asyncio.to_thread(shutil.copyfile, given, to)

    async def cancel(self, operation: Operation) -> bool:
        """As the next entry of `cancels` says; agreed when there is none."""
        self.studio.cancel_calls += 1
        answer = self.studio.cancels.popleft() if self.studio.cancels else True
        if isinstance(answer, GatewayError):
            raise answer
        if answer:
            self._task(operation).cancelled = True
        return answer

    async def aclose(self) -> None:
        """Nothing is open."""

    def _task(self, operation: Operation) -> Task:
        with suppress(StopIteration):
            return next(t for t in self.studio.tasks if t.ref == operation.ref)
        raise OperationLost(same("no such task"), backend=self.name)


class FindingBackend(ScriptedBackend):
    """One that lists what it accepted."""

    async def find(self, request: ResolvedRequest, *, key: str, since: datetime) -> Operation | None:
        """By our own attempt id."""
        task = next((t for t in self.studio.tasks if t.key == key), None)
        return Operation(ref=task.ref) if task else None


class BrokenBackend(ScriptedBackend):
    """One whose constructor has a bug."""

    def __init__(self, config: BackendConfig) -> None:
        """Fails, and not with an error of ours."""
        raise KeyError("setting")


def write_provider(
    home: Path,
    name: str,
    *,
    usd: str | None = "0.10",
    family: str = "scene",
    entry: str = "ScriptedBackend",
    where: str = "cloud",
    lost_submit: str = "hold",
    failure_billed: str = "maybe",
    demo: bool = False,
    once: bool = False,
    limits: str = "",
    longest_s: float | None = None,
    typical_s: int = 2,
) -> str:
    """A provider with one model, `<name>/clip`, in the user's folder; returns the model's id. Clips are 5 s long."""
    rows: list[str] = [
        "[provider]",
        f'name = "{name}"',
        f'entry = "tests.fakes:{entry}"',
        "keyless = true",
        f'where = "{where}"',
        f"options = {{ repeats_are_safe = {str(once).lower()} }}",
        "[[model]]",
        f'id = "{name}/clip"',
        'wire_id = "clip"',
        f'family = "{family}"',
        'tasks = ["text-to-video"]',
        "durations = [5]",
        f"demo = {str(demo).lower()}",
        f'lost_submit = "{lost_submit}"',
        f'failure_billed = "{failure_billed}"',
        'cancel = "running"',
        f"typical_seconds = {typical_s}",
        *([f"longest_seconds = {longest_s}"] if longest_s is not None else []),
        f"limits = {{ {limits} }}",
        "as_of = 2026-11-21",
        'source = "tests"',
    ]
    if usd is not None:
        rows += ["[[model.prices]]", f'usd = "{usd}"', 'per = "second"', "as_of = 2026-11-21"]
        rows += ['source = "tests"']
    folder = home / "providers"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.toml").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return f"{name}/clip"


def accepted(names: Iterable[str]) -> int:
    """How many tasks these providers accepted altogether."""
    return sum(len(studio(name).tasks) for name in names)
