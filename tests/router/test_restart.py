"""Gateways that stop and start again over the same store: nothing is bought twice, nothing is lost, budgets hold."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from router import facts, ledger, limits, policy, store
from router.contract import errors
from router.contract.backend import Pending
from router.contract.job import AttemptStatus, Job, Status
from router.contract.words import same
from router.db import Tx
from router.gateway import Gateway
from tests import fakes
from tests.fakes import Done, Refuse, Studio, write_provider
from tests.router.conftest import DatabaseUrl
from tests.router.house import ask, end, kinds, serving, settings, until

Studios = Callable[[str], Studio]


async def test_a_restart_while_it_runs_goes_on_with_the_same_task(
    home: Path, new_database: DatabaseUrl, studios: Studios
) -> None:
    write_provider(home, "paid")
    url = new_database()
    studios("paid").looks = (Pending(0.4),)
    async with serving(home, url) as gateway:
        job = await gateway.submit(ask("paid"))
        await until(gateway, job, lambda seen: seen.progress >= 0.4)
    studios("paid").tasks[0].then(Done())
    async with serving(home, url) as gateway:
        job = await end(gateway, job)
    assert (job.status, len(job.attempts), studios("paid").posts) == (Status.COMPLETED, 1, 1)


async def started_but_not_sent(gateway: Gateway) -> Job:
    """What a crash leaves between the transaction that starts an attempt and the call that spends."""
    job = await gateway.submit(ask("paid"))
    async with asyncio.timeout(10):
        (waiting,) = await gateway._db.read(lambda tx: store.load_waiting(tx, store.waiting(tx, 10)))

    def begin(tx: Tx) -> None:
        snapshot = facts.take(tx, gateway.settings, gateway._catalog, gateway._backends)
        choice = policy.decide(snapshot, facts.ask(waiting.job, waiting.inputs, gateway._catalog))
        assert choice.resolved is not None
        n = store.begin_attempt(tx, waiting.job, choice.resolved, choice.decision, choice.reserve)
        assert n == 1
        entry = ledger.Entry(job.id, n, None, "paid", "paid/clip")
        ledger.reserve(tx, entry, choice.reserve, ledger.Caps(), gateway.settings.budget.zone)
        limits.take(tx, ("paid/clip", "paid"), job.id, n)

    await gateway._db.write(begin)
    return job


async def test_an_attempt_that_was_not_sent_yet_is_sent_once_after_the_restart(
    home: Path, new_database: DatabaseUrl, studios: Studios
) -> None:
    write_provider(home, "paid")
    url = new_database()
    async with Gateway.open(settings(home, url)) as gateway:
        job = await started_but_not_sent(gateway)
    async with serving(home, url) as gateway:
        job = await end(gateway, job)
        assert (await gateway.spend()).day_spent_usd == Decimal("0.5")
    assert (job.status, len(job.attempts), studios("paid").posts) == (Status.COMPLETED, 1, 1)


async def test_an_attempt_that_may_have_been_sent_is_not_sent_by_the_next_process(
    home: Path, new_database: DatabaseUrl, studios: Studios
) -> None:
    write_provider(home, "paid")
    url = new_database()
    async with Gateway.open(settings(home, url)) as gateway:
        job = await started_but_not_sent(gateway)
        await gateway._db.write(lambda tx: store.move_attempt(tx, job.id, 1, AttemptStatus.SENDING))
    async with serving(home, url) as gateway:
        job = await end(gateway, job)
    assert (job.status, job.reserved_usd, studios("paid").posts) == (Status.UNRESOLVED, Decimal("0.5"), 0)


@pytest.mark.parametrize("period", ["day_usd", "month_usd"])
async def test_twenty_jobs_at_once_never_overspend_a_budget(
    home: Path, new_database: DatabaseUrl, studios: Studios, period: str
) -> None:
    write_provider(home, "paid")
    studios("paid").looks = (Pending(0.1),)
    async with serving(home, new_database(), budget={period: "1.00"}) as gateway:
        answers = await asyncio.gather(
            *(gateway.submit(ask("paid", preferences={"deadline": "30d"})) for _ in range(20)),
            return_exceptions=True,
        )
        for answer in answers:
            assert isinstance(answer, Job | errors.BudgetExceeded), answer
        jobs = [job for job in answers if isinstance(job, Job)]
        async with asyncio.timeout(15):
            while len(studios("paid").tasks) < 2:
                await gateway._db.pulse.wait(gateway._db.pulse.count, 0.2)
        for task in list(studios("paid").tasks):
            task.then(Done())
        async with asyncio.timeout(15):
            while (await gateway.spend()).day_spent_usd != 1 or len(
                [j for j in [await gateway.get(j.id) for j in jobs] if j.status is Status.COMPLETED]
            ) != 2:
                await gateway._db.pulse.wait(gateway._db.pulse.count, 0.2)
        assert fakes.accepted(["paid"]) == 2
        with pytest.raises(errors.BudgetExceeded):
            await gateway.submit(ask("paid", preferences={"deadline": "1s"}))


async def test_a_projects_budget_binds_that_project_alone(
    home: Path, new_database: DatabaseUrl, studios: Studios
) -> None:
    write_provider(home, "paid")
    async with serving(home, new_database(), budget={"project_day_usd": {"film": "0.60"}}) as gateway:
        await end(gateway, await gateway.submit(ask("paid", project="film")))
        with pytest.raises(errors.BudgetExceeded):
            await gateway.submit(ask("paid", project="film", preferences={"deadline": "1s"}))
        job = await end(gateway, await gateway.submit(ask("paid", project="other")))
        assert job.status is Status.COMPLETED


async def test_an_accepted_task_is_not_forgotten_when_the_disk_is_full_as_its_answer_arrives(
    home: Path, studios: Studios
) -> None:
    write_provider(home, "paid")
    send = studios("paid").before_send = asyncio.Event()
    async with serving(home) as gateway:
        job = await gateway.submit(ask("paid"))
        await asyncio.wait_for(studios("paid").reached.wait(), 15)
        full = (
            "CREATE TRIGGER full BEFORE UPDATE ON attempts WHEN NEW.status = 'running' "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
        await gateway._db.write(lambda tx: tx.conn.exec_driver_sql(full))
        send.set()
        async with asyncio.timeout(15):
            while not studios("paid").posts:
                await gateway._db.pulse.wait(gateway._db.pulse.count, 0.1)
            await gateway._db.pulse.wait(gateway._db.pulse.count, 0.5)
        await gateway._db.write(lambda tx: tx.conn.exec_driver_sql("DROP TRIGGER full"))
        job = await end(gateway, job)
        assert (job.status, len(job.attempts), studios("paid").posts) == (Status.COMPLETED, 1, 1)


async def test_a_clip_that_finds_the_disk_full_waits_and_is_not_failed(home: Path, studios: Studios) -> None:
    write_provider(home, "paid")
    studios("paid").fetches.append(errors.StorageFull(same("full")))
    async with serving(home) as gateway:
        job = await gateway.submit(ask("paid"))
        async with asyncio.timeout(15):
            while "trouble" not in await kinds(gateway, job):
                await gateway._db.pulse.wait(gateway._db.pulse.count, 0.2)
        job = await gateway.get(job.id)
        assert (job.status, job.error) == (Status.FETCHING, None)
    async with serving(home) as gateway:
        job = await end(gateway, job)
    assert (job.status, studios("paid").posts) == (Status.COMPLETED, 1)


async def test_an_accepted_task_that_never_ends_is_given_up_and_its_money_is_the_tables(
    home: Path, studios: Studios
) -> None:
    write_provider(home, "paid", longest_s=0.2)
    write_provider(home, "stubborn", longest_s=0.2)
    for name in ("paid", "stubborn"):
        studios(name).looks = (Pending(0.1),)
    studios("stubborn").cancels.append(False)
    async with serving(home) as gateway:
        job = await end(gateway, await gateway.submit(ask("paid")))
        assert job.error is not None
        assert (job.status, job.error.code, job.billed_usd) == (Status.FAILED, "timeout", Decimal("0.5"))
        job = await end(gateway, await gateway.submit(ask("stubborn")))
        assert (job.status, job.reserved_usd) == (Status.UNRESOLVED, Decimal("0.5"))


async def test_the_demo_model_stands_in_only_when_named_or_when_nothing_else_is_set_up(
    home: Path, studios: Studios
) -> None:
    write_provider(home, "paid")
    write_provider(home, "toy", usd="0", where="house", demo=True)
    studios("paid").submits.append(Refuse(errors.Unavailable(same("503"))))
    async with Gateway.open(settings(home)) as gateway:
        plan = await gateway.plan(ask(preferences={"mode": "cheapest"}))
        assert plan.chosen is not None and plan.chosen.backend == "paid"
        assert [r.code for r in plan.rejected if r.backend == "toy"] == ["demo"]
        plan = await gateway.plan(ask(model="toy/clip"))
        assert plan.chosen is not None and plan.chosen.backend == "toy"
    async with Gateway.open(settings(home, local={"demo_model": True})) as gateway:
        plan = await gateway.plan(ask(preferences={"mode": "cheapest"}))
        assert plan.chosen is not None and plan.chosen.backend == "toy"
    off = settings(home).model_copy(update={"providers": {"paid": {"enabled": False}}})
    async with Gateway.open(off) as gateway:
        plan = await gateway.plan(ask())
        assert plan.chosen is not None and plan.chosen.backend == "toy"


async def test_a_backup_of_a_running_engine_is_restored_into_an_empty_place(
    home: Path, tmp_path: Path, new_database: DatabaseUrl, studios: Studios
) -> None:
    write_provider(home, "paid")
    studios("paid").looks = (Pending(0.2),)
    async with serving(home, new_database()) as gateway:
        running = await gateway.submit(ask("paid"))
        await until(gateway, running, lambda seen: seen.progress >= 0.2)
        told = await gateway.backup(tmp_path / "backup.tar.gz", media=True)
        assert told["media"] is True
        before = [job.model_dump() for job in (await gateway.list()).jobs]
        spent = await gateway.spend()
        with pytest.raises(errors.Conflict):
            await gateway.backup(tmp_path / "backup.tar.gz")
        with pytest.raises(errors.Conflict):
            await Gateway.restore(gateway.settings, tmp_path / "backup.tar.gz")
    other = tmp_path / "other"
    other.mkdir()
    write_provider(other, "paid")
    url = new_database()
    await Gateway.restore(settings(other, url), tmp_path / "backup.tar.gz")
    async with Gateway.open(settings(other, url)) as gateway:
        assert [job.model_dump() for job in (await gateway.list()).jobs] == before
        assert await gateway.spend() == spent
        assert (await gateway.verify_ledger())["problems"] == []
    studios("paid").tasks[0].then(Done())
    studios("paid").looks = (Done(),)
    async with serving(other, url) as gateway:
        assert (await end(gateway, running)).status is Status.COMPLETED
        again = await end(gateway, await gateway.submit(ask("paid", prompt="another")))
        assert again.created_at < datetime.now(UTC)
        assert (await gateway.verify_ledger())["problems"] == []
    assert studios("paid").posts == 2


async def test_a_backup_without_media_can_be_opened_where_it_was_restored(
    home: Path, tmp_path: Path, studios: Studios
) -> None:
    write_provider(home, "paid")
    async with serving(home) as gateway:
        job = await end(gateway, await gateway.submit(ask("paid")))
        await gateway.backup(tmp_path / "backup.tar.gz")
    other = tmp_path / "with # and % in it"
    await Gateway.restore(settings(other), tmp_path / "backup.tar.gz")
    async with Gateway.open(settings(other)) as gateway:
        assert (await gateway.get(job.id)).status is Status.COMPLETED
        with pytest.raises(errors.NotFound):
            await gateway.content(job.id)
        await gateway.backup(tmp_path / "second.tar.gz")


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
async def test_a_damaged_archive_is_named_as_such_and_leaves_nothing(
    home: Path, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "backup.tar.gz"
    async with Gateway.open(settings(home)) as gateway:
        await gateway.backup(file)
    data = bytearray(file.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flipped":
        data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    else:
        data = bytearray(b"not an archive")
    file.write_bytes(data)
    other = tmp_path / "other"
    with pytest.raises(errors.InvalidRequest):
        await Gateway.restore(settings(other), file)
    assert not (other / "understudy.sqlite").exists()
