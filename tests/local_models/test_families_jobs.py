"""Every family in every mode as the model process makes it: progress to the end, a cancel within one step, the next job."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import av
import pytest

from local_models._desk import _PHASES
from local_models._messages import Cancel, Done, Failed, FromChild, Load, Loaded, Render, Run, Step
from local_models._render import render_of
from router.catalog import Catalog
from router.contract.card import ModelCard, ResolvedRequest
from router.contract.request import Task
from tests.local_models.conftest import OneImage
from tests.local_models.test_worker import Desk

if TYPE_CHECKING:
    from tests.local_models.random_families import Family
    from tests.local_models.random_weights import Folders

# Mochi asks for an autocast that only a card has; on the CPU its position table is in fp32 anyway.
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")

CLIP = Render("a ball", 64, 64, 17, 8, steps=4, seed=5, guidance=3.0, max_sequence_length=24)
RECIPES = {"ltx": {"decode_timestep": 0.05, "decode_noise_scale": 0.025}}
MODES = {
    "wan-ti2v": ("text", "first"),
    "wan-clip": ("first",),
    "wan-first-last": ("both",),
    "wan-two-experts": ("text",),
    "wan-two-experts-image": ("first", "both"),
    "ltx": ("text", "first", "both"),
    "ltx2": ("text", "first", "both"),
    "hunyuan15": ("text",),
    "hunyuan15-i2v": ("first",),
    "cogvideox": ("text",),
    "cogvideox-i2v": ("first",),
    "mochi": ("text",),
}
"""Text alone, with a first frame, with a first and a last one: what each flavour is made for."""
FLAVOURS = {
    r"tiny|(fast)?wan2\.2-ti2v-5b": "wan-ti2v",
    r"(fast)?wan2\.1-t2v.*|wan2\.2-t2v.*": "wan-two-experts",
    r"wan2\.1-i2v.*": "wan-clip",
    r"wan2\.2-i2v.*": "wan-two-experts-image",
    r"ltx-video.*": "ltx",
    r"ltx-2.*": "ltx2",
    r"hunyuan-video-1\.5-t2v.*": "hunyuan15",
    r"hunyuan-video-1\.5-i2v.*": "hunyuan15-i2v",
    r"cogvideox-.b": "cogvideox",
    r"cogvideox-5b-i2v": "cogvideox-i2v",
    r"mochi.*": "mochi",
}
"""Shipped cards, by the flavour that they are."""


SHIPPED = {name: card for name, card in Catalog.load().cards.items() if card.local is not None}


class Noting(Desk):
    """The model process without a process around it; it is told to stop as soon as it has told a certain step."""

    stop_at: tuple[str, int] | None = None

    def _send(self, message: FromChild) -> None:
        super()._send(message)
        if isinstance(message, Step) and (message.phase, message.done) == self.stop_at:
            self.worker.accept(Cancel(message.ticket))


@pytest.fixture(scope="module")
def folders(weights: "Folders", families: "dict[str, Family]") -> dict[str, tuple[str, Path]]:
    wan = {
        "wan-ti2v": weights.ti2v,
        "wan-clip": weights.clip,
        "wan-first-last": weights.first_last,
        "wan-two-experts": weights.two_experts,
        "wan-two-experts-image": weights.two_experts_image,
    }
    others = {name: (family.module, family.folder) for name, family in families.items()}
    return {**{name: ("wan", folder) for name, folder in wan.items()}, **others}


@pytest.fixture(scope="module")
def desk() -> Iterator[Noting]:
    yield Noting(0.0, "cpu")


def load(desk: Noting, folders: dict[str, tuple[str, Path]], name: str) -> None:
    module, folder = folders[name]
    said = desk.ask(Load(name, f"local_models.{module}", str(folder), "cpu", 64, 64, 17))
    assert isinstance(said, Loaded), said


def clip_of(name: str, mode: str, picture: Path, red: Path) -> Render:
    return replace(
        CLIP,
        first_frame=None if mode == "text" else str(picture),
        last_frame=str(red) if mode == "both" else None,
        recipe=RECIPES.get(name, {}),
    )


def test_no_family_and_no_mode_is_left_out(folders: dict[str, tuple[str, Path]]) -> None:
    assert set(folders) == set(MODES)
    served = {card.local.pipeline for card in SHIPPED.values() if card.local is not None}
    assert {f"local_models.{module}" for module, _ in folders.values()} == served


def flavour_of(card: ModelCard) -> str:
    name = card.id.removeprefix("local/")
    (flavour,) = (flavour for pattern, flavour in FLAVOURS.items() if re.fullmatch(pattern, name))
    return flavour


def test_every_shipped_card_offers_what_its_weights_can_use_and_nothing_else() -> None:
    for card in SHIPPED.values():
        text, image = Task.TEXT_TO_VIDEO in card.tasks, Task.IMAGE_TO_VIDEO in card.tasks
        offered = {
            "text": text,
            "first": image and not card.last_frame_alone,
            "both": image and card.last_frame,
        }
        # FastWan was distilled on text alone, with weights that can use an image.
        used = ("text",) if "/fastwan" in card.id else MODES[flavour_of(card)]
        assert {mode for mode, has in offered.items() if has} == set(used), card.id


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_one_that_its_family_can_follow(
    desk: Noting, folders: dict[str, tuple[str, Path]], name: str, picture: Path, tmp_path: Path
) -> None:
    card = SHIPPED[name]
    assert card.local is not None
    flavour = flavour_of(card)
    load(desk, folders, flavour)
    asked = ResolvedRequest(
        model=name,
        backend="local",
        wire_id=card.wire_id,
        task=card.tasks[0],
        prompt="a ball",
        duration=17 / card.fps[0],
        fps=card.fps[0],
        width=64,
        height=64,
        seed=5,
    )
    # The card's own numbers, but for the size and for steps that no noise levels are given for.
    clip = render_of(asked, card, OneImage(picture))
    assert f"local_models.{folders[flavour][0]}" == card.local.pipeline
    if not {"sigmas", "timesteps"} & clip.recipe.keys():
        clip = replace(clip, steps=min(clip.steps, 4))
    if "text" not in MODES[flavour]:
        clip = replace(clip, first_frame=str(picture))
    desk.said.clear()
    made = desk.ask(Run("t", str(tmp_path / "t.mp4"), replace(clip, max_sequence_length=24), flavour))
    assert isinstance(made, Done), made
    told = [said for said in desk.said if isinstance(said, Step) and said.phase == "denoise"]
    assert (told[-1].done, told[-1].total) == (clip.steps, clip.steps)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (name, mode)
        for name, modes in MODES.items()
        for mode in ("text", "first", "both")
        if mode not in modes
    ],
)
def test_a_frame_that_the_weights_do_not_use_or_lack_is_said_before_the_first_step(
    desk: Noting,
    folders: dict[str, tuple[str, Path]],
    name: str,
    mode: str,
    picture: Path,
    red: Path,
    tmp_path: Path,
) -> None:
    load(desk, folders, name)
    desk.said.clear()
    clip = clip_of(name, mode, picture, red)
    ended = desk.ask(Run("t", str(tmp_path / "t.mp4"), clip, name))
    assert isinstance(ended, Failed)
    assert "This model" in ended.en
    assert "画像" in ended.ja or "フレーム" in ended.ja
    assert ended.left == "model"
    assert not [said for said in desk.said if isinstance(said, Step) and said.phase != "encode"]


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, modes in MODES.items() for mode in modes])
def test_progress_ends_at_the_end_a_cancel_takes_one_step_and_the_next_job_is_the_same_to_the_byte(
    desk: Noting,
    folders: dict[str, tuple[str, Path]],
    name: str,
    mode: str,
    picture: Path,
    red: Path,
    tmp_path: Path,
) -> None:
    load(desk, folders, name)
    clip = clip_of(name, mode, picture, red)

    def job(ticket: str, render: Render) -> FromChild:
        desk.said.clear()
        return desk.ask(Run(ticket, str(tmp_path / f"{ticket}.mp4"), render, name))

    assert isinstance(job("first", clip), Done), desk.said[-1]
    steps = [said for said in desk.said if isinstance(said, Step)]
    assert list(dict.fromkeys(step.phase for step in steps)) == list(_PHASES)
    bar = [_bar(step) for step in steps]
    assert bar == sorted(bar), "before the desk smooths it"
    # Of the file only its beginning is told, then Done, which is the end of the bar.
    ends = {**{phase: end for phase, (_, end) in _PHASES.items()}, "write": _PHASES["write"][0]}
    for phase, end in ends.items():
        assert max(_bar(step) for step in steps if step.phase == phase) == pytest.approx(end), phase
    assert [step.done for step in steps if step.phase == "denoise"][-4:] == [1, 2, 3, 4]
    assert len(_frames(tmp_path / "first.mp4")) == (19 if name == "mochi" else 17)

    desk.stop_at = ("denoise", 1)
    ended = job("cancelled", replace(clip, seed=6))
    desk.stop_at = None
    assert isinstance(ended, Failed)
    assert (ended.kind, ended.left) == ("cancelled", "model")
    told = [(said.phase, said.done) for said in desk.said if isinstance(said, Step)]
    assert told[-1] == ("denoise", 1), "no further step was made"
    assert not list(tmp_path.glob("cancelled*"))

    assert isinstance(job("again", clip), Done)
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "first.mp4").read_bytes()
    assert isinstance(job("other", replace(clip, seed=6)), Done)
    assert _frames(tmp_path / "other.mp4") != _frames(tmp_path / "first.mp4")


def _frames(path: Path) -> list[bytes]:
    with av.open(str(path)) as clip:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in clip.decode(video=0)]


def _bar(step: Step) -> float:
    start, end = _PHASES[step.phase]
    return start + (end - start) * step.done / step.total
