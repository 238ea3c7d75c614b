"""Every backend and model there is, read from the TOML files beside the code and in the user's own folder."""

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Self

from router.catalog.reading import PACKAGES, Reading, folders
from router.catalog.values import Problem, ProviderInfo
from router.contract.card import ModelCard
from router.contract.errors import ServerTrouble
from router.contract.words import words

__all__ = ["Catalog", "Problem", "ProviderInfo", "load_entry", "stale"]

STALE_DAYS = 60
"""A price or limit read longer ago is shown with its date."""
_EXTRA_OF = {"local_models": "local", "ui": "ui"}


@dataclass(frozen=True)
class Catalog:
    """What could be used, whether or not a key or a device is there."""

    providers: Mapping[str, ProviderInfo]
    cards: Mapping[str, ModelCard]
    problems: tuple[Problem, ...] = ()

    @classmethod
    def load(cls, extra: Path | None = None) -> Self:
        """Read the shipped files, then those of `extra` (the user's `providers` folder), which may correct them."""
        reading = Reading()
        for package in PACKAGES:
            for folder in folders(package):
                reading.read_folder(folder)
        if extra is not None:
            reading.read_folder(extra, users_own=True)
        reading.build_providers()
        reading.build_cards()
        return cls(reading.providers, reading.cards, tuple(reading.problems))

    @cached_property
    def local(self) -> tuple[str, ...]:
        """Ids of the models that our own device makes, one job after the other."""
        return tuple(card.id for card in self.cards.values() if card.local is not None)

    def matching(self, model: str | None) -> tuple[ModelCard, ...]:
        """The cards meant by a model id, a family or a provider's own name; all for None."""
        if model is None:
            return tuple(self.cards.values())
        wanted = model.casefold()
        for name in ("id", "family", "wire_id"):
            found = tuple(card for card in self.cards.values() if getattr(card, name).casefold() == wanted)
            if found:
                return found
        return ()

    def family(self, model: str) -> str | None:
        """The family of a model id, family or provider's own name; None where unknown."""
        found = self.matching(model)
        return found[0].family if found else None

    def nearest(self, model: str) -> tuple[str, ...]:
        """Up to three ids or families that look like it, for "did you mean"."""
        names = {name.casefold(): name for card in self.cards.values() for name in (card.family, card.id)}
        short = {name.rpartition("/")[2]: name for name in names}
        wanted = model.casefold()
        close = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
        close += [
            short[name]
            for name in difflib.get_close_matches(wanted.rpartition("/")[2], short, n=3, cutoff=0.6)
        ]
        return tuple(names[name] for name in dict.fromkeys(close))[:3]


def stale(as_of: date, today: date) -> bool:
    """Whether a dated fact should be shown with its date."""
    return (today - as_of).days > STALE_DAYS


def load_entry(entry: str) -> type:
    """The class behind `module:Class`, imported now; raises ServerTrouble that says what to install or repair."""
    module_name, _, class_name = entry.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        missing = error.name or str(error)
        extra = _EXTRA_OF.get(module_name.split(".")[0])
        raise ServerTrouble(
            words(
                f"{entry} cannot be loaded: {missing} is missing. Install it: pip install 'understudy-gateway[{extra}]'",
                f"{entry} を読み込めません。{missing} がありません。"
                f"pip install 'understudy-gateway[{extra}]' でインストールしてください。",
            )
            if extra
            else words(
                f"{entry} cannot be loaded: {missing} is missing. Check `entry` in the provider's TOML file, "
                "or install the package that has it.",
                f"{entry} を読み込めません。{missing} がありません。プロバイダーの TOML ファイルの entry を確認するか、"
                "該当するパッケージをインストールしてください。",
            )
        ) from error
    except Exception as error:
        # A package that breaks while it loads (a missing system library, its own bug) must grey out one row only.
        raise ServerTrouble(
            words(
                f"{entry} cannot be loaded: {type(error).__name__}: {error}. Reinstall the package it belongs to.",
                f"{entry} を読み込めません({type(error).__name__}: {error})。該当するパッケージを再インストールしてください。",
            )
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise ServerTrouble(
            words(
                f"{module_name} has no class {class_name!r}. Check `entry` in the provider's TOML file.",
                f"{module_name} にクラス {class_name!r} がありません。プロバイダーの TOML ファイルの entry を確認してください。",
            )
        )
    return found
