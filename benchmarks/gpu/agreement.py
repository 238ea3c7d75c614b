"""Whether today's planner agrees with what a card did: peaks within 15 % or corrected by them, and nothing that ran planned
to fail nor the other way round. For a run's own report, and for results that are kept (tests/benchmarks)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from local_models._calibration import peak_factor
from local_models._forecast import Clip, Forecaster
from local_models._memory import LoadPlan, options, plans
from local_models._numbers import DeviceFacts
from local_models._published import published
from local_models._weights import WeightsBroken
from router.contract.card import ModelCard
from router.contract.forecast import Measured, RanOut
from router.contract.words import same

TOLERANCE = 0.15
"""A prediction within this share of the measured peak holds; further off, calibration corrects it."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Predicted peaks of one model against the measured ones."""

    model: str
    rows: tuple[Measured, ...]
    """Each with both peaks; none where every plan ran out of memory."""
    ran_out: tuple[RanOut, ...] = ()

    @property
    def worst(self) -> float | None:
        """The measured by the predicted peak that is furthest from 1; None where nothing was measured."""
        return max(self._ratios, key=lambda ratio: abs(ratio - 1), default=None)

    @property
    def _ratios(self) -> list[float]:
        return [
            row.peak_gb / row.predicted_peak_gb for row in self.rows if row.peak_gb and row.predicted_peak_gb
        ]

    @property
    def holds(self) -> bool:
        """Whether every prediction is within the tolerance."""
        return self.worst is None or abs(self.worst - 1) <= TOLERANCE

    @property
    def factor(self) -> float:
        """By which `understudy models calibrate` would multiply this model's predictions on this card."""
        return peak_factor(self.rows, self.ran_out)

    @property
    def corrected(self) -> bool:
        """Whether the largest measured peak is within the tolerance of the corrected prediction: the factor has limits."""
        return not self._ratios or abs(max(self._ratios) / peak_factor(self.rows) - 1) <= TOLERANCE

    @property
    def text(self) -> str:
        """For the table."""
        if not self.corrected:
            return f"**off, and beyond what calibration corrects** (by {self.factor:.2f})"
        if self.holds:
            return f"within {TOLERANCE:.0%}"
        return f"off: `models calibrate` on this card would multiply the planner's peaks by {self.factor:.2f}"


def measured(rows: Sequence[Row]) -> tuple[Measured, ...]:
    """Our rows as `understudy models calibrate` would write them."""
    return tuple(
        Measured(
            **{name: row[name] for name in ("model", "width", "height", "frames", "steps", "passes", "plan")},
            **{name: row[name] for name in ("encode_s", "step_s", "decode_s")},
            peak_gb=row["allocated_gb"],
            predicted_peak_gb=row["predicted_gb"],
        )
        for row in rows
        if row["way"] == "ours" and row["outcome"] == "done" and row.get("predicted_gb")
    )


def ran_out(rows: Sequence[Row]) -> tuple[RanOut, ...]:
    """Our plans that were to fit and did not, also where a smaller one then ran."""
    return tuple(
        RanOut(
            model=row["model"],
            plan=row["planned"],
            predicted_peak_gb=row["planned_peak_gb"],
            free_gb=row["card_gb"],
        )
        for row in rows
        if _ran_out(row) and row["planned_peak_gb"] <= row["card_gb"]
    )


def _ran_out(row: Row) -> bool:
    """Whether the plan that was begun with had too little memory."""
    known = row["way"] == "ours" and bool(row.get("planned_peak_gb"))
    return known and (row["outcome"] == "out of memory" or bool(row.get("fell_back")))


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """One per model of which our plan ran on a card, or ran out of memory."""
    peaks, failed = measured(rows), ran_out(rows)
    return [
        Verdict(
            name,
            tuple(row for row in peaks if row.model == name),
            tuple(row for row in failed if row.model == name),
        )
        for name in dict.fromkeys(row.model for row in (*peaks, *failed))
    ]


def contradictions(
    rows: Sequence[Row], cards: Mapping[str, ModelCard], gpu: Mapping[str, Any], factors: Mapping[str, float]
) -> list[str]:
    """What ran although today's planner has no plan for it, and what ran out of memory although it has one.

    `gpu`: of the machine's facts; `factors`: by which each model's predictions are corrected, 1 where absent.
    """
    found: list[str] = []
    for row in rows:
        if row["way"] != "ours" or row["outcome"] not in {"done", "out of memory"}:
            continue
        plan = _plan(row, cards[row["model"]], gpu, factors.get(row["model"], 1.0))
        where = f"{row['model']} on {row['card_gb']} GB"
        if row["outcome"] == "done" and plan is None:
            found.append(f"{where} ran ({row['plan']}), but is planned to fail")
        elif row["outcome"] == "out of memory" and plan is not None:
            found.append(f"{where} ran out of memory, but is planned to fit ({plan.word})")
        elif _ran_out(row) and plan is not None and plan.word == row["planned"]:
            found.append(f"{where}: {plan.word} ran out of memory, but is planned to fit")
    return found


def _plan(row: Row, card: ModelCard, gpu: Mapping[str, Any], factor: float) -> LoadPlan | None:
    """What would be loaded today, None where nothing should fit."""
    clip = _clip(row, card)
    model = published(card)
    assert model is not None
    numbers = model.numbers(clip.width, clip.height, clip.frames, clip.steps, clip.passes)
    numbers, device = replace(numbers, peak_factor=factor), _device(row, gpu)
    fits = any(option.verdict == "chosen" for option in options(numbers, device))
    return plans(numbers, device)[0] if fits else None


def _clip(row: Row, card: ModelCard) -> Clip:
    assert card.local is not None
    passes = 2 if card.local.guidance > 1 else 1
    return Clip(row["width"], row["height"], row["frames"], card.fps[0], card.local.steps, passes)


def _device(row: Row, gpu: Mapping[str, Any]) -> DeviceFacts:
    return DeviceFacts("cuda", float(row["card_gb"]), name=gpu["name"], capability=gpu.get("capability"))


def _no_folder(_: ModelCard) -> Any:
    """Numbers of the published configurations are what real-size weights are made from."""
    raise WeightsBroken(same("no weights"))


def disagreements(data: Mapping[str, Any], cards: Mapping[str, ModelCard]) -> list[str]:
    """What a result of a real card holds against today's planner, as corrected by that result; none is what there should be.

    `data`: a JSON file of this bench. Rows of models that the catalogue has no more say nothing.
    """
    gpu = data["machine"]["gpu"]
    reckons = Forecaster(cards, _no_folder, "auto", None)
    rows: list[Row] = []
    for row in data["rows"]:
        if (
            row["way"] != "ours"
            or row["model"] not in cards
            or row["outcome"] not in {"done", "out of memory"}
        ):
            continue
        card = cards[row["model"]]
        clip, device = _clip(row, card), _device(row, gpu)

        def peak(
            plan: str | None, card: ModelCard = card, clip: Clip = clip, device: DeviceFacts = device
        ) -> Any:
            return reckons.predicted_peak(card, clip, plan, device) if plan else None

        rows.append(
            {**row, "predicted_gb": peak(row.get("plan")), "planned_peak_gb": peak(row.get("planned"))}
        )
    every = verdicts(rows)
    beyond = [f"{verdict.model}: predicted peak {verdict.text}" for verdict in every if not verdict.corrected]
    factors = {verdict.model: verdict.factor for verdict in every}
    return [*beyond, *contradictions(rows, cards, gpu, factors)]
