"""The real program (`serve`, sandbox twins, local tiny model) and a Chromium that notices everything wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

from api_providers.sandbox.app import twins
from tests.sandbox_process import SandboxProcess

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
LAUNCH = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
]
WAIT_MS = 60_000
BROKEN_TEXT = re.compile(r"\[object Object\]|\bundefined\b|\bNaN\b|__i18n__|\bvg_[a-z]+")

KNOWN = re.compile(r"AbortError: signal is aborted without reason|^\s*Connection errored out\.\s*$")
"""What Gradio itself writes when a page is left while its event stream is open."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(
                    pytest.mark.skip(reason="Chromium is not installed (Debian: apt install chromium)")
                )


@dataclass
class Program:
    """`serve` on a free port, and the twins it talks to."""

    url: str
    sandbox: SandboxProcess

    def render_seconds(self, seconds: float) -> None:
        for provider in twins():
            self.sandbox.settings(provider, render_seconds=seconds)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with SandboxProcess() as sandbox:
        env = {
            **os.environ,
            "UNDERSTUDY_HOME": str(tmp_path_factory.mktemp("home")),
            "UNDERSTUDY_SANDBOX_URL": sandbox.url,
            "UNDERSTUDY_LOCAL_DEMO_MODEL": "true",
        }
        command = [sys.executable, "-m", "router", "serve", "--port", "0", "--json"]
        said: list[str] = []
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True).start()
            try:
                text = ""
                for line in process.stdout:
                    text += line
                    if line.rstrip() == "}":
                        break
                assert text, f"serve did not start: {''.join(said)}"
                url = json.loads(text)["url"]
                until_healthy(url)
                yield Program(url, sandbox)
            finally:
                process.terminate()
                process.wait(30)


def until_healthy(url: str) -> None:
    """The API answers before the page is loaded; `/healthz` says when both are there."""
    ends = time.monotonic() + WAIT_MS / 1000
    while httpx.get(f"{url}/healthz").status_code != 200:
        assert time.monotonic() < ends, "the page was not ready in time"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=LAUNCH)
        yield browser
        browser.close()


@dataclass
class Watch:
    """What went wrong in a page without anybody looking."""

    origin: str
    found: list[str] = field(default_factory=list)

    def follow(self, page: Page) -> None:
        page.on("console", lambda one: self._said(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda one: self.found.append(f"script: {one}"))
        page.on("dialog", self._asked)
        page.on("request", lambda one: self._address(one.url))
        page.on(
            "response",
            lambda one: self.found.append(f"{one.status} {one.url}") if one.status >= 400 else None,
        )

    def _said(self, text: str) -> None:
        if not KNOWN.search(text):
            self.found.append(f"console: {text}")

    def _asked(self, dialog: Dialog) -> None:
        self.found.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _address(self, url: str) -> None:
        if not url.startswith((self.origin, "data:", "blob:")):
            self.found.append(f"another host: {url}")


Opener = Callable[..., Page]


@pytest.fixture
def open_page(program: Program, chromium: Browser) -> Iterator[Opener]:
    """`open_page(path, lang=, width=)` -> a page that is ready; at the end nothing may have gone wrong in it."""
    watch = Watch(program.url)
    contexts: list[BrowserContext] = []

    def opened(path: str = "/", *, lang: str = "en-US", width: int = 1280, dark: bool = False) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 844},
            locale=lang,
            timezone_id="Asia/Tokyo",
            color_scheme="dark" if dark else "light",
        )
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        watch.follow(page)
        page.goto(program.url + path)
        ready(page)
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            check_layout(page)
        context.close()
    assert watch.found == []


def ready(page: Page) -> None:
    """The form is there, and so is what only the server can fill in."""
    page.wait_for_selector("#prompt textarea", timeout=WAIT_MS)
    page.wait_for_selector("#plan [data-plan], #plan .vg-nowhere", timeout=WAIT_MS)


def check_layout(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
        "the page scrolls sideways"
    )
    assert BROKEN_TEXT.search(page.inner_text("body")) is None
