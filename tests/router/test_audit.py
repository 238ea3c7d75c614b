"""What `understudy ledger verify` finds: cut tails, rows put after them, a lost head, other sums, a rewritten past."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import router
from router import ledger
from router.audit import audit
from router.db import Database, Tx, get_meta, set_meta
from router.ledger import Caps, Entry
from router.tables import attempts, meta, metadata
from router.tables import ledger as table
from tests.router.test_ledger import START, UTC_ZONE, books, filled

ZERO = "0" * 64


def said(tx: Tx, noted: str | None = None) -> list[str]:
    """Problems of the chain; these books have no attempts beside them unless a test makes them."""
    return [p.en for p in audit(tx, noted).problems if "nowhere else" not in p.en]


def test_a_whole_book_has_no_problem_and_says_where_it_ends() -> None:
    tx = filled()
    found = audit(tx)
    assert (found.rows, found.head) == (8, get_meta(tx, ledger.HEAD))


@pytest.mark.parametrize("cut", [1, 3, 8])
def test_rows_cut_off_at_the_tail_show(cut: int) -> None:
    tx = filled()
    tx.conn.execute(sa.delete(table).where(table.c.seq > 8 - cut))
    assert said(tx) == [f"{cut} row(s) are missing: 8 were written, {8 - cut} are there"]


def test_what_is_written_after_a_cut_tail_does_not_hide_it() -> None:
    tx = filled()
    tx.conn.execute(sa.delete(table).where(table.c.seq > 6))
    for number in (8, 9):
        ledger.reserve(tx, Entry(f"job{number}", 1, None, "paid", "paid/clip"), 100, Caps(), UTC_ZONE)
    problems = said(tx)
    assert "row 7 (job8:a1 reserve) does not match the chain" in problems
    assert "2 row(s) are missing: 10 were written, 8 are there" in problems


def test_two_rows_that_changed_places_show() -> None:
    tx = filled()
    for old, new in ((3, 99), (4, 3), (99, 4)):
        tx.conn.execute(sa.update(table).where(table.c.seq == old).values(seq=new))
    assert any("does not match the chain" in problem for problem in said(tx))


def test_a_last_row_that_was_replaced_with_a_hash_that_fits_shows() -> None:
    tx = filled()
    rows = tx.conn.execute(sa.select(table).order_by(table.c.seq)).mappings().all()
    forged = {**rows[-1], "settled": 1}
    forged["hash"] = ledger.chained(rows[-2]["hash"], forged)
    tx.conn.execute(sa.update(table).where(table.c.seq == 8).values(**forged))
    assert said(tx) == ["row 8 is not the one that was written last: the end of the ledger was replaced"]


def test_a_lost_or_edited_head_shows_and_does_not_stop_the_books() -> None:
    for damage in (None, "many:" + ZERO, "nonsense"):
        tx = filled()
        if damage is None:
            tx.conn.execute(sa.delete(meta).where(meta.c.key == ledger.HEAD))
        else:
            set_meta(tx, ledger.HEAD, damage)
        assert said(tx)
        ledger.reserve(tx, Entry("job9", 1, None, "paid", "paid/clip"), 100, Caps(), UTC_ZONE)
        assert said(tx)


def test_a_head_noted_elsewhere_finds_a_rewritten_past() -> None:
    tx = filled()
    noted = audit(tx).head
    ledger.reserve(tx, Entry("job9", 1, None, "paid", "paid/clip"), 100, Caps(), UTC_ZONE)
    assert said(tx, noted) == []
    # Somebody who knows the scheme writes the whole book anew: nothing but the noted head tells.
    previous = ledger.GENESIS
    for row in tx.conn.execute(sa.select(table).order_by(table.c.seq)).mappings().all():
        new = {**row, "settled": 0}
        new["hash"] = previous = ledger.chained(previous, new)
        tx.conn.execute(sa.update(table).where(table.c.seq == row["seq"]).values(**new))
    set_meta(tx, ledger.HEAD, f"9:{previous}")
    assert said(tx) == []
    assert any("the noted head is not in this ledger" in problem for problem in said(tx, noted))


def attempt(tx: Tx, job: str, *, reserved: int, billed: int | None) -> None:
    tx.conn.execute(
        sa.insert(attempts).values(
            job_id=job,
            n=1,
            backend="paid",
            model="paid/clip",
            status="completed",
            resolved="{}",
            decision="{}",
            reason="{}",
            reserved=reserved,
            billed=billed,
            created_at=tx.us,
        )
    )


def test_sums_that_differ_from_the_attempts_show() -> None:
    tx = books()(START)
    for job, billed in (("right", 300), ("less", 200), ("open", None)):
        entry = Entry(job, 1, None, "paid", "paid/clip")
        ledger.reserve(tx, entry, 500, Caps(), UTC_ZONE)
        attempt(tx, job, reserved=500, billed=billed)
        if job != "open":
            ledger.settle(tx, entry, 300, "provider", UTC_ZONE)
    attempt(tx, "unbooked", reserved=0, billed=700)
    ledger.reserve(tx, Entry("orphan", 1, None, "paid", "paid/clip"), 900, Caps(), UTC_ZONE)
    problems = sorted(p.en for p in audit(tx).problems)
    assert [p.split(":")[0] for p in problems] == ["less", "orphan", "unbooked"]
    assert "the ledger says $0.0003 settled and $0.00 reserved, the attempt $0.0002 and $0.00" in problems[0]


def test_the_chain_of_a_database_from_before_keys_still_verifies(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'old.sqlite'}")
    config = Config()
    config.set_main_option("script_location", str(Path(router.__file__).parent / "migrations"))
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0002")
        previous = ledger.GENESIS
        for n in range(3):
            row = {key: None for key in ledger.HASHED} | {
                "at": n,
                "day": "2026-11-21",
                "job_id": f"job{n}",
                "n": 1,
                "backend": "paid",
                "model": "paid/clip",
                "kind": "reserve",
                "reserved": 100,
                "settled": 0,
                "basis": "table",
                "note": "",
            }
            previous = ledger.chained(previous, {**row, "api_key": None})
            conn.execute(
                sa.text(
                    f"INSERT INTO ledger ({', '.join(row)}, hash) VALUES ({', '.join(f':{k}' for k in row)}, :hash)"
                ),
                {**row, "hash": previous},
            )
        command.upgrade(config, "head")
        tx = Tx(conn, datetime.now(UTC))
        assert said(tx) == []
        ledger.reserve(tx, Entry("new", 1, None, "paid", "paid/clip", "ci"), 100, Caps(), UTC_ZONE)
        found = audit(tx)
        assert (found.rows, said(tx)) == (4, [])


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def test_the_audit_runs_on_both_databases(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'ours.sqlite'}"
    if kind == "postgresql":
        new: Callable[[], str] = request.getfixturevalue("postgres")
        url = new()
    db = await Database.open(url)

    def write(tx: Tx) -> None:
        ledger.reserve(tx, Entry("job", 1, "film", "paid", "paid/clip", "ci"), 500, Caps(), UTC_ZONE)
        ledger.settle(tx, Entry("job", 1, "film", "paid", "paid/clip", "ci"), 300, "provider", UTC_ZONE)
        attempt(tx, "job", reserved=500, billed=300)
        attempt(tx, "wrong", reserved=5, billed=None)

    await db.write(write)
    found = await db.read(audit)
    assert found.rows == 2
    assert [p.en.split(":")[0] for p in found.problems] == ["wrong"]
    await db.write(lambda tx: tx.conn.execute(sa.delete(table).where(table.c.kind == "settle")))
    assert any("1 row(s) are missing" in p.en for p in (await db.read(audit)).problems)
    await db.close()


def test_the_tables_and_the_migrations_agree(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ours.sqlite'}")
    config = Config()
    config.set_main_option("script_location", str(Path(router.__file__).parent / "migrations"))
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
    made = sa.inspect(engine)
    for wanted in metadata.sorted_tables:
        assert {c["name"] for c in made.get_columns(wanted.name)} == {c.name for c in wanted.columns}, (
            wanted.name
        )
        assert {i["name"] for i in made.get_indexes(wanted.name)} >= {i.name for i in wanted.indexes}
