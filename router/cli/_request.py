"""Options of `generate` and `plan` -> one VideoRequest, with errors that name the option."""

import asyncio
import base64
import json
import mimetypes
import os
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from router.contract.card import Asset
from router.contract.errors import InvalidRequest
from router.contract.refusals import told
from router.contract.request import Preferences, VideoRequest
from router.contract.words import words


@dataclass(frozen=True)
class Wanted:
    """The options as typed; absent ones are None."""

    prompt: str
    image: str | None = None
    end_image: str | None = None
    duration: float | None = None
    resolution: str | None = None
    aspect: str | None = None
    fps: int | None = None
    seed: int | None = None
    guidance: float | None = None
    quality: str | None = None
    camera: str | None = None
    audio: bool | None = None
    negative: str | None = None
    model: str | None = None
    mode: str | None = None
    backend: Sequence[str] | None = None
    forbid: Sequence[str] | None = None
    substitutes: str | None = None
    max_usd: str | None = None
    deadline: str | None = None
    project: str | None = None
    task: str | None = None
    reference: Sequence[str] | None = None
    effect: str | None = None
    option: Sequence[str] | None = None
    allow_drop: Sequence[str] | None = None
    allow_unknown_price: bool = False
    post: Sequence[str] | None = None
    allow_duplicate_spend: bool = False


_OPTION_OF = {
    **{
        name: f"--{name.replace('_', '-')}"
        for name in (*VideoRequest.model_fields, *Preferences.model_fields)
    },
    "aspect_ratio": "--aspect",
    "generate_audio": "--audio",
    "negative_prompt": "--negative",
    "frame_images": "--image",
    "input_references": "--reference",
    "provider_options": "--option",
    "prompt": "PROMPT",
    "backends": "--backend",
}
Kind = Literal["image", "video", "audio"]


class Upload(Protocol):
    """`Gateway.take_upload`."""

    def __call__(self, data: Path, *, expect: Kind = "image") -> Awaitable[Asset]:
        """Check a file and keep it."""
        ...


_KINDS: tuple[Kind, ...] = ("image", "video", "audio")


def check(wanted: Wanted) -> VideoRequest:
    """The request as typed, with local files still by their path; raises InvalidRequest before anything is opened."""
    frames = [
        {"frame_type": kind, "url": given if _is_url(given) else str(_readable(given, option))}
        for kind, option, given in (
            ("first_frame", "--image", wanted.image),
            ("last_frame", "--end-image", wanted.end_image),
        )
        if given is not None
    ]
    dropped = tuple(wanted.allow_drop or ())
    preferences = {
        "mode": wanted.mode,
        "backends": tuple(wanted.backend or ()),
        "forbid": tuple(wanted.forbid or ()),
        "substitutes": wanted.substitutes,
        "max_usd": None if wanted.max_usd is None else usd(wanted.max_usd, "--max-usd"),
        "deadline": wanted.deadline,
        "allow_drop": True if "all" in dropped else dropped,
        "allow_unknown_price": wanted.allow_unknown_price,
        "allow_duplicate_spend": wanted.allow_duplicate_spend,
    }
    data = {
        "task": wanted.task,
        "prompt": wanted.prompt,
        "negative_prompt": wanted.negative,
        "model": wanted.model,
        "frame_images": frames,
        "input_references": [_reference(given) for given in wanted.reference or ()],
        "effect": wanted.effect,
        "duration": wanted.duration,
        "resolution": wanted.resolution,
        "aspect_ratio": wanted.aspect,
        "fps": wanted.fps,
        "seed": wanted.seed,
        "guidance": wanted.guidance,
        "quality": wanted.quality,
        "camera": wanted.camera,
        "generate_audio": wanted.audio,
        "post": tuple(wanted.post or ()),
        "provider_options": _provider_options(wanted.option or ()),
        "project": wanted.project,
        "preferences": {key: value for key, value in preferences.items() if value is not None},
    }
    try:
        return VideoRequest.model_validate({key: value for key, value in data.items() if value is not None})
    except ValidationError as error:
        raise explained(error) from None


async def take_in(request: VideoRequest, upload: Upload | None) -> VideoRequest:
    """Local files become assets; without `upload` they travel inline, for a preview that writes nothing."""
    frames = []
    for frame in request.frame_images:
        if _is_url(frame.url):
            frames.append(frame)
            continue
        path = Path(frame.url)
        frames.append(frame.model_copy(update={"url": await _kept(path, "image", upload)}))
    references = []
    for reference in request.input_references:
        if not _is_url(reference.url):
            url = await _kept(Path(reference.url), reference.type, upload)
            reference = reference.model_copy(update={"url": url})
        references.append(reference)
    return request.model_copy(update={"frame_images": tuple(frames), "input_references": tuple(references)})


async def _kept(path: Path, kind: Kind, upload: Upload | None) -> str:
    if upload is None:
        return await asyncio.to_thread(_data_uri, path)
    return f"asset:{(await upload(path, expect=kind)).id}"


def _is_url(given: str) -> bool:
    return given.startswith(("https://", "http://", "data:", "asset:", "job:"))


def _reference(given: str) -> dict[str, str]:
    """`clip.mp4`, `job:<id>` or an address, with `image=`, `video=`, `audio=` in front where the name does not tell."""
    front, equals, rest = given.partition("=")
    kind = next((kind for kind in _KINDS if equals and front == kind), None)
    where = rest if kind else given
    if kind is None:
        guessed = (mimetypes.guess_type(where.split("?")[0])[0] or "").partition("/")[0]
        kind = next((one for one in _KINDS if one == guessed), "video" if where.startswith("job:") else None)
    if kind is None:
        raise InvalidRequest(
            words(
                f"--reference: the name does not tell what {given} is; write image=, video= or audio= before it",
                f"--reference: {given} の種類が名前から分かりません。image=、video=、audio= のいずれかを前に付けてください",
            ),
            param="input_references",
        )
    return {"type": kind, "url": where if _is_url(where) else str(_readable(where, "--reference"))}


def _readable(given: str, option: str) -> Path:
    path = Path(given).expanduser().absolute()
    if path.is_file() and os.access(path, os.R_OK):
        return path
    raise InvalidRequest(
        words(f"{option}: there is no readable file {given}", f"{option}: ファイル {given} を読めません"),
        param="frame_images",
    )


def _data_uri(path: Path) -> str:
    mime = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"


def explained(error: ValidationError) -> InvalidRequest:
    """Everything that is wrong with the request in one line, by the names of the options."""
    items = [
        {**item, "loc": item["loc"][1:] if item["loc"][:1] == ("preferences",) else item["loc"]}
        for item in error.errors(include_input=False, include_url=False)
    ]
    return told(items, names=_OPTION_OF)


def usd(text: str, option: str) -> Decimal:
    """An amount of money as typed; raises InvalidRequest."""
    try:
        value = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise InvalidRequest(
            words(
                f"{option}: {text!r} is no amount in US dollars; write for example 0.50",
                f"{option}: {text!r} は金額(米ドル)として読めません。例: 0.50",
            )
        )
    return value


def _provider_options(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`fal.cfg_scale=0.5` -> {"fal": {"cfg_scale": 0.5}}; what is no JSON is taken as text."""
    options: dict[str, dict[str, Any]] = {}
    for item in given:
        name, equals, text = item.partition("=")
        provider, dot, key = name.partition(".")
        if not (equals and dot and provider and key):
            raise InvalidRequest(
                words(
                    f"--option: {item!r} is not provider.key=value",
                    f"--option: {item!r} は provider.key=value の形ではありません",
                )
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        options.setdefault(provider, {})[key] = value
    return options
