"""The page's texts in English and Japanese, read from the catalogues beside this file."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, get_args

from router.contract.words import Lang, Words
from router.currency import USD, Display

if TYPE_CHECKING:
    from collections.abc import Mapping

LANGS: tuple[Lang, ...] = get_args(Lang)


@cache
def catalogue(lang: Lang) -> "Mapping[str, str]":
    """Every text of one language by its key."""
    return MappingProxyType(tomllib.loads((files(__name__) / f"{lang}.toml").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Text:
    """The texts of one language; call it with a key and the values to fill in."""

    lang: Lang
    display: Display = USD
    """The reader's currency."""

    def __call__(self, key: str, **values: object) -> str:
        """The text for `vg_<key>`; raises KeyError for a key that no catalogue has."""
        text = catalogue(self.lang)[f"vg_{key}"]
        return text.format(**values) if values else text

    def of(self, words: Words) -> str:
        """A sentence of the contract in this language."""
        return words.in_(self.lang)

    def seconds(self, seconds: float) -> str:
        """A span of time as a person says it: seconds below two minutes, then minutes, then hours."""
        whole = max(0, round(seconds))
        if whole < 120:
            return self("s_seconds", s=whole)
        if whole < 600 and whole % 60:
            return self("s_minutes_seconds", m=whole // 60, s=whole % 60)
        minutes = round(whole / 60)
        if minutes < 120:
            return self("s_minutes", m=minutes)
        hours, rest = divmod(minutes, 60)
        return self("s_hours_minutes", h=hours, m=rest) if rest else self("s_hours", h=hours)
