"""Pulling weights: cut, killed, damaged, gated, gone, without room or network; and a job on what was pulled."""

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from filelock import FileLock
from huggingface_hub import constants

from local_models._runner import Local
from router.catalog import Catalog
from router.contract import errors
from router.contract.backend import BackendConfig
from router.contract.card import ModelCard
from router.contract.words import Words
from router.settings import Settings
from router.weights import Installed, Origin, PullProgress, Weights, installed_folder
from router.weights.choosing import choose
from router.weights.licences import licence_of
from tests.hub_twin import HubTwin, Repo
from tests.local_models.conftest import OneImage

TINY = Path(__file__).parents[2] / "local_models" / "tiny" / "weights"
REPOSITORY = "understudy-tests/tiny-video"
MODEL = "local/pulled"
FILE = "transformer/diffusion_pytorch_model.safetensors"
CUT = 150_000
CARD = f"""
[[model]]
id = "{MODEL}"
wire_id = "pulled"
family = "pulled"
where = "house"
tasks = ["text-to-video"]
fps = [8]
resolutions = ["64x64"]
aspect_ratios = ["1:1"]
seed = true
as_of = 2026-11-26
source = "tests"
sizes = [{{ resolution = "64x64", aspect_ratio = "1:1", width = 64, height = 64 }}]
options = {{ steps = "Steps." }}

[[model.prices]]
usd = "0"
per = "clip"
as_of = 2026-11-26
source = "tests"

[model.local]
repository = "{REPOSITORY}"
licence = "Apache-2.0"
pipeline = "local_models.wan"
frame_rule = [16, 1]
size_multiple = 32
native_frames = 17
max_frames = 17
steps = 2
guidance = 1.0
max_sequence_length = 32
parameters_b = 0.0017
"""

Shelf = Callable[..., Weights]


def content() -> dict[str, bytes]:
    """The tiny model as a repository that has everything in other forms beside it."""
    files = {
        path.relative_to(TINY).as_posix(): path.read_bytes() for path in TINY.rglob("*") if path.is_file()
    }
    junk = ("tiny.safetensors", "transformer/diffusion_pytorch_model.fp16.safetensors", "vae/model.onnx")
    return {
        **files,
        **dict.fromkeys((*junk, "text_encoder/pytorch_model.bin", "transformer/code.py"), b"never fetched"),
        "LICENSE": b"Apache License",
        "tokenizer/merges.txt": b"",
        "README.md": b"# Tiny",
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubTwin]:
    with HubTwin({REPOSITORY: Repo(content())}) as twin:
        monkeypatch.setenv("HF_ENDPOINT", twin.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        yield twin


@pytest.fixture
def shelf(home: Path, tmp_path: Path) -> Shelf:
    """The weights room over the real backend's own check; a pause after a cut would only slow the tests."""
    (home / "providers").mkdir()
    (home / "providers" / "own.toml").write_text(CARD, encoding="utf-8")

    def make(
        *, licence: str | None = None, environ: dict[str, str] | None = None, **sections: Any
    ) -> Weights:
        settings = Settings.load({"UNDERSTUDY_HOME": str(home), **(environ or {})}, sections)
        cards = dict(Catalog.load(home / "providers").cards)
        card = cards[MODEL]
        assert card.local is not None
        if licence is not None:
            local = card.local.model_copy(update={"licence": licence})
            cards[MODEL] = card.model_copy(update={"local": local})
        backend = Local(BackendConfig("local", cards, OneImage(tmp_path), tmp_path / "scratch"))

        async def inspect(card: ModelCard, folder: Path) -> Words | None:
            return await backend.inspect(card, folder)

        return Weights(settings, cards, inspect, retry_s=0)

    return make


async def bring(weights: Weights, *, accept: bool = True, **how: Any) -> Installed:
    return await weights.pull(await weights.plan("pulled", **how), accept=accept)


def holds(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def nothing_whole(home: Path) -> bool:
    return not (home / "models" / "pulled").exists()


# -- from the hub


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
    extra = f'files = [{{ repository = "{lora}", file = "four-steps.safetensors", into = "loras/transformer.safetensors" }}]'
    (home / "providers" / "own.toml").write_text(f"{CARD}{extra}\n", encoding="utf-8")
    row = await bring(shelf())
    assert (row.folder / "loras" / "transformer.safetensors").read_bytes() == other
    assert (await shelf().plan("pulled")).complete
    changed = hub.repos[REPOSITORY].files["text_encoder/model.safetensors"]
    hub.repos[lora].files["four-steps.safetensors"] = changed
    assert not (await shelf().plan("pulled")).complete
    row = await bring(shelf())
    assert (row.folder / "loras" / "transformer.safetensors").read_bytes() == changed
    del hub.repos[lora].files["four-steps.safetensors"]
    with pytest.raises(errors.NotFound, match="Correct `files`"):
        await shelf().plan("pulled")


# -- refused before anything is fetched


async def test_without_an_accepted_licence_nothing_is_fetched(hub: HubTwin, shelf: Shelf, home: Path) -> None:
    licence = "Tencent Hunyuan Community"
    with pytest.raises(errors.InvalidRequest, match="--accept-licence") as caught:
        await bring(shelf(licence=licence), accept=False)
    assert "European Union" in caught.value.message.en
    assert "韓国" in caught.value.message.ja
    assert not (home / "models").exists()
    assert hub.ranges(FILE) == []


async def test_an_accepted_licence_is_noted_with_its_date_and_asked_again_when_it_changes(
    hub: HubTwin, shelf: Shelf, home: Path
) -> None:
    row = await bring(shelf())
    noted = json.loads((home / "licences.json").read_text(encoding="utf-8"))[REPOSITORY]
    when = datetime.fromisoformat(noted["accepted_at"])
    assert abs((datetime.now(UTC) - when).total_seconds()) < 60
    assert row.accepted_at == when
    await shelf().remove("pulled")
    assert (await bring(shelf(), accept=False)).accepted_at == when
    with pytest.raises(errors.InvalidRequest, match="LTX-2"):
        await bring(shelf(licence="LTX-2 Community"), accept=False)


def test_the_restrictions_of_every_shipped_cards_licence_are_told() -> None:
    cards = [card.local for card in Catalog.load().cards.values() if card.local and card.local.repository]
    assert [local.licence for local in cards if not licence_of(local).known] == []
    strange = cards[0].model_copy(update={"licence": "Somebody's own"})
    assert "Read it before you use the model" in licence_of(strange).text("local/x").en


async def test_a_disk_without_room_is_said_before(hub: HubTwin, shelf: Shelf, home: Path) -> None:
    with pytest.raises(errors.StorageFull, match=r"needs 6\.\d MB more") as caught:
        await bring(shelf(storage={"min_free_mb": 10**9}))
    assert "min_free_mb" in caught.value.message.ja
    assert hub.ranges(FILE) == []
    assert nothing_whole(home)


async def test_a_disk_that_fills_up_in_the_middle_is_said_and_gone_on_later(
    hub: HubTwin, shelf: Shelf, home: Path
) -> None:
    hub.cuts[FILE] = [CUT, *([0] * 6)]
    with pytest.raises(errors.Unavailable):
        await bring(shelf())
    part = home / "models" / "pulled.partial" / f"{FILE}.part"
    part.unlink()
    # Every write to this device fails for want of room.
    part.symlink_to("/dev/full")
    with pytest.raises(errors.StorageFull, match="Make room and pull again"):
        await bring(shelf())
    assert nothing_whole(home)
    part.unlink()
    assert (await bring(shelf())).problem is None


@pytest.mark.parametrize(
    ("environ", "said"),
    [({}, "HF_TOKEN=..."), ({"HF_TOKEN": "hf_stranger"}, "the account of HF_TOKEN has no access")],
)
async def test_a_gated_repository_says_how_to_get_in(
    hub: HubTwin, shelf: Shelf, home: Path, environ: dict[str, str], said: str
) -> None:
    hub.repos[REPOSITORY].gated, hub.repos[REPOSITORY].allowed = True, "hf_allowed"
    with pytest.raises(errors.Forbidden, match=REPOSITORY) as caught:
        await bring(shelf(environ=environ))
    assert said in caught.value.message.en
    assert "hf_stranger" not in str(caught.value.message)
    assert not (home / "models").exists()


async def test_the_token_opens_a_gated_repository_and_goes_nowhere_else(
    hub: HubTwin, shelf: Shelf, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hub.repos[REPOSITORY].gated, hub.repos[REPOSITORY].allowed = True, "hf_allowed"
    (home / "keys.env").write_text("HF_TOKEN=hf_allowed\n", encoding="utf-8")
    (home / "keys.env").chmod(0o600)
    hub.cuts[FILE] = [CUT]
    await bring(shelf())
    elsewhere = [seen for seen in hub.asked if seen.path.startswith("/cdn/")]
    assert elsewhere
    assert {seen.authorization for seen in elsewhere} == {None}
    kept = holds(home) - {"keys.env"}
    assert not any(b"hf_allowed" in (home / name).read_bytes() for name in kept)
    assert "hf_allowed" not in caplog.text


async def test_a_token_does_not_cross_an_open_line(
    hub: HubTwin, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example")
    with pytest.raises(errors.InvalidRequest, match="https://"):
        await bring(shelf(environ={"HF_TOKEN": "hf_secret"}))


async def test_a_repository_that_is_gone_says_where_to_look(hub: HubTwin, shelf: Shelf) -> None:
    hub.repos.clear()
    with pytest.raises(errors.NotFound, match="gone, renamed or private") as caught:
        await bring(shelf())
    assert "--from" in caught.value.message.ja


async def test_a_revision_that_is_gone_says_so(hub: HubTwin, shelf: Shelf) -> None:
    with pytest.raises(errors.NotFound, match="--revision main"):
        await bring(shelf(), revision="v9")


async def test_a_file_that_vanishes_between_listing_and_fetching(hub: HubTwin, shelf: Shelf) -> None:
    weights = shelf()
    plan = await weights.plan("pulled")
    del hub.repos[REPOSITORY].files["vae/config.json"]
    with pytest.raises(errors.NotFound, match="vanished"):
        await weights.pull(plan, accept=True)


async def test_without_a_network_the_message_names_the_ways_out(
    hub: HubTwin, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(errors.Unavailable, match="HF_ENDPOINT") as caught:
        await bring(shelf())
    assert "--from" in caught.value.message.ja


async def test_a_second_process_is_kept_out(hub: HubTwin, shelf: Shelf, home: Path) -> None:
    (home / "models").mkdir()
    with FileLock(home / "models" / ".pulled.lock"), pytest.raises(errors.Conflict, match="Another process"):
        await bring(shelf())


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("pulld", errors.NotFound, "Did you mean: local/pulled"),
        ("local/tiny", errors.InvalidRequest, "nothing to pull"),
        ("runway/gen4.5", errors.InvalidRequest, "does not run from weights"),
    ],
)
async def test_names_that_cannot_be_pulled(
    hub: HubTwin, shelf: Shelf, name: str, kind: type[errors.GatewayError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        await shelf().plan(name)


async def test_a_folder_of_ones_own_stays_the_one_that_is_used(hub: HubTwin, shelf: Shelf) -> None:
    weights = shelf(local={"models": {"pulled": str(TINY)}})
    with pytest.raises(errors.InvalidRequest, match=r"\[local\] models names your own folder"):
        await weights.plan("pulled")
    with pytest.raises(errors.InvalidRequest, match="left alone"):
        await weights.remove("pulled")
    rows = {row.model: row for row in await weights.installed()}
    assert (rows[MODEL].origin, rows[MODEL].folder) == (Origin.SETTING, TINY)


# -- from this machine


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


# -- list and remove


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


# -- which files


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
