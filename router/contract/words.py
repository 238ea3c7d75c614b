"""A sentence for a person, always in English and Japanese together."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Lang = Literal["en", "ja"]


class Words(BaseModel):
    """One message in both languages of the doors; a door picks with `in_`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    en: str
    ja: str

    def in_(self, lang: Lang) -> str:
        """The text in the language of the reader."""
        return self.ja if lang == "ja" else self.en

    def __str__(self) -> str:
        """English, for logs."""
        return self.en


def words(en: str, ja: str) -> Words:
    """Short form of `Words(en=..., ja=...)`."""
    return Words(en=en, ja=ja)


def same(text: str) -> Words:
    """Text that is not ours to translate (a provider's own message, a name)."""
    return Words(en=text, ja=text)


def pick_lang(tag: str | None) -> Lang:
    """Japanese for a locale or `Accept-Language` value whose first choice is Japanese, else English."""
    return "ja" if tag and tag.strip().lower().replace("_", "-").split(",")[0].split("-")[0] == "ja" else "en"
