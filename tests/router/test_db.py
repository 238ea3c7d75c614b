"""The writer, the readers and the pulse."""

import asyncio
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from router.contract.errors import ServerTrouble
from router.db import Database, Pulse, Tx, get_meta, set_meta
from router.tables import meta
from tests.router.conftest import DatabaseUrl
from tests.sandbox_process import ROOT

SECOND_PROCESS = """
import asyncio, sys
from router.db import Database, set_meta
async def main():
    db = await Database.open(sys.argv[1])
    await db.write(lambda tx: set_meta(tx, "from", "elsewhere"))
    await db.close()
asyncio.run(main())
"""


def fresh(new_database: DatabaseUrl, folder: Path) -> str:
    return new_database() or f"sqlite:///{folder / 'ours.sqlite'}"


async def test_one_failing_write_does_not_undo_its_neighbours(
    new_database: DatabaseUrl, tmp_path: Path
) -> None:
    db = await Database.open(fresh(new_database, tmp_path))

    def breaks(tx: Tx) -> None:
        set_meta(tx, "half", "written")
        raise ZeroDivisionError

    def twice(tx: Tx) -> None:
        for _ in range(2):
            tx.conn.execute(sa.insert(meta).values(key="same", value="x"))

    results = await asyncio.gather(
        db.write(lambda tx: set_meta(tx, "first", "1")),
        db.write(breaks),
        db.write(twice),
        db.write(lambda tx: set_meta(tx, "last", "2")),
        return_exceptions=True,
    )
    assert [type(r) for r in results] == [type(None), ZeroDivisionError, sa.exc.IntegrityError, type(None)]
    kept = await db.read(lambda tx: [get_meta(tx, key) for key in ("first", "half", "same", "last")])
    assert kept == ["1", None, None, "2"]
    await db.close()


async def test_a_commit_of_another_process_wakes_the_pulse(new_database: DatabaseUrl, tmp_path: Path) -> None:
    url = fresh(new_database, tmp_path)
    db = await Database.open(url)
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", SECOND_PROCESS, url, cwd=ROOT)
    async with asyncio.timeout(30):
        while await db.read(lambda tx: get_meta(tx, "from")) is None:
            since = db.pulse.count
            assert await db.pulse.wait(since, 25) > since
    assert await other.wait() == 0
    await db.close()


@pytest.mark.postgres
async def test_a_dropped_listening_connection_is_opened_again(
    new_database: DatabaseUrl, tmp_path: Path
) -> None:
    url = new_database()
    if url is None:
        pytest.skip("SQLite has no connections to drop")
    db = await Database.open(url)
    kill = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND starts_with(query, 'LISTEN') AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(20):
        while not await db.read(lambda tx: tx.conn.exec_driver_sql(kill).scalar_one()):
            await db.pulse.wait(db.pulse.count, 0.1)
    await asyncio.to_thread(lambda: db._stop.wait(2))
    assert all(thread.is_alive() for thread in db._background)
    await db.close()


async def test_what_is_no_database_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "ours.sqlite").write_bytes(b"this is a letter to my aunt" * 100)
    with pytest.raises(ServerTrouble):
        await Database.open(f"sqlite:///{tmp_path / 'ours.sqlite'}")
    with pytest.raises(ServerTrouble, match="UNDERSTUDY_DATABASE_URL"):
        await Database.open("nonsense")


async def test_a_cancel_that_comes_with_a_change_still_cancels() -> None:
    pulse = Pulse()

    async def loops() -> None:
        while True:
            await pulse.wait(pulse.count, 20)

    task = asyncio.create_task(loops())
    await asyncio.sleep(0)
    # Both in the same turn of the loop, as when a server stops while a job writes its progress.
    pulse.fire()
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(5):
        results = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
