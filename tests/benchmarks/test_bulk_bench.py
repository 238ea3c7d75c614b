"""The bulk bench itself: that both sides make the clips and that the file says what was measured. No figure is judged."""

import json
from pathlib import Path

import pytest

from benchmarks.bulk import __main__ as bench
from benchmarks.bulk.sides import card_of, renders


def test_a_tiny_run_measures_every_side_and_says_that_there_is_no_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code = bench.main(["--jobs", "2", "--rounds", "1", "--results", str(tmp_path)])
    (found,) = tmp_path.glob("*-bulk.json")
    data = json.loads(found.read_text(encoding="utf-8"))
    tiny = data["tiny_cpu"]
    assert set(tiny["seconds"]) == {"ours", "plain", "plain_one_thread"}
    assert all(len(rounds) == 1 and rounds[0] > 0 for rounds in tiny["seconds"].values())
    assert code == (0 if tiny["ratio"]["plain"] >= 1 else 1)
    assert data["machine"]["cores"]
    assert "tiny, CPU: 2 jobs" in capsys.readouterr().out
    assert str(tmp_path) not in found.read_text(encoding="utf-8")


def test_both_sides_get_different_clips_of_one_size() -> None:
    work = renders(card_of("local/tiny"), 20)
    assert len({(job.prompt, job.seed) for job in work}) == 20
    assert len({(job.width, job.height, job.frames, job.steps) for job in work}) == 1
