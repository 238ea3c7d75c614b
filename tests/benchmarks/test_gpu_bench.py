"""The GPU bench without a GPU: the whole of it with tiny weights, and what it makes of numbers from a card."""

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as bench
from benchmarks.gpu.__main__ import Bench
from benchmarks.gpu.agreement import Row, verdicts
from benchmarks.gpu.configs import MODELS
from benchmarks.gpu.jobs import Job, Wanted, jobs
from benchmarks.gpu.peaks import PEAKS, peak_of
from benchmarks.gpu.process import RowProcess, TookTooLong
from benchmarks.gpu.report import Report, row_of
from benchmarks.gpu.tiny_configs import TINY
from benchmarks.machine import machine
from local_models._published import published
from router.catalog import Catalog

CARDS = dict(Catalog.load().cards)
H100 = "NVIDIA H100 80GB HBM3"
ABOUT = {
    **machine("torch", "diffusers", "transformers"),
    "gpu": {"name": H100, "memory_gb": 85.0, "capability": 9.0, "driver": "575.57"},
}
WAN = "local/wan2.1-t2v-1.3b"


def report(**more: Any) -> Report:
    return Report(datetime(2026, 11, 26, tzinfo=UTC), ABOUT, False, **more)


def todo(*models: str) -> list[Job]:
    return jobs(Wanted(models or (WAN,)), CARDS, Path("cache"), tiny=False)


def found(job: Job, **more: Any) -> Row:
    """As the process would answer."""
    steps = [0.9, *[0.5] * (job.render["steps"] - 1)]
    size = {name: job.render[name] for name in ("width", "height", "frames")}
    peaks = {"allocated_gb": 6.0, "reserved_gb": 6.5, "cap_held": True, "predicted_gb": 6.3}
    times = {"outcome": "done", "encode_s": 1.0, "steps_s": steps, "decode_s": 4.0, "load_s": 9.0}
    return {**times, **size, **peaks, "plan": "bfloat16 offload=model tiled", "fell_back": False, **more}


# -- the whole, dry


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, list[str]]]:
    """Results, cache, and how to ask for the same once more."""
    results, cache = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("cache")
    told = ["--dry", "--cards", "12", "--results", str(results), "--cache", str(cache)]
    assert bench.main(told) == 0
    yield results, cache, told


def test_a_dry_run_measures_every_model_each_way_and_writes_both_tables(
    dry: tuple[Path, Path, list[str]],
) -> None:
    results, cache, _ = dry
    (file,) = results.glob("gpu-dry-*.json")
    data = json.loads(file.read_text(encoding="utf-8"))
    rows = {(row["model"], row["way"]): row for row in data["rows"]}
    assert len(rows) == 3 * len(MODELS)
    for model in MODELS:
        for way in ("ours", "plain"):
            row = rows[model.card, way]
            assert row["outcome"] == "done", row
            frames = 19 if model.card == "local/mochi-1" else 17
            assert (len(row["steps_s"]), row["frames"], row["width"]) == (2, frames, 64)
            assert row["decode_s"] > 0 and min(row["steps_s"]) > 0
            # A CPU has no peak to tell, and no bf16 rate to be compared with.
            assert "allocated_gb" not in row and "bf16_share" not in row
        assert rows[model.card, "ours"]["plan"] == "float32 offload=none"
        assert rows[model.card, "offload"]["outcome"] == "needs a card"
    assert data["calibration"] is None
    text = file.with_suffix(".md").read_text(encoding="utf-8")
    assert "DRY RUN" in text and "| local/wan2.2-ti2v-5b | 12 GB | ours | float32" in text
    for secret in (str(results), str(cache), os.uname().nodename):
        assert secret not in text + file.read_text(encoding="utf-8")


def test_what_is_measured_is_not_measured_again(
    dry: tuple[Path, Path, list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results, _, told = dry
    (file,) = results.glob("gpu-dry-*.json")
    before = json.loads(file.read_text(encoding="utf-8"))["rows"]
    # Would fail at the first row that is asked for.
    monkeypatch.setattr(bench, "RowProcess", None)
    assert bench.main(told) == 0
    assert json.loads(file.read_text(encoding="utf-8"))["rows"] == before
    assert f"{3 * len(MODELS)} rows are measured already" in capsys.readouterr().out


def test_without_a_card_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench.main(["--results", str(tmp_path / "results")]) == 2
    said = capsys.readouterr().out
    assert "No NVIDIA card was found" in said and "見つかりません" in said and "--dry" in said
    assert not (tmp_path / "results").exists()


def test_a_process_that_dies_is_a_result_and_one_that_is_slow_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job, *_) = todo()
    monkeypatch.setattr("sys.executable", "/bin/false")
    with RowProcess("ours", tmp_path / "log") as process:
        assert process.ask(job, 30)["outcome"] == "failed"
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    sleeper.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(sleeper))
    with RowProcess("plain", tmp_path / "log") as process, pytest.raises(TookTooLong):
        process.ask(job, 0.05)


# -- weights


def test_real_configurations_have_the_published_parameters() -> None:
    from benchmarks.gpu.weights import tensors

    for model in MODELS:
        row = published(CARDS[model.card])
        assert row is not None
        counts = {}
        for name, part in model.parts.items():
            shapes = tensors(part).values()
            assert all(tensor.is_floating_point() for tensor in shapes), name
            counts[name] = sum(tensor.numel() for tensor in shapes) / 1e9
        assert counts["transformer"] == pytest.approx(row.transformer_b, abs=0.002), model.card
        text = sum(count for name, count in counts.items() if name.startswith("text_encoder"))
        assert text == pytest.approx(row.text_b, abs=0.002), model.card
        # The planner counts what stays beside the transformer, sound and connectors included, as the VAE's.
        beside = sum(
            count for name, count in counts.items() if not name.startswith(("transformer", "text_encoder"))
        )
        assert beside == pytest.approx(row.vae_b, abs=0.002), model.card


def test_every_family_of_the_catalogue_is_measured() -> None:
    families = {card.local.pipeline for card in CARDS.values() if card.local and card.local.repository}
    assert {CARDS[model.card].local.pipeline for model in MODELS} == families


def test_tiny_and_real_configurations_are_the_same_pipelines() -> None:
    for tiny, real in zip(TINY, MODELS, strict=True):
        assert (tiny.card, tiny.pipeline, tiny.flags, tiny.tokenizers) == (
            *(real.card, real.pipeline, real.flags, real.tokenizers),
        )
        assert {name: part.kind for name, part in tiny.parts.items()} == {
            name: part.kind for name, part in real.parts.items()
        }
        assert {name: part.kind for name, part in tiny.settings.items()} == {
            name: part.kind for name, part in real.settings.items()
        }


def test_every_written_tensor_is_loaded_and_shared_parts_lie_on_the_disk_once(tmp_path: Path) -> None:
    import diffusers
    import transformers

    from benchmarks.gpu.weights import directory

    folders = [directory(model, tmp_path) for model in TINY[:2]]
    libraries: dict[str, Any] = {"diffusers": diffusers, "transformers": transformers}
    for name, part in TINY[0].parts.items():
        kind = getattr(libraries[part.library], part.kind)
        _, told = kind.from_pretrained(folders[0] / name, output_loading_info=True, local_files_only=True)
        assert not told["missing_keys"] and not told["unexpected_keys"], name
    files = [folder / "text_encoder" / "model.safetensors" for folder in folders]
    assert files[0].samefile(files[1])
    assert directory(TINY[0], tmp_path) == folders[0]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    from benchmarks.gpu.weights import directory

    left = tmp_path / "parts" / "draft-abc"
    left.mkdir(parents=True)
    directory(TINY[0], tmp_path)
    assert not left.exists()


def test_the_allocator_gets_the_cards_size_less_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from benchmarks.gpu import row

    shares: list[float] = []
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(total_memory=85e9))
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", shares.append)
    monkeypatch.setattr("torch.cuda.max_memory_reserved", lambda: 11.5e9)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 9e9)
    job = next(job for job in todo() if job.card_gb == 12)
    row.cap(job)
    assert shares == [pytest.approx((12 - 0.6) / 85)]
    assert row.peaks(job) == {"allocated_gb": 9.6, "reserved_gb": 12.1, "cap_held": False}


def test_weights_make_room_by_removing_others_and_say_when_that_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import namedtuple

    from benchmarks.gpu import weights

    usage = namedtuple("usage", "free")
    old = weights.directory(TINY[0], tmp_path)
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: usage(0 if old.exists() else 10**10))
    new = weights.directory(TINY[3], tmp_path)
    assert new.is_dir() and not old.exists()
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: usage(0))
    with pytest.raises(weights.NoRoom, match="--cache"):
        weights.directory(TINY[5], tmp_path)
    assert not list((tmp_path / "parts").glob("draft-*"))


def test_the_predicted_peak_is_the_one_that_calibration_compares(tmp_path: Path) -> None:
    from benchmarks.gpu.row import predicted
    from benchmarks.gpu.weights import directory
    from local_models._numbers import DeviceFacts

    (job, *_) = todo()
    folder, plan = directory(TINY[1], tmp_path), "bfloat16 offload=none tiled"
    told = predicted(job, folder, plan, DeviceFacts("cuda", 8.0, name=H100))
    # The weights are tiny, the clip is the real one: activations, decoding and context are left.
    assert told is not None and 1.0 < told < 4.0
    assert predicted(job, folder, plan, DeviceFacts("cpu")) is None
    assert predicted(job, folder, "no plan of ours", DeviceFacts("cuda", 8.0)) is None


def test_the_plan_is_the_one_for_the_card_that_the_process_pretends_to_have(tmp_path: Path) -> None:
    from benchmarks.gpu.row import planned
    from benchmarks.gpu.weights import directory
    from local_models._numbers import CPU_PLAN, DeviceFacts

    (job, *_) = todo()
    folder = directory(TINY[1], tmp_path)
    assert planned(job, folder, DeviceFacts("cpu")) == CPU_PLAN
    roomy, tight = (planned(job, folder, DeviceFacts("cuda", free)) for free in (80.0, 2.0))
    assert roomy.dtype == "bfloat16" and not roomy.vae_tiling and tight.vae_tiling
    assert 0 < tight.peak_gb <= 2.0


# -- order, budget, results


def test_the_most_useful_rows_come_first_and_each_once() -> None:
    every = [job.key for job in todo(*(model.card for model in MODELS))]
    assert every[:3] == [f"local/wan2.2-ti2v-5b 12 GB {way}" for way in ("ours", "offload", "plain")]
    assert every[3] == f"{WAN} 8 GB ours"
    assert len(every) == len(set(every)) == len(MODELS) * 4 * 3


def test_a_job_is_the_cards_own_clip_with_few_steps() -> None:
    (job, *_) = todo()
    assert (job.render["width"], job.render["height"], job.render["frames"]) == (832, 480, 81)
    assert (job.render["steps"], job.steps, job.passes) == (4, 50, 2)
    assert job.load == {
        "pipeline": "local_models.wan",
        "width": 832,
        "height": 480,
        "frames": 81,
        "steps": 50,
        "passes": 2,
    }
    (distilled, *_) = todo("local/ltx-video-2b")
    assert distilled.render["steps"] == distilled.steps == 8 == len(distilled.render["recipe"]["timesteps"])


def run(
    tmp_path: Path, measure: Callable[[Job, float], Row], *, seconds: float = 1e6, **more: Any
) -> tuple[Report, int]:
    made = report(**more)
    left = Bench(made, tmp_path, CARDS, time.monotonic() + seconds).run(todo(), measure)
    return made, left


def test_results_are_written_after_each_row_and_a_continued_run_does_the_rest(tmp_path: Path) -> None:
    class Cut(Exception):
        pass

    asked: list[str] = []

    def breaks(job: Job, _: float) -> Row:
        if len(asked) == 2:
            raise Cut
        asked.append(job.key)
        return found(job)

    with pytest.raises(Cut):
        run(tmp_path, breaks)
    again = report()
    again.resume(tmp_path)
    assert list(again.done) == asked and len(asked) == 2
    other = Report(again.at, {**ABOUT, "torch": "9.9"}, False)
    other.resume(tmp_path)
    assert other.rows == []

    def measure(job: Job, _: float) -> Row:
        assert job.key not in asked
        return found(job)

    assert Bench(again, tmp_path, CARDS, time.monotonic() + 1e6).run(todo(), measure) == 0
    assert len(again.rows) == 12


def test_no_row_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    def never(job: Job, _: float) -> Row:
        raise AssertionError(job.key)

    made, left = run(tmp_path, never, seconds=bench.LEAST_S - 1)
    assert (made.rows, left) == ([], 12)


def test_a_row_cut_by_the_budget_waits_and_one_that_is_slow_by_itself_is_told(tmp_path: Path) -> None:
    def slow(job: Job, _: float) -> Row:
        raise TookTooLong

    made, left = run(tmp_path, slow, seconds=bench.ROW_LIMIT_S - 1)
    assert (made.rows, left) == ([], 12)
    made, left = run(tmp_path, slow)
    assert {row["outcome"] for row in made.rows} == {"took too long"} and left == 0


def test_out_of_memory_is_a_result_that_smaller_cards_need_not_repeat(tmp_path: Path) -> None:
    asked: list[str] = []

    def measure(job: Job, _: float) -> Row:
        asked.append(job.key)
        if job.way == "plain" and job.card_gb <= 16:
            return {"outcome": "out of memory", "phase": "load", "why": "too small"}
        return found(job)

    made, _ = run(tmp_path, measure)
    assert len(made.rows) == 12
    # 8 GB is measured first, being this model's own size; then 24, 16, and 12 is known.
    assert [key for key in asked if key.endswith("plain")] == [
        f"{WAN} 8 GB plain", f"{WAN} 24 GB plain", f"{WAN} 16 GB plain",
    ]  # fmt: skip
    assert made.done[f"{WAN} 12 GB plain"]["why"] == "as with 16 GB"
    text = made.as_markdown()
    assert f"| {WAN} | 12 GB | plain | **out of memory** (load) |" in text
    assert f"| {WAN} | 12 GB | 1.00x | out of memory |" in text


def test_a_card_smaller_than_the_size_asked_for_is_not_tried(tmp_path: Path) -> None:
    made = Report(datetime.now(UTC), {**ABOUT, "gpu": {**ABOUT["gpu"], "memory_gb": 12.9}}, False)
    Bench(made, tmp_path, CARDS, time.monotonic() + 1e6).run(todo(), lambda job, _: found(job))
    outcomes = {row["card_gb"]: row["outcome"] for row in made.rows}
    assert outcomes == {8: "done", 12: "done", 16: "needs a larger card", 24: "needs a larger card"}


# -- what the numbers mean


def test_a_row_tells_the_whole_clip_and_its_share_of_the_cards_arithmetic() -> None:
    (job, *_) = todo()
    row = row_of(job, found(job), CARDS[WAN], H100)
    # The first step warms up and does not count.
    assert (row["step_s"], row["clip_s"]) == (0.5, 30.0)
    # Two passes of 2 x 1.419e9 x 32,760 and 4 x 30 x 32,760^2 x 1,536 operations in half a second, of 989e12.
    assert row["tflops"] == pytest.approx(2 * (9.297e13 + 1.9782e14) / 0.5 / 1e12, rel=1e-3)
    assert row["bf16_share"] == pytest.approx(row["tflops"] / 989, abs=1e-3)
    assert "bf16_share" not in row_of(job, found(job), CARDS[WAN], "NVIDIA Unheard-of")


@pytest.mark.parametrize(
    ("peak", "holds", "factor"), [(6.3 * 1.14, True, 1.14), (6.3 * 1.3, False, 1.3), (6.3 * 0.8, False, 0.8)]
)
def test_a_prediction_further_off_than_15_percent_is_corrected_by_calibration(
    peak: float, holds: bool, factor: float
) -> None:
    (job, *_) = todo()
    rows = [row_of(job, found(job, allocated_gb=peak), CARDS[WAN], H100)]
    (verdict,) = verdicts(rows)
    assert (verdict.holds, verdict.factor) == (holds, pytest.approx(factor))
    made = report(rows=rows)
    assert ("`models calibrate` on this card would multiply" in made.as_markdown()) is not holds
    device = json.loads(made.as_json())["calibration"]["devices"][0]
    assert (device["device"], device["rows"][0]["predicted_peak_gb"]) == (H100, 6.3)


def test_only_our_own_plans_judge_the_planner() -> None:
    rows = [row_of(job, found(job), CARDS[WAN], H100) for job in todo() if job.way != "ours"]
    assert verdicts(rows) == []


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        (H100, 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 88.2),
        ("NVIDIA GeForce RTX 4070", 58.3),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA T4", None),
    ],
)
def test_a_cards_peak_is_found_by_its_name(name: str, tflops: float | None) -> None:
    peak = peak_of(name)
    assert (peak.tflops if peak else None) == tflops


def test_every_peak_is_reachable_and_names_its_source() -> None:
    assert all(peak_of(f"NVIDIA {peak.chip}") is peak and peak.source for peak in PEAKS)


def test_the_machine_is_told_without_its_name() -> None:
    told = machine("torch")
    assert {"cores", "cpu", "memory_gb", "system", "python", "gpu", "torch"} <= set(told)
    assert os.uname().nodename not in json.dumps(told)
