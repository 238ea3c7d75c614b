"""Kling against its twin in both of its APIs, and against bodies written down from its documentation."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from api_providers.kling import Kling, external
from router.catalog import Catalog
from router.contract import errors
from router.contract.backend import Completed, Finds, Operation, Pending
from router.contract.card import InputMedia, ModelCard
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import RENDER_S, BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

PAIR = f"{SECRET}:{SECRET}"
TEXT_AT = "v1/videos/text2video"
LEGACY = Operation(ref="870001", data={"at": TEXT_AT})
NEW = Operation(ref="893605", data={"at": "tasks"})
CREATED = {
    "code": 0,
    "message": "SUCCEED",
    "request_id": "r-1",
    "data": {
        "task_id": "870001",
        "task_status": "submitted",
        "task_info": {"external_task_id": "job-7"},
        "created_at": 1788000000000,
        "updated_at": 1788000000000,
    },
}


def legacy_task(status: str, **fields: Any) -> dict[str, Any]:
    """The documented answer to a look in `/v1`."""
    data = {
        "task_id": "870001",
        "task_status": status,
        "task_status_msg": "",
        "task_info": {"external_task_id": "job-7"},
        "watermark_info": {"enabled": False},
        "created_at": 1788000000000,
        "updated_at": 1788000120000,
        **fields,
    }
    return {"code": 0, "message": "SUCCEED", "request_id": "r-2", "data": data}


def new_task(status: str, **fields: Any) -> dict[str, Any]:
    """The documented answer of `GET /tasks`."""
    row = {"id": "893605", "status": status, "message": "", "external_id": "job-7", "outputs": [], **fields}
    return {"code": 0, "message": "SUCCEED", "request_id": "r-3", "data": [row]}


VIDEO = {"id": "v-1", "url": "https://cdn.example/v.mp4", "watermark_url": "", "duration": "5.1"}
LEGACY_DONE: dict[str, Any] = {"task_result": {"videos": [VIDEO]}, "final_unit_deduction": "2.5"}
NEW_DONE: dict[str, Any] = {
    "outputs": [{"type": "image", "url": "https://cdn.example/i.png"}, {"type": "video", **VIDEO}],
    "billing": [{"charge_type": "unit", "package_type": "video", "amount": "2.5"}],
}


class KlingSuite(BackendSuite):
    kind = Kling
    twin = "kling"
    text_model = "kling/2.5-turbo-std"
    image_model = "kling/2.6-pro"
    tells_cost = True
    cannot: ClassVar[Mapping[str, str]] = {
        "the_clip_over_the_providers_concurrency_waits_in_its_queue": "Kling has no queue: it refuses (1303)"
    }

    def dead_link(self, url: str) -> str:
        return url.partition("?")[0] + "?x-expires=1&x-signature=0"

    def source_model(self, card: ModelCard) -> str:
        return "kling/v1-camera"

    async def test_over_its_concurrency_it_refuses_and_we_wait(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("kling", render_seconds=600, concurrency=1)
        await backend.submit(text, key="job:a1")
        with pytest.raises(errors.RateLimited, match="parallel task over resource pack limit"):
            await backend.submit(text, key="job:a2")
        assert len(sandbox.bill("kling")) == 1

    async def test_our_attempt_stands_on_the_bill(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        await backend.submit(text, key="job_01abc:a1")
        assert sandbox.bill("kling")[0]["client_ref"] == "job_01abc-a1"

    async def test_the_video_keeps_its_own_id(self, backend: Any, text: Any) -> None:
        operation = await backend.submit(text, key="job:a1")
        done = await self.finish(backend, operation)
        assert set(done.details) == {"video_id", "at"}
        assert done.details["video_id"] not in {operation.ref, "", None}
        assert done.details["at"] == operation.data["at"]

    async def test_only_its_own_oldest_clips_can_be_extended(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        made = await backend.submit(resolve("kling/2.5-turbo-std"), key="job:a1")
        done = await self.finish(backend, made)
        source = own(media.clip(), made, done)
        with pytest.raises(errors.InvalidRequest, match="does not support extension"):
            await backend.submit(
                resolve("kling/v1-6-extend", task="extend", references=[source]), key="job:a2"
            )
        assert len(sandbox.bill("kling")) == 1


class TestKling(KlingSuite):
    key = PAIR
    statuses: ClassVar[Mapping[str, Stands]] = {
        "submitted": "queued",
        "processing": "running",
        "succeed": "done",
        "failed": errors.GenerationFailed,
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref, data={"at": TEXT_AT})

    def status_body(self, status: str) -> dict[str, Any]:
        return legacy_task(status, **(LEGACY_DONE if status == "succeed" else {}))


class TestKlingNewApi(KlingSuite):
    key = SECRET
    statuses: ClassVar[Mapping[str, Stands]] = {
        "submitted": "queued",
        "processing": "running",
        "succeeded": "done",
        "failed": errors.GenerationFailed,
    }

    @pytest.fixture
    def backend(self, make: MakeBackend, sandbox: SandboxProcess) -> Any:
        sandbox.settings("kling", render_seconds=RENDER_S)
        return make(Kling, f"{sandbox.url}/kling", key=SECRET, api="new")

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref, data={"at": "tasks"})

    def status_body(self, status: str) -> dict[str, Any]:
        return new_task(status, **(NEW_DONE if status == "succeeded" else {}))


def own(clip: InputMedia, made: Operation, done: Completed) -> InputMedia:
    """That clip as the result of an earlier job."""
    told = {"source_backend": "kling", "source_ref": made.ref, "source_data": done.details}
    return clip.model_copy(update=told)


def earlier(media: FolderMedia, seconds: float = 5) -> InputMedia:
    done = Completed((), details={"video_id": "v-1", "at": TEXT_AT})
    return own(media.clip(seconds), LEGACY, done)


# -- keys


async def test_an_unknown_api_is_a_mistake_in_the_settings(make: MakeBackend) -> None:
    with pytest.raises(errors.ServerTrouble, match='"legacy" or "new"'):
        make(Kling, api="newest")


async def test_a_pair_does_not_open_the_new_api_and_the_message_says_what_does(
    make: MakeBackend, resolve: Resolve
) -> None:
    async with ScriptedServer([reply(200, CREATED)]) as server:
        backend = make(Kling, server.url, key="access:secret", sandbox=False)
        with pytest.raises(errors.AuthenticationFailed, match="set KLING_API_KEY") as caught:
            await backend.submit(resolve("kling/3.0-turbo-std"), key="job:a1")
        assert server.seen == []
    assert "KLING_API_KEY を設定" in caught.value.text("ja")
    assert caught.value.retry_after == 1.0


def claims(authorization: str) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Header and claims of a token, and whether it was signed with `secret`, all without the library."""
    token = authorization.removeprefix("Bearer ")
    head, body, signature = token.split(".")
    right = hmac.new(b"secret", f"{head}.{body}".encode(), hashlib.sha256).digest()
    opened = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, body)]
    return opened[0], opened[1], base64.urlsafe_b64encode(right).decode().rstrip("=") == signature


async def test_a_pair_signs_a_token_with_exactly_three_claims_and_keeps_it_until_near_its_end(
    make: MakeBackend,
) -> None:
    async with ScriptedServer([reply(200, legacy_task("processing"))]) as server:
        backend = make(Kling, server.url, key="access:secret")
        for now in (10_000.9, 11_400, 11_501, 11_000):
            backend.now = lambda now=now: now
            await backend.poll(LEGACY)
        tokens = [seen.headers["authorization"] for seen in server.seen]
    header, told, good = claims(tokens[0])
    assert good
    assert header == {"alg": "HS256", "typ": "JWT"}
    assert told == {"iss": "access", "exp": 11_800, "nbf": 9_995}
    assert tokens[1] == tokens[0]
    assert claims(tokens[2])[1]["exp"] == 13_301, "less than five minutes were left"
    assert claims(tokens[3])[1]["exp"] == 12_800, "the clock was set back"


async def test_a_single_key_goes_as_it_is(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, legacy_task("processing"))]) as server:
        await make(Kling, server.url, key="api-key-kling-1").poll(LEGACY)
        assert server.seen[0].headers["authorization"] == "Bearer api-key-kling-1"


async def test_a_token_said_to_have_expired_is_replaced_once(make: MakeBackend) -> None:
    expired = reply(401, {"code": 1004, "message": "Authorization has expired"})
    async with ScriptedServer([expired, reply(200, legacy_task("processing")), expired]) as server:
        backend = make(Kling, server.url, key="access:secret")
        moments = iter(range(1000, 2000))
        backend.now = lambda: next(moments)
        assert isinstance(await backend.poll(LEGACY), Pending)
        first, second = (seen.headers["authorization"] for seen in server.seen)
        assert first != second
        with pytest.raises(errors.AuthenticationFailed):
            await backend.poll(LEGACY)
        assert len(server.seen) == 4


async def test_the_call_that_spends_is_not_sent_again_after_an_expired_token(
    make: MakeBackend, resolve: Resolve
) -> None:
    async with ScriptedServer([reply(401, {"code": 1004, "message": "expired"})]) as server:
        with pytest.raises(errors.AuthenticationFailed):
            await make(Kling, server.url, key="a:b").submit(resolve("kling/2.6-pro"), key="job:a1")
        assert len(server.seen) == 1


# -- codes


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        *[(401, code, errors.AuthenticationFailed) for code in range(1000, 1005)],
        *[(429, code, errors.QuotaExhausted) for code in (1100, 1101, 1102)],
        (403, 1103, errors.BackendError),
        (400, 1200, errors.InvalidRequest),
        (400, 1201, errors.InvalidRequest),
        (404, 1202, errors.BackendError),
        (404, 1203, errors.BackendError),
        (400, 1300, errors.ContentRejected),
        (400, 1301, errors.ContentRejected),
        (429, 1302, errors.RateLimited),
        (429, 1303, errors.RateLimited),
        (429, 1304, errors.AuthenticationFailed),
        (500, 5000, errors.Unavailable),
        (503, 5001, errors.Unavailable),
        (504, 5002, errors.OutcomeUnknown),
    ],
)
async def test_each_code_has_its_meaning_also_inside_200(
    make: MakeBackend, resolve: Resolve, status: int, code: int, error: type[errors.GatewayError]
) -> None:
    body = {"code": code, "message": "as documented", "request_id": "r"}
    inside = errors.OutcomeUnknown if code >= 5000 else error
    for answer, meaning in ((reply(status, body), error), (reply(200, body), inside)):
        async with ScriptedServer([answer]) as server:
            with pytest.raises(meaning) as caught:
                await make(Kling, server.url).submit(resolve("kling/2.6-pro"), key="job:a1")
            assert type(caught.value) is meaning
            assert len(server.seen) == 1


@pytest.mark.parametrize("code", [5000, 1999, "1999"])
async def test_while_polling_a_strange_code_inside_200_means_look_again(
    make: MakeBackend, code: int | str
) -> None:
    async with ScriptedServer([reply(200, {"code": code, "message": "hm"})]) as server:
        for operation in (LEGACY, NEW):
            with pytest.raises(errors.UnexpectedResponse):
                await make(Kling, server.url).poll(operation)


async def test_a_bare_404_is_no_lost_task_and_no_proof_that_nothing_was_bought(
    make: MakeBackend, resolve: Resolve
) -> None:
    async with ScriptedServer([reply(404, b"<html>not here</html>")]) as server:
        backend = make(Kling, server.url)
        with pytest.raises(errors.BackendError) as caught:
            await backend.poll(LEGACY)
        assert not isinstance(caught.value, errors.ENDS_ACCEPTED)
        with pytest.raises(errors.BackendError):
            await backend.find(resolve("kling/2.6-pro"), key="job:a1", since=datetime.now(UTC))


async def test_a_created_task_without_an_id_is_in_doubt(make: MakeBackend, resolve: Resolve) -> None:
    for body in ({"code": 0, "message": "SUCCEED", "data": None}, {"code": 0, "data": {"task_id": ""}}):
        async with ScriptedServer([reply(200, body)]) as server:
            with pytest.raises(errors.OutcomeUnknown):
                await make(Kling, server.url).submit(resolve("kling/2.6-pro"), key="job:a1")


async def test_an_id_that_is_a_number_loses_no_task(make: MakeBackend, resolve: Resolve) -> None:
    async with ScriptedServer([reply(200, {"code": 0, "data": {"task_id": 870001}})]) as server:
        operation = await make(Kling, server.url).submit(resolve("kling/2.6-pro"), key="job:a1")
    assert (operation.ref, operation.data["at"]) == (LEGACY.ref, TEXT_AT)


# -- how it ends, and what it cost

ODD_AMOUNTS: tuple[Any, ...] = (None, "", "many", "NaN", "-1", True, [])


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("Failure to pass the risk control system", errors.ContentRejected),
        ("Sensitive content detected", errors.ContentRejected),
        ("触发平台的内容风控", errors.ContentRejected),
        ("Internal error", errors.GenerationFailed),
        ("", errors.GenerationFailed),
    ],
)
async def test_the_reason_of_a_failure_says_whose_it_is(
    make: MakeBackend, reason: str, error: type[errors.GatewayError]
) -> None:
    legacy = legacy_task("failed", task_status_msg=reason, final_unit_deduction="0")
    new = new_task("failed", message=reason, billing=[{"charge_type": "unit", "amount": "0"}])
    for operation, body in ((LEGACY, legacy), (NEW, new)):
        async with ScriptedServer([reply(200, body)]) as server:
            with pytest.raises(error) as caught:
                await make(Kling, server.url).poll(operation)
        assert type(caught.value) is error
        assert caught.value.billed_usd == 0


@pytest.mark.parametrize(
    ("told", "usd"),
    [
        ({"final_unit_deduction": "2.5"}, "0.350"),
        ({"final_unit_deduction": 2.5}, "0.350"),
        ({"final_unit_deduction": "0"}, "0"),
        ({"final_unit_deduction": "0", "final_balance_deduction": {"quota": "1.75"}}, None),
        ({"final_unit_deduction": "2.5", "final_balance_deduction": {"quota": "0"}}, "0.350"),
        *[({"final_unit_deduction": odd}, None) for odd in ODD_AMOUNTS],
        ({"billing": [{"charge_type": "unit", "amount": "2.5"}]}, "0.350"),
        ({"billing": [{"charge_type": "cash", "amount": "0.35", "currency": "USD"}]}, "0.35"),
        ({"billing": [{"charge_type": "cash", "amount": "2.5", "currency": "CNY"}]}, None),
        (
            {
                "billing": [
                    {"charge_type": "unit", "amount": "1"},
                    {"charge_type": "cash", "amount": "0.1", "currency": "USD"},
                ]
            },
            "0.24",
        ),
        ({"billing": "2.5"}, None),
        ({"billing": [None]}, None),
        ({"billing": []}, None),
    ],
)
async def test_only_what_is_told_in_units_or_dollars_is_the_bill(
    make: MakeBackend, told: dict[str, Any], usd: str | None
) -> None:
    fields = {"task_result": {"videos": [VIDEO]}, **told}
    async with ScriptedServer([reply(200, legacy_task("succeed", **fields))]) as server:
        done = await make(Kling, server.url).poll(LEGACY)
    assert isinstance(done, Completed)
    assert done.billed_usd == (None if usd is None else Decimal(usd))


async def test_a_task_that_is_not_known_yet_is_not_lost(make: MakeBackend, resolve: Resolve) -> None:
    unknown = reply(400, {"code": 1201, "message": "Task not found"})
    async with ScriptedServer([reply(200, CREATED), unknown]) as server:
        backend = make(Kling, server.url)
        backend.now = lambda: 1000.0
        operation = await backend.submit(resolve("kling/2.6-pro"), key="job:a1")
        backend.now = lambda: 1059.0
        with pytest.raises(errors.UnexpectedResponse, match="does not show this new task yet"):
            await backend.poll(operation)
        backend.now = lambda: 1060.0
        with pytest.raises(errors.OperationLost):
            await backend.poll(operation)


async def test_a_success_without_a_clip_is_looked_at_again(make: MakeBackend) -> None:
    for operation, body in ((LEGACY, legacy_task("succeed")), (NEW, new_task("succeeded"))):
        async with ScriptedServer([reply(200, body)]) as server:
            with pytest.raises(errors.UnexpectedResponse):
                await make(Kling, server.url).poll(operation)


async def test_a_task_is_asked_for_where_it_was_made(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, legacy_task("processing"))]) as server:
        await make(Kling, server.url, api="new").poll(Operation(ref="8/../1", data={"at": TEXT_AT}))
        assert server.seen[0].target == "/v1/videos/text2video/8%2F..%2F1"
    async with ScriptedServer([reply(200, new_task("processing"))]) as server:
        await make(Kling, server.url).poll(NEW)
        assert server.seen[0].target == "/tasks?task_ids=893605"


# -- finding again


def test_our_id_is_made_of_plain_characters() -> None:
    assert external("job_01abc:a1") == "job_01abc-a1"
    assert external("a/b?c=d.e ü") == "a-b-c-d-e--"


@pytest.mark.parametrize(
    ("options", "model", "target"),
    [
        ({}, "kling/o1-std", "/v1/videos/omni-video/job_7-a1"),
        ({}, "kling/3.0-turbo-std", "/tasks?external_task_ids=job_7-a1"),
        ({"api": "new"}, "kling/2.6-std", "/tasks?external_task_ids=job_7-a1"),
    ],
)
async def test_a_lost_task_is_looked_for_by_our_own_id(
    make: MakeBackend, resolve: Resolve, options: dict[str, str], model: str, target: str
) -> None:
    body = new_task("processing") if "tasks" in target else legacy_task("processing")
    async with ScriptedServer([reply(200, body)]) as server:
        backend = make(Kling, server.url, **options)
        assert isinstance(backend, Finds)
        found = await backend.find(resolve(model), key="job_7:a1", since=datetime.now(UTC))
        assert server.seen[0].target == target
    assert found is not None
    assert found.ref == (NEW.ref if "tasks" in target else LEGACY.ref)


def test_a_lost_lip_sync_waits_for_a_person(catalog: Catalog) -> None:
    """Its page does not say that a task can be asked for by our id."""
    assert catalog.cards["kling/lip-sync"].lost_submit == "hold"


# -- the account


async def test_the_balance_is_what_is_left_in_packs_in_use(
    make: MakeBackend, sandbox: SandboxProcess
) -> None:
    facts = await make(Kling, f"{sandbox.url}/kling", key=PAIR).check()
    assert Decimal(str(facts["balance_usd"])) == 14_000
    assert Decimal(str(facts["balance_units"])) == 100_000
    packs: Any = facts["packs"]
    assert [pack["status"] for pack in packs] == ["online", "expired"]


async def test_an_account_without_packs_has_an_unknown_balance(make: MakeBackend) -> None:
    body = {"code": 0, "message": "SUCCEED", "data": {"code": 0, "msg": "success"}}
    async with ScriptedServer([reply(200, body)]) as server:
        backend = make(Kling, server.url)
        backend.now = lambda: 1_788_000_000.0
        facts = await backend.check()
        assert facts == {"balance_usd": None, "balance_units": None, "packs": []}
        assert await backend.check() == facts
        assert len(server.seen) == 1, "Kling takes this call once a second"
        assert server.seen[0].target == "/account/costs?start_time=1753440000000&end_time=1788000000000"


async def test_a_failure_inside_the_costs_is_noticed(make: MakeBackend) -> None:
    body = {"code": 0, "message": "SUCCEED", "data": {"code": 5000, "msg": "no"}}
    async with ScriptedServer([reply(200, body)]) as server:
        with pytest.raises(errors.UnexpectedResponse):
            await make(Kling, server.url).check()
