"""What must be true of every provider's rows: they agree with the code beside them, and no option can spend money."""

import importlib
import pkgutil
from datetime import UTC, datetime

import pytest

import tests.api_providers
from api_providers._http import HttpProvider
from router.catalog import Catalog, ProviderInfo, load_entry
from router.contract.backend import Checks, Finds
from router.contract.card import LostSubmit, ModelCard, Where
from router.contract.fit import fit
from router.contract.request import Task, VideoRequest
from router.pricing import estimate
from tests.backend_suite import BackendSuite

CATALOG = Catalog.load()
CLOUDS = [info for info in CATALOG.providers.values() if info.where is Where.CLOUD]
PRICED = frozenset(
    {
        *(
            "duration",
            "seconds",
            "resolution",
            "size",
            "width",
            "height",
            "fps",
            "mode",
            "quality",
            "model",
            "n",
        ),
        *("sound", "audio", "enable_audio", "generate_audio", "generateAudio", "num_videos", "sampleCount"),
        *("multi_prompt", "multi_shots", "multiPrompt", "service_mode", "draft", "outputFormat", "fpsBoost"),
    }
)
"""Fields that decide what a clip costs, in the vendors' spellings: a reservation could not hold them as options."""
MUST = {
    *("runway", "kling", "piapi", "aimlapi", "kie", "fal", "replicate", "luma", "luma-agents", "krea", "veo"),
    *("gemini", "hailuo", "wan", "openai"),
}


def cards_of(info: ProviderInfo) -> list[ModelCard]:
    return [card for card in CATALOG.cards.values() if card.backend == info.name]


def suites() -> set[type[HttpProvider]]:
    """The backends that the shared suite is run against."""
    for module in pkgutil.iter_modules(tests.api_providers.__path__):
        importlib.import_module(f"tests.api_providers.{module.name}")
    found: set[type[HttpProvider]] = set()
    waiting = list(BackendSuite.__subclasses__())
    while waiting:
        one = waiting.pop()
        waiting += one.__subclasses__()
        found.add(one.kind)
    return found


def test_every_provider_is_there_and_runs_the_shared_suite() -> None:
    assert MUST <= {info.name for info in CLOUDS}
    tested = {kind.__name__ for kind in suites()}
    assert {info.entry.rpartition(":")[2] for info in CLOUDS} <= tested


@pytest.mark.parametrize("info", CLOUDS, ids=lambda info: info.name)
def test_the_rows_say_what_the_code_can(info: ProviderInfo) -> None:
    kind = load_entry(info.entry)
    assert issubclass(kind, HttpProvider)
    assert issubclass(kind, Checks)
    cards = cards_of(info)
    assert cards
    assert any(card.lost_submit is LostSubmit.FIND for card in cards) is issubclass(kind, Finds)
    if kind.cancel is HttpProvider.cancel:
        assert {card.cancel for card in cards} == {"no"}
    today = datetime.now(UTC).date()
    for card in cards:
        assert card.as_of <= today
        assert not set(card.options) & PRICED, card.id
        assert all(price.as_of <= today and price.usd for price in card.prices), (
            f"{card.id}: zero or in the future"
        )
        assert card.family == card.family.lower(), card.id


@pytest.mark.parametrize("info", CLOUDS, ids=lambda info: info.name)
def test_the_default_clip_of_a_priced_model_has_a_price(info: ProviderInfo) -> None:
    for card in cards_of(info):
        if not card.prices or Task.TEXT_TO_VIDEO not in card.tasks or card.needs:
            continue
        resolved = fit(VideoRequest(prompt="a red ball"), card, seed=1, inputs={})
        assert estimate(card, resolved) is not None, f"{card.id}: its rows leave a gap at the default clip"
