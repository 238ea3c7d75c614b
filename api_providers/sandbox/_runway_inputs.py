"""Checks a Runway request body against its model, with the issues worded and placed as the API does."""

import base64
import binascii
import io
import ipaddress
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
TAG = re.compile(r"^[A-Za-z][A-Za-z0-9_]{2,15}$")


@dataclass
class Findings:
    """What is wrong with a body, and what it brings along."""

    issues: list[dict[str, Any]] = field(default_factory=list)
    video_seconds: float | None = None
    """Length of the input video, if there is one."""

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
    if body.get("mode") in ("extend", "edit"):
        if not body.get("promptText"):
            found.add("Required in this mode", "promptText")
        if "ratio" in body and body["model"] == "seedance2_5":
            found.add("Not accepted in this mode", "ratio")
    return found


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
    elif name == "promptImage":
        _images(value, shape, bench, found)
    elif name in VIDEO_FIELDS:
        _uri(value, "video", bench, found, name)
    elif name in LISTS:
        _list(name, value, bench, found)
    elif name in ("character", "reference"):
        _performer(name, value, bench, found)
    else:
        _plain(name, value, found)


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
    elif name == "keyframes" and (not isinstance(value, list) or len(value) > 5):
        found.add("Expected an array of at most 5 elements", name)


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


def _list(name: str, value: Any, bench: Bench, found: Findings) -> None:
    if not isinstance(value, list) or not value:
        found.add("Expected a non-empty array", name)
        return
    if name == "referenceImages" and len(value) > 3:
        found.add("Expected at most 3 elements", name)
    for n, item in enumerate(value):
        if not isinstance(item, dict):
            found.add("Expected object", name, n)
            continue
        _uri(item.get("uri"), LISTS[name], bench, found, name, n, "uri")
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
    own = Findings()
    _uri(value.get("uri"), value["type"], bench, own, name, "uri")
    found.issues += own.issues
    if name == "reference":
        found.video_seconds = own.video_seconds
        if own.video_seconds is not None and not 3 <= own.video_seconds <= 30:
            found.add("The reference must be 3 to 30 seconds long", name, "uri")


def _uri(value: Any, kind: str, bench: Bench, found: Findings, *path: str | int) -> None:
    if not isinstance(value, str):
        found.add("Expected string", *path)
        return
    if value.startswith("runway://"):
        content = bench.uploads.get(value.removeprefix("runway://"))
        if content is None:
            found.add("The upload was not found or has expired", *path)
            return
    elif value.startswith("data:"):
        match = DATA_URI.match(value)
        try:
            content = base64.b64decode(match["data"], validate=True) if match else b""
        except (binascii.Error, ValueError):
            content = b""
        if match is None or not content or not match["mime"].startswith(f"{kind}/"):
            found.add(f"Expected a base64 data URI of an {kind}", *path)
            return
        if len(value) > DATA_URI_MAX:
            found.add("The data URI must be at most 5 MB", *path)
            return
    else:
        for message in _url_issues(value):
            found.add(message, *path)
        if kind == "video":
            found.video_seconds = ASSUMED_SECONDS
        return
    seconds = _look(content, kind)
    if seconds is None:
        found.add(f"The asset could not be read as an {kind}", *path)
    elif kind == "video":
        found.video_seconds = seconds


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


def _look(content: bytes, kind: str) -> float | None:
    """The length in seconds (0 for an image); None when it is not what it should be."""
    try:
        if kind == "image":
            with Image.open(io.BytesIO(content)) as image:
                image.verify()
            return 0.0
        with av.open(io.BytesIO(content), "r") as box:
            if kind == "video" and not box.streams.video:
                return None
            return box.duration / 1_000_000 if box.duration else ASSUMED_SECONDS
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, av.FFmpegError):
        return None
