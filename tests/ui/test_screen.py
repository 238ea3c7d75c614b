"""What an open page is sent: only what changed, the newest unless another was opened, pages of what has ended."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from router.contract.errors import InvalidRequest
from tests.ui.fake_gateway import T0, FakeGateway, without_token
from ui.frame_drop import _uploaded
from ui.reader import Reader, reader_of
from ui.screen import BUSY_S, IDLE_S, PAGE, Screen

READER = Reader(lang="en", zone=ZoneInfo("UTC"), job=None)
NAMES = ("jobs", "player", "details", "record", "history", "timer")


class Asked:
    def __init__(self, query: dict[str, str], headers: dict[str, str], cookies: dict[str, str]) -> None:
        self.query_params, self.headers, self.cookies = query, headers, cookies


@pytest.fixture
def gateway(tmp_path: Path) -> FakeGateway:
    return FakeGateway(without_token(tmp_path))


async def look(screen: Screen, key: str = "a") -> dict[str, Any]:
    return dict(zip(NAMES, await screen.look(READER, key), strict=True))


def is_skip(update: Any) -> bool:
    return bool(update == {"__type__": "update"})


async def test_nothing_is_sent_twice(gateway: FakeGateway) -> None:
    screen = Screen(gateway)
    gateway.finish(gateway.add("a boat").id)
    first = await look(screen)
    assert not any(is_skip(update) for update in first.values())
    assert all(is_skip(update) for update in (await look(screen)).values())
    assert not is_skip((await look(screen, "another page"))["jobs"])


async def test_the_page_looks_more_often_while_something_runs(gateway: FakeGateway) -> None:
    screen = Screen(gateway)
    assert (await look(screen))["timer"].value == IDLE_S
    job = gateway.add("a boat", created_at=T0 + timedelta(days=1))
    assert (await look(screen))["timer"].value == BUSY_S
    gateway.finish(job.id)
    assert (await look(screen))["timer"].value == IDLE_S


async def test_the_newest_clip_is_shown_until_another_is_opened(gateway: FakeGateway) -> None:
    screen = Screen(gateway)
    old, new = gateway.add("old"), gateway.add("new")
    gateway.finish(old.id)
    gateway.finish(new.id)
    assert f'data-res="{new.id}"' in (await look(screen))["player"]
    screen.open("a", old.id)
    assert f'data-res="{old.id}"' in (await look(screen))["player"]
    newer = gateway.add("newer")
    gateway.finish(newer.id)
    assert is_skip((await look(screen))["player"])
    screen.open("a", None)
    assert f'data-res="{newer.id}"' in (await look(screen))["player"]


async def test_a_cancelled_job_does_not_push_the_clip_away(gateway: FakeGateway) -> None:
    done = gateway.add("done")
    gateway.finish(done.id)
    await gateway.cancel(gateway.add("cancelled").id)
    assert f'data-res="{done.id}"' in (await look(Screen(gateway)))["player"]


async def test_an_unknown_job_is_said_to_be_missing(gateway: FakeGateway) -> None:
    screen = Screen(gateway)
    screen.open("a", "vid_none")
    assert "There is no such job" in (await look(screen))["player"]


async def test_the_history_goes_back_page_by_page_without_gaps_or_repeats(gateway: FakeGateway) -> None:
    screen = Screen(gateway)
    for number in range(30):
        job = gateway.add(f"clip {number:02d}")
        if number % 7:
            gateway.finish(job.id)
    seen: list[str] = []
    for _ in range(3):
        html = (await look(screen))["history"]
        seen += [part.split('"')[0] for part in html.split('data-open="')[1:]]
        screen.turn("a", older=True)
    expected = [
        job.id
        for job in sorted(gateway.jobs.values(), key=lambda one: one.id, reverse=True)
        if job.status.ended
    ]
    assert seen == expected
    assert len(seen) > PAGE
    screen.turn("a", older=False)
    screen.turn("a", older=False)
    assert expected[0] in (await look(screen))["history"]


def test_language_and_zone_come_from_address_cookie_and_browser() -> None:
    utc = ZoneInfo("UTC")
    reader = reader_of(
        Asked({"lang": "ja", "job": "vid_1"}, {"accept-language": "en"}, {"vg_zone": "Asia%2FTokyo"}), utc
    )
    assert (reader.lang, reader.zone.key, reader.job) == ("ja", "Asia/Tokyo", "vid_1")
    odd = reader_of(
        Asked({"job": "<script>"}, {"accept-language": "ja-JP"}, {"vg_zone": "../etc/passwd"}), utc
    )
    assert (odd.lang, odd.zone, odd.job) == ("ja", utc, None)


def test_only_this_pages_own_uploads_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(uploads))
    (uploads / "a.png").write_bytes(b"a")
    (tmp_path / "keys.env").write_text("secret", encoding="utf-8")
    (uploads / "link.png").symlink_to(tmp_path / "keys.env")
    assert _uploaded(uploads / "a.png") == (uploads / "a.png").resolve()
    for path in (
        tmp_path / "keys.env",
        uploads / ".." / "keys.env",
        uploads / "link.png",
        uploads / "none.png",
    ):
        with pytest.raises(InvalidRequest):
            _uploaded(path)
