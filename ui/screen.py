"""What each open page shows of the job table, so that only what changed is sent to it."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from router.contract.errors import NotFound
from router.contract.job import Job, Status
from router.gateway import Gateway
from ui import view_jobs
from ui._gradio import gr
from ui.names import Names
from ui.reader import Reader

PAGE = 12
BUSY_S = 2.0
IDLE_S = 10.0
_NAMES_S = 30.0
_SESSIONS = 2000
_LIVE = (Status.QUEUED, Status.SUBMITTING, Status.RUNNING, Status.FETCHING, Status.UNRESOLVED)


@dataclass
class _Session:
    """One open page. Losing it (a restart) only means that everything is sent once more."""

    job: str | None = None
    """The job that was opened by hand; None follows the newest."""
    cursors: list[str] = field(default_factory=list)
    """Where each older page of the history begins; empty on the first page."""
    next_cursor: str | None = None
    sent: dict[str, Any] = field(default_factory=dict)


class Screen:
    """Reads the gateway and renders the panels of one page at a time."""

    def __init__(self, gateway: Gateway) -> None:
        """Nothing is read before the first page asks."""
        self.gateway = gateway
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._names: Names | None = None
        self._names_at = 0.0

    def _session(self, key: str | None) -> _Session:
        session = self._sessions.setdefault(key or "", _Session())
        self._sessions.move_to_end(key or "")
        while len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def forget(self, key: str | None) -> None:
        """The page was closed."""
        self._sessions.pop(key or "", None)

    def open(self, key: str | None, job: str | None) -> None:
        """Show that job; None goes back to following the newest."""
        self._session(key).job = job

    def turn(self, key: str | None, *, older: bool) -> None:
        """One page further back or forth in the history."""
        session = self._session(key)
        if older and session.next_cursor:
            session.cursors.append(session.next_cursor)
        elif not older and session.cursors:
            session.cursors.pop()

    def changed(self, key: str | None, **panels: Any) -> tuple[Any, ...]:
        """Each panel's new value, or `gr.skip()` where the page shows it already."""
        sent = self._session(key).sent
        updates = tuple(gr.skip() if sent.get(name) == value else value for name, value in panels.items())
        sent.update(panels)
        return updates

    async def names(self) -> Names:
        """Titles of models and backends, read again now and then."""
        if self._names is None or time.monotonic() - self._names_at > _NAMES_S:
            models, providers = await asyncio.gather(self.gateway.models(), self.gateway.providers())
            self._names, self._names_at = Names.of(models, providers), time.monotonic()
        return self._names

    async def look(self, reader: Reader, key: str | None) -> tuple[Any, ...]:
        """Jobs, player, details, record, history and the timer of one page, each only if it changed."""
        session = self._session(key)
        while True:
            opened, cursor = session.job, session.cursors[-1] if session.cursors else None
            names, live, (ended, more), sketches = await asyncio.gather(
                self.names(), self._live(), self._ended(cursor), self.gateway.sketches()
            )
            shown, missing = await self._shown(opened, ended if cursor is None else ())
            if (opened, cursor) == (session.job, session.cursors[-1] if session.cursors else None):
                break  # else the reader clicked while we read
        session.next_cursor = ended[-1].id if more else None
        text, now = reader.text, datetime.now(UTC)
        busy = any(not job.status.ended for job in live)
        *panels, pace = self.changed(
            key,
            jobs=view_jobs.jobs(text, live, names, now, sketches),
            player=view_jobs.player(text, shown, missing=missing, sketches=sketches),
            details=view_jobs.details(text, shown, names, pinned=opened is not None),
            record=view_jobs.record(text, shown, names, reader.zone),
            history=view_jobs.history(
                text,
                ended,
                names,
                reader.zone,
                shown=shown.id if shown else None,
                first=cursor is None,
                more=more,
            ),
            pace=BUSY_S if busy else IDLE_S,
        )
        return *panels, gr.Timer(pace) if isinstance(pace, float) else pace

    async def _live(self) -> list[Job]:
        pages = await asyncio.gather(*(self.gateway.list(limit=50, state=state.value) for state in _LIVE))
        # A job may change its state between two reads: once is enough.
        return list({job.id: job for page in pages for job in page.jobs}.values())

    async def _ended(self, after: str | None) -> tuple[list[Job], bool]:
        """One page of jobs that have ended, newest first, and whether there are older ones."""
        ended: list[Job] = []
        while True:
            page = await self.gateway.list(limit=PAGE + 1, after=after)
            ended += [job for job in page.jobs if job.status.ended and not job.deleted]
            if len(ended) > PAGE:
                return ended[:PAGE], True
            if not page.has_more or not page.jobs:
                return ended, False
            after = page.jobs[-1].id

    async def _shown(self, opened: str | None, first_page: Any) -> tuple[Job | None, bool]:
        """The job in the player, whole, and whether the one that was opened does not exist."""
        if opened is not None:
            try:
                return await self.gateway.get(opened), False
            except NotFound:
                return None, True
        newest = next((job.id for job in first_page if job.status in (Status.COMPLETED, Status.FAILED)), None)
        if newest is None:
            page = await self.gateway.list(limit=1, state=Status.COMPLETED.value)
            newest = page.jobs[0].id if page.jobs else None
        return (await self.gateway.get(newest), False) if newest else (None, False)
