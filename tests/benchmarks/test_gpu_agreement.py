"""What a card did against what is planned for it: invented rows, and every result that is kept."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.agreement import Row, contradictions, disagreements, verdicts
from benchmarks.gpu.report import RESULTS, Report
from benchmarks.machine import machine
from local_models._calibration import BEYOND
from local_models._memory import DeviceFacts, options, plans
from local_models._published import published
from router.catalog import Catalog

CARDS = Catalog.load().cards
MODEL = "local/wan2.1-t2v-1.3b"
GPU = {"name": "NVIDIA H100 80GB HBM3", "memory_gb": 85.0, "capability": 9.0, "driver": "575.57"}


def numbers(model: str = MODEL, frames: int = 81) -> Any:
    known = published(CARDS[model])
    assert known is not None
    return known.numbers(832, 480, frames, 50, 2)


def row(card_gb: int, ratio: float = 1.0, **more: Any) -> Row:
    """Our plan for a card of that size, measured so much above its prediction."""
    plan = plans(numbers(), DeviceFacts("cuda", float(card_gb), name=GPU["name"], capability=9.0))[0]
    found = {
        "key": f"{MODEL} {card_gb} GB ours", "model": MODEL, "way": "ours", "card_gb": card_gb, "outcome": "done",
        "width": 832, "height": 480, "frames": 81, "fps": 16, "steps": 4, "passes": 2, "clip_steps": 50,
        "encode_s": 1.0, "step_s": 0.5, "decode_s": 4.0, "clip_s": 30.0, "fell_back": False,
        "plan": plan.word, "predicted_gb": plan.peak_gb, "planned": plan.word, "planned_peak_gb": plan.peak_gb,
        "allocated_gb": round(ratio * plan.peak_gb, 2), "reserved_gb": round(ratio * plan.peak_gb, 2),
    }  # fmt: skip
    return {**found, **more}


def out_of_memory(card_gb: int) -> Row:
    kept = ("key", "model", "way", "card_gb", "width", "height", "frames", "planned", "planned_peak_gb")
    return {**{name: row(card_gb)[name] for name in kept}, "outcome": "out of memory", "phase": "denoise"}


def fell_back(card_gb: int) -> Row:
    """The plan ran out of memory, the next smaller one that the planner has went through."""
    device = DeviceFacts("cuda", float(card_gb), name=GPU["name"], capability=9.0)
    smaller = plans(numbers(), device)[1]
    peaks = {"predicted_gb": smaller.peak_gb, "allocated_gb": smaller.peak_gb}
    return row(card_gb, fell_back=True, plan=smaller.word, **peaks)


def result(*rows: Row) -> dict[str, Any]:
    return {"machine": {"gpu": GPU}, "rows": list(rows)}


def judged(*rows: Row, factors: Mapping[str, float] | None = None) -> list[str]:
    return contradictions(rows, CARDS, GPU, factors or {})


def report(*rows: Row) -> Report:
    about = {**machine("torch", "diffusers", "transformers"), "gpu": GPU}
    return Report(datetime(2026, 11, 26, tzinfo=UTC), about, False, rows=list(rows))


def test_what_went_as_planned_is_no_contradiction() -> None:
    rows = [row(8), row(12, 1.1), row(24, 0.9)]
    assert judged(*rows) == []
    assert disagreements(result(*rows), CARDS) == []


def test_what_runs_out_of_memory_is_told_and_corrected_so_that_it_is_not_planned_again() -> None:
    failed = out_of_memory(12)
    (told,) = judged(failed)
    assert told.startswith(f"{MODEL} on 12 GB ran out of memory, but is planned to fit (bfloat16")
    (verdict,) = verdicts([failed])
    assert verdict.worst is None
    assert verdict.factor == pytest.approx(min(1.8, BEYOND * 12 / failed["planned_peak_gb"]))
    # Every plan was tried on 12 GB, and the planner, corrected by the first alone, has smaller ones left.
    assert disagreements(result(failed), CARDS) == judged(failed, factors={MODEL: verdict.factor}) != []
    text = report(failed).as_markdown()
    assert f"- {MODEL} on 12 GB ran out of memory, but is planned to fit" in text
    assert "**also after calibration**" in text


def test_a_plan_that_fell_back_is_told_and_calibration_ends_it() -> None:
    tried = fell_back(24)
    (told,) = judged(tried)
    assert told == f"{MODEL} on 24 GB: {tried['planned']} ran out of memory, but is planned to fit"
    assert disagreements(result(tried), CARDS) == []
    made = report(tried)
    assert f"- {told}; calibration on this card ends that" in made.as_markdown()
    data = json.loads(made.as_json())
    assert data["contradictions"] == [{"text": told, "corrected": True}]
    (device,) = data["calibration"]["devices"]
    assert device["ran_out"] == [
        {
            "model": MODEL,
            "plan": tried["planned"],
            "predicted_peak_gb": tried["planned_peak_gb"],
            "free_gb": 24,
        }
    ]


def test_what_ran_although_no_plan_fits_is_told_and_a_lower_peak_corrects_it() -> None:
    least = min(options(numbers(), DeviceFacts("cuda", 8.0)), key=lambda option: option.plan.peak_gb)
    size = int(least.plan.peak_gb)
    assert size < least.plan.peak_gb
    ran = row(size, ratio=0.75)
    (told,) = judged(ran)
    assert told == f"{MODEL} on {size} GB ran ({ran['plan']}), but is planned to fail"
    assert disagreements(result(ran), CARDS) == []
    # The same with a peak as predicted: it cannot have been measured there, and nothing corrects it.
    assert disagreements(result(row(size)), CARDS) == [told]


@pytest.mark.parametrize(
    ("ratio", "sound"), [(0.5, False), (0.7, True), (1.3, True), (1.7, True), (2.2, False)]
)
def test_a_peak_that_calibration_cannot_correct_is_a_disagreement(ratio: float, sound: bool) -> None:
    (verdict,) = verdicts([row(24, ratio)])
    assert verdict.corrected is sound
    assert not verdict.holds
    # A card on which everything fits with any factor, so that only the peak is judged.
    roomy = {**row(24, ratio), "card_gb": 80}
    found = disagreements(result(roomy), CARDS)
    assert bool(found) is not sound
    assert all("beyond what calibration corrects" in text for text in found)


def test_only_todays_planner_is_asked() -> None:
    """A result keeps the prediction of its day; a formula that has changed since is judged anew."""
    stale = row(24, predicted_gb=1.0, planned_peak_gb=1.0)
    assert not verdicts([stale])[0].corrected
    assert disagreements(result(stale), CARDS) == []


def test_other_ways_and_models_that_are_gone_say_nothing() -> None:
    others = [row(24, 3.0, way="plain"), row(24, 3.0, model="local/gone"), row(24, outcome="took too long")]
    assert disagreements(result(*others), CARDS) == []


# -- results that are kept


def broken(folder: Path) -> dict[str, list[str]]:
    """What every result of a real card in that folder holds against the planner, by file."""
    files = [file for file in folder.glob("gpu-*.json") if not file.name.startswith("gpu-dry")]
    return {
        file.name: found
        for file in sorted(files)
        if (found := disagreements(json.loads(file.read_text(encoding="utf-8")), CARDS))
    }


def test_every_kept_result_agrees_with_the_planner() -> None:
    assert broken(RESULTS) == {}


def test_a_kept_result_that_disagrees_is_found(tmp_path: Path) -> None:
    good, bad = report(row(8), row(24, 1.2)), report(row(24, 2.5))
    good.write(tmp_path)
    replace(bad, machine={**bad.machine, "gpu": {**GPU, "name": "NVIDIA H200"}}).write(tmp_path)
    (name,) = broken(tmp_path)
    assert re.fullmatch(r"gpu-nvidia-h200-.*\.json", name)
    assert len(list(tmp_path.glob("gpu-*.json"))) == 2
