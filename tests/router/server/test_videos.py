"""The endpoints beyond what OpenAI's SDK touches: bodies, errors, files, our own views."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from router.contract.errors import BudgetExceeded, Misfit, RateLimited, UnsupportedRequest
from router.contract.job import Status
from router.contract.words import words
from tests.router.server.conftest import Start
from tests.router.server.fake_gateway import MP4, FakeGateway

Http = tuple[FakeGateway, httpx.AsyncClient]
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100


async def created(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/v1/videos", json={"prompt": "a fox", **body})
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    return error


async def test_a_new_job_shows_our_fields_beside_openais(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    job = await created(client, project="Film", tags=["x"], seed=3, model="kling-2.6-pro")
    assert (job["status"], job["state"], job["progress"], job["model"]) == (
        "queued",
        "queued",
        0,
        "kling-2.6-pro",
    )
    assert (job["seconds"], job["size"], job["content_url"], job["estimate_usd"]) == ("", "", None, None)
    gateway.run(job["id"])
    job = (await client.get(f"/v1/videos/{job['id']}", headers={"Accept-Language": "ja"})).json()
    assert (job["status"], job["progress"], job["reserved_usd"], job["reason"]) == (
        "in_progress",
        50,
        "0.25",
        "無料のため",
    )
    assert job["attempts"][0]["estimate_usd"] == "0.25"
    assert (job["seed"], job["project"], job["tags"], job["seconds"]) == (3, "Film", ["x"], "2.125")


async def test_an_unresolved_job_does_not_read_failed(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    job = await created(client)
    gateway.change(job["id"], status=Status.UNRESOLVED)
    job = (await client.get(f"/v1/videos/{job['id']}")).json()
    assert (job["status"], job["state"], job["error"]) == ("in_progress", "unresolved", None)


WRONG_FIELDS: list[Any] = [
    ({"prompt": ""}, "prompt"),
    ({"prompt": "x" * 20_001}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": "a\x00b"}, "prompt"),
    ({"prompt": "x", "sead": 1}, "sead"),
    ({"prompt": "x", "seconds": "soon"}, "seconds"),
    ({"prompt": "x", "seconds": True}, "seconds"),
    ({"prompt": "x", "seconds": "100000"}, "seconds"),
    ({"prompt": "x", "seconds": "4", "duration": 4}, "seconds"),
    ({"prompt": "x", "size": "1280:720"}, "size"),
    ({"prompt": "x", "seed": 1.5}, "seed"),
    ({"prompt": "x", "preferences": {"mode": "best"}}, "preferences.mode"),
    ({"prompt": "x", "preferences": "{}"}, "preferences"),
    ({"prompt": "x", "camera": {"axis": "pan", "value": 11}}, "camera.value"),
    ({"prompt": "x", "input_reference": 5}, "input_reference"),
    ({"prompt": "x", "input_reference": {"file_id": "file-1"}}, "input_reference.file_id"),
    ({"prompt": "x", "input_reference": "u", "frame_images": [{"url": "v"}]}, "input_reference"),
    ([1], None),
]


async def test_a_wrong_field_is_named_and_nothing_is_started(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    for body, param in WRONG_FIELDS:
        for path in ("/v1/videos", "/v1/videos/plan"):
            error = error_of(await client.post(path, json=body), 400)
            assert (error["param"], error["code"], error["type"]) == (
                param,
                "invalid_request",
                "invalid_request_error",
            )
            assert len(error["message"]) < 500
        assert gateway.calls.requests == gateway.calls.plans == []


BROKEN_JSON: list[Any] = [
    b"",
    b"{",
    b'{"prompt": "x", "prompt": "y"}',
    b'{"seed": NaN}',
    b"\xff",
    b"[" * 100_000,
]


async def test_broken_json_is_a_bad_request(gateway_and_http: Http) -> None:
    _, client = gateway_and_http
    for body in BROKEN_JSON:
        response = await client.post("/v1/videos", content=body, headers={"Content-Type": "application/json"})
        assert "JSON" in error_of(response, 400)["message"]


async def test_a_form_carries_structured_fields_as_json(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    form = {
        "prompt": "a fox",
        "seed": "5",
        "fps": "",
        "preferences": json.dumps({"backends": ["fal"]}),
        "camera": "pan=5",
        "tags": ["a", "b"],
        "generate_audio": "true",
    }
    response = await client.post(
        "/v1/videos", data=form, files={"input_reference": ("a.png", PNG, "image/png")}
    )
    assert response.status_code == 200, response.text
    (request,) = gateway.calls.requests
    assert (request.seed, request.fps, request.tags, request.generate_audio) == (5, None, ("a", "b"), True)
    assert request.camera is not None and (request.camera.axis, request.camera.value) == ("pan", 5)
    assert request.preferences.backends == ("fal",)


WRONG_FORMS: list[Any] = [
    ({"prompt": "x", "preferences": "{"}, {}, "preferences"),
    ({"prompt": "x", "provider_options": "fast"}, {}, "provider_options"),
    ({"prompt": ["x", "y"]}, {}, "prompt"),
    ({"prompt": "x", "a[[b]": "1"}, {}, "a[[b]"),
    ({"prompt": "x"}, {"picture": ("a.png", PNG)}, "picture"),
    ({"prompt": "x"}, {"input_reference": ("a.png", b"no image")}, "input_reference"),
    ({"prompt": "x", "seed": "-1"}, {"input_reference": ("a.png", PNG)}, "seed"),
    ({"prompt": "x", "input_reference": "u"}, {"input_reference": ("a.png", PNG)}, "input_reference"),
]


async def test_a_wrong_form_is_refused_and_leaves_no_file(
    gateway_and_http: Http,
) -> None:
    gateway, client = gateway_and_http
    for form, files, param in WRONG_FORMS:
        padding = {"input_references": (None, "[]")}
        response = await client.post("/v1/videos", data=form, files=files or padding)
        assert error_of(response, 400)["param"] == param
        assert gateway.calls.requests == [] and gateway.calls.uploads == []


async def test_more_than_one_file_and_broken_forms_are_refused(gateway_and_http: Http) -> None:
    _, client = gateway_and_http
    two = [("input_reference", ("a.png", PNG)), ("input_reference", ("b.png", PNG))]
    error_of(await client.post("/v1/videos", data={"prompt": "x"}, files=two), 400)
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        broken = await client.post("/v1/videos", content=b"--y\r\n", headers={"Content-Type": content_type})
        error_of(broken, 400)
    plain = await client.post("/v1/videos", content=b"{}", headers={"Content-Type": "text/plain"})
    assert error_of(plain, 415)["code"] == "unsupported_media_type"


async def test_too_large_a_body_is_refused_declared_or_streamed(start: Start) -> None:
    gateway, url = await start(max_upload_mb=1)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65_536

    async with httpx.AsyncClient(base_url=url) as client:
        files = {"input_reference": ("a.png", b"\x89PNG" + b"0" * 3_000_000, "image/png")}
        declared = await client.post("/v1/videos", data={"prompt": "x"}, files=files)
        json_type = {"Content-Type": "application/json"}
        streamed = await client.post("/v1/videos", content=chunks(), headers=json_type)
        for response in (declared, streamed):
            error = error_of(response, 413)
            assert error["code"] == "too_large" and "UNDERSTUDY_SERVER_MAX_UPLOAD_MB" in error["message"]
    assert gateway.calls.uploads == []


async def test_a_plan_with_an_image_writes_nothing(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    files = {"input_reference": ("a.png", PNG, "image/png")}
    plan = (await client.post("/v1/videos/plan", data={"prompt": "x"}, files=files)).json()
    assert {"backend", "model", "usd", "seconds", "reason"} <= set(plan["chosen"])
    assert Decimal(plan["chosen"]["usd"]) == 0
    assert plan["rejected"][0]["reason"] == "no key"
    assert gateway.calls.plans[0].frame_images[0].url.startswith("data:image/png;base64,")
    assert gateway.calls.uploads == [] and gateway.jobs == {}


async def test_the_gateways_errors_keep_status_and_advice(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    misfit = Misfit(field="fps", reason=words("no fps", "fps は指定できません"), droppable=True)
    gateway.fail_with = UnsupportedRequest(
        words("nothing fits", "対応するモデルがありません"), misfits=[misfit]
    )
    response = await client.post("/v1/videos", json={"prompt": "x"}, headers={"Accept-Language": "ja-JP"})
    error = error_of(response, 400)
    assert (error["message"], error["param"], error["code"]) == (
        "対応するモデルがありません",
        "fps",
        "unsupported_request",
    )
    assert error["misfits"] == [{"field": "fps", "reason": "fps は指定できません", "droppable": True}]
    assert response.headers["x-should-retry"] == "false"
    gateway.fail_with = BudgetExceeded(words("over the day's budget", "本日の予算を超えます"))
    assert error_of(await client.post("/v1/videos", json={"prompt": "x"}), 402)["code"] == "budget_exceeded"
    gateway.fail_with = RateLimited(words("busy", "混雑しています"), backend="fal", retry_after=1.2)
    response = await client.post("/v1/videos", json={"prompt": "x"})
    assert error_of(response, 429)["message"] == "fal: busy"
    assert response.headers["retry-after"] == "2" and "x-should-retry" not in response.headers


async def test_an_unforeseen_error_shows_an_id_and_nothing_else(
    gateway_and_http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    gateway, client = gateway_and_http
    gateway.fail_with = RuntimeError("/secret/path key-123")
    error = error_of(await client.post("/v1/videos", json={"prompt": "x"}), 500)
    assert error["code"] == "internal_error" and "secret" not in json.dumps(error)
    assert error["error_id"] in error["message"] and error["error_id"] in caplog.text


UNKNOWN_PATHS: list[Any] = ["/v1", "/v1/", "/v1/models", "/v1/videos/", "/v1/videos/a/b/c", "/nothing"]


async def test_an_unknown_path_is_a_json_404(gateway_and_http: Http) -> None:
    _, client = gateway_and_http
    for path in UNKNOWN_PATHS:
        assert error_of(await client.get(path), 404)["code"] == "not_found"


async def test_a_wrong_method_is_a_json_405(gateway_and_http: Http) -> None:
    _, client = gateway_and_http
    response = await client.put("/v1/videos", json={})
    assert error_of(response, 405)["code"] == "method_not_allowed"
    assert "POST" in response.headers["allow"]


async def test_unknown_jobs_and_wrong_queries_are_refused(gateway_and_http: Http) -> None:
    _, client = gateway_and_http
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("GET", "/content"),
        ("GET", "/events"),
        ("GET", "/route"),
    ):
        assert error_of(await client.request(method, f"/v1/videos/none{path}"), 404)["param"] == "id"
    for query, param in (
        ("limit=0", "limit"),
        ("order=up", "order"),
        ("state=done", "state"),
        ("page=2", "page"),
    ):
        assert error_of(await client.get(f"/v1/videos?{query}"), 400)["param"] == param
    job = await created(client)
    assert (
        error_of(await client.get(f"/v1/videos/{job['id']}/content?variant=spritesheet"), 400)["param"]
        == "variant"
    )
    response = await client.post("/v1/videos", json={"prompt": "x"}, headers={"Idempotency-Key": "k" * 256})
    assert error_of(response, 400)["param"] == "Idempotency-Key"


async def test_lists_filter_by_project_and_state(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    first, second = await created(client, project="A"), await created(client, project="B")
    gateway.finish(second["id"])
    for query, expected in (("project=A", first), ("state=completed", second)):
        page = (await client.get(f"/v1/videos?{query}")).json()
        assert (page["object"], page["first_id"], page["has_more"]) == ("list", expected["id"], False)
        assert [job["id"] for job in page["data"]] == [expected["id"]]


async def test_a_sketch_is_a_small_picture_that_no_cache_keeps(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    job = await created(client)
    path = f"/v1/videos/{job['id']}/content?variant=sketch"
    assert error_of(await client.get(path), 404)["param"] == "variant"
    gateway.pictures[job["id"]] = b"RIFF"
    found = await client.get(f"{path}&look=3")
    assert (found.status_code, found.content, found.headers["content-type"]) == (200, b"RIFF", "image/webp")
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["content-disposition"] == f'inline; filename="{job["id"]}-sketch.webp"'
    assert found.headers["x-content-type-options"] == "nosniff"
    assert error_of(await client.get(f"{path}&look=new"), 400)["param"] == "look"


async def test_a_clip_is_served_in_parts_and_only_when_done(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    job = await created(client)
    path = f"/v1/videos/{job['id']}/content"
    assert error_of(await client.get(path), 409)["code"] == "conflict"
    gateway.finish(job["id"])
    whole = await client.get(path)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, MP4, "video/mp4")
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-disposition"] == f'inline; filename="{job["id"]}.mp4"'
    secret = {"Cookie": "a=b", "Authorization": "Bearer k"}
    part = await client.get(path, headers={"Range": "bytes=10-19", **secret})
    assert (part.status_code, part.content) == (206, MP4[10:20])
    assert "cookie" not in part.headers and "authorization" not in part.headers
    assert (await client.get(path, headers={"If-None-Match": whole.headers["etag"]})).status_code == 304
    assert (await client.get(path, headers={"Range": f"bytes={len(MP4)}-"})).status_code == 416
    head = await client.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(MP4)))
    (gateway.settings.home / "clip.mp4").unlink()
    error_of(await client.get(path), 404)


async def test_history_route_models_and_providers_are_plain_lists(gateway_and_http: Http) -> None:
    gateway, client = gateway_and_http
    job = await created(client)
    gateway.run(job["id"])
    events = (await client.get(f"/v1/videos/{job['id']}/events")).json()["data"]
    assert [event["kind"] for event in events] == ["created"]
    route = (await client.get(f"/v1/videos/{job['id']}/route")).json()
    assert route["attempts"][0]["decision"]["rejected"][0]["code"] == "no_key"
    (model,) = (await client.get("/v1/videos/models")).json()["data"]
    assert (model["id"], model["usd_example"], model["available"]) == ("local/testcard", "0.25", True)
    (provider,) = (await client.get("/v1/videos/providers", headers={"Accept-Language": "ja"})).json()["data"]
    assert (provider["key_present"], provider["problem"]) == (False, "FAL_KEY が設定されていません")


async def test_the_openapi_document_is_ours_and_complete(gateway_and_http: Http) -> None:
    _, client = gateway_and_http
    document = (await client.get("/openapi.json")).json()
    assert all(path.startswith("/v1/videos") for path in document["paths"])
    names = set(document["components"]["schemas"])
    text = json.dumps(document)
    references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references <= names
    assert {"VideoRequest", "VideoObject", "ErrorBody"} <= names
