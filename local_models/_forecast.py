"""How a model would run on a device, said before anything is loaded: plan, peak, seconds, and the nearest thing that fits.

The device is the one of this machine, or one that is only named. Numbers come from the weights where they lie here, else
from the published configurations; seconds from what was measured here, else from a published time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from local_models import _calibration as calibration
from local_models._calibration import CalibrationBroken
from local_models._device import Here, here, old_card
from local_models._forecast_words import (
    basis_words,
    busy_words,
    cpu_words,
    nearest_words,
    no_numbers,
    not_chosen,
    too_small,
    unknown_size,
)
from local_models._memory import CPU_PLAN, DeviceFacts, LoadPlan, ModelNumbers, options, peak_gb, plans
from local_models._parts import numbers_of
from local_models._published import from_weights, packed, published
from local_models._snap import snap_frames
from local_models._speed import VRAM_CARDS, Anchor, card_factor, clip_seconds
from local_models._target import target_of
from local_models._weights import Weights, WeightsBroken, inspect
from router.contract.card import ModelCard
from router.contract.errors import Misfit, UnsupportedRequest
from router.contract.forecast import Basis, Calibration, ClipWish, DeviceWish, Forecast, Measured
from router.contract.length import fit_length
from router.contract.shape import fit_shape, sizes_of
from router.contract.words import Words

CPU_MOST_B = 0.3
"""Billions of parameters up to which the CPU is a place for a model: a clip of the shipped one takes seconds there."""
SHARES = (1.0, 0.75, 0.5, 1 / 3)
"""Of the asked length, tried when looking for what fits."""


@dataclass(frozen=True)
class Clip:
    """One clip of one card, exact."""

    width: int
    height: int
    frames: int
    fps: int
    steps: int
    passes: int


@dataclass(frozen=True)
class Target:
    """The device to plan for, and what a person calls it."""

    facts: DeviceFacts
    label: str
    problem: Words | None = None
    """Why nothing but the smallest models can run there."""
    total_gb: float = 0.0


class Forecaster:
    """Cards, their weights' folders, this machine and what was measured on it."""

    def __init__(
        self,
        cards: Mapping[str, ModelCard],
        directory: Callable[[ModelCard], Path],
        device: str,
        file: Path | None,
        look: Callable[[str], Here] = here,
    ) -> None:
        """`directory` raises WeightsBroken where a model has no folder; `file`: the calibration's, if there is a data folder."""
        self._cards, self._directory, self._device, self._look = cards, directory, device, look
        self._calibration, self._notes = Calibration(), list[Words]()
        if file is not None:
            try:
                self._calibration = calibration.read(file)
            except CalibrationBroken as error:
                self._notes.append(error.message)
        self._weights: dict[str, Weights | None] = {}
        self._damaged: dict[str, Words] = {}

    def forecast(self, card: ModelCard, wish: ClipWish, device: DeviceWish) -> Forecast:
        """The answer to `models plan`. Raises InvalidRequest for an impossible device, UnsupportedRequest for a clip that
        the model does not make, or a model whose numbers nobody knows."""
        return self._forecast(card, clip_of(card, wish), self._target(device), nearest=True)

    def fit(self, device: DeviceWish) -> tuple[Forecast, ...]:
        """Every model at its defaults on each usual memory size; only `ram_gb` and `capability` of `device` count."""
        found = []
        for card in self._known():
            # The shipped one is no model to choose a card for.
            for vram in VRAM_CARDS if not card.demo else ():
                target = self._target(device.model_copy(update={"vram_gb": float(vram), "card": None}))
                found.append(self._forecast(card, clip_of(card, ClipWish()), target, nearest=False))
        return tuple(found)

    def typical_seconds(self) -> dict[str, float]:
        """Seconds of a default clip, of the models that were measured on this machine's device."""
        if not self._calibration.devices:
            return {}
        target = self._target(DeviceWish())
        found = {}
        for card in self._known():
            if calibration.rows_of(self._calibration, target.facts.name, card.id):
                told = self._forecast(card, clip_of(card, ClipWish()), target, nearest=False)
                if told.basis == "measured" and told.seconds is not None:
                    found[card.id] = told.seconds
        return found

    def predicted_peak(self, card: ModelCard, clip: Clip, plan: str, device: DeviceFacts) -> float | None:
        """The uncorrected peak of a plan by its word, None where it is none of ours."""
        model = self._numbers(card, clip)
        if model is None or device.kind == "cpu":
            return None
        known = {option.plan.word: option.plan for option in options(model, replace(device, free_gb=1e6))}
        return peak_gb(model, known[plan]) if plan in known else None

    def smallest_plan(self, card: ModelCard, clip: Clip, device: DeviceFacts) -> LoadPlan | None:
        """The one that needs least, with its uncorrected peak; None on the CPU, or where the model is not known."""
        model = self._numbers(card, clip)
        if model is None or device.kind == "cpu":
            return None
        return min((option.plan for option in options(model, device)), key=lambda plan: plan.peak_gb)

    def peak_factor(self, card: ModelCard, device: str) -> float:
        """What was measured of this model on a device of that name, by what was predicted."""
        return calibration.peak_factor(
            calibration.rows_of(self._calibration, device, card.id),
            calibration.ran_out_of(self._calibration, device, card.id),
        )

    def refusal(self, card: ModelCard, clip: Clip) -> Words | None:
        """Why this machine cannot make the clip, with the nearest thing that it can; None where it should, or where the
        model's numbers are not known."""
        target, model = self._target(DeviceWish()), self._numbers(card, clip)
        if model is None or self._fits(card, clip, target):
            return None
        return self._forecast(card, clip, target, nearest=True).why_not

    # -- one model

    def _forecast(self, card: ModelCard, clip: Clip, target: Target, *, nearest: bool) -> Forecast:
        model = self._numbers(card, clip)
        if model is None:
            raise UnsupportedRequest(self._damaged.get(card.id, no_numbers(card)), param="model")
        facts = target.facts
        model = replace(model, peak_factor=self.peak_factor(card, facts.name))
        plan = plans(model, facts)[0]
        why = self._why_not(card, model, plan, target)
        if why is not None and nearest:
            smaller, others = self._nearest(card, clip, target)
            why = nearest_words(why, smaller, others)
        seconds, basis, row, anchor = self._seconds(card, clip, model, plan, facts)
        return Forecast(
            model=card.id,
            device=target.label,
            width=clip.width,
            height=clip.height,
            frames=clip.frames,
            fps=clip.fps,
            steps=clip.steps,
            fits=why is None,
            why_not=why,
            plan=plan.word,
            dtype=plan.dtype,
            fp8=plan.layerwise_fp8,
            packed=model.quantised,
            offload=plan.offload,
            text_encoder=plan.text_place,
            vae_tiling=plan.vae_tiling,
            tile_cuts=plan.tile_cuts,
            attention=plan.attention,
            peak_gb=plan.peak_gb,
            ram_gb=plan.ram_gb,
            seconds=None if why is not None or seconds is None else round(seconds, 1),
            basis=basis if why is None else "unknown",
            basis_detail=basis_words(basis, facts.name, row, anchor),
            not_chosen=not_chosen(model, plan, facts),
            notes=(*self._notes, *self._about_weights(card), *busy_words(facts, target.total_gb)),
        )

    def _why_not(self, card: ModelCard, model: ModelNumbers, plan: LoadPlan, target: Target) -> Words | None:
        facts = target.facts
        if facts.kind == "cpu":
            small = model.transformer_b * model.experts <= CPU_MOST_B
            return None if small else target.problem or cpu_words(card)
        if target.problem is not None:
            return target.problem
        if any(option.verdict == "chosen" for option in options(model, facts)):
            return None
        return too_small(card, plan, facts)

    def _seconds(
        self, card: ModelCard, clip: Clip, model: ModelNumbers, plan: LoadPlan, facts: DeviceFacts
    ) -> tuple[float | None, Basis, Measured | None, Anchor | None]:
        timed = []
        for row in calibration.rows_of(self._calibration, facts.name, card.id):
            numbers = self._numbers(
                card, replace(clip, width=row.width, height=row.height, frames=row.frames)
            )
            if numbers is not None:
                timed.append((row, numbers))
        found = calibration.measured_seconds(timed, model, plan, facts)
        if found is not None:
            return found[0], "measured", found[1], None
        factor = card_factor(facts.name)
        if facts.kind == "cpu" or factor is None:
            return None, "unknown", None, None
        known = published(card)
        anchor = known.anchor if known else None
        return clip_seconds(model, plan, factor, anchor), "scaled", None, anchor

    def _numbers(self, card: ModelCard, clip: Clip) -> ModelNumbers | None:
        """By the weights where they lie here, else by the published configuration."""
        row, weights = published(card), self._inspected(card)
        size = (clip.width, clip.height, clip.frames)
        if row is None:
            return from_weights(weights, *size, clip.steps, clip.passes) if weights else None
        reckoned = row.numbers(*size, clip.steps, clip.passes)
        if weights is None:
            return packed(card, reckoned)
        lies_here = numbers_of(weights, size, dim=0, ffn=0, tokens=0, per_token_time=False, decoder_base=0)
        return replace(
            reckoned,
            transformer_b=lies_here.transformer_b,
            experts=lies_here.experts,
            text_b=lies_here.text_b,
            vae_b=lies_here.vae_b,
            image_b=lies_here.image_b,
            packed_bytes=lies_here.packed_bytes,
            lora_b=lies_here.lora_b,
        )

    def _inspected(self, card: ModelCard) -> Weights | None:
        if card.id not in self._weights:
            folder: Path | None = None
            try:
                folder = self._directory(card)
                self._weights[card.id] = inspect(folder)
            except WeightsBroken as error:
                self._weights[card.id] = None
                if folder is not None and folder.is_dir():
                    self._damaged[card.id] = error.message
        return self._weights[card.id]

    def _about_weights(self, card: ModelCard) -> tuple[Words, ...]:
        """Weights that lie here and could not be loaded."""
        found = self._damaged.get(card.id)
        return () if found is None else (found,)

    def _known(self) -> Iterable[ModelCard]:
        """The cards that can be reckoned."""
        for card in self._cards.values():
            if card.local is not None and (published(card) or self._inspected(card)):
                yield card

    # -- the device

    def _target(self, wish: DeviceWish) -> Target:
        if wish.vram_gb is not None or wish.card is not None:
            facts = target_of(wish)
            size = f"{wish.vram_gb or facts.free_gb:g} GB"
            label = f"{facts.name}, {size}" if facts.name else size
            return Target(facts, label, old_card(label, facts.capability))
        found = self._look(self._device)
        facts = found.facts if wish.ram_gb is None else replace(found.facts, ram_gb=wish.ram_gb)
        return Target(facts, found.label, found.problem, found.total_gb)

    # -- what fits instead

    def _nearest(
        self, card: ModelCard, clip: Clip, target: Target
    ) -> tuple[Clip | None, tuple[tuple[str, float], ...]]:
        """The largest smaller clip of this model that fits, and other models that do, the larger ones first, each with
        the host memory (GB) that it takes."""
        smaller = next((less for less in _smaller(card, clip) if self._fits(card, less, target)), None)
        others = [
            (numbers.transformer_b * numbers.experts, other.id, plans(numbers, target.facts)[0].ram_gb)
            for other in self._known()
            if other.id != card.id and set(other.tasks) & set(card.tasks)
            for numbers in [self._numbers(other, clip_of(other, ClipWish()))]
            if numbers is not None and self._fits(other, clip_of(other, ClipWish()), target)
        ]
        return smaller, tuple((name, ram) for _, name, ram in sorted(others, reverse=True)[:2])

    def _fits(self, card: ModelCard, clip: Clip, target: Target) -> bool:
        model = self._numbers(card, clip)
        if model is None:
            return False
        model = replace(model, peak_factor=self.peak_factor(card, target.facts.name))
        plan = CPU_PLAN if target.facts.kind == "cpu" else plans(model, target.facts)[0]
        return self._why_not(card, model, plan, target) is None


def clip_of(card: ModelCard, wish: ClipWish) -> Clip:
    """The clip as this card makes it. Raises UnsupportedRequest with everything that does not fit, and what would."""
    misfits: list[Misfit] = []

    def refuse(field: str, reason: Words) -> None:
        misfits.append(Misfit(field=field, reason=reason))

    def warn(_: Words) -> None:
        """A length that is snapped shows in the forecast itself."""

    local = card.local
    if local is None or not card.sizes:
        raise UnsupportedRequest(no_numbers(card), param="model")
    fps = card.fps[0]
    shape = fit_shape(card, wish.resolution, wish.aspect_ratio, None, refuse=refuse, warn=warn)
    seconds = fit_length(card, card.tasks[0], wish.duration, fps, (), refuse=refuse, warn=warn)
    if misfits:
        raise UnsupportedRequest(unknown_size(card, misfits), misfits=misfits)
    return Clip(
        width=shape.width or card.sizes[0].width,
        height=shape.height or card.sizes[0].height,
        frames=snap_frames(seconds * fps, local.frame_rule, local.max_frames),
        fps=fps,
        steps=int(card.wire.get("steps", {}).get(card.qualities[0].value, local.steps)),
        passes=2 if local.guidance > 1 else 1,
    )


def _smaller(card: ModelCard, clip: Clip) -> list[Clip]:
    """Smaller clips of the card, the largest first: shorter ones of the same size, then its smaller sizes."""
    local = card.local
    assert local is not None
    asked = (clip.width, clip.height)
    sizes = {(size.width, size.height) for size in sizes_of(card)} | {asked}
    least = local.frame_rule[0] + local.frame_rule[1]
    frames = {max(least, snap_frames(clip.frames * share, local.frame_rule, clip.frames)) for share in SHARES}
    found = [
        replace(clip, width=width, height=height, frames=count)
        for width, height in sizes
        if width * height <= clip.width * clip.height
        for count in frames
        if (width, height, count) != (clip.width, clip.height, clip.frames)
    ]
    # Of two as large ones the asked size, only shorter.
    return sorted(
        found,
        key=lambda less: (less.width * less.height * less.frames, (less.width, less.height) == asked),
        reverse=True,
    )
