"""What every family answers with, what it refuses, and the pictures it is given; no model library here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from local_models._messages import Phase, Render
from local_models._snap import cover
from router.contract.words import Words, words

OnStep = Callable[[Phase, int, int], None]
"""Called with a phase, units done and units in all; what it raises ends the run."""
LastFrame = Literal["no", "optional", "needed"]


def ignore(phase: Phase, done: int, total: int) -> None:
    """For callers that watch nothing."""


class UnusableRequest(ValueError):
    """The loaded weights cannot make this clip; `message` says why."""

    def __init__(self, message: Words) -> None:
        """`message` is for the person who asked."""
        self.message = message
        super().__init__(message.en)


@dataclass(frozen=True)
class Sound:
    """The sound of a clip."""

    samples: NDArray[np.float32]
    """(N, channels), -1 to 1."""
    rate: int
    """Samples per second."""


@dataclass(frozen=True)
class Clip:
    """What came out: the frames and their real numbers, after snapping."""

    frames: NDArray[np.uint8]
    """(T, H, W, 3), RGB."""
    fps: int
    width: int
    height: int
    prompt_cut: bool
    """True where the prompt had more tokens than the model takes, so that its end was not read."""
    sound: Sound | None = None
    """None for a model without sound, and where none was asked for."""


Finish = Callable[[OnStep], Clip]
"""Latents to a clip. Needs nothing of the pipeline but its decoder; the same latents give the same clip each time."""


def check_frames(request: Render, *, text: bool, image: bool, last: LastFrame) -> None:
    """Raise UnusableRequest where the weights cannot use the given frames, or lack one.

    `text`: a clip can be made without an image; `image`: a first frame is used; `last`: what a last one means to them.
    """
    if request.first_frame is None and request.last_frame is None:
        if not text:
            raise UnusableRequest(
                words("This model needs a first frame.", "このモデルには最初のフレームの画像が必要です。")
            )
        return
    if not image:
        raise UnusableRequest(words("This model takes no image.", "このモデルは画像を入力できません。"))
    if request.first_frame is None:
        raise UnusableRequest(
            words(
                "This model takes a last frame only together with a first one.",
                "最後のフレームだけの指定はできません。",
            )
        )
    if request.last_frame is not None and last == "no":
        raise UnusableRequest(
            words("This model takes no last frame.", "このモデルは最後のフレームを指定できません。")
        )
    if request.last_frame is None and last == "needed":
        raise UnusableRequest(
            words("This model needs a last frame as well.", "このモデルには最後のフレームの画像も必要です。")
        )


def check_steps(request: Render, least: int) -> None:
    """Raise UnusableRequest for fewer steps than the model's schedule can be made of."""
    if request.steps < least:
        raise UnusableRequest(
            words(
                f"This model needs at least {least} steps.",
                f"このモデルには {least} 以上のステップ数が必要です。",
            )
        )


def open_image(path: str, width: int, height: int) -> Image.Image:
    """The picture at `path`, cut and scaled to the clip's size. Raises UnusableRequest for what is none."""
    try:
        with Image.open(path) as image:
            return cover(image, width, height)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        raise UnusableRequest(
            words("The input image cannot be read.", "入力画像を読み込めません。")
        ) from None
