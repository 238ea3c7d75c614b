"""Which local model a person means, and what its folder is called."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from router.contract.card import ModelCard
from router.contract.errors import InvalidRequest, NotFound
from router.contract.words import words

MODELS = "models"
"""The folder in the data folder."""
PARTIAL = ".partial"
"""Ending of a folder that is not whole yet."""


def short_name(card: ModelCard) -> str:
    """The id without its backend, as `[local] models` spells it."""
    return card.id.partition("/")[2]


def folder_name(card: ModelCard) -> str:
    """One path component, whatever slashes and dots the id has."""
    return short_name(card).replace("/", "--")


def installed_folder(home: Path, card: ModelCard) -> Path:
    """Where pulled weights of a card lie, whether or not they are there."""
    return home / MODELS / folder_name(card)


def find(name: str, cards: Mapping[str, ModelCard]) -> ModelCard:
    """The local model of that id, short name, family or wire id.

    Raises NotFound with the nearest names, InvalidRequest for a name that several have or a model without weights here.
    """
    wanted = name.casefold()
    local = [card for card in cards.values() if card.local is not None]
    for key in (lambda c: c.id, short_name, lambda c: c.family, lambda c: c.wire_id):
        found = [card for card in local if key(card).casefold() == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            ids = [card.id for card in found]
            raise InvalidRequest(
                words(
                    f"{name!r} may mean {' or '.join(ids)}; name one.",
                    f"{name!r} は {'、'.join(ids)} のいずれかです。1 つを指定してください。",
                ),
                param="model",
            )
    if any(wanted in {card.id.casefold(), card.family.casefold()} for card in cards.values()):
        raise InvalidRequest(
            words(
                f"{name} does not run from weights on this machine; there is nothing to pull or remove.",
                f"{name} はこのマシンの重みで動くモデルではないため、取得・削除するものがありません。",
            ),
            param="model",
        )
    short = {short_name(card).casefold(): card.id for card in local}
    near = difflib.get_close_matches(wanted.rpartition("/")[2], short, n=3, cutoff=0.5)
    listed = [short[one] for one in near] or sorted(short.values())
    raise NotFound(
        words(
            f"There is no local model {name!r}. {'Did you mean' if near else 'There are'}: {', '.join(listed)}",
            f"ローカルモデル {name!r} はありません。{'もしかして' if near else '使えるもの'}: {'、'.join(listed)}",
        ),
        param="model",
    )
