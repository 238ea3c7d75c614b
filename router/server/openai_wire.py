"""From the body of a create (OpenAI's fields and ours, JSON or form) to a VideoRequest; pure."""

import json
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, NoReturn

from pydantic import ValidationError

from router.contract.errors import InvalidRequest
from router.contract.refusals import NAME_MAX, refusal
from router.contract.request import UNSTORABLE, FrameType, VideoRequest
from router.contract.words import words

OURS = tuple(VideoRequest.model_fields)
OPENAI = ("seconds", "size", "input_reference")
"""OpenAI's names that differ from ours; `prompt` and `model` are the same."""
KNOWN = OURS + OPENAI

_STRUCTURED = frozenset(
    {
        "preferences",
        "camera",
        "post",
        "provider_options",
        "tags",
        "frame_images",
        "input_references",
        "input_reference",
    }
)
"""Fields whose form value may be JSON text."""
_DEPTH = 5
"""How deep `a[b][c]` may go in a form."""
_SIZE = re.compile(r"^\d{2,5}x\d{2,5}$")
_ASSET = re.compile(r"^(?:asset:)?([0-9a-f]{64})$")


def wrong(field: str, en: str, ja: str) -> InvalidRequest:
    """A complaint about one field."""
    name = field[:NAME_MAX]
    return InvalidRequest(words(f"{name}: {en}", f"{name}: {ja}"), param=name)


def from_json(body: bytes) -> dict[str, Any]:
    """The object in a JSON body. Raises InvalidRequest; repeated keys and NaN are errors, not guesses."""
    try:
        value = _parsed(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        where = (
            f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        )
        raise InvalidRequest(
            words(
                f"The request body is not valid JSON{where}.",
                f"リクエスト本文が正しい JSON ではありません{where}。",
            )
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest(
            words(
                "The request body must be a JSON object.",
                "リクエスト本文は JSON オブジェクトにしてください。",
            )
        )
    return value


def from_form(fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The same object from a form: `name=value`, `name[key]=value`, `name[]=value`, or JSON text in a value.

    A form has no null: an empty field other than a prompt is an absent one.
    """
    data: dict[str, Any] = {}
    for name, text in fields:
        path = _path(name)
        if not text.strip() and path[0] not in {"prompt", "negative_prompt"}:
            continue
        value = _structured(path[0], text) if len(path) == 1 and path[0] in _STRUCTURED else text
        if path == ["tags"] and isinstance(data.get("tags"), list):
            data["tags"].extend(value if isinstance(value, list) else [value])
        else:
            _put(data, path, value)
    return data


def to_request(
    data: Mapping[str, Any], *, frame: str | None = None, reference: tuple[str, str] | None = None
) -> VideoRequest:
    """The request itself. Raises InvalidRequest with every wrong field, by the names the caller used.

    `frame` is the URL of an uploaded image, `reference` kind and URL of another uploaded file.
    """
    body = dict(data)
    names: dict[str, str] = {}
    if "input_reference" in body:
        if frame or reference:
            raise wrong("input_reference", "give it once", "1 回だけ指定してください")
        frame = _reference_url(body.pop("input_reference"))
        if frame is not None and "frame_images" not in body:
            names["frame_images"] = "input_reference"
    if frame is not None:
        _add_first_frame(body, frame)
    if reference is not None:
        given = _list_of(body.get("input_references"), "input_references")
        body["input_references"] = [*given, {"type": reference[0], "url": reference[1]}]
    _rename(body, "seconds", "duration", names)
    _rename(body, "size", "resolution", names)
    if "duration" in names:
        body["duration"] = _seconds(body["duration"])
    if "resolution" in names:
        body["resolution"] = _size(body["resolution"])
    _storable(body)
    try:
        return VideoRequest.model_validate(body)
    except ValidationError as error:
        raise refusal(error, names=names, known=KNOWN) from None


def _rename(body: dict[str, Any], theirs: str, ours: str, names: dict[str, str]) -> None:
    if theirs not in body:
        return
    value = body.pop(theirs)
    if value is None:
        return
    if body.get(ours) is not None:
        raise wrong(
            theirs,
            f"{theirs} and {ours} mean the same; give one of the two",
            f"{theirs} と {ours} は同じ意味です。どちらか一方だけを指定してください",
        )
    body[ours] = value
    names[ours] = theirs


def _seconds(value: Any) -> float:
    """OpenAI's clients send text, people send numbers."""
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        return float(value)
    except (ValueError, OverflowError):
        raise wrong(
            "seconds", "must be a number of seconds, such as 4", "秒数を数値で指定してください。例: 4"
        ) from None


def _size(value: Any) -> str:
    text = value.strip().lower().replace("×", "x") if isinstance(value, str) else ""
    if not _SIZE.match(text):
        raise wrong(
            "size", "must be WIDTHxHEIGHT, such as 1280x720", "幅x高さ の形で指定してください。例: 1280x720"
        )
    return text


def _reference_url(value: Any) -> str | None:
    """A URL as text, `{"image_url": ...}` or `{"file_id": ...}`; None where the field is null."""
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and len(value) == 1:
        kind, inner = next(iter(value.items()))
        if kind == "image_url":
            inner = inner.get("url") if isinstance(inner, Mapping) else inner
            if isinstance(inner, str):
                return inner
        if kind == "file_id" and isinstance(inner, str):
            found = _ASSET.match(inner)
            if found:
                return f"asset:{found[1]}"
            raise wrong(
                "input_reference.file_id",
                "there is no such file here; upload the image itself, or give image_url",
                "そのファイルは見つかりません。画像そのものをアップロードするか、image_url を指定してください",
            )
    raise wrong(
        "input_reference",
        'must be an uploaded image, a URL, {"image_url": ...} or {"file_id": ...}',
        '画像のアップロード、URL、{"image_url": ...}、{"file_id": ...} のいずれかで指定してください',
    )


def _add_first_frame(body: dict[str, Any], url: str) -> None:
    given = _list_of(body.get("frame_images"), "frame_images")
    for image in given:
        if (
            not isinstance(image, Mapping)
            or image.get("frame_type", FrameType.FIRST.value) == FrameType.FIRST.value
        ):
            raise wrong(
                "input_reference",
                "input_reference is the first frame, and frame_images has one already",
                "input_reference は最初のフレームですが、frame_images にも最初のフレームがあります",
            )
    body["frame_images"] = [{"frame_type": FrameType.FIRST.value, "url": url}, *given]


def _list_of(value: Any, field: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(field, "must be a list", "リストで指定してください")
    return value


def _storable(value: Any, field: str = "") -> None:
    """The same check as the request's own, by the names the caller used."""
    if isinstance(value, str):
        if UNSTORABLE.search(value):
            raise wrong(field, "holds a character that cannot be stored", "保存できない文字が含まれています")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _storable(key, field or "request")
            _storable(inner, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list):
        for inner in value:
            _storable(inner, field)


def _structured(field: str, text: str) -> Any:
    """JSON text where it begins like JSON; `zoom_in`, `pan=5`, a URL or one tag stay text."""
    if text.lstrip()[:1] not in {"{", "["}:
        if field in {"camera", "input_reference"}:
            return text
        if field == "tags":
            return [text]
        raise wrong(field, "must be JSON text in a form", "フォームでは JSON 形式の文字列で指定してください")
    try:
        return _parsed(text)
    except (ValueError, RecursionError):
        raise wrong(field, "is not valid JSON", "正しい JSON ではありません") from None


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _path(name: str) -> list[str]:
    """`preferences[backends][]` -> `["preferences", "backends", ""]`."""
    head, *rest = name.split("[")
    whole = head and len(rest) < _DEPTH and all(part.endswith("]") and "]" not in part[:-1] for part in rest)
    path = [head, *(part[:-1] for part in rest)]
    if not whole or any(a == b == "" for a, b in pairwise(path)):
        raise wrong(name, "is not a field name we can read", "項目名として読み取れません")
    return path


def _put(holder: dict[str, Any], path: list[str], value: Any) -> None:
    """Write `value` at `path`. An empty part is a list; a key its last entry has already starts the next entry."""
    key, rest = path[0], path[1:]
    if not rest:
        if key in holder:
            raise _twice(key)
        holder[key] = value
    elif rest[0] == "":
        entries = holder.setdefault(key, [])
        if not isinstance(entries, list):
            raise _twice(key)
        if len(rest) == 1:
            entries.append(value)
            return
        if not entries or not isinstance(entries[-1], dict) or (len(rest) == 2 and rest[1] in entries[-1]):
            entries.append({})
        _put(entries[-1], rest[1:], value)
    else:
        inner = holder.setdefault(key, {})
        if not isinstance(inner, dict):
            raise _twice(key)
        _put(inner, rest, value)


def _twice(key: str) -> InvalidRequest:
    return wrong(key, "is given twice", "重複して指定されています")
