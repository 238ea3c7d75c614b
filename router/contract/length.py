"""How long the clip will be: what was asked among what the model can do, whole frames on our own device; pure."""

from collections.abc import Sequence

from router.contract.card import InputMedia, LocalCard, ModelCard
from router.contract.request import Task
from router.contract.shape import Refuse, Warn
from router.contract.words import Words, words

NEEDS_VIDEO = frozenset({Task.VIDEO_TO_VIDEO, Task.EXTEND, Task.UPSCALE})
LIVES_OFF_INPUT = frozenset({*NEEDS_VIDEO, Task.LIP_SYNC, Task.AVATAR})
"""Tasks that are nothing without their input references; those cannot be left out."""
CHARACTER = "character"
"""Role of a reference that says who is to be seen, not what is worked on."""
EPSILON = 1e-6


def fit_length(
    card: ModelCard,
    task: Task,
    wanted: float | None,
    fps: int | None,
    references: Sequence[InputMedia],
    *,
    refuse: Refuse,
    warn: Warn,
) -> float:
    """Seconds that will really be made; 0.0 where neither card nor input tells."""
    if card.local is not None:
        if not fps:
            raise ValueError(f"{card.id}: a local model needs fps; the catalogue checks this")
        return _whole_frames(card.local, wanted, fps, refuse=refuse, warn=warn) / fps
    if card.duration_range is not None:
        low, high, step = card.duration_range
        default = card.durations[0] if card.durations else low
        if wanted is None:
            return default
        steps = (wanted - low) / step if step > 0 else 0.0
        if low - EPSILON <= wanted <= high + EPSILON and abs(steps - round(steps)) < 1e-4:
            return wanted
        en = f"from {number(low)} to {number(high)} s in steps of {number(step)}"
        _refuse(refuse, wanted, words(en, f"{number(low)}～{number(high)} 秒({number(step)} 秒刻み)"))
        return default
    if card.durations:
        if wanted is None:
            return card.durations[0]
        same = [length for length in card.durations if abs(length - wanted) < EPSILON]
        if not same:
            listed = [number(length) for length in card.durations]
            _refuse(refuse, wanted, words(f"{', '.join(listed)} s", f"{'、'.join(listed)} 秒"))
        return same[0] if same else card.durations[0]
    length = _given(card, task, references)
    if wanted is not None and abs(wanted - length) > 0.05:
        en, ja = (f" ({number(length)} s)", f"({number(length)} 秒)") if length else ("", "")
        _refuse(
            refuse,
            wanted,
            words(
                f"only the length this model gives it{en}; leave duration out",
                f"モデルが決める長さ{ja}のみ。duration を省略してください",
            ),
        )
    return length


def _refuse(refuse: Refuse, wanted: float, possible: Words) -> None:
    refuse(
        "duration",
        words(
            f"{number(wanted)} s is not possible; possible: {possible.en}",
            f"{number(wanted)} 秒には対応していません。指定できる値: {possible.ja}",
        ),
    )


def _given(card: ModelCard, task: Task, references: Sequence[InputMedia]) -> float:
    """The model's own fixed length (`wire.fixed_duration`), else that of the input it works on."""
    fixed = card.wire.get("fixed_duration")
    if isinstance(fixed, int | float) and fixed > 0:
        return float(fixed)
    if task not in LIVES_OFF_INPUT:
        return 0.0
    # A talking picture lasts as long as its speech; new lips on a clip leave the clip its length, and its bill.
    kinds = ("audio", "video") if task is Task.AVATAR else ("video", "audio")
    worked_on = [media for media in reversed(references) if media.role != CHARACTER]
    lengths = {media.type: media.asset.duration_s for media in worked_on if media.asset.duration_s}
    return next((lengths[kind] or 0.0 for kind in kinds if kind in lengths), 0.0)


def _whole_frames(local: LocalCard, wanted: float | None, fps: int, *, refuse: Refuse, warn: Warn) -> int:
    """The nearest number of frames that the model's rule allows."""
    if wanted is None:
        return local.native_frames
    multiple, rest = local.frame_rule
    most = max(rest, (local.max_frames - rest) // multiple * multiple + rest)
    if wanted * fps > most + 0.5:
        longest = number(most / fps)
        _refuse(refuse, wanted, words(f"at most {longest} s at {fps} fps", f"最長 {longest} 秒({fps} fps)"))
        return local.native_frames
    nearest = int(max(0.0, wanted * fps - rest) / multiple + 0.5) * multiple + rest
    frames = min(most, max(multiple + rest, nearest))
    if abs(frames / fps - wanted) >= 0.1:
        made = number(frames / fps)
        warn(
            words(
                f"The clip lasts {made} s instead of {number(wanted)} s: this model makes {frames} frames.",
                f"動画の長さは {number(wanted)} 秒ではなく {made} 秒({frames} フレーム)になります。",
            )
        )
    return frames


def number(value: float) -> str:
    """As people write it: `5`, `2.125`."""
    return f"{round(value, 3):g}"
