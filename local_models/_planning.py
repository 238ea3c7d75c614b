"""What the local backend says beforehand, and measures: the `Plans` half of `Local`."""

import asyncio
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from PIL import Image

from local_models import _calibration as calibration
from local_models._calibration import CalibrationBroken
from local_models._device import Here, here
from local_models._forecast import Clip, Forecaster, clip_of
from local_models._forecast_words import busy_words
from local_models._messages import Render
from local_models._snap import snap_frames
from router.contract.backend import Backend, BackendConfig, Completed
from router.contract.card import Asset, InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import GatewayError, GenerationFailed, NotFound, OutOfMemory, ServerTrouble
from router.contract.forecast import (
    CalibratedDevice,
    Calibration,
    ClipWish,
    DeviceWish,
    Forecast,
    Measured,
    RanOut,
)
from router.contract.request import Task
from router.contract.words import Words, words

PROMPT = "a red ball rolls over a wooden table"
TRIAL_STEPS = 4
"""Enough for a median without the first; a model with few steps anyway makes its own number."""
FEW_STEPS = 12
POLL_S = 0.2
REFUSED_FROM = 1.15
"""Times the whole card's memory; predictions are meant to be right within 15 %."""


class Planning:
    """Mixed into `Local`: needs its configuration and where its models' weights lie."""

    _config: BackendConfig

    @abstractmethod
    def directory(self, card: ModelCard) -> Path:
        """Raises WeightsBroken where nobody has said."""

    @abstractmethod
    def problem(self, card: ModelCard) -> Words | None:
        """Why this model cannot run here."""

    async def plan_load(self, model: str, clip: ClipWish, device: DeviceWish) -> Forecast:
        """Raises NotFound for an unknown model, InvalidRequest for an impossible device, UnsupportedRequest for a clip that
        the model does not make."""
        card = self._card(model)
        return await asyncio.to_thread(lambda: self.forecaster().forecast(card, clip, device))

    async def fit_cards(self, device: DeviceWish) -> tuple[Forecast, ...]:
        """Every model that can be reckoned, on 8, 12, 16 and 24 GB."""
        return await asyncio.to_thread(lambda: self.forecaster().fit(device))

    async def typical_seconds(self) -> Mapping[str, float]:
        """Seconds of a default clip, of the models measured on this device."""
        return await asyncio.to_thread(lambda: self.forecaster().typical_seconds())

    async def calibrate(self, models: Sequence[str], told: Callable[[Words], None]) -> CalibratedDevice:
        """Make a few clips of each model in a model process of its own, and write what they took into the data folder.

        No names: every model whose weights are here. `told` hears of each clip, and why a model cannot be measured as soon
        as that is known: before all else where its weights are missing. It is listed in the result too. Raises
        ServerTrouble where the device is unusable or the file cannot be written.
        """
        cards = [self._card(model) for model in models] or [
            card for card in self._config.cards.values() if card.local and self.problem(card) is None
        ]
        failed: dict[str, Words] = {}
        for card in cards if models else ():
            why = await asyncio.to_thread(self.problem, card)
            if why is not None:
                failed[card.id] = why
                told(_of(card, why))
        device = await asyncio.to_thread(here, self._device_name)
        if device.problem is not None and device.facts.kind == "cuda":
            raise ServerTrouble(device.problem)
        for note in busy_words(device.facts, device.total_gb):
            told(note)
        found = await self._measure([card for card in cards if card.id not in failed], device, told)
        found = found.model_copy(update={"failed": {**failed, **found.failed}})
        if (file := self._file) is not None:
            await asyncio.to_thread(_write, file, found)
        return found

    def forecaster(self, look: Callable[[str], Here] = here) -> Forecaster:
        """With what is measured now."""
        return Forecaster(self._config.cards, self.directory, self._device_name, self._file, look)

    async def _peak_factor(self, card: ModelCard) -> float:
        """What was measured of this model on this device, by what is predicted; looks at the device only if there is a
        calibration."""
        if self._file is None or not self._file.exists():
            return 1.0

        def look() -> float:
            return self.forecaster().peak_factor(card, self._machine.facts.name)

        return await asyncio.to_thread(look)

    async def _refusal(self, card: ModelCard, render: Render) -> GatewayError | None:
        """Why this machine cannot make the clip, before it is queued. None on a CPU that the settings ask for.

        Only what lies clearly above the whole card is refused: a prediction may be off by REFUSED_FROM.
        """
        if self._device_name == "cpu":
            return None
        clip = Clip(
            *(render.width, render.height, render.frames, render.fps, render.steps),
            passes=2 if render.guidance > 1 else 1,
        )

        def look() -> tuple[Words | None, Here]:
            found = self._machine
            # What other programs hold may be free again when the job's turn comes; host memory may be swapped.
            facts = replace(found.facts, free_gb=found.total_gb * REFUSED_FROM, ram_gb=None)
            seen = replace(found, facts=facts, total_gb=0.0)
            return self.forecaster(lambda _: seen).refusal(card, clip), found

        why, found = await asyncio.to_thread(look)
        if why is None:
            return None
        kind = OutOfMemory if found.facts.kind == "cuda" and found.problem is None else GenerationFailed
        return kind(why, backend=self._config.name, billed_usd=Decimal(0))

    @cached_property
    def _machine(self) -> Here:
        """Looked at once: what does not change while a process lives, so not its free memory."""
        return here(self._device_name)

    @property
    def _device_name(self) -> str:
        return str(self._config.options.get("device", "auto"))

    @property
    def _file(self) -> Path | None:
        home = self._config.options.get("home")
        return Path(str(home)) / calibration.FILE if home else None

    def _card(self, model: str) -> ModelCard:
        card = self._config.cards.get(model)
        if card is None or card.local is None:
            known = ", ".join(card.id for card in self._config.cards.values() if card.local)
            raise NotFound(
                words(
                    f"there is no local model {model!r}. Known: {known}",
                    f"ローカルモデル {model!r} はありません。使えるもの: {known}",
                ),
                param="model",
            )
        return card

    # -- measuring

    async def _measure(
        self, cards: Sequence[ModelCard], device: Here, told: Callable[[Words], None]
    ) -> CalibratedDevice:
        rows: list[Measured] = []
        ran_out: list[RanOut] = []
        failed: dict[str, Words] = {}
        scratch = Path(tempfile.mkdtemp(prefix="calibrate-", dir=_made(self._config.scratch)))
        bench = self._bench(scratch)
        try:
            for card in cards:
                try:
                    for clip in trial_clips(card):
                        told(
                            words(
                                f"{card.id}: {clip.width}x{clip.height}, {clip.frames} frames",
                                f"{card.id}: {clip.width}x{clip.height}、{clip.frames} フレーム",
                            )
                        )
                        rows.append(await self._trial(bench, card, clip, device, ran_out))
                except GatewayError as error:
                    failed[card.id] = error.message
                    told(_of(card, error.message))
        finally:
            await bench.aclose()
            await asyncio.to_thread(shutil.rmtree, scratch, True)
        return CalibratedDevice(
            device=device.facts.name,
            driver=device.driver,
            torch=device.torch,
            date=datetime.now(UTC).date(),
            vram_gb=round(device.total_gb, 1) or None,
            rows=tuple(rows),
            ran_out=tuple(dict.fromkeys(ran_out)),
            failed=failed,
        )

    def _bench(self: Self, scratch: Path) -> Backend:
        """Another one of us with its own model process, so that nothing waits behind jobs or profits from them."""
        picture = scratch / "given.png"
        Image.linear_gradient("L").convert("RGB").save(picture)
        kind: Any = type(self)
        made: Backend = kind(replace(self._config, media=_OnePicture(picture), scratch=scratch))
        return made

    async def _trial(
        self, bench: Backend, card: ModelCard, clip: Clip, device: Here, ran_out: list[RanOut]
    ) -> Measured:
        """`ran_out` is added to: plans that were tried and had too little memory."""
        operation = await bench.submit(_request(card, clip), key="calibration")
        while True:
            try:
                look = await bench.poll(operation)
            except OutOfMemory:
                # Every plan was tried.
                least = self.forecaster().smallest_plan(card, clip, device.facts)
                if least is not None:
                    ran_out += _beyond(card, {least.word: least.peak_gb}, device.facts.free_gb)
                raise
            if isinstance(look, Completed):
                break
            await asyncio.sleep(POLL_S)
        for output in look.outputs:
            if output.path is not None:
                output.path.unlink(missing_ok=True)
        told: Any = look.details["measured"]
        plan = str(told["plan"])
        reckons = self.forecaster()
        tried = {
            word: reckons.predicted_peak(card, clip, word, device.facts) for word in told.get("ran_out", ())
        }
        ran_out += _beyond(card, tried, told.get("free_gb", 0.0))
        predicted = reckons.predicted_peak(card, clip, plan, device.facts)
        return Measured(
            model=card.id,
            width=clip.width,
            height=clip.height,
            frames=clip.frames,
            steps=len(told["steps_s"]),
            passes=clip.passes,
            plan=plan,
            encode_s=told["encode_s"],
            step_s=calibration.step_seconds(tuple(told["steps_s"])),
            decode_s=told["decode_s"],
            peak_gb=told.get("peak_gb"),
            predicted_peak_gb=predicted,
        )


class _OnePicture:
    """The media store of a trial: whatever is asked for is this picture."""

    def __init__(self, picture: Path) -> None:
        self._picture = picture

    def path(self, asset: Asset) -> Path:
        return self._picture


def trial_clips(card: ModelCard) -> tuple[Clip, ...]:
    """Small and short, small, large: two points on each line that the forecast draws."""
    base, local = clip_of(card, ClipWish()), card.local
    assert local is not None
    steps = base.steps if base.steps <= FEW_STEPS else TRIAL_STEPS
    areas = sorted({(size.width * size.height, size.width, size.height) for size in card.sizes})
    short = snap_frames(base.frames / 2, local.frame_rule, local.max_frames)
    least = sum(local.frame_rule)
    chosen = [
        (*areas[0][1:], max(short, least)),
        (*areas[0][1:], base.frames),
        (*areas[-1][1:], base.frames),
    ]
    return tuple(
        replace(base, width=width, height=height, frames=frames, steps=steps)
        for width, height, frames in dict.fromkeys(chosen)
    )


def _beyond(card: ModelCard, tried: Mapping[str, float | None], free_gb: float) -> list[RanOut]:
    """Of these plans and predicted peaks, those that were to fit."""
    return [
        RanOut(model=card.id, plan=plan, predicted_peak_gb=peak, free_gb=free_gb)
        for plan, peak in tried.items()
        if peak is not None and peak <= free_gb
    ]


def _request(card: ModelCard, clip: Clip) -> ResolvedRequest:
    needs_image = Task.TEXT_TO_VIDEO not in card.tasks
    asset = Asset(id="0" * 64, mime="image/png", size_bytes=1, width=256, height=256)
    return ResolvedRequest(
        model=card.id,
        backend=card.backend,
        wire_id=card.wire_id,
        task=card.tasks[0],
        prompt=PROMPT,
        first_frame=InputMedia(asset=asset) if needs_image else None,
        duration=clip.frames / clip.fps,
        width=clip.width,
        height=clip.height,
        fps=clip.fps,
        seed=1,
        options={"steps": clip.steps},
    )


def _of(card: ModelCard, said: Words) -> Words:
    return words(f"{card.id}: {said.en}", f"{card.id}: {said.ja}")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(file: Path, found: CalibratedDevice) -> None:
    """Into the file, whole or not at all; a file that cannot be read is replaced, its numbers were of no use."""
    try:
        old = calibration.read(file)
    except CalibrationBroken:
        old = Calibration()
    text = calibration.merged(old, found).model_dump_json(indent=2, exclude_none=True)
    draft = file.with_suffix(".new")
    try:
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ServerTrouble(
            words(
                f"{file.name} cannot be written: {error.strerror}",
                f"{file.name} を書き込めません: {error.strerror}",
            )
        ) from None
