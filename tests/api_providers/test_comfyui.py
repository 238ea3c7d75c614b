"""The ComfyUI client against its twin and scripted servers, and the workflow files that it fills."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import pytest

from api_providers._comfyui_workflow import SHIPPED, WorkflowError, frames_of, read
from api_providers.comfyui import ComfyUI, prompt_id
from router.catalog import Catalog
from router.contract import errors
from router.contract.backend import Completed, Operation, Pending
from router.contract.card import LostSubmit, ModelCard, ResolvedRequest
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.committing import committing
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

MODEL = "comfyui/wan-2.2-ti2v-5b"
NO_PRICE = (
    "no price is shipped: what a server of this kind costs, and for what it bills, only its owner knows"
)
EMPTY: dict[str, list[Any]] = {"queue_running": [], "queue_pending": []}
KEY = "job:a1"


def entry(status: str, *messages: list[Any], outputs: dict[str, Any] | None = None) -> dict[str, Any]:
    """An ended prompt as the history shows it."""
    stands = {"status_str": status, "completed": status == "success", "messages": list(messages)}
    return {"prompt": [0, "t1", {}, {}, ["12"]], "outputs": outputs or {}, "status": stands}


def saved(*files: str, key: str = "images", **more: str) -> dict[str, Any]:
    return {key: [{"filename": name, "subfolder": "video", "type": "output", **more} for name in files]}


def broke(kind: str, message: str = "it broke") -> list[Any]:
    return [
        "execution_error",
        {"node_id": "9", "node_type": "KSampler", "exception_type": kind, "exception_message": message},
    ]


class TestComfyUI(BackendSuite):
    kind = ComfyUI
    twin = "comfyui"
    key = SECRET
    text_model = MODEL
    image_model = MODEL
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "pending": "queued",
        "running": "running",
        "success": "done",
        "error": errors.GenerationFailed,
        "interrupted": errors.Cancelled,
        "out of memory": errors.OutOfMemory,
    }
    invented = "pondering"
    cannot: ClassVar[Mapping[str, str]] = {
        "the_price_table_says_what_the_twin_bills": NO_PRICE,
        "a_failure_after_acceptance_says_what_it_cost": NO_PRICE,
        "moderation_is_the_callers_to_change": "a ComfyUI server has no content filter",
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        """One body that is the queue and the history: the scripted server gives it to both calls."""
        item = [3, "t1", {}, {}, []]
        match status:
            case "pending":
                return {**EMPTY, "queue_pending": [item]}
            case "running":
                return {**EMPTY, "queue_running": [item]}
            case "success":
                return {**EMPTY, "t1": entry("success", outputs={"12": saved("a.mp4")})}
            case "interrupted":
                return {**EMPTY, "t1": entry("error", ["execution_interrupted", {"prompt_id": "t1"}])}
            case "out of memory":
                return {**EMPTY, "t1": entry("error", broke("torch.cuda.OutOfMemoryError"))}
            case "error":
                return {**EMPTY, "t1": entry("error", broke("RuntimeError"))}
            case other:
                return {**EMPTY, "t1": entry(other)}

    def dead_link(self, url: str) -> str:
        return url.replace("understudy_", "understudy_9")

    async def test_the_id_is_made_from_our_attempt(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        operation = await backend.submit(text, key=KEY)
        assert sandbox.bill("comfyui")[0]["task"] == operation.ref == prompt_id(KEY)
        assert str(UUID(operation.ref)) == operation.ref
        assert prompt_id("job:a2") != prompt_id(KEY)

    async def test_a_repeated_prompt_is_the_first_one(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("comfyui", render_seconds=600)
        first = await backend.submit(text, key=KEY)
        assert await backend.submit(text, key=KEY) == first
        assert len(sandbox.bill("comfyui")) == 1

    async def test_a_waiting_prompt_is_deleted_and_the_running_one_goes_on(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("comfyui", render_seconds=600)
        runs = await backend.submit(text, key=KEY)
        waits = await backend.submit(text, key="job:a2")
        last = await backend.submit(text, key="job:a3")
        assert (await backend.poll(last)).ahead == 1
        assert await backend.cancel(waits)
        with pytest.raises(errors.Cancelled):
            await backend.poll(waits)
        assert await backend.cancel(waits), "asked again it is still cancelled"
        assert (await backend.poll(last)).ahead == 0
        assert (await backend.poll(runs)).queued is False
        assert [row["status"] for row in sandbox.bill("comfyui")] == ["queued", "cancelled", "waiting"]

    async def test_a_failed_prompt_names_the_node(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("comfyui", "fail_after_accept")
        operation = await backend.submit(text, key=KEY)
        with pytest.raises(errors.GenerationFailed, match=r"node 9 \(KSampler\): mat1"):
            await self.finish(backend, operation)

    async def test_check_tells_the_server_and_looks_at_the_workflows(self, backend: Any) -> None:
        facts = await backend.check()
        assert (facts["devices"], facts["workflows"]) == (["cuda:0 Sandbox"], 1)

    async def test_every_request_is_what_the_server_validates(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        for n, fields in enumerate(
            [
                {"first": media.picture(), "duration": 2, "aspect_ratio": "9:16"},
                {"negative_prompt": "rain", "guidance": 3.5, "provider_options": {"comfyui": {"steps": 4}}},
            ]
        ):
            await backend.submit(resolve(MODEL, **fields), key=f"job{n}:a1")
        assert len(sandbox.bill("comfyui")) == 2


# -- what is sent


@pytest.fixture
def card(catalog: Catalog) -> ModelCard:
    return catalog.cards[MODEL]


async def sent(make: MakeBackend, request: ResolvedRequest) -> dict[str, Any]:
    replies = [reply(200, {"name": "x.png", "subfolder": "understudy"})] if request.first_frame else []
    async with ScriptedServer([*replies, reply(200, {"prompt_id": "p1"})]) as server:
        assert (await make(ComfyUI, server.url).submit(request, key=KEY)).ref == "p1"
    body: dict[str, Any] = server.seen[-1].json
    uploads = ["/upload/image"] if replies else []
    assert [seen.target for seen in server.seen] == [*uploads, "/prompt"]
    return body


async def test_the_named_inputs_are_filled_and_the_rest_stays(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    fields = {"duration": 3, "negative_prompt": "rain", "camera": "zoom_in"}
    body = await sent(make, resolve(MODEL, first=media.picture(), **fields))
    graph = body["prompt"]
    assert (body["client_id"], body["prompt_id"]) == ("understudy", prompt_id(KEY))
    assert graph["5"]["inputs"]["text"] == "a red fox in the snow The camera zooms in."
    assert graph["6"]["inputs"]["text"] == "rain"
    assert graph["7"]["inputs"]["image"] == "understudy/x.png"
    size = graph["8"]["inputs"]
    assert (size["width"], size["height"], size["length"]) == (1280, 704, 73), "3 s * 24 -> 4k + 1"
    assert size["start_image"] == ["7", 0]
    sampler = graph["9"]["inputs"]
    assert (sampler["seed"], sampler["steps"], sampler["cfg"]) == (7, 20, 5.0)
    assert graph["1"] == json.loads((SHIPPED / "wan22_ti2v_5b.json").read_text())["1"]


async def test_without_a_picture_its_loader_is_taken_out(make: MakeBackend, resolve: Resolve) -> None:
    graph = (await sent(make, resolve(MODEL)))["prompt"]
    assert "7" not in graph
    assert "start_image" not in graph["8"]["inputs"]
    assert graph["6"]["inputs"]["text"].startswith("overexposed"), "the workflow's own negative prompt"


def test_what_was_fed_by_the_loader_alone_goes_too(tmp_path: Path, card: ModelCard) -> None:
    graph = json.loads((SHIPPED / "wan22_ti2v_5b.json").read_text())
    graph["20"] = {"class_type": "ImageScale", "inputs": {"image": ["7", 0], "width": 1280}}
    graph["8"]["inputs"]["start_image"] = ["20", 0]
    (tmp_path / "wan22_ti2v_5b.json").write_text(json.dumps(graph))
    filled = read(card, [tmp_path]).filled({"prompt": "x"})
    assert {"7", "20"}.isdisjoint(filled)
    assert "start_image" not in filled["8"]["inputs"]


@pytest.mark.parametrize(("seconds", "frames"), [(5, 121), (2, 49), (0.01, 1), (3.1, 73)])
def test_frames_follow_the_rule_of_the_card(card: ModelCard, seconds: float, frames: int) -> None:
    assert frames_of(card, seconds, 24) == frames


def test_without_a_rule_every_number_of_frames_is_right(card: ModelCard) -> None:
    plain = card.model_copy(update={"wire": {}})
    assert (frames_of(plain, 3.1, 24), frames_of(plain, 0.001, 24)) == (74, 1)


# -- a workflow that does not go with its card is told before anything is sent


def changed(card: ModelCard, inputs: dict[str, Any] | None = None, **wire: Any) -> ModelCard:
    merged = {**card.wire, **wire, "inputs": {**card.wire["inputs"], **(inputs or {})}}
    return card.model_copy(update={"wire": merged})


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"seed": "99.seed"}, "no node '99'; it has: 1 (Diffusion model)"),
        ({"seed": "Sampler.noise"}, "no input 'noise'; it has: cfg, denoise"),
        ({"seed": "9.model"}, "wired to another node"),
        ({"seed": "seed"}, 'write "node.input"'),
        ({"seed": 7}, 'write "node.input"'),
        ({"sead": "9.seed"}, "unknown name sead"),
        ({"seed": []}, "takes seed, but wire.inputs gives it no place"),
    ],
)
def test_a_place_that_is_not_there_is_told(card: ModelCard, inputs: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        read(changed(card, inputs), [])
    assert said in caught.value.message.en
    assert any("ぁ" <= letter <= "ヿ" for letter in caught.value.message.ja)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no valid JSON"),
        ("[]", "no ComfyUI workflow in API format"),
        ("{}", "no ComfyUI workflow in API format"),
        ('{"1": {"class_type": "X"}}', "no ComfyUI workflow in API format"),
        ('{"nodes": [], "links": []}', "editor's format"),
    ],
)
def test_a_file_that_is_no_workflow_is_told(tmp_path: Path, card: ModelCard, content: str, said: str) -> None:
    (tmp_path / "own.json").write_text(content)
    with pytest.raises(WorkflowError, match=said):
        read(changed(card, workflow="own.json"), [tmp_path])


def test_two_nodes_of_one_title_must_be_named_by_number(tmp_path: Path, card: ModelCard) -> None:
    graph = json.loads((SHIPPED / "wan22_ti2v_5b.json").read_text())
    graph["6"]["_meta"]["title"] = "Prompt"
    (tmp_path / "own.json").write_text(json.dumps(graph))
    own = changed(card, {"negative_prompt": "6.text"}, workflow="own.json")
    with pytest.raises(WorkflowError, match=r"2 nodes with the title 'Prompt' \(5, 6\)"):
        read(own, [tmp_path])
    assert read(changed(own, {"prompt": "5.text"}), [tmp_path]).places["prompt"] == (("5", "text"),)


def test_one_value_may_have_many_places_and_references_one_each(tmp_path: Path, card: ModelCard) -> None:
    graph = {
        "1": {"class_type": "A", "inputs": {"a.b": "", "seed": 1}, "_meta": {"title": "v1.0 text"}},
        "2": {"class_type": "A", "inputs": {"seed": 1, "image": "x"}},
        "3": {"class_type": "A", "inputs": {"image": "x"}},
    }
    path = tmp_path / "own.json"
    path.write_text(json.dumps(graph))
    inputs = {"prompt": "v1.0 text.a.b", "seed": ["1.seed", "2.seed"], "image": ["2.image", "3.image"]}
    own = card.model_copy(
        update={
            **dict.fromkeys(("negative_prompt", "guidance"), False),
            **dict.fromkeys(("sizes", "durations", "tasks"), ()),
            "options": {},
            "references": {"image": 2},
            "wire": {"workflow": str(path), "inputs": inputs, "output": "3"},
        }
    )
    workflow = read(own, [])
    filled = workflow.filled({"prompt": "hi", "seed": 5, "image": ["a.png"]})
    assert filled["1"]["inputs"] == {"a.b": "hi", "seed": 5}
    assert filled["2"]["inputs"] == {"seed": 5, "image": "a.png"}
    assert "3" not in filled, "the second reference was not given"
    assert workflow.output == "3"
    assert workflow.filled({})["1"]["inputs"] == {"a.b": "", "seed": 1}, "the first filling left no trace"


async def test_a_wrong_workflow_is_told_before_anything_is_sent(
    make: MakeBackend, resolve: Resolve, card: ModelCard
) -> None:
    async with ScriptedServer([reply(200, {})]) as server:
        backend = make(ComfyUI, server.url)
        backend.config = replace(backend.config, cards={MODEL: changed(card, workflow="none.json")})
        with (
            committing() as commits,
            pytest.raises(errors.ServerTrouble, match=r"no workflow file none\.json"),
        ):
            await backend.submit(resolve(MODEL), key=KEY)
    assert (commits, server.seen) == ([], [])


async def test_check_tells_a_wrong_workflow_too(make: MakeBackend, card: ModelCard) -> None:
    body = {"system": {"comfyui_version": "0.9"}, "devices": [], **EMPTY}
    async with ScriptedServer([reply(200, body)]) as server:
        backend = make(ComfyUI, server.url)
        backend.config = replace(backend.config, cards={MODEL: changed(card, workflow="none.json")})
        with pytest.raises(errors.ServerTrouble, match=r"none\.json"):
            await backend.check()


@pytest.mark.parametrize("folder", ["workflows", "providers"])
async def test_a_workflow_of_the_data_folder_goes_before_ours(
    make: MakeBackend, resolve: Resolve, tmp_path: Path, folder: str
) -> None:
    graph = json.loads((SHIPPED / "wan22_ti2v_5b.json").read_text())
    graph["9"]["inputs"]["scheduler"] = "beta"
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "wan22_ti2v_5b.json").write_text(json.dumps(graph))
    async with ScriptedServer([reply(200, {"prompt_id": "p1"})]) as server:
        await make(ComfyUI, server.url, home=str(tmp_path)).submit(resolve(MODEL), key=KEY)
    assert server.seen[0].json["prompt"]["9"]["inputs"]["scheduler"] == "beta"


# -- answers


async def test_a_refused_graph_names_nodes_and_may_go_elsewhere(make: MakeBackend, resolve: Resolve) -> None:
    missing = {
        "type": "value_not_in_list",
        "message": "Value not in list",
        "details": "unet_name: 'x' not in []",
    }
    body = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"},
        "node_errors": {"1": {"errors": [missing], "dependent_outputs": ["12"], "class_type": "UNETLoader"}},
    }
    async with ScriptedServer([reply(400, body)]) as server:
        with pytest.raises(errors.BackendError) as caught:
            await make(ComfyUI, server.url).submit(resolve(MODEL), key=KEY)
    assert type(caught.value) is errors.BackendError
    assert "node 1 (UNETLoader): Value not in list: unet_name" in caught.value.message.en


@pytest.mark.parametrize(
    ("outputs", "query"),
    [
        ({"12": saved("a.mp4")}, "filename=a.mp4&subfolder=video&type=output"),
        (
            {"3": saved("still.png"), "12": saved("b.webm", key="gifs")},
            "filename=b.webm&subfolder=video&type=output",
        ),
        (
            {"3": saved("t.mp4", type="temp"), "12": saved("c.mp4")},
            "filename=c.mp4&subfolder=video&type=output",
        ),
        ({"3": saved("t.mp4", type="temp")}, "filename=t.mp4&subfolder=video&type=temp"),
        ({"3": saved("a b&c.mp4", key="videos")}, "filename=a+b%26c.mp4&subfolder=video&type=output"),
        (
            {"3": {"text": ["x"]}, "4": None, "12": saved("d.mp4")},
            "filename=d.mp4&subfolder=video&type=output",
        ),
    ],
)
async def test_the_clip_is_the_first_video_that_was_kept(
    make: MakeBackend, outputs: dict[str, Any], query: str
) -> None:
    async with ScriptedServer([reply(200, {**EMPTY, "t1": entry("success", outputs=outputs)})]) as server:
        done = await make(ComfyUI, server.url).poll(Operation(ref="t1"))
        assert isinstance(done, Completed)
        assert done.outputs[0].url == f"{server.url}/view?{query}"


async def test_the_node_that_the_card_names_wins(make: MakeBackend) -> None:
    outputs = {"3": saved("preview.mp4"), "12": saved("final.mp4")}
    async with ScriptedServer([reply(200, {**EMPTY, "t1": entry("success", outputs=outputs)})]) as server:
        done = await make(ComfyUI, server.url).poll(Operation(ref="t1", data={"output": "12"}))
    assert "final.mp4" in done.outputs[0].url


@pytest.mark.parametrize("outputs", [{}, {"12": saved("a.png")}, {"12": {"images": "a.mp4"}}])
async def test_an_end_without_a_video_is_told(make: MakeBackend, outputs: dict[str, Any]) -> None:
    async with ScriptedServer([reply(200, {**EMPTY, "t1": entry("success", outputs=outputs)})]) as server:
        with pytest.raises(errors.OutputInvalid, match="without a video"):
            await make(ComfyUI, server.url).poll(Operation(ref="t1"))


async def test_a_prompt_that_runs_out_between_the_looks_is_not_lost(make: MakeBackend) -> None:
    """The queue is looked at first: what has left it stands in the history."""
    done = {"t1": entry("success", outputs={"12": saved("a.mp4")})}
    async with ScriptedServer([reply(200, EMPTY), reply(200, done)]) as server:
        assert isinstance(await make(ComfyUI, server.url).poll(Operation(ref="t1")), Completed)
    assert [seen.target for seen in server.seen] == ["/queue", "/history/t1"]


async def test_a_running_prompt_of_somebody_else_is_never_interrupted(make: MakeBackend) -> None:
    theirs = {**EMPTY, "queue_running": [[1, "theirs", {}, {}, []]]}
    async with ScriptedServer([reply(200, theirs)]) as server:
        assert not await make(ComfyUI, server.url).cancel(Operation(ref="t1"))
    assert [(seen.method, seen.target) for seen in server.seen] == [("GET", "/queue")]


async def test_a_prompt_that_starts_while_it_is_deleted_is_interrupted(make: MakeBackend) -> None:
    item = [1, "t1", {}, {}, []]
    waiting, running = {**EMPTY, "queue_pending": [item]}, {**EMPTY, "queue_running": [item]}
    replies = [reply(200, waiting), reply(200), reply(200, running), reply(200)]
    async with ScriptedServer([*replies]) as server:
        assert await make(ComfyUI, server.url).cancel(Operation(ref="t1"))
    assert server.seen[1].json == {"delete": ["t1"]}
    assert (server.seen[3].target, server.seen[3].json) == ("/interrupt", {"prompt_id": "t1"})


async def test_the_place_in_the_queue_goes_by_number_and_not_by_order(make: MakeBackend) -> None:
    waiting = [[9, "later", {}, {}, []], [5, "t1", {}, {}, []], [3, "before", {}, {}, []]]
    async with ScriptedServer([reply(200, {**EMPTY, "queue_pending": waiting})]) as server:
        state = await make(ComfyUI, server.url).poll(Operation(ref="t1"))
    assert state == Pending(poll_after=0.05, queued=True, ahead=1)


async def test_without_a_key_no_authorization_goes_out_and_plain_http_works(
    make: MakeBackend, resolve: Resolve, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    sandbox.settings("comfyui", render_seconds=0)
    backend = make(ComfyUI, f"{sandbox.url}/comfyui", key=None, sandbox=False)
    operation = await backend.submit(resolve(MODEL), key=KEY)
    done = await backend.poll(operation)
    await backend.fetch(done.outputs[0], tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").stat().st_size > 0


async def test_find_is_by_the_id_alone(make: MakeBackend, resolve: Resolve) -> None:
    ours = prompt_id(KEY)
    since = datetime.now(UTC)
    for queue, history, there in [
        ({**EMPTY, "queue_pending": [[0, ours, {}, {}, []]]}, {}, True),
        (EMPTY, {ours: entry("success")}, True),
        (EMPTY, {}, False),
    ]:
        async with ScriptedServer([reply(200, queue), reply(200, history)]) as server:
            found = await make(ComfyUI, server.url).find(resolve(MODEL), key=KEY, since=since)
        assert (found is not None and found.ref == ours) is there


def test_the_card_says_what_the_server_can(card: ModelCard) -> None:
    assert (card.lost_submit, card.cancel, card.prices) == (LostSubmit.FIND, "running", ())
