"""The official SDK, unmodified but for base URL and key."""

import io
from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Video

from router.contract.errors import ContentRejected
from router.contract.job import JobError, Status
from router.contract.words import words
from tests.router.server.conftest import Start, sdk
from tests.router.server.fake_gateway import MP4, FakeGateway

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 2_000_000
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture
async def door(start: Start) -> AsyncIterator[tuple[FakeGateway, AsyncOpenAI]]:
    gateway, url = await start()
    async with sdk(url) as client:
        yield gateway, client


async def test_create_poll_and_download(door: tuple[FakeGateway, AsyncOpenAI]) -> None:
    gateway, client = door
    video = await client.videos.create_and_poll(
        prompt="a fox", seconds="4", size="1280x720", poll_interval_ms=10
    )
    assert (video.status, video.progress, video.model) == ("completed", 100, "local/testcard")
    assert (video.seconds, video.size) == ("4", "1280x720")
    Video.model_validate(video.model_dump(include=set(Video.model_fields)), strict=True)
    assert gateway.calls.requests[0].duration == 4
    assert gateway.calls.requests[0].resolution == "1280x720"
    assert (await client.videos.download_content(video.id)).read() == MP4


async def test_an_image_file_becomes_the_first_frame(door: tuple[FakeGateway, AsyncOpenAI]) -> None:
    gateway, client = door
    await client.videos.create(prompt="a fox runs", input_reference=("fox.png", io.BytesIO(PNG), "image/png"))
    # The SDK's types allow an object here, its code does not: it goes through `extra_body`.
    link = {"image_url": "https://images.example/fox.png"}
    await client.videos.create(prompt="a fox", extra_body={"input_reference": link})
    first, second = gateway.calls.requests
    assert gateway.calls.uploads == [PNG]
    assert first.frame_images[0].url.startswith("asset:")
    assert second.frame_images[0].url == "https://images.example/fox.png"
    assert first.effective_task == "image-to-video"


async def test_our_own_fields_travel_in_extra_body(door: tuple[FakeGateway, AsyncOpenAI]) -> None:
    gateway, client = door
    preferences = {"mode": "cheapest", "backends": ["fal", "local"], "max_usd": "0.50", "allow_drop": True}
    extra = {
        "preferences": preferences,
        "tags": ["a", "b"],
        "seed": 5,
        "generate_audio": False,
        "project": None,
    }
    await client.videos.create(prompt="a fox", extra_body=extra, extra_headers={"Idempotency-Key": "k"})
    await client.videos.create(prompt="a fox", extra_body=extra, extra_headers={"Idempotency-Key": "k"})
    (request,) = gateway.calls.requests
    assert request.preferences.backends == ("fal", "local")
    assert (request.preferences.mode, str(request.preferences.max_usd)) == ("cheapest", "0.50")
    assert (request.tags, request.seed, request.generate_audio) == (("a", "b"), 5, False)


async def test_paging_walks_over_all_jobs_once(door: tuple[FakeGateway, AsyncOpenAI]) -> None:
    _, client = door
    made = [(await client.videos.create(prompt=f"clip {n}")).id for n in range(5)]
    assert [video.id async for video in client.videos.list(limit=2)] == made[::-1]
    assert [video.id async for video in client.videos.list(limit=2, order="asc")] == made
    page = await client.videos.list(limit=2, after=made[2])
    assert [video.id for video in page.data] == [made[1], made[0]]
    assert page.has_more is False


async def test_a_deleted_video_is_gone(door: tuple[FakeGateway, AsyncOpenAI]) -> None:
    _, client = door
    video = await client.videos.create(prompt="a fox")
    gone = await client.videos.delete(video.id)
    assert (gone.id, gone.object, gone.deleted) == (video.id, "video.deleted", True)
    with pytest.raises(openai.NotFoundError):
        await client.videos.retrieve(video.id)
    assert (await client.videos.list()).data == []


async def test_a_cancelled_job_reads_failed(door: tuple[FakeGateway, AsyncOpenAI]) -> None:
    _, client = door
    video = await client.videos.create(prompt="a fox")
    await client.post(f"/videos/{video.id}/cancel", cast_to=Video)
    after = await client.videos.retrieve(video.id)
    assert after.status == "failed"
    assert after.error is not None and after.error.code == "cancelled"


async def test_a_failed_job_tells_why(door: tuple[FakeGateway, AsyncOpenAI]) -> None:
    gateway, client = door
    video = await client.videos.create(prompt="a fox")
    why = JobError(code=ContentRejected.code, message=words("refused", "拒否されました"), backend="fal")
    gateway.change(video.id, status=Status.FAILED, error=why, progress=1.0)
    after = await client.videos.retrieve(video.id)
    assert after.error is not None and (after.error.code, after.error.message) == (
        "content_rejected",
        "fal: refused",
    )
    assert after.progress == 99


async def test_the_sdk_does_not_repeat_a_create_that_failed(door: tuple[FakeGateway, AsyncOpenAI]) -> None:
    gateway, client = door
    tries = 0

    async def submit(*_: object, **__: object) -> None:
        nonlocal tries
        tries += 1
        raise RuntimeError("secret detail")

    gateway.submit = submit  # type: ignore[assignment, method-assign]
    with pytest.raises(openai.InternalServerError) as caught:
        await client.videos.create(prompt="a fox")
    assert tries == 1
    assert "secret detail" not in str(caught.value)
