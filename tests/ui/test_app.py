"""The page as it is served: nothing of Gradio's that we do not want, the reader's language before any script."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.ui.fake_gateway import FakeGateway, without_token
from ui.app import build, mount
from ui.shell import dressed

T = TypeVar("T")


def built(make: Callable[[], T]) -> T:
    """Inside a running loop: elsewhere Gradio makes loops of its own and leaves them open."""

    async def inside() -> T:
        return make()

    return asyncio.run(inside())


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = FastAPI(openapi_url=None)

    @app.get("/v1/videos")
    def ours() -> str:
        return "ours"

    gateway = FakeGateway(without_token(tmp_path_factory.mktemp("home")))
    with TestClient(built(lambda: mount(app, gateway))) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "accept", "lang"),
    [
        ("/", "en-US,en;q=0.9", "en"),
        ("/", "ja,en;q=0.8", "ja"),
        ("/?lang=ja", "en", "ja"),
        ("/?lang=en", "ja", "en"),
        ("/?lang=xx", "fr", "en"),
    ],
)
def test_the_document_is_in_the_readers_language(
    client: TestClient, path: str, accept: str, lang: str
) -> None:
    answer = client.get(path, headers={"Accept-Language": accept})
    assert answer.status_code == 200
    assert re.search(rf'<html[^>]*lang="{lang}"', answer.text, re.DOTALL)
    assert f"['language',\"{lang}\"]" in answer.text
    assert answer.text.index("'language'") < answer.text.index("gradio_config")


def test_the_document_names_no_other_host_in_its_head(client: TestClient) -> None:
    html = client.get("/").text
    assert "og:" not in html
    assert "twitter:" not in html
    assert re.findall(r'<(?:link|script|img)[^>]*(?:href|src)="https?://[^"]*"', html) == []


def test_the_content_policy_keeps_the_page_to_itself(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "https:" not in policy


@pytest.mark.parametrize(
    ("path", "status"), [("/openapi.json", 404), ("/gradio_api/runs", 404), ("/monitoring/summary", 403)]
)
def test_gradios_own_pages_are_off(client: TestClient, path: str, status: int) -> None:
    assert client.get(path).status_code == status


def test_our_routes_win_over_the_page(client: TestClient) -> None:
    assert client.get("/v1/videos").json() == "ours"


def test_every_input_is_interactive_and_no_event_is_public(tmp_path: Path) -> None:
    config = built(lambda: build(FakeGateway(without_token(tmp_path)))).get_config_file()
    inputs = [one for one in config["components"] if one["type"] in {"textbox", "dropdown", "checkbox"}]
    dead = [
        one["props"].get("elem_id")
        for one in inputs
        if one["props"].get("visible") is not False and not one["props"].get("interactive")
    ]
    assert dead == []
    assert {one["api_visibility"] for one in config["dependencies"]} == {"private"}


def test_no_panel_is_a_template(tmp_path: Path) -> None:
    config = built(lambda: build(FakeGateway(without_token(tmp_path)))).get_config_file()
    templates = {one["props"]["html_template"] for one in config["components"] if one["type"] == "html"}
    assert templates == {"${value}"}


def test_only_foreign_metadata_is_taken_out() -> None:
    html = '<html\n lang="en"><head><meta charset="utf-8" /><meta property="og:url" content="x" /><meta name="a" /></head>'
    made = dressed(html, "ja")
    assert 'lang="ja"' in made
    assert "og:url" not in made
    assert '<meta name="a" />' in made
