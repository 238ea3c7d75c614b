"""Nothing is planned that the pipelines cannot load: every plan of the ladders, with real pipelines on the CPU."""

from typing import TYPE_CHECKING

import pytest

from local_models._memory import DeviceFacts, LoadPlan, options
from local_models._messages import Render
from local_models._weights import inspect

if TYPE_CHECKING:
    from tests.local_models.random_weights import Folders

CLIP = Render("a red ball", 32, 32, 9, 8, 1, 7, max_sequence_length=16)
PLACES = [
    (fp8, offload, text)
    for fp8 in (False, True)
    for offload in ("none", "group")
    for text in ("resident", "visits", "streamed", "cpu")
    if (text == "resident") <= (offload == "none") and (text == "visits") <= (offload != "none")
]


def every(weights: "Folders", folder: str = "ti2v") -> list[LoadPlan]:
    from local_models import wan

    numbers = wan.numbers(inspect(getattr(weights, folder)), 32, 32, 9)
    return [option.plan for option in options(numbers, DeviceFacts("cuda", 80.0))]


@pytest.mark.parametrize(("fp8", "offload", "text"), PLACES)
def test_a_plan_can_be_loaded_and_makes_a_clip(
    weights: "Folders", fp8: bool, offload: str, text: str
) -> None:
    from local_models import wan

    plan = next(
        plan
        for plan in every(weights)
        if (plan.layerwise_fp8, plan.offload, plan.text_place, plan.vae_tiling) == (fp8, offload, text, True)
    )
    clip = wan.generate(wan.load(weights.ti2v, plan, "cpu"), CLIP)
    assert clip.frames.shape == (9, 32, 32, 3)


def test_the_list_above_is_the_whole_ladder(weights: "Folders") -> None:
    """Besides whole-component offload, which the libraries refuse without a card."""
    planned = {(plan.layerwise_fp8, plan.offload, plan.text_place) for plan in every(weights)}
    assert {place for place in planned if place[1] != "model"} == set(PLACES)
    assert {place[2] for place in planned if place[1] == "model"} == {"visits", "streamed", "cpu"}


@pytest.mark.gpu
@pytest.mark.parametrize("fp8", [False, True])
def test_whole_component_offload_loads_on_a_card(weights: "Folders", fp8: bool) -> None:
    from local_models import wan

    for plan in every(weights):
        if plan.offload == "model" and plan.layerwise_fp8 is fp8:
            clip = wan.generate(wan.load(weights.ti2v, plan, "cuda"), CLIP)
            assert clip.frames.shape == (9, 32, 32, 3)


def test_a_plan_with_smaller_tiles_sets_them_and_makes_the_same_size(weights: "Folders") -> None:
    from local_models import wan

    usual = wan.load(weights.ti2v, LoadPlan("float32", vae_tiling=True), "cpu")
    smaller = wan.load(weights.ti2v, LoadPlan("float32", vae_tiling=True, tile_cuts=1), "cpu")
    assert smaller.vae.tile_sample_min_height * 2 == usual.vae.tile_sample_min_height
    assert smaller.plan.word == "float32 offload=none tiled/2"
    clip = Render("a red ball", 160, 160, 5, 8, 1, 7, guidance=1.0, max_sequence_length=16)
    assert wan.generate(smaller, clip).frames.shape == (5, 160, 160, 3)
