"""Memory that runs out at every moment, in the worker itself: what is tried, what is given back, and what is left."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import local_models
from local_models._ladder import LEAST_TILE, below, cut_tiles, ladder
from local_models._messages import (
    Cancel,
    Done,
    Failed,
    Load,
    Loaded,
    LoadFailed,
    Render,
    Rendered,
    Run,
    Step,
)
from local_models._numbers import CPU_PLAN, LoadPlan
from tests.local_models.scripted_pipeline import NEVER, Vae, released
from tests.local_models.test_worker import Desk, load, run

if TYPE_CHECKING:
    from tests.local_models.random_weights import Folders

ROOMY, SMALL = 23.0, 1.0
CopyOf = Callable[[Path], Path]


def done(message: object) -> dict[str, Any]:
    assert isinstance(message, Done), message
    return message.details


# -- memory at load


def test_a_model_that_is_too_large_to_load_is_loaded_by_a_smaller_plan(
    weights: "Folders", copied: CopyOf, tmp_path: Path
) -> None:
    folder = copied(weights.ti2v)
    (folder / "too-large").write_text("fp8", encoding="utf-8")
    desk = Desk(ROOMY)
    loaded = desk.ask(load(folder))
    assert isinstance(loaded, Loaded)
    assert "fp8" in loaded.plan
    measured = done(desk.ask(run("fine", tmp_path)))["measured"]
    assert "fp8" in measured["plan"]
    assert measured["ran_out"]
    assert not any("fp8" in plan for plan in measured["ran_out"])


def test_a_model_that_no_plan_can_load_is_given_back_and_another_one_loads(
    weights: "Folders", copied: CopyOf, tmp_path: Path
) -> None:
    folder = copied(weights.ti2v)
    (folder / "too-large").write_text(NEVER, encoding="utf-8")
    desk = Desk(ROOMY)
    failed = desk.ask(load(folder))
    assert isinstance(failed, LoadFailed)
    assert (failed.kind, failed.left) == ("oom", "nothing")
    assert desk.worker._model is None
    desk.ask(load(weights.ti2v))
    done(desk.ask(run("fine", tmp_path)))


# -- memory within a job


def test_no_room_to_decode_cuts_the_tiles_and_loads_nothing_again(weights: "Folders", tmp_path: Path) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    assert desk.worker._model is not None
    pipe, plan = desk.worker._model.pipe, desk.worker._model.plan
    measured = done(desk.ask(run("needs small tiles", tmp_path)))["measured"]
    assert (measured["tile_cuts"], measured["plan"]) == (1, plan.word)
    assert (measured["ran_out"], measured["free_gb"]) == ([plan.word], ROOMY)
    assert desk.worker._model.pipe is pipe
    assert (pipe.vae.tile_sample_min_height, pipe.vae.tile_sample_stride_width) == (128, 96)


def test_no_room_for_the_text_encoder_has_it_read_elsewhere(weights: "Folders", tmp_path: Path) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    assert "text-on-cpu" in done(desk.ask(run("needs text on the CPU", tmp_path)))["measured"]["plan"]


@pytest.mark.parametrize("prompt", ["out of memory", "no room to decode"])
@pytest.mark.parametrize("free_gb", [ROOMY, SMALL])
def test_when_nothing_smaller_is_left_the_job_is_given_back_and_the_device_is_clean(
    weights: "Folders", tmp_path: Path, prompt: str, free_gb: float
) -> None:
    desk = Desk(free_gb)
    desk.ask(load(weights.ti2v))
    failed = desk.ask(run(prompt, tmp_path))
    assert isinstance(failed, Failed)
    assert (failed.kind, failed.left) == ("oom", "nothing")
    assert desk.worker._model is None
    first = desk.ask(load(weights.ti2v))
    assert isinstance(first, Loaded)
    done(desk.ask(run("fine", tmp_path)))


def test_a_plan_that_ran_out_of_memory_is_not_chosen_again_for_a_larger_clip(
    weights: "Folders", tmp_path: Path
) -> None:
    desk = Desk(ROOMY)
    desk.ask(Load("m", load(weights.ti2v).pipeline, str(weights.ti2v), "cuda", 416, 240, 81))
    assert desk.worker._model is not None
    first = desk.worker._model.plan.word
    desk.ask(run("needs fp8", tmp_path))
    desk.ask(load(weights.ti2v))
    assert Desk(ROOMY).ask(load(weights.ti2v)).plan.startswith(first)  # type: ignore[union-attr]
    assert desk.worker._model.plan.word != first


def test_a_larger_clip_is_planned_for_without_a_reload_where_the_plan_stays(weights: "Folders") -> None:
    desk = Desk(ROOMY)
    desk.ask(Load("m", load(weights.ti2v).pipeline, str(weights.ti2v), "cuda", 416, 240, 81))
    assert desk.worker._model is not None
    pipe = desk.worker._model.pipe
    desk.ask(load(weights.ti2v))
    assert desk.worker._model.pipe is pipe
    huge = Load("m", load(weights.ti2v).pipeline, str(weights.ti2v), "cuda", 3840, 2160, 161)
    desk.ask(huge)
    assert desk.worker._model.pipe is not pipe


def test_a_device_that_answers_only_errors_wants_a_fresh_process(weights: "Folders", tmp_path: Path) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    failed = desk.ask(run("driver", tmp_path))
    assert isinstance(failed, Failed)
    assert failed.left == "wreck"


# -- the ladder itself


def test_the_last_rung_reads_prompts_on_the_cpu() -> None:
    smallest = LoadPlan("bfloat16", True, "group", True, peak_gb=4.0)
    rungs = ladder([LoadPlan("bfloat16", peak_gb=9.0), smallest], text=True)
    assert [rung.text_on_cpu for rung in rungs] == [False, False, True]
    assert ladder([smallest], text=False) == (smallest,)
    assert ladder([CPU_PLAN], text=True) == (CPU_PLAN,)


def test_a_prompt_that_did_not_fit_skips_plans_that_read_it_in_the_same_place() -> None:
    first = LoadPlan("bfloat16", offload="model", peak_gb=9.0)
    same = LoadPlan("bfloat16", True, "model", peak_gb=8.0)
    other = LoadPlan("bfloat16", True, "model", text_on_cpu=True, peak_gb=5.0)
    assert below([first, same, other], "encode") == (other,)
    assert below([first, same, other], "denoise") == (same, other)
    assert below([first, same], "encode") == ()


def test_tiles_are_cut_until_seams_would_cost_more_than_they_save() -> None:
    vae = Vae()
    assert cut_tiles(vae)
    assert not cut_tiles(vae)
    assert vae.tile_sample_min_height >= LEAST_TILE


_NARROW = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1}
_LTX = {
    "block_out_channels": (4, 4, 4, 4),
    "decoder_block_out_channels": (4, 4, 4, 4),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1, 1),
    "decoder_inject_noise": (False, False, False, False, False),
    "timestep_conditioning": False,
}


def test_a_real_vae_decodes_in_cut_tiles() -> None:
    import torch
    from diffusers import AutoencoderKLWan

    kind: Any = AutoencoderKLWan
    torch.manual_seed(0)
    vae = kind(
        base_dim=3, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    latents = torch.randn(1, 4, 1, 25, 25)
    with torch.no_grad():
        whole = vae.decode(latents, return_dict=False)[0]
        vae.enable_tiling()
        assert cut_tiles(vae)
        tiled = vae.decode(latents, return_dict=False)[0]
    assert tiled.shape == whole.shape
    assert torch.isfinite(tiled).all()


@pytest.mark.parametrize(
    ("kind", "config", "latents", "size"),
    [
        (
            "AutoencoderKLCogVideoX",
            {**_NARROW, "latent_channels": 4, "norm_num_groups": 2},
            (4, 60, 90),
            (480, 720),
        ),
        ("AutoencoderKLLTXVideo", {"latent_channels": 8, **_LTX}, (8, 15, 26), (480, 832)),
        (
            "AutoencoderKLHunyuanVideo15",
            {"latent_channels": 4, "block_out_channels": (8,) * 5, "layers_per_block": 1},
            (4, 30, 53),
            (480, 848),
        ),
    ],
)
def test_the_familys_own_size_comes_out_of_cut_tiles(
    kind: str, config: dict[str, Any], latents: tuple[int, int, int], size: tuple[int, int]
) -> None:
    import diffusers
    import torch

    torch.manual_seed(0)
    vae = getattr(diffusers, kind)(**config).eval()
    vae.enable_tiling()
    assert cut_tiles(vae)
    channels, height, width = latents
    with torch.no_grad():
        clip = vae.decode(torch.randn(1, channels, 1, height, width), return_dict=False)[0]
    assert tuple(clip.shape[-2:]) == size


# -- the file of one clip, the frames of the next


@pytest.fixture
def closed() -> None:
    released.clear()


def test_a_clip_is_written_while_the_next_one_is_made(
    weights: "Folders", tmp_path: Path, closed: None
) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    desk.worker.accept(job("a", "held", tmp_path))
    # The file of the first waits for the frames of the second: one after the other, they would wait for ever.
    desk.worker.accept(job("b", "release", tmp_path))
    assert {done(desk.await_end())["frames"], done(desk.await_end())["frames"]} == {1}
    assert all((tmp_path / name).stat().st_size for name in ("a.mp4", "b.mp4"))
    order = [type(said).__name__ for said in desk.said if isinstance(said, Rendered | Done)]
    assert order[0] == "Rendered"


def test_at_most_one_clip_waits_to_be_a_file(weights: "Folders", tmp_path: Path, closed: None) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    for name, prompt in (("a", "endless"), ("b", "fine"), ("c", "fine")):
        desk.worker.accept(job(name, prompt, tmp_path))
    desk.await_step("b", "denoise")
    # The second has its latents; the third must not begin before they can be handed on.
    assert [said.ticket for said in desk.said if isinstance(said, Rendered)] == ["a"]
    desk.worker.accept(Cancel("a"))
    ends = [desk.await_end() for _ in range(3)]
    first = next(end for end in desk.said if isinstance(end, Failed))
    assert (first.ticket, first.kind) == ("a", "cancelled")
    assert len(ends) == 3
    assert not (tmp_path / "a.mp4").exists()
    assert not (tmp_path / "a.mp4.part").exists()
    steps = [said.ticket for said in desk.said if isinstance(said, Step)]
    assert steps.index("c") > steps.index("b")


def test_a_file_that_cannot_be_written_fails_its_own_job_only(weights: "Folders", tmp_path: Path) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    desk.worker.accept(job("a", "fine", tmp_path / "not" / "there"))
    desk.worker.accept(job("b", "fine", tmp_path))
    desk.await_end()
    desk.await_end()
    ends = {said.ticket: said for said in desk.said if isinstance(said, Done | Failed)}
    assert isinstance(ends["a"], Failed)
    assert ends["a"].left == "model"
    assert isinstance(ends["b"], Done)


def test_a_cancel_of_the_next_job_works_while_a_file_is_written(weights: "Folders", tmp_path: Path) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    desk.worker.accept(job("a", "endless", tmp_path))
    desk.worker.accept(job("b", "steps", tmp_path))
    desk.await_step("b", "denoise")
    desk.worker.accept(Cancel("b"))
    ended = desk.await_end()
    assert isinstance(ended, Failed)
    assert (ended.ticket, ended.kind) == ("b", "cancelled")
    desk.worker.accept(Cancel("a"))
    desk.await_end()
    done(desk.ask(run("fine", tmp_path)))


def test_a_job_that_was_taken_back_is_not_begun(weights: "Folders", tmp_path: Path) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    desk.worker.accept(job("a", "steps", tmp_path))
    desk.worker.accept(job("b", "fine", tmp_path))
    desk.await_step("a", "denoise")
    desk.worker.accept(Cancel("b"))
    desk.worker.accept(Cancel("a"))
    assert [getattr(desk.await_end(), "kind", None) for _ in range(2)] == ["cancelled", "cancelled"]
    assert all(said.ticket == "a" for said in desk.said if isinstance(said, Step))


# -- the frames of one clip beside the steps of the next


def test_a_clip_is_decoded_while_the_next_one_is_denoised(
    weights: "Folders", tmp_path: Path, closed: None
) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    # The frames of the first wait for the steps of the second: one after the other, they would wait for ever.
    for name, prompt in (("a", "latents held"), ("b", "release")):
        desk.worker.accept(job(name, prompt, tmp_path))
    for _ in range(2):
        measured = done(desk.await_end())["measured"]
        assert measured["beside"], "its peak of memory would be that of two"
        assert "peak_gb" not in measured
    rendered = [said for said in desk.said if isinstance(said, Rendered)]
    assert [(said.ticket, said.decoded) for said in rendered] == [("a", False), ("b", False)]


def test_on_a_device_without_room_for_two_a_clip_is_decoded_first(weights: "Folders", tmp_path: Path) -> None:
    desk = Desk(SMALL)
    desk.ask(load(weights.ti2v))
    for name in ("a", "b"):
        desk.worker.accept(job(name, "fine", tmp_path))
    for _ in range(2):
        assert "beside" not in done(desk.await_end())["measured"]
    assert all(said.decoded for said in desk.said if isinstance(said, Rendered))


def test_a_job_that_must_be_alone_waits_for_the_frames_before_it(
    weights: "Folders", tmp_path: Path, closed: None
) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    desk.worker.accept(job("a", "latents held", tmp_path))
    desk.worker.accept(replace(job("b", "fine", tmp_path), alone=True))
    desk.await_step("a", "decode")
    released.set()
    assert "beside" not in done(desk.await_end())["measured"]
    done(desk.await_end())
    steps = [(said.ticket, said.phase) for said in desk.said if isinstance(said, Step)]
    assert steps.index(("b", "encode")) > steps.index(("a", "write"))
    assert [said.decoded for said in desk.said if isinstance(said, Rendered)] == [False, True]


def test_a_clip_without_room_beside_the_next_is_decoded_alone_and_so_is_every_later_one(
    weights: "Folders", tmp_path: Path
) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    for name, prompt in (("a", "no room beside"), ("b", "fine"), ("c", "fine")):
        desk.worker.accept(job(name, prompt, tmp_path))
    for _ in range(3):
        done(desk.await_end())
    told = [said.ticket for said in desk.said if isinstance(said, Done)]
    assert sorted(told) == ["a", "b", "c"]
    denoised = [said for said in desk.said if isinstance(said, Step) and said.phase == "denoise"]
    assert [step.ticket for step in denoised] == ["a", "b", "c"], "its latents were kept"
    assert [said.decoded for said in desk.said if isinstance(said, Rendered)][-1]
    # Nobody follows: it is taken up again all the same.
    assert desk.worker._model is not None
    desk.worker._model.room_beside = True
    done(desk.ask(job("d", "no room beside", tmp_path)))


def test_steps_without_room_beside_a_decoding_are_made_again_alone_by_the_same_plan(
    weights: "Folders", tmp_path: Path, closed: None
) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    assert desk.worker._model is not None
    pipe = desk.worker._model.pipe
    for name, prompt in (("a", "decodes until released"), ("b", "no room beside a decoding"), ("c", "fine")):
        desk.worker.accept(job(name, prompt, tmp_path))
    for _ in range(3):
        done(desk.await_end())
    ends = {said.ticket: said.details["measured"] for said in desk.said if isinstance(said, Done)}
    assert set(ends) == {"a", "b", "c"}
    assert "beside" not in ends["b"]
    assert desk.worker._model.pipe is pipe
    assert not desk.worker._model.decodes_beside


@pytest.mark.parametrize(("taken_back", "made"), [("a", "b"), ("b", "a")])
def test_of_two_clips_on_the_device_only_the_cancelled_one_stops(
    weights: "Folders", tmp_path: Path, closed: None, taken_back: str, made: str
) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    desk.worker.accept(job("a", "decodes until released", tmp_path))
    desk.worker.accept(job("b", "steps until released", tmp_path))
    desk.await_step("a", "decode")
    desk.await_step("b", "denoise")
    desk.worker.accept(Cancel(taken_back))
    stopped = desk.await_end()
    assert isinstance(stopped, Failed)
    assert (stopped.ticket, stopped.kind) == (taken_back, "cancelled")
    released.set()
    finished = desk.await_end()
    assert isinstance(finished, Done)
    assert finished.ticket == made
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("a.", "b."))] == [f"{made}.mp4"]


def test_clips_made_beside_each_other_have_the_frames_that_they_have_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: dict[str, bytes] = {}

    def keep(path: Path, pictures: Any, *_: Any) -> None:
        frames[path.stem] = pictures.tobytes()

    monkeypatch.setattr("local_models._loaded.cores", lambda: 2)
    monkeypatch.setattr("local_models._finishing.write_mp4", keep)
    desk = Desk(0.0, "cpu")
    shipped = Path(local_models.__file__).parent / "tiny" / "weights"
    desk.ask(Load("local/tiny", "local_models.wan", str(shipped), "cpu", 64, 64, 17))

    def clip(name: str, seed: int) -> Run:
        render = Render(f"a red ball, take {seed}", 64, 64, 17, 8, 4, seed, 2.5, max_sequence_length=32)
        return Run(name, str(tmp_path / f"{name}.mp4"), render, "local/tiny")

    for seed in range(3):
        done(desk.ask(replace(clip(f"alone{seed}", seed), alone=True)))
    for seed in range(3):
        desk.worker.accept(clip(f"beside{seed}", seed))
    assert any(["beside" in done(desk.await_end())["measured"] for _ in range(3)])
    assert len(set(frames.values())) == 3
    assert all(frames[f"beside{seed}"] == frames[f"alone{seed}"] for seed in range(3))


# -- prompts


def test_the_prompts_of_waiting_jobs_are_read_in_the_same_visit(weights: "Folders", tmp_path: Path) -> None:
    desk = Desk(ROOMY)
    desk.ask(load(weights.ti2v))
    assert desk.worker._model is not None
    first = job("a", "one", tmp_path)
    desk.ask(Run(first.ticket, first.out, first.render, "m", ahead=["two", "three"]))
    assert desk.worker._model.pipe.prompts.visits == [["one", "two", "three"]]


def test_later_prompts_are_read_only_when_the_encoder_must_come_anyway() -> None:
    import torch

    from local_models._prompts import Prompts

    read: list[str] = []

    def reading(text: str, length: int, device: Any) -> tuple[dict[str, Any], bool]:
        read.append(text)
        return {"embeds": torch.zeros(1, length, 2)}, False

    prompts = Prompts([], reading, CPU_PLAN, torch.device("cpu"))
    prompts.fill(["one", ""], 4, ahead=["two", "three"])
    assert read == ["one", "", "two", "three"]
    prompts.fill(["two", ""], 4, ahead=["four"])
    assert len(read) == 4
    prompts.fill(["five"], 4, ahead=["four", "one"])
    assert read[4:] == ["five", "four"]


def test_prompts_read_ahead_never_push_out_the_one_that_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from local_models import _prompts

    read: list[str] = []

    def reading(text: str, length: int, device: Any) -> tuple[dict[str, Any], bool]:
        read.append(text)
        return {"embeds": torch.zeros(1, 100)}, False

    monkeypatch.setattr(_prompts, "BYTES_KEPT", 3 * 400)
    prompts = _prompts.Prompts([], reading, CPU_PLAN, torch.device("cpu"))
    prompts.fill(["old"], 4)
    prompts.fill(["one", ""], 4, ahead=["two", "three", "four", "five"])
    assert read == ["old", "one", "", "two", "three"]
    for text in ("one", "", "two"):
        prompts.embed(text, 4)
    assert len(read) == 5


def job(ticket: str, prompt: str, to: Path) -> Run:
    like = run(prompt, to)
    return Run(ticket, str(to / f"{ticket}.mp4"), like.render, like.model)
