"""The twin of ComfyUI against its documented API, driven as ComfyUI's own script examples do: plain JSON over HTTP."""

import copy
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

import api_providers
from tests.api_providers.sandbox.conftest import Twins

WORKFLOW = Path(api_providers.__file__).parent / "comfyui_workflows" / "wan22_ti2v_5b.json"
ID = "11111111-1111-4111-8111-111111111111"


def graph(**changes: Any) -> dict[str, Any]:
    """The shipped example for text to video; `n9__seed=1` sets input `seed` of node 9."""
    made: dict[str, Any] = copy.deepcopy(json.loads(WORKFLOW.read_text(encoding="utf-8")))
    del made["7"]
    del made["8"]["inputs"]["start_image"]
    for name, value in changes.items():
        node, _, field = name[1:].partition("__")
        made[node]["inputs"][field] = value
    return made


async def post(twins: Twins, path: str, body: Any, **headers: str) -> httpx.Response:
    return await twins.http.post(f"{twins.url}/comfyui{path}", json=body, headers=headers)


async def get(twins: Twins, path: str) -> Any:
    return (await twins.http.get(f"{twins.url}/comfyui{path}")).json()


async def start(twins: Twins, body: dict[str, Any] | None = None) -> str:
    answer = await post(twins, "/prompt", body or {"prompt": graph()})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["prompt_id"])


async def test_a_text_becomes_a_clip(twins: Twins) -> None:
    answer = await post(twins, "/prompt", {"prompt": graph(), "prompt_id": ID, "client_id": "me"})
    assert answer.json() == {"prompt_id": ID, "number": 0, "node_errors": {}}
    (running,) = (await get(twins, "/queue"))["queue_running"]
    assert (running[:2], running[3]["client_id"], running[4]) == ([0, ID], "me", ["12"])
    assert await get(twins, f"/history/{ID}") == {}
    twins.clock.pass_(1)
    assert await get(twins, "/queue") == {"queue_running": [], "queue_pending": []}
    entry = (await get(twins, f"/history/{ID}"))[ID]
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("success", True)
    assert [message[0] for message in entry["status"]["messages"]] == ["execution_start", "execution_success"]
    (file,) = entry["outputs"]["12"]["images"]
    assert file == {"filename": "understudy_00001_.mp4", "subfolder": "video", "type": "output"}
    clip = await twins.http.get(f"{twins.url}/comfyui/view", params=file)
    assert clip.content[4:8] == b"ftyp"
    assert (
        await twins.http.get(f"{twins.url}/comfyui/view", params={**file, "type": "temp"})
    ).status_code == 404
    assert [(row["task"], row["usd"]) for row in await twins.bill()] == [(ID, "0")]


async def test_a_picture_must_be_uploaded_first(twins: Twins) -> None:
    made = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    made["7"]["inputs"]["image"] = "mine/a.png"
    answer = await post(twins, "/prompt", {"prompt": made})
    assert answer.status_code == 400
    assert (
        answer.json()["node_errors"]["7"]["errors"][0]["details"] == "image - Invalid image file: mine/a.png"
    )
    upload: Any = {"image": ("a.png", b"one", "image/png"), "subfolder": (None, "mine")}
    url = f"{twins.url}/comfyui/upload/image"
    stored = (await twins.http.post(url, files=upload)).json()
    assert stored == {"name": "a.png", "subfolder": "mine", "type": "input"}
    await start(twins, {"prompt": made})
    other: Any = {**upload, "image": ("a.png", b"two", "image/png")}
    assert (await twins.http.post(url, files=other)).json()["name"] == "a (1).png"
    assert (await twins.http.post(url, files=upload)).json()["name"] == "a.png", "the same bytes again"
    replaced = await twins.http.post(url, files={**other, "overwrite": (None, "true")})
    assert replaced.json()["name"] == "a.png"


@pytest.mark.parametrize(
    ("changes", "node", "kind", "told"),
    [
        (
            {"n1__unet_name": "none.safetensors"},
            "1",
            "value_not_in_list",
            "unet_name: 'none.safetensors' not in",
        ),
        ({"n8__width": 8}, "8", "value_smaller_than_min", "width"),
        ({"n9__seed": 2**64}, "9", "value_bigger_than_max", "seed"),
        ({"n9__steps": "many"}, "9", "invalid_input_type", "steps, many"),
        ({"n9__model": ["3", 0]}, "9", "return_type_mismatch", "received_type(VAE)"),
        ({"n9__positive": ["77", 0]}, "9", "bad_linked_input", "positive"),
    ],
)
async def test_a_wrong_value_is_refused_at_its_node(
    twins: Twins, changes: dict[str, Any], node: str, kind: str, told: str
) -> None:
    answer = await post(twins, "/prompt", {"prompt": graph(**changes)})
    body = answer.json()
    assert answer.status_code == 400
    assert body["error"]["type"] == "prompt_outputs_failed_validation"
    (error,) = body["node_errors"][node]["errors"]
    assert error["type"] == kind
    assert told in error["details"]
    assert await twins.bill() == []


async def test_missing_inputs_nodes_and_outputs_are_refused(twins: Twins) -> None:
    cases: list[tuple[dict[str, Any], str]] = []
    without = graph()
    del without["9"]["inputs"]["seed"]
    cases.append((without, "prompt_outputs_failed_validation"))
    strange = graph()
    strange["1"]["class_type"] = "NoSuchNode"
    cases.append((strange, "missing_node_type"))
    endless = graph()
    del endless["12"]
    cases.append((endless, "prompt_no_outputs"))
    for body, kind in cases:
        answer = await post(twins, "/prompt", {"prompt": body})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, kind)
    assert (await post(twins, "/prompt", {"client_id": "me"})).json()["error"]["type"] == "no_prompt"
    assert await twins.bill() == []


@pytest.mark.parametrize("id_", ["job-1", ID.upper().replace("1", "A"), ID.replace("-", ""), 7])
async def test_an_id_that_is_no_canonical_uuid_is_refused(twins: Twins, id_: Any) -> None:
    answer = await post(twins, "/prompt", {"prompt": graph(), "prompt_id": id_})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_prompt_id")


async def test_an_id_that_is_still_there_is_a_conflict(twins: Twins) -> None:
    await start(twins, {"prompt": graph(), "prompt_id": ID})
    again = await post(twins, "/prompt", {"prompt": graph(), "prompt_id": ID})
    assert (again.status_code, again.json()) == (409, {"error": "prompt_id already exists"})


async def test_one_runs_the_others_wait_and_a_deleted_one_leaves_no_trace(twins: Twins) -> None:
    first, second, third = [await start(twins) for _ in range(3)]
    queue = await get(twins, "/queue")
    assert [item[1] for item in queue["queue_running"]] == [first]
    assert [item[1] for item in queue["queue_pending"]] == [third, second], "a heap, not a list in order"
    assert (await post(twins, "/queue", {"delete": [second, first, "unknown"]})).status_code == 200
    assert [item[1] for item in (await get(twins, "/queue"))["queue_pending"]] == [third]
    twins.clock.pass_(0.5)
    assert set(await get(twins, "/history")) == {first}
    twins.clock.pass_(0.5)
    assert set(await get(twins, "/api/history")) == {first, third}


async def test_an_interrupt_is_for_the_prompt_it_names(twins: Twins) -> None:
    runs, waits = await start(twins), await start(twins)
    await post(twins, "/interrupt", {"prompt_id": waits})
    assert [item[1] for item in (await get(twins, "/queue"))["queue_running"]] == [runs]
    await post(twins, "/interrupt", {"prompt_id": runs})
    entry = (await get(twins, f"/history/{runs}"))[runs]
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    assert [item[1] for item in (await get(twins, "/queue"))["queue_running"]] == [waits]
    await twins.http.post(f"{twins.url}/comfyui/interrupt")
    assert (await get(twins, f"/history/{waits}"))[waits]["outputs"] == {}


async def test_a_failure_stands_in_the_history_with_its_node(twins: Twins) -> None:
    await twins.control("faults", provider="comfyui", kind="fail_after_accept")
    id_ = await start(twins)
    twins.clock.pass_(1)
    status = (await get(twins, f"/history/{id_}"))[id_]["status"]
    name, data = status["messages"][-1]
    assert (status["completed"], name, data["node_type"]) == (False, "execution_error", "KSampler")


async def test_no_key_is_needed_and_a_wrong_one_is_refused(twins: Twins) -> None:
    assert (await get(twins, "/system_stats"))["devices"][0]["type"] == "cuda"
    wrong = {"Authorization": "Bearer real-key"}
    assert (await post(twins, "/prompt", {"prompt": graph()}, **wrong)).status_code == 401
    assert (await twins.http.get(f"{twins.url}/comfyui/queue", headers=wrong)).status_code == 401


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../secret.mp4"])
async def test_no_path_leads_out_of_the_output_folder(twins: Twins, name: str) -> None:
    answer = await twins.http.get(f"{twins.url}/comfyui/view", params={"filename": name})
    assert answer.status_code == 400
