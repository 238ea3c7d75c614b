"""Checks a Luma Agents request body, with refusals in the shape of the API, and finds how long its source video is."""

import base64
import binascii
import io
from typing import Any, NoReturn
from urllib.parse import urlsplit

import av
from starlette.exceptions import HTTPException

from api_providers.sandbox._bench import Bench, Phase

ASSUMED_SECONDS = 5.0
"""Length of an input video that the twin cannot look into (it fetches nothing)."""
TYPES = ("video", "video_edit", "video_reframe")
RATIOS = {"9:16": (9, 16), "3:4": (3, 4), "1:1": (1, 1), "4:3": (4, 3), "16:9": (16, 9), "21:9": (21, 9)}
RESOLUTIONS = ("360p", "540p", "720p", "1080p")
SECONDS = {"5s": 5, "10s": 10}
FPS = 24
SOURCE_MAX_S = 18.05
"""18 s and a frame."""
PLACES = ("url", "data", "generation_id", "file_id")
FIELDS = frozenset({"prompt", "model", "type", "aspect_ratio", "source", "video", "user_id"})
VIDEO_FIELDS = {
    "video": frozenset(
        {
            *("resolution", "duration", "start_frame", "end_frame", "keyframes", "keyframe_indexes"),
            *("loop", "hdr", "exr_export"),
        }
    ),
    "video_edit": frozenset({"resolution", "edit", "start_frame", "hdr", "exr_export"}),
    "video_reframe": frozenset({"resolution", "source_position"}),
}
EDIT_FIELDS = frozenset({"auto_controls", "strength", "controls", "keyframes", "keyframe_indexes"})
STRENGTHS = tuple(f"{way}_{step}" for way in ("adhere", "flex", "reimagine") for step in "123")


def refuse(status: int, text: str) -> NoReturn:
    """Luma's own error shape: `detail`."""
    raise HTTPException(status, text)


class Inputs:
    """The checks that need to know what was made and uploaded before."""

    def __init__(self, bench: Bench, ready: dict[str, str]) -> None:
        """`ready` holds the MIME type of each file that can be referenced."""
        self._bench = bench
        self._ready = ready

    def check(self, body: dict[str, Any]) -> float:
        """Refuse what is wrong; seconds of the result. Blocking (decodes media): call it in a thread."""
        kind = self._plain(body)
        video = body.get("video") or {}
        if not isinstance(video, dict):
            refuse(400, "video must be an object")
        for name in sorted(set(video) - VIDEO_FIELDS[kind]):
            refuse(422, f"video.{name} is not supported for type {kind}")
        _choice(video, "resolution", RESOLUTIONS)
        if kind == "video":
            if body.get("source") is not None:
                refuse(422, "source is not supported for type video")
            return self._generate(video)
        if kind == "video_edit":
            self._edit(video)
        elif body.get("aspect_ratio") is None:
            refuse(422, "aspect_ratio is required for video_reframe")
        elif video.get("resolution") == "1080p":
            refuse(422, "1080p is coming soon for video_reframe")
        if body.get("source") is None:
            refuse(422, f"source is required for type {kind}")
        seconds = self._reference(body["source"], "source", "video")
        if kind == "video_edit" and seconds > SOURCE_MAX_S:
            refuse(422, "The source video must be 18 seconds or shorter")
        return seconds

    def _plain(self, body: dict[str, Any]) -> str:
        for name in sorted(set(body) - FIELDS):
            refuse(400, f"Unknown field: {name}")
        prompt, kind = body.get("prompt"), body.get("type", "image")
        if not isinstance(prompt, str) or not 1 <= len(prompt) <= 6000:
            refuse(400, "prompt must have 1 to 6000 characters")
        if body.get("model") != "ray-3.2":
            refuse(400, f"Invalid model: {body.get('model')}")
        if kind not in TYPES:
            refuse(422, f"Model ray-3.2 does not support type {kind}")
        _choice(body, "aspect_ratio", RATIOS)
        return str(kind)

    def _generate(self, video: dict[str, Any]) -> float:
        _choice(video, "duration", SECONDS)
        seconds = SECONDS[video.get("duration") or "5s"]
        frames = [name for name in ("start_frame", "end_frame") if video.get(name) is not None]
        if frames and seconds == 10:
            refuse(422, f"{frames[0]} is not supported with duration 10s")
        if video.get("loop") and (seconds == 10 or video.get("hdr")):
            refuse(422, "loop is not supported with duration 10s or hdr")
        if video.get("exr_export") and not video.get("hdr"):
            refuse(422, "exr_export requires hdr")
        for name in frames:
            self._reference(video[name], f"video.{name}", "image", own=True)
        self._keyframes(video, frames, seconds)
        return float(seconds)

    def _keyframes(self, video: dict[str, Any], frames: list[str], seconds: int) -> None:
        anchors, places = video.get("keyframes"), video.get("keyframe_indexes")
        if anchors is None and places is None:
            return
        if frames or video.get("loop"):
            refuse(422, "keyframes exclude start_frame, end_frame and loop")
        if not isinstance(anchors, list) or not isinstance(places, list) or len(anchors) != len(places):
            refuse(422, "keyframe_indexes must match keyframes in length")
        whole = all(type(place) is int and 0 <= place <= seconds * FPS for place in places)
        if not 1 <= len(anchors) <= 64 or not whole or len(set(places)) != len(places):
            refuse(422, f"keyframe_indexes must be unique, from 0 to {seconds * FPS}")
        for anchor in anchors:
            self._reference(anchor, "video.keyframes", "image")

    def _edit(self, video: dict[str, Any]) -> None:
        edit = video.get("edit") or {}
        if not isinstance(edit, dict) or set(edit) - EDIT_FIELDS:
            refuse(400, "video.edit has unknown fields")
        _choice(edit, "strength", STRENGTHS)
        if edit.get("auto_controls") and (edit.get("strength") or edit.get("controls")):
            refuse(422, "auto_controls excludes strength and controls")
        if video.get("start_frame") is not None:
            self._reference(video["start_frame"], "video.start_frame", "image")

    def _reference(self, given: Any, where: str, kind: str, *, own: bool = False) -> float:
        """One MediaRef; seconds of a video, 0 for a picture. `own`: a generation may stand in for a picture."""
        places = [name for name in PLACES if isinstance(given, dict) and given.get(name) is not None]
        if len(places) != 1:
            refuse(400, f"{where}: provide exactly one of {', '.join(PLACES)}")
        place, mime = places[0], given.get("media_type")
        value = given[place]
        if place == "generation_id":
            return self._generation(value, where, wanted=kind == "video" or own)
        if place == "file_id":
            mime = self._ready.get(value)
            if mime is None:
                refuse(422, f"{where}: file {value} is not ready")
        elif mime is None and (place == "data" or kind == "video"):
            refuse(422, f"{where}: media_type is required")
        if mime is not None and not str(mime).startswith(f"{kind}/"):
            refuse(422, f"{where}: expected {kind} media, got {mime}")
        if place == "url":
            if urlsplit(str(value)).scheme != "https":
                refuse(422, f"{where}: the URL must be publicly accessible over https")
            return ASSUMED_SECONDS if kind == "video" else 0.0
        return _look(
            self._bench.uploads[value] or b"" if place == "file_id" else _decoded(value, where), where, kind
        )

    def _generation(self, id_: Any, where: str, *, wanted: bool) -> float:
        task = self._bench.get(str(id_))
        if task is None or not wanted:
            refuse(422, f"{where}: generation {id_} not found")
        if self._bench.phase(task) is not Phase.SUCCEEDED:
            refuse(422, f"{where}: generation {id_} is not completed")
        return task.clip.seconds


def _choice(body: dict[str, Any], name: str, values: Any) -> None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or value not in values):
        refuse(400, f"Invalid {name}: {value}. Expected one of {', '.join(values)}")


def _decoded(data: Any, where: str) -> bytes:
    try:
        return base64.b64decode(str(data), validate=True)
    except (binascii.Error, ValueError):
        refuse(422, f"{where}: data is not valid base64")


def _look(content: bytes, where: str, kind: str) -> float:
    """Opens the media as Luma does before it starts; seconds of a video."""
    try:
        with av.open(io.BytesIO(content), "r") as box:
            if not box.streams.video:
                refuse(422, f"{where}: there is no picture in it")
            return round(box.duration / 1_000_000, 3) if kind == "video" and box.duration else 0.0
    except (av.FFmpegError, ValueError):
        refuse(422, f"{where}: the media could not be read")
