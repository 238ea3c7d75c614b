"""What is refused, and how it is said: licence, room, gates, gone repositories, no network, wrong names."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock

from router.catalog import Catalog
from router.contract import errors
from router.weights import Origin
from router.weights.licences import licence_of
from router.weights.sources import extras_of
from tests.hub_twin import HubTwin
from tests.router.weights.conftest import (
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


def test_what_shipped_cards_want_from_other_repositories_can_be_pulled() -> None:
    cards = [card for card in Catalog.load().cards.values() if card.local]
    for card in cards:
        assert len(extras_of(card)) == len(card.wire.get("files", ()))
    broken = cards[0].model_copy(
        update={"wire": {"files": [{"repository": "a/b", "file": "x", "to": "../x"}]}}
    )
    with pytest.raises(errors.ServerTrouble, match=r"wire\.files"):
        extras_of(broken)


def test_the_restrictions_of_every_shipped_cards_licence_are_told() -> None:
    cards = [card.local for card in Catalog.load().cards.values() if card.local and card.local.repository]
    assert [local.licence for local in cards if not licence_of(local).known] == []
    strange = cards[0].model_copy(update={"licence": "Somebody's own"})
    assert "Read it before you use the model" in licence_of(strange).text("local/x").en


@pytest.mark.parametrize(
    ("model", "en", "ja", "text"),
    [
        ("ltx-video-2b", ("10 million", "machine-made"), ("1,000 万", "明示"), "Open-Weights-License"),
        (
            "ltx-2-distilled",
            ("10 million", "machine-made", "competes"),
            ("明示", "競合"),
            "Lightricks/LTX-2/blob",
        ),
        (
            "hunyuan-video-1.5-t2v-480p",
            ("its clips", "100 million"),
            ("動画も", "1 億人"),
            "tencent/HunyuanVideo-1.5",
        ),
        ("cogvideox-5b", ("1 million visits", "military"), ("100 万", "軍事"), "CogVideoX-5b/blob"),
        ("wan2.1-t2v-1.3b", ("Any use",), ("あらゆる",), "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"),
    ],
)
def test_a_licence_is_told_with_its_main_conditions_and_where_its_text_is(
    model: str, en: tuple[str, ...], ja: tuple[str, ...], text: str
) -> None:
    local = Catalog.load().cards[f"local/{model}"].local
    assert local is not None
    said = licence_of(local).text("local/x")
    assert all(word in said.en for word in en)
    assert all(word in said.ja for word in ja)
    assert text in said.en.rpartition(" ")[2]


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
