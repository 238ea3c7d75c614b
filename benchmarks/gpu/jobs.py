"""Which rows are measured, in which order, and what each one asks for; taken from our own catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.gpu.configs import MODELS
from benchmarks.gpu.tiny_configs import FRAMES, HEIGHT, STEPS, TEXT_TOKENS, WIDTH
from local_models._forecast import Clip, clip_of
from local_models._messages import Render
from local_models._snap import snap_frames
from router.contract.card import ModelCard
from router.contract.forecast import ClipWish

CARDS_GB = (8, 12, 16, 24)
Way = Literal["ours", "offload", "plain"]
"""Our planner and pipelines; diffusers with `enable_model_cpu_offload`; diffusers with `pipe.to(device)`."""
WAYS: tuple[Way, ...] = ("ours", "offload", "plain")
PROMPT = "a red ball rolls over a wooden table"
TRIAL_STEPS = 4
"""Enough for a median without the first; a model with few steps anyway makes its own number."""
FEW_STEPS = 12


@dataclass(frozen=True)
class Job:
    """One row to measure."""

    card: str
    """Id of the model."""
    way: Way
    card_gb: int
    """Size of the card that the process pretends to have."""
    render: dict[str, Any]
    load: dict[str, Any]
    """Fields of the worker's `Load` that our catalogue knows: pipeline, width, height, frames, steps, passes."""
    passes: int
    """Runs of the transformer per step."""
    steps: int
    """Of a whole clip; `render` has fewer."""
    tiny: bool
    """On the CPU with tiny weights."""
    cache: str

    @property
    def device(self) -> str:
        """Where it runs."""
        return "cpu" if self.tiny else "cuda"

    @property
    def key(self) -> str:
        """What tells this row from the others."""
        return f"{self.card} {self.card_gb} GB {self.way}"


@dataclass(frozen=True)
class Wanted:
    """What to measure."""

    models: Sequence[str] = tuple(model.card for model in MODELS)
    cards_gb: Sequence[int] = CARDS_GB
    ways: Sequence[Way] = WAYS


def jobs(wanted: Wanted, cards: Mapping[str, ModelCard], cache: Path, *, tiny: bool) -> list[Job]:
    """The most useful first: every model on the card it is for, then its other sizes, from the largest down.

    Model by model, as weights of one may have to make room for those of the next.
    """
    chosen = [model for model in MODELS if model.card in wanted.models]
    pairs = [(model.card, model.home_gb) for model in chosen if model.home_gb in wanted.cards_gb]
    pairs += [(model.card, size) for model in chosen for size in sorted(wanted.cards_gb, reverse=True)]
    return [
        _job(cards[model], way, size, cache, tiny)
        for model, size in dict.fromkeys(pairs)
        for way in wanted.ways
    ]


def clip_to_measure(card: ModelCard) -> Clip:
    """A default clip of the model, with few steps: they are all alike."""
    clip = clip_of(card, ClipWish())
    return clip if clip.steps <= FEW_STEPS else replace(clip, steps=TRIAL_STEPS)


def _job(card: ModelCard, way: Way, card_gb: int, cache: Path, tiny: bool) -> Job:
    local, whole, clip = card.local, clip_of(card, ClipWish()), clip_to_measure(card)
    assert local is not None
    render = Render(
        prompt=PROMPT,
        width=clip.width,
        height=clip.height,
        frames=clip.frames,
        fps=clip.fps,
        steps=clip.steps,
        seed=1,
        guidance=local.guidance,
        guidance_2=card.wire.get("guidance_2"),
        negative_prompt=str(card.wire.get("negative_prompt", "")),
        max_sequence_length=local.max_sequence_length,
        flow_shift=local.flow_shift,
        recipe=dict(card.wire.get("recipe", {})),
    )
    if tiny:
        # A recipe names a noise level for every step.
        render = replace(
            render, width=WIDTH, height=HEIGHT, frames=snap_frames(FRAMES, local.frame_rule), steps=STEPS, recipe={},
            max_sequence_length=TEXT_TOKENS,
        )  # fmt: skip
    # As production loads: planned for the clip, not for the largest of the card.
    load = {
        "pipeline": local.pipeline,
        "width": render.width,
        "height": render.height,
        "frames": render.frames,
    }
    load |= {"steps": whole.steps, "passes": whole.passes}
    return Job(card.id, way, card_gb, vars(render), load, whole.passes, whole.steps, tiny, str(cache))
