"""How the Kling twin reads a field: images and sounds in base64 or as links, words out of lists, camera movements."""

import base64
import binascii
import io
import wave
from collections.abc import Collection, Mapping
from typing import Any

from PIL import Image, UnidentifiedImageError

MB = 1_000_000
ASSUMED_SECONDS = 5.0
"""How long a sound or a video is taken to be whose length the twin cannot see."""
AXES = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")
MOVEMENTS = ("simple", "down_back", "forward_up", "right_turn_forward", "left_turn_forward")


class Refused(Exception):
    """Why a call is refused, as Kling says it."""

    def __init__(self, message: str, *, code: int = 1201, status: int = 400) -> None:
        """Kling's own `code` and the HTTP status that goes with it."""
        super().__init__(message)
        self.message, self.code, self.status = message, code, status


def known(body: Mapping[str, Any], names: Collection[str], where: str = "") -> None:
    """Refuses fields that are not documented here: a client that sends one has a mistake in it."""
    for name in body:
        if name not in names:
            raise Refused(f"Unknown parameter: {where}{name}")


def word(body: Mapping[str, Any], name: str, choices: Collection[Any], default: Any = None) -> Any:
    """One of the listed values, of exactly that type; `default` None means that it must be there."""
    value = body.get(name, default)
    if value not in choices or isinstance(value, bool) != any(isinstance(one, bool) for one in choices):
        listed = ", ".join(map(str, choices))
        raise Refused(f"Invalid parameter: {name} value '{value}' is invalid, possible values: {listed}")
    if not any(type(value) is type(one) for one in choices):
        raise Refused(f"Invalid parameter: {name} has the wrong type")
    return value


def text(body: Mapping[str, Any], name: str, most: int, *, required: bool = False) -> str:
    """A text of at most that many characters; empty where it is absent."""
    value = body.get(name, "")
    if not isinstance(value, str):
        raise Refused(f"Invalid parameter: {name} must be a string")
    if required and not value:
        raise Refused(f"Invalid parameter: {name} must not be empty")
    if len(value) > most:
        raise Refused(f"Invalid parameter: {name} is longer than {most} characters")
    return value


def flag(body: Mapping[str, Any], name: str) -> None:
    """True or false where it is there."""
    if not isinstance(body.get(name, False), bool):
        raise Refused(f"Invalid parameter: {name} must be a boolean")


def number(body: Mapping[str, Any], name: str, low: float, high: float) -> None:
    """A number within the limits where it is there."""
    value = body.get(name, low)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refused(f"Invalid parameter: {name} must be between {low:g} and {high:g}")


def link(value: Any, name: str) -> str:
    """A video: a link, never base64."""
    if not isinstance(value, str) or not value.startswith(("https://", "http://")):
        raise Refused(f"Invalid parameter: {name} must be a url")
    return value


def image(value: Any, name: str, most_mb: int = 10) -> tuple[int, int]:
    """Checks an image; answers its size, that of 16:9 for a link, which the twin does not follow."""
    if not isinstance(value, str) or not value:
        raise Refused(f"Invalid parameter: {name} must not be empty")
    if value.startswith(("https://", "http://")):
        return 1280, 720
    content = _decoded(value, name, most_mb)
    try:
        with Image.open(io.BytesIO(content)) as picture:
            width, height, kind = picture.width, picture.height, picture.format
    except (UnidentifiedImageError, OSError):
        raise Refused(f"Invalid parameter: {name} is no image") from None
    if kind not in {"PNG", "JPEG"}:
        raise Refused(f"Invalid parameter: {name} must be jpg, jpeg or png")
    if min(width, height) < 300 or not 0.4 <= width / height <= 2.5:
        raise Refused(f"Invalid parameter: {name} must be at least 300px, its ratio between 1:2.5 and 2.5:1")
    return width, height


def sound(value: Any, name: str, longest: float) -> float:
    """Checks a sound; answers its seconds where it is a WAV file."""
    if not isinstance(value, str) or not value:
        raise Refused(f"Invalid parameter: {name} must not be empty")
    seconds = ASSUMED_SECONDS
    if not value.startswith(("https://", "http://")):
        content = _decoded(value, name, 5)
        if content[:4] == b"RIFF":
            with wave.open(io.BytesIO(content)) as played:
                seconds = played.getnframes() / played.getframerate()
    if not 2 <= seconds <= longest:
        raise Refused(f"Invalid parameter: {name} must last from 2 to {longest:g} s")
    return seconds


def camera(value: Any, *, only_simple: bool) -> None:
    """A movement by name, or `simple` with exactly one axis that is not zero."""
    if not isinstance(value, dict):
        raise Refused("Invalid parameter: camera_control must be an object")
    known(value, {"type", "config"}, "camera_control.")
    kind = word(value, "type", MOVEMENTS)
    if kind != "simple":
        if only_simple:
            raise Refused("Invalid parameter: camera_control.type of this model can only be simple")
        if value.get("config") is not None:
            raise Refused("Invalid parameter: camera_control.config must be empty for this type")
        return
    config = value.get("config")
    if not isinstance(config, dict):
        raise Refused("Invalid parameter: camera_control.config is required for type simple")
    known(config, AXES, "camera_control.config.")
    for axis in config:
        number(config, axis, -10, 10)
    if sum(1 for moved in config.values() if moved) != 1:
        raise Refused("Invalid parameter: exactly one value of camera_control.config must not be 0")


def masks(body: Mapping[str, Any]) -> None:
    """The motion brush: a mask of what stays, and masks of what moves with their paths."""
    if body.get("static_mask") is not None:
        image(body["static_mask"], "static_mask")
    moving = body.get("dynamic_masks", [])
    if not isinstance(moving, list) or len(moving) > 6:
        raise Refused("Invalid parameter: dynamic_masks has at most 6 groups")
    for group in moving:
        if not isinstance(group, dict):
            raise Refused("Invalid parameter: dynamic_masks must be objects")
        known(group, {"mask", "trajectories"}, "dynamic_masks.")
        image(group.get("mask"), "dynamic_masks.mask")
        path = group.get("trajectories")
        if not isinstance(path, list) or not 2 <= len(path) <= 77:
            raise Refused("Invalid parameter: trajectories must have 2 to 77 points")
        for point in path:
            if not isinstance(point, dict) or not all(
                isinstance(point.get(axis), int) for axis in ("x", "y")
            ):
                raise Refused("Invalid parameter: a point of trajectories has whole x and y")


def _decoded(value: str, name: str, most_mb: int) -> bytes:
    if value.startswith("data:"):
        raise Refused(f"Invalid parameter: {name} must be base64 without the prefix 'data:'")
    try:
        content = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(f"Invalid parameter: {name} is neither a url nor base64") from None
    if len(content) > most_mb * MB:
        raise Refused(f"Invalid parameter: {name} is larger than {most_mb}MB")
    return content
