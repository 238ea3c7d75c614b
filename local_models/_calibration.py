"""What was measured on this device: the file, and what planner and router take from it. Pure but for reading a file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from pydantic import ValidationError

from local_models._memory import options
from local_models._numbers import DeviceFacts, LoadPlan, ModelNumbers
from local_models._speed import pass_flops
from router.contract.forecast import CalibratedDevice, Calibration, Measured, RanOut
from router.contract.words import Words, words

FILE = "calibration.json"
_FACTORS = (0.6, 1.8)
"""A measured peak further from the prediction than this corrects it only so far: then the formula is wrong."""


BEYOND = 1.01
"""What ran out of memory is reckoned to need this times what there was, at least."""


class CalibrationBroken(Exception):
    """The file cannot be read; `message` says what to do."""

    def __init__(self, message: Words) -> None:
        """`message` is for the person who put the file there."""
        self.message = message
        super().__init__(message.en)


def read(path: Path) -> Calibration:
    """The file; an empty one where there is none. Raises CalibrationBroken."""
    try:
        return Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Calibration()
    except (OSError, ValidationError, UnicodeDecodeError):
        raise CalibrationBroken(
            words(
                f"{path.name} in the data folder cannot be read, so nothing measured is used. Remove it, or run "
                "understudy models calibrate again.",
                f"データフォルダーの {path.name} を読み込めないため、測定値は使われていません。削除するか、"
                "understudy models calibrate をもう一度実行してください。",
            )
        ) from None


def merged(old: Calibration, new: CalibratedDevice) -> Calibration:
    """The file with this run in it: its models replace what was measured of them on the same device before."""
    again = {row.model for row in new.rows}
    tried = again | {row.model for row in new.ran_out}
    before = next((found for found in old.devices if found.device == new.device), None)
    kept = tuple(row for row in before.rows if row.model not in again) if before else ()
    failed = tuple(row for row in before.ran_out if row.model not in tried) if before else ()
    others = tuple(found for found in old.devices if found.device != new.device)
    both = {"rows": (*kept, *new.rows), "ran_out": (*failed, *new.ran_out)}
    return Calibration(devices=(*others, new.model_copy(update=both)))


def rows_of(calibration: Calibration, device: str, model: str) -> tuple[Measured, ...]:
    """What was measured of this model on a device of this name."""
    named = (found for found in calibration.devices if found.device == device)
    return tuple(row for found in named for row in found.rows if row.model == model)


def ran_out_of(calibration: Calibration, device: str, model: str) -> tuple[RanOut, ...]:
    """This model's plans that ran out of memory on a device of this name."""
    named = (found for found in calibration.devices if found.device == device)
    return tuple(row for found in named for row in found.ran_out if row.model == model)


def peak_factor(rows: Sequence[Measured], ran_out: Sequence[RanOut] = ()) -> float:
    """Measured by predicted peak, the largest of the rows: too little memory is worse than too much. 1 without any.

    What ran out of memory needs more than there was, and is not planned into as much again.
    """
    factors = [row.peak_gb / row.predicted_peak_gb for row in rows if row.peak_gb and row.predicted_peak_gb]
    factors += [BEYOND * row.free_gb / row.predicted_peak_gb for row in ran_out if row.predicted_peak_gb]
    return min(max(max(factors), _FACTORS[0]), _FACTORS[1]) if factors else 1.0


def measured_seconds(
    timed: Sequence[tuple[Measured, ModelNumbers]], model: ModelNumbers, plan: LoadPlan, device: DeviceFacts
) -> tuple[float, Measured] | None:
    """Seconds of this clip by what was measured of the model here, and the row that they come from; None without rows.

    The nearest size counts, its steps scaled by the transformer's arithmetic and its decoding by the pixels. `timed`:
    each row with the numbers of its clip.
    """
    if not timed:
        return None
    row, was = min(timed, key=lambda pair: abs(pass_flops(pair[1]) - pass_flops(model)))
    step = row.step_s * pass_flops(model) / pass_flops(was) * model.passes / row.passes
    pixels = model.frame_pixels * model.frames / (was.frame_pixels * was.frames)
    seconds = row.encode_s + model.steps * step + row.decode_s * pixels
    return seconds * _other_plan(row.plan, plan, model, device), row


def _other_plan(was: str, plan: LoadPlan, model: ModelNumbers, device: DeviceFacts) -> float:
    """By how much this plan is reckoned slower than the one that was measured."""
    if device.kind == "cpu" or was == plan.word:
        return 1.0
    roomy = replace(device, free_gb=1e6)
    known = {option.plan.word: option.seconds for option in options(model, roomy)}
    return known[plan.word] / known[was] if was in known and plan.word in known else 1.0


def step_seconds(times: tuple[float, ...]) -> float:
    """The median step; the first warms up and is left out where there are more."""
    return median(times[1:] if len(times) > 1 else times)


__all__ = [
    "FILE",
    "CalibrationBroken",
    "measured_seconds",
    "merged",
    "peak_factor",
    "ran_out_of",
    "read",
    "rows_of",
    "step_seconds",
]
