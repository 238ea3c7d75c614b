"""All twins in one server, each under `/<provider>`, and the controls under `/_sandbox`."""

import importlib
import pkgutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from api_providers import sandbox
from api_providers.sandbox import _desk, _serving
from api_providers.sandbox._bench import Bench, Charge, Settings
from api_providers.sandbox._faults import FOREVER, Fault, FaultKind
from api_providers.sandbox._journal import Journal, Recorder


class Twin(NamedTuple):
    """One provider's twin: how it starts, what it charges, and its app."""

    defaults: Settings
    charge: Charge
    build: Callable[[Bench], Starlette]


AT_TLS_ROOT = "fal"
_NOT_TWINS = frozenset({"app", "__main__"})


def twins() -> dict[str, Twin]:
    """Every module of this folder that is a twin: it says NAME, DEFAULTS, charge and build."""
    found = {}
    for module in pkgutil.iter_modules(sandbox.__path__):
        if module.name.startswith("_") or module.name in _NOT_TWINS:
            continue
        one: Any = importlib.import_module(f"{sandbox.__name__}.{module.name}")
        found[str(one.NAME)] = Twin(one.DEFAULTS, one.charge, one.build)
    return found


class FaultOrder(BaseModel):
    """Body of `POST /_sandbox/faults`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    provider: str
    kind: str
    times: int = 1
    """How often; -1 until reset."""
    seconds: float = Field(default=1.0, ge=0, le=86_400)
    """Delay of `slow_accept`, Retry-After of `rate_limit`."""


class SettingsOrder(BaseModel):
    """Body of `POST /_sandbox/settings`: what is absent stays as it is, null is the twin's own default."""

    model_config = ConfigDict(extra="forbid")

    provider: str
    render_seconds: float | None = None
    per_minute: int | None = None
    per_day: int | None = None
    concurrency: int | None = None
    price_factor: Decimal | None = None
    delay_before: float | None = None
    delay_after: float | None = None


def create_app(
    clock: Callable[[], float] = time.monotonic, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> FastAPI:
    """The server with fresh twins. `clock` (monotonic seconds) and `now` (aware UTC) are replaced by tests only.

    `app.state.benches` holds the state of each twin by its name.
    """
    all_twins = twins()
    benches = {
        name: Bench(name, defaults=twin.defaults, charge=twin.charge, clock=clock, now=now)
        for name, twin in all_twins.items()
    }
    apps = {name: _Slow(twin.build(benches[name]), benches[name]) for name, twin in all_twins.items()}
    journal = Journal(now)
    app = FastAPI(title="Understudy sandbox", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.benches = benches
    app.add_middleware(
        Recorder, journal=journal, prefixes=("_sandbox", *apps), at_root=(AT_TLS_ROOT, apps[AT_TLS_ROOT])
    )
    app.add_exception_handler(RequestValidationError, _unreadable)
    _add_controls(app, benches, journal)
    for name, twin in apps.items():
        app.mount(f"/{name}", twin)
    return app


class _Slow:
    """A twin behind a network that may be slow: a POST arrives late where the settings say so."""

    def __init__(self, app: ASGIApp, bench: Bench) -> None:
        self.app = app
        self.bench = bench

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            await _desk.linger(self.bench.settings.delay_before)
        await self.app(scope, receive, send)


async def serve(
    host: str,
    port: int,
    *,
    tls_port: int | None = None,
    tls_ca: Path | None = None,
    on_ready: Callable[[str, str | None], None] | None = None,
) -> None:
    """Serve until cancelled, SIGINT or SIGTERM. Port 0 means any free one.

    `tls_port` serves the same twins over TLS for localhost; `tls_ca` is where its CA goes as PEM. `on_ready` gets the
    base URL and the TLS base URL (or None) once both answer. Raises ServerTrouble when a port cannot be had.
    """
    await _serving.serve(create_app(), host, port, tls_port=tls_port, tls_ca=tls_ca, on_ready=on_ready)


def _add_controls(app: FastAPI, benches: dict[str, Bench], journal: Journal) -> None:
    def bench(name: str) -> Bench:
        if name not in benches:
            raise HTTPException(400, f"unknown provider {name!r}; known: {', '.join(sorted(benches))}")
        return benches[name]

    @app.get("/_sandbox/bill")
    async def bill() -> list[dict[str, str | None]]:
        rows = [row for each in benches.values() for row in each.bill()]
        return sorted(rows, key=lambda row: str(row["accepted_at"]))

    @app.get("/_sandbox/requests")
    async def requests() -> list[dict[str, Any]]:
        return list(journal.rows)

    @app.post("/_sandbox/faults")
    async def faults(order: FaultOrder) -> dict[str, str]:
        known = [kind.value for kind in FaultKind]
        if order.kind not in known:
            raise HTTPException(400, f"unknown kind {order.kind!r}; known: {', '.join(known)}")
        if order.times < 1 and order.times != FOREVER:
            raise HTTPException(400, f"times must be at least 1, or {FOREVER} until reset")
        bench(order.provider).faults.add(Fault(FaultKind(order.kind), order.times, order.seconds))
        return {"status": "ok"}

    @app.post("/_sandbox/settings")
    async def settings(order: SettingsOrder) -> dict[str, Any]:
        target = bench(order.provider)
        changes = {name: getattr(order, name) for name in order.model_fields_set - {"provider"}}
        filled = {
            name: getattr(target.defaults, name) if value is None else value
            for name, value in changes.items()
        }
        try:
            target.settings = Settings.model_validate(target.settings.model_dump() | filled)
        except ValueError as error:
            raise HTTPException(400, _first(error)) from None
        return target.settings.model_dump(mode="json")

    _add_ends(app, benches, journal)


def _add_ends(app: FastAPI, benches: dict[str, Bench], journal: Journal) -> None:
    @app.post("/_sandbox/heal")
    async def heal() -> dict[str, str]:
        """The faults end; bill, tasks and settings stay."""
        for each in benches.values():
            each.faults.clear()
        return {"status": "ok"}

    @app.post("/_sandbox/reset")
    async def reset() -> dict[str, str]:
        for each in benches.values():
            each.reset()
        journal.rows.clear()
        return {"status": "ok"}


def _first(error: Exception) -> str:
    """`field: what is wrong` for each finding of a validation error."""
    findings: list[dict[str, Any]] = getattr(error, "errors", list)()
    lines = []
    for one in findings:
        where = ".".join(str(part) for part in one["loc"] if part != "body")
        lines.append(f"{where}: {one['msg']}" if where else f"body: {one['msg']}")
    return "; ".join(lines) or str(error)


async def _unreadable(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": _first(error)}, 400)
