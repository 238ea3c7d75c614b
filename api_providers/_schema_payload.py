"""A model's input made from a request by the schema its vendor publishes; what does not fit is refused before money.

For cards with `wire.schema = "live"`, which say only which model it is (`_schema` reads the rest).
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from api_providers._camera import prompt_with_camera
from api_providers._schema import NAMES, Field, InputSchema, length_of
from router.contract import errors
from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import Misfit
from router.contract.length import number
from router.contract.shape import SAME_RESOLUTION
from router.contract.words import Words, words

Place = Callable[[InputMedia], Awaitable[str]]
_SAYS = {
    "prompt": ("prompt", "a prompt", "プロンプト"),
    "negative_prompt": ("negative_prompt", "a negative prompt", "ネガティブプロンプト"),
    "first_frame": ("frame_images", "a first frame", "開始フレーム"),
    "last_frame": ("last_frame", "a last frame", "終了フレーム"),
    "images": ("input_references", "reference images", "参照画像"),
    "video": ("input_references", "a video", "動画"),
    "audio": ("input_references", "an audio file", "音声ファイル"),
    "duration": ("duration", "a duration", "長さの指定"),
    "resolution": ("resolution", "a resolution", "解像度の指定"),
    "aspect_ratio": ("aspect_ratio", "an aspect ratio", "アスペクト比の指定"),
    "generate_audio": ("generate_audio", "sound", "音声の生成"),
    "seed": ("seed", "a seed", "シード"),
    "fps": ("fps", "a frame rate", "フレームレートの指定"),
    "guidance": ("guidance", "guidance", "ガイダンス値"),
}
"""Our name -> the request's field, and what it is called in both languages."""
_UNUSED = {
    "prompt": words(
        "The prompt was not used: the model takes none.",
        "プロンプトは使われませんでした。このモデルは対応していません。",
    ),
    "seed": words(
        "The seed was not used: the model takes none, so the clip cannot be made again.",
        "シードは使われませんでした。このモデルは対応していないため、同じ動画は再現できません。",
    ),
}
"""What is said where the card did not promise the field and the model lacks it."""


class _Wanted(NamedTuple):
    value: Any
    must: bool
    """Whether a model without this input cannot be used; else it is left out."""


async def live_payload(
    schema: InputSchema, request: ResolvedRequest, card: ModelCard, place: Place
) -> tuple[dict[str, Any], tuple[Words, ...]]:
    """The model's input, and what could not be honoured; raises UnsupportedRequest with every misfit.

    Inputs are placed only after everything else fits.
    """
    body: dict[str, Any] = {}
    misfits: list[Misfit] = []
    warnings: list[Words] = []
    for ours, wanted in _wanted(request, card).items():
        field = schema.theirs(ours)
        if field is None:
            if wanted.must:
                misfits.append(_lacks(ours))
            elif ours in _UNUSED:
                warnings.append(_UNUSED[ours])
            continue
        if ours == "seed" and field.high is not None and wanted.value > field.high:
            folded = int(wanted.value % (int(field.high) + 1))
            warnings.append(_seed_folded(wanted.value, folded))
            wanted = wanted._replace(value=folded)
        value = _fitted(field, ours, wanted.value, misfits)
        if value is not None:
            body[field.name] = value
    _add_options(schema, request, body, misfits)
    misfits += [_missing(f) for f in schema.fields.values() if f.must_be_given and f.name not in body]
    if misfits:
        en, ja = ("; ".join(m.reason.en for m in misfits), "。".join(m.reason.ja for m in misfits))
        raise errors.UnsupportedRequest(
            words(
                f"{card.id} cannot make this, its vendor's description of the model says: {en}",
                f"{card.id} では対応できません(提供元のモデル定義による): {ja}",
            ),
            misfits=misfits,
        )
    for name, value in body.items():
        if isinstance(value, InputMedia):
            body[name] = await place(value)
        elif isinstance(value, list):
            body[name] = [await place(v) if isinstance(v, InputMedia) else v for v in value]
    return body, tuple(warnings)


def _wanted(request: ResolvedRequest, card: ModelCard) -> dict[str, _Wanted]:
    """What the request asks for, by our names; where the card lists one value only it is a fact and no wish."""
    by_kind: dict[str, list[InputMedia]] = {"image": [], "video": [], "audio": []}
    for media in request.references:
        by_kind[media.type].append(media)
    can_choose = bool(card.durations or card.duration_range)
    several_lengths = bool(card.duration_range) or len(card.durations) > 1
    framed = request.first_frame is not None or request.last_frame is not None
    sound = request.generate_audio and card.audio != "always"
    everything = {
        "prompt": _Wanted(prompt_with_camera(request, card) or None, card.prompt_required),
        "negative_prompt": _Wanted(request.negative_prompt or None, True),
        "first_frame": _Wanted(request.first_frame, True),
        "last_frame": _Wanted(request.last_frame, True),
        "images": _Wanted(by_kind["image"] or None, True),
        "video": _Wanted(by_kind["video"] or None, True),
        "audio": _Wanted(by_kind["audio"] or None, True),
        "duration": _Wanted(request.duration if can_choose and request.duration else None, several_lengths),
        "resolution": _Wanted(request.resolution, len(card.resolutions) > 1),
        "aspect_ratio": _Wanted(request.aspect_ratio, len(card.aspect_ratios) > 1 and not framed),
        "generate_audio": _Wanted(request.generate_audio, sound),
        "seed": _Wanted(request.seed if card.seed else None, False),
        "fps": _Wanted(request.fps if card.fps else None, len(card.fps) > 1),
        "guidance": _Wanted(request.guidance if card.guidance else None, True),
    }
    return {ours: wanted for ours, wanted in everything.items() if wanted.value is not None}


def _fitted(field: Field, ours: str, value: Any, misfits: list[Misfit]) -> Any:
    """The value as this input takes it; None and a misfit where it does not."""
    if isinstance(value, InputMedia):
        return value
    if isinstance(value, list):
        most = 1 if field.kind == "string" else field.longest
        if most is not None and len(value) > most:
            misfits.append(_misfit(ours, f"takes at most {most} of these", f"は最大 {most} 件です"))
            return None
        return value[0] if field.kind == "string" else value
    if field.choices:
        same = next((choice for choice in field.choices if _same(choice, value)), None)
        if same is None:
            listed = [str(choice) for choice in field.choices]
            misfits.append(
                _misfit(
                    ours,
                    f"cannot be {_shown(value)}; possible: {', '.join(listed)}",
                    f"に {_shown(value)} は指定できません。指定できる値: {'、'.join(listed)}",
                )
            )
        return same
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(field, ours, value, misfits)
    if field.longest is not None and len(value) > field.longest:
        misfits.append(
            _misfit(ours, f"takes at most {field.longest} characters", f"は最大 {field.longest} 文字です")
        )
        return None
    return value


def _number(field: Field, ours: str, value: float, misfits: list[Misfit]) -> Any:
    low, high = field.low, field.high
    if (low is not None and value < low) or (high is not None and value > high):
        en = f"from {number(low)}" if low is not None else ""
        en += f" up to {number(high)}" if high is not None else ""
        ja = f"{'' if low is None else number(low)}～{'' if high is None else number(high)}"
        misfits.append(
            _misfit(
                ours,
                f"cannot be {number(value)}; possible: {en.strip()}",
                f"に {number(value)} は指定できません。指定できる範囲: {ja}",
            )
        )
        return None
    if field.kind == "string":
        unit = "s" if str(field.default).endswith("s") else ""
        return f"{value:g}{unit}"
    if field.kind == "integer":
        if value != round(value):
            misfits.append(_misfit(ours, "must be a whole number", "には整数を指定してください"))
            return None
        return round(value)
    return value


def _add_options(
    schema: InputSchema, request: ResolvedRequest, body: dict[str, Any], misfits: list[Misfit]
) -> None:
    """The caller's options, which the card allows by name; none may touch what the request itself decides."""
    decided = {name for names in NAMES.values() for name in names}
    for key, value in request.options.items():
        field = schema.fields.get(key)
        good = field is not None and key not in decided
        if field is not None and good and field.choices:
            good = any(_same(choice, value) for choice in field.choices)
        if good:
            body[key] = value
            continue
        misfits.append(
            Misfit(
                field=f"provider_options.{request.backend}.{key}",
                reason=words(
                    f"option {key!r} cannot be set to this; leave it out",
                    f"オプション {key!r} にこの値は指定できません。省略してください",
                ),
            )
        )


def _same(choice: Any, value: Any) -> bool:
    """`"5s"`, `"5"` and 5 are one length, `768P` and `768p` one resolution, `4k` and `2160p` too."""
    if isinstance(choice, bool) or isinstance(value, bool):
        return choice is value
    if isinstance(value, int | float):
        return length_of(choice) == float(value)
    plain, wanted = str(choice).lower(), str(value).lower()
    return SAME_RESOLUTION.get(plain, plain) == SAME_RESOLUTION.get(wanted, wanted)


def _shown(value: Any) -> str:
    return (
        number(value)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else str(value).lower()
    )


def _misfit(ours: str, en: str, ja: str) -> Misfit:
    field, _, _ = _SAYS[ours]
    return Misfit(field=field, reason=words(f"{field} {en}", f"{field} {ja}"))


def _lacks(ours: str) -> Misfit:
    field, en, ja = _SAYS[ours]
    verb = "makes" if ours == "generate_audio" else "takes"
    what = en.removeprefix("a ").removeprefix("an ")
    return Misfit(
        field=field, reason=words(f"the model {verb} no {what}", f"このモデルは{ja}に対応していません")
    )


def _missing(field: Field) -> Misfit:
    ours = next((o for o, names in NAMES.items() if field.name in names), None)
    where, en, ja = _SAYS[ours] if ours else (field.name, repr(field.name), f"{field.name!r} ")
    return Misfit(field=where, reason=words(f"the model needs {en}", f"このモデルには{ja}が必要です"))


def _seed_folded(seed: int, sent: int) -> Words:
    return words(
        f"The seed {seed} is larger than the model takes and was sent as {sent}.",
        f"シード {seed} はモデルの上限を超えるため、{sent} として送信しました。",
    )
