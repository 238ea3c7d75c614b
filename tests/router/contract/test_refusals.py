"""Every complaint of the request schema reads as a sentence, in both languages."""

from typing import Any

import pytest
from pydantic import ValidationError

from router.contract.errors import InvalidRequest
from router.contract.refusals import refusal
from router.contract.request import VideoRequest


def refused(**body: Any) -> InvalidRequest:
    with pytest.raises(ValidationError) as caught:
        VideoRequest.model_validate(body)
    return refusal(caught.value, known=tuple(VideoRequest.model_fields))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "x", "task": "i2v"}, "frame_images"),
        ({"prompt": "x", "task": "t2v", "frame_images": ["u"]}, "task"),
        ({"prompt": "x", "frame_images": ["u", "v"]}, "frame_images"),
        ({"prompt": "x", "task": "effect"}, "effect"),
        ({"prompt": "x", "effect": "melt"}, "effect"),
        ({"prompt": "x", "camera": {}}, "camera"),
        ({"prompt": "x", "camera": {"axis": "pan"}}, "camera"),
        ({"prompt": "x", "camera": "spin"}, "camera"),
        ({"prompt": "x", "camera": {"preset": "static", "value": 1}}, "camera"),
        ({"prompt": "x", "preferences": {"deadline": "999d"}}, "preferences.deadline"),
        ({"prompt": "x", "preferences": {"deadline": "2026-11-21T18:00:00"}}, "preferences.deadline"),
        ({"prompt": "x", "preferences": {"allow_drop": 5}}, "preferences.allow_drop"),
        ({"prompt": "x", "preferences": {"max_usd": "much"}}, "preferences.max_usd"),
        ({"prompt": "x", "preferences": []}, "preferences"),
        ({"prompt": "x", "frame_images": [{}]}, "frame_images.0.url"),
        ({"prompt": "x", "seed": -1}, "seed"),
        ({"prompt": "x", "resolution": "big"}, "resolution"),
        ({"prompt": "x", "tags": "a"}, "tags"),
    ],
)
def test_each_complaint_names_its_field_and_is_translated(body: dict[str, Any], param: str) -> None:
    error = refused(**body)
    assert error.param == param
    assert error.message.en.startswith(f"{param}: ")
    assert error.message.ja.startswith(f"{param}: ")
    assert any("\u3040" <= letter <= "\u9fff" for letter in error.message.ja)
    assert "pydantic" not in error.message.en and "正しくありません(" not in error.message.ja


def test_a_misspelt_field_is_answered_with_the_nearest() -> None:
    assert "did you mean negative_prompt?" in refused(prompt="x", negativ_prompt="y").message.en


def test_a_long_or_secret_value_is_not_repeated_and_complaints_are_counted() -> None:
    error = refused(prompt="x", seed="secret" * 1000, **{f"field{n}" * 100: 1 for n in range(20)})
    assert "secret" not in error.message.en
    assert "more" in error.message.en and len(error.message.en) < 1500
