"""API keys at the door, over a real gateway: who gets in, whose jobs they see, what never comes out."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.contract.errors import Conflict, InvalidRequest, NotFound, ServerTrouble
from router.gateway import EngineRole, Gateway, Keyring
from router.server.app import serve
from router.settings import Settings
from tests import fakes
from tests.fakes import write_provider
from tests.router.house import serving
from tests.router.media_files import clip
from tests.router.server.conftest import running

BODY: dict[str, Any] = {"prompt": "a fox", "preferences": {"backends": ["paid"]}}


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=12)


@pytest.fixture(autouse=True)
def _studio(clip_file: Path, home: Path) -> Iterator[None]:
    fakes.clips[:] = [clip_file]
    write_provider(home, "paid", usd="0.10")
    yield
    fakes.studios.clear()


def ring(gateway: Gateway) -> Keyring:
    assert gateway.keyring is not None
    return gateway.keyring


class House:
    """A running server and one client for each caller."""

    def __init__(self, gateway: Gateway, url: str) -> None:
        self.gateway = gateway
        self.url = url

    def client(self, secret: str | None = None, **headers: str) -> httpx.AsyncClient:
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)

    async def key(self, name: str, **more: Any) -> httpx.AsyncClient:
        return self.client((await ring(self.gateway).add(name, **more))[1])


@pytest.fixture
async def house(home: Path) -> AsyncIterator[House]:
    gateway = serving(home, server={"token": "owner"})
    async with running(gateway) as url:
        yield House(gateway, url)


@pytest.fixture
async def open_house(home: Path) -> AsyncIterator[House]:
    """Without a token."""
    gateway = serving(home)
    async with running(gateway) as url:
        yield House(gateway, url)


async def done(client: httpx.AsyncClient, job: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            view: dict[str, Any] = (await client.get(f"/v1/videos/{job}")).raise_for_status().json()
            if view["state"] in {"completed", "failed", "cancelled"}:
                return view
            await asyncio.sleep(0.05)


async def create(client: httpx.AsyncClient, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    return await client.post("/v1/videos", json={**BODY, **more}, headers=headers)


async def test_the_first_key_shuts_the_door_and_revoking_the_last_one_does_not_open_it(
    open_house: House,
) -> None:
    async with open_house.client() as anybody:
        assert (await anybody.get("/v1/videos")).status_code == 200
        ci = await open_house.key("ci")
        assert (await anybody.get("/v1/videos")).status_code == 401
        assert (await ci.get("/v1/videos")).status_code == 200
        await ring(open_house.gateway).revoke("ci")
        assert (await ci.get("/v1/videos")).status_code == 401
        assert (await anybody.get("/v1/videos")).status_code == 401
        await ci.aclose()


async def test_a_key_opens_the_api_and_not_the_page(open_house: House) -> None:
    async with await open_house.key("ci") as ci, open_house.client(accept="text/html") as browser:
        for path in ("/", "/gradio_api/queue/join", "/openapi.json"):
            answer = await ci.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), path
        answer = await browser.get("/")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert "UNDERSTUDY_SERVER_TOKEN" in (await browser.get("/login")).text
        assert (await browser.get("/healthz")).status_code == 200


async def test_token_and_keys_stand_side_by_side(house: House) -> None:
    async with house.client("owner") as owner, await house.key("ci") as ci, house.client("us_wrong") as no:
        assert (await owner.get("/v1/videos")).status_code == 200
        assert (await ci.get("/v1/videos")).status_code == 200
        assert (await no.get("/v1/videos")).status_code == 401


async def test_a_key_with_a_project_lives_in_it(house: House) -> None:
    async with house.client("owner") as owner, await house.key("film", project="film") as film:
        mine = (await create(film)).json()
        assert mine["project"] == "film"
        assert (await house.gateway.get(mine["id"])).api_key == "film"
        theirs = (await create(owner, project="news")).json()
        await done(owner, theirs["id"])
        refused = await create(film, project="news")
        assert (refused.status_code, refused.json()["error"]["param"]) == (403, "project")
        plan = await film.post("/v1/videos/plan", json={**BODY, "project": "news"})
        assert plan.status_code == 403
        listed = (await film.get("/v1/videos")).json()["data"]
        assert [view["id"] for view in listed] == [mine["id"]]
        assert (await film.get("/v1/videos", params={"project": "news"})).status_code == 403
        assert (await film.get("/v1/videos", params={"after": theirs["id"]})).status_code == 404
        path = f"/v1/videos/{theirs['id']}"
        for call in (
            film.get(path),
            film.get(f"{path}/route"),
            film.get(f"{path}/events"),
            film.get(f"{path}/content"),
            film.post(f"{path}/cancel"),
            film.delete(path),
            create(
                film,
                task="video-to-video",
                input_references=[{"type": "video", "url": f"job:{theirs['id']}"}],
            ),
        ):
            answer = await call
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
            assert theirs["prompt"] not in answer.text
        assert (await owner.get(path)).json()["state"] == "completed"
        await done(film, mine["id"])
        assert (await film.delete(f"/v1/videos/{mine['id']}")).status_code == 200


async def test_a_key_without_a_project_sees_everything(house: House) -> None:
    async with house.client("owner") as owner, await house.key("all") as all_:
        job = (await create(owner, project="news")).json()["id"]
        assert (await all_.get(f"/v1/videos/{job}")).status_code == 200
        assert (await create(all_, project="anything")).json()["project"] == "anything"


async def test_idempotency_keys_are_each_keys_own(house: House) -> None:
    async with await house.key("one") as one, await house.key("two") as two:
        same = {"Idempotency-Key": "again"}
        first = (await create(one, headers=same)).json()["id"]
        assert (await create(one, headers=same)).json()["id"] == first
        assert (await create(two, headers=same)).json()["id"] != first


@pytest.mark.parametrize("period", ["day_usd", "month_usd"])
async def test_a_keys_budget_is_a_hard_cap_of_its_own(house: House, period: str) -> None:
    async with house.client("owner") as owner, await house.key("ci", **{period: Decimal("0.60")}) as ci:
        first = await done(ci, (await create(ci)).json()["id"])
        assert (first["state"], first["billed_usd"]) == ("completed", "0.50")
        no = await create(ci)
        assert (no.status_code, no.json()["error"]["code"]) == (402, "budget_exceeded")
        assert "'ci' has $0.10 of $0.60 left" in no.json()["error"]["message"]
        japanese = await create(ci, headers={"Accept-Language": "ja"})
        assert "API キー 'ci'" in japanese.json()["error"]["message"]
        assert (await create(owner)).status_code == 200


async def test_a_job_of_a_key_waits_where_its_budget_comes_back_in_time(house: House) -> None:
    async with await house.key("ci", day_usd=Decimal("0.60")) as ci:
        await done(ci, (await create(ci)).json()["id"])
        preferences = {**BODY["preferences"], "deadline": "3d"}
        waiting = (await create(ci, preferences=preferences)).json()["id"]
        async with asyncio.timeout(20):
            while True:
                view = (await ci.get(f"/v1/videos/{waiting}")).json()
                if view["reason"] and "'ci' has" in view["reason"]:
                    break
                await asyncio.sleep(0.1)
        assert view["state"] == "queued"


async def test_what_is_dearer_than_the_whole_budget_is_refused_at_once(house: House) -> None:
    async with await house.key("ci", day_usd=Decimal("0.30")) as ci:
        no = await create(ci, preferences={**BODY["preferences"], "deadline": "3d"})
        assert no.status_code == 402


async def test_a_revoked_key_opens_nothing_and_its_budget_still_binds_its_jobs(house: House) -> None:
    async with house.client("owner") as owner, await house.key("ci", day_usd=Decimal("0.60")) as ci:
        fakes.studio("paid").before_send = asyncio.Event()
        jobs = [(await create(ci)).json()["id"] for _ in range(2)]
        await ring(house.gateway).revoke("ci")
        assert (await ci.get("/v1/videos")).status_code == 401
        fakes.studio("paid").before_send.set()  # type: ignore[union-attr]
        await done(owner, jobs[0])
        await asyncio.sleep(0.5)
        assert len(fakes.studio("paid").tasks) == 1


BAD: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"name": ""}, InvalidRequest),
    ({"name": "-x"}, InvalidRequest),
    ({"name": "a" * 65}, InvalidRequest),
    ({"name": "a b"}, InvalidRequest),
    ({"name": "ok", "project": " "}, InvalidRequest),
    ({"name": "ok", "day_usd": Decimal("-1")}, InvalidRequest),
    ({"name": "ok", "day_usd": Decimal("NaN")}, InvalidRequest),
    ({"name": "ok", "month_usd": Decimal("Infinity")}, InvalidRequest),
    ({"name": "ok", "month_usd": Decimal("1e30")}, InvalidRequest),
    ({"name": "ok", "day_usd": Decimal("0.0000001")}, InvalidRequest),
    ({"name": "there"}, Conflict),
]


@pytest.mark.parametrize(("wish", "error"), BAD)
async def test_a_bad_key_is_refused_in_both_languages(
    home: Path, wish: dict[str, Any], error: type[Exception]
) -> None:
    async with Gateway.open(Settings.load({"UNDERSTUDY_HOME": str(home)}), EngineRole.NONE) as gateway:
        await ring(gateway).add("there")
        with pytest.raises(error) as refused:
            await ring(gateway).add(wish.pop("name"), **wish)
        text = refused.value.message  # type: ignore[attr-defined]
        assert text.en != text.ja
        with pytest.raises(NotFound):
            await ring(gateway).revoke("nobody")


async def test_on_an_address_others_reach_a_key_is_enough(home: Path) -> None:
    settings = Settings.load({"UNDERSTUDY_HOME": str(home), "UNDERSTUDY_LOCAL_ENABLED": "false"})
    with pytest.raises(ServerTrouble, match="understudy keys add"):
        await serve(Gateway.open(settings, EngineRole.SERVE), host="0.0.0.0", port=0)
    async with Gateway.open(settings, EngineRole.NONE) as gateway:
        _, secret = await ring(gateway).add("ci")
    async with running(Gateway.open(settings, EngineRole.SERVE), host="0.0.0.0") as url:
        at = url.replace("0.0.0.0", "127.0.0.1")
        async with httpx.AsyncClient(base_url=at) as client:
            assert (await client.get("/v1/videos")).status_code == 401
            good = {"Authorization": f"Bearer {secret}"}
            assert (await client.get("/v1/videos", headers=good)).status_code == 200


def holding(folder: Path, what: bytes) -> list[str]:
    """Files that hold these bytes."""
    return [path.name for path in folder.rglob("*") if path.is_file() and what in path.read_bytes()]


async def test_a_key_is_in_no_answer_log_or_file(
    house: House, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _, secret = await ring(house.gateway).add("ci", project="film", day_usd=Decimal("0.60"))
    seen = []
    async with house.client(secret) as ci:
        job = (await create(ci)).json()["id"]
        await done(ci, job)
        for path in ("", f"/{job}", f"/{job}/route", f"/{job}/events", "/providers", "/models", "/nothing"):
            seen.append((await ci.get(f"/v1/videos{path}")).text)
        seen.append((await create(ci)).text)
        seen.append((await ci.get("/")).text)
    seen += [repr(await ring(house.gateway).list()), repr(house.gateway.settings), caplog.text]
    assert not any(secret in text or secret[9:] in text for text in seen)
    assert await asyncio.to_thread(holding, home, secret.encode()) == []


async def test_the_route_tells_money_and_basis(house: House) -> None:
    fakes.studio("paid").looks = (fakes.Done(Decimal("0.45")),)
    async with house.client("owner") as owner:
        job = (await create(owner)).json()["id"]
        await done(owner, job)
        (attempt,) = (await owner.get(f"/v1/videos/{job}/route")).json()["attempts"]
    assert (attempt["estimate_usd"], attempt["reserved_usd"], attempt["billed_usd"]) == (
        "0.50",
        "0.50",
        "0.45",
    )
    assert (attempt["bill_basis"], attempt["overrun_usd"], attempt["changed"]) == ("provider", None, [])
    assert [(row["kind"], row["settled_usd"]) for row in attempt["ledger"]] == [
        ("reserve", "0.00"),
        ("settle", "0.45"),
    ]
    assert attempt["decision"]["chosen"]["model"] == "paid/clip"
