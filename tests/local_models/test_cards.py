"""The shipped cards of our own device: complete, truthful about lengths and sizes, free of charge."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import local_models
from local_models._render import largest, render_of
from local_models._weights import LORAS, PARTS
from router.catalog import Catalog
from router.contract.card import LostSubmit, ModelCard, Where
from router.contract.errors import UnsupportedRequest
from router.contract.fit import fit
from router.contract.request import Task, VideoRequest
from tests.local_models.conftest import OneImage

CATALOG = Catalog.load()
LOCAL = {card.id: card for card in CATALOG.cards.values() if card.backend == "local"}


def clip(name: str, **fields: Any) -> tuple[int, int, int, int]:
    card = LOCAL[name]
    resolved = fit(VideoRequest(prompt="x", **fields), card, seed=1, inputs={})
    render = render_of(resolved, card, OneImage(Path("p.png")))
    return render.width, render.height, render.frames, render.steps


def test_nothing_is_wrong_with_our_files() -> None:
    assert [problem for problem in CATALOG.problems if problem.provider in {"local", "testcard"}] == []
    assert set(LOCAL) >= {"local/tiny", "local/wan2.1-t2v-1.3b", "local/wan2.2-ti2v-5b"}


@pytest.mark.parametrize("card", LOCAL.values(), ids=LOCAL)
def test_a_local_model_costs_nothing_and_may_be_sent_again(card: ModelCard) -> None:
    assert [price.usd for price in card.prices] == [Decimal(0)]
    assert (card.where, card.lost_submit, card.failure_billed, card.cancel) == (
        Where.HOUSE,
        LostSubmit.RESEND,
        "never",
        "running",
    )
    local = card.local
    assert local is not None
    assert (local.native_frames - local.frame_rule[1]) % local.frame_rule[0] == 0
    assert all(
        size.width % local.size_multiple == size.height % local.size_multiple == 0 for size in card.sizes
    )
    assert largest(card)[2] == local.max_frames
    assert local.licence


FREE = {"tiny", "wan2", "fastwan", "cogvideox-2b", "mochi"}
RESTRICTIONS = {
    "hunyuan": ("European Union", "United Kingdom", "South Korea"),
    "ltx-2-": ("paid licence", "10 million"),
    "ltx-video": ("conditions", "paid licence", "10 million"),
    "cogvideox-5b": ("registration",),
}


@pytest.mark.parametrize("card", LOCAL.values(), ids=LOCAL)
def test_a_licence_says_its_restrictions(card: ModelCard) -> None:
    assert card.local is not None
    name = card.id.removeprefix("local/")
    said = next((terms for start, terms in RESTRICTIONS.items() if name.startswith(start)), None)
    if said is None:
        assert name.startswith(tuple(FREE))
        assert card.local.licence == "Apache-2.0"
    else:
        assert all(term in card.local.licence for term in said)


@pytest.mark.parametrize("card", LOCAL.values(), ids=LOCAL)
def test_the_code_of_every_card_is_there_and_what_it_names_beside_the_repository_has_a_place(
    card: ModelCard,
) -> None:
    local = card.local
    assert local is not None
    code = Path(local_models.__file__).with_name(f"{local.pipeline.removeprefix('local_models.')}.py")
    assert code.is_file()
    assert local.revision is None or re.fullmatch(r"[0-9a-f]{40}", local.revision)
    for file in card.wire.get("files", ()):
        assert file.keys() <= {"repository", "revision", "file", "to"}
        assert file["to"].split("/")[0] in {*PARTS, LORAS}
        assert Path(file["to"]).suffix == Path(file["file"]).suffix
    recipe = card.wire.get("recipe", {})
    levels = recipe.get("sigmas") or recipe.get("timesteps")
    if levels:
        assert len(levels) == local.steps
        assert levels == sorted(levels, reverse=True)
        assert "steps" not in card.options
        assert "steps" not in card.wire
    if local.guidance <= 1:
        assert not card.negative_prompt
        assert not card.guidance


NOT_PINNED = {
    "rootonchair/LTX-2-19b-distilled",
    "city96/Wan2.1-I2V-14B-480P-gguf",
    "QuantStack/Wan2.2-I2V-A14B-GGUF",
}
"""No commit of these was found in two public repositories (2026-11-26)."""


def test_every_other_repository_is_pinned_to_a_commit() -> None:
    named: dict[str, set[str | None]] = {}
    for card in LOCAL.values():
        if card.local and card.local.repository:
            named.setdefault(card.local.repository, set()).add(card.local.revision)
        for file in card.wire.get("files", ()):
            named.setdefault(file["repository"], set()).add(file.get("revision"))
    assert {name for name, commits in named.items() if commits == {None}} == NOT_PINNED
    for name, commits in named.items():
        assert len(commits) == 1, name
        assert all(commit is None or re.fullmatch(r"[0-9a-f]{40}", commit) for commit in commits)


@pytest.mark.parametrize(
    "name", ["ltx-video-2b", "ltx-video-13b", "cogvideox-2b", "cogvideox-5b-i2v", "mochi-1"]
)
def test_a_japanese_prompt_does_not_fit_a_model_that_reads_english_only(name: str) -> None:
    request = VideoRequest(prompt="赤い風船", prompt_language="ja", task=Task.TEXT_TO_VIDEO)
    card = LOCAL[f"local/{name}"].model_copy(update={"tasks": (Task.TEXT_TO_VIDEO,)})
    with pytest.raises(UnsupportedRequest, match="prompts in ja are not understood"):
        fit(request, card, seed=1, inputs={})
    for other in ("wan2.1-t2v-1.3b", "ltx-2-distilled", "hunyuan-video-1.5-t2v-480p"):
        assert fit(request, LOCAL[f"local/{other}"], seed=1, inputs={}).prompt == "赤い風船"


def test_only_the_shipped_model_is_for_demonstration_and_its_files_are_here() -> None:
    assert [card.id for card in LOCAL.values() if card.demo] == ["local/tiny"]
    tiny = LOCAL["local/tiny"].local
    assert tiny is not None
    assert tiny.path is not None
    assert (Path(local_models.__file__).parent / tiny.path / "model_index.json").is_file()


@pytest.mark.parametrize(
    ("name", "fields", "made"),
    [
        ("local/tiny", {}, (64, 64, 17, 12)),
        ("local/tiny", {"duration": 1, "quality": "draft"}, (64, 64, 17, 6)),
        ("local/wan2.1-t2v-1.3b", {}, (832, 480, 81, 50)),
        ("local/wan2.1-t2v-1.3b", {"duration": 5, "aspect_ratio": "9:16"}, (480, 832, 81, 50)),
        ("local/wan2.2-ti2v-5b", {"duration": 3, "quality": "draft"}, (1280, 704, 73, 25)),
        ("local/wan2.2-t2v-a14b", {"resolution": "720p"}, (1280, 720, 81, 40)),
        ("local/wan2.2-t2v-a14b-4step", {}, (832, 480, 81, 4)),
        ("local/fastwan2.2-ti2v-5b", {}, (1280, 704, 121, 3)),
        ("local/ltx-video-2b", {"duration": 2}, (832, 480, 49, 8)),
        ("local/ltx-2-distilled", {"duration": 10, "resolution": "720p"}, (1280, 704, 241, 8)),
        ("local/hunyuan-video-1.5-t2v-480p", {"quality": "draft"}, (848, 480, 121, 25)),
        ("local/cogvideox-5b", {"duration": 3}, (720, 480, 25, 50)),
        ("local/mochi-1", {"duration": 1}, (848, 480, 31, 64)),
    ],
)
def test_a_request_is_made_at_the_models_own_numbers(
    name: str, fields: dict[str, Any], made: tuple[int, int, int, int]
) -> None:
    assert clip(name, **fields) == made
