"""Runway against its twin, its SDK's own request types, and answers written down from its documentation."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from pydantic import TypeAdapter
from runwayml._utils import maybe_transform
from runwayml.types import image_to_video_create_params as i2v
from runwayml.types import text_to_video_create_params as t2v

from api_providers.runway import DATA_URI_MAX_BYTES, Runway
from router.contract import errors
from router.contract.backend import Checks, Completed, Operation, Pending
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

TASK = {"id": "t1", "createdAt": "2026-11-21T01:02:03.000Z"}


class TestRunway(BackendSuite):
    kind = Runway
    twin = "runway"
    key = SECRET
    text_model = "runway/gen4.5"
    image_model = "runway/gen4_turbo"
    tells_cost = True
    statuses: ClassVar[Mapping[str, Stands]] = {
        "PENDING": "queued",
        "THROTTLED": "queued",
        "RUNNING": "running",
        "SUCCEEDED": "done",
        "FAILED": errors.GenerationFailed,
        "CANCELLED": errors.Cancelled,
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        output = {"output": ["https://cdn.example/out.mp4"]} if status == "SUCCEEDED" else {}
        return {**TASK, "status": status, **output}

    def dead_link(self, url: str) -> str:
        return url.partition("?")[0] + "?_jwt=1.0"

    async def test_the_estimate_of_the_submit_is_kept(self, backend: Any, resolve: Resolve) -> None:
        operation = await backend.submit(resolve("runway/gen4.5", duration=4), key="job:a1")
        assert operation.estimated_usd == Decimal("0.48")

    async def test_first_and_last_frame_make_a_clip(
        self, backend: Any, resolve: Resolve, media: FolderMedia
    ) -> None:
        request = resolve(
            "runway/veo3.1_fast", first=media.picture(), last=media.picture(colour="red"), duration=4
        )
        assert (await self.finish(backend, await backend.submit(request, key="job:a1"))).outputs

    async def test_a_large_picture_is_uploaded_before_anything_is_bought(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        small = media.path(media.picture().asset).read_bytes()
        large = media.keep(small + bytes(DATA_URI_MAX_BYTES), "image/png", 640, 360)
        request = resolve("runway/gen4_turbo", first=large)
        assert (await backend.payload(request))["promptImage"].startswith("runway://")
        assert sandbox.bill("runway") == []
        await self.finish(backend, await backend.submit(request, key="job:a1"))

    async def test_check_tells_the_balance(self, backend: Any) -> None:
        assert isinstance(backend, Checks)
        facts = await backend.check()
        assert facts["balance_usd"] == "10000.00"

    async def test_all_models_are_accepted_by_the_twin(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        cards = [card for card in backend.config.cards.values() if card.backend == "runway"]
        for card in cards:
            for task in card.tasks:
                first = media.picture() if task == "image-to-video" else None
                await backend.submit(resolve(card.id, first=first), key="job:a1")
        assert len(sandbox.bill("runway")) == sum(len(card.tasks) for card in cards)


async def test_text_to_video_payload_is_the_documented_one_with_camera_words_last(
    make: MakeBackend, resolve: Resolve
) -> None:
    request = resolve(
        "runway/gen4.5", prompt="雪の中の狐", duration=4, aspect_ratio="9:16", camera={"preset": "orbit_left"}
    )
    payload = await make(Runway).payload(request)
    assert payload == {
        "model": "gen4.5",
        "promptText": "雪の中の狐 The camera orbits to the left around the subject.",
        "duration": 4,
        "ratio": "720:1280",
        "seed": 7,
    }


async def test_image_to_video_payload_is_the_documented_one(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    first, last = media.picture(), media.picture(colour="red")
    request = resolve(
        "runway/veo3.1",
        first=first,
        last=last,
        duration=6,
        resolution="1080p",
        generate_audio=False,
        negative_prompt="rain",
        seed=0,
        camera="pan=-9",
    )
    payload = await make(Runway).payload(request)
    images = payload.pop("promptImage")
    assert payload == {
        "model": "veo3.1",
        "promptText": "a red fox in the snow The camera pans left quickly.",
        "duration": 6,
        "ratio": "1920:1080",
        "seed": 0,
        "audio": False,
        "negativePrompt": "rain",
    }
    assert [image["position"] for image in images] == ["first", "last"]
    assert all(image["uri"].startswith("data:image/png;base64,") for image in images)


async def test_every_payload_fits_the_types_of_the_official_sdk(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend = make(Runway)
    of: dict[str, Any] = {
        "text-to-video": t2v.TextToVideoCreateParams,
        "image-to-video": i2v.ImageToVideoCreateParams,
    }
    for card in backend.config.cards.values():
        if card.backend != "runway":
            continue
        for task in card.tasks:
            first = media.picture() if task == "image-to-video" else None
            payload = await backend.payload(resolve(card.id, first=first, camera="zoom_in"))
            names = {alias: name for name, alias in _aliases(of[task]).items()}
            snake = {names.get(key, key): value for key, value in payload.items()}
            TypeAdapter(of[task]).validate_python(snake)
            assert maybe_transform(snake, of[task]) == payload, "and the SDK would send the same body"


def _aliases(union: Any) -> dict[str, str]:
    """snake_case -> camelCase of all fields of the SDK's TypedDicts."""
    found: dict[str, str] = {}
    for params in union.__args__:
        for name in params.__annotations__:
            head, *rest = name.split("_")
            found[name] = head + "".join(part.title() for part in rest)
    return found


async def test_a_prompt_that_the_camera_makes_too_long_is_refused_before_spending(
    make: MakeBackend, resolve: Resolve
) -> None:
    # 500 emoji are 1000 UTF-16 units: the prompt alone just fits.
    request = resolve("runway/gen4.5", prompt="\U0001f98a" * 500, camera="zoom_in")
    with pytest.raises(errors.UnsupportedRequest) as caught:
        await make(Runway).submit(request, key="job:a1")
    assert [misfit.field for misfit in caught.value.misfits] == ["camera"]


async def test_every_call_carries_version_and_key(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, {**TASK, "status": "RUNNING"}), reply(204)]) as server:
        await make(Runway, server.url).cancel(Operation(ref="t/../1"))
        assert [seen.method for seen in server.seen] == ["GET", "DELETE"]
        for seen in server.seen:
            assert seen.target == "/v1/tasks/t%2F..%2F1"
            assert seen.headers["x-runway-version"] == "2024-11-06"
            assert seen.headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"status": "PENDING"}, Pending(poll_after=5.0, queued=True)),
        ({"status": "THROTTLED"}, Pending(poll_after=5.0, queued=True)),
        ({"status": "RUNNING", "progress": 0.42}, Pending(progress=0.42, poll_after=5.0)),
        ({"status": "RUNNING", "progress": 1.7}, Pending(progress=1.0, poll_after=5.0)),
    ],
)
async def test_a_live_status_is_pending(make: MakeBackend, status: dict[str, Any], state: Pending) -> None:
    async with ScriptedServer([reply(200, TASK | status)]) as server:
        assert await make(Runway, server.url, poll_after=5.0).poll(Operation(ref="t1")) == state


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("SAFETY.INPUT.TEXT", errors.ContentRejected),
        ("SAFETY.OUTPUT.VIDEO", errors.ContentRejected),
        ("INPUT_PREPROCESSING.SAFETY.TEXT", errors.ContentRejected),
        ("INTERNAL.BAD_OUTPUT.CODE01", errors.GenerationFailed),
        ("INTERNAL", errors.GenerationFailed),
        ("ASSET.INVALID", errors.GenerationFailed),
        ("THIRD_PARTY.UNAVAILABLE", errors.GenerationFailed),
        (None, errors.GenerationFailed),
    ],
)
async def test_a_failure_code_says_whose_fault_and_the_cost_is_theirs(
    make: MakeBackend, code: str | None, error: type[errors.GatewayError]
) -> None:
    task = TASK | {"status": "FAILED", "cost": {"credits": 25}, "failure": "it broke", "failureCode": code}
    async with ScriptedServer([reply(200, task)]) as server:
        with pytest.raises(error, match="it broke") as caught:
            await make(Runway, server.url).poll(Operation(ref="t1"))
    assert type(caught.value) is error
    assert caught.value.billed_usd == Decimal("0.25")


async def test_after_a_cancel_a_missing_task_is_cancelled_not_lost(make: MakeBackend) -> None:
    live = reply(200, {**TASK, "status": "PENDING"})
    async with ScriptedServer([live, reply(204), reply(404, {"error": "Task not found"})]) as server:
        backend = make(Runway, server.url)
        assert await backend.cancel(Operation(ref="t1"))
        with pytest.raises(errors.Cancelled) as caught:
            await backend.poll(Operation(ref="t1"))
        assert caught.value.billed_usd is None


async def test_a_success_without_output_is_looked_at_again(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, {**TASK, "status": "SUCCEEDED", "output": []})]) as server:
        with pytest.raises(errors.UnexpectedResponse):
            await make(Runway, server.url).poll(Operation(ref="t1"))


async def test_a_validation_error_names_the_fields(make: MakeBackend, resolve: Resolve) -> None:
    issues = [{"path": ["ratio"], "message": "Invalid enum value", "code": "custom"}]
    body = {"error": "Validation of body failed", "issues": issues}
    async with ScriptedServer([reply(400, body)]) as server:
        with pytest.raises(errors.InvalidRequest, match="ratio: Invalid enum value"):
            await make(Runway, server.url).submit(resolve("runway/gen4.5"), key="job:a1")


@pytest.mark.parametrize("cost", [None, 7, {}, {"credits": -1}, {"credits": "many"}, {"credits": True}])
async def test_a_strange_estimate_does_not_lose_a_task_that_was_bought(
    make: MakeBackend, resolve: Resolve, cost: Any
) -> None:
    async with ScriptedServer([reply(200, {"id": "t1", "estimatedCost": cost})]) as server:
        got = await make(Runway, server.url).submit(resolve("runway/gen4.5"), key="job:a1")
    assert got == Operation(ref="t1")


@pytest.mark.parametrize("credits", ["NaN", "Infinity", "1e400"])
async def test_a_cost_that_is_no_number_is_not_known(make: MakeBackend, credits: str) -> None:
    body = (
        f'{{"id": "t1", "status": "SUCCEEDED", "output": ["https://x/y"], "cost": {{"credits": {credits}}}}}'
    )
    async with ScriptedServer([reply(200, body.encode())]) as server:
        done = await make(Runway, server.url).poll(Operation(ref="t1"))
    assert isinstance(done, Completed)
    assert done.billed_usd is None
