"""What lies in the data folder: pulled weights, unfinished pulls, and folders that settings or cards name."""

from collections.abc import Mapping
from pathlib import Path

from router.contract.card import ModelCard
from router.contract.words import words
from router.weights.choosing import INDEX
from router.weights.folders import has, named_folder, receipt_of, size_of
from router.weights.naming import PARTIAL, folder_name, short_name
from router.weights.values import Installed, Origin


class Inventory:
    """Looks when asked; changes nothing."""

    def __init__(self, root: Path, own: Mapping[str, str], cards: Mapping[str, ModelCard]) -> None:
        """`root`: the folder of all pulled weights; `own`: `[local] models`."""
        self._root = root
        self._own = own
        self._cards = [card for card in cards.values() if card.local is not None]

    def rows(self) -> tuple[Installed, ...]:
        """A row for every model that has something here, then for folders whose card is gone."""
        rows = [self.row(card) for card in self._cards]
        known = {folder_name(card) for card in self._cards}
        names = sorted(
            path.name.removesuffix(PARTIAL)
            for path in (self._root.iterdir() if self._root.is_dir() else ())
            if path.is_dir() and not path.name.startswith(".")
        )
        rows += [self._pulled(None, name) for name in dict.fromkeys(names) if name not in known]
        return tuple(row for row in rows if row.origin is not None or row.partial_bytes)

    def row(self, card: ModelCard) -> Installed:
        """What one model has here."""
        local = card.local
        assert local is not None
        name = folder_name(card)
        own = self._own.get(short_name(card))
        if own is None and local.path is None:
            return self._pulled(card.id, name)
        if own is not None:
            folder, origin = Path(own).expanduser(), Origin.SETTING
        else:
            folder, origin = named_folder(str(local.path)), Origin.CARD
        there = (folder / INDEX).is_file()
        return Installed(
            card.id,
            name,
            folder,
            origin,
            size_of(folder) if there else 0,
            licence=local.licence,
            problem=None if there else words(f"there is no {INDEX}", f"{INDEX} がありません"),
        )

    def _pulled(self, model: str | None, name: str) -> Installed:
        folder, partial = self._root / name, self._root / (name + PARTIAL)
        left = size_of(partial) if partial.is_dir() else 0
        if not (folder / INDEX).is_file():
            return Installed(model, name, folder, None, partial_bytes=left)
        receipt = receipt_of(folder)
        if receipt is None:
            # Put there by hand.
            return Installed(model, name, folder, Origin.FOLDER, size_of(folder), partial_bytes=left)
        lost = [path for path, file in receipt.files.items() if not has(folder / path, file.size)]
        return Installed(
            model,
            name,
            folder,
            receipt.origin,
            size_of(folder),
            repository=receipt.repository,
            revision=receipt.revision,
            licence=receipt.licence,
            accepted_at=receipt.accepted_at,
            pulled_at=receipt.pulled_at,
            problem=words(
                f"{lost[0]} is missing or cut off; remove the model and pull it again",
                f"{lost[0]} がないか途中で切れています。モデルを削除して取得し直してください",
            )
            if lost
            else None,
            partial_bytes=left,
        )
