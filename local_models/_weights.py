"""What lies in a diffusers directory: whole or damaged, and how many parameters each part has. No torch needed."""

import json
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

from local_models import _gguf
from router.contract.words import Words, words

PARTS = (
    *("transformer", "transformer_2", "text_encoder", "text_encoder_2", "image_encoder", "vae"),
    *("connectors", "audio_vae", "vocoder"),
)
"""The folders that hold weights; each is needed where `model_index.json` names it."""
LORAS = "loras"
"""A folder beside them: `loras/transformer.safetensors` is merged into that transformer when it is loaded."""
Form = Literal["diffusers", "gguf", "original"]
"""`original`: one safetensors file with the makers' own names, as their repositories hold it."""
_MAKERS_OWN = "model.diffusion_model."
"""How a tensor's name begins in such a file."""
_STEMS = ("diffusion_pytorch_model", "model")
"""Names of weights: those of diffusers, those of transformers."""
_HEADER_MAX = 100_000_000
"""Bytes; the safetensors format's own limit."""


class WeightsBroken(Exception):
    """The directory cannot be loaded; `message` says what to do and names it without its machine path."""

    def __init__(self, message: Words) -> None:
        """`message` is for the person who set up the model."""
        self.message = message
        super().__init__(message.en)


@dataclass(frozen=True)
class Part:
    """One component with weights."""

    parameters: int
    config: dict[str, Any]
    stored_bytes: int = 0
    """Length of its files; of a GGUF file, what it will take on the device."""
    form: Form = "diffusers"
    file: Path | None = None
    """The one file of a part that is not in diffusers form."""


@dataclass(frozen=True)
class Weights:
    """A diffusers directory that is complete as far as names, sizes and headers tell."""

    directory: Path
    index: dict[str, Any]
    parts: dict[str, Part]
    loras: dict[str, Path] = field(default_factory=dict)
    """By the transformer they belong to."""
    lora_parameters: dict[str, int] = field(default_factory=dict)
    """The same."""


def inspect(directory: Path) -> Weights:
    """Check every file that loading will need, by its header and length. Raises WeightsBroken.

    Reads a few kilobytes per file, so that a half-finished download is found before a job is accepted.
    """
    name = directory.name
    if not directory.is_dir():
        raise WeightsBroken(
            words(
                f"The model folder {name!r} is missing. Put the weights there or correct [local] models.",
                f"モデルのフォルダー {name!r} がありません。重みを置くか、[local] models の設定を直してください。",
            )
        )
    index = _json(directory / "model_index.json", name)
    parts = {}
    for part in PARTS:
        kind = index.get(part)
        if isinstance(kind, list) and kind and kind[0] is not None:
            parts[part] = _part(directory / part, name, _STEMS[kind[0] == "transformers"])
    if "vae" not in parts:
        raise damaged(name, "model_index.json")
    loras = {part: directory / LORAS / f"{part}.safetensors" for part in ("transformer", "transformer_2")}
    there = {part: file for part, file in loras.items() if file.exists()}
    counted: dict[str, int] = {}
    for part, file in there.items():
        if part not in parts:
            raise damaged(name, f"{LORAS}/{file.name}")
        counted[part] = _parameters(file, name)[0]
    return Weights(directory, index, parts, there, counted)


def damaged(name: str, what: str) -> WeightsBroken:
    """The message for a file that is there but unusable, or should be there and is not."""
    return WeightsBroken(
        words(
            f"The weights in {name!r} are incomplete or damaged ({what}). Download the model again, in diffusers "
            "format with safetensors files.",
            f"{name!r} の重みが不完全か壊れています({what})。diffusers 形式(safetensors)のモデルを"
            "もう一度ダウンロードしてください。",
        )
    )


def _json(path: Path, name: str) -> dict[str, Any]:
    what = path.name if path.parent.name == name else f"{path.parent.name}/{path.name}"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise damaged(name, what) from None
    if not isinstance(data, dict):
        raise damaged(name, what)
    return data


def _part(folder: Path, name: str, stem: str) -> Part:
    """`stem`: how the component's library names its weights, should there be two copies."""
    config = _json(folder / "config.json", name)
    quantised = sorted(folder.glob("*.gguf"))
    if quantised:
        return _quantised(quantised[0], config, name)
    indexes = _first(folder, f"{stem}.safetensors.index.json", "*.safetensors.index.json")
    if indexes:
        mapping = _json(indexes[0], name).get("weight_map")
        if not isinstance(mapping, dict):
            raise damaged(name, f"{folder.name}/{indexes[0].name}")
        files = [folder / str(file) for file in sorted(set(mapping.values()))]
    else:
        files = _first(folder, f"{stem}.safetensors", "*.safetensors")[:1]
    if not files:
        raise damaged(name, f"{folder.name}/*.safetensors")
    found = [_parameters(file, name) for file in files]
    made = Part(sum(count for count, _ in found), config, sum(file.stat().st_size for file in files))
    return replace(made, form="original", file=files[0]) if found[0][1] else made


def _first(folder: Path, wanted: str, pattern: str) -> list[Path]:
    """What matches the pattern, the wanted name before all others."""
    return sorted(folder.glob(pattern), key=lambda path: (path.name != wanted, path.name))


def _quantised(file: Path, config: dict[str, Any], name: str) -> Part:
    try:
        count = _gguf.parameters(file)
        size = file.stat().st_size
    except (OSError, _gguf.NotGguf):
        raise damaged(name, f"{file.parent.name}/{file.name}") from None
    return Part(count, config, size, "gguf", file)


def _parameters(file: Path, name: str) -> tuple[int, bool]:
    """Parameters by the file's header, and whether the names in it are the makers' own.

    The header must agree with the file's length.
    """
    what = f"{file.parent.name}/{file.name}"
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= min(_HEADER_MAX, size - 8):
                raise damaged(name, what)
            header = json.loads(stream.read(length))
        tensors = [entry for key, entry in header.items() if key != "__metadata__"]
        end = max((entry["data_offsets"][1] for entry in tensors), default=0)
        makers_own = any(key.startswith(_MAKERS_OWN) for key in header)
        # Such a file may hold transformer and VAE together.
        mine = _MAKERS_OWN if file.parent.name.startswith("transformer") else f"{file.parent.name}."
        count = sum(
            int(prod(entry["shape"]))
            for key, entry in header.items()
            if key != "__metadata__" and (not makers_own or key.startswith(mine))
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise damaged(name, what) from None
    if not tensors or 8 + length + end != size:
        raise damaged(name, what)
    return count, makers_own
