"""What one attempt will cost, from the card's price rows: exact Decimal, pure. Unknown is None, never zero."""

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal, localcontext

from router.contract.card import ModelCard, Price, ResolvedRequest

MICRO = Decimal("0.000001")
CENT = Decimal("0.01")


@dataclass(frozen=True)
class Estimate:
    """US dollars for one attempt, rounded up to whole micro-dollars, with where the number comes from."""

    usd: Decimal
    most_usd: Decimal
    """The most the attempt can cost: what is reserved. A failed attempt that is billed costs no more."""
    as_of: date
    source: str
    note: str | None = None


def estimate(card: ModelCard, resolved: ResolvedRequest) -> Estimate | None:
    """The first price row whose conditions hold; None where no row holds or the length is not known."""
    row = _row(card, resolved)
    usd = _cost(row, resolved) if row else None
    if row is None or usd is None:
        return None
    most = usd
    longest = card.wire.get("auto_duration_max")
    if isinstance(longest, int | float) and longest > resolved.duration:
        at_most = resolved.model_copy(update={"duration": float(longest)})
        longest_row = _row(card, at_most) or row
        most = max(usd, _cost(longest_row, at_most) or usd)
    return Estimate(usd=usd, most_usd=most, as_of=row.as_of, source=row.source, note=row.note)


def _row(card: ModelCard, resolved: ResolvedRequest) -> Price | None:
    return next((row for row in card.prices if row.usd is not None and resolved.holds(row.when)), None)


def _cost(row: Price, resolved: ResolvedRequest) -> Decimal | None:
    if row.usd is None:
        return None
    if row.per == "clip" or row.usd == 0:
        return _up(row.usd)
    if resolved.duration <= 0:
        return None
    seconds = Decimal(str(resolved.duration))
    if row.counts_input:
        lengths = [media.asset.duration_s for media in resolved.references if media.type == "video"]
        if None in lengths:
            return None
        seconds += sum((Decimal(str(length)) for length in lengths), Decimal(0))
    if row.block_s is not None:
        seconds = (seconds / row.block_s).to_integral_value(ROUND_CEILING) * row.block_s
    return _up(row.usd * seconds)


def _up(usd: Decimal) -> Decimal:
    return usd.quantize(MICRO, rounding=ROUND_CEILING)


def to_micros(usd: Decimal) -> int:
    """Whole micro-dollars, rounded up: a reservation is never below the price. Raises ValueError if not finite."""
    if not usd.is_finite():
        raise ValueError(f"{usd} is no amount of money")
    with localcontext(prec=60):
        return int((usd * 1_000_000).to_integral_value(rounding=ROUND_CEILING))


def from_micros(micros: int) -> Decimal:
    """US dollars, exact."""
    return Decimal(micros).scaleb(-6)


def cents(usd: Decimal) -> Decimal:
    """Short enough for a sentence: two places, four below a dollar."""
    return usd.quantize(Decimal("0.0001") if usd < 1 else CENT)


def money(usd: Decimal | None) -> str | None:
    """The decimal string of our JSON: 2 to 6 places, no exponent; None where unknown."""
    if usd is None:
        return None
    with localcontext(prec=60):
        exact = usd.quantize(MICRO, rounding=ROUND_HALF_UP)
        short = exact.normalize()
        places = -int(short.as_tuple().exponent)
        shown = short.quantize(CENT) if places < 2 else short
    return f"{shown:f}" if shown else "0.00"
