"""What is said about a model folder that is missing, half downloaded or damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local_models._weights import WeightsBroken, inspect

if TYPE_CHECKING:
    from tests.local_models.random_weights import Folders

Copied = Callable[[Path], Path]
FILE = "transformer/diffusion_pytorch_model.safetensors"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")


def _html(path: Path) -> None:
    path.write_text("<html>", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        (FILE, _cut),
        (FILE, _empty),
        (FILE, _pointer),
        (FILE, Path.unlink),
        ("vae/config.json", _html),
        ("text_encoder/config.json", Path.unlink),
        ("model_index.json", _html),
        ("model_index.json", Path.unlink),
    ],
)
def test_the_damaged_file_is_named_and_the_machine_is_not(
    weights: "Folders", copied: Copied, name: str, harm: Callable[[Path], None]
) -> None:
    folder = copied(weights.ti2v)
    harm(folder / name)
    with pytest.raises(WeightsBroken, match="'my-model'") as caught:
        inspect(folder)
    assert name.split("/")[0] in str(caught.value)
    assert str(folder) not in str(caught.value)
    assert "ダウンロード" in caught.value.message.ja


def test_every_shard_is_needed(weights: "Folders", copied: Copied) -> None:
    folder = copied(weights.ti2v)
    whole = folder / FILE
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (whole.parent / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps(index), encoding="utf-8"
    )
    whole.rename(whole.with_name("one.safetensors"))
    with pytest.raises(WeightsBroken, match=r"two\.safetensors"):
        inspect(folder)


def test_of_two_copies_the_one_that_the_library_reads_is_checked(weights: "Folders", copied: Copied) -> None:
    folder = copied(weights.ti2v)
    stale = folder / "text_encoder" / "diffusion_pytorch_model.safetensors"
    stale.write_bytes(b"half a download")
    assert inspect(folder).parts["text_encoder"].parameters > 0
    (stale.parent / "model.safetensors").unlink()
    with pytest.raises(WeightsBroken, match="text_encoder"):
        inspect(folder)


def test_parameters_are_counted_from_the_headers(weights: "Folders") -> None:
    parts = inspect(weights.two_experts).parts
    assert set(parts) == {"transformer", "transformer_2", "text_encoder", "vae"}
    assert parts["transformer"].parameters == parts["transformer_2"].parameters > 10_000
