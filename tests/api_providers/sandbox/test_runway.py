"""The Runway twin against the provider sheet and against Runway's own SDK."""

import base64
import importlib
import io
import typing
from typing import Any

import av
import pytest
from runwayml import AsyncRunwayML
from typing_extensions import get_type_hints, is_typeddict

from api_providers.sandbox._bench import Clip
from api_providers.sandbox._render import render
from api_providers.sandbox._runway_models import ENDPOINTS
from tests.api_providers.sandbox.conftest import TEXT, Twins


def client(twins: Twins) -> AsyncRunwayML:
    return AsyncRunwayML(api_key="sandbox-test", base_url=f"{twins.url}/runway", max_retries=0)


async def submit(twins: Twins, **changes: Any) -> str:
    answer = await twins.runway("POST", "/v1/text_to_video", TEXT | changes)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def look(twins: Twins, id_: str) -> dict[str, Any]:
    view: dict[str, Any] = (await twins.runway("GET", f"/v1/tasks/{id_}")).json()
    return view


async def test_the_sdk_makes_a_clip_from_text(twins: Twins) -> None:
    async with client(twins) as runway:
        made = await runway.text_to_video.create(
            model="veo3.1", prompt_text="sea", ratio="1080:1920", duration=4, audio=True
        )
        seen = [await runway.tasks.retrieve(made.id)]
        for step in (0.2, 0.2):
            twins.clock.pass_(step)
            seen.append(await runway.tasks.retrieve(made.id))
    assert [view.status for view in seen] == ["PENDING", "RUNNING", "SUCCEEDED"]
    end = seen[-1]
    assert end.status == "SUCCEEDED" and end.cost.credits == 160
    clip = (await twins.http.get(end.output[0])).content
    with av.open(io.BytesIO(clip), "r") as box:
        video = box.streams.video[0]
        assert video.codec_context.name == "h264"
        assert video.width / video.height == pytest.approx(1080 / 1920, abs=0.02)
        assert box.streams.audio and box.duration is not None
        assert box.duration / 1e6 == pytest.approx(4, abs=0.2)
    assert [row["usd"] for row in await twins.bill()] == ["1.6"]


async def test_the_sdk_makes_a_clip_from_an_image_given_as_data_uri_or_upload(twins: Twins, png: str) -> None:
    async with client(twins) as runway:
        upload = await runway.uploads.create_ephemeral(file=("a.png", _bytes(png)))
        for image in (png, upload.uri):
            made = await runway.image_to_video.create(
                model="gen4_turbo", prompt_image=image, ratio="960:960", duration=5
            )
            twins.clock.pass_(1)
            assert (await runway.tasks.retrieve(made.id)).status == "SUCCEEDED"
        both = [{"uri": png, "position": "first"}, {"uri": upload.uri, "position": "last"}]
        await runway.image_to_video.create(model="veo3.1", prompt_image=both, ratio="1280:720")  # type: ignore[call-overload]
    assert [row["usd"] for row in await twins.bill()] == ["0.25", "0.25", "3.2"]
    calls = (await twins.http.get(f"{twins.url}/_sandbox/requests")).json()
    assert not any(call["leaked_key"] for call in calls)


async def test_the_sdk_extends_edits_upscales_and_performs(twins: Twins, png: str, mp4: str) -> None:
    async with client(twins) as runway:
        made = [
            await runway.video_to_video.create(
                model="seedance2_5", prompt_video=mp4, prompt_text="on", mode="extend", duration=4
            ),
            await runway.video_to_video.create(model="aleph2", video_uri=mp4, prompt_text="rain"),
            await runway.video_upscale.create(
                model="magnific_video_upscaler_creative", video_uri=mp4, resolution="1k"
            ),
            await runway.video_upscale.create(
                model="enhance_frame_rate", video_uri=mp4, target_framerate="60"
            ),
            await runway.character_performance.create(
                model="act_two",
                character={"type": "image", "uri": png},
                reference={"type": "video", "uri": mp4},
                ratio="1280:720",
            ),
            await runway.text_to_image.create(
                model="gen4_image",
                prompt_text="@fox",
                ratio="1920:1080",
                reference_images=[{"uri": png, "tag": "fox"}],
            ),
        ]
        twins.clock.pass_(1)
        views = [await runway.tasks.retrieve(task.id) for task in made]
    assert {view.status for view in views} == {"SUCCEEDED"}
    # The input lasts 5 s at 8 frames per second: 4 * 30 + 5 * 15, 5 * 28, ceil(40 * 0.7), 3 * 1, 5 * 5, 8.
    assert [row["usd"] for row in await twins.bill()] == ["1.95", "1.4", "0.28", "0.03", "0.25", "0.08"]


V2V = {"model": "seedance2_5", "promptVideo": "https://example.com/a.mp4", "promptText": "on"}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"mode": "extend", "ratio": "1280:720"}, ["ratio"]),
        ({"mode": "edit", "duration": 5}, ["duration"]),
        ({"mode": "longer"}, ["mode"]),
        ({"references": [{"uri": "https://example.com/a.png"}] * 31}, ["references"]),
        (
            {"referenceVideos": [{"type": "image", "uri": "https://example.com/a.mp4"}]},
            ["referenceVideos", 0, "type"],
        ),
        ({"promptVideo": "http://example.com/a.mp4"}, ["promptVideo"]),
        ({"videoUri": "https://example.com/a.mp4"}, ["videoUri"]),
    ],
)
async def test_a_wrong_video_request_is_refused_with_its_path(
    twins: Twins, changes: dict[str, Any], path: list[Any]
) -> None:
    answer = await twins.runway("POST", "/v1/video_to_video", V2V | changes)
    assert answer.status_code == 400
    assert [issue["path"] for issue in answer.json()["issues"]] == [path]
    assert await twins.bill() == []


@pytest.mark.parametrize(("ratio", "status"), [("1280:720", 400), ("auto_720p", 200)])
async def test_wan_follows_its_first_frame(twins: Twins, png: str, ratio: str, status: int) -> None:
    frames = [{"uri": png, "position": "first"}]
    body = {"model": "wan3", "promptText": "x", "promptImage": frames, "ratio": ratio}
    assert (await twins.runway("POST", "/v1/image_to_video", body)).status_code == status


async def test_a_video_over_the_longest_is_refused_as_runway_words_it(twins: Twins) -> None:
    clip = render(Clip(64, 36, 31, "long"))
    uri = f"data:video/mp4;base64,{base64.b64encode(clip).decode()}"
    body = {"model": "magnific_video_upscaler_creative", "videoUri": uri}
    (issue,) = (await twins.runway("POST", "/v1/video_upscale", body)).json()["issues"]
    assert (issue["message"], issue["path"]) == ("Asset duration must be at most 30 seconds", ["videoUri"])


async def test_a_keyframe_lies_within_the_video(twins: Twins, png: str, mp4: str) -> None:
    body = {"model": "aleph2", "videoUri": mp4, "keyframes": [{"at": 1.5, "uri": png}]}
    answer = await twins.runway("POST", "/v1/video_to_video", body)
    assert [issue["path"] for issue in answer.json()["issues"]] == [["keyframes", 0]]
    body["keyframes"] = [{"at": 1.0, "uri": png}, {"seconds": 2, "uri": png}]
    assert (await twins.runway("POST", "/v1/video_to_video", body)).status_code == 200


async def test_the_sdk_reads_balance_and_usage(twins: Twins) -> None:
    await submit(twins)
    async with client(twins) as runway:
        account = await runway.organization.retrieve()
        used = await runway.organization.retrieve_usage()
    assert account.credit_balance == 1_000_000 - 60
    assert account.usage.models["gen4.5"].daily_generations == 1
    assert used.results[0].used_credits[0].amount == 60
    twins.clock.pass_(1)
    await submit(twins)
    async with client(twins) as runway:
        assert (await runway.organization.retrieve()).credit_balance == 1_000_000 - 120


@pytest.mark.parametrize("endpoint", sorted(ENDPOINTS))
def test_fields_and_values_are_those_of_the_sdk(endpoint: str) -> None:
    """Our table is written by hand; Runway's own types say whether it is right."""
    module = importlib.import_module(f"runwayml.types.{endpoint}_create_params")
    union = getattr(module, module.__all__[0])
    kinds = {}
    for kind in typing.get_args(union) or (union,):
        fields = _wire_fields(kind)
        for model in fields["model"][1]:
            kinds[model] = fields
    for model, shape in ENDPOINTS[endpoint].items():
        fields = kinds[model]
        required = {name for name, (needed, _) in fields.items() if needed} - {"model"}
        assert required == shape.required, model
        assert set(fields) - {"model"} == shape.required | shape.optional, model
        for name, (_, values) in fields.items():
            if values and name not in ("model", "duration"):
                assert set(shape.choices.get(name, ())) == set(values), (model, name)
            elif values and name == "duration" and all(type(value) is int for value in values):
                assert set(shape.durations) == set(values), model


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"ratio": "16:9"}, ["ratio"]),
        ({"ratio": "960:960"}, ["ratio"]),
        ({"duration": 11}, ["duration"]),
        ({"duration": 5.0}, ["duration"]),
        ({"duration": "5"}, ["duration"]),
        ({"promptText": ""}, ["promptText"]),
        ({"promptText": "🎬" * 501}, ["promptText"]),
        ({"model": "gen4_turbo"}, ["model"]),
        ({"seed": 2**32}, ["seed"]),
        ({"prompt_text": "x"}, ["prompt_text"]),
    ],
)
async def test_a_wrong_field_is_refused_with_its_path(
    twins: Twins, changes: dict[str, Any], path: list[str]
) -> None:
    answer = await twins.runway("POST", "/v1/text_to_video", TEXT | changes)
    assert answer.status_code == 400
    assert [issue["path"] for issue in answer.json()["issues"]] == [path]
    assert await twins.bill() == []


async def test_five_hundred_astral_characters_fit_the_prompt(twins: Twins) -> None:
    await submit(twins, promptText="🎬" * 500)


@pytest.mark.parametrize(
    "image",
    [
        "data:image/png;base64,AAAA",
        "data:image/png;base64,!!!",
        "http://example.com/a.png",
        "https://192.0.2.1/a.png",
        "runway://nothing",
        [{"uri": "https://example.com/a.png", "position": "last"}],
    ],
)
async def test_an_unusable_image_is_refused(twins: Twins, image: Any) -> None:
    body = {"model": "veo3.1", "promptImage": image, "ratio": "1280:720"}
    assert (await twins.runway("POST", "/v1/image_to_video", body)).status_code == 400


async def test_gen4_models_take_no_last_frame(twins: Twins, png: str) -> None:
    both = [{"uri": png, "position": "first"}, {"uri": png, "position": "last"}]
    body = {"model": "gen4_turbo", "promptImage": both, "ratio": "1280:720"}
    assert (await twins.runway("POST", "/v1/image_to_video", body)).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer key_0"}, 401),
        ({"Authorization": "Key sandbox-x"}, 401),
        ({"X-Runway-Version": "2023-01-01"}, 400),
    ],
)
async def test_key_and_version_are_wanted_on_every_call(
    twins: Twins, headers: dict[str, str], status: int
) -> None:
    id_ = await submit(twins)
    for method, path in (
        ("POST", "/v1/text_to_video"),
        ("GET", f"/v1/tasks/{id_}"),
        ("DELETE", f"/v1/tasks/{id_}"),
    ):
        answer = await twins.runway(method, path, TEXT if method == "POST" else None, **headers)
        assert (answer.status_code, "error" in answer.json()) == (status, True)


async def test_cost_and_progress_appear_only_where_the_api_has_them(twins: Twins) -> None:
    id_ = await submit(twins)
    always = {"id", "createdAt", "status"}
    assert set(await look(twins, id_)) == always | {"estimatedCost"}
    twins.clock.pass_(0.2)
    assert set(await look(twins, id_)) == always | {"estimatedCost", "progress"}
    twins.clock.pass_(1)
    assert set(await look(twins, id_)) == always | {"cost", "output"}


async def test_over_the_concurrency_a_task_is_throttled_and_runs_later(twins: Twins) -> None:
    await twins.control("settings", provider="runway", concurrency=1, render_seconds=10)
    first, second = await submit(twins), await submit(twins)
    other_model = await submit(twins, model="veo3.1", duration=4)
    views = [(await look(twins, id_))["status"] for id_ in (first, second, other_model)]
    assert views == ["PENDING", "THROTTLED", "PENDING"]
    twins.clock.pass_(15)
    assert (await look(twins, second))["status"] == "RUNNING"


async def test_a_cancel_is_free_before_the_start_and_charged_after_it(twins: Twins) -> None:
    pending, running = await submit(twins), await submit(twins)
    assert (await twins.runway("DELETE", f"/v1/tasks/{pending}")).status_code == 204
    twins.clock.pass_(0.2)
    assert (await twins.runway("DELETE", f"/v1/tasks/{running}")).status_code == 204
    views = [await look(twins, pending), await look(twins, running)]
    assert [(view["status"], view["cost"]["credits"]) for view in views] == [
        ("CANCELLED", 0),
        ("CANCELLED", 60),
    ]
    assert [row["usd"] for row in await twins.bill()] == ["0", "0.6"]


async def test_deleting_a_finished_task_forgets_it_but_not_its_price(twins: Twins) -> None:
    id_ = await submit(twins)
    twins.clock.pass_(1)
    url = (await look(twins, id_))["output"][0]
    assert (await twins.runway("DELETE", f"/v1/tasks/{id_}")).status_code == 204
    assert (await twins.runway("GET", f"/v1/tasks/{id_}")).status_code == 404
    assert (await twins.http.get(url)).status_code == 403
    assert [row["usd"] for row in await twins.bill()] == ["0.6"]


async def test_a_result_link_needs_its_signature_and_expires_and_a_new_look_renews_it(twins: Twins) -> None:
    id_ = await submit(twins)
    twins.clock.pass_(1)
    url = (await look(twins, id_))["output"][0]
    assert (await twins.http.get(url.partition("?")[0])).status_code == 403
    assert (await twins.http.get(url)).status_code == 200
    twins.clock.pass_(twins.benches["runway"].link_seconds + 1)
    assert (await twins.http.get(url)).status_code == 403
    assert (await twins.http.get((await look(twins, id_))["output"][0])).status_code == 200


async def test_the_daily_limit_is_a_429_without_retry_after(twins: Twins) -> None:
    await twins.control("settings", provider="runway", per_day=1)
    await submit(twins)
    answer = await twins.runway("POST", "/v1/text_to_video", TEXT)
    assert (answer.status_code, answer.headers.get("retry-after")) == (429, None)
    assert "daily" in answer.json()["error"]


async def test_an_upload_wants_its_fields_before_the_file(twins: Twins) -> None:
    start = await twins.runway("POST", "/v1/uploads", {"filename": "a.png", "type": "ephemeral"})
    upload = start.json()
    bad = await twins.http.post(upload["uploadUrl"], data={"key": "x"}, files={"file": b"x"})
    assert bad.status_code == 403
    good = await twins.http.post(upload["uploadUrl"], data=upload["fields"], files={"file": b"x"})
    assert good.status_code == 204


async def test_auto_length_is_charged_at_the_longest_and_partly_refunded(twins: Twins) -> None:
    body = {"model": "seedance2", "promptText": "x", "duration": "auto"}
    answer = await twins.runway("POST", "/v1/text_to_video", body)
    assert answer.json()["estimatedCost"]["credits"] == 36 * 15
    twins.clock.pass_(1)
    assert (await look(twins, answer.json()["id"]))["cost"]["credits"] == 36 * 5


@pytest.fixture
def mp4() -> str:
    """A clip of 5 s as a data URI."""
    return f"data:video/mp4;base64,{base64.b64encode(render(Clip(64, 36, 5, 'input'))).decode()}"


def _bytes(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def _wire_fields(kind: Any) -> dict[str, tuple[bool, tuple[Any, ...]]]:
    """Wire name -> (required, literal values) of one of the SDK's request types."""
    assert is_typeddict(kind)
    fields = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        required, wire, values = _unwrap(name, hint)
        fields[wire] = (required, values)
    return fields


def _unwrap(name: str, hint: Any) -> tuple[bool, str, tuple[Any, ...]]:
    required, wire = False, name
    while (origin := typing.get_origin(hint)) is not None:
        if origin is typing.Required:
            required = True
        elif origin is typing.Annotated:
            aliases = [note.alias for note in hint.__metadata__ if getattr(note, "alias", None)]
            wire = aliases[0] if aliases else wire
        else:
            break
        hint = typing.get_args(hint)[0]
    return required, wire, typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
