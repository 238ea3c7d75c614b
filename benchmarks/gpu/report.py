"""What the measured rows mean, and the tables: JSON for machines, Markdown for people."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu.agreement import Row, contradictions, measured, ran_out, verdicts
from benchmarks.gpu.jobs import WAYS, Job
from benchmarks.gpu.peaks import AS_OF, peak_of
from local_models._calibration import step_seconds
from local_models._published import published
from local_models._speed import pass_flops
from router.catalog import Catalog
from router.contract.card import ModelCard
from router.contract.forecast import CalibratedDevice, Calibration

RESULTS = Path(__file__).resolve().parents[1] / "results"


def row_of(job: Job, found: Mapping[str, Any], card: ModelCard, gpu: str) -> Row:
    """What the process measured, with what follows from it. Seconds of the whole clip: with all of the card's steps."""
    row: Row = {"key": job.key, "model": job.card, "card_gb": job.card_gb, "way": job.way, **found}
    if found["outcome"] != "done":
        return row
    step = step_seconds(tuple(found["steps_s"]))
    row |= {
        "fps": job.render["fps"],
        "steps": len(found["steps_s"]),
        "passes": job.passes,
        "step_s": round(step, 4),
        "clip_steps": job.steps,
        "clip_s": round(found["encode_s"] + job.steps * step + found["decode_s"], 1),
    }
    known, peak = published(card), peak_of(gpu)
    if not job.tiny and known is not None and peak is not None:
        numbers = known.numbers(found["width"], found["height"], found["frames"], job.steps, job.passes)
        flops = job.passes * pass_flops(numbers)
        row["tflops"] = round(flops / step / 1e12, 1)
        row["bf16_share"] = round(flops / step / 1e12 / peak.tflops, 3)
    return row


@dataclass
class Report:
    """One run, or several that were continued."""

    at: datetime
    machine: Mapping[str, Any]
    dry: bool
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def gpu(self) -> str:
        """The card's name, empty without one."""
        return str((self.machine["gpu"] or {}).get("name", ""))

    @property
    def done(self) -> dict[str, Row]:
        """Rows by their key."""
        return {row["key"]: row for row in self.rows}

    @property
    def stem(self) -> str:
        """Name of the two files, without the day."""
        return "gpu-dry" if self.dry else f"gpu-{re.sub(r'[^a-z0-9]+', '-', self.gpu.casefold()).strip('-')}"

    def resume(self, folder: Path) -> None:
        """Take over the rows of the newest file of the same card and libraries, if there is one."""
        for file in sorted(folder.glob(f"{self.stem}-????-??-??.json"), reverse=True):
            data = json.loads(file.read_text(encoding="utf-8"))
            same = ("gpu", "torch", "diffusers", "transformers")
            if all(data["machine"].get(name) == self.machine.get(name) for name in same):
                self.rows = list(data["rows"])
                return

    def as_json(self) -> str:
        """For machines. `calibration` is what `understudy models calibrate` would write: a file for a data folder."""
        data = {
            "at": self.at.astimezone(UTC).isoformat(timespec="seconds"),
            "dry": self.dry,
            "machine": dict(self.machine),
            "bf16_peak": None if self.dry or not (peak := peak_of(self.gpu)) else asdict(peak),
            "rows": self.rows,
            "predictions": [
                {
                    "model": v.model,
                    "worst_ratio": None if v.worst is None else round(v.worst, 3),
                    "factor": round(v.factor, 3),
                    "holds": v.holds,
                    "corrected": v.corrected,
                }
                for v in verdicts(self.rows)
            ],
            "contradictions": self._contradictions(),
            "calibration": self._calibration(self.at.date()),
            "notes": self.notes,
        }
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"

    def _contradictions(self) -> list[dict[str, Any]]:
        """Of the planner as it is, each with whether calibration on this card would end it."""
        if self.dry or not self.machine["gpu"]:
            return []
        cards, gpu = Catalog.load().cards, self.machine["gpu"]
        factors = {verdict.model: verdict.factor for verdict in verdicts(self.rows)}
        left = contradictions(self.rows, cards, gpu, factors)
        plain = contradictions(self.rows, cards, gpu, {})
        return [{"text": text, "corrected": text not in left} for text in dict.fromkeys((*plain, *left))]

    def _calibration(self, day: date) -> Any:
        rows, failed = measured(self.rows), ran_out(self.rows)
        if not rows and not failed:
            return None
        gpu = self.machine["gpu"]
        device = CalibratedDevice(
            device=self.gpu,
            driver=gpu["driver"],
            torch=self.machine["torch"],
            date=day,
            vram_gb=gpu["memory_gb"],
            rows=rows,
            ran_out=failed,
        )
        return json.loads(Calibration(devices=(device,)).model_dump_json(exclude_none=True))

    def as_markdown(self) -> str:
        """For people."""
        parts = [self._head(), self._table(), self._against(), self._predictions(), self._notes()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _head(self) -> str:
        m, gpu = self.machine, self.machine["gpu"]
        card = f"{gpu['name']}, {gpu['memory_gb']} GB, driver {gpu['driver']}" if gpu else "no card"
        if self.dry:
            card = "DRY RUN: tiny weights on the CPU, numbers mean nothing"
        where = f"{m['cores']} cores, {m['cpu']}, {m['memory_gb']} GB, {m['system']}, Python {m['python']}"
        libraries = f"torch {m['torch']}, diffusers {m['diffusers']}, transformers {m['transformers']}"
        peak = None if self.dry else peak_of(self.gpu)
        share = f" Dense bf16 peak: {peak.tflops:g} TFLOPS ({peak.source}; {AS_OF})." if peak else ""
        return (
            f"# GPU bench, {self.at:%Y-%m-%d %H:%M} UTC\n\n{card}. {where}; {libraries}. `make bench-gpu`\n\n"
            "Real-size models with random weights; the allocator is capped so that allocator and CUDA context together "
            "stay below the card size. `ours`: planner and pipelines of local_models, ladder included; `offload`: diffusers "
            "with enable_model_cpu_offload; `plain`: diffusers with pipe.to(device). Peaks are after loading, with the "
            f"context. Clip s: encode, all steps of the recipe at the measured step, decode.{share}"
        )

    def _table(self) -> str:
        lines = [
            "| model | card | way | plan | clip | encode s | step s | decode s | clip s | peak GB | reserved GB | of bf16 |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in sorted(self.rows, key=lambda row: (row["model"], row["card_gb"], WAYS.index(row["way"]))):
            lines.append(
                f"| {row['model']} | {row['card_gb']} GB | {row['way']} | {' | '.join(_cells(row))} |"
            )
        return "\n".join(lines)

    def _against(self) -> str:
        lines: list[str] = []
        done = {(row["model"], row["card_gb"], row["way"]): row for row in self.rows}
        for (model, size, way), row in done.items():
            if way != "ours" or row["outcome"] != "done":
                continue
            told = [_ratio(done.get((model, size, other)), row["clip_s"]) for other in ("offload", "plain")]
            lines.append(f"| {model} | {size} GB | {told[0]} | {told[1]} |")
        head = ["## Ours against diffusers, seconds of a clip", ""]
        head += ["| model | card | offload / ours | plain / ours |", "|---|---|---|---|"]
        return "\n".join([*head, *sorted(lines)]) if lines and not self.dry else ""

    def _predictions(self) -> str:
        lines = [
            "## Predicted peaks",
            "",
            "Measured by predicted; the factor is the largest of the model's rows, as in `models calibrate`.",
            "",
            "| model | plans | predicted GB | measured GB | worst ratio | |",
            "|---|---|---|---|---|---|",
        ]
        for v in verdicts(self.rows):
            if v.worst is None:
                continue
            plans = ", ".join(dict.fromkeys(row.plan for row in v.rows))
            said = "/".join(f"{row.predicted_peak_gb:.1f}" for row in v.rows)
            was = "/".join(f"{row.peak_gb:.1f}" for row in v.rows)
            lines.append(f"| {v.model} | {plans} | {said} | {was} | {v.worst:.2f} | {v.text} |")
        told = [] if len(lines) == 6 else lines
        for found in self._contradictions():
            after = (
                "calibration on this card ends that" if found["corrected"] else "**also after calibration**"
            )
            told += [*([] if told and told[-1].startswith("- ") else [""]), f"- {found['text']}; {after}"]
        return "\n".join(told).strip()

    def _notes(self) -> str:
        return "\n".join(["## Notes", "", *(f"- {note}" for note in self.notes)]) if self.notes else ""

    def write(self, folder: Path) -> Path:
        """Both files, named by the day, each whole or not at all; the JSON file's path."""
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{self.stem}-{self.at:%Y-%m-%d}"
        for suffix, text in ((".json", self.as_json()), (".md", self.as_markdown())):
            draft = target.with_suffix(f"{suffix}.new")
            draft.write_text(text, encoding="utf-8")
            draft.replace(target.with_suffix(suffix))
        return target.with_suffix(".json")


def line_of(row: Row) -> str:
    """One row for the terminal."""
    plan, _, encode, step, decode, clip, peak, reserved, share = _cells(row)
    numbers = f"encode {encode}, step {step}, decode {decode}, clip {clip} s; peak {peak} ({reserved}) GB; bf16 {share}"
    return f"{row['key']:<44} {plan}" + ("" if row["outcome"] != "done" else f": {numbers}")


def _cells(row: Row) -> list[str]:
    """Plan or outcome, clip, encode, step, decode, whole clip, peaks, share of bf16."""
    if row["outcome"] != "done":
        phase = f" ({row['phase']})" if row.get("phase") else ""
        return [f"**{row['outcome']}**{phase}", *["-"] * 8]
    plan = row["plan"] + (", after falling back" if row.get("fell_back") else "")
    if row.get("cap_held") is False:
        plan += ", BEYOND ITS CAP"
    share = f"{row['bf16_share']:.0%}" if row.get("bf16_share") is not None else "-"
    peaks = [f"{row[name]:.1f}" if name in row else "-" for name in ("allocated_gb", "reserved_gb")]
    clip = f"{row['width']}x{row['height']}x{row['frames']}"
    times = [
        f"{row['encode_s']:.2f}",
        f"{row['step_s']:.3f}",
        f"{row['decode_s']:.2f}",
        f"{row['clip_s']:.0f}",
    ]
    return [plan, clip, *times, *peaks, share]


def _ratio(other: Row | None, ours: float) -> str:
    if other is None:
        return "-"
    return f"{other['clip_s'] / ours:.2f}x" if other["outcome"] == "done" and ours else str(other["outcome"])
