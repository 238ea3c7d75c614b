"""Wan against its twin, against what the official SDK would send, and against documented answers."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from dashscope import VideoSynthesis

from api_providers.sandbox.wan import MARKER
from api_providers.wan import DATA_URI_MAX_BYTES, SEED_MAX, Wan
from router.contract import errors
from router.contract.backend import Completed, Operation, Pending
from router.pricing import estimate
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

T1 = Operation(ref="t1")
ACCEPTED = reply(200, {"output": {"task_status": "PENDING", "task_id": "t1"}, "request_id": "r1"})


def look(status: str, **fields: Any) -> bytes:
    return reply(200, {"request_id": "r1", "output": {"task_id": "t1", "task_status": status, **fields}})


def refusal(status: int, code: str, message: str = "told so") -> bytes:
    return reply(status, {"code": code, "message": message, "request_id": "r1"})


class TestWan(BackendSuite):
    kind = Wan
    twin = "wan"
    key = SECRET
    text_model = "wan/wan2.7-t2v"
    image_model = "wan/wan2.7-i2v"
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "PENDING": "queued",
        "SUSPENDED": "queued",
        "RUNNING": "running",
        "SUCCEEDED": "done",
        "FAILED": errors.GenerationFailed,
        "CANCELED": errors.Cancelled,
        "UNKNOWN": errors.OperationLost,
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        url = {"video_url": "https://cdn.example/out.mp4"} if status == "SUCCEEDED" else {}
        return {"request_id": "r1", "output": {"task_id": "t1", "task_status": status, **url}}

    def dead_link(self, url: str) -> str:
        return url.replace("Signature=", "Signature=0")

    async def test_a_marked_prompt_is_refused_at_submit(
        self, backend: Any, resolve: Resolve, sandbox: SandboxProcess
    ) -> None:
        with pytest.raises(errors.ContentRejected, match="DataInspectionFailed"):
            await backend.submit(resolve(self.text_model, prompt=MARKER), key="job:a1")
        assert sandbox.bill("wan") == []

    async def test_moderation_after_acceptance_is_free(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("wan", "moderation")
        with pytest.raises(errors.ContentRejected) as caught:
            await self.finish(backend, await backend.submit(text, key="job:a1"))
        assert caught.value.billed_usd == 0 == Decimal(sandbox.bill("wan")[0]["usd"])

    async def test_a_running_task_is_not_cancelled(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("wan", render_seconds=0.5)
        operation = await backend.submit(text, key="job:a1")
        while (await backend.poll(operation)).queued:
            pass
        assert not await backend.cancel(operation)
        assert (await self.finish(backend, operation)).outputs

    async def test_inputs_are_uploaded_before_anything_is_bought_and_without_our_key(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        large = media.path(media.picture().asset).read_bytes() + bytes(DATA_URI_MAX_BYTES)
        first = media.keep(large, "image/png", 640, 360)
        request = resolve("wan/wan2.7-i2v", first=first, references=[media.speech()])
        body = await backend.payload(request)
        assert [item["url"].partition("dashscope-instant/")[0] for item in body["input"]["media"]] == [
            "oss://",
            "oss://",
        ]
        assert sandbox.bill("wan") == []
        await self.finish(backend, await backend.submit(request, key="job:a1"))
        uploads = [row for row in sandbox.requests() if row["path"] == "/wan/_upload"]
        assert len(uploads) == 4
        assert not any(row["leaked_key"] for row in uploads)

    async def test_a_continuation_is_asked_and_billed_for_its_whole_length(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        request = resolve("wan/wan2.7-extend", task="extend", references=[media.clip(3.5)], duration=5)
        assert (await backend.payload(request))["parameters"]["duration"] == 9, "4 started seconds and 5 new"
        price = estimate(backend.card(request), request)
        assert price is not None and price.usd == Decimal("1.35")
        done = await self.finish(backend, await backend.submit(request, key="job:a1"))
        assert Decimal(sandbox.bill("wan")[0]["usd"]) == price.usd
        assert done.details == {"duration": 9, "SR": 1080}

    async def test_a_long_reference_video_costs_no_more_than_was_said(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        given = [media.clip(8), media.clip(2)]
        request = resolve("wan/wan2.7-r2v-video", task="v2v", references=given, resolution="720p")
        await self.finish(backend, await backend.submit(request, key="job:a1"))
        price = estimate(backend.card(request), request)
        assert price is not None
        billed = Decimal(sandbox.bill("wan")[0]["usd"])
        assert billed == Decimal("0.95"), "5 s, min(8, 2.5) and min(2, 2.5)"
        assert billed <= price.usd == Decimal("1.5")

    async def test_the_prompt_is_rewritten_only_when_that_is_asked(
        self, backend: Any, resolve: Resolve
    ) -> None:
        plain = await self.finish(backend, await backend.submit(resolve(self.text_model), key="job:a1"))
        assert "actual_prompt" not in plain.details
        options = {"provider_options": {"wan": {"prompt_extend": True}}}
        asked = resolve(self.text_model, **options)
        rewritten = await self.finish(backend, await backend.submit(asked, key="job:a2"))
        assert rewritten.details["actual_prompt"] == "a red fox in the snow, in rich detail"

    async def test_check_counts_the_tasks(self, backend: Any, text: Any) -> None:
        await backend.submit(text, key="job:a1")
        assert await backend.check() == {"tasks_total": 1}


async def test_the_media_payload_is_the_documented_one(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    frames = {"first": media.picture(), "last": media.picture(colour="red")}
    request = resolve("wan/wan2.7-i2v", prompt="the lantern drifts", duration=6, resolution="720p", **frames)
    body = await make(Wan).payload(request)
    items = body["input"].pop("media")
    assert [item["type"] for item in items] == ["first_frame", "last_frame"]
    assert all(item["url"].startswith("data:image/png;base64,") for item in items)
    assert body == {
        "model": "wan2.7-i2v",
        "input": {"prompt": "the lantern drifts"},
        "parameters": {
            "resolution": "720P",
            "duration": 6,
            "prompt_extend": False,
            "watermark": False,
            "seed": 7,
        },
    }


async def test_text_payloads_say_their_size_as_their_generation_does(
    make: MakeBackend, resolve: Resolve
) -> None:
    common = {"duration": 5, "prompt_extend": False, "watermark": False, "seed": 7}
    asked = {"aspect_ratio": "9:16", "resolution": "720p", "negative_prompt": "rain", "camera": "zoom_in"}
    prompt = {"prompt": "a red fox in the snow The camera zooms in.", "negative_prompt": "rain"}
    assert await make(Wan).payload(resolve("wan/wan2.6-t2v", **asked)) == {
        "model": "wan2.6-t2v",
        "input": prompt,
        "parameters": common | {"size": "720*1280"},
    }
    assert await make(Wan).payload(resolve("wan/wan2.7-t2v", **asked)) == {
        "model": "wan2.7-t2v",
        "input": prompt,
        "parameters": common | {"resolution": "720P", "ratio": "9:16"},
    }


async def test_legacy_image_payloads_name_their_fields(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    first, last = media.picture(), media.picture(colour="red")
    backend = make(Wan)
    body = await backend.payload(resolve("wan/wan2.6-i2v-flash", first=first))
    assert body["input"]["img_url"].startswith("data:image/png;base64,")
    assert (body["parameters"]["audio"], body["parameters"]["resolution"]) == (False, "720P")
    body = await backend.payload(resolve("wan/wan2.6-i2v-flash", first=first, generate_audio=True))
    assert body["parameters"]["audio"] is True
    body = await backend.payload(resolve("wan/wan2.2-kf2v-flash", first=first, last=last))
    assert set(body["input"]) == {"prompt", "first_frame_url", "last_frame_url"}
    body = await backend.payload(
        resolve("wan/wan2.1-i2v-turbo", task="effect", effect="flying", first=first, duration=3)
    )
    assert (body["input"]["template"], body["parameters"]["duration"]) == ("flying", 3)


@pytest.mark.parametrize(
    ("model", "service"),
    [("wan/wan2.2-kf2v-flash", "image2video"), ("wan/wan2.7-i2v", "video-generation")],
)
async def test_a_submit_has_its_path_and_the_async_header(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, model: str, service: str
) -> None:
    frames = {"first": media.picture(), "last": media.picture(colour="red")}
    async with ScriptedServer([ACCEPTED]) as server:
        got = await make(Wan, server.url).submit(resolve(model, **frames), key="job:a1")
    assert got == T1
    (seen,) = server.seen
    assert (seen.method, seen.target) == ("POST", f"/api/v1/services/aigc/{service}/video-synthesis")
    assert seen.headers["x-dashscope-async"] == "enable"
    assert seen.headers["authorization"] == f"Bearer {SECRET}"
    assert "x-dashscope-ossresourceresolve" not in seen.headers


@pytest.mark.parametrize("where", ["data", "output"])
async def test_an_upload_has_the_documented_form_and_the_submit_says_that_links_resolve(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, where: str
) -> None:
    def permit(seen: Any) -> bytes:
        data = {
            "policy": "p",
            "signature": "s",
            "upload_dir": "dir/1",
            "upload_host": f"http://{seen.headers['host']}/bucket",
            "oss_access_key_id": "LTAI",
            "x_oss_object_acl": "private",
            "x_oss_forbid_overwrite": "true",
        }
        return reply(200, {"request_id": "r", where: data})

    speech = media.speech()
    async with ScriptedServer([permit, reply(200), ACCEPTED]) as server:
        await make(Wan, server.url).submit(resolve("wan/wan2.6-t2v", references=[speech]), key="job:a1")
    asked, posted, bought = server.seen
    assert asked.target == "/api/v1/uploads?action=getPolicy&model=wan2.6-t2v"
    assert (posted.target, "authorization" in posted.headers) == ("/bucket", False)
    names = [part.partition(b'"')[0].decode() for part in posted.body.split(b'form-data; name="')[1:]]
    assert names == [
        "OSSAccessKeyId",
        "Signature",
        "policy",
        "key",
        "x-oss-object-acl",
        "x-oss-forbid-overwrite",
        "success_action_status",
        "file",
    ]
    assert bought.headers["x-dashscope-ossresourceresolve"] == "enable"
    key = f"dir/1/{speech.asset.id[:16]}.wav"
    assert bought.json["input"]["audio_url"] == f"oss://{key}"
    assert key.encode() in posted.body


async def test_a_refused_upload_buys_nothing(make: MakeBackend, resolve: Resolve, media: FolderMedia) -> None:
    async with ScriptedServer([reply(200, {"data": {"policy": "p"}})]) as server:
        with pytest.raises(errors.UnexpectedResponse):
            await make(Wan, server.url).submit(
                resolve("wan/wan2.6-t2v", references=[media.speech()]), key="job:a1"
            )
    assert [seen.method for seen in server.seen] == ["GET"]


@pytest.mark.parametrize(
    "model",
    ["wan/wan2.7-i2v", "wan/wan2.6-i2v", "wan/wan2.2-kf2v-flash", "wan/wan3.0-video", "wan/wan2.7-r2v"],
)
async def test_the_input_is_what_the_official_sdk_makes_of_the_same_fields(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, model: str
) -> None:
    backend = make(Wan)
    card = backend.config.cards[model]
    frames = {"first": media.picture()} | ({"last": media.picture(colour="red")} if card.last_frame else {})
    references = [media.picture(colour="navy")] if "image" in card.needs else []
    body = await backend.payload(resolve(model, references=references, **frames))
    own = {name: value for name, value in body["input"].items() if name != "prompt"}
    official: Any = VideoSynthesis
    sdk, _, task = official._get_input(card.wire_id, body["input"]["prompt"], **own)
    assert {name: value for name, value in sdk.items() if name != "extend_prompt"} == body["input"]
    service = card.wire.get("service", "video-generation")
    assert task == service


@pytest.mark.parametrize(
    ("model", "fields", "field"),
    [
        ("wan/wan2.7-t2v", {"duration": 16}, "duration"),
        ("wan/wan2.6-t2v", {"duration": 7}, "duration"),
        ("wan/wan2.7-t2v", {"generate_audio": False}, "generate_audio"),
        ("wan/wan2.2-t2v-plus", {"generate_audio": True}, "generate_audio"),
        ("wan/wan2.6-i2v", {"first": 1, "last": 1}, "last_frame"),
        ("wan/wan2.2-kf2v-flash", {"first": 1}, "frame_images"),
        ("wan/wan2.7-r2v", {}, "input_references"),
        ("wan/wan2.7-r2v", {"references": 6}, "input_references"),
        ("wan/wan3.0-video", {"first": 1, "references": 1}, "frame_images"),
        ("wan/wan2.5-t2v", {"resolution": "480p", "aspect_ratio": "4:3"}, "aspect_ratio"),
    ],
)
def test_what_a_model_cannot_do_is_a_misfit(
    resolve: Resolve, media: FolderMedia, model: str, fields: dict[str, Any], field: str
) -> None:
    given = {name: media.picture() if name in {"first", "last"} else value for name, value in fields.items()}
    if "references" in given:
        given["references"] = [media.picture(colour=f"#0000{n:02x}") for n in range(fields["references"])]
    with pytest.raises(errors.UnsupportedRequest) as caught:
        resolve(model, **given)
    assert caught.value.misfits[0].field == field


@pytest.mark.parametrize(
    ("status", "code", "message", "error"),
    [
        (400, "InvalidParameter", "told so", errors.InvalidRequest),
        (400, "InvalidParameter.DataInspection", "told so", errors.InvalidRequest),
        (400, "InvalidURL", "told so", errors.InvalidRequest),
        (400, "DataInspectionFailed", "told so", errors.ContentRejected),
        (400, "Arrearage", "told so", errors.QuotaExhausted),
        (401, "InvalidApiKey", "told so", errors.AuthenticationFailed),
        (403, "AccessDenied", "told so", errors.AuthenticationFailed),
        (403, "AccessDenied.Unpurchased", "told so", errors.AuthenticationFailed),
        (403, "Model.AccessDenied", "told so", errors.BackendError),
        (403, "AllocationQuota.FreeTierOnly", "the free tier has been exhausted", errors.QuotaExhausted),
        (404, "ModelNotFound", "told so", errors.BackendError),
        (429, "Throttling", "told so", errors.RateLimited),
        (429, "Throttling.RateQuota", "told so", errors.RateLimited),
        (429, "Throttling.AllocationQuota", "Allocated quota exceeded, slow down", errors.RateLimited),
        (429, "Throttling.AllocationQuota", "Free allocated quota exceeded", errors.QuotaExhausted),
        (429, "Throttling.AllocationQuota", "check your plan and billing details", errors.QuotaExhausted),
        (500, "InternalError", "told so", errors.Unavailable),
        (502, "", "told so", errors.OutcomeUnknown),
    ],
)
async def test_an_error_is_known_by_its_code(
    make: MakeBackend,
    resolve: Resolve,
    status: int,
    code: str,
    message: str,
    error: type[errors.GatewayError],
) -> None:
    async with ScriptedServer([refusal(status, code, message)]) as server:
        with pytest.raises(error) as caught:
            await make(Wan, server.url).submit(resolve("wan/wan2.7-t2v"), key="job:a1")
    assert type(caught.value) is error
    assert f"{code}: {message}" in (caught.value.detail or "") or not code


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("DataInspectionFailed", errors.ContentRejected),
        ("DataInspectionFailed.Output", errors.ContentRejected),
        ("InvalidParameter", errors.GenerationFailed),
        ("Throttling.RateQuota", errors.GenerationFailed),
        ("InternalError.Algo", errors.GenerationFailed),
        (None, errors.GenerationFailed),
    ],
)
async def test_a_failure_inside_200_says_whose_fault_and_is_free(
    make: MakeBackend, code: str | None, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([look("FAILED", code=code, message="The size is not match")]) as server:
        with pytest.raises(error, match="not match") as caught:
            await make(Wan, server.url).poll(T1)
    assert type(caught.value) is error
    assert caught.value.billed_usd == Decimal(0)


async def test_the_documented_answer_leads_to_the_link(make: MakeBackend) -> None:
    done = {
        "request_id": "r1",
        "output": {
            "task_id": "t1",
            "task_status": "SUCCEEDED",
            "submit_time": "2026-08-01 10:00:00.123",
            "orig_prompt": "a red kite",
            "actual_prompt": "a red kite in the wind",
            "video_url": "https://cdn.example/out.mp4?Expires=1",
        },
        "usage": {"duration": 5, "output_video_duration": 5, "SR": 720, "size": "1280*720"},
    }
    async with ScriptedServer([look("RUNNING"), reply(200, done)]) as server:
        backend = make(Wan, server.url, poll_after=15)
        assert await backend.poll(Operation(ref="t/../1")) == Pending(poll_after=15)
        got = await backend.poll(T1)
        assert server.seen[0].target == "/api/v1/tasks/t%2F..%2F1"
    assert isinstance(got, Completed)
    assert got.outputs[0].url == "https://cdn.example/out.mp4?Expires=1"
    assert got.details == {"duration": 5, "SR": 720, "actual_prompt": "a red kite in the wind"}
    assert got.billed_usd is None


async def test_a_success_without_a_link_is_looked_at_again(make: MakeBackend) -> None:
    async with ScriptedServer([look("SUCCEEDED")]) as server:
        with pytest.raises(errors.UnexpectedResponse):
            await make(Wan, server.url).poll(T1)


@pytest.mark.parametrize(
    ("answer", "agreed"),
    [(reply(200, {"request_id": "r1"}), True), (refusal(400, "UnsupportedOperation"), False)],
)
async def test_cancel_answers_as_documented(make: MakeBackend, answer: bytes, agreed: bool) -> None:
    async with ScriptedServer([answer]) as server:
        assert await make(Wan, server.url).cancel(T1) is agreed
        assert (server.seen[0].method, server.seen[0].target) == ("POST", "/api/v1/tasks/t1/cancel")


async def test_an_outage_while_cancelling_is_no_answer(make: MakeBackend) -> None:
    async with ScriptedServer([refusal(500, "InternalError")]) as server:
        with pytest.raises(errors.Unavailable):
            await make(Wan, server.url).cancel(T1)


async def test_a_seed_beyond_their_range_is_folded_and_told(make: MakeBackend, resolve: Resolve) -> None:
    async with ScriptedServer([ACCEPTED]) as server:
        backend = make(Wan, server.url)
        folded = await backend.submit(resolve("wan/wan2.7-t2v", seed=SEED_MAX + 6), key="a")
        kept = await backend.submit(resolve("wan/wan2.7-t2v", seed=SEED_MAX), key="b")
    assert [seen.json["parameters"]["seed"] for seen in server.seen] == [5, SEED_MAX]
    assert "sent as 5" in folded.warnings[0].en
    assert kept.warnings == ()


@pytest.mark.parametrize("seconds", [1, 11, None])
async def test_a_clip_of_a_length_they_refuse_is_left_to_others(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, seconds: float | None
) -> None:
    clip = media.keep(b"video", "video/mp4", 640, 360, seconds)
    with pytest.raises(errors.BackendError) as caught:
        await make(Wan).payload(resolve("wan/wan2.7-extend", task="extend", references=[clip]))
    assert caught.value.next_step is errors.NextStep.REROUTE


async def test_a_large_picture_is_left_to_others(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    large = media.keep(bytes(20_000_001), "image/png", 640, 360)
    with pytest.raises(errors.BackendError, match="20 MB"):
        await make(Wan).payload(resolve("wan/wan2.7-i2v", first=large))
