"""What lies in a diffusers directory: whole or damaged, and how many parameters each part has. No torch needed."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from router.contract.words import Words, words

PARTS = ("transformer", "transformer_2", "text_encoder", "image_encoder", "vae")
"""The folders that hold weights; each is needed where `model_index.json` names it."""
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


@dataclass(frozen=True)
class Weights:
    """A diffusers directory that is complete as far as names, sizes and headers tell."""

    directory: Path
    index: dict[str, Any]
    parts: dict[str, Part]


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
            parts[part] = _part(directory / part, name)
    if "vae" not in parts:
        raise damaged(name, "model_index.json")
    return Weights(directory, index, parts)


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


def _part(folder: Path, name: str) -> Part:
    config = _json(folder / "config.json", name)
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    if indexes:
        mapping = _json(indexes[0], name).get("weight_map")
        if not isinstance(mapping, dict):
            raise damaged(name, f"{folder.name}/{indexes[0].name}")
        files = [folder / str(file) for file in sorted(set(mapping.values()))]
    else:
        files = sorted(folder.glob("*.safetensors"))[:1]
    if not files:
        raise damaged(name, f"{folder.name}/*.safetensors")
    return Part(sum(_parameters(file, name) for file in files), config)


def _parameters(file: Path, name: str) -> int:
    """Parameters by the file's header; the header must agree with the file's length."""
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
        count = sum(int(prod(entry["shape"])) for entry in tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise damaged(name, what) from None
    if not tensors or 8 + length + end != size:
        raise damaged(name, what)
    return count
