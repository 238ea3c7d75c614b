"""The pixel analyser against clips whose truth is known, because they are drawn, not generated."""

from __future__ import annotations

import random

import numpy as np
import pytest

from local_models.tiny_training import analyse, scenes


def drawn(combo: scenes.Combo, seed: int, centred: bool = False) -> analyse.Frames:
    """A true clip of a combination as frames in 0..1."""
    clip = scenes.render([scenes.sample_scene(combo, random.Random(seed), centred=centred)])[0]
    frames: analyse.Frames = ((clip + 1) / 2).permute(1, 2, 3, 0).numpy()
    return frames


def sample(count: int, seed: int) -> list[scenes.Combo]:
    """Some of all combinations."""
    return random.Random(seed).sample(scenes.all_combos(), count)


def test_reads_every_drawn_clip_right() -> None:
    for number, combo in enumerate(sample(140, 1)):
        seen = analyse.analyse(drawn(combo, number, centred=number % 3 == 0))
        assert (seen.background, seen.colour, seen.motion) == (
            combo.background,
            combo.colour,
            combo.motion,
        ), combo


def test_every_colour_background_shape_and_motion_is_covered() -> None:
    chosen = sample(140, 1)
    assert {c.colour for c in chosen} == set(scenes.COLOURS)
    assert {c.background for c in chosen} == set(scenes.BACKGROUNDS)
    assert {c.shape for c in chosen} == set(scenes.SHAPES)
    assert {c.motion for c in chosen} == set(scenes.MOTIONS)


def test_a_clip_of_something_else_is_read_as_something_else() -> None:
    rng = random.Random(2)
    for number, asked in enumerate(sample(60, 3)):
        shown = rng.choice(
            [c for c in scenes.all_combos() if all(a != b for a, b in zip(asked, c, strict=True))]
        )
        seen = analyse.analyse(drawn(shown, number))
        assert seen.background != asked.background
        assert seen.colour != asked.colour
        assert seen.motion != asked.motion


@pytest.mark.parametrize(("motion", "reverse"), [("left", "right"), ("up", "down"), ("zoom in", "zoom out")])
def test_a_clip_played_backwards_moves_the_other_way(motion: str, reverse: str) -> None:
    frames = drawn(scenes.Combo("red", "white", "star", motion), 4)
    assert analyse.analyse(frames).motion == motion
    assert analyse.analyse(frames[::-1].copy()).motion == reverse


def test_survives_blur_and_grain() -> None:
    grain = np.random.default_rng(0)
    for number, combo in enumerate(sample(40, 5)):
        frames = drawn(combo, number)
        soft = (frames + np.roll(frames, 1, 1) + np.roll(frames, 1, 2) + np.roll(frames, 1, (1, 2))) / 4
        noisy = np.clip(soft + grain.normal(0, 0.02, frames.shape), 0, 1).astype(np.float32)
        seen = analyse.analyse(noisy)
        assert (seen.background, seen.colour, seen.motion) == (combo.background, combo.colour, combo.motion)


def test_an_empty_clip_has_no_object_and_no_motion() -> None:
    frames = np.full((17, 64, 64, 3), 0.5, dtype=np.float32)
    seen = analyse.analyse(frames)
    assert (seen.background, seen.colour, seen.motion) == ("grey", None, None)


def test_an_object_that_vanishes_is_no_motion() -> None:
    frames = drawn(scenes.Combo("red", "white", "circle", "still"), 6)
    frames = frames.copy()
    frames[8:] = frames[0, 0, 0]
    assert analyse.analyse(frames).motion is None


def test_refuses_frames_of_the_wrong_shape() -> None:
    with pytest.raises(ValueError, match="shape"):
        analyse.analyse(np.zeros((17, 64, 64), dtype=np.float32))


def test_first_frame_psnr_is_exact() -> None:
    image = np.zeros((64, 64, 3), dtype=np.float32)
    frames = np.full((17, 64, 64, 3), 0.1, dtype=np.float32)
    assert analyse.first_frame_psnr(frames, image) == pytest.approx(20.0, abs=1e-3)
    assert analyse.first_frame_psnr(np.zeros_like(frames), image) == 99.0


def test_training_and_held_out_combinations_do_not_meet() -> None:
    train, held = set(scenes.train_combos()), set(scenes.held_out_combos())
    assert not train & held
    assert train | held == set(scenes.all_combos())
    assert len(held) > 300
    for attribute in range(4):
        assert {c[attribute] for c in held} == {c[attribute] for c in train}


def test_captions_name_their_combination_in_both_languages() -> None:
    combo = scenes.Combo("orange", "dark blue", "circle", "right")
    rng = random.Random(7)
    english = {scenes.caption(combo, rng, "en").text for _ in range(200)}
    japanese = {scenes.caption(combo, rng, "ja").text for _ in range(200)}
    assert len(english) > 100
    assert len(japanese) > 80
    assert all("a orange" not in text for text in english)
    assert all(any(ord(letter) > 0x3000 for letter in text) for text in japanese)
