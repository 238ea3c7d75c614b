"""A resolved request to the exact numbers of one clip: frames, size, steps, guidance, camera words."""

import secrets
from typing import Any

from local_models._messages import Render
from local_models._snap import snap_frames
from router.contract.backend import MediaReader
from router.contract.card import LocalCard, ModelCard, ResolvedRequest
from router.contract.errors import InvalidRequest
from router.contract.request import Camera
from router.contract.words import words

STEPS_MAX = 200
_PRESET_WORDS = {
    "static": "static camera",
    "zoom_in": "the camera zooms in",
    "zoom_out": "the camera zooms out",
    "pan_left": "the camera pans left",
    "pan_right": "the camera pans right",
    "tilt_up": "the camera tilts up",
    "tilt_down": "the camera tilts down",
    "roll_left": "the camera rolls to the left",
    "roll_right": "the camera rolls to the right",
    "dolly_in": "the camera moves in",
    "dolly_out": "the camera moves out",
    "truck_left": "the camera moves to the left",
    "truck_right": "the camera moves to the right",
    "pedestal_up": "the camera rises",
    "pedestal_down": "the camera sinks",
    "orbit_left": "the camera orbits to the left",
    "orbit_right": "the camera orbits to the right",
    "crane_up": "crane shot, the camera rises",
    "crane_down": "crane shot, the camera sinks",
    "tracking": "tracking shot",
    "handheld": "handheld camera",
    "down_back": "the camera moves down and back",
    "forward_up": "the camera moves forward and up",
    "right_turn_forward": "the camera turns right and moves forward",
    "left_turn_forward": "the camera turns left and moves forward",
}
_AXIS_PRESETS = {
    "horizontal": ("truck_left", "truck_right"),
    "vertical": ("pedestal_down", "pedestal_up"),
    "pan": ("pan_left", "pan_right"),
    "tilt": ("tilt_down", "tilt_up"),
    "roll": ("roll_left", "roll_right"),
    "zoom": ("zoom_out", "zoom_in"),
}
"""Preset for a negative and for a positive value."""


def render_of(request: ResolvedRequest, card: ModelCard, media: MediaReader) -> Render:
    """The clip to make. Raises InvalidRequest for an option out of range."""
    local = card.local
    if local is None:
        raise ValueError(f"{card.id} has no [model.local] table")
    fps = request.fps or card.fps[0]
    width, height = request.width, request.height
    if width is None or height is None:
        width, height = card.sizes[0].width, card.sizes[0].height
    guidance = local.guidance if request.guidance is None else request.guidance
    return Render(
        prompt=with_camera(request.prompt, request.camera),
        # The makers' own negative prompt belongs to the recipe; one from the caller replaces it.
        negative_prompt=request.negative_prompt or str(card.wire.get("negative_prompt", "")),
        width=width,
        height=height,
        frames=snap_frames(request.duration * fps, local.frame_rule, local.max_frames),
        fps=fps,
        steps=_steps(request, card, local),
        seed=secrets.randbelow(2**32) if request.seed is None else request.seed,
        guidance=guidance,
        # The card's pair belongs together; a caller's single value is meant for both experts.
        guidance_2=card.wire.get("guidance_2") if guidance == local.guidance else None,
        first_frame=str(media.path(request.first_frame.asset)) if request.first_frame else None,
        last_frame=str(media.path(request.last_frame.asset)) if request.last_frame else None,
        max_sequence_length=local.max_sequence_length,
        flow_shift=_number(request.options, "flow_shift", local.flow_shift, 0.1, 100.0),
        sound=request.generate_audio,
        recipe=dict(card.wire.get("recipe", {})),
    )


def largest(card: ModelCard) -> tuple[int, int, int]:
    """Width, height and frames of the largest clip of the card, for the memory plan."""
    local = card.local
    if local is None or not card.sizes:
        raise ValueError(f"{card.id} has no [model.local] table or no sizes")
    size = max(card.sizes, key=lambda size: size.width * size.height)
    return size.width, size.height, local.max_frames


def with_camera(prompt: str, camera: Camera | None) -> str:
    """The prompt with the camera movement said in words, for models without a camera input."""
    if camera is None:
        return prompt
    preset = camera.preset
    if camera.axis is not None:
        value = camera.value or 0.0
        preset = _AXIS_PRESETS[camera.axis][value > 0] if value else "static"
    said = _PRESET_WORDS[preset or "static"]
    return f"{prompt.rstrip(' ,.。')}, {said}" if prompt else said


def _steps(request: ResolvedRequest, card: ModelCard, local: LocalCard) -> int:
    by_quality = card.wire.get("steps", {})
    steps = _number(
        request.options, "steps", by_quality.get(request.quality.value, local.steps), 1, STEPS_MAX
    )
    return int(steps if steps is not None else local.steps)


def _number(
    options: dict[str, Any], name: str, default: float | None, least: float, most: float
) -> float | None:
    value = options.get(name, default)
    if value is None or (
        not isinstance(value, bool) and isinstance(value, int | float) and least <= value <= most
    ):
        return value
    raise InvalidRequest(
        words(
            f"provider_options.local.{name} must be a number from {least} to {most}.",
            f"provider_options.local.{name} は {least} から {most} までの数値で指定してください。",
        ),
        param=f"provider_options.local.{name}",
    )
