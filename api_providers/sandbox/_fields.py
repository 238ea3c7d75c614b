"""The inputs of a twin's models, and the JSON schema that its vendor publishes of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "flag", "whole", "number", "url", "urls"]
_TYPES: Mapping[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "flag": {"type": "boolean"},
    "whole": {"type": "integer"},
    "number": {"type": "number"},
    "url": {"type": "string", "format": "uri"},
    "urls": {"type": "array", "items": {"type": "string", "format": "uri"}},
}


@dataclass(frozen=True)
class Field:
    """One input field: of a `kind`, or one of `choices`."""

    kind: Kind = "text"
    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    low: int | None = None
    high: int | None = None
    longest: int | None = None
    """Characters, or entries of a list."""


def one_of(*choices: Any) -> Field:
    """One of these, the first being the default."""
    return Field("whole" if isinstance(choices[0], int) else "text", choices=choices, default=choices[0])


def schema_of(fields: Mapping[str, Field], *, nullable: Literal["anyOf", "nullable"]) -> dict[str, Any]:
    """The object schema; the two vendors write an optional field without default in these two ways."""
    properties = {}
    for order, (name, field) in enumerate(fields.items()):
        node: dict[str, Any] = dict(_TYPES[field.kind])
        if field.choices:
            node["enum"] = list(field.choices)
        for key, value in (("minimum", field.low), ("maximum", field.high)):
            if value is not None:
                node[key] = value
        if field.longest is not None:
            node["maxItems" if field.kind == "urls" else "maxLength"] = field.longest
        outside: dict[str, Any] = {"title": name.replace("_", " ").title()}
        if field.default is not None:
            outside["default"] = field.default
        elif not field.required and nullable == "anyOf":
            node = {"anyOf": [node, {"type": "null"}]}
        elif not field.required:
            outside["nullable"] = True
        properties[name] = node | outside | ({"x-order": order} if nullable == "nullable" else {})
    return {
        "type": "object",
        "title": "Input",
        "required": [name for name, field in fields.items() if field.required],
        "properties": properties,
    }
