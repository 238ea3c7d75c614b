"""The Replicate twin against the provider sheet and against Replicate's own SDK."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic.v1 import ValidationError
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError

from api_providers.sandbox._replicate_models import MODELS, version_of
from tests.api_providers.sandbox.conftest import Twins
from tests.sandbox_process import SandboxProcess

KLING = "kwaivgi/kling-v2.5-turbo-pro"
LIST = f"sandbox/list-of-clips:{version_of('sandbox/list-of-clips')}"


async def call(twins: Twins, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    own = {"Authorization": "Bearer sandbox-test"}
    return await twins.http.request(
        method, f"{twins.url}/replicate/v1/{path}", json=body, headers=own | headers
    )


async def submit(twins: Twins, model: str = KLING, **given: Any) -> dict[str, Any]:
    answer = await call(twins, "POST", f"models/{model}/predictions", {"input": {"prompt": "sea"} | given})
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


async def look(twins: Twins, id_: str) -> dict[str, Any]:
    view: dict[str, Any] = (await call(twins, "GET", f"predictions/{id_}")).json()
    return view


@pytest.fixture
def sdk(process: SandboxProcess) -> Iterator[Client]:
    process.reset()
    process.settings("replicate", render_seconds=0.2)
    client = Client(api_token="sandbox-test", base_url=f"{process.url}/replicate")
    client.poll_interval = 0.05
    yield client
    client._client.close()


def test_the_sdk_makes_a_clip_from_text(sdk: Client, process: SandboxProcess) -> None:
    output: Any = sdk.run(KLING, input={"prompt": "sea", "duration": 5})
    assert output.startswith(f"{process.url}/replicate/_cdn/")
    clip = httpx.get(output)
    assert (clip.status_code, clip.content[4:8]) == (200, b"ftyp")
    assert [(row["model"], row["usd"]) for row in process.bill("replicate")] == [(KLING, "0.35")]


def test_the_sdk_makes_a_clip_from_a_picture(sdk: Client, process: SandboxProcess, png: str) -> None:
    made = sdk.models.predictions.create(KLING, input={"prompt": "sea", "start_image": png, "duration": 10})
    assert (made.status, made.version, made.output) == ("starting", "hidden", None)
    made.wait()
    assert made.status == "succeeded"
    assert made.metrics is not None and made.metrics["predict_time"] > 0
    assert httpx.get(str(made.output)).status_code == 200
    assert process.bill("replicate")[0]["usd"] == "0.7"


def test_the_sdk_runs_a_version_and_uploads_a_file(
    sdk: Client, process: SandboxProcess, tmp_path: Any
) -> None:
    clips = list(sdk.run(LIST, input={"prompt": "sea"}, wait=False))
    assert [httpx.get(clip).status_code for clip in clips] == [200]
    picture = tmp_path / "a.png"
    picture.write_bytes(b"picture")
    kept = sdk.files.create(picture)
    assert (kept.name, kept.size, kept.content_type) == ("a.png", 7, "image/png")
    made = sdk.models.predictions.create(KLING, input={"prompt": "x", "start_image": kept.urls["get"]})
    made.wait()
    assert made.status == "succeeded"


def test_the_sdk_reads_schema_account_and_list(sdk: Client) -> None:
    model = sdk.models.get(KLING)
    assert model.latest_version is not None
    schema = model.latest_version.openapi_schema["components"]["schemas"]["Input"]
    assert schema["required"] == ["prompt"]
    assert schema["properties"]["duration"]["enum"] == [5, 10]
    assert (sdk.accounts.current()).username == "sandbox"
    made = sdk.models.predictions.create(KLING, input={"prompt": "sea"})
    assert [one.id for one in sdk.predictions.list()] == [made.id]


def test_the_sdk_learns_why_a_prediction_failed_or_was_refused(sdk: Client, process: SandboxProcess) -> None:
    process.post_fault("replicate", "moderation")
    with pytest.raises(ModelError, match="E005"):
        sdk.run(KLING, input={"prompt": "x"})
    with pytest.raises(ReplicateError, match="prompt is required"):
        sdk.run(KLING, input={})
    assert [row["usd"] for row in process.bill("replicate")] == ["0"]


def test_the_sdk_cancels_at_work(sdk: Client, process: SandboxProcess) -> None:
    process.settings("replicate", render_seconds=1.5)
    made = sdk.models.predictions.create(KLING, input={"prompt": "x"})
    while made.status == "starting":
        made.reload()
    assert made.status == "processing"
    assert made.progress is not None and made.progress.percentage < 1
    assert sdk.predictions.cancel(made.id).status == "canceled"


def test_the_sdk_does_not_know_aborted(sdk: Client, process: SandboxProcess) -> None:
    process.settings("replicate", render_seconds=600)
    made = sdk.models.predictions.create(KLING, input={"prompt": "x"})
    with pytest.raises(ValidationError, match="given=aborted"):
        sdk.predictions.cancel(made.id)
    assert [row["status"] for row in process.bill("replicate")] == ["cancelled"]


async def test_a_prediction_goes_through_its_three_states_with_bars_in_its_logs(twins: Twins) -> None:
    made = await submit(twins)
    assert {key: made[key] for key in ("status", "started_at", "completed_at", "output", "data_removed")} == {
        "status": "starting",
        "started_at": None,
        "completed_at": None,
        "output": None,
        "data_removed": False,
    }
    assert made["urls"]["get"] == f"{twins.url}/replicate/v1/predictions/{made['id']}"
    twins.clock.pass_(0.2)
    running = await look(twins, made["id"])
    assert running["status"] == "processing"
    assert " 50%|█████     | 25/50 " in running["logs"]
    twins.clock.pass_(0.2)
    done = await look(twins, made["id"])
    assert (done["status"], done["metrics"]) == ("succeeded", {"predict_time": 0.4})
    assert isinstance(done["output"], str)


async def test_everything_is_gone_an_hour_later(twins: Twins) -> None:
    made = await submit(twins)
    twins.clock.pass_(1)
    url = (await look(twins, made["id"]))["output"]
    assert (await twins.http.get(url)).status_code == 200
    twins.clock.pass_(3600)
    late = await look(twins, made["id"])
    assert (late["status"], late["data_removed"], late["output"], late["input"]) == (
        "succeeded",
        True,
        None,
        {},
    )
    assert (await twins.http.get(url)).status_code == 404


async def test_a_cancel_is_free_before_the_start_charged_at_work_and_too_late_after(twins: Twins) -> None:
    waiting, working, done = [(await submit(twins))["id"] for _ in range(3)]
    assert (await call(twins, "POST", f"predictions/{waiting}/cancel")).json()["status"] == "aborted"
    twins.clock.pass_(0.2)
    assert (await call(twins, "POST", f"predictions/{working}/cancel")).json()["status"] == "canceled"
    twins.clock.pass_(1)
    assert (await call(twins, "POST", f"predictions/{done}/cancel")).json()["status"] == "succeeded"
    assert (await call(twins, "DELETE", f"predictions/{done}/cancel")).status_code == 404
    assert [row["usd"] for row in await twins.bill()] == ["0", "0.35", "0.35"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"prompt": None}, "prompt is required"),
        ({"duration": 7}, "duration must be one of the following: 5, 10"),
        ({"duration": "5"}, "duration must be one of"),
        ({"size": "big"}, "Additional property size is not allowed"),
        ({"prompt": 7}, "Expected: string"),
    ],
)
async def test_a_wrong_input_is_refused_at_once(twins: Twins, given: dict[str, Any], says: str) -> None:
    body = {"input": {"prompt": "sea"} | given}
    answer = await call(twins, "POST", f"models/{KLING}/predictions", body)
    assert answer.status_code == 422
    assert answer.json()["title"] == "Input validation failed"
    assert says in answer.json()["detail"]
    assert says in answer.json()["invalid_fields"][0]["description"]
    assert await twins.bill() == []


async def test_a_community_model_ignores_what_it_does_not_know(twins: Twins) -> None:
    body = {"version": LIST, "input": {"prompt": "sea", "size": "big"}}
    assert (await call(twins, "POST", "predictions", body)).status_code == 201


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("models/nobody/nothing/predictions", {"input": {}}, 404, "could not be found"),
        ("models/sandbox/list-of-clips/predictions", {"input": {"prompt": "x"}}, 404, "could not be found"),
        ("predictions", {"version": "0" * 64, "input": {}}, 422, "version does not exist"),
        ("predictions", {"input": {}}, 422, "version is required"),
        ("nothing", {}, 404, "could not be found"),
    ],
)
async def test_what_is_not_there_is_not_found(
    twins: Twins, path: str, body: dict[str, Any], status: int, says: str
) -> None:
    answer = await call(twins, "POST", path, body)
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True)


async def test_a_file_that_cannot_be_read_fails_the_run_for_nothing(twins: Twins) -> None:
    lost = f"{twins.url}/replicate/v1/files/nothing"
    made = await submit(twins, start_image=lost)
    failed = await look(twins, made["id"])
    assert (failed["status"], failed["error"]) == (
        "failed",
        "Failed to download the file of input 'start_image'",
    )
    assert [row["usd"] for row in await twins.bill()] == ["0"]


@pytest.mark.parametrize("authorization", ["Bearer r8_real", "Key sandbox-x", ""])
async def test_only_a_sandbox_token_is_let_in(twins: Twins, authorization: str) -> None:
    for method, path in (("POST", f"models/{KLING}/predictions"), ("GET", "account"), ("GET", "files")):
        answer = await call(
            twins, method, path, {} if method == "POST" else None, Authorization=authorization
        )
        assert (answer.status_code, answer.json()["title"]) == (401, "Unauthenticated")


async def test_the_six_hundred_and_first_of_a_minute_is_throttled_in_words(twins: Twins) -> None:
    await twins.control("settings", provider="replicate", per_minute=1)
    await submit(twins)
    answer = await call(twins, "POST", f"models/{KLING}/predictions", {"input": {"prompt": "x"}})
    assert (answer.status_code, answer.headers.get("retry-after")) == (429, None)
    assert answer.json() == {"detail": "Request was throttled. Your rate limit resets in ~60s."}


@pytest.mark.parametrize(
    ("model", "given", "usd"),
    [
        ("google/veo-3.1-lite", {"duration": 8, "resolution": "1080p"}, "0.64"),
        ("bytedance/seedance-1.5-pro", {"resolution": "480p"}, "0.065"),
        ("alibaba/wan-3", {"resolution": "720p"}, "0.5"),
        ("wan-video/wan-2.2-i2v-fast", {"resolution": "720p", "image": "https://example.com/a.png"}, "0.11"),
    ],
)
async def test_the_bill_follows_the_noted_prices(
    twins: Twins, model: str, given: dict[str, Any], usd: str
) -> None:
    await submit(twins, model, **given)
    twins.clock.pass_(1)
    assert [row["usd"] for row in await twins.bill()] == [usd]


async def test_every_model_gives_its_schema(twins: Twins) -> None:
    for name, model in MODELS.items():
        view = (await call(twins, "GET", f"models/{name}")).json()
        properties = view["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"]["properties"]
        assert set(properties) == set(model.fields)
        version = (await call(twins, "GET", f"models/{name}/versions/{version_of(name)}")).json()
        assert version == view["latest_version"]


async def test_a_file_is_kept_until_it_is_deleted(twins: Twins) -> None:
    sent = await twins.http.post(
        f"{twins.url}/replicate/v1/files",
        files={"content": ("a.png", b"bytes", "image/png")},
        data={"metadata": '{"mine": 1}'},
        headers={"Authorization": "Bearer sandbox-test"},
    )
    kept = sent.json()
    assert (sent.status_code, kept["size"], kept["metadata"]) == (201, 5, {"mine": 1})
    path = f"files/{kept['id']}"
    assert (await call(twins, "GET", path)).json()["urls"] == kept["urls"]
    assert (await call(twins, "DELETE", path)).status_code == 204
    assert (await call(twins, "GET", path)).status_code == 404
