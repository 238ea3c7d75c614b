"""A person makes clips: plan, generate, reload, play, cancel, mistakes, images, languages, phone."""

import io
import re
import secrets

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import WAIT_MS, Opener, Program, ready

HOSTILE = 'a fox ${window.hit=1} <img src=x onerror="window.hit=2"> {{7*7}} "quoted" \'and\' &amp;'


@pytest.fixture(autouse=True)
def quick_twins(program: Program) -> None:
    program.render_seconds(0.5)


def generate(page: Page, prompt: str) -> None:
    page.fill("#prompt textarea", prompt)
    page.click("#generate")
    expect(page.locator("#notice .vg-notice-done")).to_be_visible(timeout=WAIT_MS)


def shows(page: Page, prompt: str) -> None:
    """The clip of that prompt is in the player."""
    expect(page.locator("#details .vg-prompt")).to_have_text(prompt, timeout=WAIT_MS)
    page.wait_for_selector("#player video[data-res]", timeout=WAIT_MS)


def plays(page: Page) -> None:
    video = page.locator("#player video")
    video.evaluate("v => { v.muted = true; return v.play() }")
    page.wait_for_function(
        "() => { const v = document.querySelector('#player video');"
        " return v.readyState >= 2 && v.duration > 0 && v.videoWidth > 0 && v.currentTime > 0.2"
        " && v.getVideoPlaybackQuality().totalVideoFrames > 0 }"
    )


def choose(page: Page, field: str, label: str) -> None:
    """Types the name as a person does: a long list shows only the part that is scrolled to."""
    page.click(f"#{field} input")
    page.locator(f"#{field} input").press_sequentially(label)
    page.get_by_role("option", name=label).first.click()


def test_a_prompt_becomes_a_playing_clip_and_survives_a_reload_in_the_middle(
    program: Program, open_page: Opener
) -> None:
    program.render_seconds(6)
    page = open_page()
    expect(page.locator("[data-price]")).to_have_text(re.compile(r"^\$\d"))
    assert page.locator("[data-candidate]").count() >= 2
    prompt = f"a red circle moves left on a white background {secrets.token_hex(4)}"
    generate(page, prompt)
    row = page.locator("#jobs [data-job]", has_text=prompt)
    expect(row).to_be_visible()
    assert page.input_value("#prompt textarea") == prompt
    page.reload()
    ready(page)
    expect(row.locator("[role=progressbar]")).to_be_visible()
    expect(page).to_have_title(re.compile(r"^\(\d+\) Understudy"))
    shows(page, prompt)
    plays(page)
    expect(row).to_have_count(0)
    expect(page.locator("#details")).to_contain_text("Ran on")
    expect(page.locator("#record [data-attempt='1']")).to_contain_text("Done")
    assert program.sandbox.bill(), "the clip was made by a twin"
    with page.expect_download() as download:
        page.click("#details a[download]")
    assert download.value.suggested_filename.endswith(".mp4")


def test_a_running_job_can_be_cancelled(program: Program, open_page: Opener) -> None:
    program.render_seconds(120)
    page = open_page()
    prompt = f"a long clip {secrets.token_hex(4)}"
    generate(page, prompt)
    row = page.locator("#jobs [data-job]", has_text=prompt)
    job = row.get_attribute("data-job")
    row.locator("[data-cancel]").click()
    program.render_seconds(0.5)
    expect(row).to_have_count(0)
    page.click(f"#history [data-open='{job}']")
    expect(page.locator("#details [data-status]")).to_have_attribute("data-status", "cancelled")
    assert f"job={job}" in page.url
    page.reload()
    ready(page)
    expect(page.locator(f"#details [data-details='{job}']")).to_be_visible()


@pytest.mark.parametrize(
    ("lang", "empty", "no_image", "seed"),
    [
        ("en", "Describe the clip in the prompt", "image", "Seed: a whole number"),
        ("ja", "プロンプトを入力するか", "画像", "シードは 0 から"),
    ],
)
def test_mistakes_are_explained_and_the_form_keeps_everything(
    open_page: Opener, lang: str, empty: str, no_image: str, seed: str
) -> None:
    page = open_page(f"/?lang={lang}")
    page.click("#generate")
    expect(page.get_by_role("alert").filter(has_text=empty)).to_be_visible()
    page.set_input_files(
        "#first-frame input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": b"no"}
    )
    expect(page.locator("#first-frame .vg-drop-problem")).to_contain_text(no_image)
    page.fill("#prompt textarea", "a boat")
    page.click("#more > button")
    page.fill("#seed input", "-5")
    expect(page.locator("#plan .vg-nowhere")).to_contain_text(seed)
    page.click("#generate")
    expect(page.get_by_role("alert").filter(has_text=seed)).to_be_visible()
    assert page.input_value("#prompt textarea") == "a boat"
    assert page.input_value("#seed input") == "-5"


def test_a_plan_that_nobody_can_take_says_why(open_page: Opener) -> None:
    page = open_page()
    choose(page, "model", "Gen-4.5")
    page.click("#more > button")
    page.fill("#max-usd input", "0.01")
    expect(page.locator("#plan .vg-nowhere")).to_be_visible()
    expect(page.locator("[data-rejected]").first).to_be_visible()
    expect(page.locator("[data-price]")).to_have_text("–")


def test_an_image_becomes_a_clip_of_the_local_model_and_its_settings_return(open_page: Opener) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), (220, 40, 40)).save(picture, "PNG")
    page = open_page()
    page.set_input_files(
        "#first-frame input[type=file]",
        {"name": "a.png", "mimeType": "image/png", "buffer": picture.getvalue()},
    )
    page.wait_for_function("() => document.querySelector('#first-frame img')?.naturalWidth > 0")
    choose(page, "model", "tiny")
    expect(page.locator("[data-chosen='local/tiny']")).to_be_visible()
    prompt = f"a red square zooms in {secrets.token_hex(4)}"
    generate(page, prompt)
    shows(page, prompt)
    plays(page)
    expect(page.locator("#details")).to_contain_text("Own machine")
    page.reload()
    ready(page)
    page.click("#details [data-use]")
    expect(page.locator("#prompt textarea")).to_have_value(prompt)
    expect(page.locator("#first-frame")).to_contain_text("from an earlier clip")
    expect(page.locator("#model input")).to_have_value(re.compile("tiny", re.IGNORECASE))


def test_finishing_touches_are_made_shown_and_come_back(open_page: Opener) -> None:
    page = open_page()
    choose(page, "model", "tiny")
    page.click("#finishing > button")
    for field, label in (
        ("post-fps", "24 fps"),
        ("post-upscale", "2×"),
        ("post-loop", "Forward and back"),
        ("post-preview", "GIF"),
    ):
        page.click(f"#{field} input")
        page.get_by_role("option", name=label).first.click()
    page.fill("#post-poster input", "1")
    prompt = f"a red circle moves left on a white background {secrets.token_hex(4)}"
    generate(page, prompt)
    shows(page, prompt)
    plays(page)
    assert page.locator("#player video").evaluate("v => [v.videoWidth, v.videoHeight]") == [128, 128]
    expect(page.locator("#record")).to_contain_text(
        "24 fps · 2× larger · Forward and back · still at 1 s · GIF"
    )
    sizes = []
    for label, ending in (("Download", ".mp4"), ("Download preview", ".gif"), ("Download original", ".mp4")):
        with page.expect_download() as download:
            page.get_by_role("link", name=label, exact=True).click()
        assert download.value.suggested_filename.endswith(ending)
        sizes.append(download.value.path().stat().st_size)
    assert len(set(sizes)) == 3
    page.reload()
    ready(page)
    page.click("#details [data-use]")
    expect(page.locator("#prompt textarea")).to_have_value(prompt)
    page.click("#finishing > button")
    expect(page.locator("#post-loop input")).to_have_value("Forward and back")
    expect(page.locator("#post-poster input")).to_have_value("1")


def test_a_hostile_prompt_is_only_text(open_page: Opener) -> None:
    page = open_page()
    generate(page, HOSTILE)
    shows(page, HOSTILE)
    expect(page.locator("#history")).to_contain_text("${window.hit=1}")
    assert page.evaluate("window.hit") is None
    expect(page.locator("#details img, #history .vg-clip-text img")).to_have_count(0)
    page.click("#details [data-delete]")
    expect(page.locator("#details [data-delete]")).to_have_text("Delete for good?")
    page.click("#details [data-delete]")
    expect(page.locator("#notice")).to_contain_text("Deleted.")
    expect(page.locator("#history", has_text="${window.hit=1}")).to_have_count(0)


@pytest.mark.parametrize(("path", "locale"), [("/?lang=ja", "en-US"), ("/", "ja-JP")])
def test_japanese_is_complete_by_address_and_by_browser(open_page: Opener, path: str, locale: str) -> None:
    page = open_page(path, lang=locale)
    assert page.evaluate("document.documentElement.lang") == "ja"
    page.click("#more > button")
    page.click("#finishing > button")
    expect(page.locator("#generate")).to_have_text("生成する")
    for words in (
        "プロンプト",
        "最初のフレーム",
        "ネガティブプロンプト",
        "フレーム補間",
        "生成できる候補",
        "ジョブ",
        "履歴",
    ):
        expect(page.get_by_text(words).first).to_be_visible()
    form = page.inner_text("#vg-form")
    assert re.findall(r"[A-Za-z]{3,}", form.replace("JPEG", "").replace("PNG", "").replace("WebP", "")) == []
    page.click("[data-lang=en]")
    ready(page)
    expect(page.locator("#generate")).to_have_text("Generate")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_has_price_and_button_at_hand(open_page: Opener, dark: bool) -> None:
    page = open_page("/", width=390, dark=dark)
    page.click("#more > button")
    for place in ("#prompt", "#history"):
        page.locator(place).scroll_into_view_if_needed()
        expect(page.locator("#generate")).to_be_in_viewport(ratio=1)
        expect(page.locator("[data-price]")).to_be_in_viewport(ratio=1)
