"""What pydantic says about a wrong request, in words for a person: one InvalidRequest that names every field."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from router.contract.errors import InvalidRequest
from router.contract.words import Words, words

SHOWN = 6
"""How many complaints one message lists; the rest is counted."""
NAME_MAX = 60
"""Characters of a field name that are repeated to the caller; names come from outside too."""
TEXT_MAX = 400

_WRITTEN = re.compile(r"^[^\[\](){}]+$")
"""A path part that the caller wrote. Pydantic also puts the tried branch of a union there, as `tuple[str, ...]`."""
_BRANCHES = frozenset({"bool", "str", "int", "float"})

_TEXTS: dict[str, tuple[str, str]] = {
    "missing": ("is missing", "必須です"),
    "extra_forbidden": ("is not a known field", "不明な項目です"),
    "string_type": ("must be text", "文字列で指定してください"),
    "string_unicode": ("is not valid Unicode text", "正しい Unicode の文字列ではありません"),
    "string_too_long": (
        "is too long: at most {max_length} characters",
        "長すぎます。{max_length} 文字以内にしてください",
    ),
    "string_too_short": ("must not be empty", "空にはできません"),
    "string_pattern_mismatch": ("is not written in a form we know", "書式が正しくありません"),
    "int_type": ("must be a whole number", "整数で指定してください"),
    "int_parsing": ("must be a whole number", "整数で指定してください"),
    "int_parsing_size": ("is too large a number", "数値が大きすぎます"),
    "int_from_float": ("must be a whole number", "整数で指定してください"),
    "float_type": ("must be a number", "数値で指定してください"),
    "float_parsing": ("must be a number", "数値で指定してください"),
    "finite_number": ("must be a finite number", "有限の数値で指定してください"),
    "decimal_type": (
        "must be an amount in US dollars, such as 0.50",
        "金額(米ドル)で指定してください。例: 0.50",
    ),
    "decimal_parsing": (
        "must be an amount in US dollars, such as 0.50",
        "金額(米ドル)で指定してください。例: 0.50",
    ),
    "decimal_max_places": (
        "has too many decimal places: at most {decimal_places}",
        "小数点以下は {decimal_places} 桁までです",
    ),
    "bool_type": ("must be true or false", "true か false で指定してください"),
    "bool_parsing": ("must be true or false", "true か false で指定してください"),
    "greater_than": ("must be more than {gt}", "{gt} より大きい値にしてください"),
    "greater_than_equal": ("must be at least {ge}", "{ge} 以上にしてください"),
    "less_than": ("must be less than {lt}", "{lt} より小さい値にしてください"),
    "less_than_equal": ("must be at most {le}", "{le} 以下にしてください"),
    "enum": ("must be one of {expected}", "次のいずれかにしてください: {expected}"),
    "literal_error": ("must be one of {expected}", "次のいずれかにしてください: {expected}"),
    "too_long": ("has too many entries: at most {max_length}", "多すぎます。{max_length} 個までです"),
    "tuple_type": ("must be a list", "リストで指定してください"),
    "list_type": ("must be a list", "リストで指定してください"),
    "dict_type": ("must be an object", "オブジェクトで指定してください"),
    "model_type": ("must be an object", "オブジェクトで指定してください"),
    "model_attributes_type": ("must be an object", "オブジェクトで指定してください"),
    "union_tag_invalid": ("must be one of {expected_tags}", "次のいずれかにしてください: {expected_tags}"),
    "union_tag_not_found": (
        "needs {discriminator}, the name of the step",
        "{discriminator}(処理名)が必要です",
    ),
    "timezone_aware": (
        "needs a time zone, such as 2026-11-21T18:00:00+09:00",
        "タイムゾーンが必要です。例: 2026-11-21T18:00:00+09:00",
    ),
}
_NO_TIME = (
    "is not a time: write 90s, 15m, 8h or an ISO 8601 time with zone",
    "日時として読めません。90s、15m、8h、または ISO 8601(タイムゾーン付き)で指定してください",
)
_SHAPES = {
    "resolution": ("720p, 4k or WIDTHxHEIGHT such as 1280x720", "720p、4k、または 1280x720 の形"),
    "aspect_ratio": ("W:H such as 16:9", "16:9 の形"),
    "prompt_language": ("a language tag such as en or ja", "en や ja などの言語タグ"),
    "project": (
        "up to 128 letters, digits, spaces or .:/@+-_",
        "英数字・空白・.:/@+-_ からなる 128 文字以内の名前",
    ),
    "tags": (
        "up to 128 letters, digits, spaces or .:/@+-_",
        "英数字・空白・.:/@+-_ からなる 128 文字以内の名前",
    ),
}
_OURS: tuple[tuple[str, str], ...] = (
    (r"NUL characters and lone surrogates .*", "NUL 文字や不正なサロゲートは使用できません"),
    (r"describe the clip in words; .*", "どんな動画にするかを文章で指定してください(プロンプトが空です)"),
    (r"at most one first_frame and one last_frame", "first_frame と last_frame はそれぞれ 1 つまでです"),
    (r"image-to-video needs a first frame", "image-to-video には最初のフレームの画像が必要です"),
    (
        r"text-to-video takes no frame images; .*",
        "text-to-video にはフレーム画像を指定できません。task を省略するか image-to-video にしてください",
    ),
    (r"name the effect", "エフェクト名を指定してください"),
    (r"only the task effect takes an effect name", "effect を指定できるのは task が effect のときだけです"),
    (
        r"a single image cannot be processed; .*",
        "静止画には後処理を指定できません。post を省略してください",
    ),
    (
        r"give each step once, and one preview .*",
        "同じ処理は 1 回だけ、プレビューは gif か webp のどちらか 1 つだけ指定できます",
    ),
    (
        r"(\S+) times (\S+) is more than 7680x4320 pixels; .*",
        r"\1 の \2 倍は 7680x4320 ピクセルを超えます。倍率を小さくしてください",
    ),
    (
        r"give either a preset or one axis with a value",
        "プリセットか、軸と値の組のどちらか一方を指定してください",
    ),
    (r"axis (\w+) needs a value from -10 to 10", r"軸 \1 には -10 から 10 までの値が必要です"),
    (r"unknown camera preset (.*); known: (.*)", r"カメラのプリセット \1 は不明です。使えるもの: \2"),
    (r"a preset takes no value", "プリセットに値は指定できません"),
    (
        r"a deadline lies between a second and a year from now",
        "期限は 1 秒後から 1 年後までの間で指定してください",
    ),
    (
        r"(.*) is no IANA time zone; .*",
        r"\1 は IANA タイムゾーンではありません。Asia/Tokyo のような名前で指定してください",
    ),
    (
        r"pacing needs day_usd: .*",
        "pacing には day_usd が必要です(1 日の予算を 1 日の時間に割り振る機能です)",
    ),
    (
        r"currency JPY needs jpy_per_usd and jpy_as_of, .*",
        "currency を JPY にするには jpy_per_usd(レート)と jpy_as_of(そのレートを確認した日)が必要です",
    ),
    (r"jpy_as_of lies in the future", "jpy_as_of が未来の日付です"),
)
"""The sentences of the schemas' own checks, which pydantic carries in one language."""


def refusal(
    error: ValidationError, *, names: Mapping[str, str] | None = None, known: tuple[str, ...] = ()
) -> InvalidRequest:
    """Every complaint in one error; `param` is the first field's path.

    `names` gives the caller's own word for a field (`duration` -> `seconds`); `known` lists field names, so that a
    misspelt one is answered with the nearest. Values are not repeated: they may be long, or secret.
    """
    return told(error.errors(include_input=False, include_url=False), names=names, known=known)


def told(
    items: Iterable[Mapping[str, Any]], *, names: Mapping[str, str] | None = None, known: tuple[str, ...] = ()
) -> InvalidRequest:
    """As `refusal`, from the rows of `ValidationError.errors()`."""
    texts: dict[str, Words] = {}
    for item in items:
        path, text = complaint(item, known)
        head, dot, rest = path.partition(".")
        path = (names or {}).get(head, head) + dot + rest
        texts.setdefault(path, text)
    lines = [
        (f"{path}: {text.en}", f"{path}: {text.ja}") if path else (text.en, text.ja)
        for path, text in texts.items()
    ]
    more = len(lines) - SHOWN
    en, ja = ("; ".join(line[i] for line in lines[:SHOWN]) for i in (0, 1))
    if more > 0:
        en, ja = f"{en}; and {more} more", f"{ja}; ほか {more} 件"
    return InvalidRequest(words(en, ja), param=next(iter(texts), None) or None)


def complaint(item: Mapping[str, Any], known: tuple[str, ...] = ()) -> tuple[str, Words]:
    """The field's path as the caller writes it, and what is wrong there."""
    parts = [
        str(part)[:NAME_MAX] for part in item["loc"] if _WRITTEN.match(str(part)) and part not in _BRANCHES
    ]
    path = ".".join(parts)
    kind, context = item["type"], item.get("ctx") or {}
    if kind == "value_error":
        return _own(path, item["msg"].removeprefix("Value error, "), known)
    if kind.startswith("datetime"):
        return path, words(*_NO_TIME)
    if kind == "string_pattern_mismatch" and parts and parts[0] in _SHAPES:
        en, ja = _SHAPES[parts[0]]
        return path, words(f"must be {en}", f"{ja}で指定してください")
    if kind == "extra_forbidden" and len(parts) == 1:
        near = difflib.get_close_matches(parts[0], known, n=1)
        if near:
            return path, words(
                f"is not a known field; did you mean {near[0]}?",
                f"不明な項目です。{near[0]} ではありませんか?",
            )
    if kind in _TEXTS:
        return path, _filled(*_TEXTS[kind], context)
    text = item["msg"][:TEXT_MAX]
    return path, words(text, f"正しくありません({text})")


def _filled(en: str, ja: str, context: dict[str, Any]) -> Words:
    plain = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in context.items()}
    listed = {key: value.replace("' or '", "', '") for key, value in plain.items()}
    return words(en.format_map(plain), ja.format_map(listed))


def _own(path: str, text: str, known: tuple[str, ...]) -> tuple[str, Words]:
    """A sentence of ours; one about the whole request names its field in front."""
    if not path:
        field, colon, rest = text.partition(": ")
        if colon and (field.isidentifier() or field in known):
            path, text = field, rest
    text = text[:TEXT_MAX]
    for pattern, ja in _OURS:
        if found := re.fullmatch(pattern, text):
            return path, words(text, found.expand(ja))
    return path, words(text, text)
