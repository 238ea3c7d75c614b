"""Jobs, attempts and events in our database. Every change of state is one update guarded by the old state."""

import hashlib
import json
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from pydantic import JsonValue

from router.contract.card import ResolvedRequest
from router.contract.errors import Conflict
from router.contract.job import (
    ATTEMPT_TRANSITIONS,
    TRANSITIONS,
    Attempt,
    AttemptStatus,
    Decision,
    Event,
    Job,
    Status,
)
from router.contract.request import VideoRequest
from router.contract.words import Words, words
from router.db import Tx, from_us, to_us
from router.rows import Inputs, attempt_of, decisions, dump_inputs, job_of, load_inputs, request_of
from router.tables import attempts, events, jobs

OPEN_JOBS = tuple(s.value for s in Status if not s.ended)
OPEN_ATTEMPTS = tuple(s.value for s in AttemptStatus if not s.ended)
_FOLLOWS = {
    AttemptStatus.SUBMITTING: Status.SUBMITTING,
    AttemptStatus.SENDING: Status.SUBMITTING,
    AttemptStatus.RUNNING: Status.RUNNING,
    AttemptStatus.FETCHING: Status.FETCHING,
}

LATELY_US = 86_400_000_000
"""An attempt accepted longer ago says nothing about what our own device does now."""
MOST_CREATED = 5000
"""Most jobs that `created` looks at."""

Flying = tuple[str, str, str, int]

# Built once: making a statement takes longer than running it.
_NEW_JOB = sa.insert(jobs).inline()
_NEW_EVENT = sa.insert(events).inline()
_NEW_ROW: Mapping[str, Any] = {column.name: None for column in jobs.c} | {
    "progress": 0.0,
    "warnings": "[]",
    "details": "{}",
    "cancel_requested": False,
    "in_progress_once": False,
    "deleted": False,
}
"""What the table itself puts into a new row."""
_BY_KEY = sa.select(jobs.c.id, jobs.c.fingerprint).where(jobs.c.idempotency_key == sa.bindparam("key"))
_JOB = sa.select(jobs).where(jobs.c.id == sa.bindparam("id"))
_JOBS = sa.select(jobs).where(jobs.c.id.in_(sa.bindparam("ids", expanding=True)))
_READ = [column for column in attempts.c if column is not attempts.c.decision]
"""A decision over the whole catalogue is some 100 kilobytes of text, read apart and once."""
_ATTEMPTS = (
    sa.select(*_READ)
    .where(attempts.c.job_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(attempts.c.job_id, attempts.c.n)
)
_ATTEMPTS_OF_ONE = sa.select(*_READ).where(attempts.c.job_id == sa.bindparam("id")).order_by(attempts.c.n)


def _words_of(values: Iterable[str]) -> list[sa.ColumnElement[str]]:
    """Constants as a part of the statement; bound, such a list would be spelt out anew at every run."""
    return [sa.literal_column(f"'{value}'", sa.String) for value in values]


_WAITING = (
    sa.select(jobs.c.id)
    .where(jobs.c.status == sa.literal_column(f"'{Status.QUEUED}'", sa.String))
    .order_by(jobs.c.seq)
    .limit(sa.bindparam("most"))
)
_INPUTS = sa.select(jobs.c.id, jobs.c.inputs).where(jobs.c.id.in_(sa.bindparam("ids", expanding=True)))
_TOUCHED = sa.select(events.c.job_id).where(events.c.seq > sa.bindparam("after")).distinct()
_CREATED = (
    sa.select(jobs.c.seq, jobs.c.id, jobs.c.created_at, jobs.c.request, jobs.c.inputs, jobs.c.seed)
    .where(jobs.c.seq > sa.bindparam("after"), jobs.c.created_at > sa.bindparam("since"))
    .order_by(jobs.c.seq)
)
_NEWEST_JOB = sa.select(sa.func.coalesce(sa.func.max(jobs.c.seq), 0))
_CANCEL_WANTED = sa.union(
    sa.select(jobs.c.id).where(jobs.c.cancel_requested.is_(True), jobs.c.status.in_(_words_of(OPEN_JOBS))),
    # A copy whose job has its clip is not needed any more.
    sa.select(attempts.c.job_id)
    .join(jobs, jobs.c.id == attempts.c.job_id)
    .where(attempts.c.status.in_(_words_of(OPEN_ATTEMPTS)), jobs.c.status.not_in(_words_of(OPEN_JOBS))),
)
_RUNNING = (
    sa.select(jobs.c.id)
    .where(
        jobs.c.status == sa.literal_column(f"'{Status.RUNNING}'", sa.String),
        jobs.c.deadline.is_not(None),
        jobs.c.cancel_requested.is_(False),
        # Few jobs say so; the others need not be read. In a prompt the quotes would be escaped.
        jobs.c.request.contains('"allow_duplicate_spend":true'),
    )
    .order_by(jobs.c.seq)
)
_BESIDE = sa.select(attempts.c.status).where(
    attempts.c.job_id == sa.bindparam("job"),
    attempts.c.n != sa.bindparam("own"),
    attempts.c.status.in_(_words_of(OPEN_ATTEMPTS)),
)
_NEWEST_EVENT = sa.select(sa.func.coalesce(sa.func.max(events.c.seq), 0))
_IN_FLIGHT = sa.select(attempts.c.model, attempts.c.backend, attempts.c.status, attempts.c.created_at).where(
    attempts.c.status.in_(_words_of([*OPEN_ATTEMPTS, AttemptStatus.UNRESOLVED]))
)
_LATEST_OF = (
    sa.select(
        attempts.c.model,
        attempts.c.ended_at,
        sa.func.max(sa.case((attempts.c.status != AttemptStatus.CANCELLED, attempts.c.ended_at)))
        .over()
        .label("last_end"),
    )
    .where(
        attempts.c.accepted_at > sa.bindparam("since"),
        attempts.c.model.in_(sa.bindparam("models", expanding=True)),
    )
    .order_by(attempts.c.accepted_at.desc())
    .limit(1)
)
_EXPLAIN = (
    sa.update(jobs)
    .where(jobs.c.id.in_(sa.bindparam("jobs", expanding=True)), jobs.c.status == Status.QUEUED)
    .values(reason=sa.bindparam("text"))
)


@dataclass(frozen=True)
class Waiting:
    """A job that waits for the planner, with what the policy needs of its past."""

    job: Job
    inputs: Inputs


def new_job_id(now: datetime) -> str:
    """`vid_` + milliseconds + 48 random bits: sorts by age, cannot be guessed."""
    return f"vid_{to_us(now) // 1000:011x}{secrets.token_hex(6)}"


def fingerprint(request: VideoRequest) -> str:
    """What must be equal when an idempotency key is used again. A relative deadline moves, so it does not count."""
    body = request.model_dump(mode="json", exclude={"preferences": {"deadline"}})
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def create(
    tx: Tx,
    request: VideoRequest,
    inputs: Inputs,
    *,
    seed: int,
    idempotency_key: str | None,
    print_: str,
    api_key: str | None = None,
) -> tuple[Job, bool]:
    """Write the job; it and True, or the earlier job of the same key and False. Raises Conflict."""
    if idempotency_key is not None and (found := by_key(tx, idempotency_key, print_)) is not None:
        return found, False
    job_id = new_job_id(tx.now)
    deadline = request.preferences.deadline
    row = {
        "id": job_id,
        "status": Status.QUEUED.value,
        "request": request.model_dump_json(exclude_defaults=True),
        "inputs": dump_inputs(inputs),
        "seed": seed,
        "idempotency_key": idempotency_key,
        "fingerprint": print_,
        "project": request.project,
        "api_key": api_key,
        "deadline": to_us(deadline) if deadline else None,
        "created_at": tx.us,
    }
    tx.conn.execute(_NEW_JOB, row)
    event(tx, job_id, None, "created", {})
    # The row as the database now has it, so that nobody needs to read it back.
    return job_of({**_NEW_ROW, **row}, ()), True


def by_key(tx: Tx, idempotency_key: str, print_: str) -> Job | None:
    """The job that this key made; raises Conflict when the request was another one."""
    row = tx.conn.execute(_BY_KEY, {"key": idempotency_key}).one_or_none()
    if row is None:
        return None
    if row.fingerprint != print_:
        raise Conflict(
            words(
                f"This idempotency key was used for another request (job {row.id}). Use a new key.",
                f"この冪等キーは別のリクエスト(ジョブ {row.id})で使用済みです。新しいキーを指定してください。",
            ),
            param="Idempotency-Key",
        )
    return get(tx, row.id)


def get(tx: Tx, job_id: str) -> Job | None:
    """One job whole, attempts included."""
    found = load(tx, [job_id])
    return found[0] if found else None


def load(tx: Tx, ids: Sequence[str]) -> list[Job]:
    """Jobs whole, in the order of `ids`; unknown ones are left out."""
    if not ids:
        return []
    one = len(ids) == 1
    rows = tx.conn.execute(_JOB if one else _JOBS, {"id": ids[0]} if one else {"ids": list(ids)})
    found = {row["id"]: row for row in rows.mappings()}
    return _with_attempts(tx, [found[i] for i in ids if i in found])


def _with_attempts(tx: Tx, rows: Sequence[sa.RowMapping]) -> list[Job]:
    if not rows:
        return []
    # A list in a statement is spelt out at every run; most callers want one job.
    one = len(rows) == 1
    wanted: dict[str, Any] = {"id": rows[0]["id"]} if one else {"ids": [row["id"] for row in rows]}
    tries: dict[str, list[Attempt]] = defaultdict(list)
    for row in tx.conn.execute(_ATTEMPTS_OF_ONE if one else _ATTEMPTS, wanted).mappings().all():
        tries[row["job_id"]].append(attempt_of(tx, row))
    return [job_of(row, tries[row["id"]]) for row in rows]


def page(
    tx: Tx,
    *,
    limit: int,
    after: str | None,
    order: Literal["asc", "desc"],
    project: str | None,
    state: str | None,
) -> tuple[list[Job], bool]:
    """One page of jobs, whole, and whether more follow."""
    query = _page(order, project is not None, state is not None, after is not None)
    given = {"project": project, "state": state, "after": after, "most": limit + 1}
    wanted = {name: value for name, value in given.items() if value is not None}
    rows = tx.conn.execute(query, wanted).mappings().all()
    return _with_attempts(tx, rows[:limit]), len(rows) > limit


@lru_cache
def _page(order: Literal["asc", "desc"], project: bool, state: bool, after: bool) -> sa.Select[Any]:
    query = sa.select(jobs).where(jobs.c.deleted.is_(False))
    if project:
        query = query.where(jobs.c.project == sa.bindparam("project"))
    if state:
        query = query.where(jobs.c.status == sa.bindparam("state"))
    if after:
        anchor = sa.select(jobs.c.seq).where(jobs.c.id == sa.bindparam("after")).scalar_subquery()
        query = query.where(jobs.c.seq < anchor if order == "desc" else jobs.c.seq > anchor)
    by = jobs.c.seq.desc() if order == "desc" else jobs.c.seq.asc()
    return query.order_by(by).limit(sa.bindparam("most"))


def waiting(tx: Tx, limit: int) -> list[str]:
    """Ids of the jobs in `queued`, oldest first."""
    return list(tx.conn.execute(_WAITING, {"most": limit}).scalars())


def load_waiting(tx: Tx, ids: Sequence[str]) -> list[Waiting]:
    """Jobs whole with their media, in the order of `ids`."""
    if not ids:
        return []
    inputs = {row.id: row.inputs for row in tx.conn.execute(_INPUTS, {"ids": list(ids)})}
    return [Waiting(job, load_inputs(inputs[job.id])) for job in load(tx, ids)]


def running_to_a_deadline(tx: Tx) -> list[str]:
    """Ids of the running jobs that have a deadline and may be bought twice for it, oldest first."""
    return list(tx.conn.execute(_RUNNING).scalars())


def open_beside(tx: Tx, job_id: str, n: int) -> tuple[AttemptStatus, ...]:
    """States of the job's other open attempts: there is one while a second copy is on its way."""
    return tuple(AttemptStatus(s) for s in tx.conn.execute(_BESIDE, {"job": job_id, "own": n}).scalars())


def touched(tx: Tx, after: int) -> set[str]:
    """Jobs with an event newer than that number."""
    return set(tx.conn.execute(_TOUCHED, {"after": after}).scalars())


class Created(NamedTuple):
    """A job as it came in; its request and inputs are read only where somebody asks."""

    seq: int
    id: str
    created_us: int
    """Microseconds of UTC."""
    request_json: str
    inputs_json: str
    seed: int

    @property
    def request(self) -> VideoRequest:
        """As it was asked."""
        return request_of(self.request_json)

    @property
    def inputs(self) -> Inputs:
        """Its media."""
        return load_inputs(self.inputs_json)


def created(tx: Tx, *, after: int, since: datetime) -> list[Created]:
    """Jobs with a higher number than `after` that came in since then, oldest first; of very many the newest."""
    newest = int(tx.conn.execute(_NEWEST_JOB).scalar_one())
    asked = {"after": max(after, newest - MOST_CREATED), "since": to_us(since)}
    return [Created(*row) for row in tx.conn.execute(_CREATED, asked)]


def inputs_of(tx: Tx, job_id: str) -> Inputs:
    """The job's input media."""
    return load_inputs(tx.conn.execute(sa.select(jobs.c.inputs).where(jobs.c.id == job_id)).scalar_one())


def open_attempts(tx: Tx) -> list[tuple[str, int, str]]:
    """(job, n, backend) of every attempt that has not ended."""
    query = sa.select(attempts.c.job_id, attempts.c.n, attempts.c.backend).where(
        attempts.c.status.in_(OPEN_ATTEMPTS)
    )
    return [(row.job_id, row.n, row.backend) for row in tx.conn.execute(query)]


def cancel_wanted(tx: Tx) -> set[str]:
    """Jobs whose attempts are to stop: somebody wants that, or another attempt brought the clip."""
    return set(tx.conn.execute(_CANCEL_WANTED).scalars())


def newest_event(tx: Tx) -> int:
    """Number of the newest event: nothing that a decision depends on changes without one."""
    return int(tx.conn.execute(_NEWEST_EVENT).scalar_one())


def in_flight(tx: Tx) -> list[Flying]:
    """(model, backend, status, created_at in microseconds) of attempts that may occupy a place at their backend."""
    return [(*row,) for row in tx.conn.execute(_IN_FLIGHT)]


class Latest(NamedTuple):
    """The newest accepted attempt among some models, in microseconds."""

    model: str
    ended_at: int | None
    """None while it runs."""
    last_end: int | None
    """When any of these models' attempts completed or failed last; None before the first has. One that was cancelled may
    have ended before its turn came."""


def latest_attempt_of(tx: Tx, models: Sequence[str]) -> Latest | None:
    """The newest of these models' attempts that were accepted lately; None when there was none."""
    if not models:
        return None
    asked = {"models": list(models), "since": tx.us - LATELY_US}
    row = tx.conn.execute(_LATEST_OF, asked).one_or_none()
    return None if row is None else Latest(row.model, row.ended_at, row.last_end)


# -- changes


def begin_attempt(
    tx: Tx, job: Job, resolved: ResolvedRequest, decision: Decision, reserved: int
) -> int | None:
    """queued -> submitting with a new attempt; its number, or None when another process was quicker."""
    assert decision.chosen is not None
    n = len(job.attempts) + 1
    chosen = decision.chosen
    moved = move_job(
        tx,
        job.id,
        Status.SUBMITTING,
        backend=chosen.backend,
        model=chosen.model,
        reason=decision.reason.model_dump_json(),
        estimate=micros(chosen.usd),
        only_if=sa.and_(
            jobs.c.cancel_requested.is_(False),
            sa.select(sa.func.count()).where(attempts.c.job_id == job.id).scalar_subquery() == n - 1,
        ),
    )
    if not moved:
        return None
    _add_attempt(tx, job.id, n, resolved, decision, reserved)
    return n


def begin_copy(tx: Tx, job: Job, resolved: ResolvedRequest, decision: Decision, reserved: int) -> int | None:
    """A second attempt beside the one that runs; its number, or None when the job moved on meanwhile."""
    now = get(tx, job.id)
    if now is None or now.status is not Status.RUNNING or now.cancel_requested:
        return None
    if len(now.attempts) != len(job.attempts) or not copyable(now):
        return None
    n = len(now.attempts) + 1
    _add_attempt(tx, job.id, n, resolved, decision, reserved)
    return n


def copyable(job: Job) -> bool:
    """Whether the job's one open attempt runs alone, and did so from its begin: at most one copy is sent beside it."""
    if not job.attempts:
        return False
    *earlier, last = job.attempts
    alone = all(a.ended_at is not None and a.ended_at <= last.created_at for a in earlier)
    return alone and last.status is AttemptStatus.RUNNING


def _add_attempt(
    tx: Tx, job_id: str, n: int, resolved: ResolvedRequest, decision: Decision, reserved: int
) -> None:
    chosen = decision.chosen
    assert chosen is not None
    tx.conn.execute(
        sa.insert(attempts).values(
            job_id=job_id,
            n=n,
            backend=chosen.backend,
            model=chosen.model,
            status=AttemptStatus.SUBMITTING,
            resolved=resolved.model_dump_json(),
            decision=decision.model_dump_json(),
            reason=decision.reason.model_dump_json(),
            estimate=micros(chosen.usd),
            reserved=reserved,
            created_at=tx.us,
        )
    )
    decisions.keep(job_id, n, tx.us, decision)
    event(tx, job_id, n, "submitting", {"backend": chosen.backend, "model": chosen.model})


def move_attempt(tx: Tx, job_id: str, n: int, to: AttemptStatus, **values: Any) -> bool:
    """One guarded step of an attempt; the job follows while the attempt is open. False: somebody was quicker."""
    allowed = [s.value for s, nexts in ATTEMPT_TRANSITIONS.items() if to in nexts]
    done = tx.conn.execute(
        sa.update(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.n == n, attempts.c.status.in_(allowed))
        .values(status=to, **values, **({"ended_at": tx.us} if to.ended else {}))
    ).rowcount
    if done and (follow := _FOLLOWS.get(to)) is not None:
        more: dict[str, Any] = {}
        if to is AttemptStatus.RUNNING:
            more = {"in_progress_once": True, "started_at": sa.func.coalesce(jobs.c.started_at, tx.us)}
        move_job(tx, job_id, follow, **more)
    return bool(done)


def move_job(
    tx: Tx, job_id: str, to: Status, *, only_if: sa.ColumnElement[bool] | None = None, **values: Any
) -> bool:
    """One guarded step of a job. False: it is not in a state from which this step leads."""
    allowed = [s.value for s, nexts in TRANSITIONS.items() if to in nexts]
    query = sa.update(jobs).where(jobs.c.id == job_id, jobs.c.status.in_(allowed))
    if only_if is not None:
        query = query.where(only_if)
    ended = {"ended_at": tx.us} if to.ended else {}
    return bool(tx.conn.execute(query.values(status=to, **values, **ended)).rowcount)


def claim(tx: Tx, job_id: str, n: int, carrier: str, dead: Iterable[str]) -> Attempt | None:
    """Make `carrier` the one process that carries this attempt; None when it ended or a live process has it."""
    free = sa.or_(
        attempts.c.carrier.is_(None), attempts.c.carrier == carrier, attempts.c.carrier.in_(list(dead))
    )
    done = tx.conn.execute(
        sa.update(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.n == n, attempts.c.status.in_(OPEN_ATTEMPTS), free)
        .values(carrier=carrier)
    ).rowcount
    return get_attempt(tx, job_id, n) if done else None


def get_attempt(tx: Tx, job_id: str, n: int) -> Attempt | None:
    """One attempt."""
    row = (
        tx.conn.execute(sa.select(*_READ).where(attempts.c.job_id == job_id, attempts.c.n == n))
        .mappings()
        .one_or_none()
    )
    return attempt_of(tx, row) if row is not None else None


def progress(tx: Tx, job_id: str, n: int, value: float) -> None:
    """Raise the attempt's and the job's progress; neither ever falls."""
    value = min(max(value, 0.0), 0.99)
    tx.conn.execute(
        sa.update(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.n == n, attempts.c.progress < value)
        .values(progress=value)
    )
    tx.conn.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.progress < value, jobs.c.status.in_(OPEN_JOBS))
        .values(progress=value)
    )


def explain(tx: Tx, ids: Sequence[str], reason: Words) -> None:
    """Say what these jobs wait for, as far as they still wait."""
    tx.conn.execute(_EXPLAIN, {"jobs": list(ids), "text": reason.model_dump_json()})


def request_cancel(tx: Tx, job_id: str) -> bool:
    """Set the flag that the carrier reads; False when the job has ended or was asked before."""
    done = tx.conn.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.status.in_(OPEN_JOBS), jobs.c.cancel_requested.is_(False))
        .values(cancel_requested=True)
    ).rowcount
    if done:
        event(tx, job_id, None, "cancel_requested", {})
    return bool(done)


def mark_deleted(tx: Tx, job_id: str) -> None:
    """Hide the job and let go of its media; attempts, events and ledger stay."""
    tx.conn.execute(sa.update(jobs).where(jobs.c.id == job_id).values(deleted=True, output=None, poster=None))
    event(tx, job_id, None, "deleted", {})


def asset_used(tx: Tx, asset_id: str) -> bool:
    """Whether any job still refers to this file."""
    needle = f"%{asset_id}%"
    query = sa.select(sa.literal(1)).where(
        jobs.c.deleted.is_(False),
        sa.or_(
            *(column.like(needle) for column in (jobs.c.output, jobs.c.poster, jobs.c.inputs, jobs.c.details))
        ),
    )
    return tx.conn.execute(query.limit(1)).scalar_one_or_none() is not None


def ended_before(tx: Tx, at: datetime, limit: int) -> list[str]:
    """Finished jobs older than that, for retention. Unresolved ones wait for a person and stay."""
    done = [Status.COMPLETED.value, Status.FAILED.value, Status.CANCELLED.value]
    query = (
        sa.select(jobs.c.id)
        .where(jobs.c.deleted.is_(False), jobs.c.status.in_(done), jobs.c.ended_at < to_us(at))
        .order_by(jobs.c.seq)
        .limit(limit)
    )
    return list(tx.conn.execute(query).scalars())


def forget_events(tx: Tx, job_id: str) -> None:
    """Retention: a deleted job's history goes, its ledger rows stay."""
    tx.conn.execute(sa.delete(events).where(events.c.job_id == job_id))


def event(tx: Tx, job_id: str, n: int | None, kind: str, data: Mapping[str, JsonValue]) -> None:
    """Append one line of history."""
    row = {"job_id": job_id, "attempt": n, "at": tx.us, "kind": kind, "data": json.dumps(dict(data))}
    tx.conn.execute(_NEW_EVENT, row)


def history(tx: Tx, job_id: str) -> tuple[Event, ...]:
    """All events of a job, oldest first."""
    rows = tx.conn.execute(
        sa.select(events).where(events.c.job_id == job_id).order_by(events.c.seq)
    ).mappings()
    return tuple(
        Event(
            seq=r["seq"],
            job_id=r["job_id"],
            attempt=r["attempt"],
            at=from_us(r["at"]),
            kind=r["kind"],
            data=json.loads(r["data"]),
        )
        for r in rows
    )


def unresolved(tx: Tx) -> tuple[str, ...]:
    """Jobs with an attempt that a person must settle."""
    query = (
        sa.select(attempts.c.job_id)
        .where(attempts.c.status == AttemptStatus.UNRESOLVED, attempts.c.billed.is_(None))
        .distinct()
        .order_by(attempts.c.job_id)
    )
    return tuple(tx.conn.execute(query).scalars())


def micros(usd: Decimal | None) -> int | None:
    """Whole micro-dollars of an amount that has no more than six places."""
    return None if usd is None else int(usd * 1_000_000)
