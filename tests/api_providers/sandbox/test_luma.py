"""The Luma twin against the sheet and Luma's own SDK, unmodified but for base URL and key."""

import io
from typing import Any

import av
import lumaai
import pytest
from lumaai import AsyncLumaAI

from tests.api_providers.sandbox.conftest import Twins

KEY = {"Authorization": "Bearer sandbox-test"}
TEXT = {"model": "ray-2", "prompt": "a fox runs"}


def client(twins: Twins, key: str = "sandbox-test") -> AsyncLumaAI:
    return AsyncLumaAI(auth_token=key, base_url=f"{twins.url}/luma", max_retries=0)


async def test_the_sdk_makes_a_clip_from_text(twins: Twins) -> None:
    async with client(twins) as luma:
        made = await luma.generations.create(
            model="ray-2",
            prompt="a fox runs",
            resolution="720p",
            duration="9s",
            aspect_ratio="9:16",
            concepts=[{"key": "dolly_zoom"}],
        )
        seen = [made]
        for step in (0.2, 0.3):
            twins.clock.pass_(step)
            seen.append(await luma.generations.get(str(made.id)))
    assert [view.state for view in seen] == ["queued", "dreaming", "completed"]
    assert [view.assets for view in seen[:2]] == [None, None]
    assets = seen[2].assets
    assert assets is not None and assets.video is not None
    with av.open(io.BytesIO((await twins.http.get(assets.video)).content), "r") as box:
        assert box.duration is not None and box.duration / 1e6 == pytest.approx(9, abs=0.2)
        assert box.streams.video[0].height > box.streams.video[0].width
    assert [(row["task"], row["usd"]) for row in await twins.bill()] == [(made.id, "1.278")]


async def test_the_sdk_makes_clips_from_pictures_and_goes_on_from_them(twins: Twins) -> None:
    first, last = ({"type": "image", "url": f"https://ex.com/{name}.jpg"} for name in "ab")
    async with client(twins) as luma:
        made = await luma.generations.video.create(
            model="ray-flash-2",
            prompt="a fox runs",
            keyframes={"frame0": first, "frame1": last},  # type: ignore[arg-type]
        )
        twins.clock.pass_(1)
        assert (await luma.generations.get(str(made.id))).state == "completed"
        longer = await luma.generations.create(
            model="ray-flash-2", keyframes={"frame0": {"type": "generation", "id": str(made.id)}}
        )
        larger = await luma.generations.upscale(str(made.id), resolution="1080p")
        twins.clock.pass_(1)
        for id_ in (longer.id, larger.id):
            assert id_ != made.id
            assert (await luma.generations.get(str(id_))).state == "completed"
    assert [row["usd"] for row in await twins.bill()] == ["0.243", "0.243", "0.547"]


async def test_the_sdk_reads_credits_concepts_ping_and_the_list(twins: Twins) -> None:
    async with client(twins) as luma:
        made = [str((await luma.generations.create(model="ray-2", prompt=f"clip {n}")).id) for n in range(3)]
        assert (await luma.credits.get()).credit_balance == 231_000 - 3 * 71, "cents"
        assert (await luma.ping.check()).message == "pong"
        assert "dolly_zoom" in await luma.generations.concepts.list()
        page = await luma.generations.list(limit=2)
        assert ([one.id for one in page.generations], page.has_more) == (made[:0:-1], True)
        await luma.generations.delete(made[0])
        with pytest.raises(lumaai.NotFoundError):
            await luma.generations.get(made[0])
    twins.clock.pass_(1)
    assert [row["usd"] for row in await twins.bill()] == ["0.71"] * 3, "a removal cancels nothing"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "ray-1-6"}, "model"),
        ({"duration": 5}, "duration"),
        ({"duration": "10s"}, "duration"),
        ({"resolution": "480p"}, "resolution"),
        ({"aspect_ratio": "2:1"}, "aspect_ratio"),
        ({"prompt": "x"}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"image_url": "https://ex.com/a.jpg"}, "image_url"),
        ({"negative_prompt": "rain"}, "negative_prompt"),
        ({"loop": "true"}, "loop"),
        ({"concepts": [{"key": "moonwalk"}]}, "concept"),
        ({"concepts": ["static"]}, "concept"),
        ({"keyframes": {"frame2": {"type": "image", "url": "https://ex.com/a.jpg"}}}, "frame0"),
        ({"keyframes": {"frame0": {"type": "image", "url": "data:image/png;base64,AAAA"}}}, "image url"),
        ({"keyframes": {"frame0": {"type": "generation", "id": "no-such"}}}, "not found"),
    ],
)
async def test_a_wrong_field_is_refused_in_a_sentence_and_costs_nothing(
    twins: Twins, changes: dict[str, Any], said: str
) -> None:
    answer = await twins.http.post(f"{twins.url}/luma/generations/video", json=TEXT | changes, headers=KEY)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert await twins.bill() == []


async def test_the_older_path_takes_the_same_body_and_answers_201(twins: Twins) -> None:
    for path in ("generations", "generations/video"):
        answer = await twins.http.post(f"{twins.url}/luma/{path}", json=TEXT, headers=KEY)
        assert (answer.status_code, answer.json()["request"]) == (201, TEXT)


async def test_a_wrong_key_and_an_empty_account_have_luma_s_shape(twins: Twins) -> None:
    async with client(twins, "luma-wrong") as luma:
        with pytest.raises(lumaai.AuthenticationError, match="Invalid API key"):
            await luma.generations.create(model="ray-2", prompt="a fox")
    await twins.control("faults", provider="luma", kind="no_credit")
    async with client(twins) as luma:
        with pytest.raises(lumaai.BadRequestError, match="Insufficient credits"):
            await luma.generations.create(model="ray-2", prompt="a fox")


async def test_a_result_link_needs_its_signature_and_expires_and_a_new_look_renews_it(twins: Twins) -> None:
    async with client(twins) as luma:
        made = str((await luma.generations.create(model="ray-2", prompt="a fox")).id)
        twins.clock.pass_(1)

        async def link() -> str:
            assets = (await luma.generations.get(made)).assets
            assert assets is not None and assets.video is not None
            return assets.video

        url = await link()
        assert (await twins.http.get(url.partition("?")[0])).status_code == 403
        assert (await twins.http.get(url)).status_code == 200
        twins.clock.pass_(twins.benches["luma"].link_seconds + 1)
        assert (await twins.http.get(url)).status_code == 403
        assert (await twins.http.get(await link())).status_code == 200


@pytest.mark.parametrize(("fault", "word"), [("fail_after_accept", "internal"), ("moderation", "moderation")])
async def test_a_failure_has_a_sentence_and_is_free(twins: Twins, fault: str, word: str) -> None:
    await twins.control("faults", provider="luma", kind=fault)
    async with client(twins) as luma:
        made = str((await luma.generations.create(model="ray-2", prompt="a fox")).id)
        twins.clock.pass_(1)
        after = await luma.generations.get(made)
    assert after.state == "failed" and word in str(after.failure_reason)
    assert [row["usd"] for row in await twins.bill()] == ["0"]
