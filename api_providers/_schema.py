"""What a model takes, read from the JSON schema that its vendor publishes: its inputs by the vendor's own names.

Vendors that sell many companies' models (fal, Replicate) name the same thing differently for each. `_schema_payload`
makes a checked payload of what is read here, `_schema_row` a row for a user's own TOML file.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "text_prompt", "prompt_text"),
    "negative_prompt": ("negative_prompt",),
    # A model that has `start_image` and `image` keeps the second for old callers: the plainer names come last.
    "first_frame": (
        *("start_image_url", "first_frame_url", "first_frame_image", "first_frame_image_url", "start_image"),
        *("first_frame", "image_url", "image", "input_image"),
    ),
    "last_frame": (
        *("end_image_url", "last_frame_url", "tail_image_url", "last_frame_image", "last_image_url"),
        *("end_image", "last_frame", "tail_image", "last_image"),
    ),
    "images": ("reference_image_urls", "reference_images", "image_urls", "input_references", "images"),
    "video": ("video_url", "video", "input_video"),
    "audio": ("audio_url", "audio", "audio_file"),
    "duration": ("duration", "seconds"),
    "resolution": ("resolution",),
    "aspect_ratio": ("aspect_ratio", "ratio"),
    "generate_audio": ("generate_audio", "enable_audio", "with_audio", "audio", "sound"),
    "seed": ("seed",),
    "fps": ("fps", "frames_per_second"),
    "guidance": ("cfg_scale", "guidance_scale", "guidance"),
}
"""Our name -> theirs, the first one that a model has. Sources: fal's model pages and Replicate's model schemas."""
_KINDS: Mapping[str, frozenset[str]] = {
    "generate_audio": frozenset({"boolean"}),
    "images": frozenset({"array", "string"}),
    **dict.fromkeys(("first_frame", "last_frame", "video", "audio"), frozenset({"string"})),
}
KEPT_S = 3600.0
"""How long a schema that was read is used again: models change, and a server runs for weeks."""


@dataclass(frozen=True)
class Field:
    """One input of a model."""

    name: str
    kind: str
    """JSON type; empty where the schema does not say."""
    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    longest: int | None = None
    """Characters of a text, entries of a list."""

    @property
    def must_be_given(self) -> bool:
        """Whether a call without it is refused."""
        return self.required and self.default is None


@dataclass(frozen=True)
class InputSchema:
    """The inputs of one model, by the vendor's own names."""

    fields: Mapping[str, Field]

    def theirs(self, ours: str) -> Field | None:
        """The input that means our field, None where the model has none."""
        kinds = _KINDS.get(ours)
        found = (self.fields.get(name) for name in NAMES[ours])
        return next((f for f in found if f and (kinds is None or not f.kind or f.kind in kinds)), None)


def read_schema(document: Any) -> InputSchema | None:
    """The inputs out of an OpenAPI document: `components.schemas.Input`, else the body of the first POST."""
    if not isinstance(document, dict):
        return None
    node = _at(document, "#/components/schemas/Input") or _posted(document)
    flat = _flat(node, document)
    properties = flat.get("properties")
    if not isinstance(properties, dict) or not properties:
        return None
    required = flat.get("required") if isinstance(flat.get("required"), list) else []
    return InputSchema(
        {
            str(name): _field(str(name), _flat(node, document), name in (required or ()))
            for name, node in properties.items()
        }
    )


class Shelf:
    """Schemas that were read in this process, each used for an hour."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in monotonic seconds is replaced by tests only."""
        self._clock = clock
        self._kept: dict[str, tuple[float, InputSchema]] = {}

    async def of(self, model: str, read: Callable[[], Awaitable[InputSchema]]) -> InputSchema:
        """The schema of a model; `read` is called when there is none or it is old."""
        kept = self._kept.get(model)
        if kept is None or self._clock() - kept[0] > KEPT_S:
            kept = (self._clock(), await read())
            self._kept[model] = kept
        return kept[1]


def length_of(value: Any) -> float | None:
    """The number in `5`, `"5"` or `"5s"`; None for a word such as `auto`."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)s?", str(value))
    return float(found[1]) if found else None


# -- reading a document


def _at(document: Mapping[str, Any], pointer: Any) -> dict[str, Any]:
    """What a local reference (`#/components/schemas/Input`) points at; empty where nothing is."""
    node: Any = document
    for part in str(pointer).removeprefix("#/").split("/"):
        node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def _posted(document: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of the JSON body of the first POST."""
    paths = document.get("paths")
    for path in paths.values() if isinstance(paths, dict) else ():
        if isinstance(path, dict) and isinstance(path.get("post"), dict):
            return _at(path["post"], "#/requestBody/content/application~1json/schema")
    return {}


def _flat(node: Any, document: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """One table of what `$ref`, `allOf` and an `anyOf` with null spread over several."""
    if not isinstance(node, dict) or depth > 8:
        return {}
    merged: dict[str, Any] = {k: v for k, v in node.items() if k not in {"$ref", "allOf", "anyOf", "oneOf"}}
    parts = [_at(document, node["$ref"])] if "$ref" in node else []
    parts += [part for part in node.get("allOf") or () if isinstance(part, dict)]
    variants = [
        part
        for part in node.get("anyOf") or node.get("oneOf") or ()
        if isinstance(part, dict) and part.get("type") != "null"
    ]
    parts += variants[:1]
    for part in parts:
        merged = {**_flat(part, document, depth + 1), **merged}
    return merged


def _field(name: str, node: Mapping[str, Any], required: bool) -> Field:
    kind = node.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "")
    choices = node.get("enum") if isinstance(node.get("enum"), list) else []
    if "const" in node:
        choices = [node["const"]]
    longest = node.get("maxItems") if kind == "array" else node.get("maxLength")
    return Field(
        name=name,
        kind=kind if isinstance(kind, str) else "",
        required=required,
        default=node.get("default"),
        choices=tuple(choice for choice in choices or () if choice is not None),
        low=_bound(node.get("minimum")),
        high=_bound(node.get("maximum")),
        longest=longest if isinstance(longest, int) and not isinstance(longest, bool) else None,
    )


def _bound(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
