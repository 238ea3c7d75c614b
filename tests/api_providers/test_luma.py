"""Luma Dream Machine against its twin, its SDK's own request types, and answers written down from its documentation."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from lumaai._utils import maybe_transform
from lumaai.types import generation_upscale_params as upscale
from lumaai.types.generations import video_create_params as create
from pydantic import TypeAdapter

from api_providers.luma import Luma
from router.contract import errors
from router.contract.backend import Completed, Operation, Pending
from router.contract.card import InputMedia, ResolvedRequest
from router.contract.request import CAMERA_PRESETS
from router.pricing import estimate
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

GENERATION = {
    "id": "g1",
    "generation_type": "video",
    "created_at": "2026-11-21T01:02:03.000Z",
    "model": "ray-2",
}


def own(media: FolderMedia, ref: str) -> InputMedia:
    """A clip that Luma made for us earlier."""
    return media.clip().model_copy(update={"source_backend": "luma", "source_ref": ref})


class TestLuma(BackendSuite):
    kind = Luma
    twin = "luma"
    key = SECRET
    text_model = "luma/ray-2"
    image_model = "luma/ray-2"
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "queued": "queued",
        "dreaming": "running",
        "completed": "done",
        "failed": errors.GenerationFailed,
    }
    cannot: ClassVar[Mapping[str, str]] = {
        "a_picture_becomes_a_clip": "Luma takes pictures only from a public address of the caller's and has no upload",
        "a_failure_after_acceptance_says_what_it_cost": "Luma neither tells nor documents what a failure costs",
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        assets = {"video": "https://cdn.example/out.mp4"} if status == "completed" else None
        return {**GENERATION, "state": status, "assets": assets}

    def dead_link(self, url: str) -> str:
        return url.partition("?")[0]

    async def test_a_public_picture_becomes_a_clip(
        self, backend: Any, resolve: Resolve, sandbox: SandboxProcess
    ) -> None:
        frames = {
            name: f"https://pictures.example/{name}.jpg" for name in ("first_frame_url", "last_frame_url")
        }
        request = resolve("luma/ray-2", provider_options={"luma": frames})
        assert (await self.finish(backend, await backend.submit(request, key="job:a1"))).outputs
        assert len(sandbox.bill("luma")) == 1

    async def test_a_failure_ends_the_attempt_and_leaves_the_cost_open(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("luma", "fail_after_accept")
        operation = await backend.submit(text, key="job:a1")
        with pytest.raises(errors.GenerationFailed, match="internal error") as caught:
            await self.finish(backend, operation)
        assert caught.value.billed_usd is None

    async def test_the_balance_is_dollars_not_cents(self, backend: Any, text: ResolvedRequest) -> None:
        assert (await backend.check())["balance_usd"] == "2310.00"
        await backend.submit(text, key="job:a1")
        assert (await backend.check())["balance_usd"] == "2309.29"

    async def test_an_unfinished_clip_is_refused_as_a_source(
        self,
        backend: Any,
        text: ResolvedRequest,
        resolve: Resolve,
        media: FolderMedia,
        sandbox: SandboxProcess,
    ) -> None:
        sandbox.settings("luma", render_seconds=600)
        source = await backend.submit(text, key="job:a1")
        request = resolve("luma/ray-2-extend", task="extend", references=[own(media, source.ref)])
        with pytest.raises(errors.InvalidRequest, match="not completed"):
            await backend.submit(request, key="job:a2")


async def test_the_text_payload_is_the_documented_one(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve("luma/ray-2", duration=9, aspect_ratio="9:16", camera={"preset": "dolly_in"})
    assert make(Luma).payload(request) == (
        "generations/video",
        {
            "generation_type": "video",
            "model": "ray-2",
            "prompt": "a red fox in the snow",
            "resolution": "720p",
            "duration": "9s",
            "aspect_ratio": "9:16",
            "concepts": [{"key": "push_in"}],
        },
    )


async def test_options_become_keyframes_loop_and_concepts(make: MakeBackend, resolve: Resolve) -> None:
    options = {
        "first_frame_url": "https://ex.com/a.jpg",
        "last_frame_url": "https://ex.com/b.jpg",
        "loop": True,
        "concepts": ["low_angle", "handheld"],
    }
    request = resolve("luma/ray-flash-2", camera={"preset": "handheld"}, provider_options={"luma": options})
    _, body = make(Luma).payload(request)
    assert body["keyframes"] == {
        "frame0": {"type": "image", "url": "https://ex.com/a.jpg"},
        "frame1": {"type": "image", "url": "https://ex.com/b.jpg"},
    }
    assert body["loop"] is True
    assert body["concepts"] == [{"key": "handheld"}, {"key": "low_angle"}]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loop", "yes"),
        ("concepts", "handheld"),
        ("concepts", [1]),
        ("first_frame_url", "data:image/png;base64,AAAA"),
        ("first_frame_url", 7),
        ("last_frame_url", "file:///etc/passwd"),
    ],
)
async def test_an_option_of_the_wrong_kind_is_refused_before_anything_is_sent(
    make: MakeBackend, resolve: Resolve, name: str, value: Any
) -> None:
    async with ScriptedServer([reply(201, GENERATION)]) as server:
        request = resolve("luma/ray-2", provider_options={"luma": {name: value}})
        with pytest.raises(errors.InvalidRequest) as caught:
            await make(Luma, server.url).submit(request, key="job:a1")
    assert caught.value.param == f"provider_options.luma.{name}"
    assert server.seen == []


async def test_extend_and_upscale_name_the_earlier_generation(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend, source = make(Luma), own(media, "g/1")
    _, body = backend.payload(resolve("luma/ray-2-extend", task="extend", references=[source]))
    assert body["keyframes"] == {"frame0": {"type": "generation", "id": "g/1"}}
    request = resolve("luma/upscale", task="upscale", references=[source], prompt="", resolution="4k")
    path, body = backend.payload(request)
    assert (path, body) == (
        "generations/g%2F1/upscale",
        {"generation_type": "upscale_video", "resolution": "4k"},
    )
    TypeAdapter(upscale.GenerationUpscaleParams).validate_python(body)


async def test_anothers_clip_and_a_local_picture_do_not_fit(resolve: Resolve, media: FolderMedia) -> None:
    with pytest.raises(errors.UnsupportedRequest, match="made by luma"):
        resolve("luma/ray-2-extend", task="extend", references=[media.clip()])
    with pytest.raises(errors.UnsupportedRequest, match="image-to-video is not possible"):
        resolve("luma/ray-2", first=media.picture())


async def test_every_payload_fits_the_types_of_the_official_sdk(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend = make(Luma)
    for card in backend.config.cards.values():
        if card.id == "luma/upscale":
            continue
        references = [own(media, "g1")] if card.own_source else []
        request = resolve(card.id, task=card.tasks[0], references=references, camera={"preset": "orbit_left"})
        _, body = backend.payload(request)
        TypeAdapter(create.VideoCreateParams).validate_python(body)
        assert maybe_transform(body, create.VideoCreateParams) == body, "and the SDK would send the same body"


async def test_every_camera_preset_that_is_offered_is_a_concept(
    make: MakeBackend, resolve: Resolve, sandbox: SandboxProcess
) -> None:
    backend = make(Luma, f"{sandbox.url}/luma")
    offered = backend.config.cards["luma/ray-2"].camera_presets
    assert set(offered) <= set(CAMERA_PRESETS)
    for preset in offered:
        await backend.submit(resolve("luma/ray-2", camera={"preset": preset}), key="job:a1")
    assert len(sandbox.bill("luma")) == len(offered)


def test_a_ratio_of_other_pixels_has_no_price(make: MakeBackend, resolve: Resolve) -> None:
    card = make(Luma).config.cards["luma/ray-2"]
    assert estimate(card, resolve("luma/ray-2", aspect_ratio="21:9")) is None
    price = estimate(card, resolve("luma/ray-2", aspect_ratio="9:16", duration=9, resolution="540p"))
    assert price is not None and price.usd == Decimal("0.72")


@pytest.mark.parametrize(
    ("status", "detail", "error"),
    [
        (400, "Insufficient credits", errors.QuotaExhausted),
        (403, "You do not have enough credits", errors.QuotaExhausted),
        (402, "no", errors.QuotaExhausted),
        (400, "The prompt was rejected by moderation", errors.ContentRejected),
        (400, "concepts are not supported for this model", errors.InvalidRequest),
        (422, [{"loc": ["body", "duration"], "msg": "duration is wrong"}], errors.InvalidRequest),
        (401, "Invalid API key", errors.AuthenticationFailed),
        (403, "Forbidden", errors.AuthenticationFailed),
        (429, "credit the rate limit", errors.RateLimited),
        (500, "boom", errors.Unavailable),
        (502, "boom", errors.OutcomeUnknown),
    ],
)
async def test_a_refused_create_has_its_name(
    make: MakeBackend, resolve: Resolve, status: int, detail: Any, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([reply(status, {"detail": detail})]) as server:
        with pytest.raises(error) as caught:
            await make(Luma, server.url).submit(resolve("luma/ray-2"), key="job:a1")
    assert type(caught.value) is error
    assert server.seen[0].target == "/generations/video"
    assert server.seen[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("Content moderation: frame moderation failed", errors.ContentRejected),
        ("400: The input is NSFW", errors.ContentRejected),
        ("Internal error", errors.GenerationFailed),
        (None, errors.GenerationFailed),
    ],
)
async def test_a_failure_is_judged_by_its_words(
    make: MakeBackend, reason: str | None, error: type[errors.GatewayError]
) -> None:
    body = {**GENERATION, "state": "failed", "failure_reason": reason, "assets": None}
    async with ScriptedServer([reply(200, body)]) as server:
        with pytest.raises(error) as caught:
            await make(Luma, server.url).poll(Operation(ref="g/1"))
    assert type(caught.value) is error and caught.value.billed_usd is None
    assert server.seen[0].target == "/generations/g%2F1"


async def test_a_completed_generation_without_a_video_is_looked_at_again(make: MakeBackend) -> None:
    for assets in (None, {}, {"video": None, "image": "https://x/y.png"}):
        async with ScriptedServer(
            [reply(200, {**GENERATION, "state": "completed", "assets": assets})]
        ) as server:
            with pytest.raises(errors.UnexpectedResponse):
                await make(Luma, server.url).poll(Operation(ref="g1"))


async def test_no_progress_is_invented_and_nulls_are_fine(make: MakeBackend) -> None:
    nulls = {
        "id": None,
        "assets": {"progress_video": "https://x"},
        "failure_reason": None,
        "state": "dreaming",
    }
    async with ScriptedServer([reply(200, nulls)]) as server:
        state = await make(Luma, server.url, poll_after=5).poll(Operation(ref="g1"))
    assert state == Pending(poll_after=5.0)


async def test_the_result_tells_no_cost(make: MakeBackend) -> None:
    body = {**GENERATION, "state": "completed", "assets": {"video": "https://cdn.example/a.mp4"}}
    async with ScriptedServer([reply(200, body)]) as server:
        done = await make(Luma, server.url).poll(Operation(ref="g1"))
    assert isinstance(done, Completed) and done.billed_usd is None
