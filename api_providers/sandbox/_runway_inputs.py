"""Checks a Runway request body against its model, with the issues worded and placed as the API does."""

import base64
import binascii
import io
import ipaddress
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import av
from PIL import Image

from api_providers.sandbox._bench import Bench
from api_providers.sandbox._runway_models import AUTO, UINT32, Shape

DATA_URI_MAX = 5 * 1024 * 1024
URL_MAX = 2048
ASSUMED_SECONDS = 5.0
"""Length of an input video that the twin cannot look into (it fetches nothing)."""
ASSUMED_FPS = 30
DATA_URI = re.compile(r"^data:(?P<mime>[\w.+-]+/[\w.+-]+);base64,(?P<data>.*)$", re.DOTALL)
WHOLE = {"seed": (0, UINT32), "expressionIntensity": (1, 5)} | {
    name: (0, 100) for name in ("creativity", "sharpen", "smartGrain")
}
FLAGS = frozenset({"audio", "draft", "bodyControl", "fpsBoost"})
TEXTS = frozenset({"negativePrompt", "draftTaskId"})
VIDEO_FIELDS = frozenset({"promptVideo", "videoUri"})
LISTS = {
    "references": "image",
    "referenceImages": "image",
    "referenceVideos": "video",
    "referenceAudio": "audio",
}
MEDIA_FIELDS = frozenset({"promptImage", "keyframes", "character", "reference", *VIDEO_FIELDS, *LISTS})
TAG = re.compile(r"^[A-Za-z][A-Za-z0-9_]{2,15}$")


@dataclass
class Findings:
    """What is wrong with a body, and what it brings along."""

    issues: list[dict[str, Any]] = field(default_factory=list)
    video_seconds: float | None = None
    """Length of the video to work on (or of the performance), if there is one."""
    frames: int = 0
    """How many frames that video has."""
    all_seconds: float = 0.0
    """Length of all input videos together."""

    def add(self, message: str, *path: str | int) -> None:
        """Note one issue at a place in the body."""
        self.issues.append({"path": list(path), "message": message})


def check(body: dict[str, Any], shape: Shape, bench: Bench) -> Findings:
    """All issues of a body. Blocking (decodes media): call it in a thread."""
    found = Findings()
    given = set(body) - {"model"}
    for name in sorted(shape.required - given):
        found.add("Required", name)
    for name in sorted(given - shape.required - shape.optional):
        found.add(f"Unrecognized key: {name!r}", name)
    for name in sorted(given & (shape.required | shape.optional)):
        _field(name, body[name], shape, bench, found)
    _together(body, shape, found)
    return found


def _together(body: dict[str, Any], shape: Shape, found: Findings) -> None:
    """What only holds of several fields at once."""
    mode = body.get("mode", "reference")
    if mode in ("extend", "edit"):
        if not body.get("promptText"):
            found.add("Required in this mode", "promptText")
        if "ratio" in body:
            found.add("`ratio` may only be provided in reference mode.", "ratio")
    if mode == "edit" and body["model"] == "seedance2_5" and body.get("duration") != AUTO:
        found.add("Must be auto in edit mode", "duration")
    if shape.frames_auto and _positioned(body.get("promptImage")):
        if not str(body.get("ratio", "auto_720p")).startswith("auto_"):
            found.add("Keyframes need auto_480p, auto_720p or auto_1080p", "ratio")
        if "referenceVideos" in body:
            found.add("Keyframes and references cannot be mixed", "referenceVideos")
    video = next((name for name in VIDEO_FIELDS if name in body), None)
    if video and shape.video_seconds and found.video_seconds is not None:
        low, high = shape.video_seconds
        if found.video_seconds < low:
            found.add(f"Asset duration must be at least {low:g} seconds", video)
        elif found.video_seconds > high + 0.1:
            found.add(f"Asset duration must be at most {high:g} seconds", video)


def _positioned(images: Any) -> bool:
    return isinstance(images, list) and any(isinstance(i, dict) and i.get("position") for i in images)


def utf16_units(text: str) -> int:
    """Length as Runway counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _field(name: str, value: Any, shape: Shape, bench: Bench, found: Findings) -> None:
    if name in shape.choices:
        if value not in shape.choices[name]:
            found.add(f"Expected one of {', '.join(shape.choices[name])}", name)
    elif name == "promptText":
        if not isinstance(value, str) or not value:
            found.add("Expected a non-empty string", name)
        elif shape.prompt_max is not None and utf16_units(value) > shape.prompt_max:
            found.add(f"String must contain at most {shape.prompt_max} UTF-16 code unit(s)", name)
    elif name == "duration":
        if not (shape.auto and value == AUTO) and (type(value) is not int or value not in shape.durations):
            found.add(f"Expected an integer from {shape.durations[0]} to {shape.durations[-1]}", name)
    elif name in MEDIA_FIELDS:
        _media(name, value, shape, bench, found)
    else:
        _plain(name, value, found)


def _media(name: str, value: Any, shape: Shape, bench: Bench, found: Findings) -> None:
    if name == "promptImage":
        _images(value, shape, bench, found)
    elif name in VIDEO_FIELDS:
        _main_video(value, bench, found, name)
    elif name == "keyframes":
        _keyframes(value, shape, bench, found)
    elif name in LISTS:
        _list(name, value, shape, bench, found)
    else:
        _performer(name, value, bench, found)


def _plain(name: str, value: Any, found: Findings) -> None:
    if name in WHOLE:
        low, high = WHOLE[name]
        if type(value) is not int or not low <= value <= high:
            found.add(f"Expected an integer from {low} to {high}", name)
    elif name in FLAGS:
        if type(value) is not bool:
            found.add("Expected boolean", name)
    elif name in TEXTS:
        if not isinstance(value, str) or not value:
            found.add("Expected a non-empty string", name)
    else:
        _setting(name, value, found)


def _setting(name: str, value: Any, found: Findings) -> None:
    if name == "cfgScale":
        if type(value) not in (int, float) or not 0 <= value <= 1:
            found.add("Expected a number from 0 to 1", name)
    elif name == "contentModeration":
        if not isinstance(value, dict) or value.get("publicFigureThreshold", "auto") not in ("auto", "low"):
            found.add("Expected auto or low", name, "publicFigureThreshold")
    elif name == "providerSettings":
        if not isinstance(value, dict):
            found.add("Expected object", name)


def _images(value: Any, shape: Shape, bench: Bench, found: Findings) -> None:
    if isinstance(value, str):
        _uri(value, "image", bench, found, "promptImage")
        return
    if not isinstance(value, list) or not value:
        found.add("Expected a string or a non-empty array", "promptImage")
        return
    positions: list[Any] = []
    for n, item in enumerate(value):
        if not isinstance(item, dict):
            found.add("Expected object", "promptImage", n)
            continue
        positions.append(item.get("position"))
        _uri(item.get("uri"), "image", bench, found, "promptImage", n, "uri")
    if shape.free_images and not any(positions):
        return
    allowed = ("first", "last") if shape.last_frame else ("first",)
    if any(position not in allowed for position in positions):
        found.add(f"Expected position {' or '.join(allowed)}, and no mix with references", "promptImage")
    elif len(set(positions)) != len(positions):
        found.add("Each position may be used once", "promptImage")
    elif positions == ["last"]:
        found.add("A last frame needs a first frame", "promptImage")


def _elements(name: str, value: Any, shape: Shape, found: Findings) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of an array, with what is wrong with the array itself noted."""
    if not isinstance(value, list) or not value:
        found.add("Expected a non-empty array", name)
        return
    most = shape.most.get(name, len(value))
    if len(value) > most:
        found.add(f"Expected at most {most} elements", name)
    for n, item in enumerate(value):
        if isinstance(item, dict):
            yield n, item
        else:
            found.add("Expected object", name, n)


def _keyframes(value: Any, shape: Shape, bench: Bench, found: Findings) -> None:
    for n, item in _elements("keyframes", value, shape, found):
        _uri(item.get("uri"), "image", bench, found, "keyframes", n, "uri")
        at, last = (item["at"], 1.0) if "at" in item else (item.get("seconds"), math.inf)
        if not isinstance(at, int | float) or not 0 <= at <= last:
            found.add("Expected seconds, or at from 0 to 1", "keyframes", n)


def _list(name: str, value: Any, shape: Shape, bench: Bench, found: Findings) -> None:
    kind = LISTS[name]
    for n, item in _elements(name, value, shape, found):
        if kind != "image" and item.get("type", kind) != kind:
            found.add(f"Expected {kind}", name, n, "type")
        _uri(item.get("uri"), kind, bench, found, name, n, "uri")
        tag = item.get("tag")
        if tag is not None and not (isinstance(tag, str) and TAG.match(tag)):
            found.add(
                "Expected 3 to 16 letters, digits or underscores, starting with a letter", name, n, "tag"
            )


def _performer(name: str, value: Any, bench: Bench, found: Findings) -> None:
    kinds = ("image", "video") if name == "character" else ("video",)
    if not isinstance(value, dict) or value.get("type") not in kinds:
        found.add(f"Expected an object of type {' or '.join(kinds)}", name, "type")
        return
    if name == "character":
        _uri(value.get("uri"), value["type"], bench, found, name, "uri")
        return
    _main_video(value.get("uri"), bench, found, name, "uri")
    if found.video_seconds is not None and not 3 <= found.video_seconds <= 30:
        found.add("The reference must be 3 to 30 seconds long", name, "uri")


def _main_video(value: Any, bench: Bench, found: Findings, *path: str | int) -> None:
    """The video whose length counts."""
    look = _uri(value, "video", bench, found, *path)
    if look is not None:
        found.video_seconds, found.frames = look


def _uri(value: Any, kind: str, bench: Bench, found: Findings, *path: str | int) -> tuple[float, int] | None:
    """Seconds and frames of what a URI leads to; None when it cannot be used, which is noted."""
    if not isinstance(value, str):
        found.add("Expected string", *path)
        return None
    if value.startswith("runway://"):
        content = bench.uploads.get(value.removeprefix("runway://"))
        if content is None:
            found.add("The upload was not found or has expired", *path)
            return None
    elif value.startswith("data:"):
        match = DATA_URI.match(value)
        try:
            content = base64.b64decode(match["data"], validate=True) if match else b""
        except (binascii.Error, ValueError):
            content = b""
        if match is None or not content or not match["mime"].startswith(f"{kind}/"):
            found.add(f"Expected a base64 data URI of an {kind}", *path)
            return None
        if len(value) > DATA_URI_MAX:
            found.add("The data URI must be at most 5 MB", *path)
            return None
    else:
        wrong = list(_url_issues(value))
        for message in wrong:
            found.add(message, *path)
        if wrong:
            return None
        content = None
    look = (
        (ASSUMED_SECONDS, round(ASSUMED_SECONDS * ASSUMED_FPS)) if content is None else _look(content, kind)
    )
    if look is None:
        found.add(f"The asset could not be read as an {kind}", *path)
    elif kind == "video":
        found.all_seconds += look[0]
    return look


def _url_issues(value: str) -> Iterator[str]:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname:
        yield "Expected an HTTPS URL, a Runway upload URI or a data URI"
        return
    if len(value) > URL_MAX:
        yield f"URLs must be at most {URL_MAX} characters"
    try:
        ipaddress.ip_address(parts.hostname)
    except ValueError:
        return
    yield "URLs must use a domain name, not an IP address"


def _look(content: bytes, kind: str) -> tuple[float, int] | None:
    """Seconds and frames (0 for an image); None when it is not what it should be."""
    try:
        if kind == "image":
            with Image.open(io.BytesIO(content)) as image:
                image.verify()
            return 0.0, 0
        with av.open(io.BytesIO(content), "r") as box:
            if kind == "video" and not box.streams.video:
                return None
            seconds = box.duration / 1_000_000 if box.duration else ASSUMED_SECONDS
            if kind != "video":
                return seconds, 0
            picture = box.streams.video[0]
            return seconds, picture.frames or round(seconds * float(picture.average_rate or ASSUMED_FPS))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, av.FFmpegError):
        return None
