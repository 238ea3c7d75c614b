"""Prompts that a model's text encoder cannot read: found before work starts, with what can read them."""

from pathlib import Path
from typing import Any

import pytest

from local_models._language import unread
from local_models._runner import Local
from router.contract import errors
from router.contract.request import Task
from tests.local_models.conftest import card, request

ENGLISH = card("english", Path("x"), languages=["en"])
WAN = card("wan", Path("x"), languages=["en", "zh", "ja"])
ANY = card("any", Path("x"))


@pytest.mark.parametrize(
    ("prompt", "language"),
    [
        ("赤い風船が空に浮かぶ", "Japanese"),
        ("ゆっくりズーム, cinematic", "Japanese"),
        ("红色气球飘在天空", "Chinese"),
        ("빨간 풍선", "Korean"),
    ],
)
def test_a_prompt_in_another_script_is_refused_with_what_reads_it(prompt: str, language: str) -> None:
    said = unread(prompt, Task.TEXT_TO_VIDEO, ENGLISH, [ENGLISH, WAN, ANY])
    assert said is not None
    assert f"does not read {language}" in said.en
    assert ("local/wan" in said.en) == (language != "Korean")
    assert "local/any" in said.en
    assert "英語で書くか" in said.ja


@pytest.mark.parametrize(
    "prompt", ["a red balloon", "a neon sign that says 東京 above the door", "Ein roter Ballon", "", "123 !"]
)
def test_what_an_english_encoder_can_use_passes(prompt: str) -> None:
    assert unread(prompt, Task.TEXT_TO_VIDEO, ENGLISH, [ENGLISH, WAN]) is None


@pytest.mark.parametrize("row", [WAN, ANY], ids=lambda row: row.id)
def test_a_model_that_reads_japanese_or_does_not_say_takes_it(row: Any) -> None:
    assert unread("赤い風船", Task.TEXT_TO_VIDEO, row, []) is None


def test_without_another_model_the_advice_is_english(make_local: Any) -> None:
    said = unread("赤い風船が", Task.TEXT_TO_VIDEO, ENGLISH, [ENGLISH])
    assert said is not None
    assert said.en.endswith("Write the prompt in English.")
    assert said.ja.endswith("英語で書いてください。")


async def test_the_backend_refuses_it_before_anything_is_loaded_and_lets_the_router_go_on(
    make_local: Any,
) -> None:
    backend: Local = make_local(ENGLISH)
    with pytest.raises(errors.BackendError, match="does not read Japanese") as caught:
        await backend.submit(request("local/english", "赤い風船が空に浮かぶ"), key="j:a1")
    assert caught.value.next_step is errors.NextStep.REROUTE
    assert backend.child_pid is None
    await backend.aclose()
