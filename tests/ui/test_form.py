"""The form becomes a request with every mistake named as the page names it, and a job becomes the form again."""

from decimal import Decimal
from pathlib import Path

import pytest

from router.contract.errors import InvalidRequest
from router.contract.request import FrameType, Mode, VideoRequest
from tests.ui.fake_gateway import CARDS, FakeGateway, without_token
from ui.form import AUTO, Form, field_choices, restore, with_value
from ui.text import Text

IMAGE = "asset:" + "a" * 64


def test_an_untouched_form_leaves_everything_to_the_model() -> None:
    assert Form(prompt="a boat").request() == VideoRequest(prompt="a boat")


def test_a_filled_form_says_everything() -> None:
    form = Form(
        prompt="a boat",
        model="runway/gen4_turbo",
        quality="high",
        duration="5",
        resolution="720p",
        aspect="9:16",
        mode="cheapest",
        negative="text",
        camera="pan=5",
        audio="off",
        seed="７１",
        max_usd="$1,000.50",
        allow_drop=True,
    )
    request = form.request(IMAGE)
    assert request.seed == 71
    assert request.preferences.max_usd == Decimal("1000.50")
    assert request.preferences.mode is Mode.CHEAPEST
    assert request.camera is not None
    assert request.camera.axis == "pan"
    assert request.generate_audio is False
    first = request.frame(FrameType.FIRST)
    assert first is not None
    assert first.url == IMAGE


@pytest.mark.parametrize(
    ("form", "en", "ja"),
    [
        (Form(), "Describe the clip", "プロンプトを入力"),
        (Form(prompt="  "), "Describe the clip", "プロンプトを入力"),
        (Form(prompt="a" * 20_001), "Prompt: too long. The limit is 20,000", "プロンプトが長すぎます"),
        (Form(prompt="a", seed="-1"), "Seed: a whole number", "シードは"),
        (Form(prompt="a", seed="4294967296"), "Seed: a whole number", "シードは"),
        (Form(prompt="a", seed="1.5"), "Seed: a whole number", "シードは"),
        (Form(prompt="a", max_usd="cheap"), "At most (US$)", "上限金額は"),
        (Form(prompt="a", max_usd="-1"), "At most (US$)", "上限金額は"),
        (Form(prompt="a", max_usd="NaN"), "At most (US$)", "上限金額は"),
        (Form(prompt="a", max_usd="1e99"), "At most (US$):", "上限金額"),
        (Form(prompt="a", duration="0"), "Length:", "長さ:"),
        (Form(prompt="a", aspect="wide"), "Aspect ratio:", "アスペクト比:"),
        (Form(prompt="a", post_poster="middle"), "Still at (seconds):", "静止画の位置(秒):"),
        (Form(prompt="a", post_poster="-1"), "Still at (seconds):", "静止画の位置(秒):"),
        (Form(prompt="a", resolution="4k", post_upscale="3"), "give a smaller factor", "倍率を小さく"),
    ],
)
def test_a_mistake_is_named_in_both_languages(form: Form, en: str, ja: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        form.request()
    assert en in caught.value.text("en")
    assert ja in caught.value.text("ja")


def test_a_preview_needs_no_words() -> None:
    assert Form().for_preview().request().prompt == "…"
    assert Form(prompt="a boat").for_preview().request().prompt == "a boat"


def test_fields_follow_the_chosen_model() -> None:
    def values(model: str, field: str) -> list[str]:
        return [value for _, value in field_choices(CARDS, model, Text("en"))[field]]

    assert values(AUTO, "duration") == [AUTO, "4", "5", "6", "8", "10"]
    assert values("fal/kling-2.6-pro", "resolution") == [AUTO, "1080p"]
    assert values("veo3.1", "duration") == [AUTO, "4", "6", "8"]
    assert values(AUTO, "resolution") == [AUTO, "720p", "1080p"]
    assert values(AUTO, "aspect") == [AUTO, "16:9", "1:1", "9:16"]


def test_an_earlier_job_fills_the_form_so_that_the_same_clip_can_be_made_again(tmp_path: Path) -> None:
    form = Form(
        prompt="a boat",
        duration="5",
        camera="zoom_in",
        audio="on",
        max_usd="0.5",
        negative="text",
        mode="fastest",
    )
    gateway = FakeGateway(without_token(tmp_path))
    job = gateway.add(form.request(IMAGE))
    back = restore(job)
    assert back.first == IMAGE
    assert back.left_out == ()
    again = back.form.request(back.first, back.last)
    assert again == job.request.model_copy(update={"seed": job.seed})


def test_what_is_to_be_done_to_the_finished_clip_is_said_in_a_fixed_order_and_comes_back(
    tmp_path: Path,
) -> None:
    form = Form(
        prompt="a boat",
        post_fps="48",
        post_upscale="1.5",
        post_loop="crossfade",
        post_preview="webp",
        post_poster="２.5",
    )
    request = form.request()
    assert (
        request.post
        == VideoRequest.model_validate(
            {"prompt": "x", "post": ["fps=48", "upscale=1.5", "loop=crossfade", "poster=2.5", "webp"]}
        ).post
    )
    back = restore(FakeGateway(without_token(tmp_path)).add(request))
    assert back.left_out == ()
    assert back.form.request().post == request.post


@pytest.mark.parametrize(
    "post", [["upscale=2", "fps=48"], ["gif=320"], [{"do": "loop", "style": "crossfade", "fade_s": 1}]]
)
def test_steps_that_the_form_cannot_say_are_named_and_not_half_restored(
    post: list[object], tmp_path: Path
) -> None:
    wish = VideoRequest.model_validate({"prompt": "a", "post": post})
    back = restore(FakeGateway(without_token(tmp_path)).add(wish))
    assert back.left_out == ("post",)
    assert back.form.request().post == ()


def test_what_the_form_has_no_field_for_is_named(tmp_path: Path) -> None:
    wish = VideoRequest.model_validate(
        {"prompt": "a", "fps": 24, "tags": ["x"], "preferences": {"forbid": ["fal"], "deadline": "8h"}}
    )
    back = restore(FakeGateway(without_token(tmp_path)).add(wish))
    assert set(back.left_out) == {"fps", "tags", "preferences.forbid", "preferences.deadline"}


def test_a_restored_value_is_offered_although_the_model_is_gone() -> None:
    assert with_value([("Default", AUTO)], "640x360") == [("Default", AUTO), ("640x360", "640x360")]
