"""Kling's camera movements: which field, which sign."""

from typing import Any

import pytest

from api_providers._kling_camera import kling_axis, kling_control
from router.contract.movement import AXIS_PRESETS
from router.contract.request import Camera

STILL = {"horizontal": 0, "vertical": 0, "pan": 0, "tilt": 0, "roll": 0, "zoom": 0}


@pytest.mark.parametrize(
    ("camera", "control"),
    [
        ({"preset": "down_back"}, {"type": "down_back"}),
        ({"preset": "pan_left"}, {"type": "simple", "config": STILL | {"pan": -5}}),
        ({"preset": "truck_right"}, {"type": "simple", "config": STILL | {"horizontal": 5}}),
        ({"axis": "tilt", "value": 2.5}, {"type": "simple", "config": STILL | {"tilt": 2.5}}),
        # Their zoom grows when the view gets wider.
        ({"preset": "zoom_in"}, {"type": "simple", "config": STILL | {"zoom": -5}}),
        ({"axis": "zoom", "value": -10}, {"type": "simple", "config": STILL | {"zoom": 10}}),
        ({"axis": "roll", "value": 0}, None),
    ],
)
def test_a_movement_is_one_axis_or_a_name(camera: dict[str, Any], control: dict[str, Any] | None) -> None:
    assert kling_control(Camera.model_validate(camera)) == control


def test_every_preset_that_one_axis_can_say_moves_exactly_one() -> None:
    moves = {preset: kling_axis(Camera(preset=preset)) for preset in AXIS_PRESETS}
    assert len(set(moves.values())) == len(AXIS_PRESETS) == 12
