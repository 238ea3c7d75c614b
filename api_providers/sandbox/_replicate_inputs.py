"""Checks an input against a Replicate model: what the API refuses at once, and what only shows when the model runs."""

import base64
import binascii
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from api_providers.sandbox._fields import Field
from api_providers.sandbox._replicate_models import Model

Wrong = tuple[str, str]
"""Type and description of one refused input; the description names it."""


def check(body: dict[str, Any], model: Model) -> tuple[dict[str, Any], list[Wrong]]:
    """The input with defaults, and what the API refuses. An official model takes no unknown input, others ignore it."""
    wrong: list[Wrong] = []
    if model.official:
        for name in sorted(set(body) - set(model.fields)):
            wrong.append(("additional_property_not_allowed", f"Additional property {name} is not allowed"))
    filled: dict[str, Any] = {}
    for name, field in model.fields.items():
        value = body.get(name)
        filled[name] = field.default if value is None else value
        if value is None and field.required:
            wrong.append(("required", f"{name} is required"))
        elif value is not None and (found := _wrong(name, value, field)):
            wrong.append(found)
    return filled, wrong


def unusable(body: dict[str, Any], model: Model, is_known: Callable[[str], bool]) -> str | None:
    """Why the model will fail on an input file, in its own words; None where all can be read."""
    for name, field in model.fields.items():
        value = body.get(name)
        for link in value if isinstance(value, list) else [value]:
            if field.kind in {"url", "urls"} and isinstance(link, str) and not _readable(link, is_known):
                return f"Failed to download the file of input {name!r}"
    return None


def _wrong(name: str, value: Any, field: Field) -> Wrong | None:
    if field.choices:
        if value in field.choices and not isinstance(value, bool):
            return None
        listed = ", ".join(repr(choice) for choice in field.choices)
        return "enum", f"{name} must be one of the following: {listed}"
    if not _is(value, field):
        kind = {"flag": "boolean", "whole": "integer", "urls": "array"}.get(field.kind, "string")
        return "invalid_type", f"Invalid type. Expected: {kind}, given: {type(value).__name__} ({name})"
    if field.low is not None and value < field.low:
        return "number_gte", f"{name} must be greater than or equal to {field.low}"
    if field.high is not None and value > field.high:
        return "number_lte", f"{name} must be less than or equal to {field.high}"
    if field.longest is not None and len(value) > field.longest:
        return "array_max_items", f"{name} must have at most {field.longest} items"
    return None


def _is(value: Any, field: Field) -> bool:
    match field.kind:
        case "flag":
            return isinstance(value, bool)
        case "whole":
            return type(value) is int
        case "number":
            return type(value) in (int, float)
        case "urls":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case _:
            return isinstance(value, str)


def _readable(link: str, is_known: Callable[[str], bool]) -> bool:
    head, _, data = link.partition(",")
    if head.startswith("data:"):
        try:
            return head.endswith(";base64") and bool(base64.b64decode(data, validate=True))
        except (binascii.Error, ValueError):
            return False
    parts = urlsplit(link)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and is_known(link)
