"""The form's values <-> the shared request; what the form offers follows the models that can run."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from pydantic import ValidationError

from router.contract.card import ModelCard
from router.contract.errors import InvalidRequest
from router.contract.job import Job
from router.contract.refusals import complaint
from router.contract.request import CAMERA_PRESETS, FrameType, Mode, Quality, Task, VideoRequest
from router.contract.words import Words, words
from router.gateway import ModelRow
from ui import finishing
from ui.finishing import Finishing
from ui.names import Names
from ui.text import LANGS, Text

AUTO = "auto"
"""The choice that leaves a field to the model, the server or the router."""
DEADLINES = ("5m", "15m", "1h", "8h", "24h")
_OFFERED = {Task.TEXT_TO_VIDEO, Task.IMAGE_TO_VIDEO}
_LABELS = {
    "prompt": "prompt",
    "negative_prompt": "negative",
    "frame_images": "first_frame",
    "duration": "duration",
    "resolution": "resolution",
    "aspect_ratio": "aspect",
    "seed": "seed",
    "max_usd": "max_usd",
    "deadline": "deadline",
    "model": "model",
    "camera": "camera",
    "fps": "post_fps",
    "factor": "post_upscale",
    "at": "post_poster",
    "post": "finishing",
}
_ON_FORM = {
    "task",
    "prompt",
    "negative_prompt",
    "model",
    "frame_images",
    "duration",
    "resolution",
    "aspect_ratio",
    "seed",
    "quality",
    "camera",
    "generate_audio",
    "preferences",
    "project",
    "prompt_language",
    "post",
}
_PREFERENCES_ON_FORM = {"mode", "max_usd", "deadline", "allow_drop"}

Choices = list[tuple[str, str]]


@dataclass(frozen=True)
class Form:
    """What the fields hold, in the order in which the page passes them; `AUTO` or empty means absent."""

    prompt: str = ""
    model: str = AUTO
    quality: str = AUTO
    duration: str = AUTO
    resolution: str = AUTO
    aspect: str = AUTO
    mode: str = AUTO
    negative: str = ""
    camera: str = AUTO
    audio: str = AUTO
    seed: str = ""
    max_usd: str = ""
    deadline: str = AUTO
    allow_drop: bool = False
    post_fps: str = AUTO
    post_upscale: str = AUTO
    post_loop: str = AUTO
    post_preview: str = AUTO
    post_poster: str = ""

    @property
    def finishing(self) -> Finishing:
        """What is to be done to the finished clip."""
        at = _plain(self.post_poster)
        return Finishing(self.post_fps, self.post_upscale, self.post_loop, self.post_preview, at)

    def request(self, first: str | None = None, last: str | None = None) -> VideoRequest:
        """Raises InvalidRequest whose message names the field as the page does. `first`, `last`: media references."""
        if not (self.prompt or "").strip() and first is None and last is None:
            raise InvalidRequest(both("e_prompt_empty"), param="prompt")
        images = [{"frame_type": kind, "url": url} for kind, url in _frames(first, last) if url is not None]
        body = {
            "prompt": self.prompt or "",
            "negative_prompt": (self.negative or "").strip() or None,
            "model": _given(self.model),
            "frame_images": images,
            "duration": _given(self.duration),
            "resolution": _given(self.resolution),
            "aspect_ratio": _given(self.aspect),
            "seed": _seed(self.seed),
            "quality": _given(self.quality),
            "camera": _given(self.camera),
            "generate_audio": {"on": True, "off": False}.get(self.audio),
            "post": self.finishing.steps(),
            "preferences": {
                "mode": _given(self.mode),
                "max_usd": _amount(self.max_usd),
                "deadline": _given(self.deadline),
                "allow_drop": bool(self.allow_drop),
            },
        }
        try:
            return VideoRequest.model_validate(body)
        except ValidationError as error:
            raise InvalidRequest(_explain(error)) from None

    def for_preview(self) -> "Form":
        """The same with words in place of an empty prompt: the price is shown before anything is written."""
        return self if (self.prompt or "").strip() else replace(self, prompt="…")


def _frames(first: str | None, last: str | None) -> tuple[tuple[FrameType, str | None], ...]:
    return (FrameType.FIRST, first), (FrameType.LAST, last)


def both(key: str, **values: object) -> Words:
    """A text of our catalogues in both languages."""
    texts = {lang: Text(lang)(key, **values) for lang in LANGS}
    return words(texts["en"], texts["ja"])


def _given(value: str | None) -> str | None:
    return None if value in (None, "", AUTO) else value


def _plain(value: str | None) -> str:
    """Full-width digits and signs, as a Japanese keyboard writes them, become plain ones."""
    return unicodedata.normalize("NFKC", value or "").strip()


def _seed(value: str | None) -> int | None:
    plain = _plain(value)
    if not plain:
        return None
    if not re.fullmatch(r"\d{1,10}", plain) or int(plain) > 2**32 - 1:
        raise InvalidRequest(both("e_seed"), param="seed")
    return int(plain)


def _amount(value: str | None) -> Decimal | None:
    plain = _plain(value).removeprefix("$").replace(",", "").strip()
    if not plain:
        return None
    try:
        amount = Decimal(plain)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise InvalidRequest(both("e_max_usd"), param="max_usd")
    return amount


def _explain(error: ValidationError) -> Words:
    """Every finding of the schema, each with the page's own name of its field."""
    sentences = [_finding(item) for item in error.errors(include_url=False, include_input=False)]
    return words("\n".join(one.en for one in sentences), "\n".join(one.ja for one in sentences))


def _finding(item: object) -> Words:
    assert isinstance(item, dict)
    path = [str(part) for part in item["loc"] if isinstance(part, str)]
    field = next((part for part in reversed(path) if part in _LABELS), None)
    labels = {lang: Text(lang)(_LABELS[field]) if field else ".".join(path) for lang in LANGS}
    limit = (item.get("ctx") or {}).get("max_length")
    if item["type"] == "string_too_long":
        made = {lang: Text(lang)("e_too_long", field=labels[lang], limit=f"{limit:,}") for lang in LANGS}
    else:
        _, said = complaint(item)
        made = {
            lang: Text(lang)("e_field", field=labels[lang], message=said.in_(lang))
            if labels[lang]
            else said.in_(lang)
            for lang in LANGS
        }
    return words(made["en"], made["ja"])


# -- what the form offers


def offered(rows: Iterable[ModelRow]) -> tuple[ModelCard, ...]:
    """Cards of models that can run now and do what the form asks for."""
    return tuple(row.card for row in rows if row.available and _OFFERED & set(row.card.tasks))


def model_choices(cards: Sequence[ModelCard], names: Names, text: Text) -> Choices:
    """Any, then families that several backends sell, then each model with its backend's name."""
    families = [card.family for card in cards]
    shared = sorted({family for family in families if families.count(family) > 1})
    return [
        (text("model_any"), AUTO),
        *((text("model_family", family=family), family) for family in shared),
        *((f"{names.model(card.id)} · {names.backend(card.backend)}", card.id) for card in cards),
    ]


def _meant(cards: Sequence[ModelCard], model: str) -> Sequence[ModelCard]:
    return [card for card in cards if model in (card.id, card.family)] or cards


def field_choices(cards: Sequence[ModelCard], model: str, text: Text) -> dict[str, Choices]:
    """What `duration`, `resolution` and `aspect` can be for that model, or for any."""
    meant = _meant(cards, model)
    default = [(text("default"), AUTO)]
    durations = sorted({length for card in meant for length in _durations(card)})
    resolutions = sorted({name for card in meant for name in card.resolutions}, key=_lines)
    aspects = sorted(
        {name for card in meant for name in card.aspect_ratios if ":" in name}, key=_width, reverse=True
    )
    return {
        "duration": default + [(text("s_seconds", s=f"{length:g}"), f"{length:g}") for length in durations],
        "resolution": default + [(name, name) for name in resolutions],
        "aspect": default + [(name, name) for name in aspects],
    }


def _durations(card: ModelCard) -> Iterable[float]:
    yield from card.durations
    if card.duration_range:
        shortest, longest, step = card.duration_range
        count = int((longest - shortest) / step) + 1
        stride = max(1, round(1 / step)) if count > 30 else 1
        yield from (round(shortest + step * number, 3) for number in range(0, count, stride))


def _lines(resolution: str) -> tuple[int, str]:
    """Sorts `480p`, `720p`, `4k`, `640x360` by their lines."""
    if found := re.fullmatch(r"(\d+)k", resolution):
        return int(found[1]) * 540, resolution
    numbers = [int(number) for number in re.findall(r"\d+", resolution)]
    return (min(numbers) if numbers else 0), resolution


def _width(aspect: str) -> float:
    across, _, down = aspect.partition(":")
    return int(across) / int(down) if across.isdigit() and down.isdigit() and int(down) else 0.0


# -- back into the form


@dataclass(frozen=True)
class Restored:
    """A job's settings as the form shows them."""

    form: Form
    first: str | None
    last: str | None
    left_out: tuple[str, ...]
    """Names of fields of the request that the form cannot show."""


def restore(job: Job) -> Restored:
    """The settings of an earlier job, its drawn seed included, so that the same clip can be made again."""
    request = job.request
    camera = AUTO
    if request.camera:
        camera = request.camera.preset or f"{request.camera.axis}={request.camera.value:g}"
    wants = request.preferences
    finish = finishing.shown(request.post)
    done = finish or Finishing()
    form = Form(
        prompt=request.prompt,
        model=request.model or AUTO,
        quality=request.quality.value if request.quality else AUTO,
        duration=f"{request.duration:g}" if request.duration else AUTO,
        resolution=request.resolution or AUTO,
        aspect=request.aspect_ratio or AUTO,
        mode=wants.mode.value if wants.mode else AUTO,
        negative=request.negative_prompt or "",
        camera=camera,
        audio=AUTO if request.generate_audio is None else ("on" if request.generate_audio else "off"),
        seed=str(job.seed),
        max_usd=f"{wants.max_usd:f}" if wants.max_usd is not None else "",
        allow_drop=bool(wants.allow_drop),
        post_fps=done.fps,
        post_upscale=done.upscale,
        post_loop=done.loop,
        post_preview=done.preview,
        post_poster=done.poster,
    )
    first, last = request.frame(FrameType.FIRST), request.frame(FrameType.LAST)
    blank = VideoRequest(prompt="…")
    left_out = [name for name in VideoRequest.model_fields if name not in _ON_FORM]
    hidden = [name for name in left_out if getattr(request, name) != getattr(blank, name)]
    hidden += [
        f"preferences.{name}"
        for name in type(wants).model_fields
        if name not in _PREFERENCES_ON_FORM and getattr(wants, name) != getattr(blank.preferences, name)
    ]
    if finish is None:
        hidden.append("post")
    if wants.deadline:
        hidden.append("preferences.deadline")
    return Restored(form, first.url if first else None, last.url if last else None, tuple(hidden))


def with_value(choices: Choices, value: str) -> Choices:
    """The choices and, where a restored value is none of them, that value too."""
    return choices if any(value == known for _, known in choices) else [*choices, (value, value)]


MODES = tuple(Mode)
QUALITIES = tuple(Quality)
CAMERAS = CAMERA_PRESETS
