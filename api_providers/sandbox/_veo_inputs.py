"""What the twin of Google refuses in a request, in Google's words where they are known: one sentence, or None."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import av
from PIL import Image

from api_providers.sandbox._veo_models import EXTENSION_S, OMNI, OMNI_SECONDS, RATIOS, VEO_SECONDS, Omni, Veo

IMAGES = ("image/png", "image/jpeg")
INSTANCE = frozenset({"prompt", "image", "lastFrame", "video", "referenceImages"})
CHOICES: dict[str, tuple[Any, ...]] = {
    "aspectRatio": RATIOS,
    "sampleCount": (1, 2, 3, 4),
    "personGeneration": ("allow_all", "allow_adult", "dont_allow"),
    "compressionQuality": ("optimized", "lossless"),
    "resizeMode": ("crop", "pad"),
    "enhancePrompt": (True, False),
    "generateAudio": (True, False),
}
PARAMETERS = frozenset({*CHOICES, "durationSeconds", "resolution", "seed", "negativePrompt", "storageUri"})
INTERACTION = frozenset(
    {
        *("model", "input", "background", "store", "stream", "previous_interaction_id"),
        *("generation_config", "response_format"),
    }
)
TASKS = ("text_to_video", "image_to_video", "reference_to_video", "edit", "extend", "upscale")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")


class Asked(Exception):
    """A request that is refused; the text is Google's sentence."""


def check_veo(body: dict[str, Any], model: Veo) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Instance, parameters and seconds of a good request; raises Asked. Blocking: decodes media."""
    for name in sorted(set(body) - {"instances", "parameters", "labels"}):
        raise Asked(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
    instances = body.get("instances")
    if not isinstance(instances, list) or len(instances) != 1 or not isinstance(instances[0], dict):
        raise Asked("Exactly one instance is required.")
    parameters = body.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Asked("parameters must be an object.")
    instance: dict[str, Any] = instances[0]
    for problem in (*_instance(instance, model), *_parameters(parameters, model), *_labels(body)):
        raise Asked(problem)
    for problem in _together(instance, parameters):
        raise Asked(problem)
    seconds = EXTENSION_S if "video" in instance else parameters.get("durationSeconds", 8)
    return instance, parameters, float(seconds)


def _instance(instance: dict[str, Any], model: Veo) -> Iterator[str]:
    for name in sorted(set(instance) - INSTANCE):
        yield f"Unsupported field in instance: {name}."
    if "prompt" in instance and not isinstance(instance["prompt"], str):
        yield "prompt must be a string."
    if not instance.get("prompt") and not {"image", "video"} & set(instance):
        yield "Text prompt is required."
    for name in ("image", "lastFrame"):
        if name in instance:
            yield from _media(instance[name], name, IMAGES, _is_image)
    if "video" in instance:
        yield from _media(instance["video"], "video", ("video/mp4",), _is_video)
    references = instance.get("referenceImages", [])
    if not isinstance(references, list) or len(references) > 3:
        yield "At most 3 reference images are supported."
        return
    for one in references:
        if not isinstance(one, dict) or str(one.get("referenceType")).lower() != "asset":
            yield "referenceType must be asset for this model."
        else:
            yield from _media(one.get("image"), "referenceImages.image", IMAGES, _is_image)
    if model.frames_only and {"lastFrame", "video", "referenceImages"} & set(instance):
        yield "Your use case is currently not supported. Please refer to the documentation."


def _media(value: Any, name: str, mimes: tuple[str, ...], good: Callable[[bytes], bool]) -> Iterator[str]:
    """base64 or gs://, never a web address."""
    if not isinstance(value, dict) or value.get("mimeType") not in mimes:
        yield f"{name}: mimeType must be one of {', '.join(mimes)}."
    elif ("gcsUri" in value) == ("bytesBase64Encoded" in value):
        yield f"{name}: either gcsUri or bytesBase64Encoded is required."
    elif "gcsUri" in value and not str(value["gcsUri"]).startswith("gs://"):
        yield f"{name}: gcsUri must start with gs://."
    elif "bytesBase64Encoded" in value and not good(_bytes(value["bytesBase64Encoded"])):
        yield f"{name}: Provided media is not valid."


def _parameters(parameters: dict[str, Any], model: Veo) -> Iterator[str]:
    for name in sorted(set(parameters) - PARAMETERS):
        yield f"Unsupported parameter: {name}."
    if "generateAudio" not in parameters:
        yield "generateAudio is required."
    for name, allowed in {**CHOICES, "resolution": tuple(model.prices)}.items():
        value = parameters.get(name, allowed[0])
        if type(value) is not type(allowed[0]) or value not in allowed:
            yield f"{name} must be one of {', '.join(map(str, allowed))}, got {value}."
    seconds = parameters.get("durationSeconds", VEO_SECONDS[0])
    if type(seconds) is not int or seconds not in VEO_SECONDS:
        yield f"Unsupported output video duration {seconds} seconds, supported durations are [4,6,8]."
    seed = parameters.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**32:
        yield "seed must be an unsigned 32-bit integer."
    if not str(parameters.get("storageUri", "gs://")).startswith("gs://"):
        yield "storageUri must start with gs://."


def _labels(body: dict[str, Any]) -> Iterator[str]:
    labels = body.get("labels", {})
    if not isinstance(labels, dict) or not all(
        re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", str(k)) and re.fullmatch(r"[a-z0-9_-]{0,63}", str(v))
        for k, v in labels.items()
    ):
        yield "Label values may contain lowercase letters, numbers, dashes and underscores only."


def _together(instance: dict[str, Any], parameters: dict[str, Any]) -> Iterator[str]:
    if "lastFrame" in instance and "image" not in instance:
        yield "lastFrame requires image."
    if "video" in instance and {"image", "lastFrame", "referenceImages"} & set(instance):
        yield "video cannot be combined with images."
    if "video" in instance and (
        parameters.get("resolution", "720p") != "720p" or "durationSeconds" in parameters
    ):
        yield "Video extension supports 720p and adds 7 seconds."
    if "referenceImages" in instance:
        if {"image", "lastFrame"} & set(instance):
            yield "referenceImages cannot be combined with image or lastFrame."
        if parameters.get("durationSeconds", 8) != 8:
            yield "Reference images support a duration of 8 seconds only."


class Interaction:
    """A good request for an interaction: what decides the clip and the price. Blocking: decodes media."""

    def __init__(self, body: dict[str, Any], earlier: Callable[[str], float | None]) -> None:
        """`earlier` gives the seconds of an earlier interaction's clip. Raises Asked."""
        for name in sorted(set(body) - INTERACTION):
            raise Asked(f"Unknown parameter: {name}.")
        self.model: Omni = OMNI[body["model"]]
        self.form = _object(body.get("response_format", {}), "response_format")
        config = _object(_object(body.get("generation_config", {}), "generation_config"), "generation_config")
        self.task = _object(config.get("video_config", {}), "video_config").get("task")
        if self.task is not None and self.task not in TASKS:
            raise Asked(f"Invalid value for video_config.task: {self.task}.")
        self.prompt, self.images, self.source_s = _parts(body.get("input"))
        if body.get("previous_interaction_id") is not None:
            self.source_s = earlier(str(body["previous_interaction_id"]))
            if self.source_s is None:
                raise Asked("Invalid interaction name.")
        self._format()
        self._fits()

    def _format(self) -> None:
        form = self.form
        known = {"type", "aspect_ratio", "resolution", "duration", "delivery"}
        for name in sorted(set(form) - known):
            raise Asked(f"Unknown parameter: response_format.{name}.")
        allowed = {
            "aspect_ratio": RATIOS,
            "resolution": tuple(self.model.prices),
            "delivery": ("inline", "uri"),
        }
        if form.get("type", "video") != "video":
            raise Asked("response_format.type must be video.")
        for name, values in allowed.items():
            if form.get(name, values[0]) not in values:
                raise Asked(f"Invalid value for response_format.{name}: {form[name]}.")
        duration = form.get("duration", f"{OMNI_SECONDS}s")
        found = _SECONDS.fullmatch(duration) if isinstance(duration, str) else None
        if found is None:
            raise Asked("response_format.duration must be a duration string such as 8s.")
        longest = 10 if self.task == "extend" else self.model.longest_s
        self.seconds = float(found[1])
        if self.task == "edit" and self.source_s is not None:
            self.seconds = self.source_s
        elif not 3 <= self.seconds <= longest:
            raise Asked(f"Video duration must be between 3s and {longest}s.")

    def _fits(self) -> None:
        needs = {"image_to_video": "image", "reference_to_video": "image", "edit": "video", "extend": "video"}
        need = needs.get(str(self.task))
        if (need == "image" and not self.images) or (need == "video" and self.source_s is None):
            raise Asked(f"Task {self.task} requires a {need} input.")
        if self.images > 7:
            raise Asked("Too many images.")
        if not self.prompt and not self.images:
            raise Asked("input must not be empty.")

    @property
    def usd_per_second(self) -> str:
        """The price at the resolution asked for."""
        return self.model.prices[str(self.form.get("resolution", "720p"))]


def _parts(given: Any) -> tuple[str, int, float | None]:
    """Text, number of images, and length of the video of an input, a string or a list of contents."""
    if isinstance(given, str):
        given = [{"type": "text", "text": given}]
    if not isinstance(given, list):
        raise Asked("input is required.")
    if given and all(isinstance(one, dict) and one.get("type") == "user_input" for one in given):
        given = [content for one in given for content in one.get("content", [])]
    text, images, seconds = "", 0, None
    for part in given:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            text += str(part.get("text", ""))
        elif kind == "image":
            if part.get("mime_type") not in IMAGES or not _is_image(_bytes(part.get("data"))):
                raise Asked("Unable to process input image. Please retry with another image.")
            images += 1
        elif kind == "video":
            seconds = _seconds(_bytes(part.get("data")))
            if seconds is None:
                raise Asked("Unable to process input video.")
        else:
            raise Asked(f"Unsupported content type: {kind}.")
    return text, images, seconds


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Asked(f"{name} must be an object.")
    return value


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        return b""


def _is_image(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True


def _is_video(content: bytes) -> bool:
    return _seconds(content) is not None


def _seconds(content: bytes) -> float | None:
    """Length of a video, None where it is none."""
    try:
        with av.open(io.BytesIO(content), "r") as box:
            return box.duration / 1_000_000 if box.streams.video and box.duration else None
    except (OSError, ValueError, av.FFmpegError):
        return None
