"""The twin of OpenAI's /v1/videos against the sheet and the official SDK, unmodified but for base URL and key."""

import base64
import io
from typing import Any

import av
import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Video

from tests.api_providers.sandbox.conftest import Twins

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
KEY = {"Authorization": "Bearer sandbox-test"}


def client(twins: Twins, key: str = "sandbox-test") -> AsyncOpenAI:
    return AsyncOpenAI(api_key=key, base_url=f"{twins.url}/openai/v1", max_retries=0)


def png_bytes(png: str) -> bytes:
    return base64.b64decode(png.partition(",")[2])


async def test_the_sdk_makes_a_clip_from_text(twins: Twins) -> None:
    async with client(twins) as sdk:
        made = await sdk.videos.create(prompt="sea", model="sora-2-pro", seconds="8", size="1792x1024")
        seen = [made]
        for step in (0.2, 0.3):
            twins.clock.pass_(step)
            seen.append(await sdk.videos.retrieve(made.id))
        content = (await sdk.videos.download_content(made.id)).read()
    assert [view.status for view in seen] == ["queued", "in_progress", "completed"]
    assert 0 < seen[1].progress < 100 and seen[2].progress == 100
    for view in seen:
        Video.model_validate(view.model_dump(include=set(Video.model_fields)), strict=True)
    assert seen[2].completed_at is not None and seen[2].expires_at == seen[2].completed_at + 3600
    with av.open(io.BytesIO(content), "r") as box:
        assert box.streams.audio and box.duration is not None
        assert box.duration / 1e6 == pytest.approx(8, abs=0.2)
    assert [(row["task"], row["usd"]) for row in await twins.bill()] == [(made.id, "4")]


async def test_the_sdk_makes_a_clip_from_an_image(twins: Twins, png: str) -> None:
    async with client(twins) as sdk:
        made = await sdk.videos.create(
            prompt="sea", input_reference=("a.png", io.BytesIO(png_bytes(png)), "image/png")
        )
        assert (made.model, made.seconds, made.size) == ("sora-2", "4", "720x1280"), "the documented defaults"
        twins.clock.pass_(1)
        assert (await sdk.videos.retrieve(made.id)).status == "completed"
        assert (await sdk.videos.download_content(made.id)).read()[4:8] == b"ftyp"
    assert [row["usd"] for row in await twins.bill()] == ["0.4"]


async def test_the_sdk_lists_and_deletes(twins: Twins) -> None:
    async with client(twins) as sdk:
        made = [(await sdk.videos.create(prompt=f"clip {n}")).id for n in range(3)]
        assert [video.id async for video in sdk.videos.list(limit=2)] == made[::-1]
        assert [video.id async for video in sdk.videos.list(limit=2, order="asc")] == made
        with pytest.raises(openai.BadRequestError, match="still being generated"):
            await sdk.videos.delete(made[0])
        twins.clock.pass_(5)
        assert (await sdk.videos.delete(made[0])).deleted
        with pytest.raises(openai.NotFoundError):
            await sdk.videos.retrieve(made[0])
    assert len(await twins.bill()) == 3, "what was deleted stays on the bill"


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"seconds": "5"}, "seconds", "invalid_value"),
        ({"size": "1024x1792"}, "size", "invalid_value"),
        ({"size": "1280:720"}, "size", "invalid_value"),
        ({"model": "sora-3"}, "model", "model_not_found"),
        ({"seed": "7"}, "seed", "unknown_parameter"),
        ({"prompt": ""}, "prompt", "missing_required_parameter"),
        ({"model": "org/own", "seconds": "2.5"}, "seconds", "invalid_value"),
        ({"model": "org/own", "size": "720p"}, "size", "invalid_value"),
    ],
)
async def test_a_wrong_field_is_refused_and_costs_nothing(
    twins: Twins, changes: dict[str, str], param: str, code: str
) -> None:
    fields = {"prompt": "sea", "model": "sora-2", **changes}
    form: Any = {name: (None, value) for name, value in fields.items()}
    answer = await twins.http.post(f"{twins.url}/openai/v1/videos", files=form, headers=KEY)
    assert answer.status_code == (404 if code == "model_not_found" else 400)
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (param, code)
    assert await twins.bill() == []


async def test_a_file_needs_its_name_and_its_type(twins: Twins) -> None:
    for part in (("a.png", b"x", "text/plain"), ("a.png", b"", "image/png")):
        form: Any = {"prompt": (None, "sea"), "input_reference": part}
        answer = await twins.http.post(f"{twins.url}/openai/v1/videos", files=form, headers=KEY)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input_reference")


async def test_json_and_numbers_are_taken_too(twins: Twins) -> None:
    body = {"prompt": "sea", "seconds": 8}
    answer = await twins.http.post(f"{twins.url}/openai/v1/videos", json=body, headers=KEY)
    assert answer.json()["seconds"] == "8"


async def test_an_own_servers_model_takes_more_and_costs_nothing(twins: Twins) -> None:
    fields = {"prompt": "sea", "model": "org/own", "seconds": "5", "size": "832x480", "seed": "7"}
    form: Any = {name: (None, value) for name, value in fields.items()}
    answer = await twins.http.post(f"{twins.url}/openai/v1/videos", files=form, headers=KEY)
    id_ = answer.json()["id"]
    gone = await twins.http.delete(f"{twins.url}/openai/v1/videos/{id_}", headers=KEY)
    assert gone.json()["deleted"]
    assert [(row["usd"], row["status"]) for row in await twins.bill()] == [("0", "cancelled")]


async def test_content_needs_the_key_waits_for_the_end_and_expires(twins: Twins) -> None:
    async with client(twins) as sdk:
        made = await sdk.videos.create(prompt="sea")
        with pytest.raises(openai.NotFoundError, match="not ready"):
            await sdk.videos.download_content(made.id)
        twins.clock.pass_(1)
        url = f"{twins.url}/openai/v1/videos/{made.id}/content"
        assert (await twins.http.get(url)).status_code == 401
        assert (await twins.http.get(url, headers=KEY)).headers["content-type"] == "video/mp4"
        twins.clock.pass_(twins.benches["openai"].link_seconds + 1)
        with pytest.raises(openai.NotFoundError, match="expired"):
            await sdk.videos.download_content(made.id)


async def test_a_wrong_key_is_refused(twins: Twins) -> None:
    async with client(twins, "sk-wrong") as sdk:
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
            await sdk.videos.create(prompt="sea")


@pytest.mark.parametrize(
    ("fault", "code"), [("no_credit", "insufficient_quota"), ("rate_limit", "rate_limit_exceeded")]
)
async def test_429_has_two_meanings(twins: Twins, fault: str, code: str) -> None:
    await twins.control("faults", provider="openai", kind=fault, seconds=7.0)
    async with client(twins) as sdk:
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.videos.create(prompt="sea")
    assert caught.value.code == code
    assert caught.value.response.headers.get("retry-after") == ("7" if fault == "rate_limit" else None)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("fail_after_accept", "video_generation_failed"), ("moderation", "moderation_blocked")],
)
async def test_a_failed_video_says_why_and_is_free(twins: Twins, fault: str, code: str) -> None:
    await twins.control("faults", provider="openai", kind=fault)
    async with client(twins) as sdk:
        made = await sdk.videos.create(prompt="sea")
        twins.clock.pass_(1)
        after = await sdk.videos.retrieve(made.id)
    assert after.status == "failed" and after.error is not None and after.error.code == code
    assert [row["usd"] for row in await twins.bill()] == ["0"]
