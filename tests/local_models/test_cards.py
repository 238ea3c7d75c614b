"""The shipped cards of our own device: complete, truthful about lengths and sizes, free of charge."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import local_models
from local_models._render import largest, render_of
from router.catalog import Catalog
from router.contract.card import LostSubmit, ModelCard, Where
from router.contract.fit import fit
from router.contract.request import VideoRequest
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
    assert local.licence == "Apache-2.0"


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
    ],
)
def test_a_request_is_made_at_the_models_own_numbers(
    name: str, fields: dict[str, Any], made: tuple[int, int, int, int]
) -> None:
    assert clip(name, **fields) == made
