"""What every command needs: settings, the gateway, and one place that prints."""

import asyncio
import json
import logging
import os
import secrets
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from router.contract.errors import BudgetExceeded, Conflict, Forbidden, GatewayError, InvalidRequest, NotFound
from router.contract.words import Lang, Words, words
from router.currency import Display
from router.settings import Settings

if TYPE_CHECKING:
    from router.gateway import EngineRole, Gateway

T = TypeVar("T")
OpenGateway = Callable[[Settings, "EngineRole"], AbstractAsyncContextManager["Gateway"]]

_PIPED_WIDTH = 160
"""Columns of a table that goes to a file or a pipe, where nobody knows the reader's width."""

FAILED, BAD_REQUEST, OVER_BUDGET, UNRESOLVED, INTERRUPTED = 1, 2, 3, 4, 130


def _open_gateway(settings: Settings, role: "EngineRole") -> AbstractAsyncContextManager["Gateway"]:
    from router.gateway import Gateway

    return Gateway.open(settings, role)


@dataclass
class Door:
    """One run of the command line: its surroundings come in, so that a test can bring its own."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    open_gateway: OpenGateway = _open_gateway
    lang: Lang = "en"
    json: bool = False
    printed: bool = False
    """Whether the one JSON value is out already."""

    @property
    def out(self) -> Console:
        """Results. Made per use, so that a redirected stdout is honoured."""
        return Console(file=sys.stdout, soft_wrap=True, highlight=False)

    @property
    def err(self) -> Console:
        """Progress, hints, errors."""
        return Console(file=sys.stderr, soft_wrap=True, highlight=False)

    @cached_property
    def display(self) -> Display:
        """The currency in which people here think."""
        return self.settings().budget.display

    def amount(self, value: Decimal | None) -> str:
        """`$0.25`, with yen beside it where the settings ask for them; `?` where the amount is not known."""
        return self.display.amount(value)

    @property
    def debug(self) -> bool:
        """Whether tracebacks are wanted."""
        return bool(self.environ.get("UNDERSTUDY_DEBUG"))

    def say(self, message: Words) -> None:
        """One line for a person, on stdout; silent with `--json`."""
        if not self.json:
            self.out.print(escape(message.in_(self.lang)))

    def note(self, message: Words, style: str = "dim") -> None:
        """One line beside the result, on stderr."""
        self.err.print(escape(message.in_(self.lang)), style=style)

    def value(self, value: Any) -> None:
        """The one JSON value of `--json`."""
        self.printed = True
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        sys.stdout.flush()

    def table(self, headings: Iterable[Words], rows: Iterable[Iterable[str]]) -> None:
        """Columns on stdout; numbers and texts alike as they come."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for n, heading in enumerate(headings):
            table.add_column(escape(heading.in_(self.lang)), overflow="fold", no_wrap=n == 0)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        console = Console(file=sys.stdout, highlight=False)
        if not console.is_terminal and "COLUMNS" not in self.environ:
            console.width = _PIPED_WIDTH
        console.print(table)

    def settings(self, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
        """File, environment and options together; raises ServerTrouble."""
        return Settings.load(self.environ, overrides)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end; SIGTERM is taken like Ctrl-C, so that a clean leave is the rule."""

        async def guarded() -> T:
            task = asyncio.current_task()
            if task is not None:
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
            return await work

        try:
            # Half the processor time of a create is the loop's own in asyncio's.
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(guarded())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    def ask(self, work: Callable[["Gateway"], Coroutine[Any, Any, T]]) -> T:
        """Open the gateway without an engine, do one thing, close it."""
        from router.gateway import EngineRole

        settings = self.settings()

        async def one() -> T:
            async with self.open_gateway(settings, EngineRole.NONE) as gateway:
                return await work(gateway)

        return self.run(one())

    def stop(self, code: int) -> NoReturn:
        """Leave with this exit code."""
        raise typer.Exit(code)

    def error(self, message: Words, code: str, **more: Any) -> None:
        """One clear line on stderr, and the JSON value if one is wanted and none is out."""
        label = "エラー" if self.lang == "ja" else "error"
        self.err.print(f"[bold red]{label}:[/] {escape(' '.join(message.in_(self.lang).split()))}")
        if self.json and not self.printed:
            self.value({"error": {"code": code, "message": message.in_(self.lang), **more}})

    def refused(self, error: GatewayError) -> int:
        """Say an error that was raised on purpose; its exit code."""
        more: dict[str, Any] = {"param": error.param, "backend": error.backend}
        if error.retry_after is not None:
            more["retry_after"] = error.retry_after
        if misfits := getattr(error, "misfits", ()):
            more["misfits"] = [{"field": m.field, "reason": m.reason.in_(self.lang)} for m in misfits]
        front = f"{error.backend}: " if error.backend else ""
        text = Words(en=front + error.message.en, ja=front + error.message.ja)
        self.error(text, error.code, **more)
        if self.debug:
            traceback.print_exception(error)
        return exit_code(error)

    def unexpected(self, error: BaseException) -> int:
        """Say that this is our fault, with an id; the traceback only on request."""
        error_id = secrets.token_hex(4)
        name = type(error).__name__
        self.error(
            words(
                f"Something unexpected went wrong in Understudy itself ({name}, error id {error_id}). "
                "UNDERSTUDY_DEBUG=1 shows the traceback.",
                f"Understudy 内部で予期しない問題が発生しました({name}、エラー ID {error_id})。"
                "UNDERSTUDY_DEBUG=1 を付けるとトレースバックを表示します。",
            ),
            "internal_error",
            error_id=error_id,
        )
        if self.debug:
            traceback.print_exception(error)
        return FAILED


def exit_code(error: GatewayError) -> int:
    """2: the caller must change something; 3: a cap; 1: everything else."""
    if isinstance(error, BudgetExceeded):
        return OVER_BUDGET
    if isinstance(error, (InvalidRequest, NotFound, Conflict, Forbidden)):
        return BAD_REQUEST
    return FAILED


def door_of(context: typer.Context) -> Door:
    """The Door that `main` put into the context."""
    door = context.obj
    assert isinstance(door, Door)
    return door


def set_up_logging(environ: Mapping[str, str], *, quiet: bool) -> None:
    """Logs go to stderr: warnings beside a single command, a running server's life with times."""
    level = logging.DEBUG if environ.get("UNDERSTUDY_DEBUG") else logging.WARNING if quiet else logging.INFO
    form = (
        "%(levelname)s %(name)s: %(message)s" if quiet else "%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.basicConfig(level=level, format=form, stream=sys.stderr, force=True)
    if level == logging.INFO:
        # Their lives are not ours: plugin set-up, process numbers.
        for name in ("alembic", "uvicorn"):
            logging.getLogger(name).setLevel(logging.WARNING)
