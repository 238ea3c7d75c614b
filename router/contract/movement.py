"""Which camera movement a model can make of what was asked, pure."""

from typing import get_args

from router.contract.card import ModelCard
from router.contract.request import CAMERA_PRESETS, Camera, CameraAxis
from router.contract.shape import Refuse
from router.contract.words import words

AXIS_PRESETS = frozenset(
    {
        *("zoom_in", "zoom_out", "pan_left", "pan_right", "tilt_up", "tilt_down", "roll_left", "roll_right"),
        *("truck_left", "truck_right", "pedestal_up", "pedestal_down"),
    }
)
"""Presets that one axis can say; `truck` is the horizontal axis, `pedestal` the vertical one."""


def fit_camera(card: ModelCard, wanted: Camera | None, *, refuse: Refuse) -> Camera | None:
    """The movement as asked where the model has it; an axis needs a model with axes, or one that is told in words."""
    if wanted is None:
        return None
    if card.camera == "none":
        refuse(
            "camera",
            words(
                "this model takes no camera movement; describe it in the prompt",
                "カメラワークの指定には対応していません。プロンプトに書いてください",
            ),
        )
        return None
    possible, axes = presets_of(card), axes_of(card)
    if wanted.preset in possible or wanted.axis in axes:
        return wanted
    listed, asked = ", ".join(possible), wanted.preset or wanted.axis
    axes_en, axes_ja = (" or one axis with a value", "、または軸と値") if axes else ("", "")
    if card.camera_axes:
        axes_en, axes_ja = f"{axes_en} ({', '.join(axes)})", f"{axes_ja}({'、'.join(axes)})"
    refuse(
        "camera",
        words(
            f"camera {asked} is not possible; possible: {listed}{axes_en}",
            f"カメラワーク {asked} には対応していません。指定できる値: {listed}{axes_ja}",
        ),
    )
    return None


def axes_of(card: ModelCard) -> tuple[CameraAxis, ...]:
    """The axes that can be asked of this model."""
    return () if card.camera in {"none", "presets"} else card.camera_axes or get_args(CameraAxis)


def presets_of(card: ModelCard) -> tuple[str, ...]:
    """The camera presets that can be asked of this model; a form lists them."""
    if card.camera == "none":
        return ()
    if card.camera_presets:
        return card.camera_presets
    return tuple(p for p in CAMERA_PRESETS if card.camera != "axes" or p in AXIS_PRESETS)
