"""What the machine's own tools tell about its card, and what is said when card, driver and torch do not match."""

from pathlib import Path

import pytest

from local_models._device import here, parse, problem_of, torch_build

ADA = "NVIDIA GeForce RTX 4070, 12282, 11500, 580.95.05, 8.9\n"


def test_cards_are_read_from_the_drivers_tool_and_noise_is_left_out() -> None:
    text = (
        "Failed to initialize\n"
        + ADA
        + "NVIDIA H100 80GB HBM3, 81559, [N/A], 535.1, 9.0\nTesla T4, 15360, 15000, 470.1, [N/A]\n"
    )
    found = parse(text)
    assert [(name, round(total, 1), driver, capability) for name, total, _, driver, capability in found] == [
        ("NVIDIA GeForce RTX 4070", 12.9, "580.95.05", 8.9),
        ("Tesla T4", 16.1, "470.1", None),
    ]


@pytest.mark.parametrize(
    ("driver", "capability", "torch", "cuda", "said"),
    [
        ("580.95.05", 8.9, "2.13.0", "13.0", None),
        ("535.1", 8.9, "2.13.0+cu126", "12.6", None),
        ("570.1", 8.9, "2.13.0", "13.0", "too old for torch 2.13.0"),
        ("470.1", 8.6, "2.13.0", "12.6", "525 or newer"),
        ("580.1", 8.9, "2.13.0+cpu", None, "built without CUDA"),
        ("580.1", 7.5, "2.13.0", "13.0", "compute capability 7.5"),
        ("unknown", None, "2.13.0", "13.0", None),
        ("580.1", 8.9, None, None, None),
    ],
)
def test_what_does_not_go_together_is_said_with_what_to_do(
    driver: str, capability: float | None, torch: str | None, cuda: str | None, said: str | None
) -> None:
    found = problem_of("NVIDIA X", driver, capability, torch, cuda)
    if said is None:
        assert found is None
    else:
        assert found is not None
        assert said in found.en
        assert found.ja != found.en


def test_without_a_card_this_machine_is_its_cpu_and_says_so() -> None:
    found = here("auto", run=lambda: None)
    assert found.facts.kind == "cpu"
    assert found.label.startswith("CPU")
    assert found.problem is not None
    assert "--vram" in found.problem.en
    assert here("cpu", run=lambda: ADA).problem is None


def test_a_card_is_taken_by_its_index() -> None:
    two = ADA + "NVIDIA GeForce RTX 4090, 24564, 24000, 580.95.05, 8.9\n"
    assert here("auto", run=lambda: two).facts.name == "NVIDIA GeForce RTX 4070"
    assert here("cuda:1", run=lambda: two).facts.name == "NVIDIA GeForce RTX 4090"
    assert here("cuda:2", run=lambda: two).facts.kind == "cpu"


def test_the_tool_is_really_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{ADA.strip()}'\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = here()
    assert (found.facts.kind, found.facts.capability, found.driver) == ("cuda", 8.9, "580.95.05")


def test_torch_is_known_without_loading_it() -> None:
    import torch

    assert torch_build() == (torch.__version__, torch.version.cuda)
