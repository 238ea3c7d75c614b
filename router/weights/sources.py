"""Where a card's files come from: the hub, its cache, or a folder; chosen and listed, not yet fetched."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from router.contract.card import ModelCard
from router.contract.errors import InvalidRequest, NotFound, ServerTrouble, Unavailable
from router.contract.words import words
from router.weights.choosing import Read, choose
from router.weights.folders import files_of, receipt_of
from router.weights.hub import Hub, Listing
from router.weights.values import Origin, Remote, WeightFile


class Extra(BaseModel):
    """One row of `[[model.wire.files]]`: a LoRA, a GGUF transformer, a single-file checkpoint of another repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    revision: str = "main"
    file: str
    """Path in that repository."""
    to: str = Field(pattern=r"^[a-z0-9_]+/[A-Za-z0-9_][A-Za-z0-9_.-]*\.(safetensors|gguf)$")
    """Path in the model's folder: `loras/transformer.safetensors`, or one in a component's folder, which then stands in
    for that component's own weights."""


_EXTRAS = TypeAdapter(tuple[Extra, ...])


def extras_of(card: ModelCard) -> tuple[Extra, ...]:
    """What a card wants besides its repository. Raises ServerTrouble for rows that are not of that form."""
    try:
        return _EXTRAS.validate_python(card.wire.get("files", ()))
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ServerTrouble(
            words(
                f"The card of {card.id} cannot be used; correct its [[model.wire.files]] ({what}).",
                f"{card.id} のカードに誤りがあります。[[model.wire.files]] を修正してください({what})。",
            )
        ) from None


@dataclass(frozen=True)
class Found:
    """The files of one pull."""

    origin: Origin
    repository: str
    revision: str
    """The commit of the main repository; empty where a folder does not tell."""
    files: tuple[WeightFile, ...]


def from_hub(card: ModelCard, revision: str, token: str | None) -> Found:
    """The newest listing of the hub, or the cache where the hub cannot be reached. Raises GatewayError."""
    assert card.local is not None and card.local.repository is not None
    hub, extras = Hub(card.local.repository, token), extras_of(card)
    try:
        listing = hub.listing(revision)
    except Unavailable as away:
        return _from_cache(extras, hub, revision, away)

    def read(path: str) -> bytes:
        return hub.small(listing.commit, listing.files[path])

    names = choose(listing.files, read, hub.repository, _replaced(extras))
    files = [_remote(hub, listing, name, name) for name in names]
    listings = {(hub.repository, revision): (hub, listing)}
    for extra in extras:
        key = (extra.repository, extra.revision)
        if key not in listings:
            other = Hub(extra.repository, token)
            listings[key] = (other, other.listing(key[1]))
        files.append(_remote(*listings[key], extra.file, extra.to))
    return Found(Origin.HUB, hub.repository, listing.commit, tuple(files))


def _remote(hub: Hub, listing: Listing, path: str, into: str) -> WeightFile:
    file = listing.files.get(path)
    if file is None:
        raise NotFound(
            words(
                f"{hub.repository} has no file {path} (any more). Correct [[model.wire.files]] in the model's card.",
                f"{hub.repository} に {path} がありません。モデルのカードの [[model.wire.files]] を修正してください。",
            )
        )
    remote = Remote(hub.repository, listing.commit, path)
    return replace(file, path=into, remote=remote, local=hub.cached(listing.commit, path))


def _from_cache(extras: tuple[Extra, ...], hub: Hub, revision: str, away: Unavailable) -> Found:
    """What the hub's own library has kept; raises `away` where that is not everything."""
    snapshot = hub.cached_snapshot(revision)
    if snapshot is None:
        raise away
    listed = files_of(snapshot)
    files = [listed[name] for name in choose(listed, _reader(listed), hub.repository, _replaced(extras))]
    for extra in extras:
        kept = Hub(extra.repository, None).cached(extra.revision, extra.file)
        if kept is None:
            raise away
        files.append(replace(files_of(kept.parent)[kept.name], path=extra.to))
    return Found(Origin.CACHE, hub.repository, snapshot.name, tuple(files))


def from_folder(card: ModelCard, folder: Path) -> Found:
    """A folder in the form in which a pull leaves it. Raises InvalidRequest for one of another model."""
    listed, extras = files_of(folder), extras_of(card)
    receipt = receipt_of(folder)
    wanted = card.local.repository if card.local else None
    if receipt is not None and wanted not in {None, receipt.repository}:
        raise InvalidRequest(
            words(
                f"{folder} holds {receipt.repository}, but {card.id} is {wanted}. Name the right folder.",
                f"{folder} の中身は {receipt.repository} ですが、{card.id} に必要なのは {wanted} です。"
                "正しいフォルダーを指定してください。",
            )
        )
    repository = wanted or folder.name
    files = [listed[name] for name in choose(listed, _reader(listed), repository, _replaced(extras))]
    for extra in extras:
        if extra.to not in listed:
            raise InvalidRequest(
                words(
                    f"{folder} lacks {extra.to}. Put {extra.file} of {extra.repository} there under that name.",
                    f"{folder} に {extra.to} がありません。{extra.repository} の {extra.file} をその名前で置いてください。",
                )
            )
        files.append(listed[extra.to])
    return Found(Origin.FOLDER, repository, receipt.revision if receipt else "", tuple(files))


def _reader(files: Mapping[str, WeightFile]) -> Read:
    return lambda path: (files[path].local or Path()).read_bytes()


def _replaced(extras: tuple[Extra, ...]) -> frozenset[str]:
    """Components whose weights come from another repository, as a GGUF file or a single one in its makers' form."""
    return frozenset(extra.to.partition("/")[0] for extra in extras) - {"loras"}
