"""A provider from outside this repository: two files in temporary folders, found at run time, carry a job."""

import sys
from decimal import Decimal
from pathlib import Path

import pytest

from router.contract.job import Status
from router.gateway import EngineRole, Gateway
from router.settings import Settings
from tests.router.house import ask, end, until
from tests.scripted_server import ScriptedServer, Seen, reply
from tests.test_docs import GUIDE, blocks

KEY = "acme-key-123456"


@pytest.fixture
def acme(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's own two files, as a user would lay them down: TOML in the data folder, code in a package of theirs."""
    (data,) = blocks(GUIDE, "toml")
    (code,) = blocks(GUIDE, "python")
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "acme_video.py").write_text(code, encoding="utf-8")
    (home / "providers").mkdir()
    text = data.replace("api_providers.acme:Acme", "acme_video:Acme")
    assert text != data
    (home / "providers" / "acme.toml").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "acme_video", raising=False)


async def test_a_provider_added_at_run_time_is_planned_priced_and_called(home: Path, acme: None) -> None:
    def answer(seen: Seen) -> bytes:
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        if seen.method == "POST":
            assert seen.target == "/v1/tasks"
            body = seen.json
            assert (body["model"], body["prompt"], body["seconds"]) == ("reel-2", "a red ball", 5)
            return reply(200, {"id": "t-1"})
        return reply(200, {"id": "t-1", "status": "running", "percent": 40})

    async with ScriptedServer([answer]) as server:
        environ = {
            "UNDERSTUDY_HOME": str(home),
            "UNDERSTUDY_LOCAL_ENABLED": "false",
            "ACME_API_KEY": KEY,
        }
        own = f'[providers.acme]\nbase_url = "{server.url}"\n'
        (home / "understudy.toml").write_text(own, encoding="utf-8")
        async with Gateway.open(Settings.load(environ), EngineRole.SERVE) as gateway:
            assert gateway.problems == ()
            row = next(row for row in await gateway.providers() if row.name == "acme")
            assert (row.key_present, row.problem, row.models) == (True, None, 1)
            decision = await gateway.plan(ask("acme"))
            assert decision.chosen is not None and decision.chosen.usd == Decimal("0.25")
            job = await gateway.submit(ask("acme"))
            seen = await until(gateway, job, lambda seen: seen.status in {Status.RUNNING, Status.FETCHING})
            assert seen.attempts[-1].operation is not None and seen.attempts[-1].operation.ref == "t-1"


async def test_in_a_rehearsal_its_clip_comes_home(home: Path, acme: None, clip_file: Path) -> None:
    toml = home / "providers" / "acme.toml"
    toml.write_text(
        toml.read_text(encoding="utf-8").replace(
            'name = "acme"\n', 'name = "acme"\nsandbox_path = "/acme"\n', 1
        ),
        encoding="utf-8",
    )

    def answer(seen: Seen) -> bytes:
        if seen.method == "POST":
            return reply(200, {"id": "t-1"})
        if seen.target.startswith("/acme/clips/"):
            assert "authorization" not in seen.headers
            return reply(200, clip_file.read_bytes())
        return reply(
            200, {"id": "t-1", "status": "succeeded", "video_url": f"{server.url}/acme/clips/t-1.mp4"}
        )

    async with ScriptedServer([answer]) as server:
        environ = {
            "UNDERSTUDY_HOME": str(home),
            "UNDERSTUDY_LOCAL_ENABLED": "false",
            "UNDERSTUDY_SANDBOX_URL": server.url,
        }
        async with Gateway.open(Settings.load(environ), EngineRole.SERVE) as gateway:
            done = await end(gateway, await gateway.submit(ask("acme")))
    assert done.status is Status.COMPLETED
    assert (done.model, done.billed_usd) == ("acme/reel-2", Decimal("0.25"))
