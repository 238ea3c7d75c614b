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
    for name in tiny["seconds"]:
        # One process with one or two busy threads: its CPU time is of the size of the wall's.
        assert 0 < tiny["cpu_seconds"][name][0] < 20 * tiny["seconds"][name][0]
    assert set(tiny["cpu_ratio"]) == set(tiny["ratio"]) == {"plain", "plain_one_thread"}
    assert code == (0 if tiny["ratio"]["plain"] >= 1 else 1)
    assert data["machine"]["cores"]
    assert "tiny, CPU: 2 jobs" in capsys.readouterr().out
    assert str(tmp_path) not in found.read_text(encoding="utf-8")


def test_the_ratio_is_the_middle_one_of_the_rounds_own() -> None:
    # The machine halved its speed in the second half: both sides of a round took twice as long.
    rounds = {"ours": [1.0, 1.0, 2.0, 2.0, 4.0], "plain": [1.5, 1.5, 3.0, 3.0, 40.0]}
    assert bench._ratios(rounds) == {"plain": 1.5}


def test_both_sides_get_different_clips_of_one_size() -> None:
    work = renders(card_of("local/tiny"), 20)
    assert len({(job.prompt, job.seed) for job in work}) == 20
    assert len({(job.width, job.height, job.frames, job.steps) for job in work}) == 1
