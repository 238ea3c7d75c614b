"""What a catalogue holds besides cards: backends as data, and what had to be left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from router.contract.card import Limits, Where
from router.contract.words import Words


@dataclass(frozen=True)
class ProviderInfo:
    """One `[provider]` table: a backend as data. Nothing of it is loaded yet."""

    name: str
    title: str
    entry: str
    """`module:Class`."""
    key_env: tuple[str, ...]
    """Names of variables, any one of which holds the key."""
    docs: str | None
    where: Where
    base_url: str | None
    keyless: bool
    limits: Limits
    """Of the whole account; each card has its own."""
    credit_usd: Decimal | None
    credit_as_of: date | None
    credit_source: str | None
    sandbox_path: str | None
    """Path of its twin under the sandbox's base, for example `/runway`; None where there is no twin."""
    options: Mapping[str, Any]
    source: str
    """Name of the file."""
    needs_base_url: bool = False
    """True for a protocol without a server of its own: out until `base_url` is set."""
    key_pairs: tuple[tuple[str, str], ...] = ()
    """Pairs of variables that together are a key, an alternative to `key_env`."""


@dataclass(frozen=True)
class Problem:
    """A file or row that was left out, and how to repair it."""

    source: str
    provider: str | None
    message: Words
