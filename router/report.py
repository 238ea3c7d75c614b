"""What the lists show: models and backends as values, read in one transaction each."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from pydantic import JsonValue

from router import limits, store
from router.backends import Backends
from router.catalog import Catalog, ProviderInfo, stale
from router.contract.card import Asset, InputMedia, ModelCard
from router.contract.errors import GatewayError
from router.contract.fit import fit
from router.contract.job import AttemptStatus
from router.contract.request import FrameImage, FrameType, Reference, Task, VideoRequest
from router.contract.words import Words
from router.db import Tx
from router.pricing import Estimate, estimate
from router.windows import Use, Windows

UNSEEN = Asset(id="0" * 64, mime="application/octet-stream", size_bytes=0)
"""Stands for an input that was not taken in: a price preview needs none of its bytes."""


@dataclass(frozen=True)
class ModelRow:
    """One model as the lists show it."""

    card: ModelCard
    available: bool
    why_not: Words | None
    """Missing key, broken import, weights absent, ...; None when available."""
    usd_example: Decimal | None
    """Price of a clip with the model's defaults."""
    price_as_of: str | None
    price_stale: bool


@dataclass(frozen=True)
class ProviderRow:
    """One backend as the lists show it."""

    name: str
    title: str
    where: str
    key_env: tuple[str, ...]
    key_present: bool
    """True also where none is needed."""
    models: int
    problem: Words | None
    resting_until: str | None
    """ISO time until which it rests (Retry-After, open breaker, refused key), or None."""
    resting_why: Words | None
    in_flight: int
    price_as_of: str | None
    """The oldest date among its price rows."""
    price_stale: bool
    breaker: Literal["closed", "open", "half-open"] = "closed"
    """`half-open`: its pause is over and one real job may try."""
    limits: tuple[Use, ...] = ()
    """Documented limits of the account and of its models that were used lately."""
    base_url: str | None = None
    """Where the user's own settings point it; None for the vendor's own address."""
    set_up: bool = True
    """Whether the user wants it: its key is there, and its address where it has none of its own."""


@dataclass(frozen=True)
class Checked:
    """What one harmless authenticated call to a backend found."""

    name: str
    reachable: bool | None
    """None where it was not tried: no key, or nothing that could be asked without buying."""
    balance_usd: Decimal | None = None
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    problem: Words | None = None


def models(
    catalog: Catalog,
    backends: Backends,
    today: date,
    *,
    task: Task | None = None,
    aspect_ratio: str | None = None,
) -> tuple[ModelRow, ...]:
    """Every model, usable or not; with a filter only those that can do it, priced for just that."""
    rows = []
    for card in catalog.cards.values():
        try:
            price = _example(card, task, aspect_ratio)
        except (GatewayError, ValueError):
            # Only with a filter: it is no answer to what was asked.
            continue
        out = backends.out(card)
        usd, as_of = (price.usd, price.as_of) if price else (None, None)
        rows.append(
            ModelRow(
                card=card,
                available=out is None,
                why_not=out.why if out else None,
                usd_example=usd,
                price_as_of=as_of.isoformat() if as_of else None,
                price_stale=stale(as_of, today) if as_of else False,
            )
        )
    return tuple(rows)


def providers(tx: Tx, catalog: Catalog, backends: Backends) -> tuple[ProviderRow, ...]:
    """Every backend with what keeps it from working now."""
    rests = limits.rests(tx)
    flying = Counter(
        backend for _, backend, status, _ in store.in_flight(tx) if status != AttemptStatus.UNRESOLVED
    )
    problems: dict[str | None, Words] = {p.provider: p.message for p in reversed(catalog.problems)}
    rows = []
    for info in catalog.providers.values():
        cards = [card for card in catalog.cards.values() if card.backend == info.name]
        outs = [out for card in cards if (out := backends.out(card)) is not None]
        resting = _resting(rests, [info.name, *(card.id for card in cards)], tx.now)
        dates = [price.as_of for card in cards for price in card.prices]
        oldest = min(dates, default=None)
        problem = problems.get(info.name) or (outs[0].why if outs and len(outs) == len(cards) else None)
        rows.append(
            ProviderRow(
                name=info.name,
                title=info.title,
                where=info.where.value,
                key_env=info.key_env + tuple("+".join(pair) for pair in info.key_pairs),
                key_present=info.keyless or backends.key(info) is not None,
                models=len(cards),
                problem=problem,
                resting_until=resting.until.isoformat() if resting and resting.until else None,
                resting_why=resting.why if resting else None,
                in_flight=flying[info.name],
                price_as_of=oldest.isoformat() if oldest else None,
                price_stale=stale(oldest, tx.now.date()) if oldest else False,
                breaker=_breaker(rests, [info.name, *(card.id for card in cards)], tx.now),
                limits=_limits_used(tx, info, cards, flying[info.name]),
                base_url=backends.own_address(info),
                set_up=(info.keyless or backends.key(info) is not None)
                and not (info.needs_base_url and backends.own_address(info) is None),
            )
        )
    return tuple(rows)


def _breaker(
    rests: Mapping[str, limits.Rest], scopes: list[str], now: datetime
) -> Literal["closed", "open", "half-open"]:
    """The worst among its scopes."""
    found = [rest for scope in scopes if (rest := rests.get(scope)) is not None and rest.half_open]
    if any(rest.until is not None and rest.until > now for rest in found):
        return "open"
    return "half-open" if found else "closed"


def _limits_used(tx: Tx, info: ProviderInfo, cards: list[ModelCard], flying: int) -> tuple[Use, ...]:
    most = info.limits.max_in_flight
    places = (Use(info.name, "in_flight", flying, most),) if most is not None else ()
    windows = Windows(tx, {info.name: info.limits, **{card.id: card.limits for card in cards}})
    account = places + windows.used(info.name)
    models = tuple(use for card in cards for use in windows.used(card.id) if use.used)
    return account + models


def unseen_inputs(request: VideoRequest) -> dict[FrameType | int, InputMedia]:
    """Placeholders for every input of a request."""
    inputs: dict[FrameType | int, InputMedia] = {
        frame.frame_type: InputMedia(asset=UNSEEN) for frame in request.frame_images
    }
    for index, reference in enumerate(request.input_references):
        inputs[index] = InputMedia(asset=UNSEEN, type=reference.type, role=reference.role)
    return inputs


def _resting(rests: Mapping[str, limits.Rest], scopes: list[str], now: datetime) -> limits.Rest | None:
    found = [r for s in scopes if (r := rests.get(s)) is not None and r.until is not None and r.until > now]
    return max(found, key=lambda r: r.until or now, default=None)


def _example(card: ModelCard, task: Task | None, aspect_ratio: str | None) -> Estimate | None:
    """Price of the plainest clip this model makes; raises UnsupportedRequest where a wish cannot be honoured."""
    wished = task is not None or aspect_ratio is not None
    task = task or card.tasks[0]
    framed = task in {Task.IMAGE_TO_VIDEO, Task.EFFECT, Task.AVATAR} or "first_frame" in card.needs
    frames = [FrameImage(url=_ANY)] if framed else []
    if "last_frame" in card.needs:
        frames.append(FrameImage(frame_type=FrameType.LAST, url=_ANY))
    kinds = [kind for kind in card.references if kind in card.needs]
    if task in {Task.VIDEO_TO_VIDEO, Task.EXTEND, Task.UPSCALE, Task.LIP_SYNC} and "video" not in kinds:
        kinds.append("video")
    request = VideoRequest(
        task=task,
        prompt="example",
        frame_images=tuple(frames),
        input_references=tuple(Reference(type=kind, url=_ANY) for kind in kinds),
        aspect_ratio=None if framed and card.aspect_from_image else aspect_ratio,
        effect=(card.effects[0] if card.effects else "example") if task is Task.EFFECT else None,
    )
    inputs = unseen_inputs(request)
    if card.own_source:
        own = {"source_backend": card.backend, "source_ref": "example"}
        inputs = {key: media.model_copy(update=own) for key, media in inputs.items()}
    try:
        return estimate(card, fit(request, card, seed=0, inputs=inputs))
    except GatewayError:
        if wished:
            raise
        return None


_ANY = "asset:example"
