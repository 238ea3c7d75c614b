"""A diffusers directory to a pipeline in memory: its own files, a GGUF or single-file transformer, speed LoRAs."""

from importlib.util import find_spec
from typing import Any

import diffusers
import torch

from local_models._memory import LoadPlan
from local_models._weights import LORAS, Part, Weights, WeightsBroken, damaged
from router.contract.words import words

# diffusers is typed in part only.
_Gguf: Any = diffusers.GGUFQuantizationConfig
_LOADER_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)


def load_pipeline(kind: Any, weights: Weights, plan: LoadPlan, **given: Any) -> Any:
    """`kind.from_pretrained` of the directory; a loader's own complaint becomes WeightsBroken.

    `given` replaces components or flags of the directory. Needs no network. `torch.OutOfMemoryError` and
    `MemoryError` pass through.
    """
    dtype = getattr(torch, plan.dtype)
    single = {name: part for name, part in weights.parts.items() if part.form != "diffusers"}
    _check_packages(weights, single)
    try:
        parts = {name: _single_file(weights, name, part, dtype) for name, part in single.items()}
        loaded = kind.from_pretrained(
            weights.directory, dtype=dtype, local_files_only=True, use_safetensors=True, **parts, **given
        )
        _merge_loras(loaded, weights)
    except _LOADER_ERRORS as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise
        raise damaged(weights.directory.name, type(error).__name__) from error
    for module in loaded.components.values():
        if isinstance(module, torch.nn.Module):
            module.eval().requires_grad_(False)
    return loaded


def quantised(module: Any) -> bool:
    """Whether its weights are packed already: then they are neither cast nor merged with anything."""
    return getattr(module, "hf_quantizer", None) is not None


def _single_file(weights: Weights, name: str, part: Part, dtype: torch.dtype) -> Any:
    kind = getattr(diffusers, str(weights.index[name][1]))
    more: dict[str, Any] = {}
    if part.form == "gguf":
        more["quantization_config"] = _Gguf(compute_dtype=dtype)
    return kind.from_single_file(
        str(part.file),
        config=str(weights.directory),
        subfolder=name,
        torch_dtype=dtype,
        local_files_only=True,
        **more,
    )


def _merge_loras(pipeline: Any, weights: Weights) -> None:
    """Each LoRA into the weights of its transformer, before anything is cast or offloaded.

    Merged weights cost nothing per step and obey every plan; a quantised transformer keeps the LoRA beside its own.
    """
    for name, file in weights.loras.items():
        more = {"load_into_transformer_2": True} if name == "transformer_2" else {}
        pipeline.load_lora_weights(
            str(weights.directory / LORAS), weight_name=file.name, adapter_name=f"speed_{name}", **more
        )
        transformer = getattr(pipeline, name)
        if not quantised(transformer):
            transformer.fuse_lora()
            transformer.unload_lora()


def _check_packages(weights: Weights, single: dict[str, Part]) -> None:
    needed = {"gguf": any(part.form == "gguf" for part in single.values()), "peft": bool(weights.loras)}
    for package, need in needed.items():
        if need and find_spec(package) is None:
            raise WeightsBroken(
                words(
                    f"The weights in {weights.directory.name!r} need the package {package}. "
                    f"Install it: pip install {package}",
                    f"{weights.directory.name!r} の重みには {package} パッケージが必要です。"
                    f"pip install {package} でインストールしてください。",
                )
            )
