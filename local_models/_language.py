"""Whether a model can read the prompt's writing: an English-only text encoder turns Japanese into noise. Pure."""

import re
from collections.abc import Iterable

from router.contract.card import ModelCard
from router.contract.request import Task
from router.contract.words import Words, words

_KANA = re.compile(r"[ぁ-ゖァ-ヺー々ｦ-ﾟ]")
_HANGUL = re.compile(r"[가-힣]")
_HAN = re.compile(r"[㐀-䶿一-鿿]")
MOSTLY = 0.3
"""Share of a prompt's letters: a sign to be painted in another script does not make the prompt foreign."""
NAMED = 3
"""How many models are named that can read it."""


def unread(prompt: str, task: Task, card: ModelCard, cards: Iterable[ModelCard]) -> Words | None:
    """What to do with a prompt that `card` cannot read; None where it can, or where its languages are not known.

    `cards`: what else there is; those that read the prompt and do the same task are named.
    """
    language = _written_in(prompt)
    if language is None or _reads(card, language):
        return None
    others = [
        other.id for other in cards if task in other.tasks and not other.demo and _reads(other, language)
    ]
    name_en, name_ja = _NAMES[language]
    en = f", or use a model that reads {name_en}: {', '.join(others[:NAMED])}" if others else ""
    ja = (
        f"か、{name_ja}を理解できるモデル({'、'.join(others[:NAMED])})を使ってください"
        if others
        else "てください"
    )
    return words(
        f"{card.id} does not read {name_en}. Write the prompt in English{en}.",
        f"{card.id} は{name_ja}のプロンプトを理解できません。英語で書{'く' if others else 'い'}{ja}。",
    )


_NAMES = {"ja": ("Japanese", "日本語"), "ko": ("Korean", "韓国語"), "zh": ("Chinese", "中国語")}


def _written_in(prompt: str) -> str | None:
    """`ja`, `ko` or `zh` for a prompt that is mostly written so; None for any other."""
    letters = sum(character.isalpha() for character in prompt)
    kana, hangul, han = (len(script.findall(prompt)) for script in (_KANA, _HANGUL, _HAN))
    if not letters or kana + hangul + han < MOSTLY * letters:
        return None
    if kana:
        return "ja"
    return "ko" if hangul > han else "zh"


def _reads(card: ModelCard, language: str) -> bool:
    known = {tag.lower().split("-")[0] for tag in card.languages}
    # Chinese characters alone may be Japanese as well: who reads either is let through.
    return not known or language in known or (language == "zh" and "ja" in known)
