"""From folders and caches of this machine; what is listed and removed."""

import asyncio
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from router.contract import errors
from router.contract.card import ModelCard
from router.weights import Origin, installed_folder
from tests.hub_twin import HubTwin
from tests.router.weights.conftest import (
    CARD,
    FILE,
    MODEL,
    REPOSITORY,
    TINY,
    Shelf,
    bring,
    holds,
    nothing_whole,
)


async def test_a_copied_data_folder_is_checked_by_its_receipt(
    hub: HubTwin, shelf: Shelf, home: Path, tmp_path: Path
) -> None:
    stick = shutil.copytree((await bring(shelf())).folder, tmp_path / "stick")
    await shelf().remove("pulled")
    hub.repos.clear()
    asked = len(hub.asked)
    row = await bring(shelf(), folder=stick)
    assert len(hub.asked) == asked
    assert (row.origin, row.revision, holds(row.folder)) == (Origin.FOLDER, row.revision, holds(stick))
    # One flipped bit in the middle of the numbers: length and header still agree.
    await shelf().remove("pulled")
    data = bytearray((stick / FILE).read_bytes())
    data[-1000] ^= 1
    (stick / FILE).unlink()
    (stick / FILE).write_bytes(data)
    with pytest.raises(errors.ServerTrouble, match=FILE):
        await bring(shelf(), folder=stick)
    assert nothing_whole(home)


async def test_a_folder_without_a_receipt_is_checked_by_headers(
    shelf: Shelf, home: Path, tmp_path: Path
) -> None:
    stick = Path(shutil.copytree(TINY, tmp_path / "stick"))
    plan = await shelf().plan("pulled", folder=stick)
    assert not plan.verified
    assert (await shelf().pull(plan, accept=True)).problem is None
    await shelf().remove("pulled")
    (stick / FILE).write_bytes((stick / FILE).read_bytes()[:-100])
    with pytest.raises(errors.ServerTrouble, match="would not load") as caught:
        await bring(shelf(), folder=stick)
    assert "transformer" in caught.value.message.ja
    assert nothing_whole(home)


async def test_a_folder_of_another_model_is_refused(shelf: Shelf, home: Path, tmp_path: Path) -> None:
    own = home / "providers" / "own.toml"
    own.write_text(CARD.replace("0.0017", "1.4"), encoding="utf-8")
    with pytest.raises(errors.ServerTrouble, match="another model"):
        await bring(shelf(), folder=TINY)
    with pytest.raises(errors.InvalidRequest, match="is not a folder"):
        await bring(shelf(), folder=tmp_path / "nowhere")


async def test_the_librarys_own_cache_serves_a_machine_without_a_network(
    hub: HubTwin, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also proves the twin: the hub's own client takes it for the hub.
    snapshot = await asyncio.to_thread(
        huggingface_hub.snapshot_download, REPOSITORY, endpoint=hub.url, tqdm_class=None
    )
    assert (Path(snapshot) / FILE).read_bytes() == (TINY / FILE).read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    row = await bring(shelf())
    assert (row.origin, row.revision) == (Origin.CACHE, hub.repos[REPOSITORY].commit)
    assert not (row.folder / FILE).is_symlink()
    await shelf().remove("pulled")
    assert (Path(snapshot) / FILE).is_file(), "the cache keeps its own"
    blob = (Path(snapshot) / FILE).resolve()
    blob.write_bytes(blob.read_bytes()[::-1])
    with pytest.raises(errors.ServerTrouble, match=FILE):
        await bring(shelf())


async def test_files_in_the_cache_are_not_fetched_from_the_hub(hub: HubTwin, shelf: Shelf) -> None:
    await asyncio.to_thread(huggingface_hub.snapshot_download, REPOSITORY, endpoint=hub.url)
    asked = len(hub.ranges(FILE))
    assert (await bring(shelf())).origin is Origin.HUB
    assert len(hub.ranges(FILE)) == asked


async def test_remove_frees_the_room_and_a_second_one_has_nothing_to_do(hub: HubTwin, shelf: Shelf) -> None:
    row = await bring(shelf())
    assert await shelf().remove(MODEL) == row.bytes > 5_000_000
    assert not row.folder.exists()
    with pytest.raises(errors.NotFound, match="No weights"):
        await shelf().remove("pulled")


async def test_a_damaged_file_and_a_folder_without_a_card_are_listed(
    hub: HubTwin, shelf: Shelf, home: Path
) -> None:
    row = await bring(shelf())
    (row.folder / FILE).write_bytes(b"cut")
    shutil.copytree(TINY, home / "models" / "old-model")
    rows = {row.name: row for row in await shelf().installed()}
    assert FILE in str(rows["pulled"].problem)
    assert (rows["old-model"].model, rows["old-model"].origin) == (None, Origin.FOLDER)
    await shelf().remove("old-model")
    assert not (home / "models" / "old-model").exists()


async def test_a_folder_of_ones_own_that_is_cut_off_is_listed_as_damaged(
    shelf: Shelf, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(TINY, own)
    local = {"models": {"pulled": str(own)}}
    rows = {row.name: row for row in await shelf(local=local).installed()}
    assert (rows["pulled"].origin, rows["pulled"].problem) == (Origin.SETTING, None)
    (own / FILE).write_bytes((own / FILE).read_bytes()[:-100])
    rows = {row.name: row for row in await shelf(local=local).installed()}
    assert FILE in str(rows["pulled"].problem)


def test_no_card_can_name_a_folder_outside() -> None:
    row = {
        "id": "local/a/../../../etc",
        "backend": "local",
        "wire_id": "x",
        "family": "x",
        "tasks": ["text-to-video"],
        "as_of": "2026-11-26",
        "source": "tests",
    }
    assert installed_folder(Path("/data"), ModelCard.model_validate(row)).parent == Path("/data/models")
