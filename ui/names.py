"""What the page calls models and backends, looked up once and passed to every view."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from router.contract.card import ModelCard, Where
from router.gateway import ModelRow, ProviderRow
from ui.text import Text


@dataclass(frozen=True)
class Names:
    """Titles by id; an id that is no longer known is shown as it is."""

    cards: Mapping[str, ModelCard]
    backends: Mapping[str, str]

    @classmethod
    def of(cls, models: Iterable[ModelRow], providers: Iterable[ProviderRow]) -> Self:
        """From the gateway's own lists."""
        return cls(
            cards={row.card.id: row.card for row in models},
            backends={row.name: row.title or row.name for row in providers},
        )

    def model(self, model: str) -> str:
        """The title of a model."""
        card = self.cards.get(model)
        if card is None or not card.title:
            return model
        # The backend stands beside it wherever a model is shown.
        plain, bracket, inside = card.title.removesuffix(")").rpartition(" (")
        seller = {card.backend.lower(), self.backend(card.backend).lower()}
        return plain if bracket and inside.lower() in seller else card.title

    def backend(self, backend: str) -> str:
        """The title of a backend."""
        return self.backends.get(backend, backend)

    def place(self, model: str, text: Text) -> str | None:
        """`Cloud` or `Own machine`; None for a model that is no longer known."""
        card = self.cards.get(model)
        if card is None:
            return None
        return text("place_house" if card.where is Where.HOUSE else "place_cloud")

    def is_house(self, model: str) -> bool:
        """Whether nobody else's machine is involved."""
        card = self.cards.get(model)
        return card is not None and card.where is Where.HOUSE
