"""What came back from a provider as a plain value, and what may be kept of its text."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

LONGEST_RETRY_AFTER_S = 86_400.0
"""No provider of video documents a longer pause than a day; a larger value is a mistake or malice."""
TEXT_KEPT = 600
"""Characters of a provider's own message that travel with an error."""


class Answer(NamedTuple):
    """One HTTP answer; provider files see this instead of the HTTP library's type."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    json: Any
    """The parsed body, None where it is empty or no JSON."""
    text: str
    readable: bool
    """False when a body came that is no JSON."""

    @property
    def ok(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds from `Retry-After` (a number or an HTTP date), within 0 and one day; None when absent or nonsense."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value):
        seconds = float(value)
    else:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


_RESET = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")


def exhausted_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds until the next start, from the usual rate headers of a good answer; None while some are left.

    `x-ratelimit-remaining[-requests]: 0` with `x-ratelimit-reset[-requests]`: seconds, `1m30s`, or a Unix time.
    """
    for tail in ("-requests", ""):
        left = headers.get(f"x-ratelimit-remaining{tail}", "").strip()
        reset = headers.get(f"x-ratelimit-reset{tail}", "").strip().lower()
        if left != "0" or not reset:
            continue
        if re.fullmatch(r"\d+(\.\d+)?", reset):
            seconds = float(reset)
            if seconds > 1e9:
                seconds -= (now or datetime.now(UTC)).timestamp()
        elif found := _RESET.fullmatch(reset):
            hours, minutes, whole, millis = (float(part or 0) for part in found.groups())
            seconds = hours * 3600 + minutes * 60 + whole + millis / 1000
        else:
            continue
        return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)
    return None


_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>\\]+", re.IGNORECASE)
_CREDENTIAL = re.compile(
    r"(?i)\b(?:bearer|key|token|basic)\s+[A-Za-z0-9._~+/=:-]{12,}"
    r"|\bkey_[0-9a-f]{16,}"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]+"
    r"|\bsk-[\w-]{12,}"
)
_DATA_URI = re.compile(r"data:[\w/+.;=-]+;base64,[A-Za-z0-9+/=]+")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Provider text without our keys, credentials, data URIs and what makes a signed URL work; cut to a sane length."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "[key]")
    text = _DATA_URI.sub("[data]", text)
    text = _URL.sub(lambda found: _bare(found[0]), text)
    text = _CREDENTIAL.sub("[key]", text)
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    return text if len(text) <= TEXT_KEPT else text[: TEXT_KEPT - 1] + "…"


def _bare(url: str) -> str:
    """The URL without user, password, query and fragment: a signature lives in one of those."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "[url]"
    return f"{parts.scheme}://{host}{parts.path}" + ("?[signed]" if parts.query else "")
