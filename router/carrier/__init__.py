"""Carries attempts: the part of an engine process that talks to backends."""

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Iterator

from router import store
from router.carrier.attempt import Carried, Grip
from router.carrier.parts import Parts

__all__ = ["Carrier", "Parts", "end"]


async def end(tasks: Collection[asyncio.Task[None]], within_s: float = 10) -> None:
    """Cancel until they are over: a library that swallows one cancellation must not keep a server from stopping."""
    pending = set(tasks)
    until = asyncio.get_running_loop().time() + within_s
    while pending and asyncio.get_running_loop().time() < until:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)


class Carrier:
    """The part of an engine process that talks to backends."""

    def __init__(self, parts: Parts) -> None:
        """One per engine."""
        self._parts = parts
        self._cancels: frozenset[str] = frozenset()
        self._running: dict[tuple[str, int], asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._buying = 0
        self._bought = asyncio.Event()

    def carries(self, job_id: str, n: int) -> bool:
        """Whether this process has the attempt in its hands now."""
        return (job_id, n) in self._running

    def set_cancels(self, wanted: Iterable[str]) -> None:
        """Jobs that somebody wants cancelled; those in our hands look at once."""
        new = frozenset(wanted)
        for (job_id, _), event in self._running.items():
            if job_id in new and job_id not in self._cancels:
                event.set()
        self._cancels = new

    async def nothing_in_doubt(self, timeout_s: float) -> None:
        """Wait until no call that spends is without its answer: then stopping leaves nothing unresolved."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._buying:
                    self._bought.clear()
                    await self._bought.wait()

    async def carry(self, job_id: str, n: int) -> None:
        """Bring the attempt to its end, or return at once when it ended or another process has it."""
        if self.carries(job_id, n):
            return
        self._running[job_id, n] = woken = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            me, dead = self._parts.me, tuple(self._parts.dead())
            attempt = await self._parts.db.write(lambda tx: store.claim(tx, job_id, n, me, dead))
            if attempt is not None:
                grip = Grip(woken, lambda: job_id in self._cancels, self._spending)
                await Carried(self._parts, attempt, grip).go()
        finally:
            del self._running[job_id, n]
            self._tasks.discard(task)

    async def let_go(self) -> None:
        """Stop carrying; every attempt stays where it is for the next engine."""
        await end(self._tasks)

    @contextlib.contextmanager
    def _spending(self) -> Iterator[None]:
        self._buying += 1
        try:
            yield
        finally:
            self._buying -= 1
            self._bought.set()
