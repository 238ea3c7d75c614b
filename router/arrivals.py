"""What came in during the last hour, thinned out: the jobs that the policy expects to come look like these.

Kept in the planner's memory, so that a pass reads only what is new. A bulk of thousands is sampled by a checksum of the
jobs' ids: evenly, and alike in every process.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from zlib import crc32

from router import store
from router.db import Tx, from_us
from router.policy import Ask, Seen

SPAN = timedelta(hours=1)
PART_S = 600
KEPT = 64
"""Most jobs remembered of each ten minutes."""


class _Part:
    """Ten minutes."""

    def __init__(self) -> None:
        self.one_in = 1
        self.kept: list[Ask] = []

    def add(self, job_id: str, make: Callable[[], Ask]) -> None:
        if not _counts(job_id, self.one_in):
            return
        self.kept.append(make())
        while len(self.kept) > KEPT:
            self.one_in *= 2
            self.kept = [ask for ask in self.kept if _counts(ask.id, self.one_in)]


class Arrivals:
    """The memory of one planner."""

    def __init__(self) -> None:
        """Empty; the first `read` brings it up to date, after a restart too."""
        self._newest = 0
        self._parts: dict[int, _Part] = {}

    def read(self, tx: Tx) -> None:
        """Take in what was created since the last call."""
        for row in store.created(tx, after=self._newest, since=tx.now - SPAN):
            self._newest = row.seq
            at = from_us(row.created_us)
            self.add(row.id, at, partial(_ask, row, at))

    def add(self, job_id: str, at: datetime, make: Callable[[], Ask]) -> None:
        """One job; `make` is only called for one that is kept."""
        number = int(at.timestamp()) // PART_S
        self._parts.setdefault(number, _Part()).add(job_id, make)

    def of(self, now: datetime) -> tuple[Seen, ...]:
        """The last hour; what is older is forgotten."""
        since = now - SPAN
        first = int(since.timestamp()) // PART_S
        for number in [number for number in self._parts if number < first]:
            del self._parts[number]
        return tuple(
            Seen(ask, part.one_in)
            for _, part in sorted(self._parts.items())
            for ask in part.kept
            if ask.created_at is not None and ask.created_at > since
        )


def _ask(row: store.Created, at: datetime) -> Ask:
    return Ask(row.id, row.request, row.seed, row.inputs, created_at=at)


def _counts(job_id: str, one_in: int) -> bool:
    return crc32(job_id.encode()) % one_in == 0
