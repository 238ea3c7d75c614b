"""The processes that share one PostgreSQL database: who lives, who died, and which one plans.

Each says every few seconds that it lives. One that is silent for too long is declared dead: the others take its work, and it
must end when it learns of that (shared/engine.md). On SQLite there is one process, which always leads.
"""

import asyncio
import os
import secrets
import socket

import psutil
import sqlalchemy as sa

from router import store
from router.contract import errors
from router.contract.words import words
from router.db import Database, Tx
from router.tables import attempts, executors

_DEAD_US = 20_000_000
_LEADER_LOCK = 7_309_453_203
_DAY_US = 86_400_000_000


class Fenced(errors.ServerTrouble):
    """Others took over this process's work."""


class Peers:
    """This process among the others."""

    def __init__(self, db: Database, *, worker: bool) -> None:
        """A `worker` carries local jobs and never leads."""
        self._db = db
        self._role = "worker" if worker else "serve"
        self.me = "local" if db.sqlite else f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.dead: frozenset[str] = frozenset()
        """Names of processes whose work may be taken over."""
        self.leads = db.sqlite
        """Whether this one plans."""
        self._lock: sa.Connection | None = None

    async def beat(self) -> bool:
        """Say that we live and learn who does not; True when somebody died since. Raises `Fenced` when that is us."""
        host, pid = socket.gethostname(), os.getpid()
        started = int(psutil.Process(pid).create_time())

        def write(tx: Tx) -> tuple[set[str], bool]:
            rows = tx.conn.execute(sa.select(executors)).mappings().all()
            dead = {r["id"] for r in rows if r["dead"]}
            for row in rows:
                if row["id"] == self.me or row["dead"]:
                    continue
                gone = row["host"] == host and not _alive(row["pid"], row["pid_started"])
                if gone or row["beat"] < tx.us - _DEAD_US:
                    self._set(tx, row["id"], dead=True)
                    dead.add(row["id"])
            mine = next((r for r in rows if r["id"] == self.me), None)
            if mine is None:
                tx.conn.execute(
                    sa.insert(executors).values(
                        id=self.me, role=self._role, host=host, pid=pid, pid_started=started, beat=tx.us
                    )
                )
            elif not mine["dead"]:
                self._set(tx, self.me, beat=tx.us)
            return dead, bool(mine and mine["dead"])

        dead, me_dead = await self._db.write(write)
        if me_dead:
            raise Fenced(
                words(
                    "this process was silent for too long and others took over its work; it ends now",
                    "このプロセスは応答が途絶えたため、他のプロセスが処理を引き継ぎました。終了します",
                )
            )
        new = dead - self.dead
        self.dead = frozenset(dead)
        return bool(new)

    async def try_to_lead(self) -> None:
        """Take the planner's lock where it is free, or see that we still hold it."""
        try:
            await asyncio.to_thread(self._try_to_lead)
        except sa.exc.DBAPIError:
            self.leads, self._lock = False, None

    def _try_to_lead(self) -> None:
        """A session lock on a connection of its own; a broken connection is a lost leadership."""
        if self._lock is None:
            self._lock = self._db.own_connection()
        if self.leads:
            self._lock.exec_driver_sql("SELECT 1")
            return
        got = self._lock.exec_driver_sql(f"SELECT pg_try_advisory_lock({_LEADER_LOCK})").scalar_one()
        if got:
            self.leads = True
            self._db.poke()

    async def leave(self) -> None:
        """Give the lock back; marked dead, not deleted: whoever comes next learns from it what may be taken over."""
        if self._lock is not None:
            await asyncio.to_thread(self._lock.close)
        if not self._db.sqlite:
            await self._db.write(lambda tx: self._set(tx, self.me, dead=True))

    @staticmethod
    def _set(tx: Tx, name: str, **values: object) -> None:
        tx.conn.execute(sa.update(executors).where(executors.c.id == name).values(**values))


def living(tx: Tx, role: str | None = None, within_us: int = _DEAD_US) -> int:
    """How many processes, of this role or of any, beat within this time and were not declared dead."""
    c = executors.c
    query = sa.select(sa.func.count()).where(c.dead.is_(False), c.beat > tx.us - within_us)
    return int(tx.conn.execute(query if role is None else query.where(c.role == role)).scalar_one())


def forget_dead(tx: Tx) -> None:
    """Processes that ended long ago, once no open attempt names them."""
    busy = sa.select(attempts.c.carrier).where(
        attempts.c.status.in_(store.OPEN_ATTEMPTS), attempts.c.carrier.is_not(None)
    )
    tx.conn.execute(
        sa.delete(executors).where(
            executors.c.dead.is_(True), executors.c.beat < tx.us - _DAY_US, executors.c.id.not_in(busy)
        )
    )


def _alive(pid: int, started: int) -> bool:
    try:
        return abs(int(psutil.Process(pid).create_time()) - started) <= 1
    except psutil.Error:
        return False
