"""fal against its twin, and against answers written down from its documentation."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from api_providers.fal import DATA_URI_MAX_BYTES, Fal
from router.contract import errors
from router.contract.backend import Completed, Operation, Pending
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
    statuses: ClassVar[Mapping[str, Stands]] = {"IN_QUEUE": "queued", "IN_PROGRESS": "running"}

    def operation(self, ref: str) -> Operation:
        return operation(ref)

    def status_body(self, status: str) -> dict[str, Any]:
        return {"status": status, "request_id": "t1", "logs": None}

    def dead_link(self, url: str) -> str:
        base, _, name = url.rpartition("/")
        return f"{base.rpartition('/')[0]}/0123456789abcdef/{name}"

    async def test_all_models_and_modes_are_accepted_and_made(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        for card in (c for c in backend.config.cards.values() if c.backend == "fal"):
            modes: list[dict[str, Any]] = [{}, {"first": media.picture()}]
            if card.last_frame:
                modes.append({"first": media.picture(), "last": media.picture(colour="red")})
            for frames in modes:
                request = resolve(card.id, duration=min(card.durations), **frames)
                done = await self.finish(backend, await backend.submit(request, key="job:a1"))
                price = next(
                    p for p in card.prices if all(request.condition(k) == v for k, v in p.when.items())
                )
                row = sandbox.bill("fal")[-1]
                assert done.outputs
                assert Decimal(row["usd"]) == (price.usd or 0) * Decimal(str(request.duration)), row

    async def test_the_seed_the_model_used_is_kept(self, backend: Any, text: Any) -> None:
        done = await self.finish(backend, await backend.submit(text, key="job:a1"))
        assert done.details == {"seed": 7}

    async def test_a_bad_input_shows_only_after_acceptance_and_names_the_field(
        self, backend: Any, text: Any
    ) -> None:
        wrong = text.model_copy(update={"options": {"aspect_ratio": "7:5"}})
        accepted = await backend.submit(wrong, key="job:a1")
        with pytest.raises(errors.GenerationFailed, match="aspect_ratio") as caught:
            await self.finish(backend, accepted)
        assert caught.value.billed_usd is None


async def test_kling_text_payload_is_the_documented_one(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve("fal/kling-2.6-pro", duration=10, generate_audio=False, camera="tilt=2")
    assert await make(Fal).payload(request) == (
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
    path, body = await make(Fal).payload(request)
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
    path, body = await make(Fal).payload(resolve("fal/veo3.1-fast", first=first, last=last, **options))
    assert path == "fal-ai/veo3.1/fast/first-last-frame-to-video"
    assert {"first_frame_url", "last_frame_url"} <= set(body)
    path, body = await make(Fal).payload(resolve("fal/veo3.1", first=first, duration=6, resolution="4k"))
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


async def test_a_picture_too_large_for_a_data_uri_is_left_to_others(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    large = media.keep(bytes(DATA_URI_MAX_BYTES + 1), "image/png", 640, 360)
    with pytest.raises(errors.BackendError) as caught:
        await make(Fal).payload(resolve("fal/veo3.1", first=large))
    assert caught.value.next_step is errors.NextStep.REROUTE
