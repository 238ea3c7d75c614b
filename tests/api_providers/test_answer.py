"""Retry-After and the cleaning of provider text."""

from datetime import UTC, datetime

import pytest

from api_providers._answer import LONGEST_RETRY_AFTER_S, TEXT_KEPT, exhausted_s, redact, retry_after_s

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17.0),
        ("1.5", 1.5),
        ("0", 0.0),
        (" 30 ", 30.0),
        ("9" * 400, LONGEST_RETRY_AFTER_S),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("Wed, 01 Jan 3000 00:00:00 GMT", LONGEST_RETRY_AFTER_S),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Wed, 99 Foo 2026 00:00:00 GMT", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_within_a_day_or_nothing(value: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": value}, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("key abcd-efgh is bad", "key [key] is bad"),
        (
            "see https://u:p@cdn.example/a.mp4?_jwt=secret#f for more",
            "see https://cdn.example/a.mp4?[signed] for more",
        ),
        ("Bearer abcdefghijklmnop refused", "[key] refused"),
        ("key_0123456789abcdef0123 refused", "[key] refused"),
        ("token eyJhbGciOi.eyJzdWIi.c2ln", "[key]"),
        ("got data:image/png;base64,iVBORw0KGgo=", "got [data]"),
        ("line\none\x00", "line one"),
        ("プロンプトが長すぎます", "プロンプトが長すぎます"),
    ],
)
def test_provider_text_is_kept_without_secrets(text: str, clean: str) -> None:
    assert redact(text, ["abcd-efgh", ""]) == clean


def test_provider_text_is_cut() -> None:
    assert len(redact("x" * 10_000)) == TEXT_KEPT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}, 90),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "250ms"}, 0.25),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "12"}, 12),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795651230"}, 30),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "32503680000"}, 86400),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "12"}, None),
        ({"x-ratelimit-remaining": "0"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, None),
        ({}, None),
    ],
)
def test_rate_headers_of_a_good_answer_say_when_the_next_may_start(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert exhausted_s(headers, now=datetime.fromtimestamp(1795651200, UTC)) == seconds
