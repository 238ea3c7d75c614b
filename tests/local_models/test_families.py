"""Every family end to end on the CPU: real pipelines, tiny random weights in their real format, production code."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from local_models._clip import UnusableRequest
from local_models._memory import LoadPlan
from local_models._messages import Render
from tests.local_models.conftest import follow, request

if TYPE_CHECKING:
    from local_models._runner import Local
    from tests.local_models.random_families import Family
    from tests.local_models.random_weights import Folders

# Mochi asks for an autocast that only a card has; on the CPU its position table is in fp32 anyway.
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")

CLIP = Render("a ball", 64, 64, 17, 8, steps=3, seed=5, guidance=3.0, max_sequence_length=24)
NAMES = ("ltx", "ltx2", "hunyuan15", "hunyuan15-i2v", "cogvideox", "cogvideox-i2v", "mochi")
WAN = ("wan", "wan-clip", "wan-first-last", "wan-two-experts")
LENGTHS = {"mochi": 19}
"""Frames of CLIP where they are not 17."""
RECIPES: dict[str, dict[str, Any]] = {
    "ltx": {"timesteps": [1000, 900, 0.03], "decode_timestep": 0.05, "decode_noise_scale": 0.025},
    "ltx2": {"sigmas": [1.0, 0.9, 0.4]},
}
Loaded = Callable[[str], tuple[Any, Any, Render]]


class Enough(BaseException):
    """As the worker's own Stop: no library swallows it."""


@pytest.fixture(scope="module")
def all_families(families: "dict[str, Family]", weights: "Folders") -> "dict[str, Family]":
    from tests.local_models.random_families import Family

    wan = (
        Family("wan", "wan", weights.ti2v, image=True),
        Family("wan-clip", "wan", weights.clip, text=False, image=True),
        Family("wan-first-last", "wan", weights.first_last, text=False, image=True, last=True),
        Family("wan-two-experts", "wan", weights.two_experts),
    )
    return {**families, **{family.name: family for family in wan}}


@pytest.fixture(scope="module")
def loaded(all_families: "dict[str, Family]", picture: Path) -> Iterator[Loaded]:
    """Module, pipe and the clip that this flavour can make; each is loaded once."""
    pipes: dict[str, tuple[Any, Any, Render]] = {}

    def load(name: str) -> tuple[Any, Any, Render]:
        if name not in pipes:
            family = all_families[name]
            module = importlib.import_module(f"local_models.{family.module}")
            first = None if family.text else str(picture)
            last = str(picture) if name == "wan-first-last" else None
            clip = replace(CLIP, first_frame=first, last_frame=last, recipe=RECIPES.get(name, {}))
            pipes[name] = module, module.load(family.folder), clip
        return pipes[name]

    yield load
    pipes.clear()


@pytest.mark.parametrize("name", NAMES + WAN)
def test_a_clip_tells_its_progress_and_a_cancel_inside_a_step_leaves_no_trace(
    loaded: Loaded, name: str
) -> None:
    module, pipe, clip = loaded(name)
    seen: list[tuple[str, int, int]] = []
    first = module.generate(pipe, clip, lambda *step: seen.append(step))
    assert first.frames.shape == (LENGTHS.get(name, 17), 64, 64, 3)
    assert first.frames.std() > 1
    assert list(dict.fromkeys(phase for phase, *_ in seen)) == ["encode", "denoise", "decode"]
    for phase in ("encode", "denoise", "decode"):
        told = [(done, total) for named, done, total in seen if named == phase]
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert len({total for _, total in told}) == 1
        assert told[-1][0] == told[-1][1]
    assert max(done for phase, done, _ in seen if phase == "denoise") == 3

    # The order to stop comes while the second step is under way.
    blocks = [block for block in pipe.stop_points() if "Block" in type(block).__name__]
    runs, stopping = 0, False

    def count(*_: Any) -> None:
        nonlocal runs, stopping
        runs += 1
        stopping = runs > told_per_step

    def stop(*_: Any) -> None:
        if stopping:
            raise Enough

    told_per_step = 1 if name.startswith(("ltx", "cog", "mochi")) else 2
    hooks = [transformer.register_forward_pre_hook(count) for transformer in pipe.transformers]
    hooks += [block.register_forward_pre_hook(stop) for block in blocks]
    seen.clear()
    with pytest.raises(Enough):
        module.generate(pipe, replace(clip, seed=6), lambda *step: seen.append(step))
    for hook in hooks:
        hook.remove()
    pipe.settle()
    assert runs == told_per_step + 1
    assert max(done for phase, done, _ in seen if phase == "denoise") == 1
    assert not [phase for phase, *_ in seen if phase == "decode"]
    assert np.array_equal(module.generate(pipe, clip).frames, first.frames)
    assert not np.array_equal(module.generate(pipe, replace(clip, seed=6)).frames, first.frames)


@pytest.mark.parametrize("name", NAMES)
def test_the_clip_is_the_one_that_the_plain_pipeline_makes(
    loaded: Loaded, families: "dict[str, Family]", name: str
) -> None:
    import torch
    from diffusers import DiffusionPipeline, LTX2ConditionPipeline

    module, pipe, clip = loaded(name)
    kind: Any = LTX2ConditionPipeline if name == "ltx2" else DiffusionPipeline
    plain = kind.from_pretrained(families[name].folder)
    plain.set_progress_bar_config(disable=True)
    more: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 3.0, "max_sequence_length": 24}
    if name == "ltx":
        recipe = clip.recipe
        more |= {**recipe, "num_inference_steps": 3, "image_cond_noise_scale": 0.15, "frame_rate": 8}
    if name == "ltx2":
        plain.scheduler = type(plain.scheduler).from_config(
            plain.scheduler.config, use_dynamic_shifting=False, shift_terminal=None
        )
        off = {"stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0}
        off |= {"audio_guidance_scale": 3.0, "audio_stg_scale": 0.0, "audio_modality_scale": 1.0}
        more |= {**off, "audio_guidance_rescale": 0.0, "sigmas": clip.recipe["sigmas"]}
        more |= {"use_cross_timestep": False, "frame_rate": 8.0}
    if name.startswith("hunyuan15"):
        del more["guidance_scale"], more["max_sequence_length"]
        plain.guider = plain.guider.new(guidance_scale=3.0)
        plain.tokenizer_max_length = 24
    size: dict[str, Any] = {} if name == "hunyuan15-i2v" else {"width": 64, "height": 64}
    if clip.first_frame is not None:
        from local_models._clip import open_image

        size["image"] = open_image(clip.first_frame, 64, 64)
    output = plain(
        prompt="a ball",
        **size,
        **more,
        num_frames=LENGTHS.get(name, 17),
        generator=torch.Generator("cpu").manual_seed(5),
        output_type="np",
    )
    expected = np.asarray(output.frames[0]) * 255
    found = module.generate(pipe, clip).frames
    assert np.abs(found - expected).max() < 1.01


@pytest.mark.parametrize(
    ("name", "made"), [("ltx", (17, 64, 96)), ("ltx2", (17, 64, 96)), ("mochi", (13, 64, 96))]
)
def test_the_real_size_and_length_are_told(loaded: Loaded, name: str, made: tuple[int, int, int]) -> None:
    module, pipe, clip = loaded(name)
    found = module.generate(pipe, replace(clip, width=90, height=60, frames=15, steps=2, recipe={}))
    assert found.frames.shape == (*made, 3)
    assert (found.width, found.height) == (made[2], made[1])


def test_weights_that_know_one_size_make_that_one(loaded: Loaded) -> None:
    module, pipe, clip = loaded("cogvideox-i2v")
    found = module.generate(pipe, replace(clip, width=96, height=80, steps=2))
    assert (found.width, found.height) == (64, 64)


def test_without_a_size_argument_the_nearest_trained_one_is_made_and_told(loaded: Loaded) -> None:
    module, pipe, clip = loaded("hunyuan15-i2v")
    found = module.generate(pipe, replace(clip, width=130, height=64, steps=2, guidance=1.0, frames=5))
    assert found.frames.shape[:3] == (5, found.height, found.width)
    assert found.width > found.height
    assert found.width % 16 == found.height % 16 == 0


@pytest.mark.parametrize("name", ["ltx", "ltx2", "mochi"])
def test_too_few_steps_for_a_schedule_are_refused(loaded: Loaded, name: str) -> None:
    module, pipe, clip = loaded(name)
    with pytest.raises(UnusableRequest, match="at least 2 steps"):
        module.generate(pipe, replace(clip, steps=1, recipe={}))


@pytest.mark.parametrize("name", ["ltx", "ltx2"])
def test_a_first_and_a_last_frame_are_both_used(loaded: Loaded, name: str, picture: Path, red: Path) -> None:
    module, pipe, clip = loaded(name)

    def frames(**more: Any) -> Any:
        return module.generate(pipe, replace(clip, guidance=1.0, **more)).frames

    plain, first = frames(), frames(first_frame=str(picture))
    both = frames(first_frame=str(picture), last_frame=str(red))
    other = frames(first_frame=str(picture), last_frame=str(picture))
    assert not np.array_equal(plain, first)
    assert not np.array_equal(first, both)
    assert not np.array_equal(both, other)


@pytest.mark.parametrize("name", ["hunyuan15-i2v", "cogvideox-i2v"])
def test_image_weights_use_their_image_and_refuse_to_do_without(loaded: Loaded, name: str, red: Path) -> None:
    module, pipe, clip = loaded(name)
    one = module.generate(pipe, replace(clip, guidance=1.0, steps=2)).frames
    assert not np.array_equal(
        module.generate(pipe, replace(clip, guidance=1.0, steps=2, first_frame=str(red))).frames, one
    )
    with pytest.raises(UnusableRequest, match="needs a first frame"):
        module.generate(pipe, replace(clip, first_frame=None))
    with pytest.raises(UnusableRequest, match="no last frame"):
        module.generate(pipe, replace(clip, last_frame=str(red)))


@pytest.mark.parametrize("name", ["hunyuan15", "cogvideox", "mochi"])
def test_text_weights_refuse_an_image(loaded: Loaded, name: str, red: Path) -> None:
    module, pipe, clip = loaded(name)
    with pytest.raises(UnusableRequest, match="takes no image"):
        module.generate(pipe, replace(clip, first_frame=str(red)))


@pytest.mark.parametrize("name", NAMES)
def test_a_negative_prompt_counts_only_with_guidance_and_a_long_prompt_is_told(
    loaded: Loaded, name: str
) -> None:
    module, pipe, clip = loaded(name)
    clip = replace(clip, steps=2, frames=5, recipe={})

    def frames(**more: Any) -> Any:
        return module.generate(pipe, replace(clip, **more)).frames

    assert not np.array_equal(frames(), frames(negative_prompt="dull"))
    quiet = module.generate(pipe, replace(clip, guidance=1.0, negative_prompt="dull"))
    assert np.array_equal(frames(guidance=1.0), quiet.frames)
    assert not quiet.prompt_cut
    assert module.generate(pipe, replace(clip, guidance=1.0, prompt="words " * 9)).prompt_cut


def test_a_prompt_is_read_once(loaded: Loaded) -> None:
    module, pipe, clip = loaded("ltx")
    pipe.prompts.fill(["one", "two", "one"], 24)
    reads = []
    hook = pipe.prompts.encoders[0].register_forward_hook(lambda *_: reads.append(1))
    module.generate(pipe, replace(clip, prompt="two", guidance=1.0))
    assert reads == []
    module.generate(pipe, replace(clip, prompt="three", guidance=1.0))
    hook.remove()
    assert reads == [1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "plan",
    [
        LoadPlan("float32", offload="group", text_streamed=True),
        LoadPlan("bfloat16", layerwise_fp8=True, offload="group", vae_tiling=True, text_on_cpu=True),
    ],
    ids=lambda plan: plan.dtype,
)
def test_every_plan_makes_the_same_clip_within_its_precision(
    loaded: Loaded, families: "dict[str, Family]", name: str, plan: LoadPlan
) -> None:
    module, pipe, clip = loaded(name)
    clip = replace(clip, steps=2, guidance=1.0, frames=9, recipe={})
    expected = module.generate(pipe, clip).frames.astype(float)
    found = module.generate(module.load(families[name].folder, plan), clip).frames
    assert np.abs(found - expected).mean() <= (0.0 if plan.dtype == "float32" else 16.0)


@pytest.mark.parametrize("name", [*NAMES, "wan"])
def test_tiles_are_counted_as_they_are_decoded(loaded: Loaded, name: str) -> None:
    module, pipe, clip = loaded(name)
    size: dict[str, Any] = {"width": 160, "height": 160} if name.startswith("ltx") else {}
    vae = pipe.vae
    untiled = module.generate(pipe, replace(clip, steps=2, guidance=1.0, recipe={}, **size)).frames
    kept = {key: value for key, value in vars(vae).items() if key.startswith(("tile_", "use_tiling"))}
    small: dict[str, Any] = {"tile_sample_min_height": 32, "tile_sample_min_width": 32}
    if "tile_sample_stride_height" in kept:
        unit = 32 if name.startswith("ltx") else 16
        strides = ("tile_sample_stride_height", "tile_sample_stride_width")
        # Of LTX-2's five latents this stride would leave a single one over.
        small = dict.fromkeys(small, 3 * unit) | dict.fromkeys(strides, 2 * unit)
    if name.startswith("cogvideox"):
        small = {}
    if name.startswith("hunyuan15"):
        small |= {"tile_latent_min_height": 2, "tile_latent_min_width": 2}
        small["tile_overlap_factor"] = 0.5
    decoded: list[int] = []
    hook = vae.decoder.register_forward_hook(lambda *_: decoded.append(1))
    seen: list[tuple[str, int, int]] = []
    try:
        vae.enable_tiling(**small)
        tiled = module.generate(
            pipe,
            replace(clip, steps=2, guidance=1.0, recipe={}, **size),
            lambda *step: seen.append(step),
        )
    finally:
        hook.remove()
        for key, value in kept.items():
            setattr(vae, key, value)
    assert tiled.frames.shape == untiled.shape
    told = [(done, total) for phase, done, total in seen if phase == "decode"]
    assert len(decoded) > 1
    assert told[-1] == (len(decoded), len(decoded))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_sound_comes_with_the_frames_where_it_is_asked_for(loaded: Loaded) -> None:
    module, pipe, clip = loaded("ltx2")
    assert module.generate(pipe, clip).sound is None
    seen: list[tuple[str, int, int]] = []
    made = module.generate(pipe, replace(clip, sound=True), lambda *step: seen.append(step))
    assert made.sound is not None
    assert made.sound.samples.shape[1] == 2
    assert abs(len(made.sound.samples) / made.sound.rate - 17 / 8) < 0.1
    assert seen[-1] == ("decode", 2, 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_for_the_planner_come_from_the_files(families: "dict[str, Family]", name: str) -> None:
    from local_models._weights import inspect

    module = importlib.import_module(f"local_models.{families[name].module}")
    found = module.numbers(inspect(families[name].folder), 128, 64, 17)
    assert (found.dim, found.layers, found.experts) == (32, 2, 1)
    assert found.tokens > 0
    assert found.text_b > 0
    assert found.vae_b > 0
    assert (found.image_b > 0) == (name == "hunyuan15-i2v")


async def test_the_model_process_writes_frames_and_sound_into_one_file(
    local: "Local", tmp_path: Path
) -> None:
    asked = request("local/sound", generate_audio=True, width=64, height=64, duration=17 / 8)
    done = await follow(local, await local.submit(asked, key="j:a1"))
    to = tmp_path / "clip.mp4"
    await local.fetch(done.outputs[0], to)
    with av.open(str(to)) as clip:
        assert clip.streams.audio[0].codec_context.name == "aac"
        sound = np.concatenate([frame.to_ndarray() for frame in clip.decode(audio=0)], axis=1)
        rate = clip.streams.audio[0].rate
    with av.open(str(to)) as clip:
        assert len(list(clip.decode(video=0))) == done.details["frames"] == 17
    assert abs(sound.shape[1] / rate - 17 / 8) < 0.15
    assert np.abs(sound).max() > 0
    quiet = await follow(local, await local.submit(request("local/sound"), key="j:a2"))
    assert (quiet.details["width"], quiet.details["height"]) == (64, 64)
    with av.open(str(quiet.outputs[0].path)) as clip:
        assert not clip.streams.audio
