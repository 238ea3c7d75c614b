"""The local backend over its real model process: real diffusers pipelines with tiny random weights."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import av
import psutil
import pytest

from local_models._runner import Local
from router.contract import errors
from router.contract.backend import Backend, Checks, Operation, Output, Pending
from router.contract.card import ModelCard
from tests.committing import committing
from tests.local_models.conftest import SCRIPTED, card, follow, halfway, request, until

if TYPE_CHECKING:
    from tests.local_models.random_weights import Folders

LONG = {"steps": 200}
Make = Callable[..., Local]


async def test_a_text_becomes_a_playable_clip_that_tells_how_it_was_made(
    local: Local, tmp_path: Path
) -> None:
    seen: list[float] = []
    with committing() as commits:
        operation = await local.submit(
            request("local/ti2v", "赤い ball", camera={"preset": "zoom_in"}), key="j:a1"
        )
    assert len(commits) == 1
    done = await follow(local, operation, seen)
    assert done.billed_usd == Decimal(0)
    assert seen == sorted(seen)
    assert len(set(seen)) > 1, "how many values a look catches is a matter of speed"
    told = dict(done.details)
    measured = told.pop("measured")
    assert isinstance(measured, dict)
    assert set(measured) == {"encode_s", "steps_s", "decode_s", "plan"}
    assert len(measured["steps_s"]) == 3
    assert told | {"seconds": 0} == {
        "seed": 7,
        "steps": 3,
        "guidance": 2.0,
        "frames": 9,
        "fps": 8,
        "width": 32,
        "height": 32,
        "revision": None,
        "seconds": 0,
        "prompt_cut": True,
    }
    to = tmp_path / "clip.mp4"
    await local.fetch(done.outputs[0], to)
    with av.open(str(to)) as clip:
        stream = clip.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert len(list(clip.decode(video=0))) == 9
        facts = json.loads(clip.metadata["comment"])
    assert facts["prompt"] == "赤い ball, the camera zooms in"
    assert (facts["seed"], facts["model"], facts["steps"]) == (7, "local/ti2v", 3)
    assert to.read_bytes().find(b"moov") < to.read_bytes().find(b"mdat")
    with pytest.raises(errors.OperationLost):
        await local.poll(operation)


async def test_an_image_becomes_a_clip_with_the_same_weights(local: Local) -> None:
    done = await follow(local, await local.submit(request("local/ti2v", image=True), key="j:a1"))
    assert done.details["frames"] == 9


async def test_a_cancel_takes_effect_within_steps_and_leaves_the_model_as_it_was(local: Local) -> None:
    async def clip() -> bytes:
        done = await follow(local, await local.submit(request("local/ti2v"), key="j:a1"))
        assert done.outputs[0].path is not None
        return done.outputs[0].path.read_bytes()

    before, pid = await clip(), local.child_pid
    long = await local.submit(request("local/ti2v", options=LONG), key="j:a2")
    await halfway(local, long)
    assert await local.cancel(long)
    last = 0.0
    with pytest.raises(errors.Cancelled) as caught:
        while True:
            look = await local.poll(long)
            assert isinstance(look, Pending)
            last = look.progress or 0.0
            await asyncio.sleep(0.005)
    assert caught.value.billed_usd == Decimal(0)
    assert last < 0.5
    assert not await local.cancel(long)
    assert await clip() == before
    assert local.child_pid == pid


async def test_a_waiting_job_is_dropped_and_one_of_the_loaded_model_goes_first(local: Local) -> None:
    first = await local.submit(request("local/ti2v", options=LONG), key="j:a1")
    other = await local.submit(request("local/two"), key="j:a2")
    same = await local.submit(request("local/ti2v"), key="j:a3")
    dropped = await local.submit(request("local/ti2v"), key="j:a4")
    look = await local.poll(dropped)
    assert isinstance(look, Pending)
    assert look.queued
    assert await local.cancel(dropped)
    with pytest.raises(errors.Cancelled):
        await local.poll(dropped)
    assert await local.cancel(first)
    await follow(local, same)
    assert isinstance(await local.poll(other), Pending)
    await follow(local, other)


async def test_out_of_memory_and_faults_fail_the_job_and_not_the_process(local: Local) -> None:
    jobs = [
        await local.submit(request("local/scripted", text), key=text)
        for text in ("out of memory", "fault", "fine")
    ]
    with pytest.raises(errors.OutOfMemory):
        await follow(local, jobs[0])
    pid = local.child_pid
    with pytest.raises(errors.GenerationFailed) as caught:
        await follow(local, jobs[1])
    assert "machine" not in str(caught.value)
    assert (await follow(local, jobs[2])).details["frames"] == 1
    assert local.child_pid == pid


async def test_a_killed_process_fails_its_job_and_the_waiting_one_gets_a_fresh_process(local: Local) -> None:
    running = await local.submit(request("local/scripted", "spin"), key="j:a1")
    waiting = await local.submit(request("local/scripted", "fine"), key="j:a2")
    await halfway(local, running)
    assert local.child_pid is not None
    os.kill(local.child_pid, signal.SIGKILL)
    with pytest.raises(errors.GenerationFailed, match="-9"):
        await follow(local, running)
    await follow(local, waiting)


async def test_closing_ends_the_process_inside_a_step_and_it_held_no_file_of_ours(
    make_local: Make, weights: "Folders", tmp_path: Path
) -> None:
    lock = (tmp_path / "engine.lock").open("w", encoding="utf-8")
    os.set_inheritable(lock.fileno(), True)
    backend = make_local(card("scripted", weights.ti2v, SCRIPTED))
    operation = await backend.submit(request("local/scripted", "spin"), key="j:a1")
    await halfway(backend, operation)
    assert backend.child_pid is not None
    process = psutil.Process(backend.child_pid)
    assert lock.name not in [file.path for file in process.open_files()]
    lock.close()
    await backend.aclose()
    assert not process.is_running()
    with pytest.raises(errors.Unavailable):
        await backend.submit(request("local/scripted"), key="j:a2")


async def test_a_silent_process_is_ended(make_local: Make, weights: "Folders") -> None:
    backend = make_local(card("scripted", weights.ti2v, SCRIPTED), load_limit_s=0.01)
    operation = await backend.submit(request("local/scripted"), key="j:a1")
    with pytest.raises(errors.GenerationFailed, match="did not answer"):
        await follow(backend, operation)
    await backend.aclose()


async def test_a_broken_pipeline_is_told_and_an_idle_process_is_unloaded(
    make_local: Make, weights: "Folders"
) -> None:
    backend = make_local(card("odd", weights.ti2v, "local_models.not_there"), idle_unload_s=0.01)
    operation = await backend.submit(request("local/odd"), key="j:a1")
    with pytest.raises(errors.GenerationFailed, match="ModuleNotFoundError"):
        await follow(backend, operation)
    await until(lambda: backend.child_pid is None)
    await backend.aclose()


async def test_missing_weights_are_refused_by_name_before_anything_is_committed(
    make_local: Make, tmp_path: Path
) -> None:
    rows = [card("gone", tmp_path / "not-here"), card("unset", tmp_path)]
    assert rows[1].local is not None
    rows[1] = rows[1].model_copy(
        update={"local": rows[1].local.model_copy(update={"path": None, "repository": "Wan-AI/Some-Model"})}
    )
    backend = make_local(*rows)
    with (
        committing() as commits,
        pytest.raises(errors.GenerationFailed, match="'not-here' is missing") as caught,
    ):
        await backend.submit(request("local/gone"), key="j:a1")
    assert commits == []
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(errors.GenerationFailed, match="Wan-AI/Some-Model"):
        await backend.submit(request("local/unset"), key="j:a1")
    facts = await backend.check()
    assert "missing" in str(facts)


async def test_a_folder_of_the_settings_wins_over_the_cards(
    make_local: Make, weights: "Folders", tmp_path: Path
) -> None:
    row = card("tuned", tmp_path / "elsewhere")
    backend = make_local(row, models={"tuned": str(weights.ti2v)})
    assert backend.directory(row) == weights.ti2v
    assert backend.problem(row) is None


async def test_an_unknown_ticket_is_lost(local: Local) -> None:
    with pytest.raises(errors.OperationLost):
        await local.poll(Operation(ref="from-before-a-restart"))
    assert not await local.cancel(Operation(ref="from-before-a-restart"))


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": True}, {"steps": "many"}, {"steps": 1e9}])
async def test_an_option_out_of_range_is_refused(local: Local, options: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"provider_options\.local\.steps"):
        await local.submit(request("local/ti2v", options=options), key="j:a1")


async def test_fetching_what_is_not_there_is_lost(local: Local, tmp_path: Path) -> None:
    with pytest.raises(errors.OperationLost):
        await local.fetch(Output(path=tmp_path / "gone.mp4"), tmp_path / "to.mp4")


async def test_it_is_a_backend_with_a_check(local: Local) -> None:
    assert isinstance(local, Backend)
    assert isinstance(local, Checks)


def test_importing_it_loads_no_model_library() -> None:
    code = "import sys, local_models._runner; print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PARENT = """
import asyncio, sys
from pathlib import Path
from local_models._runner import Local
from router.contract.backend import BackendConfig
from router.contract.card import ModelCard, ResolvedRequest

card, request = ModelCard.model_validate_json(sys.argv[1]), ResolvedRequest.model_validate_json(sys.argv[2])

async def main():
    backend = Local(BackendConfig("local", {card.id: card}, None, Path(sys.argv[3]), options={"device": "cpu"}))
    operation = await backend.submit(request, key="j:a1")
    while (await backend.poll(operation)).progress < 0.1:
        await asyncio.sleep(0.01)
    print(backend.child_pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_killing_the_parent_within_a_step_leaves_no_model_process(weights: "Folders", tmp_path: Path) -> None:
    row: ModelCard = card("ti2v", weights.ti2v)
    long = request(row.id, options=LONG)
    command = [sys.executable, "-c", PARENT, row.model_dump_json(), long.model_dump_json(), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()
