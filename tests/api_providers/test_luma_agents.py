"""Luma Agents against its twin, its SDK's own request types, and answers written down from its documentation."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from luma_agents._utils import maybe_transform
from luma_agents.types.generation_create_params import GenerationCreateParams
from pydantic import TypeAdapter

from api_providers.luma_agents import INLINE_MAX_BYTES, LumaAgents
from router.contract import errors
from router.contract.backend import Operation, Pending
from router.contract.card import InputMedia, ResolvedRequest
from router.contract.request import Task
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.committing import committing
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

MODEL = "luma-agents/ray-3.2"
GENERATION = {"id": "g1", "type": "video", "model": "ray-3.2", "created_at": "2026-11-21T01:02:03Z"}
PENDING_FILE = {"id": "f1", "state": "pending"}


def own(media: FolderMedia, ref: str) -> InputMedia:
    """A clip that Luma made for us earlier."""
    return media.clip().model_copy(update={"source_backend": "luma-agents", "source_ref": ref})


def large(media: FolderMedia) -> InputMedia:
    """A picture that is too large to go inside the request."""
    small = media.path(media.picture().asset).read_bytes()
    return media.keep(small + bytes(INLINE_MAX_BYTES), "image/png", 640, 360)


class TestLumaAgents(BackendSuite):
    kind = LumaAgents
    twin = "luma-agents"
    key = SECRET
    text_model = MODEL
    image_model = MODEL
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "queued": "queued",
        "processing": "running",
        "completed": "done",
        "failed": errors.GenerationFailed,
    }
    cannot: ClassVar[Mapping[str, str]] = {
        "a_failure_after_acceptance_says_what_it_cost": "Luma neither tells nor documents what a failure costs"
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        output = [{"type": "video", "url": "https://signed.example/x.mp4"}] if status == "completed" else None
        return {**GENERATION, "state": status, "output": output}

    def dead_link(self, url: str) -> str:
        return url.partition("?")[0]

    async def test_a_large_picture_goes_through_the_file_store_before_anything_is_bought(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        request = resolve(MODEL, first=large(media), last=media.picture(colour="red"))
        with committing(lambda: len(sandbox.bill("luma-agents"))) as billed_at_commit:
            operation = await backend.submit(request, key="job:a1")
        assert billed_at_commit == [0]
        assert (await self.finish(backend, operation)).outputs
        calls = [(row["method"], row["path"].split("/")[2]) for row in sandbox.requests()]
        assert calls[:4] == [("POST", "files"), ("PUT", "_upload"), ("POST", "files"), ("GET", "files")]
        assert not any(row["leaked_key"] for row in sandbox.requests())

    async def test_two_frames_work_with_ten_seconds(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        request = resolve(MODEL, first=media.picture(), last=media.picture(colour="red"), duration=10)
        assert (await self.finish(backend, await backend.submit(request, key="job:a1"))).outputs
        assert sandbox.bill("luma-agents")[0]["usd"] == "0.9"

    async def test_an_edit_is_billed_by_the_length_of_its_source(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        request = resolve(
            "luma-agents/ray-3.2-edit",
            task="video-to-video",
            references=[media.clip(8)],
            first=media.picture(),
            provider_options={"luma-agents": {"strength": "flex_2"}},
        )
        assert request.duration == 8
        await backend.submit(request, key="job:a1")
        assert sandbox.bill("luma-agents")[0]["usd"] == "1.728"

    async def test_a_failure_ends_the_attempt_and_leaves_the_cost_open(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("luma-agents", "fail_after_accept")
        operation = await backend.submit(text, key="job:a1")
        with pytest.raises(errors.GenerationFailed, match="failed") as caught:
            await self.finish(backend, operation)
        assert caught.value.billed_usd is None


async def test_the_text_payload_is_the_documented_one(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve(MODEL, aspect_ratio="9:16", camera="pan=5")
    assert await make(LumaAgents).payload(request) == {
        "model": "ray-3.2",
        "type": "video",
        "prompt": "a red fox in the snow The camera pans right.",
        "aspect_ratio": "9:16",
        "video": {"resolution": "720p", "duration": "5s"},
    }


async def test_frames_go_by_name_with_five_seconds_and_on_the_grid_with_ten(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend, first, last = make(LumaAgents), media.picture(), media.picture(colour="red")
    short = (await backend.payload(resolve(MODEL, first=first, last=last)))["video"]
    assert set(short) == {"resolution", "duration", "start_frame", "end_frame"}
    assert short["start_frame"] == {"data": await backend.base64_of(first), "media_type": "image/png"}
    long = (await backend.payload(resolve(MODEL, first=first, last=last, duration=10)))["video"]
    assert set(long) == {"resolution", "duration", "keyframes", "keyframe_indexes"}
    assert long["keyframe_indexes"] == [0, 240]
    assert long["keyframes"] == [short["start_frame"], short["end_frame"]]
    alone = (await backend.payload(resolve(MODEL, first=first, duration=10)))["video"]
    assert alone["keyframe_indexes"] == [0]


async def test_extend_edit_and_reframe_name_their_source(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend, mine, foreign = make(LumaAgents), own(media, "g1"), media.clip()
    body = await backend.payload(resolve(f"{MODEL}-extend", task="extend", references=[mine]))
    assert body["video"] == {
        "resolution": "720p",
        "duration": "5s",
        "start_frame": {"generation_id": "g1"},
    }
    assert "aspect_ratio" not in body
    body = await backend.payload(resolve(f"{MODEL}-edit", task="video-to-video", references=[foreign]))
    assert (body["type"], body["source"]["media_type"]) == ("video_edit", "video/mp4")
    assert body["video"] == {"resolution": "720p", "edit": {"auto_controls": True}}
    body = await backend.payload(
        resolve(f"{MODEL}-reframe", task="video-to-video", references=[mine], aspect_ratio="1:1")
    )
    assert body == {
        "model": "ray-3.2",
        "type": "video_reframe",
        "prompt": "a red fox in the snow",
        "aspect_ratio": "1:1",
        "source": {"generation_id": "g1"},
        "video": {"resolution": "720p"},
    }


async def test_a_reframe_never_stands_in_for_an_edit(make: MakeBackend) -> None:
    cards = make(LumaAgents).config.cards
    assert cards[f"{MODEL}-reframe"].only_when_named
    assert cards[f"{MODEL}-reframe"].family != cards[f"{MODEL}-edit"].family


async def test_every_payload_fits_the_types_of_the_official_sdk(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend = make(LumaAgents)
    seen = 0
    for card in backend.config.cards.values():
        for task in card.tasks:
            for duration in card.durations or (None,):
                request = resolve(
                    card.id,
                    task=task,
                    duration=duration,
                    first=media.picture() if task is Task.IMAGE_TO_VIDEO else None,
                    references=[own(media, "g1")] if card.references else [],
                )
                body = await backend.payload(request)
                TypeAdapter(GenerationCreateParams).validate_python(body)
                assert maybe_transform(body, GenerationCreateParams) == body
                seen += 1
    assert seen == 7


@pytest.mark.parametrize(
    ("model", "fields", "name"),
    [
        (MODEL, {"duration": 10}, ("loop", True)),
        (MODEL, {}, ("loop", "yes")),
        (f"{MODEL}-edit", {"task": "video-to-video"}, ("strength", "flex_4")),
    ],
)
async def test_an_option_that_does_not_go_is_refused_before_anything_is_sent(
    make: MakeBackend,
    resolve: Resolve,
    media: FolderMedia,
    model: str,
    fields: dict[str, Any],
    name: tuple[str, Any],
) -> None:
    references = [media.clip()] if "task" in fields else []
    request = resolve(model, references=references, provider_options={"luma-agents": dict([name])}, **fields)
    async with ScriptedServer([reply(201, GENERATION)]) as server:
        with pytest.raises(errors.InvalidRequest) as caught:
            await make(LumaAgents, server.url).submit(request, key="job:a1")
    assert caught.value.param == f"provider_options.luma-agents.{name[0]}"
    assert server.seen == []


async def test_a_loop_of_five_seconds_is_sent(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve(MODEL, provider_options={"luma-agents": {"loop": True}})
    assert (await make(LumaAgents).payload(request))["video"]["loop"] is True


async def test_a_video_too_long_to_edit_is_left_to_others(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve(f"{MODEL}-edit", task="video-to-video", references=[media.clip(19)])
    async with ScriptedServer([reply(201, GENERATION)]) as server:
        with pytest.raises(errors.BackendError, match="at most 18 s") as caught:
            await make(LumaAgents, server.url).submit(request, key="job:a1")
    assert type(caught.value) is errors.BackendError and server.seen == []


@pytest.mark.parametrize(
    ("file", "error"),
    [
        ({"id": "f1", "state": "failed", "failure_reason": "moderation rejected it"}, errors.ContentRejected),
        ({"id": "f1", "state": "failed", "failure_reason": "corrupt"}, errors.InvalidRequest),
        ({"id": "f1", "state": "deleted"}, errors.InvalidRequest),
        (PENDING_FILE, errors.Unavailable),
    ],
)
async def test_an_upload_that_is_not_taken_buys_nothing(
    make: MakeBackend,
    resolve: Resolve,
    media: FolderMedia,
    monkeypatch: pytest.MonkeyPatch,
    file: dict[str, Any],
    error: type[errors.GatewayError],
) -> None:
    monkeypatch.setattr("api_providers.luma_agents.READY_TRIES", 3)

    def created(seen: Any) -> bytes:
        url = f"http://{seen.headers['host']}/_upload/f1"
        return reply(201, {**PENDING_FILE, "upload": {"method": "PUT", "url": url, "headers": {"X-A": "b"}}})

    async with ScriptedServer([created, reply(200), reply(200, PENDING_FILE), reply(200, file)]) as server:
        with pytest.raises(error) as caught:
            await make(LumaAgents, server.url).submit(resolve(MODEL, first=large(media)), key="job:a1")
    assert type(caught.value) is error
    put = server.seen[1]
    assert (put.method, put.headers["x-a"], put.headers.get("authorization")) == ("PUT", "b", None)
    assert not any(seen.target == "/generations" for seen in server.seen)


@pytest.mark.parametrize(
    ("code", "error", "word"),
    [
        ("content_moderated", errors.ContentRejected, "safety filter"),
        ("generation_failed", errors.GenerationFailed, "then failed"),
        ("output_not_found", errors.GenerationFailed, "then failed"),
        ("budget_exhausted", errors.GenerationFailed, "add funds"),
        ("image_too_large", errors.GenerationFailed, "smaller"),
        ("unsupported_format", errors.GenerationFailed, "format"),
        ("corrupt_input", errors.GenerationFailed, "broken"),
        ("invalid_request", errors.GenerationFailed, "change it"),
        ("rate_limited", errors.GenerationFailed, "later"),
        ("invented_later", errors.GenerationFailed, "then failed"),
        (None, errors.GenerationFailed, "then failed"),
    ],
)
async def test_a_failure_code_says_what_to_do(
    make: MakeBackend, code: str | None, error: type[errors.GatewayError], word: str
) -> None:
    body = {**GENERATION, "state": "failed", "failure_code": code, "failure_reason": "because"}
    async with ScriptedServer([reply(200, body)]) as server:
        with pytest.raises(error, match=word) as caught:
            await make(LumaAgents, server.url).poll(Operation(ref="g/1"))
    assert type(caught.value) is error and caught.value.billed_usd is None
    assert "because" in caught.value.message.en and "because" in caught.value.message.ja
    assert server.seen[0].target == "/generations/g%2F1"


@pytest.mark.parametrize(
    ("status", "detail", "error"),
    [
        (400, "bad", errors.InvalidRequest),
        (400, "The image was rejected by content moderation", errors.ContentRejected),
        (401, "no", errors.AuthenticationFailed),
        (402, "no", errors.QuotaExhausted),
        (403, "suspended", errors.AuthenticationFailed),
        (413, "too large", errors.InvalidRequest),
        (422, [{"loc": ["body", "video"], "msg": "no such combination"}], errors.InvalidRequest),
        (429, "no", errors.RateLimited),
        (503, "no", errors.Unavailable),
        (502, "no", errors.OutcomeUnknown),
    ],
)
async def test_a_refused_create_has_its_name(
    make: MakeBackend, resolve: Resolve, status: int, detail: Any, error: type[errors.GatewayError]
) -> None:
    answer = reply(status, {"detail": detail}, {"Retry-After": "17"})
    async with ScriptedServer([answer]) as server:
        with pytest.raises(error) as caught:
            await make(LumaAgents, server.url).submit(resolve(MODEL), key="job:a1")
    assert type(caught.value) is error
    if error is errors.RateLimited:
        assert caught.value.retry_after == 17


async def test_only_videos_count_as_results(make: MakeBackend) -> None:
    exr = {"type": "exr", "url": "https://signed.example/x.zip"}
    video = {"type": "video", "url": "https://signed.example/x.mp4"}
    for output, urls in (([exr, video], [video["url"]]), ([exr], None), ([], None), (None, None)):
        async with ScriptedServer(
            [reply(200, {**GENERATION, "state": "completed", "output": output})]
        ) as server:
            backend = make(LumaAgents, server.url)
            if urls is None:
                with pytest.raises(errors.UnexpectedResponse):
                    await backend.poll(Operation(ref="g1"))
            else:
                done = await backend.poll(Operation(ref="g1"))
                assert [one.url for one in done.outputs] == urls and done.billed_usd is None


async def test_no_progress_is_invented(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, {**GENERATION, "state": "processing"})]) as server:
        state = await make(LumaAgents, server.url, poll_after=5).poll(Operation(ref="g1"))
    assert state == Pending(poll_after=5.0)
