"""Controls, journal, ports and the separate process with its TLS side."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from api_providers.sandbox.app import serve
from router.contract.errors import ServerTrouble
from tests.api_providers.sandbox.conftest import RUNWAY, TEXT, Twins
from tests.sandbox_process import SandboxProcess

FAL_CLIENT = """
import json, sys
import fal_client
image = sys.argv[1]
text = fal_client.subscribe("fal-ai/veo3.1/fast", {"prompt": "sea", "duration": "4s"})
handle = fal_client.submit("fal-ai/kling-video/v2.6/pro/image-to-video", {"prompt": "x", "start_image_url": image})
states = [type(state).__name__ for state in handle.iter_events(with_logs=True)]
try:
    fal_client.subscribe("fal-ai/veo3.1/fast/image-to-video", {"prompt": "sea"})
except fal_client.client.FalClientHTTPError as error:
    refused = error.status_code
print(json.dumps({"text": text, "image": handle.get(), "last": states[-1], "refused": refused}))
"""


@pytest.mark.parametrize(
    ("what", "order", "says"),
    [
        ("faults", {"provider": "nobody", "kind": "hang"}, "unknown provider 'nobody'"),
        ("faults", {"provider": "fal", "kind": "fire"}, "unknown kind 'fire'"),
        ("faults", {"provider": "fal", "kind": "hang", "times": 0}, "times"),
        ("faults", {"provider": "fal", "kind": "hang", "time": 1}, "time: Extra"),
        ("faults", {"kind": "hang"}, "provider: Field required"),
        ("settings", {"provider": "fal", "render_second": 1}, "render_second: Extra"),
        ("settings", {"provider": "fal", "concurrency": 0}, "concurrency"),
        ("settings", {"provider": "fal", "render_seconds": -1}, "render_seconds"),
        ("settings", {"provider": "fal", "price_factor": "NaN"}, "price_factor"),
    ],
)
async def test_a_wrong_order_is_refused_and_says_why(
    twins: Twins, what: str, order: dict[str, Any], says: str
) -> None:
    answer = await twins.http.post(f"{twins.url}/_sandbox/{what}", json=order)
    assert answer.status_code == 400
    assert says in answer.json()["detail"]


async def test_settings_change_only_what_is_named_and_null_restores_the_default(twins: Twins) -> None:
    changed = await twins.control("settings", provider="runway", per_day=5, concurrency=7)
    assert (changed["per_day"], changed["concurrency"], changed["render_seconds"]) == (5, 7, 0.4)
    restored = await twins.control("settings", provider="runway", per_day=None)
    assert (restored["per_day"], restored["concurrency"]) == (1000, 7)


async def test_the_journal_names_calls_without_queries_and_reports_a_leaked_key(twins: Twins) -> None:
    await twins.runway("POST", "/v1/text_to_video", TEXT)
    await twins.http.get(f"{twins.url}/runway/_cdn/x/output.mp4?_jwt=secret", headers=RUNWAY)
    answer = await twins.http.get(f"{twins.url}/_sandbox/requests")
    rows = [(row["method"], row["path"], row["status"], row["leaked_key"]) for row in answer.json()]
    assert rows == [
        ("POST", "/runway/v1/text_to_video", 200, False),
        ("GET", "/runway/_cdn/x/output.mp4", 403, True),
    ]
    assert "secret" not in answer.text and "sandbox-test" not in answer.text


async def test_reset_clears_bill_faults_settings_and_journal(twins: Twins) -> None:
    await twins.runway("POST", "/v1/text_to_video", TEXT)
    await twins.control("settings", provider="runway", per_day=0)
    await twins.control("faults", provider="runway", kind="auth", times=-1)
    await twins.control("reset")
    assert await twins.bill() == []
    assert (await twins.http.get(f"{twins.url}/_sandbox/requests")).json() == []
    assert (await twins.runway("POST", "/v1/text_to_video", TEXT)).status_code == 200


async def test_the_minute_limit_says_when_to_come_back(twins: Twins) -> None:
    await twins.control("settings", provider="runway", per_minute=1)
    await twins.runway("POST", "/v1/text_to_video", TEXT)
    twins.clock.pass_(20)
    answer = await twins.runway("POST", "/v1/text_to_video", TEXT)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "40")


async def test_a_port_in_use_is_told_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerTrouble, match=rf"127\.0\.0\.1:{port}"):
            await serve("127.0.0.1", port)


async def test_an_unwritable_ca_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ServerTrouble, match="cannot be written"):
        await serve("127.0.0.1", 0, tls_port=0, tls_ca=tmp_path / "missing" / "ca.pem")


async def test_serving_ends_when_it_is_cancelled_and_frees_its_port() -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve("127.0.0.1", 0, on_ready=lambda url, _: ready.set_result(url)))
    port = int((await ready).rsplit(":", 1)[1])
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_the_process_keeps_its_bill_when_a_client_is_cut_off(process: SandboxProcess) -> None:
    process.reset()
    process.post_fault("runway", "cut_after_accept")
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{process.url}/runway/v1/text_to_video", json=TEXT, headers=RUNWAY)
    assert [row["model"] for row in process.bill("runway")] == ["gen4.5"]
    assert process.requests()[-1]["status"] is None
    with pytest.raises(ValueError, match="unknown provider"):
        process.post_fault("nobody", "hang")


def test_the_official_fal_client_works_over_tls_at_the_root(
    process: SandboxProcess, tls_ca: Path, png: str
) -> None:
    process.reset()
    process.settings("fal", render_seconds=0.3)
    assert process.tls_url is not None
    host = process.tls_url.removeprefix("https://")
    env = os.environ | {
        "FAL_KEY": "sandbox-test:sandbox-test",
        "FAL_RUN_HOST": host,
        "FAL_QUEUE_RUN_HOST": host,
        "SSL_CERT_FILE": str(tls_ca),
    }
    done = subprocess.run(
        [sys.executable, "-c", FAL_CLIENT, png],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said = httpx.Response(200, text=done.stdout).json()
    assert (said["last"], said["refused"]) == ("Completed", 422)
    for made in (said["text"], said["image"]):
        assert made["video"]["url"].startswith(process.tls_url)
    assert [(row["model"], row["usd"]) for row in process.bill("fal")] == [
        ("fal-ai/veo3.1/fast", "0.6"),
        ("fal-ai/kling-video/v2.6/pro/image-to-video", "0.7"),
        ("fal-ai/veo3.1/fast/image-to-video", "0"),
    ]
