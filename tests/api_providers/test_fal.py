"""fal against its twin, and against answers written down from its documentation."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from api_providers.fal import DATA_URI_MAX_BYTES, UPLOAD_MAX_BYTES, Fal
from router.contract import errors
from router.contract.backend import Checks, Completed, Describes, Operation, Pending
from router.contract.card import ModelCard
from router.pricing import estimate
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

KEY = f"{SECRET}:{SECRET}"
DONE = reply(200, {"status": "COMPLETED", "request_id": "t1", "logs": None})


def operation(ref: str = "t1") -> Operation:
    base = f"/fal-ai/veo3.1/requests/{ref}"
    return Operation(ref=ref, data={"status": f"{base}/status", "response": base, "cancel": f"{base}/cancel"})


class TestFal(BackendSuite):
    kind = Fal
    twin = "fal"
    key = KEY
    text_model = "fal/veo3.1-fast"
    image_model = "fal/kling-2.6-pro"
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "IN_QUEUE": "queued",
        "IN_PROGRESS": "running",
        "COMPLETED": "done",
    }

    def operation(self, ref: str) -> Operation:
        return operation(ref)

    def status_body(self, status: str) -> dict[str, Any]:
        # The look and the result in one, since the scripted server gives the same answer to both.
        video = {"video": {"url": "https://v3.fal.media/x.mp4"}} if status == "COMPLETED" else {}
        return {"status": status, "request_id": "t1", "logs": None, **video}

    def dead_link(self, url: str) -> str:
        base, _, name = url.rpartition("/")
        return f"{base.rpartition('/')[0]}/0123456789abcdef/{name}"

    async def test_the_seed_the_model_used_is_kept(self, backend: Any, text: Any) -> None:
        done = await self.finish(backend, await backend.submit(text, key="job:a1"))
        assert done.details == {"seed": 7}

    async def test_a_bad_input_shows_only_after_acceptance_and_names_the_field(
        self, backend: Any, text: Any
    ) -> None:
        wrong = text.model_copy(update={"aspect_ratio": "7:5"})
        accepted = await backend.submit(wrong, key="job:a1")
        with pytest.raises(errors.GenerationFailed, match="aspect_ratio") as caught:
            await self.finish(backend, accepted)
        assert caught.value.billed_usd is None

    async def test_the_place_in_the_queue_is_told(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("fal", render_seconds=600, concurrency=1)
        operations = [await backend.submit(text, key=f"job:a{n}") for n in range(3)]
        assert [(await backend.poll(one)).ahead for one in operations] == [0, 0, 1]

    async def test_a_large_picture_is_uploaded_before_anything_is_bought_and_its_link_carries_no_key(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        small = media.path(media.picture().asset).read_bytes()
        large = media.keep(small + bytes(DATA_URI_MAX_BYTES), "image/png", 640, 360)
        request = resolve("fal/kling-2.6-pro", first=large)
        body = (await backend.prepare(request)).body
        assert body["start_image_url"].startswith(f"{sandbox.url}/fal/_cdn/")
        assert sandbox.bill("fal") == []
        assert (await self.finish(backend, await backend.submit(request, key="job:a1"))).outputs
        calls = sandbox.requests()
        assert [c["method"] for c in calls if "/_cdn/" in c["path"]][:1] == ["PUT"]
        assert not any(c["leaked_key"] for c in calls)

    async def test_an_endpoint_described_only_by_its_schema_makes_a_clip(
        self, make: MakeBackend, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("fal", render_seconds=0)
        backend = make(Fal, f"{sandbox.url}/fal", key=KEY)
        users_own = users_card("fal-ai/kling-video/v3/pro/image-to-video")
        backend.config.cards[users_own.id] = users_own
        asked = resolve("fal/kling-2.6-pro", first=media.picture())
        request = asked.model_copy(update={"model": users_own.id, "wire_id": users_own.wire_id})
        prepared = await backend.prepare(request)
        assert prepared.path == users_own.wire_id
        assert prepared.body.pop("start_image_url").startswith("data:image/png")
        assert prepared.body == {"prompt": "a red fox in the snow", "generate_audio": False}
        assert (await self.finish(backend, await backend.submit(request, key="job:a1"))).outputs
        looks = [c for c in sandbox.requests() if c["path"].endswith("openapi.json")]
        assert len(looks) == 1, "read once, then kept"

    async def test_a_value_that_the_schema_does_not_allow_is_refused_before_money(
        self, backend: Any, resolve: Resolve, sandbox: SandboxProcess
    ) -> None:
        asked = resolve("fal/wan-2.7", duration=5)
        wrong = asked.model_copy(update={"duration": 40.0, "aspect_ratio": "21:9"})
        with pytest.raises(errors.UnsupportedRequest) as caught:
            await backend.submit(wrong, key="job:a1")
        assert {misfit.field for misfit in caught.value.misfits} == {"duration", "aspect_ratio"}
        assert sandbox.bill("fal") == []

    async def test_a_model_that_is_gone_is_left_to_other_backends(
        self, backend: Any, resolve: Resolve, sandbox: SandboxProcess
    ) -> None:
        gone = users_card("fal-ai/gone")
        backend.config.cards[gone.id] = gone
        request = resolve("fal/wan-2.7").model_copy(update={"model": gone.id})
        with pytest.raises(errors.BackendError) as caught:
            await backend.submit(request, key="job:a1")
        assert caught.value.next_step is errors.NextStep.REROUTE
        with pytest.raises(errors.NotFound):
            await backend.describe("fal-ai/gone")

    async def test_an_endpoint_becomes_a_row_of_the_catalogue(self, backend: Any) -> None:
        assert isinstance(backend, Describes)
        row = await backend.describe("fal-ai/veo3.1/first-last-frame-to-video")
        card = ModelCard.model_validate({**row, "backend": "fal"})
        assert card.tasks == ("image-to-video",)
        assert (card.durations, card.resolutions) == ((8, 6, 4), ("720p", "1080p", "4k"))
        assert card.aspect_ratios == ("16:9", "9:16", "auto")
        assert (card.audio, card.seed, card.last_frame, card.negative_prompt) == (
            "optional",
            True,
            True,
            True,
        )
        assert (card.prices, card.wire) == ((), {"schema": "live"})


def users_card(endpoint: str) -> ModelCard:
    """What a user's own TOML may say of any endpoint."""
    return ModelCard.model_validate(
        {
            "id": f"fal/{endpoint}",
            "backend": "fal",
            "wire_id": endpoint,
            "family": endpoint,
            "tasks": ["text-to-video", "image-to-video"],
            "wire": {"schema": "live"},
            "as_of": "2026-11-26",
            "source": "mine",
        }
    )


@pytest.mark.parametrize(("sound", "usd"), [(False, "0.35"), (True, "0.70")])
async def test_five_seconds_of_kling_2_6_pro_cost_what_fal_says(
    make: MakeBackend, resolve: Resolve, sound: bool, usd: str
) -> None:
    request = resolve("fal/kling-2.6-pro", generate_audio=sound)
    price = estimate(make(Fal).card(request), request)
    assert price is not None and price.usd == Decimal(usd)


async def test_a_refusal_of_fals_web_site_says_nothing_about_our_key(
    make: MakeBackend, resolve: Resolve
) -> None:
    async with ScriptedServer([reply(403, b"<html>are you a robot?</html>")]) as server:
        with pytest.raises(errors.Unavailable):
            await make(Fal, server.url, key=KEY).submit(resolve("fal/wan-2.7"), key="job:a1")
        assert [seen.method for seen in server.seen] == ["GET"], "nothing was bought"


async def test_check_asks_for_a_request_that_cannot_exist(make: MakeBackend) -> None:
    async with ScriptedServer([reply(404, {"detail": "Request not found"})]) as server:
        backend = make(Fal, server.url, key=KEY)
        assert isinstance(backend, Checks)
        assert await backend.check() == {}
        assert server.seen[0].method == "GET"


async def test_check_notices_a_locked_account(make: MakeBackend) -> None:
    locked = {"detail": "User is locked. Reason: Exhausted balance."}
    async with ScriptedServer([reply(403, locked)]) as server:
        with pytest.raises(errors.QuotaExhausted):
            await make(Fal, server.url, key=KEY).check()


async def test_kling_text_payload_is_the_documented_one(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve("fal/kling-2.6-pro", duration=10, generate_audio=False, camera="tilt=2")
    prepared = await make(Fal).prepare(request)
    assert (prepared.path, prepared.body) == (
        "fal-ai/kling-video/v2.6/pro/text-to-video",
        {
            "prompt": "a red fox in the snow The camera tilts up slowly.",
            "duration": "10",
            "aspect_ratio": "16:9",
            "generate_audio": False,
        },
    )


async def test_kling_image_payload_is_the_documented_one(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve("fal/kling-2.6-pro", first=media.picture(), negative_prompt="blur")
    path, body, _ = await make(Fal).prepare(request)
    assert path == "fal-ai/kling-video/v2.6/pro/image-to-video"
    assert body.pop("start_image_url").startswith("data:image/png;base64,")
    assert body == {
        "prompt": "a red fox in the snow",
        "negative_prompt": "blur",
        "duration": "5",
        "generate_audio": False,
    }


async def test_veo_payloads_are_the_documented_ones(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    first, last = media.picture(), media.picture(colour="red")
    options = {"provider_options": {"fal": {"auto_fix": True}}}
    path, body, _ = await make(Fal).prepare(resolve("fal/veo3.1-fast", first=first, last=last, **options))
    assert path == "fal-ai/veo3.1/fast/first-last-frame-to-video"
    assert {"first_frame_url", "last_frame_url"} <= set(body)
    path, body, _ = await make(Fal).prepare(resolve("fal/veo3.1", first=first, duration=6, resolution="4k"))
    assert path == "fal-ai/veo3.1/image-to-video"
    assert body.pop("image_url").startswith("data:image/png;base64,")
    assert body == {
        "prompt": "a red fox in the snow",
        "duration": "6s",
        "aspect_ratio": "16:9",
        "resolution": "4k",
        "generate_audio": False,
        "seed": 7,
    }


async def test_the_urls_of_the_answer_are_kept_as_paths(make: MakeBackend, resolve: Resolve) -> None:
    def accepted(seen: Any) -> bytes:
        base = f"http://{seen.headers['host']}/elsewhere/requests/t1"
        urls = {"status_url": f"{base}/status", "response_url": base, "cancel_url": f"{base}/cancel"}
        return reply(200, {"status": "IN_QUEUE", "request_id": "t1", "queue_position": 0, **urls})

    async with ScriptedServer([accepted]) as server:
        got = await make(Fal, server.url, key=KEY).submit(resolve("fal/veo3.1-fast"), key="job:a1")
        assert server.seen[0].target == "/fal-ai/veo3.1/fast"
        assert server.seen[0].headers["authorization"] == f"Key {KEY}"
    base = "/elsewhere/requests/t1"
    assert got.data == {"status": f"{base}/status", "response": base, "cancel": f"{base}/cancel"}


@pytest.mark.parametrize(
    "url",
    ["https://evil.example/x", "//evil.example/x", "http://127.0.0.1:1/x", "http://[bad", "", "x", None, 7],
)
async def test_a_strangers_url_is_replaced_by_the_documented_path(
    make: MakeBackend, resolve: Resolve, url: Any
) -> None:
    body = {"request_id": "t1", "status_url": url, "response_url": url, "cancel_url": url}
    async with ScriptedServer([reply(200, body)]) as server:
        got = await make(Fal, server.url, key=KEY).submit(resolve("fal/veo3.1-fast"), key="job:a1")
    assert got.data == operation().data, "without the sub-path"


@pytest.mark.parametrize(
    ("status", "body", "error", "billed"),
    [
        (500, {"detail": [{"loc": ["body"], "msg": "boom", "type": "internal_server_error"}]}, "failed", 0),
        (504, {"detail": "boom", "error_type": "request_timeout"}, "failed", 0),
        (422, {"detail": [{"loc": ["body", "prompt"], "msg": "boom", "type": "missing"}]}, "failed", None),
        (
            422,
            {"detail": [{"loc": ["body", "prompt"], "msg": "boom", "type": "content_policy_violation"}]},
            "refused",
            None,
        ),
    ],
)
async def test_a_completed_run_may_have_failed(
    make: MakeBackend, status: int, body: dict[str, Any], error: str, billed: int | None
) -> None:
    kinds = {"failed": errors.GenerationFailed, "refused": errors.ContentRejected}
    async with ScriptedServer([DONE, reply(status, body)]) as server:
        with pytest.raises(kinds[error], match="boom") as caught:
            await make(Fal, server.url, key=KEY).poll(operation())
    assert type(caught.value) is kinds[error]
    assert caught.value.billed_usd == (None if billed is None else Decimal(billed))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (502, b"<html>bad gateway</html>", errors.Unavailable),
        (401, {"detail": "no"}, errors.AuthenticationFailed),
        (429, {"detail": "slow down"}, errors.RateLimited),
        (200, {"images": []}, errors.UnexpectedResponse),
    ],
)
async def test_a_look_that_failed_does_not_end_the_run(
    make: MakeBackend, status: int, body: Any, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([DONE, reply(status, body)]) as server:
        with pytest.raises(error):
            await make(Fal, server.url, key=KEY).poll(operation())
    assert not issubclass(error, errors.ENDS_ACCEPTED)


async def test_a_completed_with_an_error_beside_it_failed(make: MakeBackend) -> None:
    done = {"status": "COMPLETED", "error": "Request timed out", "error_type": "request_timeout"}
    async with ScriptedServer([reply(200, done), reply(504, {"detail": "Request timed out"})]) as server:
        with pytest.raises(errors.GenerationFailed, match="timed out"):
            await make(Fal, server.url, key=KEY).poll(operation())


async def test_a_result_asked_for_too_early_is_pending(make: MakeBackend) -> None:
    early = reply(400, {"detail": "Request is still in progress"})
    async with ScriptedServer([DONE, early]) as server:
        assert isinstance(await make(Fal, server.url, key=KEY).poll(operation()), Pending)


async def test_the_first_of_several_videos_is_the_clip(make: MakeBackend) -> None:
    result = reply(
        200, {"videos": [{"url": "https://v3.fal.media/a.mp4"}, {"url": "https://v3.fal.media/b.mp4"}]}
    )
    async with ScriptedServer([DONE, result]) as server:
        done = await make(Fal, server.url, key=KEY).poll(operation())
    assert isinstance(done, Completed)
    assert done.outputs[0].url == "https://v3.fal.media/a.mp4"


@pytest.mark.parametrize(
    ("status", "word", "agreed"),
    [
        (200, "OK", True),
        (202, "CANCELLATION_REQUESTED", True),
        (400, "ALREADY_COMPLETED", False),
        (404, "NOT_FOUND", False),
    ],
)
async def test_cancel_answers_as_documented(make: MakeBackend, status: int, word: str, agreed: bool) -> None:
    async with ScriptedServer([reply(status, {"status": word})]) as server:
        assert await make(Fal, server.url, key=KEY).cancel(operation()) is agreed
        assert (server.seen[0].method, server.seen[0].target) == ("PUT", operation().data["cancel"])


@pytest.mark.parametrize(
    "look", [[reply(404, {"detail": "Not found"})], [DONE, reply(499, {"detail": "x", "error_type": "y"})]]
)
async def test_after_our_cancel_a_missing_or_failed_request_is_cancelled(
    make: MakeBackend, look: list[bytes]
) -> None:
    async with ScriptedServer([reply(202, {"status": "CANCELLATION_REQUESTED"}), *look]) as server:
        backend = make(Fal, server.url, key=KEY)
        await backend.cancel(operation())
        with pytest.raises(errors.Cancelled):
            await backend.poll(operation())


async def test_a_file_too_large_to_upload_is_left_to_others(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    picture = media.picture()
    huge = picture.asset.model_copy(update={"size_bytes": UPLOAD_MAX_BYTES + 1})
    with pytest.raises(errors.BackendError) as caught:
        await make(Fal).prepare(resolve("fal/veo3.1", first=picture.model_copy(update={"asset": huge})))
    assert caught.value.next_step is errors.NextStep.REROUTE
