"""What the Kling twin makes of a body of the newer API, where the path names the model."""

from collections.abc import Mapping
from typing import Any

from api_providers.sandbox import _kling_inputs as inputs
from api_providers.sandbox._bench import Clip
from api_providers.sandbox._kling_bodies import (
    COMMON,
    RATIOS,
    Bought,
    Shelf,
    frames,
    input_seconds,
    object_of,
    objects,
    scaled,
    sides,
    whole_seconds,
)
from api_providers.sandbox._kling_inputs import Refused
from api_providers.sandbox._kling_models import NEW_MODELS, NewModel, units_per_second

VIDEOS = frozenset({"feature_video", "base_video", "video"})
_Body = Mapping[str, Any]


def new_body(kind: str, name: str, body: _Body, shelf: Shelf) -> Bought:
    """Checks the body of `POST /{kind}/{name}`."""
    model = NEW_MODELS[kind].get(name)
    if model is None:
        raise Refused("The requested model does not exist", code=1203, status=404)
    inputs.known(body, ("contents" if model.types else "prompt", "settings", "options"))
    inputs.known(object_of(body, "options"), COMMON, "options.")
    contents = objects(body, "contents", 20)
    prompt = next((item for item in contents if item.get("type") == "prompt"), {}) if model.types else body
    needed = kind != "motion-control"
    said = inputs.text(prompt, "text" if model.types else "prompt", model.prompt_max, required=needed)
    size = _contents(contents, model)
    types = [str(item["type"]) for item in contents]
    settings, resolution, audio = _settings(body, model, kind, types)
    url = next((str(item["url"]) for item in contents if item["type"] in VIDEOS), None)
    follows = "first_frame" in types or url is not None
    if kind == "omni-video" and not follows and "aspect_ratio" not in settings:
        raise Refused("Invalid parameter: settings.aspect_ratio is required")
    ratio = inputs.word(settings, "aspect_ratio", RATIOS, "16:9") if model.ratio else "16:9"
    if kind == "motion-control":
        towards = inputs.word(settings, "character_orientation", ("image", "video"))
        seconds = input_seconds(shelf.seconds(url or ""), 10 if towards == "image" else 30)
    elif "base_video" in types:
        seconds = input_seconds(shelf.seconds(url or ""))
    else:
        seconds = float(inputs.word(settings, "duration", model.seconds, 5))
    rate = units_per_second(model.legacy, resolution, sound=audio == "native", video=url is not None)
    heard = audio == "native" or name == "kling-3.0-turbo"
    clip = Clip(*scaled(size or sides(ratio), resolution), seconds, said or name, audio=heard)
    return Bought(model.legacy, rate * whole_seconds(seconds), clip)


def _contents(contents: list[dict[str, Any]], model: NewModel) -> tuple[int, int] | None:
    """Checks each item; answers the size of the first frame, None where there is none."""
    size = None
    for item in contents:
        kind = inputs.word(item, "type", model.types)
        if kind == "prompt":
            inputs.known(item, ("type", "text"), "contents.")
        elif kind in {"element", "voice"}:
            inputs.known(item, ("type", f"{kind}_id", "id"), "contents.")
        else:
            named = model.types == NEW_MODELS["omni-video"]["kling-o1"].types
            inputs.known(item, ("type", "url", "id") if named else ("type", "url"), "contents.")
            if kind in VIDEOS:
                inputs.link(item.get("url"), "contents.url")
            else:
                seen = inputs.image(item.get("url"), "contents.url", 50)
                size = seen if kind in {"first_frame", "image"} else size
    types = [item["type"] for item in contents]
    if "image" in model.types and (types.count("image"), types.count("video")) != (1, 1):
        raise Refused("Invalid parameter: contents must have one image and one video")
    if "first_frame" in model.types and "refer_image" not in model.types and "first_frame" not in types:
        raise Refused("Invalid parameter: contents must have a first_frame")
    video = "base_video" in types or "feature_video" in types
    ends = [one for one in types if one in {"first_frame", "last_frame"}]
    frames(ends, "first_frame", "last_frame", types.count("refer_image"), video)
    if "base_video" in types and ends:
        raise Refused("Invalid parameter: the edit of a video takes no frames")
    return size


def _settings(body: _Body, model: NewModel, kind: str, types: list[str]) -> tuple[dict[str, Any], str, str]:
    """The settings with their resolution and their word for sound; empty where there is no such word."""
    settings = object_of(body, "settings")
    has = {
        "resolution": True,
        "duration": model.seconds,
        "aspect_ratio": model.ratio,
        "audio": model.audio,
        "multi_shot": model.multi_shot,
        "character_orientation": kind == "motion-control",
    }
    inputs.known(settings, [name for name, there in has.items() if there], "settings.")
    inputs.flag(settings, "multi_shot")
    resolution = str(inputs.word(settings, "resolution", model.resolutions, "720p"))
    quiet = "original" if kind == "motion-control" else "off"
    audio = str(inputs.word(settings, "audio", model.audio, quiet)) if model.audio else ""
    if model.legacy in {"kling-v2-6", "kling-v2-5-turbo"} and resolution != "1080p":
        if audio == "native" or "last_frame" in types:
            raise Refused("Invalid parameter: settings.resolution: only 1080p is supported here")
    if model.legacy == "kling-v2-6" and audio == "native" and "last_frame" in types:
        raise Refused("Invalid parameter: settings.audio: first and last frame are silent only")
    if "base_video" in types and (audio == "native" or settings.get("multi_shot", model.multi_shot)):
        raise Refused("Invalid parameter: the edit of a video has neither native audio nor several shots")
    alone = "first_frame" in types and not {"refer_image", *VIDEOS} & set(types)
    if model.legacy == "kling-video-o1" and alone:
        inputs.word(settings, "duration", (5, 10), 5)
    return settings, resolution, audio
