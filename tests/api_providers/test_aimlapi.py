"""AI/ML API against its twin, and against bodies written down from its OpenAPI files."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from api_providers.aimlapi import DATA_URI_MAX_BYTES, AimlApi
from router.contract import errors
from router.contract.backend import Completed, Operation, Pending
from router.pricing import estimate
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

ID = "6c0e9a1e-1111-4222-8333-444455556666:kling-video/v1.5/pro/text-to-video"
DATA = "data:image/png;base64,"


def view(status: str, **changes: Any) -> dict[str, Any]:
    return {"id": ID, "status": status, "video": None, "error": None, **changes}


class TestAimlApi(BackendSuite):
    kind = AimlApi
    twin = "aimlapi"
    key = SECRET
    text_model = "aimlapi/kling-2.6-pro"
    image_model = "aimlapi/kling-2.6-pro"
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "queued": "queued",
        "waiting": "queued",
        "generating": "running",
        "active": "running",
        "completed": "done",
        "error": errors.GenerationFailed,
        "failed": errors.GenerationFailed,
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        video = {"url": "https://cdn.example/out.mp4", "content_type": "video/mp4", "file_size": 1}
        return view(status, **({"video": video} if status == "completed" else {}))

    def dead_link(self, url: str) -> str:
        base, _, name = url.rpartition("/")
        return f"{base.rpartition('/')[0]}/0123456789abcdef/{name}"

    async def test_the_known_price_is_the_silent_one_and_sound_has_none(
        self, backend: Any, resolve: Resolve, sandbox: SandboxProcess
    ) -> None:
        silent = resolve("aimlapi/kling-2.6-pro", duration=10)
        price = estimate(backend.card(silent), silent)
        assert price is not None and price.usd == Decimal("0.91")
        assert "unverified" in price.source
        loud = resolve("aimlapi/kling-2.6-pro", duration=10, generate_audio=True)
        assert estimate(backend.card(loud), loud) is None

    async def test_the_inference_id_of_the_charge_is_kept(self, backend: Any, text: Any) -> None:
        operation = await backend.submit(text, key="job:a1")
        assert len(str(operation.data["inference_id"])) == 36

    async def test_a_failed_task_cost_nothing_and_says_why(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("aimlapi", "fail_after_accept")
        operation = await backend.submit(text, key="job:a1")
        with pytest.raises(errors.GenerationFailed, match="detect face") as caught:
            await self.finish(backend, operation)
        assert caught.value.billed_usd == 0

    async def test_check_tells_the_balance(self, backend: Any) -> None:
        assert await backend.check() == {"balance_usd": "1000.0", "currency": "USD"}

    async def test_credits_are_kept_and_not_booked(self, backend: Any, text: Any) -> None:
        done = await self.finish(backend, await backend.submit(text, key="job:a1"))
        assert (done.billed_usd, done.details) == (None, {"credits_used": 910_000})

    @pytest.mark.parametrize("camera", ["roll=-3", "zoom_out", "forward_up"])
    @pytest.mark.parametrize("picture", [False, True])
    async def test_every_camera_form_is_taken(
        self, backend: Any, resolve: Resolve, media: FolderMedia, camera: str, picture: bool
    ) -> None:
        first = media.picture() if picture else None
        request = resolve("aimlapi/kling-2.1-master", camera=camera, first=first)
        assert (await self.finish(backend, await backend.submit(request, key="job:a1"))).outputs


async def test_text_payload_is_the_documented_one(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve("aimlapi/kling-2.6-pro", duration=10, negative_prompt="rain", camera="pan=-9")
    assert await make(AimlApi).payload(request) == {
        "model": "klingai/video-v2-6-pro-text-to-video",
        "prompt": "a red fox in the snow The camera pans left quickly.",
        "negative_prompt": "rain",
        "duration": 10,
        "aspect_ratio": "16:9",
        "generate_audio": False,
    }


async def test_image_payload_takes_no_ratio_and_a_data_uri(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    body = await make(AimlApi).payload(resolve("aimlapi/kling-2.6-pro", first=media.picture()))
    assert body.pop("image_url").startswith(DATA)
    assert body == {
        "model": "klingai/video-v2-6-pro-image-to-video",
        "prompt": "a red fox in the snow",
        "duration": 5,
        "generate_audio": False,
    }


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("aimlapi/kling-3.0-pro", "tail_image_url"),
        ("aimlapi/kling-3.0-omni-standard", "tail_image_url"),
        ("aimlapi/kling-o1", "last_image_url"),
        ("aimlapi/hailuo-02", "last_image_url"),
        ("aimlapi/minimax-h3", "last_image_url"),
    ],
)
async def test_the_end_frame_has_a_name_for_each_model(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, model: str, field: str
) -> None:
    request = resolve(model, first=media.picture(), last=media.picture(colour="red"))
    body = await make(AimlApi).payload(request)
    assert body[field].startswith(DATA)
    assert body[field] != body["image_url"]
    assert len({"tail_image_url", "last_image_url"} & set(body)) == 1


async def test_a_model_without_an_end_frame_refuses_one(resolve: Resolve, media: FolderMedia) -> None:
    with pytest.raises(errors.UnsupportedRequest, match="no last frame"):
        resolve("aimlapi/kling-2.6-pro", first=media.picture(), last=media.picture(colour="red"))


async def test_sound_is_always_said_where_the_model_has_the_switch(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend = make(AimlApi)
    with_switch = {card.id for card in backend.config.cards.values() if card.audio == "optional"}
    assert len(with_switch) == 8
    for model in sorted(with_switch):
        card = backend.config.cards[model]
        for task in card.tasks:
            first = media.picture() if task == "image-to-video" else None
            for asked in (None, True):
                body = await backend.payload(resolve(model, first=first, generate_audio=asked))
                assert body["generate_audio"] is (asked is True), (model, task)


@pytest.mark.parametrize(
    ("camera", "fields"),
    [
        ("down_back", {"camera_control": "down_back"}),
        ("pan=-9", {"advanced_camera_control": {"movement_type": "pan", "movement_value": -9}}),
        ("zoom_in", {"advanced_camera_control": {"movement_type": "zoom", "movement_value": -5}}),
        ("tilt=0.2", {"advanced_camera_control": {"movement_type": "tilt", "movement_value": 1}}),
        ("tilt=0", {}),
    ],
)
async def test_the_camera_with_text_is_a_word_or_one_axis(
    make: MakeBackend, resolve: Resolve, camera: str, fields: dict[str, Any]
) -> None:
    body = await make(AimlApi).payload(resolve("aimlapi/kling-2.1-master", camera=camera))
    assert {name: value for name, value in body.items() if "camera" in name} == fields
    assert body["prompt"] == "a red fox in the snow"


@pytest.mark.parametrize(
    ("camera", "control"),
    [
        ("down_back", {"type": "down_back"}),
        (
            "vertical=2.5",
            {
                "type": "simple",
                "config": {"horizontal": 0, "vertical": 2.5, "pan": 0, "tilt": 0, "roll": 0, "zoom": 0},
            },
        ),
    ],
)
async def test_the_camera_with_an_image_is_an_object(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, camera: str, control: dict[str, Any]
) -> None:
    request = resolve("aimlapi/kling-2.1-master", first=media.picture(), camera=camera)
    body = await make(AimlApi).payload(request)
    assert body["camera_control"] == control
    assert "advanced_camera_control" not in body


async def test_a_rounded_movement_is_told(make: MakeBackend, resolve: Resolve) -> None:
    async with ScriptedServer([reply(200, {"id": ID, "status": "queued"})]) as server:
        backend = make(AimlApi, server.url)
        rounded = await backend.submit(resolve("aimlapi/kling-2.1-master", camera="roll=2.7"), key="job:a1")
        exact = await backend.submit(resolve("aimlapi/kling-2.1-master", camera="roll=3"), key="job:a2")
    assert ["by 3" in warning.en for warning in rounded.warnings] == [True]
    assert exact.warnings == ()


async def test_references_go_by_the_name_the_model_has(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend = make(AimlApi)
    red, blue = media.picture(colour="red"), media.picture(colour="blue")
    o1 = await backend.payload(resolve("aimlapi/kling-o1-reference", references=[red, blue]))
    assert len(o1["image_list"]) == 2
    elements = await backend.payload(
        resolve("aimlapi/kling-3.0-pro", first=media.picture(), references=[red, blue])
    )
    assert [len(one["reference_image_urls"]) for one in elements["elements"]] == [1, 1]
    edit = await backend.payload(
        resolve("aimlapi/kling-o1-edit", task="video-to-video", references=[media.clip(), red])
    )
    assert edit["video_url"].startswith("data:video/mp4;base64,") and len(edit["image_list"]) == 1
    assert "duration" not in edit
    h3 = await backend.payload(resolve("aimlapi/minimax-h3", references=[red, media.clip(), media.speech()]))
    assert [len(h3[name]) for name in ("reference_image_urls", "video_urls", "audio_urls")] == [1, 1, 1]
    assert (h3["ratio"], h3["resolution"], h3["duration"]) == ("adaptive", "2K", 6)
    wan = await backend.payload(resolve("aimlapi/wan-2.6", references=[media.speech()], resolution="720p"))
    assert wan["audio_url"].startswith("data:audio/wav;base64,")
    assert (wan["resolution"], wan["duration"], wan["seed"]) == ("720p", 10, 7)


async def test_motion_effect_and_avatar_payloads(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend = make(AimlApi)
    picture = media.picture()
    motion = await backend.payload(
        resolve(
            "aimlapi/kling-motion-control-3.0-pro",
            task="video-to-video",
            first=picture,
            references=[media.clip()],
            provider_options={"aimlapi": {"keep_audio": False}},
        )
    )
    assert (motion["model"], motion["mode"]) == ("klingai/video-v3-motion-control", "pro")
    assert set(motion) == {"model", "mode", "prompt", "image_url", "video_url", "keep_audio"}
    effect = await backend.payload(
        resolve("aimlapi/kling-effects-pro", task="effect", effect="squish", first=picture, duration=10)
    )
    assert effect.pop("image_url").startswith(DATA)
    assert effect == {
        "model": "klingai/kling-video-v1.6-pro-effects",
        "effect_scene": "squish",
        "duration": 10,
    }
    avatar = await backend.payload(
        resolve("aimlapi/kling-avatar-pro", task="avatar", first=picture, references=[media.speech()])
    )
    assert set(avatar) == {"model", "prompt", "image_url", "audio_url"}


async def test_a_scene_for_two_takes_both_pictures(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    first, second = media.picture(), media.picture(colour="red")
    request = resolve(
        "aimlapi/kling-effects-standard", task="effect", effect="hug", first=first, references=[second]
    )
    backend = make(AimlApi)
    body = await backend.payload(request)
    assert body["image_url"] == [await backend.place(first), await backend.place(second)]


async def test_an_effect_says_that_the_prompt_is_not_used(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve("aimlapi/kling-effects-pro", task="effect", effect="squish", first=media.picture())
    async with ScriptedServer([reply(200, {"id": ID, "status": "queued"})]) as server:
        operation = await make(AimlApi, server.url).submit(request, key="job:a1")
    assert "prompt was not used" in operation.warnings[0].en


async def test_ten_seconds_at_1080p_are_refused_by_the_card(resolve: Resolve) -> None:
    with pytest.raises(errors.UnsupportedRequest, match="combination"):
        resolve("aimlapi/hailuo-2.3", duration=10, resolution="1080p")
    assert resolve("aimlapi/hailuo-2.3", resolution="1080p").resolution == "1080P"


async def test_an_id_with_colons_and_slashes_is_encoded_in_the_query(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, view("queued"))]) as server:
        state = await make(AimlApi, server.url, poll_after=10.0).poll(Operation(ref=ID))
        (seen,) = server.seen
    assert state == Pending(poll_after=10.0, queued=True)
    assert urlsplit(seen.target).path == "/v2/video/generations"
    query = urlsplit(seen.target).query
    assert parse_qs(query) == {"generation_id": [ID]}
    assert query == (
        "generation_id=6c0e9a1e-1111-4222-8333-444455556666%3Akling-video%2Fv1.5%2Fpro%2Ftext-to-video"
    )
    assert seen.headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (
            "You've run out of credits. Please top up your balance or update your payment method to continue",
            errors.QuotaExhausted,
        ),
        ("Your plan limits have been exhausted; see Billing", errors.QuotaExhausted),
        ("This model is not allowed for your account", errors.AuthenticationFailed),
        ("", errors.AuthenticationFailed),
    ],
)
async def test_a_403_is_about_money_or_about_permission(
    make: MakeBackend, resolve: Resolve, message: str, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([reply(403, {"message": message, "statusCode": 403})]) as server:
        with pytest.raises(error) as caught:
            await make(AimlApi, server.url).submit(resolve("aimlapi/kling-2.6-pro"), key="job:a1")
    assert type(caught.value) is error


async def test_a_refused_data_uri_is_the_callers_before_anything_was_bought(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    body = {
        "message": "Body validation error!",
        "path": "/v2/video/generations",
        "statusCode": 400,
        "errors": [{"path": ["image_url"], "message": "Invalid url"}],
    }
    async with ScriptedServer([reply(400, body)]) as server:
        with pytest.raises(errors.InvalidRequest, match="error!; image_url: Invalid url"):
            await make(AimlApi, server.url).submit(
                resolve("aimlapi/kling-2.6-pro", first=media.picture()), key="job:a1"
            )
        assert len(server.seen) == 1


async def test_a_gateway_timeout_on_the_submit_leaves_doubt(make: MakeBackend, resolve: Resolve) -> None:
    async with ScriptedServer([reply(504, {"message": "Generation timeout", "statusCode": 504})]) as server:
        with pytest.raises(errors.OutcomeUnknown):
            await make(AimlApi, server.url).submit(resolve("aimlapi/kling-2.6-pro"), key="job:a1")
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        ({"name": "Error", "message": "Could not detect face"}, errors.GenerationFailed, "detect face"),
        (
            {"detail": [{"loc": ["body", "duration"], "msg": "Input should be 5 or 10", "type": "enum"}]},
            errors.GenerationFailed,
            "duration: Input should be",
        ),
        ({"message": "Prompt violates content policy"}, errors.ContentRejected, "content policy"),
        ("broken", errors.GenerationFailed, "broken"),
        (None, errors.GenerationFailed, "no reason given"),
    ],
)
async def test_a_failure_is_read_in_every_form_and_is_free(
    make: MakeBackend, error: Any, kind: type[errors.GatewayError], said: str
) -> None:
    async with ScriptedServer([reply(200, view("error", error=error))]) as server:
        with pytest.raises(kind, match=said) as caught:
            await make(AimlApi, server.url).poll(Operation(ref=ID))
    assert caught.value.billed_usd == 0


@pytest.mark.parametrize("video", [None, {}, {"url": ""}, []])
async def test_a_success_without_a_link_is_looked_at_again(make: MakeBackend, video: Any) -> None:
    async with ScriptedServer([reply(200, view("completed", video=video))]) as server:
        with pytest.raises(errors.UnexpectedResponse, match="without a link"):
            await make(AimlApi, server.url).poll(Operation(ref=ID))


async def test_the_documented_success_is_read(make: MakeBackend) -> None:
    body = {
        "id": ID,
        "status": "completed",
        "video": {"url": "https://cdn.example/out.mp4"},
        "error": None,
        "meta": {"usage": {"credits_used": 120000}},
    }
    async with ScriptedServer([reply(200, body)]) as server:
        done = await make(AimlApi, server.url).poll(Operation(ref=ID))
    assert isinstance(done, Completed)
    assert (done.outputs[0].url, done.details) == ("https://cdn.example/out.mp4", {"credits_used": 120000})


@pytest.mark.parametrize(
    ("body", "usd"),
    [
        ({"current_balance": 123.45, "currency": "USD"}, "123.45"),
        ({"current_balance": 123.45, "currency": "EUR"}, None),
        ({"current_balance": None}, None),
    ],
)
async def test_a_balance_counts_in_dollars_only(make: MakeBackend, body: Any, usd: str | None) -> None:
    async with ScriptedServer([reply(200, body)]) as server:
        assert (await make(AimlApi, server.url).check())["balance_usd"] == usd
        assert server.seen[0].target == "/v2/billing"


async def test_a_file_too_large_for_a_data_uri_is_left_to_others(
    make: MakeBackend, media: FolderMedia
) -> None:
    large = media.keep(bytes(DATA_URI_MAX_BYTES + 1), "video/mp4", duration_s=5)
    with pytest.raises(errors.BackendError, match="7 MB") as caught:
        await make(AimlApi).place(large)
    assert caught.value.param == "input_references"


async def test_a_cancel_is_told_plainly_that_it_cannot_be(make: MakeBackend) -> None:
    async with ScriptedServer([reply(500)]) as server:
        assert await make(AimlApi, server.url).cancel(Operation(ref=ID)) is False
        assert server.seen == []
