"""Each fault does on the wire what its name says, for both providers."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.api_providers.sandbox.conftest import TEXT, VEO, Twins

REFUSED = [
    ("runway", "rate_limit", 429, "Too many"),
    ("runway", "server_error", 500, "error"),
    ("runway", "unavailable", 503, "unavailable"),
    ("runway", "no_credit", 400, "You do not have enough credits to run this task."),
    ("runway", "auth", 401, "API key"),
    ("fal", "rate_limit", 429, "Too many"),
    ("fal", "server_error", 500, "internal_error"),
    ("fal", "unavailable", 503, "runner_scheduling_failure"),
    ("fal", "no_credit", 403, "Exhausted balance"),
    ("fal", "auth", 401, "Authentication"),
]


async def submit(twins: Twins, provider: str) -> httpx.Response:
    if provider == "runway":
        return await twins.runway("POST", "/v1/text_to_video", TEXT)
    return await twins.fal("POST", "/fal-ai/veo3.1/fast", VEO)


@pytest.mark.parametrize(("provider", "kind", "status", "text"), REFUSED)
async def test_a_refusal_is_worded_like_the_vendor_and_accepts_nothing(
    twins: Twins, provider: str, kind: str, status: int, text: str
) -> None:
    await twins.control("faults", provider=provider, kind=kind, seconds=7)
    refused = await submit(twins, provider)
    assert refused.status_code == status
    assert text in refused.text
    assert refused.headers.get("retry-after") == ("7" if kind == "rate_limit" else None)
    assert await twins.bill() == []
    assert (await submit(twins, provider)).status_code == 200


@pytest.mark.parametrize("provider", ["runway", "fal"])
async def test_a_cut_after_acceptance_ends_the_connection_and_leaves_the_task_on_the_bill(
    twins: Twins, provider: str
) -> None:
    await twins.control("faults", provider=provider, kind="cut_after_accept")
    with pytest.raises(httpx.TransportError):
        await submit(twins, provider)
    twins.clock.pass_(10)
    [row] = await twins.bill()
    assert (row["status"], row["usd"]) == ("succeeded", {"runway": "0.6", "fal": "0.4"}[provider])
    last = (await twins.http.get(f"{twins.url}/_sandbox/requests")).json()[-1]
    assert last["status"] is None


@pytest.mark.parametrize("provider", ["runway", "fal"])
async def test_a_slow_answer_accepts_at_once_even_when_the_client_goes_away(
    twins: Twins, provider: str
) -> None:
    await twins.control("faults", provider=provider, kind="slow_accept", seconds=600)
    waiting = asyncio.create_task(submit(twins, provider))
    while not await twins.bill():
        assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert len(await twins.bill()) == 1


@pytest.mark.parametrize("provider", ["runway", "fal"])
async def test_a_malformed_answer_is_a_200_without_the_id_of_the_accepted_task(
    twins: Twins, provider: str
) -> None:
    await twins.control("faults", provider=provider, kind="malformed")
    answer = await submit(twins, provider)
    assert answer.status_code == 200
    assert not {"id", "request_id"} & set(answer.json())
    assert len(await twins.bill()) == 1


async def runway_end(twins: Twins) -> dict[str, Any]:
    id_ = (await submit(twins, "runway")).json()["id"]
    twins.clock.pass_(3600)
    view: dict[str, Any] = (await twins.runway("GET", f"/v1/tasks/{id_}")).json()
    return view


async def fal_end(twins: Twins) -> tuple[dict[str, Any], httpx.Response]:
    id_ = (await submit(twins, "fal")).json()["request_id"]
    twins.clock.pass_(3600)
    path = f"/fal-ai/veo3.1/requests/{id_}"
    return (await twins.fal("GET", f"{path}/status")).json(), await twins.fal("GET", path)


async def test_runway_fails_an_accepted_task_and_refunds_it(twins: Twins) -> None:
    await twins.control("faults", provider="runway", kind="fail_after_accept")
    view = await runway_end(twins)
    assert (view["status"], view["failureCode"], view["cost"]) == ("FAILED", "INTERNAL", {"credits": 0})
    assert [(row["status"], row["usd"]) for row in await twins.bill()] == [("failed", "0")]


async def test_runway_moderation_fails_an_accepted_task_and_keeps_the_money(twins: Twins) -> None:
    await twins.control("faults", provider="runway", kind="moderation")
    view = await runway_end(twins)
    assert (view["failureCode"], view["cost"]) == ("SAFETY.INPUT.TEXT", {"credits": 60})
    assert [row["usd"] for row in await twins.bill()] == ["0.6"]


async def test_a_hanging_task_stays_running(twins: Twins) -> None:
    await twins.control("faults", provider="runway", kind="hang")
    await twins.control("faults", provider="fal", kind="hang")
    view = await runway_end(twins)
    assert view["status"] == "RUNNING" and 0 < view["progress"] < 1
    status, result = await fal_end(twins)
    assert status["status"] == "IN_PROGRESS"
    assert (result.status_code, result.json()) == (400, {"detail": "Request is still in progress"})


async def test_fal_hides_a_failure_behind_completed_and_does_not_charge_it(twins: Twins) -> None:
    await twins.control("faults", provider="fal", kind="fail_after_accept")
    status, result = await fal_end(twins)
    assert (status["status"], result.status_code) == ("COMPLETED", 500)
    assert result.json()["detail"][0]["type"] == "internal_server_error"
    assert [(row["status"], row["usd"]) for row in await twins.bill()] == [("failed", "0")]


async def test_fal_moderation_shows_at_the_result(twins: Twins) -> None:
    await twins.control("faults", provider="fal", kind="moderation")
    status, result = await fal_end(twins)
    assert (status["status"], result.status_code) == ("COMPLETED", 422)
    assert result.json()["detail"][0]["type"] == "content_policy_violation"


async def test_a_truncated_download_breaks_off_and_the_next_one_is_whole(twins: Twins) -> None:
    view = await runway_end(twins)
    _, result = await fal_end(twins)
    for provider, url in (("runway", view["output"][0]), ("fal", result.json()["video"]["url"])):
        await twins.control("faults", provider=provider, kind="truncated_download")
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
            await twins.http.get(url)
        whole = await twins.http.get(url)
        assert whole.status_code == 200 and whole.content[4:8] == b"ftyp"


async def test_a_fault_without_end_lasts_until_reset(twins: Twins) -> None:
    await twins.control("faults", provider="runway", kind="unavailable", times=-1)
    assert [(await submit(twins, "runway")).status_code for _ in range(5)] == [503] * 5
    await twins.control("reset")
    assert (await submit(twins, "runway")).status_code == 200
