"""Which files of a repository are fetched."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from router.contract import errors
from router.weights.choosing import choose


def _repository(*names: str, shards: tuple[str, ...] = ()) -> tuple[tuple[str, ...], Callable[[str], bytes]]:
    index = {"_class_name": "X", "vae": ["diffusers", "VAE"], "tokenizer": ["transformers", "T5Tokenizer"]}
    texts: dict[str, Any] = {"model_index.json": index, "none": [None, None]}

    def read(path: str) -> bytes:
        return json.dumps(texts.get(path, {"weight_map": dict(enumerate(shards))})).encode()

    return ("model_index.json", "tokenizer/spiece.model", "vae/config.json", *names), read


def test_shards_are_taken_by_their_index_and_other_precisions_left_out() -> None:
    names, read = _repository(
        "vae/diffusion_pytorch_model.safetensors.index.json",
        "vae/diffusion_pytorch_model.safetensors.index.fp16.json",
        "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
        "vae/diffusion_pytorch_model-00002-of-00002.safetensors",
        "vae/diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
        "vae/diffusion_pytorch_model.bin",
        shards=tuple(f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)),
    )
    assert choose(names, read, "a/b") == (
        "model_index.json",
        "tokenizer/spiece.model",
        "vae/config.json",
        "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
        "vae/diffusion_pytorch_model-00002-of-00002.safetensors",
        "vae/diffusion_pytorch_model.safetensors.index.json",
    )


@pytest.mark.parametrize(
    ("library", "stem"), [("transformers", "model"), ("diffusers", "diffusion_pytorch_model")]
)
@pytest.mark.parametrize("sharded", [False, True])
def test_of_two_copies_the_one_that_the_library_reads_is_taken(
    library: str, stem: str, sharded: bool
) -> None:
    """As in the repository of LTX-2."""
    ending = "-00001-of-00001.safetensors" if sharded else ".safetensors"
    both = ("model", "diffusion_pytorch_model")
    files = [f"encoder/{name}{ending}" for name in both]
    files += [f"encoder/{name}.safetensors.index.json" for name in both] if sharded else []
    index = {"encoder": [library, "Encoder"]}

    def read(path: str) -> bytes:
        name = path.removeprefix("encoder/").removesuffix(".safetensors.index.json")
        table = {"weight_map": {"a": f"{name}{ending}"}}
        return json.dumps(index if path == "model_index.json" else table).encode()

    found = choose(("model_index.json", *files), read, "a/b")
    assert f"encoder/{stem}{ending}" in found
    assert all(stem == name.split("/")[-1].split(".")[0].partition("-0")[0] for name in found[:-1])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("vae/diffusion_pytorch_model.bin",), "no plain safetensors"),
        (("vae/diffusion_pytorch_model.fp16.safetensors",), "no plain safetensors"),
        (("vae/model.safetensors.index.json",), r"model-1\.safetensors is missing"),
    ],
)
def test_a_repository_that_would_not_load_is_refused(names: tuple[str, ...], said: str) -> None:
    listed, read = _repository(*names, shards=("model-1.safetensors",))
    with pytest.raises(errors.ServerTrouble, match=said):
        choose(listed, read, "a/b")
    with pytest.raises(errors.ServerTrouble, match=r"no model_index\.json"):
        choose(("wan.safetensors",), read, "a/b")


def test_a_component_that_another_file_stands_in_for_brings_its_configuration_alone() -> None:
    names, read = _repository("vae/model.safetensors")
    assert choose(names, read, "a/b", {"vae"}) == (
        "model_index.json",
        "tokenizer/spiece.model",
        "vae/config.json",
    )


def test_names_that_leave_their_folder_are_never_chosen() -> None:
    names, read = _repository(
        "vae/model.safetensors",
        "vae/../../x.json",
        "vae/sub/x.json",
        "/etc/LICENSE",
        "tokenizer/.hidden.json",
    )
    assert choose(names, read, "a/b") == (
        "model_index.json",
        "tokenizer/spiece.model",
        "vae/config.json",
        "vae/model.safetensors",
    )
