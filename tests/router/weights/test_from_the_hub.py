"""From the hub: cut lines, wrong bytes, other commits, files of other repositories."""

import json
from pathlib import Path

import pytest

from router.contract import errors
from router.weights import PullProgress
from tests.hub_twin import HubTwin, Repo
from tests.router.weights.conftest import (
    CARD,
    CUT,
    FILE,
    MODEL,
    REPOSITORY,
    TINY,
    Shelf,
    bring,
    holds,
    nothing_whole,
)


async def test_a_line_cut_twice_goes_on_where_it_stopped(hub: HubTwin, shelf: Shelf, home: Path) -> None:
    hub.cuts[FILE] = [CUT, CUT]
    steps: list[PullProgress] = []
    weights = shelf()
    row = await weights.pull(await weights.plan("pulled"), accept=True, tell=steps.append)
    first, second, third = hub.ranges(FILE)
    assert first is None
    # What arrived is whole network packets, so the offset is not known to the byte.
    assert 0 < int(str(second)[6:-1]) <= CUT < int(str(third)[6:-1]) <= 2 * CUT
    assert (row.folder, row.problem, row.partial_bytes) == (home / "models" / "pulled", None, 0)
    assert (row.folder / FILE).read_bytes() == (TINY / FILE).read_bytes()
    done = [step.done_bytes for step in steps]
    assert done == sorted(done)
    assert done[-1] == steps[-1].total_bytes
    assert not (home / "models" / "pulled.partial").exists()


async def test_only_what_loading_needs_is_fetched(hub: HubTwin, shelf: Shelf) -> None:
    row = await bring(shelf())
    receipt = {"understudy-weights.json"}
    assert holds(row.folder) == holds(TINY) | {"LICENSE", "tokenizer/merges.txt"} | receipt
    noted = json.loads((row.folder / "understudy-weights.json").read_text(encoding="utf-8"))
    assert noted["repository"] == REPOSITORY
    assert noted["revision"] == hub.repos[REPOSITORY].commit
    assert len(noted["files"][FILE]["sha256"]) == 64


async def test_a_server_without_ranges_is_read_again_from_the_start(hub: HubTwin, shelf: Shelf) -> None:
    hub.ignores_range = True
    hub.cuts[FILE] = [CUT]
    row = await bring(shelf())
    assert (row.folder / FILE).read_bytes() == (TINY / FILE).read_bytes()


@pytest.mark.parametrize("path", [FILE, "vae/config.json"])
async def test_other_bytes_than_announced_are_refused_and_deleted(
    hub: HubTwin, shelf: Shelf, home: Path, path: str
) -> None:
    right = hub.repos[REPOSITORY].files[path]
    hub.serves[path] = bytes([right[0] ^ 1]) + right[1:]
    with pytest.raises(errors.ServerTrouble, match=path) as caught:
        await bring(shelf())
    assert "チェックサム" in caught.value.message.ja
    assert nothing_whole(home)
    assert not list((home / "models").rglob("*.part"))
    assert path not in holds(home / "models" / "pulled.partial")
    del hub.serves[path]
    assert (await bring(shelf())).problem is None


async def test_more_bytes_than_announced_are_refused(hub: HubTwin, shelf: Shelf, home: Path) -> None:
    hub.serves[FILE] = hub.repos[REPOSITORY].files[FILE] + b"more"
    with pytest.raises(errors.ServerTrouble, match=FILE):
        await bring(shelf())
    assert nothing_whole(home)
    assert not list((home / "models").rglob("*.part"))


async def test_a_line_that_always_ends_early_is_given_up_and_gone_on_later(
    hub: HubTwin, shelf: Shelf, home: Path
) -> None:
    hub.cuts[FILE] = [CUT, *([0] * 6)]
    weights = shelf()
    with pytest.raises(errors.Unavailable, match="pull again to go on"):
        await bring(weights)
    assert nothing_whole(home)
    left = [row for row in await weights.installed() if row.model == MODEL]
    assert left[0].origin is None
    assert left[0].partial_bytes > 0
    plan = await weights.plan("pulled")
    assert plan.missing_bytes <= plan.total_bytes - left[0].partial_bytes + 1000
    before = len(hub.ranges(FILE))
    await weights.pull(plan, accept=True)
    assert str(hub.ranges(FILE)[before]).startswith("bytes=")


async def test_what_is_here_is_not_fetched_again_and_a_new_commit_replaces_it(
    hub: HubTwin, shelf: Shelf
) -> None:
    weights = shelf()
    first = await bring(weights)
    plan = await weights.plan("pulled")
    assert (plan.complete, plan.missing_bytes) == (True, 0)
    asked = len(hub.ranges(FILE))
    await weights.pull(plan)
    assert len(hub.ranges(FILE)) == asked
    hub.repos[REPOSITORY].files["LICENSE"] = b"another text"
    second = await bring(weights)
    assert second.revision != first.revision
    assert (second.folder / "LICENSE").read_bytes() == b"another text"
    assert sorted(path.name for path in second.folder.parent.iterdir()) == [".pulled.lock", "pulled"]


async def test_an_unfinished_pull_of_another_commit_is_dropped(
    hub: HubTwin, shelf: Shelf, home: Path
) -> None:
    hub.cuts[FILE] = [CUT, *([0] * 6)]
    with pytest.raises(errors.Unavailable):
        await bring(shelf())
    hub.repos[REPOSITORY].files[FILE] = hub.repos[REPOSITORY].files[FILE][::-1]
    before = len(hub.ranges(FILE))
    with pytest.raises(errors.ServerTrouble, match="would not load"):
        await bring(shelf())
    assert hub.ranges(FILE)[before] is None
    assert nothing_whole(home)


async def test_files_of_other_repositories_come_along_under_the_names_that_loading_wants(
    hub: HubTwin, shelf: Shelf, home: Path
) -> None:
    lora, other = (
        "understudy-tests/speed",
        hub.repos[REPOSITORY].files["vae/diffusion_pytorch_model.safetensors"],
    )
    hub.repos[lora] = Repo({"four-steps.safetensors": other, "unwanted.safetensors": b"x"})
    row_of = f'{{ repository = "{lora}", file = "four-steps.safetensors", to = "%s" }}'
    rows = ", ".join(row_of % to for to in ("loras/transformer.safetensors", "vae/single.safetensors"))
    (home / "providers" / "own.toml").write_text(
        f"{CARD}\n[model.wire]\nfiles = [{rows}]\n", encoding="utf-8"
    )
    row = await bring(shelf())
    assert (row.folder / "loras" / "transformer.safetensors").read_bytes() == other
    assert (row.folder / "vae" / "single.safetensors").read_bytes() == other
    assert not (row.folder / "vae" / "diffusion_pytorch_model.safetensors").exists()
    assert len(hub.ranges("four-steps.safetensors")) == 1, (
        "one checkpoint under two names comes over the line once"
    )
    assert (await shelf().plan("pulled")).complete
    changed = hub.repos[REPOSITORY].files["text_encoder/model.safetensors"]
    hub.repos[lora].files["four-steps.safetensors"] = changed
    assert not (await shelf().plan("pulled")).complete
    row = await bring(shelf())
    assert (row.folder / "loras" / "transformer.safetensors").read_bytes() == changed
    del hub.repos[lora].files["four-steps.safetensors"]
    with pytest.raises(errors.NotFound, match=r"wire\.files"):
        await shelf().plan("pulled")
