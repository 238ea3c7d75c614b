"""How money is shown to a person: US dollars, and yen beside them at a dated rate that the user set. JSON stays USD."""

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from router.pricing import money

Currency = Literal["USD", "JPY"]
_YEN = Decimal(1)
_TENTH = Decimal("0.1")


def yen(usd: Decimal, per_usd: Decimal) -> str:
    """`¥38`: half up to whole yen; below one yen a tenth (`¥0.4`), and what is less than that is never a false zero."""
    amount = usd * per_usd
    if amount == 0:
        return "¥0"
    if abs(amount) < _TENTH:
        return "<¥0.1"
    step = _YEN if abs(amount) >= _YEN else _TENTH
    return f"¥{amount.quantize(step, rounding=ROUND_HALF_UP):,f}"


@dataclass(frozen=True)
class Display:
    """The reader's currency; books, budgets and JSON are in US dollars whatever it is."""

    currency: Currency = "USD"
    jpy_per_usd: Decimal | None = None
    as_of: date | None = None

    def beside(self, usd: Decimal | None) -> str:
        """The second currency as ` (¥38)`, or nothing."""
        if usd is None or self.currency == "USD" or self.jpy_per_usd is None:
            return ""
        return f" ({yen(usd, self.jpy_per_usd)})"

    def amount(self, usd: Decimal | None) -> str:
        """`$0.25`, `$0.25 (¥38)`, or `?` where the amount is not known."""
        return "?" if usd is None else f"${money(usd)}{self.beside(usd)}"

    @property
    def rate(self) -> str | None:
        """`1 USD = ¥150.2, 2026-11-20`, to be shown wherever yen are; None in US dollars."""
        if self.currency == "USD" or self.jpy_per_usd is None or self.as_of is None:
            return None
        return f"1 USD = ¥{self.jpy_per_usd.normalize():f}, {self.as_of.isoformat()}"


USD = Display()
