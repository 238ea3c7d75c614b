"""Which files of a repository a diffusers pipeline needs: nothing twice, nothing that carries code."""

import json
import re
from collections.abc import Callable, Collection
from typing import Any

from router.contract.errors import ServerTrouble
from router.contract.words import words

INDEX = "model_index.json"
Read = Callable[[str], bytes]
"""The content of a small file of the repository; raises GatewayError."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
"""A name that is one path component and cannot leave its folder."""
_TEXTS = (".json", ".txt", ".model", ".jinja")
"""Configurations, vocabularies and templates; Python files are left out on purpose."""
_NO_WEIGHTS = ("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "ProcessorFast", "Extractor")
"""Endings of class names that have a configuration and no weights."""
_SHARDS = re.compile(r"[A-Za-z0-9_-]+\.safetensors\.index\.json")
"""Without a variant: `model.safetensors.index.fp16.json` and `model.fp16.safetensors...` do not match."""
_WHOLE = re.compile(r"[A-Za-z0-9_-]+\.safetensors")
_SHARD = re.compile(r".*-\d{5}-of-\d{5}\.safetensors")
STEMS = {
    "transformers": ("model", "diffusion_pytorch_model"),
    "diffusers": ("diffusion_pytorch_model", "model"),
}
"""Names of weights by library. LTX-2's text encoder lies in its repository under both, 52 GB each; the library that loads
it knows only the first."""
_OTHER_FORMATS = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx", ".safetensors")
_LICENCE = re.compile(r"(?i)(licen[cs]e|notice)[\w.-]*")


def choose(
    names: Collection[str], read: Read, repository: str, replaced: Collection[str] = ()
) -> tuple[str, ...]:
    """The paths to fetch, sorted; of components in `replaced` only the configuration.

    Raises ServerTrouble where the repository is not in the format that loading needs.
    """
    if INDEX not in names:
        raise _unusable(repository, f"no {INDEX}", f"{INDEX} がありません")
    index = _json(read(INDEX), INDEX, repository)
    chosen = {INDEX, *(name for name in names if _LICENCE.fullmatch(name))}
    for part, entry in sorted(index.items()):
        if not isinstance(entry, list) or len(entry) != 2 or entry[0] is None or not _PLAIN.fullmatch(part):
            continue
        inside = {
            name.removeprefix(f"{part}/")
            for name in names
            if name.startswith(f"{part}/") and _PLAIN.fullmatch(name.removeprefix(f"{part}/"))
        }
        if not inside:
            raise _unusable(repository, f"the folder {part} is missing", f"フォルダー {part} がありません")
        texts = {n for n in inside if n.endswith(_TEXTS) and ".index." not in n and "flax" not in n}
        weights = set() if part in replaced else _weights(part, inside, entry, read, repository)
        chosen |= {f"{part}/{name}" for name in texts | weights}
    return tuple(sorted(chosen))


def _weights(part: str, inside: set[str], entry: list[Any], read: Read, repository: str) -> set[str]:
    """The safetensors files of one component, with their index where they are in shards. `entry`: library and class."""
    stems = STEMS["transformers" if entry[0] == "transformers" else "diffusers"]
    if str(entry[1]).endswith(_NO_WEIGHTS):
        return set()
    indexes = sorted(name for name in inside if _SHARDS.fullmatch(name))
    if indexes:
        index = _usual(indexes, stems, ".index.json")
        table = _json(read(f"{part}/{index}"), f"{part}/{index}", repository).get("weight_map")
        shards = {str(name) for name in table.values()} if isinstance(table, dict) else set()
        lost = sorted(shards - inside)
        if not shards or lost:
            what = f"{part}/{lost[0] if lost else index}"
            raise _unusable(repository, f"{what} is missing or empty", f"{what} がないか空です")
        return {index, *shards}
    whole = sorted(name for name in inside if _WHOLE.fullmatch(name) and not _SHARD.fullmatch(name))
    if whole:
        return {_usual(whole, stems)}
    if any(name.endswith(_OTHER_FORMATS) for name in inside) or "config.json" in inside:
        raise _unusable(
            repository,
            f"{part} has no plain safetensors file",
            f"{part} に通常の safetensors ファイルがありません",
        )
    return set()


def _usual(names: list[str], stems: tuple[str, str], ending: str = "") -> str:
    """The name that the component's library looks for; a repository with others beside it has the same weights twice."""
    wanted = (f"{stem}.safetensors{ending}" for stem in stems)
    return next((name for name in wanted if name in names), names[0])


def _json(data: bytes, name: str, repository: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _unusable(repository, f"{name} is damaged", f"{name} が壊れています")
    return value


def _unusable(repository: str, en: str, ja: str) -> ServerTrouble:
    return ServerTrouble(
        words(
            f"{repository} cannot be used: {en}. Needed is the diffusers format with safetensors files; look for a "
            "repository whose name ends in -Diffusers, or for another --revision.",
            f"{repository} は使用できません: {ja}。safetensors 形式の diffusers リポジトリが必要です。"
            "名前が -Diffusers で終わるリポジトリか、別の --revision を指定してください。",
        )
    )
