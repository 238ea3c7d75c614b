"""One request that several sellers of the same model can make: all are listed with their prices, the cheapest wins."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from router.contract.fit import fit
from router.contract.request import VideoRequest
from router.gateway import Gateway
from router.pricing import estimate
from router.report import unseen_inputs
from router.settings import Settings

PRICED = [
    ("piapi/kling-2.6-pro", {"duration": 10, "generate_audio": True}, "1.32"),
    ("piapi/kling-2.6-pro", {"duration": 5}, "0.33"),
    ("fal/kling-2.6-pro", {"duration": 5}, "0.35"),
    ("fal/kling-2.6-pro", {"duration": 5, "generate_audio": True}, "0.70"),
    ("kie/kling-2.6", {"duration": 5}, "0.28"),
    ("kie/kling-2.6", {"duration": 5, "generate_audio": True}, "0.55"),
    ("kie/kling-2.6", {"duration": 10}, "0.55"),
    ("kie/kling-2.6", {"duration": 10, "generate_audio": True}, "1.10"),
    ("kling/2.6-pro", {"duration": 5}, "0.35"),
    ("kling/2.6-pro", {"duration": 10, "generate_audio": True}, "1.40"),
]
"""The tables of the provider sheets (shared/providers)."""


@pytest.fixture
def settings(home: Path) -> Settings:
    """Every provider has a key; nothing is called by a plan."""
    return Settings.load({"UNDERSTUDY_HOME": str(home), "UNDERSTUDY_SANDBOX_URL": "http://127.0.0.1:1"})


@pytest.mark.parametrize(("model", "fields", "usd"), PRICED)
async def test_a_price_is_the_sheets(
    settings: Settings, model: str, fields: dict[str, Any], usd: str
) -> None:
    request = VideoRequest(prompt="a red kite over a salt flat", model=model, **fields)
    async with Gateway.open(settings) as gateway:
        decision = await gateway.plan(request)
    found = {offer.model: offer.usd for offer in decision.candidates}
    assert found[model] == Decimal(usd)


async def test_runways_price_for_a_picture_is_the_sheets(settings: Settings) -> None:
    request = VideoRequest(
        prompt="x", model="runway/gen4_turbo", duration=5, frame_images=({"url": "asset:" + "0" * 64},)
    )
    async with Gateway.open(settings) as gateway:
        card = next(row.card for row in await gateway.models() if row.card.id == "runway/gen4_turbo")
    price = estimate(card, fit(request, card, seed=1, inputs=unseen_inputs(request)))
    assert price is not None and price.usd == Decimal("0.25")


@pytest.mark.parametrize("fields", [{"duration": 5}, {"duration": 10, "generate_audio": True}])
async def test_a_plan_lists_every_seller_and_picks_the_cheapest(
    settings: Settings, fields: dict[str, Any]
) -> None:
    request = VideoRequest(prompt="a red kite over a salt flat", model="kling-2.6-pro", **fields)
    async with Gateway.open(settings) as gateway:
        decision = await gateway.plan(request)
    sellers = {offer.backend: offer.usd for offer in decision.candidates}
    assert {"piapi", "kie", "fal", "kling"} <= set(sellers), sellers
    known = [usd for usd in sellers.values() if usd is not None]
    assert decision.chosen is not None and decision.chosen.usd == min(known)
    assert len(set(known)) > 1
    shown = [offer.model for offer in decision.candidates]
    out = [offer.model for offer in decision.rejected]
    assert not set(shown) & set(out)
    assert all(
        offer.price_as_of and offer.price_source for offer in decision.candidates if offer.usd is not None
    )
