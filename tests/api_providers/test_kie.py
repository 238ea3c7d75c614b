"""Kie against its twin, and against answers written down from its documentation."""

import json
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import JsonValue

from api_providers.kie import BASE64_MAX_BYTES, FRESH_S, IMAGE_MAX_BYTES, Kie
from api_providers.sandbox._kie_models import MODELS
from router.catalog import Catalog
from router.contract import errors
from router.contract.backend import Completed, Operation, Output, Pending
from router.contract.card import InputMedia
from router.pricing import estimate
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, Seen, reply

RECORD = {
    "taskId": "tk_1",
    "model": "kling-2.6/text-to-video",
    "param": '{"model":"kling-2.6/text-to-video","input":{}}',
    "resultJson": "",
    "failCode": None,
    "failMsg": None,
    "creditsConsumed": None,
    "costTime": None,
    "completeTime": None,
    "createTime": 1788000000000,
}
DONE = json.dumps({"resultUrls": ["https://x.example/v.mp4"]})
NULL = {"code": 422, "msg": "recordInfo is null", "data": None}


def record(state: str, **changes: Any) -> dict[str, Any]:
    return {"code": 200, "msg": "success", "data": {**RECORD, "state": state, **changes}}


def refusal(code: int, msg: str = "no") -> bytes:
    """As Kie refuses: HTTP 200, the code in the body."""
    return reply(200, {"code": code, "msg": msg, "data": None})


class TestKie(BackendSuite):
    kind = Kie
    twin = "kie"
    key = SECRET
    text_model = "kie/kling-2.6"
    image_model = "kie/kling-2.6"
    tells_cost = True
    statuses: ClassVar[Mapping[str, Stands]] = {
        "waiting": "queued",
        "queuing": "queued",
        "generating": "running",
        "success": "done",
        "fail": errors.GenerationFailed,
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        return record(status, resultJson=DONE if status == "success" else "")

    def dead_link(self, url: str) -> str:
        base, _, name = url.rpartition("/")
        return f"{base.rpartition('/')[0]}/task_of_somebody_else/{name}"

    @pytest.mark.parametrize(
        ("seconds", "sound", "usd"),
        [(5, False, "0.28"), (5, True, "0.55"), (10, False, "0.55"), (10, True, "1.10")],
    )
    async def test_the_four_prices_of_kling_2_6_are_estimated_and_billed_exactly(
        self, backend: Any, resolve: Resolve, sandbox: SandboxProcess, seconds: int, sound: bool, usd: str
    ) -> None:
        request = resolve("kie/kling-2.6", duration=seconds, generate_audio=sound)
        price = estimate(backend.card(request), request)
        assert price is not None and price.usd == Decimal(usd)
        assert price.as_of.isoformat() == "2025-12-29"
        done = await self.finish(backend, await backend.submit(request, key="job:a1"))
        assert done.billed_usd == Decimal(usd) == Decimal(sandbox.bill("kie")[0]["usd"])

    async def test_a_result_whose_link_died_is_fetched_by_a_fresh_one(
        self, make: MakeBackend, sandbox: SandboxProcess, tmp_path: Path
    ) -> None:
        """The recorded URL answers 403; the temporary link lies on the same host and works."""

        def temporary(seen: Seen) -> bytes:
            url = f"http://{seen.headers['host']}/tmp/v.mp4?token=1"
            return reply(200, {"code": 200, "msg": "success", "data": url})

        async with ScriptedServer([reply(403), temporary, reply(200, b"a clip")]) as server:
            recorded = f"{server.url}/v.mp4"
            await make(Kie, server.url).fetch(Output(url=recorded), tmp_path / "clip.mp4")
            asked = server.seen[1]
            assert (asked.method, asked.target) == ("POST", "/api/v1/common/download-url")
            assert asked.json == {"url": recorded}
            assert "authorization" not in server.seen[2].headers
        assert (tmp_path / "clip.mp4").read_bytes() == b"a clip"

    async def test_inputs_are_uploaded_before_anything_is_bought(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("kie", "no_credit")
        request = resolve("kie/kling-2.5-turbo-pro", first=media.picture(), last=media.picture(colour="red"))
        with pytest.raises(errors.QuotaExhausted):
            await backend.submit(request, key="job:a1")
        posts = [row["path"] for row in sandbox.requests() if row["method"] == "POST"]
        assert posts == ["/kie/_host/upload/api/file-base64-upload"] * 2 + ["/kie/api/v1/jobs/createTask"]
        assert sandbox.bill("kie") == []

    async def test_a_large_file_goes_as_a_stream(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        clip = media.clip()
        large = media.keep(
            media.path(clip.asset).read_bytes() + bytes(BASE64_MAX_BYTES), "video/mp4", 1280, 720, 5
        )
        request = resolve(
            "kie/kling-2.6-motion-control", task="video-to-video", references=[media.picture(), large]
        )
        await self.finish(backend, await backend.submit(request, key="job:a1"))
        posts = [row["path"].rpartition("/")[2] for row in sandbox.requests() if row["method"] == "POST"]
        assert posts == ["file-base64-upload", "file-stream-upload", "createTask"]

    async def test_the_balance_is_in_credits_and_dollars(self, backend: Any) -> None:
        facts = await backend.check()
        assert Decimal(facts["balance_credits"]) == 1_000_000
        assert Decimal(facts["balance_usd"]) == 5000


def test_cards_and_twin_know_the_same_models(catalog: Catalog) -> None:
    """Two readings of the same pages: an id that only one of them has is a mistake in the other."""
    wires = [card.wire for card in catalog.cards.values() if card.backend == "kie"]
    endpoints = [part for wire in wires for part in wire.values() if isinstance(part, dict)]
    assert {part["model"] for part in endpoints if "model" in part} == set(MODELS)


async def test_the_create_body_is_the_documented_one(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve("kie/kling-2.6", prompt="a red kite over a salt flat")
    assert await make(Kie).payload(request) == {
        "model": "kling-2.6/text-to-video",
        "input": {
            "prompt": "a red kite over a salt flat",
            "sound": False,
            "aspect_ratio": "16:9",
            "duration": "5",
        },
    }


def keep(seen: Seen) -> bytes:
    """Takes an upload and names it after its kind, so that a payload can be compared; sells a task."""
    data: dict[str, Any] = {"taskId": "tk_1"}
    if "upload" in seen.target:
        data = {"downloadUrl": f"https://files.example/{seen.json['base64Data'][5:10]}"}
    return reply(200, {"code": 200, "msg": "success", "data": data})


@pytest.mark.parametrize(
    ("model", "fields", "theirs", "expected"),
    [
        (
            "kie/kling-2.6",
            {"first": True, "duration": 10, "generate_audio": True},
            "kling-2.6/image-to-video",
            {"image_urls": ["https://files.example/image"], "sound": True, "duration": "10"},
        ),
        (
            "kie/kling-3.0-4k",
            {"duration": 15},
            "kling-3.0/video",
            {
                "sound": False,
                "duration": "15",
                "aspect_ratio": "16:9",
                "mode": "4K",
                "multi_shots": False,
                "multi_prompt": [],
            },
        ),
        (
            "kie/kling-3.0-standard",
            {"first": True, "last": True},
            "kling-3.0/video",
            {
                "image_urls": ["https://files.example/image", "https://files.example/image"],
                "sound": False,
                "duration": "5",
                "aspect_ratio": "16:9",
                "mode": "std",
                "multi_shots": False,
                "multi_prompt": [],
            },
        ),
        (
            "kie/kling-3.0-omni-4k",
            {"first": True, "generate_audio": True, "duration": 3},
            "kling-3.0-omni/image-to-video",
            {
                "image_urls": ["https://files.example/image"],
                "resolution": "4k",
                "audio": True,
                "duration": 3,
                "customize_multi_shots": False,
                "aspect_ratio": "auto",
            },
        ),
        (
            "kie/kling-3.0-omni-pro",
            {"references": ["image", "video"], "aspect_ratio": "9:16"},
            "kling-3.0-omni/reference-to-video",
            {
                "image_urls": ["https://files.example/image"],
                "video_urls": ["https://files.example/video"],
                "resolution": "1080p",
                "audio": False,
                "duration": 5,
                "customize_multi_shots": False,
                "aspect_ratio": "9:16",
            },
        ),
        (
            "kie/kling-3.0-omni-edit",
            {"task": "video-to-video", "references": ["video"], "resolution": "4k"},
            "kling-3.0-omni/transformation",
            {
                "video_urls": ["https://files.example/video"],
                "resolution": "4k",
                "audio": False,
                "duration": "5",
                "customize_multi_shots": False,
            },
        ),
        (
            "kie/kling-2.5-turbo-pro",
            {"first": True, "last": True, "negative_prompt": "rain"},
            "kling/v2-5-turbo-image-to-video-pro",
            {
                "image_url": "https://files.example/image",
                "tail_image_url": "https://files.example/image",
                "negative_prompt": "rain",
                "duration": "5",
            },
        ),
        (
            "kie/kling-3.0-motion-control",
            {"task": "video-to-video", "references": ["image", "video"], "resolution": "1080p"},
            "kling-3.0/motion-control",
            {
                "input_urls": ["https://files.example/image"],
                "video_urls": ["https://files.example/video"],
                "mode": "pro",
                "character_orientation": "video",
                "background_source": "input_video",
            },
        ),
        (
            "kie/minimax-h3",
            {"duration": 15},
            "minimax-h3/text-to-video",
            {"duration": 15, "resolution": "2K", "aspect_ratio": "16:9"},
        ),
        (
            "kie/wan-2.7",
            {"aspect_ratio": "3:4", "duration": 2},
            "wan/2-7-text-to-video",
            {"ratio": "3:4", "duration": 2, "resolution": "1080p", "seed": 7, "watermark": False},
        ),
        (
            "kie/wan-2.7",
            {"task": "extend", "references": ["video"]},
            "wan/2-7-image-to-video",
            {
                "first_clip_url": "https://files.example/video",
                "duration": 5,
                "resolution": "1080p",
                "seed": 7,
                "watermark": False,
            },
        ),
        (
            "kie/wan-2.6-flash",
            {"first": True, "duration": 15},
            "wan/2-6-flash-image-to-video",
            {
                "image_urls": ["https://files.example/image"],
                "duration": "15",
                "resolution": "1080p",
                "audio": False,
            },
        ),
        (
            "kie/hailuo-2.3-pro",
            {"first": True},
            "hailuo/2-3-image-to-video-pro",
            {"image_url": "https://files.example/image", "duration": "6", "resolution": "768P"},
        ),
    ],
)
async def test_each_model_has_its_own_field_names_and_types(
    make: MakeBackend,
    resolve: Resolve,
    media: FolderMedia,
    model: str,
    fields: dict[str, Any],
    theirs: str,
    expected: dict[str, Any],
) -> None:
    given = dict(fields)
    for frame in ("first", "last"):
        if given.pop(frame, False):
            given[frame] = media.picture(colour="red" if frame == "last" else "teal")
    kinds: dict[str, Callable[[], InputMedia]] = {"image": media.picture, "video": media.clip}
    given["references"] = [kinds[kind]() for kind in given.get("references", [])]
    async with ScriptedServer([keep]) as server:
        payload = await make(Kie, server.url).payload(resolve(model, **given))
    assert payload["model"] == theirs
    assert payload["input"] == {"prompt": "a red fox in the snow", **expected}
    for name, value in expected.items():
        assert type(payload["input"][name]) is type(value), name


async def test_camera_words_are_written_into_the_prompt(make: MakeBackend, resolve: Resolve) -> None:
    payload = await make(Kie).payload(resolve("kie/kling-2.6", camera="zoom_in"))
    assert payload["input"]["prompt"] == "a red fox in the snow The camera zooms in."


async def test_a_model_without_a_prompt_says_that_it_was_left_out(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve(
        "kie/wan-2.2-animate-move", task="video-to-video", references=[media.picture(), media.clip()]
    )
    async with ScriptedServer([keep]) as server:
        operation = await make(Kie, server.url).submit(request, key="job:a1")
        assert "prompt" not in server.seen[-1].json["input"]
    (warning,) = operation.warnings
    assert "prompt" in warning.en and "プロンプト" in warning.ja


async def test_options_cannot_touch_a_field_that_we_set(make: MakeBackend, resolve: Resolve) -> None:
    with pytest.raises(errors.UnsupportedRequest, match="sound"):
        resolve("kie/kling-2.6", provider_options={"kie": {"sound": True}})
    request = resolve("kie/kling-2.5-turbo-pro", provider_options={"kie": {"cfg_scale": 0.8}})
    assert (await make(Kie).payload(request))["input"]["cfg_scale"] == 0.8


async def test_frames_and_references_exclude_each_other(resolve: Resolve, media: FolderMedia) -> None:
    with pytest.raises(errors.UnsupportedRequest, match="combination"):
        resolve("kie/kling-3.0-omni-pro", first=media.picture(), references=[media.picture(colour="red")])


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, errors.InvalidRequest),
        (401, errors.AuthenticationFailed),
        (402, errors.QuotaExhausted),
        (404, errors.BackendError),
        (422, errors.InvalidRequest),
        (429, errors.RateLimited),
        (455, errors.Unavailable),
        (500, errors.Unavailable),
        (505, errors.BackendError),
        # A generation had begun, or nobody has documented the code: what was bought is not known.
        (408, errors.OutcomeUnknown),
        (501, errors.OutcomeUnknown),
        (433, errors.OutcomeUnknown),
    ],
)
async def test_a_code_inside_http_200_has_its_name_at_the_create(
    make: MakeBackend, resolve: Resolve, code: int, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([refusal(code, "what happened")]) as server:
        with pytest.raises(error) as caught:
            await make(Kie, server.url).submit(resolve("kie/kling-2.6"), key="job:a1")
        assert len(server.seen) == 1
    assert type(caught.value) is error
    assert f"{code}: what happened" in str(caught.value.detail)


async def test_a_firewall_in_front_of_kie_is_not_a_refused_key(make: MakeBackend, resolve: Resolve) -> None:
    async with ScriptedServer([reply(403, b"<html>error code: 1010</html>")]) as server:
        with pytest.raises(errors.BackendError) as caught:
            await make(Kie, server.url).submit(resolve("kie/kling-2.6"), key="job:a1")
    assert type(caught.value) is errors.BackendError


@pytest.mark.parametrize("data", [None, {}, {"taskId": ""}, {"taskId": 7}, []])
async def test_a_create_without_a_task_id_is_unknown(make: MakeBackend, resolve: Resolve, data: Any) -> None:
    async with ScriptedServer([reply(200, {"code": 200, "msg": "success", "data": data})]) as server:
        with pytest.raises(errors.OutcomeUnknown):
            await make(Kie, server.url).submit(resolve("kie/kling-2.6"), key="job:a1")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (401, errors.AuthenticationFailed),
        (402, errors.QuotaExhausted),
        (404, errors.BackendError),
        (422, errors.InvalidRequest),
        (429, errors.RateLimited),
        (455, errors.Unavailable),
        (500, errors.Unavailable),
        (505, errors.BackendError),
        (433, errors.UnexpectedResponse),
    ],
)
async def test_a_look_that_failed_does_not_end_the_task(
    make: MakeBackend, code: int, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([refusal(code)]) as server:
        with pytest.raises(error) as caught:
            await make(Kie, server.url).poll(Operation(ref="tk_1"))
    assert type(caught.value) is error
    assert not isinstance(caught.value, errors.ENDS_ACCEPTED)


@pytest.mark.parametrize("code", [408, 501])
async def test_a_look_that_tells_of_a_failed_generation_ends_the_task(make: MakeBackend, code: int) -> None:
    async with ScriptedServer([refusal(code, "gone wrong")]) as server:
        with pytest.raises(errors.GenerationFailed, match="gone wrong") as caught:
            await make(Kie, server.url).poll(Operation(ref="tk_1"))
    assert caught.value.billed_usd is None


@pytest.mark.parametrize("answer", [NULL, {"code": 404, "msg": "Task not found", "data": None}])
@pytest.mark.parametrize(
    ("age", "error"),
    [
        (0, errors.UnexpectedResponse),
        (FRESH_S - 30, errors.UnexpectedResponse),
        (FRESH_S + 1, errors.OperationLost),
        (None, errors.OperationLost),
    ],
)
async def test_an_unknown_task_may_be_too_fresh_and_its_age_decides(
    make: MakeBackend, answer: Any, age: float | None, error: type[errors.GatewayError]
) -> None:
    data: dict[str, JsonValue] = {} if age is None else {"created": int(time.time() - age)}
    async with ScriptedServer([reply(200, answer)]) as server:
        with pytest.raises(error) as caught:
            await make(Kie, server.url).poll(Operation(ref="tk_1", data=data))
    assert type(caught.value) is error


async def test_a_task_that_was_too_fresh_is_found_at_a_later_look(
    make: MakeBackend, resolve: Resolve
) -> None:
    created = reply(200, {"code": 200, "msg": "success", "data": {"taskId": "tk_1"}})
    async with ScriptedServer([created, reply(200, NULL), reply(200, record("waiting"))]) as server:
        backend = make(Kie, server.url)
        operation = await backend.submit(resolve("kie/kling-2.6"), key="job:a1")
        with pytest.raises(errors.UnexpectedResponse, match="recordInfo is null"):
            await backend.poll(operation)
        assert await backend.poll(operation) == Pending(poll_after=0.05, queued=True)
        assert server.seen[1].target == "/api/v1/jobs/recordInfo?taskId=tk_1"


async def test_result_and_cost_are_read_out_of_the_record(make: MakeBackend) -> None:
    body = record("success", resultJson=DONE, creditsConsumed=56.5)
    async with ScriptedServer([reply(200, body)]) as server:
        done = await make(Kie, server.url).poll(Operation(ref="tk_1"))
    assert done == Completed((Output(url="https://x.example/v.mp4"),), billed_usd=Decimal("0.2825"))


@pytest.mark.parametrize("result", [None, "", "{", "[]", '{"resultObject": {}}', '{"resultUrls": []}'])
async def test_a_success_without_a_link_is_looked_at_again(make: MakeBackend, result: Any) -> None:
    async with ScriptedServer([reply(200, record("success", resultJson=result))]) as server:
        with pytest.raises(errors.UnexpectedResponse):
            await make(Kie, server.url).poll(Operation(ref="tk_1"))


@pytest.mark.parametrize("credits", [None, True, "56", -1, "NaN"])
async def test_a_cost_that_is_no_number_is_not_known(make: MakeBackend, credits: Any) -> None:
    body = json.dumps(record("success", resultJson=DONE, creditsConsumed=credits)).replace('"NaN"', "NaN")
    async with ScriptedServer([reply(200, body.encode())]) as server:
        done = await make(Kie, server.url).poll(Operation(ref="tk_1"))
    assert isinstance(done, Completed)
    assert done.billed_usd is None


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("Internal Error, Please try again later.", errors.GenerationFailed),
        (None, errors.GenerationFailed),
        ("The image is too small", errors.GenerationFailed),
        ("Your prompt was flagged as violating content policies", errors.ContentRejected),
        ("The input may contain sensitive information", errors.ContentRejected),
        ("NSFW content detected", errors.ContentRejected),
    ],
)
@pytest.mark.parametrize("code", ["500", 500, None])
async def test_the_fail_message_says_whose_fault_and_credits_what_it_cost(
    make: MakeBackend, message: str | None, code: Any, error: type[errors.GatewayError]
) -> None:
    body = record("fail", failCode=code, failMsg=message, creditsConsumed=0)
    async with ScriptedServer([reply(200, body)]) as server:
        with pytest.raises(error) as caught:
            await make(Kie, server.url).poll(Operation(ref="tk_1"))
    assert type(caught.value) is error
    assert caught.value.billed_usd == 0


@pytest.mark.parametrize(
    ("given", "progress"), [(42, 0.42), (170, 1.0), (None, None), ("42", None), (True, None)]
)
async def test_a_progress_is_a_percentage_where_there_is_one(
    make: MakeBackend, given: Any, progress: float | None
) -> None:
    async with ScriptedServer([reply(200, record("generating", progress=given))]) as server:
        state = await make(Kie, server.url).poll(Operation(ref="tk_1"))
    assert state == Pending(progress=progress, poll_after=0.05)


async def test_an_upload_is_read_in_both_documented_shapes(make: MakeBackend, media: FolderMedia) -> None:
    for name in ("downloadUrl", "fileUrl"):
        body = {"success": True, "code": 200, "msg": "ok", "data": {name: "https://files.example/a.png"}}
        async with ScriptedServer([reply(200, body)]) as server:
            picture = media.picture()
            assert await make(Kie, server.url).place(picture) == "https://files.example/a.png"
            (seen,) = server.seen
            assert seen.target == "/_host/upload/api/file-base64-upload"
            assert seen.json["fileName"] == f"{picture.asset.id[:16]}.png"
            assert seen.json["base64Data"].startswith("data:image/png;base64,")


def test_uploads_go_to_their_own_host(make: MakeBackend) -> None:
    backend = make(Kie, sandbox=False)
    assert backend._bases == {"": "https://api.kie.ai", "upload": "https://kieai.redpandaai.co"}


@pytest.mark.parametrize(
    ("mime", "size", "said"),
    [
        ("image/gif", 10, "JPEG"),
        ("image/png", IMAGE_MAX_BYTES + 1, "10 MB"),
        ("video/mp4", 100_000_001, "100 MB"),
    ],
)
async def test_an_input_that_kie_does_not_take_is_refused_before_spending(
    make: MakeBackend, media: FolderMedia, mime: str, size: int, said: str
) -> None:
    kept = media.keep(b"x", mime)
    given = kept.model_copy(update={"asset": kept.asset.model_copy(update={"size_bytes": size})})
    with pytest.raises(errors.BackendError, match=said) as caught:
        await make(Kie).place(given)
    assert said in caught.value.message.ja


async def test_a_dead_link_that_kie_cannot_renew_stays_expired(make: MakeBackend, tmp_path: Path) -> None:
    async with ScriptedServer([reply(404), refusal(422, "not ours")]) as server:
        with pytest.raises(errors.LinkExpired):
            await make(Kie, server.url).fetch(Output(url=f"{server.url}/v.mp4"), tmp_path / "clip.mp4")
        assert len(server.seen) == 2
