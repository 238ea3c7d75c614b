"""How soon, and for how much, many clips like one could be done: at the command line and over HTTP, nothing written."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

import router.cli as cli
from router.gateway import EngineRole, Gateway
from tests.fakes import write_provider
from tests.router.house import ask, settings
from tests.router.server.conftest import running

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def offers(home: Path) -> None:
    """A slow cheap provider with one place, and a dear one with as many as anybody wants."""
    write_provider(home, "cheap", usd="0.01", limits="max_in_flight = 1")
    write_provider(home, "dear", usd="0.10")


@pytest.fixture
def run(home: Path, offers: None, capsys: pytest.CaptureFixture[str]) -> Run:
    def go(*argv: str) -> tuple[int, str, str]:
        env = {"UNDERSTUDY_HOME": str(home), "UNDERSTUDY_LOCAL_ENABLED": "false"}
        only = ("--backend", "cheap", "--backend", "dear")
        code = cli.main([*argv, *only], environ=env)
        said = capsys.readouterr()
        return code, said.out, said.err

    return go


async def test_waiting_longer_costs_less_and_a_budget_moves_the_soonest_end(home: Path, offers: None) -> None:
    request = ask("cheap", "dear")
    async with Gateway.open(settings(home), EngineRole.NONE) as gateway:
        found = await gateway.finishes(request, count=30)
        bills = [finish.micros for finish in found]
        assert len(bills) >= 2
        assert bills == sorted(bills, reverse=True)
        assert all(sum(share.jobs for share in finish.shares) == 30 for finish in found)
        budget = Decimal(bills[0] + bills[-1]) / 2_000_000
        first = (await gateway.finishes(request, count=30, budget_usd=budget))[0]
        assert bills[-1] <= first.micros <= budget * 1_000_000
        assert first.at - found[0].at > timedelta(seconds=1)
        assert (await gateway.list()).jobs == ()


def test_the_command_line_shows_each_end_with_its_price_and_its_makers(run: Run) -> None:
    code, out, _ = run("plan", "a boat", "--count", "30")
    assert code == 0
    assert "cheap/clip × " in out and "dear/clip × " in out and "--mode cheapest" in out
    rows = json.loads(run("plan", "a boat", "--count", "30", "--json")[1])["finishes"]
    assert [sum(share["jobs"] for share in row["shares"]) for row in rows] == [30] * len(rows)
    assert [Decimal(row["usd"]) for row in rows] == sorted((Decimal(r["usd"]) for r in rows), reverse=True)
    assert all(datetime.fromisoformat(row["done_by"]).tzinfo for row in rows)
    assert "finishes" not in json.loads(run("plan", "a boat", "--json")[1])


def test_what_the_budget_does_not_hold_is_said_with_the_least_that_would(run: Run) -> None:
    code, out, err = run("plan", "a boat", "--count", "30", "--budget", "0.20")
    assert code == 0
    assert "does not hold 30 such clips; the cheapest way costs $1" in out + err
    code, out, err = run("--lang", "ja", "plan", "a boat", "--count", "30", "--budget", "0.20")
    assert "この予算では 30 本を作成できません" in out + err
    assert (
        json.loads(run("plan", "a boat", "--count", "30", "--budget", "0.20", "--json")[1])["finishes"] == []
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--count", "0"), "from 1 to 5000"),
        (("--count", "5001"), "from 1 to 5000"),
        (("--budget", "3"), "--count"),
        (("--count", "5", "--budget", "-1"), "--budget"),
        (("--count", "5", "--budget", "1e9"), "1,000,000"),
        (("--count", "many"), "--count"),
    ],
)
def test_absurd_numbers_are_refused_in_words(run: Run, options: tuple[str, ...], said: str) -> None:
    code, out, err = run("plan", "a boat", *options)
    assert (code, out) == (2, "")
    assert said in err


async def test_the_http_door_answers_the_same_and_refuses_the_same(home: Path, offers: None) -> None:
    body = {"prompt": "a boat", "preferences": {"backends": ["cheap", "dear"]}}
    gateway = Gateway.open(settings(home), EngineRole.NONE)
    async with running(gateway) as url, httpx.AsyncClient(base_url=url) as client:
        plain = (await client.post("/v1/videos/plan", json=body)).json()
        assert plain["chosen"] is not None and "finishes" not in plain
        rows = (await client.post("/v1/videos/plan?count=30", json=body)).json()["finishes"]
        assert len(rows) >= 2 and all(row["usd"] for row in rows)
        poor = await client.post("/v1/videos/plan?count=30&budget_usd=0.2", json=body)
        assert poor.json()["finishes"] == []
        for query, param in (
            ("count=0", "count"),
            ("budget_usd=3", "budget_usd"),
            ("count=5&budget_usd=-1", "budget_usd"),
            ("count=x", "count"),
            ("counts=3", "counts"),
        ):
            answer = await client.post(f"/v1/videos/plan?{query}", json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), query
