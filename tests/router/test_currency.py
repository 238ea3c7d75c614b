"""Yen beside dollars: rounding is stated and never makes a false zero; without a rate there are no yen."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest

from router.contract.errors import ServerTrouble
from router.currency import USD, Display, yen
from router.settings import Settings

YEN = Display("JPY", D(150), date(2026, 11, 20))


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        ("0", "¥0"),
        ("0.0001", "<¥0.1"),
        ("0.0029", "¥0.4"),
        ("0.0066", "¥1.0"),
        ("0.00667", "¥1"),
        ("0.01", "¥2"),
        ("0.25", "¥38"),
        ("1234.5", "¥185,175"),
    ],
)
def test_rounding(usd: str, said: str) -> None:
    assert yen(D(usd), D(150)) == said


def test_both_are_shown_and_unknown_stays_unknown() -> None:
    assert YEN.amount(D("0.25")) == "$0.25 (¥38)"
    assert YEN.amount(None) == "?"
    assert YEN.rate == "1 USD = ¥150, 2026-11-20"
    assert (USD.amount(D("0.25")), USD.rate) == ("$0.25", None)


def load(home: Path, **environ: str) -> Settings:
    return Settings.load({"UNDERSTUDY_HOME": str(home), **{f"UNDERSTUDY_{k}": v for k, v in environ.items()}})


TOMORROW = (datetime.now(UTC) + timedelta(days=3)).date().isoformat()


@pytest.mark.parametrize(
    ("environ", "en", "ja"),
    [
        ({"BUDGET_CURRENCY": "JPY"}, "needs jpy_per_usd and jpy_as_of", "jpy_per_usd(レート)"),
        ({"BUDGET_CURRENCY": "EUR"}, "must be one of", "次のいずれか"),
        ({"BUDGET_JPY_PER_USD": "0.0067"}, "must be at least 1", "1 以上"),
        ({"BUDGET_JPY_AS_OF": TOMORROW}, "lies in the future", "未来の日付"),
        ({"BUDGET_DAY_USD": "-1"}, "budget.day_usd: must be at least 0", "0 以上"),
        ({"BUDGET_MONTH_USD": "NaN"}, "must be a finite number", "有限の数値"),
        ({"BUDGET_MONTH_USD": "Infinity"}, "must be a finite number", "有限の数値"),
        ({"BUDGET_DAY_USD": "1e12"}, "must be at most", "以下にしてください"),
        ({"BUDGET_DAY_USD": "0.0000001"}, "at most 6", "6 桁まで"),
        ({"BUDGET_DAY_USD": "lots"}, "must be an amount in US dollars", "金額"),
        ({"BUDGET_PROJECT_DAY_USD": '{film = "-3"}'}, "project_day_usd.film: must be at least 0", "0 以上"),
        ({"BUDGET_PROJECT_MONTH_USD": '{film = "1e20"}'}, "project_month_usd.film", "以下にしてください"),
        ({"BUDGET_PACING": "true"}, "pacing needs day_usd", "pacing には day_usd が必要"),
        ({"BUDGET_TIMEZONE": "Mars"}, "no IANA time zone", "IANA タイムゾーンではありません"),
        ({"ROUTER_TOO_EXPENSIVE_MULTIPLE": "0"}, "must be more than 0", "より大きい値"),
        ({"LOCAL_RESALE_SHARE": "1"}, "must be less than 1", "より小さい値"),
        ({"LOCAL_UTILISATION": "0"}, "must be more than 0", "より大きい値"),
    ],
)
def test_absurd_money_is_refused_at_load_in_both_languages(
    home: Path, environ: dict[str, Any], en: str, ja: str
) -> None:
    with pytest.raises(ServerTrouble) as refused:
        load(home, **environ)
    assert en in refused.value.message.en
    assert ja in refused.value.message.ja


def test_a_dated_rate_is_taken(home: Path) -> None:
    found = load(
        home, BUDGET_CURRENCY="JPY", BUDGET_JPY_PER_USD="151.2", BUDGET_JPY_AS_OF="2026-11-20"
    ).budget.display
    assert found == Display("JPY", D("151.2"), date(2026, 11, 20))
