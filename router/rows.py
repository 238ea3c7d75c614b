"""From rows to the values of the contract, and what is remembered of that.

What a row holds as text is written once and never changed, and read again by every poll and every plan. A decision over
the whole catalogue takes hundreds of times longer to parse than to look up, and some hundred kilobytes to keep.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from router.contract.backend import Operation
from router.contract.card import Asset, InputMedia, ResolvedRequest
from router.contract.job import Attempt, AttemptStatus, Decision, Job, JobError, Status
from router.contract.request import FrameType, VideoRequest
from router.contract.words import Words
from router.db import Tx, from_us
from router.tables import attempts

Inputs = Mapping[FrameType | int, InputMedia]
_WORDS = TypeAdapter(tuple[Words, ...])
_DECISION = sa.select(attempts.c.decision).where(
    attempts.c.job_id == sa.bindparam("id"), attempts.c.n == sa.bindparam("n")
)


class _Decisions:
    """The decisions read last, by attempt: one is written with its attempt and stays as it is."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int], Decision] = OrderedDict()

    def of(self, tx: Tx, job_id: str, n: int, created_at: int) -> Decision:
        """`created_at` tells an attempt from one that was undone and made again."""
        key = (job_id, n, created_at)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        text = tx.conn.execute(_DECISION, {"id": job_id, "n": n}).scalar_one()
        found = Decision.model_validate_json(text)
        self.keep(job_id, n, created_at, found)
        return found

    def keep(self, job_id: str, n: int, created_at: int, decision: Decision) -> None:
        """As it is about to be written: decisions of one pass share their parts, read back each has its own."""
        with self._lock:
            self._kept[job_id, n, created_at] = decision
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)


decisions = _Decisions(128)
"""A page of a list, and some."""


@lru_cache(maxsize=1024)
def _resolved(text: str) -> ResolvedRequest:
    return ResolvedRequest.model_validate_json(text)


@lru_cache(maxsize=1024)
def request_of(text: str) -> VideoRequest:
    """The request that a job's row keeps."""
    return VideoRequest.model_validate_json(text)


@lru_cache(maxsize=1024)
def _said(text: str) -> Words:
    return Words.model_validate_json(text)


def _usd(value: int | None) -> Decimal | None:
    return None if value is None else Decimal(value) / 1_000_000


def _at(value: int | None) -> datetime | None:
    return None if value is None else from_us(value)


def attempt_of(tx: Tx, row: sa.RowMapping) -> Attempt:
    """An attempt from its row without the decision, which is read apart and once."""
    return Attempt(
        job_id=row["job_id"],
        n=row["n"],
        backend=row["backend"],
        model=row["model"],
        status=AttemptStatus(row["status"]),
        resolved=_resolved(row["resolved"]),
        decision=decisions.of(tx, row["job_id"], row["n"], row["created_at"]),
        reason=_said(row["reason"]),
        estimate_usd=_usd(row["estimate"]),
        reserved_usd=_usd(row["reserved"]) or Decimal(0),
        billed_usd=_usd(row["billed"]),
        bill_basis=row["bill_basis"],
        operation=Operation.model_validate_json(row["operation"]) if row["operation"] else None,
        error=JobError.model_validate_json(row["error"]) if row["error"] else None,
        progress=row["progress"],
        created_at=from_us(row["created_at"]),
        sent_at=_at(row["sent_at"]),
        accepted_at=_at(row["accepted_at"]),
        ended_at=_at(row["ended_at"]),
    )


def job_of(row: sa.RowMapping | Mapping[str, Any], tries: Sequence[Attempt]) -> Job:
    """A job from its row and its attempts."""
    return Job(
        id=row["id"],
        status=Status(row["status"]),
        request=request_of(row["request"]),
        seed=row["seed"],
        api_key=row["api_key"],
        progress=row["progress"],
        model=row["model"],
        backend=row["backend"],
        reason=_said(row["reason"]) if row["reason"] else None,
        estimate_usd=_usd(row["estimate"]),
        reserved_usd=sum((a.reserved_usd for a in tries if a.billed_usd is None), Decimal(0)),
        billed_usd=sum((a.billed_usd for a in tries if a.billed_usd is not None), Decimal(0)),
        error=JobError.model_validate_json(row["error"]) if row["error"] else None,
        warnings=_WORDS.validate_json(row["warnings"]),
        output=Asset.model_validate_json(row["output"]) if row["output"] else None,
        poster=Asset.model_validate_json(row["poster"]) if row["poster"] else None,
        details=json.loads(row["details"]),
        cancel_requested=row["cancel_requested"],
        in_progress_once=row["in_progress_once"],
        attempts=tuple(tries),
        created_at=from_us(row["created_at"]),
        started_at=_at(row["started_at"]),
        ended_at=_at(row["ended_at"]),
        deleted=row["deleted"],
    )


def dump_inputs(inputs: Inputs) -> str:
    """A job's media as its row keeps them."""
    return json.dumps({str(key): media.model_dump(mode="json") for key, media in inputs.items()})


def load_inputs(text: str) -> Inputs:
    """The media of `dump_inputs`."""
    return {
        int(key) if key.isdigit() else FrameType(key): InputMedia.model_validate(value)
        for key, value in json.loads(text).items()
    }
