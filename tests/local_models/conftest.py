"""Tiny random weights in real diffusers format, cards for them, and backends over the real model process."""

import os

# Before torch is loaded: threads that wait must not spin on a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from local_models._runner import Local
from router.contract.backend import BackendConfig, Completed, Operation, Pending
from router.contract.card import Asset, InputMedia, ModelCard, ResolvedRequest

if TYPE_CHECKING:
    from tests.local_models.random_families import Family
    from tests.local_models.random_weights import Folders

PATIENCE_S = 60
SCRIPTED = "tests.local_models.scripted_pipeline"


class OneImage:
    """A media store with a single picture in it."""

    def __init__(self, picture: Path) -> None:
        self._picture = picture

    def path(self, asset: Asset) -> Path:
        return self._picture


def card(name: str, folder: Path, pipeline: str = "local_models.wan", **more: Any) -> ModelCard:
    """A card of a tiny model in `folder`."""
    row: dict[str, Any] = {
        "id": f"local/{name}",
        "backend": "local",
        "wire_id": name,
        "family": name,
        "tasks": ["text-to-video", "image-to-video"],
        "fps": [8],
        "sizes": [{"resolution": "32x32", "aspect_ratio": "1:1", "width": 32, "height": 32}],
        "options": {"steps": "Steps."},
        "camera": "words",
        "as_of": "2026-11-21",
        "source": "tests",
        "local": {
            "path": str(folder),
            "licence": "Apache-2.0",
            "pipeline": pipeline,
            "size_multiple": 32,
            "native_frames": 9,
            "max_frames": 17,
            "steps": 3,
            "guidance": 2.0,
            "max_sequence_length": 16,
        },
    }
    return ModelCard.model_validate({**row, **more})


def request(model: str, prompt: str = "a red ball", *, image: bool = False, **more: Any) -> ResolvedRequest:
    """A resolved request for nine frames of 32x32."""
    asset = Asset(id="0" * 64, mime="image/png", size_bytes=1, width=40, height=30)
    fields: dict[str, Any] = {
        "model": model,
        "backend": "local",
        "wire_id": model.partition("/")[2],
        "task": "image-to-video" if image else "text-to-video",
        "prompt": prompt,
        "duration": 9 / 8,
        "width": 32,
        "height": 32,
        "fps": 8,
        "seed": 7,
        "first_frame": InputMedia(asset=asset) if image else None,
    }
    return ResolvedRequest.model_validate({**fields, **more})


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that will happen."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0.02)


async def follow(backend: Local, operation: Operation, seen: list[float] | None = None) -> Completed:
    """Look until it has ended; `seen` takes every progress told."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            look = await backend.poll(operation)
            if isinstance(look, Completed):
                return look
            if seen is not None and look.progress is not None:
                seen.append(look.progress)
            await asyncio.sleep(0.01)


async def halfway(backend: Local, operation: Operation, progress: float = 0.2) -> Pending:
    """Look until that much is done."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            look = await backend.poll(operation)
            assert isinstance(look, Pending), "it ended before it could be watched"
            if (look.progress or 0) >= progress:
                return look
            await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "given.png"
    Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 20).convert("RGB").save(path)
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> "Folders":
    from tests.local_models import random_weights  # loads torch, which only these tests need

    return random_weights.build(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> "dict[str, Family]":
    from tests.local_models import random_families

    return random_families.build(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="session")
def red(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("red") / "red.png"
    Image.new("RGB", (64, 64), "red").save(path)
    return path


@pytest.fixture
def make_local(tmp_path: Path, picture: Path) -> Callable[..., Local]:
    def make(*cards: ModelCard, **options: Any) -> Local:
        rows = {row.id: row for row in cards}
        options = {"device": "cpu", **options}
        return Local(BackendConfig("local", rows, OneImage(picture), tmp_path / "scratch", options=options))

    return make


@pytest.fixture(scope="session")
def local(
    tmp_path_factory: pytest.TempPathFactory, picture: Path, weights: "Folders", families: "dict[str, Family]"
) -> Iterator[Local]:
    """One backend, and so one model process, for all tests that leave it healthy."""
    rows = [
        card("ti2v", weights.ti2v),
        card("two", weights.two_experts),
        card("scripted", weights.ti2v, SCRIPTED),
        card("sound", families["ltx2"].folder, "local_models.ltx2", audio="optional"),
    ]
    scratch = tmp_path_factory.mktemp("scratch")
    config = BackendConfig(
        "local", {row.id: row for row in rows}, OneImage(picture), scratch, options={"device": "cpu"}
    )
    backend = Local(config)
    yield backend
    asyncio.run(backend.aclose())


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a weights folder that may be damaged."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / "my-model"))
