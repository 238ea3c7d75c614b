"""How local models would run on a card, and what was measured: the gateway's way to the backends that can tell."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from router.backends import Backends
from router.catalog import Catalog
from router.contract.backend import Plans
from router.contract.card import ModelCard
from router.contract.errors import GatewayError, NotFound, UnsupportedRequest
from router.contract.forecast import CalibratedDevice, ClipWish, DeviceWish, Forecast
from router.contract.words import Words, words

log = logging.getLogger("understudy.forecasts")

CALIBRATION = "calibration.json"
"""In the data folder; without it nobody is asked for measured times."""
LONGEST = 10
"""A model that was measured slower than its card says is given up after this many of its measured times."""


class Forecasts:
    """Nothing is loaded before it is asked."""

    def __init__(self, catalog: Catalog, backends: Backends) -> None:
        """Of the open gateway."""
        self._catalog, self._backends = catalog, backends

    async def plan(self, model: str, clip: ClipWish, device: DeviceWish) -> Forecast:
        """How a model would be loaded for such a clip. Raises NotFound, InvalidRequest, UnsupportedRequest."""
        card = self._card(model)
        return await self._of(card.backend).plan_load(card.id, clip, device)

    async def fit(self, device: DeviceWish) -> tuple[Forecast, ...]:
        """Every local model at its defaults on 8, 12, 16 and 24 GB."""
        found: list[Forecast] = []
        for name in self._names():
            found += await self._of(name).fit_cards(device)
        return tuple(found)

    async def calibrate(
        self, models: Sequence[str], told: Callable[[Words], None]
    ) -> tuple[CalibratedDevice, ...]:
        """Trial clips of these models, or of every local one that is here; one value per backend that has any of them."""
        asked: dict[str, list[str]] = {}
        for card in map(self._card, models):
            asked.setdefault(card.backend, []).append(card.id)
        names = tuple(asked) or self._names()
        return tuple([await self._of(name).calibrate(asked.get(name, ()), told) for name in names])

    def _card(self, model: str) -> ModelCard:
        found = [card for card in self._catalog.matching(model) if card.local is not None]
        if not found:
            found = list(self._catalog.matching(f"local/{model}"))
        if found:
            return found[0]
        if self._catalog.matching(model):
            raise UnsupportedRequest(
                words(
                    f"{model} does not run on our own device, there is nothing to plan",
                    f"{model} は手元のデバイスで動くモデルではないため、計画の対象外です",
                ),
                param="model",
            )
        known = sorted(card.id for card in self._catalog.cards.values() if card.local is not None)
        raise NotFound(
            words(
                f"there is no model {model!r}. Local models: {', '.join(known)}",
                f"モデル {model!r} はありません。ローカルモデル: {'、'.join(known)}",
            ),
            param="model",
        )

    def _names(self) -> tuple[str, ...]:
        """The backends with local models that can tell."""
        names = dict.fromkeys(c.backend for c in self._catalog.cards.values() if c.local is not None)
        return tuple(name for name in names if isinstance(self._backends.get(name), Plans))

    def _of(self, name: str) -> Plans:
        backend = self._backends.get(name)
        if not isinstance(backend, Plans):
            raise UnsupportedRequest(
                words(f"{name} cannot tell how its models would run", f"{name} は実行計画に対応していません")
            )
        return backend


async def with_measured_times(catalog: Catalog, backends: Backends, home: Path) -> Catalog:
    """The catalogue with the seconds that were measured on this device: what routing, waiting times and electricity
    count with until real jobs have told better. Looks at the device only where the data folder has a calibration."""
    if not (home / CALIBRATION).is_file():
        return catalog
    measured: dict[str, float] = {}
    for name in dict.fromkeys(card.backend for card in catalog.cards.values() if card.local is not None):
        try:
            backend = backends.get(name)
            if isinstance(backend, Plans):
                measured |= await backend.typical_seconds()
        except GatewayError as error:
            log.warning("measured times are not used: %s", error)
    return replace(catalog, cards=_timed(catalog.cards, measured))


def _timed(cards: Mapping[str, ModelCard], measured: Mapping[str, float]) -> dict[str, ModelCard]:
    found = dict(cards)
    for name, seconds in measured.items():
        card = found[name]
        longest = max(card.give_up_s, LONGEST * seconds)
        found[name] = card.model_copy(update={"typical_seconds": seconds, "longest_seconds": longest})
    return found
