"""The weights room over a hub twin: the tiny model as a repository, and a card for it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from local_models._runner import Local
from router.catalog import Catalog
from router.contract.backend import BackendConfig
from router.contract.card import ModelCard
from router.contract.words import Words
from router.settings import Settings
from router.weights import Installed, Weights
from tests.hub_twin import HubTwin, Repo
from tests.local_models.conftest import OneImage

TINY = Path(__file__).parents[3] / "local_models" / "tiny" / "weights"
REPOSITORY = "understudy-tests/tiny-video"
MODEL = "local/pulled"
FILE = "transformer/diffusion_pytorch_model.safetensors"
CUT = 150_000
CARD = f"""
[[model]]
id = "{MODEL}"
wire_id = "pulled"
family = "pulled"
where = "house"
tasks = ["text-to-video"]
fps = [8]
resolutions = ["64x64"]
aspect_ratios = ["1:1"]
seed = true
as_of = 2026-11-26
source = "tests"
sizes = [{{ resolution = "64x64", aspect_ratio = "1:1", width = 64, height = 64 }}]
options = {{ steps = "Steps." }}

[[model.prices]]
usd = "0"
per = "clip"
as_of = 2026-11-26
source = "tests"

[model.local]
repository = "{REPOSITORY}"
licence = "Apache-2.0"
pipeline = "local_models.wan"
frame_rule = [16, 1]
size_multiple = 32
native_frames = 17
max_frames = 17
steps = 2
guidance = 1.0
max_sequence_length = 32
parameters_b = 0.0017
"""

Shelf = Callable[..., Weights]


def content() -> dict[str, bytes]:
    """The tiny model as a repository that has everything in other forms beside it."""
    files = {
        path.relative_to(TINY).as_posix(): path.read_bytes() for path in TINY.rglob("*") if path.is_file()
    }
    junk = ("tiny.safetensors", "transformer/diffusion_pytorch_model.fp16.safetensors", "vae/model.onnx")
    return {
        **files,
        **dict.fromkeys((*junk, "text_encoder/pytorch_model.bin", "transformer/code.py"), b"never fetched"),
        "LICENSE": b"Apache License",
        "tokenizer/merges.txt": b"",
        "README.md": b"# Tiny",
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubTwin]:
    with HubTwin({REPOSITORY: Repo(content())}) as twin:
        monkeypatch.setenv("HF_ENDPOINT", twin.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        yield twin


@pytest.fixture
def shelf(home: Path, tmp_path: Path) -> Shelf:
    """The weights room over the real backend's own check; a pause after a cut would only slow the tests."""
    (home / "providers").mkdir()
    (home / "providers" / "own.toml").write_text(CARD, encoding="utf-8")

    def make(
        *, licence: str | None = None, environ: dict[str, str] | None = None, **sections: Any
    ) -> Weights:
        settings = Settings.load({"UNDERSTUDY_HOME": str(home), **(environ or {})}, sections)
        cards = dict(Catalog.load(home / "providers").cards)
        card = cards[MODEL]
        assert card.local is not None
        if licence is not None:
            local = card.local.model_copy(update={"licence": licence})
            cards[MODEL] = card.model_copy(update={"local": local})
        backend = Local(BackendConfig("local", cards, OneImage(tmp_path), tmp_path / "scratch"))

        async def inspect(card: ModelCard, folder: Path) -> Words | None:
            return await backend.inspect(card, folder)

        return Weights(settings, cards, inspect, retry_s=0)

    return make


async def bring(weights: Weights, *, accept: bool = True, **how: Any) -> Installed:
    return await weights.pull(await weights.plan("pulled", **how), accept=accept)


def holds(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def nothing_whole(home: Path) -> bool:
    return not (home / "models" / "pulled").exists()
