"""Who reads the page: language and time zone, from the address, a cookie and the browser's own wish."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from zoneinfo import ZoneInfo, available_timezones

from router.contract.words import Lang, pick_lang
from router.currency import USD, Display
from ui.text import LANGS, Text

ZONE_COOKIE = "vg_zone"
_JOB = re.compile(r"^[A-Za-z0-9_-]{1,128}$")


class Asking(Protocol):
    """What Starlette's and Gradio's requests have in common."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name."""
        ...

    @property
    def query_params(self) -> Mapping[str, str]:
        """Of the page's own address."""
        ...

    @property
    def cookies(self) -> Mapping[str, str]:
        """By name."""
        ...


@dataclass(frozen=True)
class Reader:
    """One reader of the page."""

    lang: Lang
    zone: ZoneInfo
    job: str | None
    """The job that `?job=ID` opens."""
    display: Display = USD
    """In which currency the settings want amounts."""

    @property
    def text(self) -> Text:
        """The texts in the reader's language."""
        return Text(self.lang, self.display)


def reader_of(request: Asking, fallback: ZoneInfo, display: Display = USD) -> Reader:
    """`?lang=` wins over `Accept-Language`; `fallback` is the zone of a browser that did not tell its own."""
    query, cookies = dict(request.query_params), dict(request.cookies)
    zone = cookies.get(ZONE_COOKIE, "").replace("%2F", "/")
    job = query.get("job", "")
    return Reader(
        lang=lang_of(query.get("lang"), dict(request.headers).get("accept-language")),
        zone=ZoneInfo(zone) if zone in available_timezones() else fallback,
        job=job if _JOB.match(job) else None,
        display=display,
    )


def lang_of(wanted: str | None, accepted: str | None) -> Lang:
    """The language of the address if we have it, else the browser's first choice."""
    return next((lang for lang in LANGS if lang == wanted), pick_lang(accepted))
