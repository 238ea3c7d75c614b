"""Kling's own camera movements, as its resellers take them: a compound movement by name, or one axis with a value.

Signs by Kling's current documentation: horizontal - left + right, vertical - down + up, pan - left + right, tilt - down
+ up, roll - counter-clockwise + clockwise, zoom - narrower + wider. So their zoom grows when the camera zooms OUT, while
a positive zoom here (see `_camera.py`) zooms in: zoom, and only zoom, changes its sign on the way.
Older pages call the up-down turn "pan" and the sideways turn "tilt"; that reading is not followed (unverified).
"""

from typing import Any

from router.contract.request import Camera

COMPOUND = frozenset({"down_back", "forward_up", "right_turn_forward", "left_turn_forward"})
AXES = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")
PACE = 5.0
"""The value, of 10, that a preset without a value gets."""
_PRESET_AXIS = {
    "zoom_in": ("zoom", PACE),
    "zoom_out": ("zoom", -PACE),
    "pan_left": ("pan", -PACE),
    "pan_right": ("pan", PACE),
    "tilt_up": ("tilt", PACE),
    "tilt_down": ("tilt", -PACE),
    "roll_left": ("roll", -PACE),
    "roll_right": ("roll", PACE),
    "truck_left": ("horizontal", -PACE),
    "truck_right": ("horizontal", PACE),
    "pedestal_up": ("vertical", PACE),
    "pedestal_down": ("vertical", -PACE),
}
"""In our own signs."""


def kling_axis(camera: Camera) -> tuple[str, float]:
    """The one axis that moves, and how far in Kling's signs; raises KeyError for a preset that no axis can say."""
    axis, value = _PRESET_AXIS[camera.preset] if camera.preset else (str(camera.axis), camera.value or 0.0)
    return axis, (-value if axis == "zoom" else value) or 0.0


def kling_control(camera: Camera) -> dict[str, Any] | None:
    """`camera_control` as an object; None where nothing moves, since Kling wants exactly one axis that is not zero."""
    if camera.preset in COMPOUND:
        return {"type": camera.preset}
    axis, value = kling_axis(camera)
    if not value:
        return None
    moved = int(value) if value == int(value) else value
    return {"type": "simple", "config": {**dict.fromkeys(AXES, 0), axis: moved}}
