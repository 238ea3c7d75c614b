"""Money, dates and sizes as the page writes them."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

from router.contract.card import Asset
from ui.text import Text

_CENT = Decimal("0.01")
_FINEST = Decimal("0.0001")


def usd(amount: Decimal) -> str:
    """`$0.25`, `$0.125`, `$0.0042`: at least two places, at most four, never rounded to a false zero."""
    if 0 < amount < _FINEST:
        return f"<${_FINEST}"
    fine = amount.quantize(_FINEST, rounding=ROUND_HALF_UP)
    short = fine.quantize(_CENT) if fine == fine.quantize(_CENT) else fine.normalize()
    return f"${short:,f}"


def both(amount: Decimal, text: Text) -> str:
    """The amount in US dollars, with yen beside it where the settings ask for them: `$0.25 (¥38)`."""
    return usd(amount) + text.display.beside(amount)


def moment(at: datetime, zone: ZoneInfo) -> str:
    """`2026-11-21 07:15` in the reader's zone."""
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M")


def clip_size(asset: Asset, text: Text) -> str:
    """Pixels, seconds and megabytes of a finished clip, as far as they are known."""
    parts = []
    if asset.width and asset.height:
        parts.append(f"{asset.width} × {asset.height}")
    if asset.duration_s:
        parts.append(text("s_seconds", s=f"{asset.duration_s:.1f}"))
    size = asset.size_bytes / 1e6
    parts.append(f"{size:.1f} MB" if size >= 0.1 else f"{asset.size_bytes / 1e3:.0f} KB")
    return " · ".join(parts)
