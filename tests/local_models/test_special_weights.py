"""Weights that are no plain diffusers folder: GGUF and single-file transformers, step-distilling LoRAs, recipes."""

import importlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from local_models._memory import DeviceFacts, LoadPlan, options
from local_models._messages import Render
from local_models._weights import WeightsBroken, inspect

if TYPE_CHECKING:
    from tests.local_models.random_families import Family
    from tests.local_models.random_weights import Folders

Copied = Callable[[Path], Path]
CLIP = Render("a ball", 32, 32, 9, 8, steps=3, seed=5, guidance=1.0, max_sequence_length=16)
WAN_NAMES = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    *(("attn1", "self_attn"), ("attn2", "cross_attn"), (".to_out.0.", ".o."), ("norm2", "norm3")),
    *((".to_q.", ".q."), (".to_k.", ".k."), (".to_v.", ".v.")),
    *(("ffn.net.0.proj", "ffn.0"), ("ffn.net.2", "ffn.2"), ("proj_out", "head.head")),
)
"""Ours to the makers'."""
needs_gguf = pytest.mark.skipif(find_spec("gguf") is None, reason="the package gguf is not installed")


@pytest.fixture
def wan() -> Any:
    return importlib.import_module("local_models.wan")


@pytest.fixture
def ltx() -> Any:
    return importlib.import_module("local_models.ltx")


def tensors_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "diffusion_pytorch_model.safetensors")


def makers_name(name: str) -> str:
    if name == "scale_shift_table":
        return "head.modulation"
    for ours, theirs in WAN_NAMES:
        name = name.replace(ours, theirs)
    return name.replace("scale_shift_table", "modulation")


def as_gguf(folder: Path) -> Path:
    """Replace the safetensors by a Q8_0 file with the makers' names."""
    import gguf

    file = folder / "model-Q8_0.gguf"
    writer = gguf.GGUFWriter(str(file), "wan")
    for name, tensor in tensors_of(folder).items():
        array = tensor.float().numpy()
        quantised = name.endswith("weight") and array.ndim == 2 and array.shape[1] % 32 == 0
        kind = gguf.GGMLQuantizationType.Q8_0 if quantised else gguf.GGMLQuantizationType.F32
        writer.add_tensor(makers_name(name), gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    return file


def add_lora(folder: Path, name: str, strength: float) -> None:
    """A rank-4 LoRA on the queries, with the names that trainers of Wan write."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(3)
    made = {}
    for block in range(2):
        for attention in ("self_attn", "cross_attn"):
            for part in ("q", "k", "v", "o"):
                key = f"diffusion_model.blocks.{block}.{attention}.{part}"
                made[f"{key}.lora_down.weight"] = torch.randn(4, 32) * strength
                made[f"{key}.lora_up.weight"] = torch.randn(32, 4) * strength
    (folder / "loras").mkdir(exist_ok=True)
    save_file(made, folder / "loras" / f"{name}.safetensors")


def close(found: Any, expected: Any) -> float:
    return float(np.abs(found.frames.astype(float) - expected.frames).mean())


@needs_gguf
def test_a_gguf_transformer_makes_nearly_the_same_clip_under_every_plan(
    wan: Any, weights: "Folders", copied: Copied
) -> None:
    expected = wan.generate(wan.load(weights.ti2v), CLIP)
    folder = copied(weights.ti2v)
    as_gguf(folder / "transformer")
    plans = (
        LoadPlan(),
        LoadPlan("float32", offload="group"),
        LoadPlan("float32", layerwise_fp8=True),
    )
    clips = [wan.generate(wan.load(folder, plan), CLIP) for plan in plans]
    assert 0 < close(clips[0], expected) < 3
    assert np.array_equal(clips[0].frames, clips[1].frames)
    assert np.array_equal(clips[0].frames, clips[2].frames)


@needs_gguf
def test_a_gguf_file_is_counted_and_a_truncated_one_found(weights: "Folders", copied: Copied) -> None:
    folder = copied(weights.ti2v)
    plain = inspect(folder).parts["transformer"].parameters
    file = as_gguf(folder / "transformer")
    part = inspect(folder).parts["transformer"]
    assert (part.form, part.parameters) == ("gguf", plain)
    assert part.stored_bytes == file.stat().st_size
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(WeightsBroken, match=r"transformer/model-Q8_0\.gguf"):
        inspect(folder)
    file.write_bytes(b"GGUF")
    with pytest.raises(WeightsBroken, match="incomplete or damaged"):
        inspect(folder)


def test_without_the_gguf_package_it_is_said_what_to_install(
    wan: Any, weights: "Folders", copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    folder = copied(weights.ti2v)
    if find_spec("gguf") is None:
        pytest.skip("without the package no file can be made")
    as_gguf(folder / "transformer")
    # What the import system keeps for a module that is not to be found.
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(WeightsBroken, match="pip install gguf") as caught:
        wan.load(folder)
    assert "インストール" in caught.value.message.ja


@pytest.mark.parametrize("offload", ["none", "group"])
def test_a_pair_of_loras_is_merged_into_its_experts_before_they_are_offloaded(
    wan: Any, weights: "Folders", copied: Copied, offload: Any
) -> None:
    plan = LoadPlan("float32", offload=offload)
    plain = wan.generate(wan.load(weights.two_experts), CLIP)
    folder = copied(weights.two_experts)
    add_lora(folder, "transformer", 1.0)
    first = wan.generate(wan.load(folder, plan), CLIP)
    add_lora(folder, "transformer_2", 1.0)
    pipe = wan.load(folder, plan)
    both = wan.generate(pipe, CLIP)
    assert not np.array_equal(first.frames, plain.frames)
    assert not np.array_equal(both.frames, first.frames)
    assert not [name for name, _ in pipe.transformers[0].named_modules() if "lora" in name]


@needs_gguf
def test_a_quantised_transformer_keeps_its_lora_beside_it(
    wan: Any, weights: "Folders", copied: Copied
) -> None:
    merged_folder, folder = copied(weights.ti2v), None
    add_lora(merged_folder, "transformer", 0.5)
    merged = wan.generate(wan.load(merged_folder), CLIP)
    folder = merged_folder
    plain = wan.generate(wan.load(weights.ti2v), CLIP)
    as_gguf(folder / "transformer")
    found = wan.generate(wan.load(folder), CLIP)
    assert close(found, merged) < close(plain, merged) / 2


@needs_gguf
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_the_model_process_plans_packed_weights_with_their_lora_as_they_are_held(
    wan: Any, weights: "Folders", copied: Copied, stored: str
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = copied(weights.ti2v)
    add_lora(folder, "transformer", 0.5)
    file = folder / "loras" / "transformer.safetensors"
    save_file({key: tensor.to(getattr(torch, stored)) for key, tensor in load_file(file).items()}, file)
    assert wan.numbers(inspect(folder), 32, 32, 9).lora_b == 0, "it is merged"
    packed = as_gguf(folder / "transformer")
    planned = wan.numbers(inspect(folder), 32, 32, 9)
    assert planned.transformer_gb() * 1e9 == pytest.approx(packed.stat().st_size + 2 * planned.lora_b * 1e9)
    assert not any(option.plan.layerwise_fp8 for option in options(planned, DeviceFacts("cuda", 80.0)))
    transformer = wan.load(folder, LoadPlan("bfloat16")).transformers[0]
    beside = [tensor for name, tensor in transformer.named_parameters() if "lora" in name]
    held = sum(tensor.numel() * tensor.element_size() for tensor in beside)
    assert 2 * planned.lora_b * 1e9 == pytest.approx(held), "in bf16, whatever the file holds"


def test_a_lora_for_a_transformer_that_is_not_there_is_said(weights: "Folders", copied: Copied) -> None:
    folder = copied(weights.ti2v)
    add_lora(folder, "transformer_2", 0.5)
    with pytest.raises(WeightsBroken, match=r"loras/transformer_2\.safetensors"):
        inspect(folder)


def test_a_transformer_in_the_makers_single_file_is_the_same_transformer(
    ltx: Any, families: "dict[str, Family]", tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    clip = replace(CLIP, width=64, height=64, max_sequence_length=24)
    folder = tmp_path / "ltx"
    shutil.copytree(families["ltx"].folder, folder)
    part = folder / "transformer"
    names = {"proj_in": "patchify_proj", "time_embed": "adaln_single", "norm_q": "q_norm", "norm_k": "k_norm"}
    made = {}
    for name, tensor in tensors_of(part).items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        made[f"model.diffusion_model.{name}"] = tensor
    (part / "diffusion_pytorch_model.safetensors").unlink()
    save_file(made, part / "ltxv-2b.safetensors")
    assert inspect(folder).parts["transformer"].form == "original"
    expected = ltx.generate(ltx.load(families["ltx"].folder), clip)
    assert np.array_equal(ltx.generate(ltx.load(folder), clip).frames, expected.frames)


@pytest.mark.parametrize("scheduler", ["euler", "lcm"])
def test_a_recipe_brings_its_scheduler_and_its_levels(wan: Any, weights: "Folders", scheduler: str) -> None:
    pipe = wan.load(weights.ti2v)
    timesteps: list[float] = []
    hook = pipe.transformers[0].register_forward_pre_hook(
        lambda module, args, kwargs: timesteps.append(float(kwargs["timestep"].max())), with_kwargs=True
    )
    recipe = {"scheduler": scheduler, "sigmas": [1.0, 0.757, 0.522]}
    clip = replace(CLIP, recipe=recipe)
    first = wan.generate(pipe, clip)
    hook.remove()
    assert [round(timestep) for timestep in timesteps] == [1000, 757, 522]
    assert np.array_equal(wan.generate(pipe, clip).frames, first.frames)
    assert not np.array_equal(wan.generate(pipe, replace(clip, seed=6)).frames, first.frames)
    plain = wan.generate(pipe, CLIP)
    assert not np.array_equal(plain.frames, first.frames)
    assert np.array_equal(wan.generate(wan.load(weights.ti2v), CLIP).frames, plain.frames)
