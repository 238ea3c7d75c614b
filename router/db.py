"""Our database: one writer thread that commits waiting writes together, readers in threads, one pulse for changes.

SQLite: WAL, `synchronous=FULL`, `BEGIN IMMEDIATE` for the writer. PostgreSQL: every write first takes one advisory
lock, which gives money, limits and the hash chain the order that SQLite gives for nothing (shared/engine.md, rules).
"""

import asyncio
import contextlib
import errno
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from router.contract.errors import ServerTrouble, StorageFull
from router.contract.words import words
from router.tables import meta

T = TypeVar("T")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCHEMA = "understudy"
HEAD = "0004"
"""The newest migration; a database that stands there needs no Alembic, which takes 0.3 s to import."""
_LOCK = 7_309_453_201
_CHANNEL = "understudy"
_TOGETHER = 256
"""Most writes committed in one transaction."""
LOOK_S = 0.1
"""How often a change by another process is looked for on SQLite."""


def to_us(at: datetime) -> int:
    """Microseconds since 1970 UTC of an aware time."""
    return (at - EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    """The aware UTC time of `to_us`."""
    return EPOCH + timedelta(microseconds=us)


@dataclass(frozen=True)
class Tx:
    """One transaction: the connection and the time at which it holds the order of all writes."""

    conn: sa.Connection
    now: datetime

    @property
    def us(self) -> int:
        """`now` in microseconds."""
        return to_us(self.now)


class Pulse:
    """Counts changes of the database; waiters wake at the next one."""

    def __init__(self) -> None:
        """Belongs to the running loop."""
        self.count = 0
        self._changed = asyncio.Event()

    def fire(self) -> None:
        """Something was committed, here or by another process."""
        self.count += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, since: int, timeout_s: float) -> int:
        """Return the count once it differs from `since`, or after the time."""
        if self.count == since:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: on Python 3.11 it can swallow a cancellation that comes with the change.
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
        return self.count


@dataclass
class _Work:
    """A function of a transaction and the future of its caller, which belongs to the loop."""

    run: Callable[[Tx], Any]
    done: "asyncio.Future[Any]"
    matters: bool

    def finish(self, value: Any, failure: Exception | None) -> None:
        """Tell the caller, if it still waits. In the loop."""
        if self.done.done():
            return
        if failure is not None:
            self.done.set_exception(failure)
        else:
            self.done.set_result(value)


_Result = tuple[Any, Exception | None]


class Database:
    """Open with `await Database.open(url)`; `write` and `read` take a function of a transaction."""

    def __init__(self, url: str) -> None:
        """`url`: `sqlite:///file` or `postgresql://...`."""
        parsed = make_url(url)
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if not self.sqlite:
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.url = url
        self.file = Path(parsed.database) if self.sqlite and parsed.database else None
        self._writer = _engine(parsed, immediate=True)
        self._reader = _engine(parsed, immediate=False) if self.sqlite else self._writer
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="db-read")
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._background: list[threading.Thread] = []
        self.pulse = Pulse()
        self.changes = 0
        """Grows with every commit of this process that a decision may depend on."""
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    async def open(cls, url: str) -> "Database":
        """Connect, bring the tables up to date, start the writer. Raises ServerTrouble with what to do."""
        try:
            self = cls(url)
        except sa.exc.ArgumentError:
            raise ServerTrouble(
                words(
                    "UNDERSTUDY_DATABASE_URL is not a database URL; use sqlite:///FILE or postgresql://USER@HOST/NAME",
                    "UNDERSTUDY_DATABASE_URL の形式が正しくありません。sqlite:///ファイル または "
                    "postgresql://ユーザー@ホスト/名前 を指定してください。",
                )
            ) from None
        try:
            await asyncio.to_thread(self._migrate)
        except (DBAPIError, OSError) as error:
            raise _cannot_open(error, self.sqlite) from None
        self._loop = loop = asyncio.get_running_loop()
        for name, target in (("db-write", self._write_loop), ("db-watch", self._watch_loop)):
            thread = threading.Thread(target=target, args=(loop,), name=name, daemon=True)
            self._background.append(thread)
            thread.start()
        return self

    async def close(self) -> None:
        """Finish what was handed in, then disconnect."""
        self._queue.put(None)
        self._stop.set()
        for thread in self._background:
            await asyncio.to_thread(thread.join, 10)
        self._threads.shutdown(wait=True)
        self._writer.dispose()
        self._reader.dispose()

    async def write(self, run: Callable[[Tx], T], *, matters: bool = True) -> T:
        """Run in the ordered write transaction and return once it is on disk. An error undoes this write alone.

        `matters=False`: what it writes changes no decision about another job, so snapshots that were taken stay good.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(_Work(run, done, matters))
        return await done

    async def read(self, run: Callable[[Tx], T]) -> T:
        """Run on a snapshot, in a thread."""

        def work() -> T:
            with self._reader.connect() as conn:
                return run(Tx(conn, self._clock(conn)))

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except DBAPIError as error:
            raise _cannot_open(error, self.sqlite) from error

    def own_connection(self) -> sa.Connection:
        """A connection outside the pool's use, in autocommit, for a session lock (PostgreSQL)."""
        return self._writer.connect().execution_options(isolation_level="AUTOCOMMIT")

    def poke(self) -> None:
        """Wake everybody who waits for a change, from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.pulse.fire)

    # -- the writer

    def _write_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        last = False
        while not last:
            batch: list[_Work] = []
            item = self._queue.get()
            while True:
                if item is None:
                    last = True
                    break
                # From here on the caller cannot withdraw it; what was withdrawn before is not written.
                if not item.done.cancelled():
                    batch.append(item)
                if len(batch) == _TOGETHER:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                results = self._commit(batch)
                with contextlib.suppress(RuntimeError):
                    # One call for all: each call from a thread wakes the loop with a byte through a socket.
                    loop.call_soon_threadsafe(self._committed, batch, results)

    def _committed(self, batch: list[_Work], results: list[_Result]) -> None:
        if any(item.matters for item in batch):
            self.changes += 1
        for item, result in zip(batch, results, strict=True):
            item.finish(*result)
        self.pulse.fire()

    def _commit(self, batch: list[_Work]) -> list[_Result]:
        try:
            with self._writer.begin() as conn:
                if not self.sqlite:
                    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                tx = Tx(conn, self._clock(conn))
                results = [_run(tx, item.run) for item in batch]
                if not self.sqlite:
                    conn.exec_driver_sql(f"NOTIFY {_CHANNEL}")
        except Exception as error:
            fault = _cannot_open(error, self.sqlite) if isinstance(error, DBAPIError) else error
            results = [(None, fault)] * len(batch)
        return results

    def _clock(self, conn: sa.Connection) -> datetime:
        """One clock for windows and reservations: the server's on PostgreSQL, read after the lock."""
        if self.sqlite:
            return datetime.now(UTC)
        at: datetime = conn.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        return at.astimezone(UTC)

    # -- changes by other processes

    def _watch_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stop.is_set():
            try:
                if self.sqlite:
                    self._watch_file(loop)
                else:
                    self._listen(loop)
            except (DBAPIError, psycopg.Error, OSError, RuntimeError):
                # The database or the loop is going away or coming back; the planner's slow tick covers the gap.
                self._stop.wait(1)

    def _watch_file(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._reader.connect() as conn:
            seen = None
            while not self._stop.wait(LOOK_S):
                version = conn.exec_driver_sql("PRAGMA data_version").scalar_one()
                conn.rollback()
                if version != seen:
                    seen = version
                    loop.call_soon_threadsafe(self.pulse.fire)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._writer.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.exec_driver_sql(f"LISTEN {_CHANNEL}")
            raw = conn.connection.driver_connection
            assert raw is not None
            while not self._stop.is_set():
                for _ in raw.notifies(timeout=0.5, stop_after=1):
                    loop.call_soon_threadsafe(self.pulse.fire)

    # -- tables

    def _migrate(self) -> None:
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if _revision(self._reader) == HEAD:
                return
            with FileLock(str(self.file) + ".migrate.lock", timeout=60):
                self._upgrade()
            return
        with self._writer.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK} + 1)")
            try:
                conn.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
                self._upgrade()
            finally:
                conn.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK} + 1)")

    def _upgrade(self) -> None:
        if _revision(self._writer) == HEAD:
            return
        from alembic import command
        from alembic.config import Config

        logging.getLogger("alembic").setLevel(logging.WARNING)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._writer.begin() as conn:
            config.attributes["connection"] = conn
            command.upgrade(config, "head")


def migrate(url: str) -> None:
    """Make or bring up to date the tables of a database that nobody has open."""
    database = Database(url)
    try:
        database._migrate()
    finally:
        database._writer.dispose()
        database._reader.dispose()


def _run(tx: Tx, work: Callable[[Tx], Any]) -> tuple[Any, Exception | None]:
    """One write in its own savepoint; only a broken connection or a full disk undoes its neighbours."""
    # Said by hand: SQLAlchemy's own nested transaction costs as much as a small write.
    run = tx.conn.exec_driver_sql
    run("SAVEPOINT one")
    try:
        value = work(tx)
        run("RELEASE SAVEPOINT one")
    except Exception as error:
        if isinstance(error, DBAPIError) and (error.connection_invalidated or _is_full(error)):
            raise
        run("ROLLBACK TO SAVEPOINT one")
        run("RELEASE SAVEPOINT one")
        return None, error
    return value, None


def get_meta(tx: Tx, key: str) -> str | None:
    """One fact about this database."""
    return tx.conn.execute(sa.select(meta.c.value).where(meta.c.key == key)).scalar_one_or_none()


def set_meta(tx: Tx, key: str, value: str) -> None:
    """Write one fact about this database."""
    if tx.conn.execute(sa.update(meta).where(meta.c.key == key).values(value=value)).rowcount == 0:
        tx.conn.execute(sa.insert(meta).values(key=key, value=value))


def _engine(url: sa.URL, *, immediate: bool) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(
            url,
            pool_size=8,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 10,
                # A stopped process must not keep the one write lock for ever.
                "options": f"-c search_path={SCHEMA} -c idle_in_transaction_session_timeout=15000",
            },
        )
    engine = sa.create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def configure(raw: Any, _record: Any) -> None:
        raw.isolation_level = None
        cursor = raw.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(conn: sa.Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _revision(engine: sa.Engine) -> str | None:
    try:
        with engine.connect() as conn:
            return conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    except OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    except sa.exc.ProgrammingError:
        return None


def _is_full(error: DBAPIError) -> bool:
    text = str(error.orig).lower()
    return "disk is full" in text or "no space left" in text or "disk i/o" in text


def _cannot_open(error: DBAPIError | OSError, sqlite: bool) -> ServerTrouble:
    if isinstance(error, OSError):
        text = error.strerror or str(error)
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    else:
        text = str(error.orig).splitlines()[0] if error.orig is not None else "unknown"
        full = _is_full(error)
    if full:
        return StorageFull(
            words(
                "The disk of the data folder is full. Free some space; nothing that was accepted is lost.",
                "データフォルダーのディスクがいっぱいです。空き容量を増やしてください。受け付けたものは失われていません。",
            )
        )
    if sqlite:
        return ServerTrouble(
            words(
                f"The database in the data folder cannot be used ({text}). Check that UNDERSTUDY_HOME is a folder you "
                "may write to, on a local disk.",
                f"データフォルダーのデータベースを使用できません({text})。UNDERSTUDY_HOME が書き込み可能な"
                "ローカルディスク上のフォルダーであることを確認してください。",
            )
        )
    return ServerTrouble(
        words(
            f"PostgreSQL cannot be reached or used ({text}). Check UNDERSTUDY_DATABASE_URL.",
            f"PostgreSQL に接続できません({text})。UNDERSTUDY_DATABASE_URL を確認してください。",
        )
    )
