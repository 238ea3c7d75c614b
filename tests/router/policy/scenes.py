"""Small worlds for the policy: offers with round numbers, and jobs that differ in what they need."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from router.contract.card import ModelCard
from router.contract.request import Mode, VideoRequest
from router.policy import Ask, Facts, Learned, OfferFacts

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SURE = Learned(results=50.0, mean_s=100.0, p85_s=100.0, p97_s=100.0, p99_s=100.0)
"""An offer that was used often, never failed and always took 100 s."""


def card(
    name: str,
    usd: str | None,
    *,
    house: bool = False,
    seconds: float = 100,
    model: str = "clip",
    resolutions: Sequence[str] = ("720p", "1080p"),
    hd_usd: str | None = None,
    **limits: int,
) -> ModelCard:
    """One model; `hd_usd` is its price at 1080p where that differs."""
    rows = [{"usd": hd_usd, "when": {"resolution": "1080p"}}] if hd_usd else []
    if usd is not None:
        rows.append({"usd": usd})
    return ModelCard.model_validate(
        {
            "id": f"{name}/{model}",
            "backend": name,
            "wire_id": model,
            "family": name,
            "where": "house" if house else "cloud",
            "tasks": ("text-to-video",),
            "durations": (5,),
            "resolutions": resolutions,
            "seed": True,
            "typical_seconds": seconds,
            "failure_billed": "never",
            "limits": limits,
            "prices": [
                {"per": "clip", "as_of": date(2026, 11, 21), "source": "tests", **row} for row in rows
            ],
            "as_of": date(2026, 11, 21),
            "source": "tests",
        }
    )


def offer(name: str, usd: str | None, *, sure: bool = True, **fields: Any) -> OfferFacts:
    """An offer; fields of `OfferFacts` are set on it, all others on its card."""
    own = {key: fields.pop(key) for key in list(fields) if key in OfferFacts.__dataclass_fields__}
    if sure:
        own.setdefault("learned", SURE)
    return OfferFacts(card(name, usd, **fields), **own)


def device(room: int = 1, **fields: Any) -> OfferFacts:
    """Our own GPU: free of charge, one job after the other."""
    return offer("ours", "0", house=True, room=room, **fields)


def ask(number: int = 0, *, due_s: float | None = None, mode: Mode = Mode.CHEAPEST, **fields: Any) -> Ask:
    """A job that was created now."""
    preferences = dict(fields.pop("preferences", {}))
    if due_s is not None:
        preferences["deadline"] = NOW + timedelta(seconds=due_s)
    request = VideoRequest.model_validate(
        {"prompt": f"clip {number}", "preferences": {"mode": mode, **preferences}, **fields}
    )
    return Ask(f"job{number:03}", request, seed=number, created_at=NOW)


def facts(*offers: OfferFacts, **fields: Any) -> Facts:
    """The snapshot; a tick is a second, so that the safe times are round."""
    return Facts(NOW, offers, mode=Mode.CHEAPEST, **fields)


def waited(job: Ask, seconds: float) -> Ask:
    """The same job, created earlier."""
    return replace(job, created_at=NOW - timedelta(seconds=seconds))


def dollars(text: str) -> Decimal:
    """Short for Decimal."""
    return Decimal(text)
