"""Whether a model can read the prompt's writing: an English-only text encoder turns Japanese into noise. Pure."""

from collections.abc import Iterable

from router.contract.card import ModelCard
from router.contract.language import NAMES, reads, written_in
from router.contract.request import Task
from router.contract.words import Words, words

NAMED = 3
"""How many models are named that can read it."""


def unread(prompt: str, task: Task, card: ModelCard, cards: Iterable[ModelCard]) -> Words | None:
    """What to do with a prompt that `card` cannot read; None where it can, or where its languages are not known.

    `cards`: what else there is; those that read the prompt and do the same task are named.
    """
    language = written_in(prompt)
    if language is None or reads(card.languages, language):
        return None
    others = [
        other.id
        for other in cards
        if task in other.tasks and not other.demo and reads(other.languages, language)
    ]
    name_en, name_ja = NAMES[language].en, NAMES[language].ja
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
