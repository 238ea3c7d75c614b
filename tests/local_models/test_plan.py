"""The planner: what is loaded how on 8, 12, 16 and 24 GB; invariants over all models, sizes and memory sizes."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_models._memory import (
    CPU_PLAN,
    HEADROOM,
    DeviceFacts,
    LoadPlan,
    ModelNumbers,
    beside_gb,
    options,
    peak_gb,
    plans,
)
from local_models._numbers import LEAST_TILE
from local_models._published import MODELS, Published
from local_models._speed import CARDS, VRAM_CARDS, card_factor, clip_seconds, pass_seconds

DEFAULTS: dict[str, tuple[int, int, int, int, int]] = {
    "wan-2.1-t2v-1.3b": (832, 480, 81, 50, 2),
    "wan-2.1-i2v-14b": (832, 480, 81, 40, 2),
    "wan-2.1-t2v-14b": (832, 480, 81, 50, 2),
    "wan-2.2-ti2v-5b": (1280, 704, 121, 50, 2),
    "wan-2.2-t2v-a14b": (832, 480, 81, 40, 2),
    "ltx-video-13b-distilled": (704, 480, 121, 8, 1),
    "ltx-2-distilled": (768, 512, 121, 8, 1),
    "ltx-video-2b-distilled": (704, 480, 121, 8, 1),
    "hunyuanvideo-1.5-480p": (848, 480, 121, 50, 2),
    "cogvideox-2b": (720, 480, 49, 50, 2),
    "cogvideox-5b": (720, 480, 49, 50, 2),
    "mochi-1-preview": (848, 480, 85, 64, 2),
}
"""Width, height, frames, steps, passes, from the fact sheet (2026-11-19)."""


def row(name: str) -> Published:
    return next(row for row in MODELS if re.search(row.pattern, name))


def numbers(name: str) -> ModelNumbers:
    return row(name).numbers(*DEFAULTS[name])


def on(vram: float, name: str | None = None, **more: float) -> DeviceFacts:
    return DeviceFacts("cuda", vram, name=VRAM_CARDS.get(int(vram), "") if name is None else name, **more)  # type: ignore[arg-type]


def test_every_name_finds_its_own_architecture_and_none_is_left_out() -> None:
    assert [row(name) for name in DEFAULTS] == list(MODELS)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("wan-2.1-t2v-1.3b", 32760),
        ("wan-2.2-ti2v-5b", 27280),
        ("ltx-video-2b-distilled", 5280),
        ("hunyuanvideo-1.5-480p", 49290),
    ],
)
def test_tokens_of_the_fact_sheet(name: str, tokens: int) -> None:
    assert numbers(name).tokens == tokens


@pytest.mark.parametrize(
    ("name", "vram", "offload", "fp8", "text", "tiling"),
    [
        ("wan-2.1-t2v-1.3b", 8, "none", False, "streamed", True),
        ("wan-2.1-t2v-1.3b", 24, "none", False, "resident", False),
        ("wan-2.2-ti2v-5b", 12, "group", False, "streamed", True),
        ("wan-2.2-ti2v-5b", 24, "none", False, "streamed", True),
        ("wan-2.2-ti2v-5b", 80, "none", False, "resident", False),
        ("wan-2.2-t2v-a14b", 12, "group", False, "streamed", True),
        ("wan-2.2-t2v-a14b", 80, "none", False, "streamed", False),
        ("ltx-video-2b-distilled", 8, "group", False, "streamed", True),
        ("ltx-video-13b-distilled", 12, "group", False, "streamed", True),
        ("cogvideox-5b", 12, "group", False, "streamed", True),
    ],
)
def test_the_plan_by_model_and_card(
    name: str, vram: float, offload: str, fp8: bool, text: str, tiling: bool
) -> None:
    plan = plans(numbers(name), on(vram))[0]
    assert (plan.offload, plan.layerwise_fp8, plan.text_place, plan.vae_tiling) == (
        offload,
        fp8,
        text,
        tiling,
    )


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("vram", VRAM_CARDS)
def test_what_is_planned_stays_below_the_card_and_what_is_said_not_to_fit_has_no_plan(
    name: str, vram: int
) -> None:
    model, device = numbers(name), on(vram)
    ladder = plans(model, device)
    if any(option.verdict == "chosen" for option in options(model, device)):
        assert all(plan.peak_gb <= vram for plan in ladder)
        assert len(ladder) == 1 or ladder[0].peak_gb <= HEADROOM * vram
    else:
        assert len(ladder) == 1
        assert ladder[0].peak_gb > vram
        assert ladder[0].peak_gb == min(option.plan.peak_gb for option in options(model, device))


@pytest.mark.parametrize(
    ("name", "vram", "cuts"),
    [
        # Tiles of 512 pixels with all their frames are what an 8 GB card has no room for.
        ("ltx-video-2b-distilled", 8, 1),
        ("ltx-video-2b-distilled", 12, 0),
        ("hunyuanvideo-1.5-480p", 12, 1),
        ("hunyuanvideo-1.5-480p", 16, 0),
        ("ltx-2-distilled", 12, 1),
        ("wan-2.1-t2v-1.3b", 8, 0),
    ],
)
def test_tiles_are_cut_only_where_nothing_else_fits(name: str, vram: float, cuts: int) -> None:
    model, device = numbers(name), on(vram)
    assert plans(model, device)[0].tile_cuts == cuts
    whole = [option for option in options(model, device) if not option.plan.tile_cuts]
    assert any(option.verdict in ("chosen", "slower") for option in whole) == (cuts == 0)


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("vram", VRAM_CARDS)
def test_no_rung_differs_from_another_by_its_tiles_alone(name: str, vram: int) -> None:
    """Smaller tiles are taken at run time, without loading again."""
    ladder = [replace(plan, tile_cuts=0).word for plan in plans(numbers(name), on(vram))]
    assert len(set(ladder)) == len(ladder)


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_tile_is_never_cut_below_the_least(name: str) -> None:
    model = numbers(name)
    for option in options(model, on(8)):
        assert (model.tile_pixels / 4**option.plan.tile_cuts) ** 0.5 >= LEAST_TILE


def test_every_model_has_a_card_and_every_card_has_models() -> None:
    fitting = {
        (name, vram)
        for name in DEFAULTS
        for vram in VRAM_CARDS
        if any(option.verdict == "chosen" for option in options(numbers(name), on(vram)))
    }
    assert {name for name, vram in fitting if vram == 24} == set(DEFAULTS)
    assert len({name for name, vram in fitting if vram == 8}) >= 4
    for small, large in ((8, 12), (12, 16), (16, 24)):
        assert {name for name, vram in fitting if vram == small} <= {n for n, v in fitting if v == large}


models = st.builds(
    lambda row, size, frames, steps, passes: row.numbers(*size, 4 * frames + 1, steps, passes),
    st.sampled_from(MODELS),
    st.sampled_from([(256, 256), (832, 480), (704, 480), (1280, 704), (1280, 720), (480, 832)]),
    st.integers(1, 40),
    st.integers(1, 60),
    st.sampled_from([1, 2]),
)
cards = st.sampled_from(["", *CARDS])
memory = st.floats(0.5, 160)


@settings(max_examples=150, deadline=None)
@given(models, memory, memory, cards)
def test_more_memory_never_gives_a_slower_plan(
    model: ModelNumbers, one: float, other: float, name: str
) -> None:
    less, more = sorted((one, other))
    device = on(less, name)
    if not any(option.verdict == "chosen" for option in options(model, device)):
        return
    factor = card_factor(name) or 1.0
    slow = clip_seconds(model, plans(model, device)[0], factor)
    fast = clip_seconds(model, plans(model, on(more, name))[0], factor)
    assert fast <= slow + 1e-9


@settings(max_examples=150, deadline=None)
@given(models, memory, cards, st.one_of(st.none(), st.floats(4, 256)))
def test_a_ladder_gets_smaller_and_everything_in_it_can_be_loaded(
    model: ModelNumbers, vram: float, name: str, ram: float | None
) -> None:
    ladder = plans(model, DeviceFacts("cuda", vram, name=name, ram_gb=ram))
    peaks = [plan.peak_gb for plan in ladder]
    assert peaks == sorted(peaks, reverse=True)
    assert len(set(peaks)) == len(peaks)
    for plan in ladder:
        assert plan.dtype == "bfloat16"
        assert plan.attention == "native"
        assert not (plan.text_on_cpu and plan.text_streamed)
        # What leaves the card for streaming or visiting must have a place to leave to.
        assert plan.offload in {"none", "model", "group"}
        assert plan.vae_tiling or vram >= 24
        assert plan.peak_gb == peak_gb(model, plan)
        assert ram is None or plan.ram_gb <= ram or len(ladder) == 1


@settings(max_examples=100, deadline=None)
@given(models, memory)
def test_a_smaller_clip_never_needs_more(model: ModelNumbers, vram: float) -> None:
    smaller = replace(
        model,
        tokens=model.tokens // 2,
        frame_pixels=model.frame_pixels // 2,
        frames=max(1, model.frames // 2),
    )
    for option in options(model, on(vram, "")):
        assert peak_gb(smaller, option.plan) <= option.plan.peak_gb


@pytest.mark.parametrize("name", DEFAULTS)
def test_two_clips_on_a_card_need_more_than_one_and_less_than_two_models(name: str) -> None:
    model = numbers(name)
    for option in options(model, DeviceFacts("cuda", 1e6)):
        both, alone = beside_gb(model, option.plan), peak_gb(model, option.plan)
        if option.plan.offload == "model":
            assert both is None, "its components come and go for one clip at a time"
        else:
            assert both is not None
            assert alone < both < 2 * alone


def test_measured_peaks_correct_the_plan() -> None:
    model = numbers("wan-2.2-ti2v-5b")
    assert plans(model, on(12))[0].peak_gb <= 12
    worse = replace(model, peak_factor=1.3)
    assert all(option.verdict == "vram" for option in options(worse, on(12)))
    better = replace(model, peak_factor=0.7)
    assert plans(better, on(16))[0].offload != plans(model, on(16))[0].offload


def test_packed_weights_are_not_cast_again_and_a_loader_that_cannot_stream_text_is_not_asked_to() -> None:
    model = replace(numbers("wan-2.2-t2v-a14b"), packed_bytes=0.68, streams_text=False)
    every = [option.plan for option in options(model, on(24))]
    assert not any(plan.layerwise_fp8 or plan.text_streamed for plan in every)


@pytest.mark.parametrize(
    ("offload", "experts_on_card"),
    [("none", 2), ("model", 1), ("group", 0)],
)
def test_a_lora_beside_packed_weights_takes_its_place_on_the_card_and_in_the_host(
    offload: str, experts_on_card: int
) -> None:
    packed = replace(numbers("wan-2.2-t2v-a14b"), packed_bytes=0.68)
    lora = replace(packed, lora_b=0.3067)
    for before, after in zip(options(packed, on(200)), options(lora, on(200)), strict=True):
        assert after.plan.ram_gb - before.plan.ram_gb == pytest.approx(2 * 2 * 0.3067, abs=0.02)
    found = {
        option.plan.word: option.plan for option in options(packed, on(200)) if option.plan.offload == offload
    }
    for plan in found.values():
        more = peak_gb(lora, plan) - peak_gb(packed, plan)
        expected = 1.08 * 2 * 0.3067 * experts_on_card
        # With parts that come one at a time, an unstreamed text encoder may be the larger one either way.
        assert more == pytest.approx(expected, abs=0.02) or (
            offload == "model" and plan.text_place == "visits"
        )


def test_packed_weights_take_less_memory_and_no_less_arithmetic() -> None:
    plain = numbers("wan-2.2-t2v-a14b")
    packed = replace(plain, packed_bytes=0.68)
    assert packed.transformer_gb() == pytest.approx(14.288 * 0.68)
    assert packed.transformer_gb(fp8=True) == packed.transformer_gb(), "packed weights are not cast again"
    assert pass_seconds(packed, 1.0) == pass_seconds(plain, 1.0)


def test_host_memory_is_a_limit_where_it_is_known() -> None:
    model = numbers("wan-2.2-t2v-a14b")
    assert {option.verdict for option in options(model, on(24, ram_gb=32.0))} <= {"ram", "vram"}
    assert any(option.verdict == "chosen" for option in options(model, on(24, ram_gb=96.0)))


def test_on_the_cpu_there_is_one_plan_and_it_is_exact() -> None:
    assert plans(numbers("wan-2.2-t2v-a14b"), DeviceFacts("cpu")) == (CPU_PLAN,)
    assert CPU_PLAN == LoadPlan("float32", offload="none")


def test_a_plan_in_words() -> None:
    assert str(LoadPlan("bfloat16", True, "model", True, True, 9.1)) == (
        "bfloat16 fp8 offload=model tiled text-on-cpu peak=9.1GB"
    )
    assert LoadPlan("bfloat16", text_streamed=True, peak_gb=3.0).word == "bfloat16 offload=none text-streamed"


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("NVIDIA GeForce RTX 4090", 1.0),
        ("NVIDIA GeForce RTX 4090 D", 1.12),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 1.9),
        ("RTX 4070 ti", 2.05),
        ("NVIDIA GeForce RTX 4060 Ti", 3.7),
        ("NVIDIA H100 80GB HBM3", 0.36),
        ("NVIDIA A100-SXM4-80GB", 0.53),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 5090", None),
        ("Tesla T4", None),
        ("", None),
    ],
)
def test_cards_by_the_drivers_names(name: str, factor: float | None) -> None:
    assert card_factor(name) == factor


@pytest.mark.parametrize("name", ["wan-2.1-t2v-1.3b", "wan-2.2-ti2v-5b", "cogvideox-5b"])
def test_published_times_come_out_again_and_the_arithmetic_alone_comes_near(name: str) -> None:
    anchor = row(name).anchor
    assert anchor is not None
    plan = LoadPlan("bfloat16")
    again = clip_seconds(anchor.numbers, plan, CARDS[anchor.card], anchor)
    assert again == pytest.approx(anchor.seconds, rel=0.01)
    reckoned = pass_seconds(anchor.numbers, 1.0)
    assert reckoned == pytest.approx(pass_seconds(anchor.numbers, 1.0, anchor), rel=0.25)
