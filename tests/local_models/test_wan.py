"""Wan pipelines in this process, every flavour, with tiny random weights: sizes, images, seeds, plans, refusals."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from local_models._memory import LoadPlan
from local_models._messages import Render
from local_models._weights import WeightsBroken

if TYPE_CHECKING:
    from local_models.wan import WanPipe
    from tests.local_models.random_weights import Folders

CLIP = Render(
    "a ball", width=32, height=32, frames=9, fps=8, steps=2, seed=5, guidance=2.0, max_sequence_length=16
)


@pytest.fixture(scope="module")
def wan() -> Any:
    from local_models import wan

    return wan


@pytest.fixture(scope="module")
def ti2v(wan: Any, weights: "Folders") -> "WanPipe":
    pipe: WanPipe = wan.load(weights.ti2v)
    return pipe


def test_a_seed_means_the_same_frames_also_after_a_run_that_ended_early(wan: Any, ti2v: "WanPipe") -> None:
    class Enough(BaseException):
        pass

    def stop(phase: str, done: int, total: int) -> None:
        if (phase, done) == ("denoise", 1):
            raise Enough

    first = wan.generate(ti2v, CLIP)
    with pytest.raises(Enough):
        wan.generate(ti2v, replace(CLIP, seed=6, steps=4), stop)
    assert np.array_equal(wan.generate(ti2v, CLIP).frames, first.frames)
    assert not np.array_equal(wan.generate(ti2v, replace(CLIP, seed=6)).frames, first.frames)


def test_the_real_size_and_length_are_told(wan: Any, ti2v: "WanPipe") -> None:
    clip = wan.generate(ti2v, replace(CLIP, width=50, height=20, frames=8))
    assert clip.frames.shape == (9, 16, 48, 3)
    assert (clip.width, clip.height, clip.fps) == (48, 16, 8)
    assert clip.frames.dtype == np.uint8


def test_a_negative_prompt_counts_only_with_guidance(wan: Any, ti2v: "WanPipe") -> None:
    def frames(**more: Any) -> Any:
        return wan.generate(ti2v, replace(CLIP, steps=1, **more)).frames

    assert not np.array_equal(frames(), frames(negative_prompt="dull"))
    assert np.array_equal(frames(guidance=1.0), frames(guidance=1.0, negative_prompt="dull"))


def test_a_prompt_beyond_the_models_length_is_told(wan: Any, ti2v: "WanPipe") -> None:
    assert not wan.generate(ti2v, replace(CLIP, steps=1)).prompt_cut
    assert wan.generate(ti2v, replace(CLIP, steps=1, prompt="word " * 20)).prompt_cut


def test_flow_shift_changes_the_clip_and_nothing_stays_of_it(wan: Any, ti2v: "WanPipe") -> None:
    plain = wan.generate(ti2v, CLIP).frames
    assert not np.array_equal(wan.generate(ti2v, replace(CLIP, flow_shift=9.0)).frames, plain)
    assert np.array_equal(wan.generate(ti2v, CLIP).frames, plain)


def test_an_image_is_used_and_a_last_frame_refused_by_ti2v_weights(
    wan: Any, ti2v: "WanPipe", picture: Path
) -> None:
    given = replace(CLIP, first_frame=str(picture))
    assert not np.array_equal(wan.generate(ti2v, given).frames, wan.generate(ti2v, CLIP).frames)
    with pytest.raises(wan.UnusableRequest, match="no last frame"):
        wan.generate(ti2v, replace(given, last_frame=str(picture)))
    with pytest.raises(wan.UnusableRequest, match="together with a first"):
        wan.generate(ti2v, replace(CLIP, last_frame=str(picture)))


def test_what_is_no_image_is_refused(wan: Any, ti2v: "WanPipe", tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(wan.UnusableRequest, match="cannot be read"):
        wan.generate(ti2v, replace(CLIP, first_frame=str(tmp_path / "x.png")))


def test_clip_weights_need_an_image_and_take_no_last_one(wan: Any, weights: "Folders", picture: Path) -> None:
    pipe = wan.load(weights.clip)
    with pytest.raises(wan.UnusableRequest, match="needs a first frame"):
        wan.generate(pipe, CLIP)
    given = replace(CLIP, first_frame=str(picture))
    assert wan.generate(pipe, given).frames.shape == (9, 32, 32, 3)
    with pytest.raises(wan.UnusableRequest, match="no last frame"):
        wan.generate(pipe, replace(given, last_frame=str(picture)))


def test_first_and_last_frame_weights_need_both(
    wan: Any, weights: "Folders", picture: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    pipe = wan.load(weights.first_last)
    given = replace(CLIP, first_frame=str(picture))
    with pytest.raises(wan.UnusableRequest, match="needs a last frame"):
        wan.generate(pipe, given)
    one = wan.generate(pipe, replace(given, last_frame=str(picture))).frames
    assert not np.array_equal(
        wan.generate(pipe, replace(given, last_frame=str(tmp_path / "red.png"))).frames, one
    )


def test_the_low_noise_expert_has_a_guidance_of_its_own(wan: Any, weights: "Folders", picture: Path) -> None:
    pipe = wan.load(weights.two_experts)
    clip = replace(CLIP, steps=3)
    same = wan.generate(pipe, clip).frames
    assert np.array_equal(wan.generate(pipe, replace(clip, guidance_2=2.0)).frames, same)
    assert not np.array_equal(wan.generate(pipe, replace(clip, guidance_2=8.0)).frames, same)
    with pytest.raises(wan.UnusableRequest, match="takes no image"):
        wan.generate(pipe, replace(clip, first_frame=str(picture)))


@pytest.mark.parametrize(
    ("plan", "most"),
    [
        (LoadPlan("float32", offload="group", text_on_cpu=True), 0.0),
        (LoadPlan("float32", vae_tiling=True), 0.0),
        (LoadPlan("bfloat16", layerwise_fp8=True, offload="group", vae_tiling=True, text_on_cpu=True), 8.0),
    ],
)
def test_every_plan_makes_the_same_clip_within_its_precision(
    wan: Any, ti2v: "WanPipe", weights: "Folders", plan: LoadPlan, most: float
) -> None:
    expected = wan.generate(ti2v, CLIP).frames.astype(float)
    found = wan.generate(wan.load(weights.ti2v, plan), CLIP).frames
    assert np.abs(found - expected).mean() <= most


@pytest.mark.gpu
@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_every_plan_runs_on_a_card_for_text_and_image(
    wan: Any, weights: "Folders", picture: Path, fp8: bool, offload: Any
) -> None:
    plan = LoadPlan("bfloat16", fp8, offload, vae_tiling=True, text_on_cpu=offload == "group")
    pipe = wan.load(weights.ti2v, plan, "cuda")
    for clip in (CLIP, replace(CLIP, first_frame=str(picture)), CLIP):
        assert wan.generate(pipe, clip).frames.shape == (9, 32, 32, 3)


def test_progress_names_every_phase_and_never_falls(wan: Any, ti2v: "WanPipe") -> None:
    seen: list[tuple[str, int, int]] = []
    wan.generate(ti2v, CLIP, lambda *step: seen.append(step))
    assert list(dict.fromkeys(phase for phase, *_ in seen)) == ["encode", "denoise", "decode"]
    for name in ("encode", "denoise", "decode"):
        dones = [done for phase, done, _ in seen if phase == name]
        assert dones == sorted(dones)
        assert dones[-1] == next(total for phase, _, total in seen if phase == name)


def test_weights_of_another_shape_than_their_config_are_damaged(
    wan: Any, weights: "Folders", tmp_path: Path, copied: Callable[[Path], Path]
) -> None:
    folder = copied(weights.ti2v)
    config = folder / "transformer" / "config.json"
    config.write_text(
        config.read_text(encoding="utf-8").replace('"ffn_dim": 32', '"ffn_dim": 48'), encoding="utf-8"
    )
    with pytest.raises(WeightsBroken, match="incomplete or damaged") as caught:
        wan.load(folder)
    assert str(tmp_path) not in str(caught.value)


def test_the_numbers_for_the_planner_come_from_the_files(wan: Any, weights: "Folders") -> None:
    from local_models._weights import inspect

    found = wan.numbers(inspect(weights.two_experts), 64, 32, 9)
    assert (found.experts, found.dim, found.ffn, found.tokens) == (2, 32, 32, 3 * 4 * 2)
    assert not found.per_token_time
    assert wan.numbers(inspect(weights.ti2v), 64, 32, 9).per_token_time
