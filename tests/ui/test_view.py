"""The panels as HTML: complete, in both languages, and whatever a person typed is only text."""

import re
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from router.contract.card import Asset
from router.contract.job import AttemptStatus, Job, Status
from router.contract.request import VideoRequest
from router.contract.words import Lang, same, words
from tests.ui.fake_gateway import BACKENDS, CARDS, T0, FakeGateway, plan, without_token
from ui import view, view_jobs
from ui.names import Names
from ui.text import LANGS, Text

HOSTILE = [
    "${alert(1)}",
    '<img src=x onerror="alert(1)">',
    "{{constructor.constructor('alert(1)')()}}",
    "</textarea><script>alert(1)</script>",
    '" onmouseover="alert(1)" x=\'',
    "`${alert(1)}`",
    "a = ${b = 1}",
]
NAMES = Names(cards={card.id: card for card in CARDS}, backends=dict(BACKENDS))
ZONE = ZoneInfo("Asia/Tokyo")
ALLOWED = set(
    "section div header nav h1 h2 h3 h4 p a span small strong b s i ul li dl dt dd details summary table thead tbody tr th td "
    "button code label input img video time".split()
)


class Tags(HTMLParser):
    """What a browser would see as elements and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in {"img", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def gateway(tmp_path: Path) -> FakeGateway:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"clip")
    return FakeGateway(without_token(tmp_path), clip=clip, poster=clip)


def hostile_job(gateway: FakeGateway, evil: str) -> Job:
    job = gateway.add(VideoRequest(prompt=evil, negative_prompt=evil))
    job = gateway.finish(job.id)
    attempt = job.attempts[0].model_copy(update={"reason": same(evil), "model": evil, "backend": evil})
    return gateway.change(
        job.id, warnings=(same(evil),), reason=same(evil), model=evil, backend=evil, attempts=(attempt,)
    )


def panels(text: Text, job: Job) -> list[str]:
    decision = plan()
    assert decision.chosen
    evil = same(job.request.prompt)
    tainted = decision.model_copy(
        update={
            "reason": evil,
            "rejected": tuple(one.model_copy(update={"reason": evil}) for one in decision.rejected),
        }
    )
    return [
        view.plan(text, tainted, NAMES, T0),
        view.plan_problem(job.request.prompt),
        view.notice(job.request.prompt),
        view.drop(text, "First", picture=job.request.prompt, problem=job.request.prompt),
        view.quote(text, tainted),
        view_jobs.jobs(text, [job.model_copy(update={"status": Status.RUNNING})], NAMES, T0),
        view_jobs.player(text, job),
        view_jobs.details(text, job, NAMES, pinned=True),
        view_jobs.record(text, job, NAMES, ZONE),
        view_jobs.history(text, [job], NAMES, ZONE, shown=job.id, first=False, more=True),
    ]


@pytest.mark.parametrize("evil", HOSTILE)
@pytest.mark.parametrize("lang", LANGS)
def test_what_a_person_typed_is_never_markup(gateway: FakeGateway, evil: str, lang: Lang) -> None:
    for html in panels(Text(lang), hostile_job(gateway, evil)):
        seen = Tags(html)
        assert seen.open == []
        assert set(seen.tags) <= ALLOWED
        assert not [name for name in seen.attributes if name.startswith("on")]
        assert "script" not in seen.tags


def test_the_plan_shows_choice_candidates_and_refusals() -> None:
    html = view.plan(Text("en"), plan(), NAMES, T0)
    seen = Tags(html).text
    assert "Gen-4 Turbo" in seen
    assert "$0.25" in seen
    assert "Not used (2)" in seen
    assert "again in 42 s" in seen
    assert "<s>$3.20</s>" in html
    assert "Prices as of 2026-11-20" in seen


def test_a_price_source_that_is_no_web_address_is_no_link() -> None:
    chosen = plan().chosen
    assert chosen
    odd = chosen.model_copy(update={"price_source": "javascript:alert(1)"})
    html = view.plan(Text("en"), plan().model_copy(update={"chosen": odd, "candidates": (odd,)}), NAMES, T0)
    assert "javascript:" not in html


def test_many_candidates_are_folded_but_all_there() -> None:
    decision = plan()
    many = decision.candidates * 4
    html = view.plan(Text("en"), decision.model_copy(update={"candidates": many}), NAMES, T0)
    assert html.count("data-candidate=") == len(many)
    assert "5 more" in html


def test_nowhere_to_run_is_said_and_the_refusals_are_open() -> None:
    html = view.plan(Text("ja"), plan(nowhere=True), NAMES, T0)
    assert "今はどこでも生成できません" in html
    assert 'data-list="out" open' in html
    assert "–" in view.quote(Text("ja"), plan(nowhere=True))


def test_an_unknown_price_is_a_word_and_never_zero() -> None:
    chosen = plan().chosen
    assert chosen
    unknown = plan().model_copy(update={"chosen": chosen.model_copy(update={"usd": None})})
    assert "unknown" in view.quote(Text("en"), unknown)


def test_a_title_does_not_repeat_the_backend_beside_it() -> None:
    card = CARDS[1].model_copy(update={"title": "Kling 2.6 Pro (fal)"})
    names = Names(cards={card.id: card}, backends={"fal": "fal.ai"})
    assert names.model(card.id) == "Kling 2.6 Pro"
    tiny = CARDS[4].model_copy(update={"title": "Tiny (64x64, shapes)"})
    assert Names(cards={tiny.id: tiny}, backends={}).model(tiny.id) == "Tiny (64x64, shapes)"


def test_running_jobs_carry_progress_cancel_and_the_title(gateway: FakeGateway) -> None:
    job = gateway.run(gateway.add("a boat").id, 0.4)
    html = view_jobs.jobs(Text("en"), [job], NAMES, job.created_at + timedelta(seconds=12))
    assert 'aria-valuenow="40"' in html
    assert f'data-cancel="{job.id}"' in html
    assert 'data-title="(1) Understudy"' in html
    assert "12 s so far" in html


def test_a_running_job_shows_its_picture_on_the_way_and_an_ended_one_does_not(gateway: FakeGateway) -> None:
    running = gateway.run(gateway.add("a <boat>").id, 0.4)
    looks = {running.id: 7}
    shown = f'src="v1/videos/{running.id}/content?variant=sketch&amp;look=7"'
    for text in (Text("en"), Text("ja")):
        for html in (
            view_jobs.jobs(text, [running], NAMES, T0, looks),
            view_jobs.player(text, running, sketches=looks),
        ):
            assert shown in html
            assert "<boat>" not in html
    assert "vg-sketch" not in view_jobs.jobs(Text("en"), [running], NAMES, T0)
    ended = gateway.finish(running.id)
    assert "vg-sketch" not in view_jobs.player(Text("en"), ended, sketches=looks)


def test_a_job_that_is_being_cancelled_looks_so(gateway: FakeGateway) -> None:
    job = gateway.change(gateway.run(gateway.add("a boat").id).id, cancel_requested=True)
    html = view_jobs.jobs(Text("ja"), [job], NAMES, T0)
    assert "キャンセル中…" in html
    assert "disabled" in html


def test_an_unresolved_job_tells_the_command_and_is_not_counted_as_running(gateway: FakeGateway) -> None:
    job = gateway.change(gateway.run(gateway.add("a boat").id).id, status=Status.UNRESOLVED)
    html = view_jobs.jobs(Text("en"), [job], NAMES, T0)
    assert f"understudy settle {job.id} --billed USD" in html
    assert 'data-running="0"' in html
    assert "data-cancel" not in html


def test_the_player_takes_the_clip_from_our_own_route(gateway: FakeGateway) -> None:
    job = gateway.finish(gateway.add("a boat").id)
    html = view_jobs.player(Text("en"), job)
    assert f'src="v1/videos/{job.id}/content"' in html
    assert f'poster="v1/videos/{job.id}/content?variant=thumbnail"' in html


@pytest.mark.parametrize("lang", LANGS)
def test_every_state_of_a_job_has_a_face(gateway: FakeGateway, lang: Lang) -> None:
    text = Text(lang)
    for state in Status:
        job = gateway.change(gateway.add("a boat").id, status=state)
        assert "vg-stage" in view_jobs.player(text, job)
        assert Tags(view_jobs.details(text, job, NAMES)).text
    assert "vg-empty" in view_jobs.player(text, None)
    assert text("result_missing") in view_jobs.player(text, None, missing=True)


def test_details_tell_where_why_cost_and_every_attempt(gateway: FakeGateway) -> None:
    job = gateway.finish(gateway.add("a boat").id)
    bad = gateway.attempt(job, 1, status=AttemptStatus.FAILED, billed_usd=None)
    job = gateway.change(
        job.id, attempts=(bad, job.attempts[0].model_copy(update={"n": 2})), warnings=(words("a", "b"),)
    )
    beside = Tags(view_jobs.details(Text("en"), job, NAMES)).text
    below = Tags(view_jobs.record(Text("en"), job, NAMES, ZONE)).text
    for word in ("Runway", "Gen-4 Turbo", "Why there", "$0.25", "Not as asked"):
        assert word in beside
    for word in ("Attempts (2)", "Failed", "open", "71", "1280 × 720", "41 s", "2026-11-21 18:01"):
        assert word in below


def test_the_file_name_says_where_it_ran_and_what_it_cost(gateway: FakeGateway) -> None:
    job = gateway.change(gateway.finish(gateway.add("a boat").id).id, billed_usd=Decimal("1234.5"))
    assert 'download="runway-gen4_turbo-1234.50usd-deo_0001.mp4"' in view_jobs.details(Text("en"), job, NAMES)


def test_what_was_done_to_the_clip_is_told_and_every_file_can_be_had(gateway: FakeGateway) -> None:
    wish = VideoRequest.model_validate({"prompt": "a boat", "post": ["fps=48", "loop=crossfade", "gif"]})
    job = gateway.finish(gateway.add(wish).id)
    assert "variant=original" not in view_jobs.details(Text("en"), job, NAMES)
    preview = Asset(id="c" * 64, mime="image/gif", size_bytes=9)
    details = {"original": "b" * 64, "preview": preview.model_dump(mode="json")}
    job = gateway.change(job.id, details={**job.details, **details})
    beside = view_jobs.details(Text("en"), job, NAMES)
    files = dict(
        re.findall(r'href="v1/videos/[^"?]+/content(?:\?variant=(\w+))?" download="([^"]+)"', beside)
    )
    assert {name: file.rpartition(".")[2] for name, file in files.items()} == {
        "": "mp4",
        "preview": "gif",
        "original": "mp4",
    }
    assert files["original"] != files[""]
    assert "48 fps · Crossfade · GIF" in view_jobs.record(Text("en"), job, NAMES, ZONE)
    assert "48 fps · クロスフェード · GIF" in view_jobs.record(Text("ja"), job, NAMES, ZONE)
