"""Pictures of a clip on its way: what the latents tell, and that watching changes nothing."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import local_models
from local_models._messages import Render, Run, Sketched
from local_models._runner import Local
from local_models._showing import LONGEST, Shower, write
from router.contract import errors
from router.contract.backend import Operation, Pending
from tests.local_models.conftest import SCRIPTED, card, follow, request, until

if TYPE_CHECKING:
    from tests.local_models.random_families import Family
    from tests.local_models.random_weights import Folders

# As for the families' own tests.
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")

TINY = Path(local_models.__file__).parent / "tiny" / "weights"
CLIP = Render("a red ball moves left", 64, 64, 17, 8, 4, 3, 2.5, max_sequence_length=32)
FAMILIES = ["ltx", "ltx2", "hunyuan15", "cogvideox", "mochi"]


@pytest.fixture
def at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_models._sketch.EVERY_S", 0.0)
    monkeypatch.setattr("local_models._sketch.COST", 0)


# -- the matrix


def test_a_linear_map_is_found_and_latents_that_tell_nothing_explain_nothing() -> None:
    from local_models._sketch import EXPLAINED, fit

    random = np.random.default_rng(0)
    latents, true = random.normal(size=(400, 6)), random.normal(size=(7, 3))
    rgb = np.hstack([latents, np.ones((400, 1))]) @ true
    found, explained = fit(latents, rgb)
    assert np.abs(found - true).max() < 0.05
    assert explained > 0.99
    assert fit(random.normal(size=(400, 6)), rgb)[1] < EXPLAINED


def test_the_shipped_models_latents_tell_their_colours(at_every_step: None) -> None:
    from local_models import wan
    from local_models._sketch import colours_of

    pipe = wan.load(TINY)
    pipe.colours = colours_of(pipe)
    assert pipe.colours is not None
    assert pipe.colours.explained > 0.8
    shown: list[Any] = []
    plain = wan.generate(pipe, CLIP).frames
    pipe.show = shown.append
    frames = wan.generate(pipe, CLIP).frames
    assert np.array_equal(frames, plain), "watching changes nothing"
    assert len(shown) == CLIP.steps - 1
    small = np.asarray(Image.fromarray(frames[8]).resize((4, 4), Image.Resampling.BOX)).astype(float)
    away = [float(np.abs(picture - small).mean()) for picture in shown]
    assert shown[-1].shape == (4, 4, 3)
    assert away[-1] < 30


def test_a_vae_whose_latents_do_not_tell_shows_nothing(
    families: "dict[str, Family]", at_every_step: None
) -> None:
    from local_models import ltx
    from local_models._sketch import colours_of

    pipe = ltx.load(families["ltx"].folder)
    pipe.colours = colours_of(pipe)
    assert pipe.colours is None
    shown: list[Any] = []
    pipe.show = shown.append
    ltx.generate(pipe, replace(CLIP, guidance=1.0))
    assert shown == []


@pytest.mark.parametrize("name", FAMILIES)
def test_every_familys_latents_become_pictures_of_its_middle_frame(
    families: "dict[str, Family]", name: str, at_every_step: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from local_models._sketch import colours_of

    family = families[name]
    module = importlib.import_module(f"local_models.{family.module}")
    monkeypatch.setattr("local_models._sketch.EXPLAINED", -float("inf"))
    pipe = module.load(family.folder)
    pipe.colours = colours_of(pipe)
    assert pipe.colours is not None
    clip = replace(CLIP, guidance=1.0, max_sequence_length=24)
    plain = module.generate(pipe, clip).frames
    shown: list[Any] = []
    pipe.show = shown.append
    frames = module.generate(pipe, clip).frames
    assert np.array_equal(frames, plain)
    assert len(shown) == CLIP.steps - 1
    _, height, width, _ = frames.shape
    (shape,) = {picture.shape for picture in shown}
    assert height // shape[0] == width // shape[1] > 1


@pytest.mark.parametrize(
    ("first", "second"), [((0.2, 0.8), (0.5, 0.5)), ((0.6, 0.8), (0.8, 0.6)), ((0.5, 0.5), (1.0, 0.0))]
)
def test_two_states_of_one_path_tell_the_clip(
    first: tuple[float, float], second: tuple[float, float]
) -> None:
    import torch

    from local_models._sketch import clean

    clip, noise = torch.randn(2, 1, 4, 1, 3, 3)
    before, after = (clip * kept + noise * left for kept, left in (first, second))
    assert torch.allclose(clean(before, after, first, second), clip, atol=1e-5)


def test_a_scheduler_that_renoises_shows_nothing() -> None:
    from diffusers import FlowMatchLCMScheduler

    from local_models._sketch import levels

    kind: Any = FlowMatchLCMScheduler
    scheduler = kind()
    scheduler.set_timesteps(4)
    assert levels(scheduler, 1) is None


# -- the file


@pytest.mark.parametrize(
    ("clip", "size"), [((832, 480), (256, 148)), ((480, 832), (148, 256)), ((64, 64), (64, 64))]
)
def test_a_picture_has_the_proportions_of_the_clip(
    tmp_path: Path, clip: tuple[int, int], size: tuple[int, int]
) -> None:
    write(tmp_path / "s.webp", np.zeros((6, 10, 3), np.uint8), *clip)
    with Image.open(tmp_path / "s.webp") as picture:
        assert (picture.size, picture.format) == (size, "WEBP")
    assert max(size) <= LONGEST
    assert [path.name for path in tmp_path.iterdir()] == ["s.webp"]


def test_nothing_is_written_for_a_job_that_has_ended_and_a_full_disk_ends_none(tmp_path: Path) -> None:
    import threading

    told = threading.Semaphore(0)
    said: list[str] = []

    def tell(sketched: Sketched) -> None:
        said.append(sketched.ticket)
        told.release()

    shower, picture = Shower(tell), np.zeros((4, 4, 3), np.uint8)
    shower.show(Run("lost", str(tmp_path / "not" / "there.mp4"), CLIP, "m"), picture)
    shower.end("lost")
    shower.show(Run("a", str(tmp_path / "a.mp4"), CLIP, "m"), picture)
    assert told.acquire(timeout=30)
    shower.end("a")
    (tmp_path / "a.webp").unlink()
    shower.show(Run("b", str(tmp_path / "b.mp4"), CLIP, "m"), picture)
    assert told.acquire(timeout=30)
    assert said == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["b.webp"]


# -- over the model process


async def watched(backend: Local, operation: Operation) -> Path:
    found: list[Path] = []
    look = await backend.poll(operation)
    while isinstance(look, Pending) and not found:
        if look.sketch is not None:
            found.append(look.sketch)
        look = await backend.poll(operation)
        await until(lambda: True)
    assert found, "it ended before a picture was there"
    return found[0]


async def test_a_long_job_shows_pictures_that_do_not_outlive_it(make_local: Callable[..., Local]) -> None:
    backend = make_local(card("tiny", TINY))
    long = request("local/tiny", width=64, height=64, duration=2, options={"steps": 200})
    operation = await backend.submit(long, key="j:a1")
    path = await watched(backend, operation)
    with Image.open(path) as picture:
        picture.load()
        assert (picture.size, picture.format) == ((64, 64), "WEBP")
    await follow(backend, operation)
    assert not path.exists()
    second = await backend.submit(long, key="j:a2")
    path = await watched(backend, second)
    assert await backend.cancel(second)
    with pytest.raises(errors.Cancelled):
        await follow(backend, second)
    assert [left.suffix for left in path.parent.iterdir() if left.name.startswith(path.stem)] == []
    await backend.aclose()


async def test_a_model_without_latents_to_look_at_shows_nothing(
    make_local: Callable[..., Local], weights: "Folders"
) -> None:
    backend = make_local(card("scripted", weights.ti2v, SCRIPTED))
    operation = await backend.submit(request("local/scripted", "fine"), key="j:a1")
    look = await backend.poll(operation)
    while isinstance(look, Pending):
        assert look.sketch is None
        look = await backend.poll(operation)
        await until(lambda: True)
    await backend.aclose()
