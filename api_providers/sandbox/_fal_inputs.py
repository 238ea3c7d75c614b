"""Checks an input against a fal model the way its runner does: defaults filled in, or a list of typed errors."""

import base64
import binascii
import io
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from api_providers.sandbox._fal_models import Model
from api_providers.sandbox._fields import Field

Detail = dict[str, Any]
"""One entry of the `detail` list of a model error."""


def detail(
    type_: str, msg: str, *loc: str | int, given: Any = None, ctx: dict[str, Any] | None = None
) -> Detail:
    """One error as fal writes it; large inputs are not echoed."""
    shown = given if len(str(given)) <= 200 else None
    where = ["body", *loc]
    return {
        "loc": where,
        "msg": msg,
        "type": type_,
        "url": f"https://docs.fal.ai/errors#{type_}",
        "ctx": ctx or {},
        "input": shown,
    }


def check(
    body: dict[str, Any], model: Model, is_lost: Callable[[str], bool]
) -> tuple[dict[str, Any], list[Detail]]:
    """The input with defaults, and what is wrong with it. Blocking (decodes images): call it in a thread.

    `is_lost` tells of a link whether it names an upload of this twin that never got its bytes.
    """
    filled: dict[str, Any] = {}
    wrong: list[Detail] = []
    for name, field in model.fields.items():
        value = body.get(name)
        if value is None:
            filled[name] = field.default
            if field.required:
                wrong.append(detail("missing", "Field required", name, given=sorted(body)))
            continue
        filled[name] = value
        wrong += _check(name, value, field, is_lost)
    return filled, wrong


def _check(name: str, value: Any, field: Field, is_lost: Callable[[str], bool]) -> list[Detail]:
    if field.choices:
        if value in field.choices:
            return []
        expected = ", ".join(repr(choice) for choice in field.choices)
        return [
            detail(
                "literal_error", f"Input should be {expected}", name, given=value, ctx={"expected": expected}
            )
        ]
    match field.kind:
        case "flag" if type(value) is not bool:
            return [detail("bool_type", "Input should be a valid boolean", name, given=value)]
        case "whole" | "number":
            return _number(name, value, field)
        case "text":
            return _text(name, value, field)
        case "url":
            return _url(value, is_lost, name)
        case "urls":
            if not isinstance(value, list) or not value:
                return [detail("list_type", "Input should be a valid non-empty list", name, given=value)]
            if field.longest is not None and len(value) > field.longest:
                return [detail("too_long", f"List should have at most {field.longest} items", name)]
            return [one for n, item in enumerate(value) for one in _url(item, is_lost, name, n)]
    return []


def _number(name: str, value: Any, field: Field) -> list[Detail]:
    if type(value) is not int and (field.kind == "whole" or type(value) is not float):
        word = "integer" if field.kind == "whole" else "number"
        return [detail("int_type", f"Input should be a valid {word}", name, given=value)]
    if field.low is not None and value < field.low:
        limit = {"ge": field.low}
        return [
            detail(
                "greater_than_equal", f"Input should be at least {field.low}", name, given=value, ctx=limit
            )
        ]
    if field.high is not None and value > field.high:
        limit = {"le": field.high}
        return [
            detail("less_than_equal", f"Input should be at most {field.high}", name, given=value, ctx=limit)
        ]
    return []


def _text(name: str, value: Any, field: Field) -> list[Detail]:
    if not isinstance(value, str):
        return [detail("string_type", "Input should be a valid string", name, given=value)]
    if field.required and not value.strip():
        return [detail("string_too_short", "String should have at least 1 character", name, given=value)]
    if field.longest is not None and len(value) > field.longest:
        return [detail("string_too_long", f"String should have at most {field.longest} characters", name)]
    return []


def _url(value: Any, is_lost: Callable[[str], bool], *loc: str | int) -> list[Detail]:
    if not isinstance(value, str):
        return [detail("string_type", "Input should be a valid string", *loc, given=value)]
    if not value.startswith("data:"):
        parts = urlsplit(value)
        if parts.scheme in ("http", "https") and parts.hostname and not is_lost(value):
            return []
        return [detail("file_download_error", "Failed to download the file", *loc, given=value)]
    head, _, data = value.partition(",")
    try:
        content = base64.b64decode(data, validate=True) if head.endswith(";base64") else b""
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        return [detail("file_download_error", "Failed to decode the data URI", *loc)]
    if head.startswith("data:image/"):
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.verify()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return [detail("image_load_error", "Failed to load the image", *loc)]
    return []
