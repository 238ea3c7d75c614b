"""The planner's memory of the jobs that wait: a pass reads only those of which something happened since the last.

A waiting job is written once and read by every pass; parsing it anew took longer than planning it.
"""

from collections.abc import Iterable

from router import store
from router.contract.words import Words
from router.db import Tx
from router.store import Waiting


class Waitlist:
    """What one planner knows of the waiting jobs."""

    def __init__(self) -> None:
        """Empty; the first `read` takes in all."""
        self._known: dict[str, Waiting] = {}
        self._seen = 0

    def read(self, tx: Tx, newest: int, most: int) -> list[Waiting]:
        """The waiting jobs, oldest first; `newest` is the number of the newest event in this transaction."""
        ids = store.waiting(tx, most)
        changed = store.touched(tx, self._seen) if self._known else set()
        missing = [job_id for job_id in ids if job_id in changed or job_id not in self._known]
        fresh = {waiting.job.id: waiting for waiting in store.load_waiting(tx, missing)}
        self._known = {job_id: fresh.get(job_id) or self._known[job_id] for job_id in ids}
        self._seen = newest
        return list(self._known.values())

    def told(self, ids: Iterable[str], reason: Words) -> None:
        """What these jobs wait for was written, without an event."""
        for job_id in ids:
            if (known := self._known.get(job_id)) is not None:
                job = known.job.model_copy(update={"reason": reason})
                self._known[job_id] = Waiting(job, known.inputs)
