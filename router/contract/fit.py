"""Fits a request to one model: every field decided, or every misfit listed at once. Pure."""

from collections.abc import Mapping
from typing import Any, Literal

from router.contract.card import InputKey, InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import Misfit, UnsupportedRequest
from router.contract.language import NAMES, reads, written_in
from router.contract.length import LIVES_OFF_INPUT, NEEDS_VIDEO, fit_length, number
from router.contract.movement import fit_camera
from router.contract.request import FrameType, Quality, Task, VideoRequest
from router.contract.shape import fit_shape
from router.contract.words import Words, words

NO_FRAMES = frozenset({Task.EXTEND, Task.UPSCALE, Task.TEXT_TO_IMAGE})


def fit(
    request: VideoRequest, card: ModelCard, *, seed: int, inputs: Mapping[InputKey, InputMedia]
) -> ResolvedRequest:
    """The request as this model will make it; raises UnsupportedRequest with every misfit of this card.

    `seed` is used where the caller gave none and the model takes one. `inputs` holds each frame (by its type) and
    each reference (by its index) already taken into the media store; a missing one is a KeyError, a mistake of ours.
    `duration` of the result is what will really be made, 0.0 where neither card nor input tells.
    """
    fitting = _Fitting(request, card, inputs)
    resolved = fitting.resolve(seed)
    if not fitting.misfits:
        fitting.check_together(resolved)
    if fitting.misfits:
        en = "; ".join(misfit.reason.en for misfit in fitting.misfits)
        ja = "。".join(misfit.reason.ja for misfit in fitting.misfits)
        raise UnsupportedRequest(
            words(f"{card.id} cannot make this: {en}.", f"{card.id} では対応できません: {ja}。"),
            misfits=fitting.misfits,
        )
    return resolved


class _Fitting:
    """One request on its way to one card; collects what does not fit and what was changed."""

    def __init__(self, request: VideoRequest, card: ModelCard, inputs: Mapping[InputKey, InputMedia]) -> None:
        self.request = request
        self.card = card
        self.task = request.effective_task
        self.first = inputs[FrameType.FIRST] if request.frame(FrameType.FIRST) else None
        self.last = inputs[FrameType.LAST] if request.frame(FrameType.LAST) else None
        self.given = tuple(inputs[index] for index in range(len(request.input_references)))
        self.misfits: list[Misfit] = []
        self.warnings: list[Words] = []

    def resolve(self, seed: int) -> ResolvedRequest:
        """Every field in turn; a misfit that may be dropped leaves the model's default and a warning."""
        request, card = self.request, self.card
        self._task()
        self._prompt()
        first, last = self._frames()
        image = first or last
        shape = fit_shape(
            card,
            request.resolution,
            request.aspect_ratio,
            image.asset if image else None,
            refuse=self.refuse,
            warn=self.warnings.append,
        )
        fps = self._fps()
        references = self._references()
        self._needs(first, last, references)
        return ResolvedRequest(
            model=card.id,
            backend=card.backend,
            wire_id=card.wire_id,
            task=self.task,
            prompt="" if card.prompt_max == 0 else request.prompt,
            negative_prompt=self._negative_prompt(),
            first_frame=first,
            last_frame=last,
            references=references,
            duration=fit_length(
                card,
                self.task,
                request.duration,
                fps,
                references,
                refuse=self.refuse,
                warn=self.warnings.append,
            ),
            resolution=shape.resolution,
            aspect_ratio=shape.aspect_ratio,
            width=shape.width,
            height=shape.height,
            fps=fps,
            seed=self._seed(seed),
            guidance=self._guidance(),
            quality=self._quality(),
            camera=fit_camera(card, request.camera, refuse=self.refuse),
            generate_audio=self._audio(),
            effect=self._effect(),
            options=self._options(),
            warnings=tuple(self.warnings),
        )

    def refuse(self, field: str, reason: Words, droppable: bool = True) -> None:
        """Note a misfit, or, where the caller allows leaving the field out, a warning."""
        if droppable and self.request.preferences.may_drop(field):
            self.warnings.append(
                words(
                    f"{field} was left out: {reason.en}.",
                    f"{field} の指定は使われませんでした: {reason.ja}。",
                )
            )
        else:
            self.misfits.append(Misfit(field=field, reason=reason, droppable=droppable))

    def _task(self) -> None:
        card = self.card
        if self.task not in card.tasks:
            can = ", ".join(card.tasks)
            self.refuse(
                "task",
                words(
                    f"{self.task} is not possible; this model does: {can}",
                    f"{self.task} には対応していません。このモデルでできること: {can}",
                ),
                droppable=False,
            )

    def _prompt(self) -> None:
        card, prompt = self.card, self.request.prompt
        if card.prompt_required and not prompt:
            self.refuse(
                "prompt",
                words(
                    "this model needs a prompt; describe the clip",
                    "プロンプトが必要です。動画の内容を記述してください",
                ),
                droppable=False,
            )
        length = prompt_length(prompt, card)
        if card.prompt_max == 0 and prompt:
            self.refuse(
                "prompt",
                words(
                    "this model takes no prompt; leave it empty",
                    "このモデルにプロンプトは使えません。空にしてください",
                ),
            )
        elif card.prompt_max is not None and length > card.prompt_max:
            unit_en, unit_ja = _UNITS[card.prompt_unit]
            self.refuse(
                "prompt",
                words(
                    f"the prompt has {length} {unit_en}, this model takes at most {card.prompt_max}; shorten it",
                    f"プロンプトは {length} {unit_ja}ですが、上限は {card.prompt_max} {unit_ja}です。短くしてください",
                ),
                droppable=False,
            )
        language = self.request.prompt_language
        script = None if language else written_in(self.request.prompt)
        if script and not reads(card.languages, script):
            name = NAMES[script]
            self.refuse(
                "prompt",
                words(
                    f"it does not read {name.en}; write the prompt in English, or use a model that reads {name.en}",
                    f"{name.ja}のプロンプトを理解できません。英語で書くか、{name.ja}を理解できるモデルを使ってください",
                ),
                droppable=False,
            )
        known = {tag.lower().split("-")[0] for tag in card.languages}
        if language and known and language.lower().split("-")[0] not in known:
            spoken = ", ".join(card.languages)
            self.refuse(
                "prompt_language",
                words(
                    f"prompts in {language} are not understood; understood: {spoken}",
                    f"言語 {language} のプロンプトは理解できません。対応言語: {spoken}",
                ),
            )

    def _frames(self) -> tuple[InputMedia | None, InputMedia | None]:
        card, first, last = self.card, self.first, self.last
        goes_on_to = self.task is Task.EXTEND and card.last_frame and first is None
        if (first or last) and self.task in NO_FRAMES and not goes_on_to:
            self.refuse(
                "frame_images",
                words(
                    f"{self.task} takes no frame images; leave frame_images out",
                    f"{self.task} ではフレーム画像を使えません。frame_images を省略してください",
                ),
            )
            return None, None
        if last and not card.last_frame:
            self.refuse(
                "last_frame",
                words(
                    "this model takes no last frame; give a first frame only",
                    "終了フレームには対応していません。開始フレームだけを指定してください",
                ),
                droppable=first is not None,
            )
            last = None
        elif last and first is None and not card.last_frame_alone and not goes_on_to:
            self.refuse(
                "last_frame",
                words(
                    "a last frame works only together with a first frame; add one",
                    "終了フレームだけでは生成できません。開始フレームも指定してください",
                ),
                droppable=False,
            )
        return first, last

    def _references(self) -> tuple[InputMedia, ...]:
        kept: set[int] = set()
        for kind, (name_en, name_ja) in _KINDS.items():
            given = [index for index, media in enumerate(self.given) if media.type == kind]
            count, most = len(given), self.card.references.get(kind, 0)
            kept.update(given[:most])
            if count > most:
                self.refuse(
                    "input_references",
                    words(
                        f"{count} {name_en} references were given, this model takes at most {most}"
                        if most
                        else f"this model takes no {name_en} references; leave them out",
                        f"参照{name_ja}が {count} 件ありますが、上限は {most} 件です"
                        if most
                        else f"参照{name_ja}には対応していません。省略してください",
                    ),
                    droppable=self.task not in LIVES_OFF_INPUT,
                )
        if self.task in NEEDS_VIDEO and not any(media.type == "video" for media in self.given):
            self.refuse(
                "input_references",
                words(
                    f"{self.task} needs the video to work on as an input reference",
                    f"{self.task} には対象の動画が必要です。input_references に指定してください",
                ),
                droppable=False,
            )
        return tuple(media for index, media in enumerate(self.given) if index in kept)

    def _needs(
        self, first: InputMedia | None, last: InputMedia | None, references: tuple[InputMedia, ...]
    ) -> None:
        """What this model cannot do without, and whose clip it can go on from."""
        card = self.card
        present = {media.type for media in references}
        for need in card.needs:
            there = {"first_frame": first is not None, "last_frame": last is not None}.get(
                need, need in present
            )
            if not there:
                name_en, name_ja = _NEEDS[need]
                field = "frame_images" if need.endswith("_frame") else "input_references"
                self.refuse(
                    field,
                    words(
                        f"this model needs {name_en}; add it to {field}",
                        f"このモデルには{name_ja}が必要です。{field} に指定してください",
                    ),
                    droppable=False,
                )
        videos = [media for media in references if media.type == "video"]
        if card.own_source and any(media.source_backend != card.backend for media in videos):
            self.refuse(
                "input_references",
                words(
                    f"only an earlier clip made by {card.backend} can be used, as job:<id>; this video is not one",
                    f"{card.backend} で以前に生成した動画だけが使えます(job:<id> で指定)。この動画は対象外です",
                ),
                droppable=False,
            )

    def check_together(self, resolved: ResolvedRequest) -> None:
        """Combinations that the card lists as impossible; told about the field that the caller chose."""
        for when in self.card.impossible:
            if not resolved.holds(when):
                continue
            chosen = [key for key in when if getattr(self.request, _FIELD.get(key, key), None)]
            said = ", ".join(f"{key} = {_shown(resolved.condition(key))}" for key in when)
            self.refuse(
                _FIELD.get(chosen[0], chosen[0]) if chosen else next(iter(when)),
                words(
                    f"this combination is not possible: {said}; change one of them",
                    f"この組み合わせには対応していません: {said}。いずれかを変更してください",
                ),
                droppable=False,
            )

    def _fps(self) -> int | None:
        card, wanted = self.card, self.request.fps
        if wanted is None or wanted in card.fps:
            return wanted or (card.fps[0] if card.fps else None)
        possible = ", ".join(map(str, card.fps))
        self.refuse(
            "fps",
            words(
                f"{wanted} frames per second is not possible; possible: {possible}",
                f"{wanted} fps には対応していません。指定できる値: {possible}",
            )
            if possible
            else words(
                "the frame rate cannot be chosen; leave fps out",
                "フレームレートは選べません。fps を省略してください",
            ),
        )
        return card.fps[0] if card.fps else None

    def _negative_prompt(self) -> str | None:
        wanted = self.request.negative_prompt or None
        if wanted is not None and not self.card.negative_prompt:
            self.refuse(
                "negative_prompt",
                words(
                    "this model takes no negative prompt; say in the prompt what shall be seen",
                    "ネガティブプロンプトには対応していません。見せたいものをプロンプトに書いてください",
                ),
            )
            return None
        return wanted

    def _seed(self, drawn: int) -> int | None:
        if self.card.seed:
            return drawn if self.request.seed is None else self.request.seed
        if self.request.seed is not None:
            self.refuse(
                "seed",
                words(
                    "this model takes no seed, the clip cannot be made again; leave seed out",
                    "シードには対応していないため、同じ動画を再現できません。seed を省略してください",
                ),
            )
        return None

    def _guidance(self) -> float | None:
        wanted = self.request.guidance
        if wanted is not None and self.card.guidance:
            return wanted
        if wanted is not None:
            self.refuse(
                "guidance",
                words(
                    "guidance cannot be set; leave it out",
                    "ガイダンス値は指定できません。guidance を省略してください",
                ),
            )
        return self.card.local.guidance if self.card.local else None

    def _quality(self) -> Quality:
        wanted, possible = self.request.quality, self.card.qualities
        if wanted is None or wanted in possible:
            return wanted or possible[0]
        self.refuse(
            "quality",
            words(
                f"quality {wanted} is not possible; possible: {', '.join(possible)}",
                f"品質 {wanted} には対応していません。指定できる値: {'、'.join(possible)}",
            ),
        )
        return possible[0]

    def _audio(self) -> bool:
        card, wanted = self.card, self.request.generate_audio
        if card.audio == "optional":
            return card.audio_default if wanted is None else wanted
        always = card.audio == "always"
        if wanted is not None and wanted is not always:
            self.refuse(
                "generate_audio",
                words(
                    "this model always makes sound; leave generate_audio out",
                    "このモデルは必ず音声付きで生成します。generate_audio を省略してください",
                )
                if always
                else words(
                    "this model makes no sound; leave generate_audio out",
                    "音声の生成には対応していません。generate_audio を省略してください",
                ),
            )
        return always

    def _effect(self) -> str | None:
        wanted, known = self.request.effect, self.card.effects
        if wanted and known and wanted not in known and self.task in self.card.tasks:
            self.refuse(
                "effect",
                words(
                    f"there is no effect {wanted}; there are: {', '.join(known)}",
                    f"エフェクト {wanted} はありません。使えるもの: {'、'.join(known)}",
                ),
                droppable=False,
            )
        return wanted

    def _options(self) -> dict[str, Any]:
        """Options for other providers are addressed elsewhere; only ours are checked and taken."""
        card = self.card
        given = self.request.provider_options.get(card.backend, {})
        for key in sorted(set(given) - set(card.options)):
            listed = ", ".join(card.options)
            self.refuse(
                f"provider_options.{card.backend}.{key}",
                words(
                    f"unknown option {key!r}; known: {listed}",
                    f"オプション {key!r} は存在しません。使えるもの: {listed}",
                )
                if listed
                else words(
                    f"unknown option {key!r}; this model takes none",
                    f"オプション {key!r} は存在しません。このモデルにはオプションがありません",
                ),
                droppable=False,
            )
        return {key: value for key, value in given.items() if key in card.options}


_NEEDS = {
    "first_frame": ("a first frame", "開始フレーム"),
    "last_frame": ("a last frame", "終了フレーム"),
    "image": ("a reference image", "参照画像"),
    "video": ("a video", "動画"),
    "audio": ("an audio file", "音声ファイル"),
}
_FIELD = {
    "audio": "generate_audio",
    "has_image": "frame_images",
    "has_last_frame": "frame_images",
    "has_video": "input_references",
    "has_references": "input_references",
    "has_camera": "camera",
}
"""The request field behind a condition, where it has another name."""


def _shown(value: Any) -> str:
    return (
        number(value)
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


_UNITS = {
    "characters": ("characters", "文字"),
    "utf16": ("UTF-16 units", "UTF-16 単位"),
    "bytes": ("bytes", "バイト"),
}
_KINDS: dict[Literal["image", "video", "audio"], tuple[str, str]] = {
    "image": ("image", "画像"),
    "video": ("video", "動画"),
    "audio": ("audio", "音声"),
}


def prompt_length(prompt: str, card: ModelCard) -> int:
    """How long a prompt is in the card's own unit."""
    match card.prompt_unit:
        case "bytes":
            return len(prompt.encode())
        case "utf16":
            return len(prompt.encode("utf-16-le")) // 2
        case _:
            return len(prompt)
