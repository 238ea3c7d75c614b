"""Where a card's files come from: the hub, its cache, or a folder; chosen and listed, not yet fetched."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from router.contract.card import LocalCard, ModelCard
from router.contract.errors import InvalidRequest, NotFound, Unavailable
from router.contract.words import words
from router.weights.choosing import Read, choose
from router.weights.folders import files_of, receipt_of
from router.weights.hub import Hub, Listing
from router.weights.values import Origin, Remote, WeightFile


@dataclass(frozen=True)
class Found:
    """The files of one pull."""

    origin: Origin
    repository: str
    revision: str
    """The commit of the main repository; empty where a folder does not tell."""
    files: tuple[WeightFile, ...]


def from_hub(local: LocalCard, revision: str, token: str | None) -> Found:
    """The newest listing of the hub, or the cache where the hub cannot be reached. Raises GatewayError."""
    assert local.repository is not None
    hub = Hub(local.repository, token)
    try:
        listing = hub.listing(revision)
    except Unavailable as away:
        return _from_cache(local, hub, revision, away)

    def read(path: str) -> bytes:
        return hub.small(listing.commit, listing.files[path])

    names = choose(listing.files, read, hub.repository, _replaced(local))
    files = [_remote(hub, listing, name, name) for name in names]
    listings = {(hub.repository, revision): (hub, listing)}
    for extra in local.files:
        key = (extra.repository, extra.revision or "main")
        if key not in listings:
            other = Hub(extra.repository, token)
            listings[key] = (other, other.listing(key[1]))
        files.append(_remote(*listings[key], extra.file, extra.into))
    return Found(Origin.HUB, hub.repository, listing.commit, tuple(files))


def _remote(hub: Hub, listing: Listing, path: str, into: str) -> WeightFile:
    file = listing.files.get(path)
    if file is None:
        raise NotFound(
            words(
                f"{hub.repository} has no file {path} (any more). Correct `files` in the model's card.",
                f"{hub.repository} に {path} がありません。モデルのカードの files を修正してください。",
            )
        )
    remote = Remote(hub.repository, listing.commit, path)
    return replace(file, path=into, remote=remote, local=hub.cached(listing.commit, path))


def _from_cache(local: LocalCard, hub: Hub, revision: str, away: Unavailable) -> Found:
    """What the hub's own library has kept; raises `away` where that is not everything."""
    snapshot = hub.cached_snapshot(revision)
    if snapshot is None:
        raise away
    listed = files_of(snapshot)
    files = [listed[name] for name in choose(listed, _reader(listed), hub.repository, _replaced(local))]
    for extra in local.files:
        kept = Hub(extra.repository, None).cached(extra.revision or "main", extra.file)
        if kept is None:
            raise away
        files.append(replace(files_of(kept.parent)[kept.name], path=extra.into))
    return Found(Origin.CACHE, hub.repository, snapshot.name, tuple(files))


def from_folder(card: ModelCard, local: LocalCard, folder: Path) -> Found:
    """A folder in the form in which a pull leaves it. Raises InvalidRequest for one of another model."""
    listed = files_of(folder)
    receipt = receipt_of(folder)
    if receipt is not None and local.repository not in {None, receipt.repository}:
        raise InvalidRequest(
            words(
                f"{folder} holds {receipt.repository}, but {card.id} is {local.repository}. Name the right folder.",
                f"{folder} の中身は {receipt.repository} ですが、{card.id} に必要なのは {local.repository} です。"
                "正しいフォルダーを指定してください。",
            )
        )
    repository = local.repository or folder.name
    files = [listed[name] for name in choose(listed, _reader(listed), repository, _replaced(local))]
    for extra in local.files:
        if extra.into not in listed:
            raise InvalidRequest(
                words(
                    f"{folder} lacks {extra.into}. Put {extra.file} of {extra.repository} there under that name.",
                    f"{folder} に {extra.into} がありません。{extra.repository} の {extra.file} をその名前で置いてください。",
                )
            )
        files.append(listed[extra.into])
    return Found(Origin.FOLDER, repository, receipt.revision if receipt else "", tuple(files))


def _reader(files: Mapping[str, WeightFile]) -> Read:
    return lambda path: (files[path].local or Path()).read_bytes()


def _replaced(local: LocalCard) -> frozenset[str]:
    """Components whose weights come from another repository, as a GGUF file or a single one in its makers' form."""
    return frozenset(extra.into.partition("/")[0] for extra in local.files) - {"loras"}
