"""What is remembered of a shape of request never shows: each job gets what fitting it alone would give."""

from dataclasses import replace
from typing import Any

import pytest

from router.contract.card import Asset, InputMedia
from router.contract.fit import fit
from router.contract.request import FrameType, VideoRequest
from router.policy import Ask, decide
from router.policy.fitted import Fitted, PromptLimits, Unfit, fit_key, fitted, forget
from tests.router.policy.scenes import card, facts, offer

CARD = card("ant", "0.10").model_copy(
    update={
        "tasks": ("text-to-video", "image-to-video", "extend"),
        "negative_prompt": True,
        "last_frame": True,
        "references": {"video": 1, "image": 1},
        "prompt_max": 40,
        "camera": "words",
        "options": {"style": "how it looks"},
    }
)


def media(number: int, kind: Any = "image") -> InputMedia:
    mime = "video/mp4" if kind == "video" else "image/png"
    asset = Asset(id=f"{number:064x}", mime=mime, size_bytes=9, width=640, height=360, duration_s=4.0)
    return InputMedia(asset=asset, type=kind)


def job(number: int, inputs: dict[FrameType | int, InputMedia] | None = None, **fields: Any) -> Ask:
    request = VideoRequest.model_validate({"prompt": f"clip {number}", **fields})
    return Ask(f"job{number}", request, seed=number, inputs=inputs or {})


FRAME = {"url": "asset:x"}
LAST = {"url": "asset:y", "frame_type": "last_frame"}


@pytest.mark.parametrize(
    "make",
    [
        lambda n: job(n),
        lambda n: job(n, seed=n + 7, negative_prompt=f"no {n}"),
        lambda n: job(n, {FrameType.FIRST: media(n)}, frame_images=(FRAME,)),
        lambda n: job(
            n, {FrameType.FIRST: media(n), FrameType.LAST: media(n + 9)}, frame_images=(FRAME, LAST)
        ),
        lambda n: job(
            n, {0: media(n, "video")}, task="extend", input_references=({**FRAME, "type": "video"},)
        ),
        lambda n: job(n, provider_options={"ant": {"style": "dry"}}, camera="zoom_in"),
    ],
)
def test_jobs_of_one_shape_are_each_resolved_as_if_alone(make: Any) -> None:
    forget()
    limits = PromptLimits([CARD])
    first, second = make(1), make(2)
    assert fit_key(first, limits) == fit_key(second, limits)
    for one in (first, second):
        found = fitted(one, CARD, fit_key(one, limits))
        assert isinstance(found, Fitted)
        assert found.resolve(one, CARD) == fit(one.request, CARD, seed=one.seed, inputs=one.inputs)
    assert fitted(first, CARD, fit_key(first, limits)) is fitted(second, CARD, fit_key(second, limits))


def test_a_prompt_that_is_too_long_for_one_card_is_a_shape_of_its_own() -> None:
    limits = PromptLimits([CARD])
    short, long = job(1, prompt="a" * 40), job(2, prompt="a" * 41)
    assert fit_key(short, limits) == fit_key(job(3), limits)
    assert fit_key(long, limits) != fit_key(short, limits)
    assert isinstance(fitted(long, CARD, fit_key(long, limits)), Unfit)


@pytest.mark.parametrize(
    "other",
    [
        {"resolution": "1080p"},
        {"duration": 5},
        {"generate_audio": True},
        {"seed": 4},
        {"negative_prompt": "rain"},
        {"camera": "zoom_in"},
        {"provider_options": {"ant": {"style": "dry"}}},
        {"preferences": {"allow_drop": True}},
        {"prompt_language": "ja"},
    ],
)
def test_what_a_card_may_judge_differently_is_another_shape(other: dict[str, Any]) -> None:
    limits = PromptLimits([CARD])
    assert fit_key(job(1), limits) != fit_key(job(1, **other), limits)


def test_a_card_whose_price_changed_is_not_taken_for_the_old_one() -> None:
    cheap = offer("ant", "0.10")
    assert decide(facts(cheap), job(1)).reserve == 100_000
    dear = replace(cheap, card=card("ant", "0.40"))
    assert decide(facts(dear), job(1)).reserve == 400_000
