"""A `[[model]]` row, without prices, made from the schema that a vendor publishes for a model."""

import re

from pydantic import JsonValue

from api_providers._schema import Field, InputSchema, length_of
from router.contract import errors
from router.contract.request import Task
from router.contract.shape import FOLLOWS_IMAGE
from router.contract.words import words

_RESOLUTION = re.compile(r"\d{3,4}p|[248]k|\d{2,5}x\d{2,5}")
_RATIO = re.compile(r"[1-9]\d{0,2}:[1-9]\d{0,2}")


def card_row(
    schema: InputSchema, *, backend: str, wire_id: str, source: str, as_of: str
) -> dict[str, JsonValue]:
    """A `[[model]]` row without prices, for a user's own TOML file; raises UnsupportedRequest if it makes no clip."""
    tasks = _tasks(schema)
    if not tasks:
        raise errors.UnsupportedRequest(
            words(
                f"{wire_id} takes neither a prompt nor an image nor a video; it is not a model that makes clips",
                f"{wire_id} はプロンプト・画像・動画のいずれも受け取りません。動画を生成するモデルではありません。",
            )
        )
    short = wire_id.partition(":")[0].removeprefix("fal-ai/")
    row: dict[str, JsonValue] = {
        "id": f"{backend}/{short}",
        "wire_id": wire_id,
        "family": short,
        "title": f"{short} ({backend})",
        "tasks": [task.value for task in tasks],
        **_lengths(schema.theirs("duration")),
        **_shapes(schema),
        **_extras(schema),
        **_references(schema),
        "lost_submit": "hold",
        "as_of": as_of,
        "source": source,
        "wire": {"schema": "live"},
    }
    return row


def _tasks(schema: InputSchema) -> list[Task]:
    def needed(ours: str) -> bool:
        field = schema.theirs(ours)
        return field is not None and field.must_be_given

    if needed("video"):
        return [Task.LIP_SYNC] if needed("audio") else [Task.VIDEO_TO_VIDEO]
    if needed("first_frame") and needed("audio"):
        return [Task.AVATAR]
    tasks = []
    if schema.theirs("prompt") and not needed("first_frame"):
        tasks.append(Task.TEXT_TO_VIDEO)
    if schema.theirs("first_frame"):
        tasks.append(Task.IMAGE_TO_VIDEO)
    return tasks


def _lengths(field: Field | None) -> dict[str, JsonValue]:
    if field is None:
        return {}
    default = length_of(field.default)
    if field.choices:
        lengths = [length for choice in field.choices if (length := length_of(choice)) is not None]
        first = [length for length in lengths if length == default]
        rest = [length for length in lengths if length != default]
        return {"durations": [*first, *rest]} if lengths else {}
    start: dict[str, JsonValue] = {} if default is None else {"durations": [default]}
    if field.kind in {"integer", "number"} and field.low is not None and field.high is not None:
        return start | {"duration_range": [field.low, field.high, 1.0]}
    return start


def _shapes(schema: InputSchema) -> dict[str, JsonValue]:
    row: dict[str, JsonValue] = {}
    if names := _ordered(schema.theirs("resolution"), _RESOLUTION):
        row["resolutions"] = names
    field = schema.theirs("aspect_ratio")
    if ratios := _ordered(field, _RATIO):
        follows = [str(c) for c in field.choices if c in FOLLOWS_IMAGE] if field else []
        row["aspect_ratios"] = [*ratios, *follows]
    elif schema.theirs("first_frame"):
        row["aspect_from_image"] = True
    return row


def _ordered(field: Field | None, pattern: re.Pattern[str]) -> list[JsonValue]:
    """The choices of that form in lower case, the model's default first."""
    if field is None:
        return []
    names = [str(c).lower() for c in field.choices if pattern.fullmatch(str(c).lower())]
    default = str(field.default).lower()
    return [*(n for n in names if n == default), *(n for n in names if n != default)]


def _extras(schema: InputSchema) -> dict[str, JsonValue]:
    """What else it has, each only where it has it."""
    row: dict[str, JsonValue] = {}
    prompt, fps = schema.theirs("prompt"), schema.theirs("fps")
    if prompt is None or not prompt.required:
        row["prompt_required"] = False
    if prompt is not None:
        row["camera"] = "words"
        if prompt.longest is not None:
            row["prompt_max"] = prompt.longest
    for ours in ("last_frame", "negative_prompt", "seed", "guidance"):
        if schema.theirs(ours):
            row[ours] = True
    if schema.theirs("generate_audio"):
        row["audio"] = "optional"
    if fps is not None and (rates := _rates(fps)):
        row["fps"] = rates
    return row


def _references(schema: InputSchema) -> dict[str, JsonValue]:
    """Other inputs than frames: how many of each kind, and which it cannot do without."""
    counts: dict[str, JsonValue] = {}
    needs: list[JsonValue] = []
    for ours, kind in (("images", "image"), ("video", "video"), ("audio", "audio")):
        field = schema.theirs(ours)
        if field is None:
            continue
        # A list without a limit: how many work is not documented, one does.
        counts[kind] = (field.longest or 1) if field.kind == "array" else 1
        if field.must_be_given:
            needs.append(kind)
    row: dict[str, JsonValue] = {"references": counts} if counts else {}
    return row | ({"needs": needs} if needs else {})


def _rates(field: Field) -> list[JsonValue]:
    rates = [int(rate) for choice in field.choices if (rate := length_of(choice)) is not None]
    default = length_of(field.default)
    return [*(r for r in rates if r == default), *(r for r in rates if r != default)]
