"""Money is never rounded to a false zero."""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from ui.amounts import moment, usd


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "$0.00"),
        ("0.25", "$0.25"),
        ("0.250000", "$0.25"),
        ("0.125", "$0.125"),
        ("0.0042", "$0.0042"),
        ("0.000001", "<$0.0001"),
        ("10", "$10.00"),
        ("100", "$100.00"),
        ("1234.5", "$1,234.50"),
    ],
)
def test_an_amount_reads_as_money(amount: str, shown: str) -> None:
    assert usd(Decimal(amount)) == shown


def test_a_moment_is_told_in_the_readers_zone() -> None:
    assert moment(datetime(2026, 11, 21, 22, 0, tzinfo=UTC), ZoneInfo("Asia/Tokyo")) == "2026-11-22 07:00"
