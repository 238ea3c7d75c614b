"""Camera movement as English words, for providers that take it only in the prompt."""

from router.contract import errors
from router.contract.card import ModelCard, ResolvedRequest
from router.contract.errors import Misfit
from router.contract.fit import prompt_length
from router.contract.request import Camera
from router.contract.words import words

PRESET_WORDS = {
    "static": "Static camera, locked-off shot.",
    "zoom_in": "The camera zooms in.",
    "zoom_out": "The camera zooms out.",
    "pan_left": "The camera pans left.",
    "pan_right": "The camera pans right.",
    "tilt_up": "The camera tilts up.",
    "tilt_down": "The camera tilts down.",
    "roll_left": "The camera rolls to the left.",
    "roll_right": "The camera rolls to the right.",
    "dolly_in": "The camera dollies in.",
    "dolly_out": "The camera dollies out.",
    "truck_left": "The camera trucks left.",
    "truck_right": "The camera trucks right.",
    "pedestal_up": "The camera rises straight up on a pedestal.",
    "pedestal_down": "The camera sinks straight down on a pedestal.",
    "orbit_left": "The camera orbits to the left around the subject.",
    "orbit_right": "The camera orbits to the right around the subject.",
    "crane_up": "Crane shot, the camera rises.",
    "crane_down": "Crane shot, the camera descends.",
    "tracking": "Tracking shot, the camera follows the subject.",
    "handheld": "Handheld camera with slight natural shake.",
    "down_back": "The camera descends while it moves back.",
    "forward_up": "The camera moves forward while it rises.",
    "right_turn_forward": "The camera turns right while it moves forward.",
    "left_turn_forward": "The camera turns left while it moves forward.",
}
_AXIS_WORDS = {
    # axis -> (words for a negative value, words for a positive value)
    "horizontal": ("moves left", "moves right"),
    "vertical": ("moves down", "moves up"),
    "pan": ("pans left", "pans right"),
    "tilt": ("tilts down", "tilts up"),
    "roll": ("rolls to the left", "rolls to the right"),
    "zoom": ("zooms out", "zooms in"),
}


def camera_words(camera: Camera) -> str:
    """One English sentence; the size of an axis value becomes slowly (< 4), nothing, or quickly (> 7)."""
    if camera.preset is not None:
        return PRESET_WORDS[camera.preset]
    value = camera.value or 0.0
    if camera.axis is None or value == 0:
        return PRESET_WORDS["static"]
    move = _AXIS_WORDS[camera.axis][value > 0]
    pace = " slowly" if abs(value) < 4 else " quickly" if abs(value) > 7 else ""
    return f"The camera {move}{pace}."


def prompt_with_camera(request: ResolvedRequest, card: ModelCard) -> str:
    """The caller's prompt, unchanged and first, then the camera sentence; raises UnsupportedRequest if it gets too long.

    The sentence is English whatever the prompt's language: every model here is trained on English camera terms.
    """
    if request.camera is None or card.camera != "words":
        return request.prompt
    prompt = f"{request.prompt} {camera_words(request.camera)}".strip()
    if card.prompt_max is not None and (length := prompt_length(prompt, card)) > card.prompt_max:
        over = length - card.prompt_max
        reason = words(
            f"with the camera movement written into it the prompt is {over} {card.prompt_unit} too long"
            f" for {card.id}; shorten the prompt or leave the camera out",
            f"カメラの動きを書き加えると、プロンプトが {card.id} の上限を {over} ({card.prompt_unit}) 超えます。"
            "プロンプトを短くするか、カメラ指定を外してください。",
        )
        raise errors.UnsupportedRequest(
            reason, misfits=[Misfit(field="camera", reason=reason, droppable=True)]
        )
    return prompt
