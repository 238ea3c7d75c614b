"""Directories of random weights in diffusers format, from configurations alone; nothing is downloaded.

Components are built on the meta device, so that names and shapes are the library's own, and written tensor by tensor:
no component is ever in memory as a whole. Components that several models share lie on disk once (hard links).
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import diffusers
import diffusers.pipelines.ltx2
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from benchmarks.gpu.configs import Model, Part

BLOCK = 1 << 22
"""Random numbers that are made; longer tensors repeat them."""
SPARE_BYTES = 2_000_000_000
"""Left free on the disk."""
_LIBRARIES: Mapping[str, Any] = {
    "diffusers": diffusers,
    "transformers": transformers,
    "ltx2": diffusers.pipelines.ltx2,
}
_TEMPLATE = "{{ 'a' * 108 }}{{ messages[-1]['content'] }}"
"""HunyuanVideo-1.5 cuts off 108 tokens, the length of the makers' instructions."""


class NoRoom(Exception):
    """The disk has too little room for these weights."""


def directory(model: Model, cache: Path) -> Path:
    """The model's diffusers directory below `cache`, written if it is not there. Raises NoRoom."""
    target = cache / "models" / f"{model.card.rpartition('/')[2]}-{_digest(model)}"
    if target.is_dir():
        return target
    _clear(cache)
    meta = {name: _on_meta(part) for name, part in model.parts.items()}
    written = {name: cache / "parts" / _digest(part) for name, part in model.parts.items()}
    missing = {written[name]: name for name in meta if not written[name].is_dir()}
    _make_room(cache, sum(_bytes(meta[name]) for name in missing.values()), set(written.values()))
    for folder, name in missing.items():
        with _whole(folder) as draft:
            _save(meta[name], model.parts[name], draft)
    with _whole(target) as draft:
        _pipeline(model, meta).save_config(draft)
        for name, part in model.settings.items():
            made(part).save_pretrained(draft / name)
        for name, kind in model.tokenizers.items():
            _tokenizer(kind).save_pretrained(draft / name)
        for name, folder in written.items():
            (draft / name).mkdir()
            for file in folder.iterdir():
                os.link(file, draft / name / file.name)
    return target


def tensors(part: Part) -> dict[str, torch.Tensor]:
    """Names and shapes of a component's weights, on the meta device; tied ones once."""
    return _unique(_on_meta(part))


def _digest(value: Model | Part) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


class _whole:
    """A folder that is there whole or not at all."""

    def __init__(self, target: Path) -> None:
        self._target = target
        target.parent.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Path:
        self._draft = Path(tempfile.mkdtemp(prefix="draft-", dir=self._target.parent))
        return self._draft

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._draft.replace(self._target)
        else:
            shutil.rmtree(self._draft, ignore_errors=True)


def made(part: Part) -> Any:
    """The component, with the library's own random weights."""
    kind = getattr(_LIBRARIES[part.library], part.kind)
    if part.library == "transformers":
        return kind(kind.config_class(**part.config))
    return kind(**part.config)


def _on_meta(part: Part) -> Any:
    with torch.device("meta"):
        return made(part)


def _unique(module: Any) -> dict[str, torch.Tensor]:
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def _bytes(module: Any) -> int:
    return 2 * sum(tensor.numel() for tensor in _unique(module).values())


def _pipeline(model: Model, meta: Mapping[str, Any]) -> Any:
    """Only for its `model_index.json`."""
    settings = {name: made(part) for name, part in model.settings.items()}
    tokenizers = {name: _tokenizer(kind) for name, kind in model.tokenizers.items()}
    kind = getattr(diffusers, model.pipeline)
    return kind(**meta, **settings, **tokenizers, **model.flags)


def _save(module: Any, part: Part, folder: Path) -> None:
    if part.library == "transformers":
        file = folder / "model.safetensors"
        module.config.architectures = [part.kind]
        module.config.dtype = torch.bfloat16
        module.config.save_pretrained(folder)
    else:
        file = folder / "diffusion_pytorch_model.safetensors"
        module.save_config(folder)
    found = _unique(module)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in found.items():
        start, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(1))
        for name, tensor in found.items():
            for piece in _values(name, tensor, block):
                stream.write(piece)


def _values(name: str, tensor: torch.Tensor, block: torch.Tensor) -> Iterator[bytes]:
    """Bytes in bf16: noise that keeps a layer's variance, so that nothing overflows; norms 1, biases 0."""
    count = tensor.numel()
    each = prod(tensor.shape[1:])
    if tensor.ndim >= 2 and each > 1:
        noise = block[: min(count, BLOCK)] * each**-0.5
    else:
        zero = name.endswith(("bias", "mean", "mean-of-means"))
        noise = torch.full((min(count, BLOCK),), 0.0 if zero else 1.0)
    piece = noise.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    left = 2 * count
    while left > 0:
        yield piece[:left]
        left -= len(piece)


def _tokenizer(kind: str) -> Any:
    if kind == "byt5":
        return _LIBRARIES["transformers"].ByT5Tokenizer()
    letters = {letter: 2 + n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    raw = Tokenizer(models.BPE(vocab={"<pad>": 0, "</s>": 1, **letters}, merges=[], unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made = _LIBRARIES["transformers"].PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>"
    )
    if kind == "chat":
        made.chat_template = _TEMPLATE
    return made


def _clear(cache: Path) -> None:
    """Remove what a killed process left half written."""
    for draft in cache.glob("*/draft-*"):
        shutil.rmtree(draft, ignore_errors=True)


def _make_room(cache: Path, needed: int, keep: set[Path]) -> None:
    """Remove what other models left, until there is room. Raises NoRoom."""
    cache.mkdir(parents=True, exist_ok=True)

    def short() -> int:
        return needed + SPARE_BYTES - shutil.disk_usage(cache).free if needed else 0

    # A part's files lie on the disk until the last model that links them is gone, so models go first.
    for folder in (*(cache / "models").glob("*"), *(cache / "parts").glob("*")):
        if short() > 0 and folder not in keep:
            shutil.rmtree(folder, ignore_errors=True)
    if short() > 0:
        raise NoRoom(
            f"{needed / 1e9:.0f} GB of weights do not fit on the disk of the cache: {short() / 1e9:.0f} GB are missing. "
            "Name a roomier folder with --cache."
        )
