"""The catalogue from TOML files: what is read, what the user may change, and what is said about a broken row."""

import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from router.catalog import Catalog, Problem, load_entry, stale
from router.catalog.reading import Reading
from router.contract.card import Where
from router.contract.errors import ServerTrouble

PROVIDER = """
[provider]
name = "acme"
title = "Acme Video"
entry = "api_providers.acme:Acme"
key_env = "ACME_API_KEY"
docs = "https://acme.example/docs"
sandbox_path = "/acme"
max_in_flight = 4
credit_usd = "0.01"
credit_as_of = 2026-11-21
credit_source = "https://acme.example/credits"

[provider.options]
region = "eu"
"""
MODEL = """
[[model]]
id = "acme/reel-2"
wire_id = "acme-reel-v2"
family = "reel-2"
tasks = ["text-to-video", "image-to-video"]
durations = [5, 10]
resolutions = ["720p", "1080p"]
aspect_ratios = ["16:9", "9:16"]
as_of = 2026-11-20
source = "https://acme.example/docs/reel-2"

[model.limits]
starts_per_minute = 10

[[model.prices]]
usd = "0.05"
per = "second"
when = { resolution = "720p" }
as_of = 2026-11-20
source = "https://acme.example/pricing"

[[model.prices]]
credits = "25"
per = "clip"
as_of = 2026-11-20
source = "https://acme.example/pricing"
"""


def read(
    tmp_path: Path, shipped: str | dict[str, str] = PROVIDER + MODEL, users: str | None = None
) -> Catalog:
    """A catalogue of these files alone, without the ones that ship."""
    folder, own = tmp_path / "shipped", tmp_path / "providers"
    for place, files in (
        (folder, {"acme.toml": shipped} if isinstance(shipped, str) else shipped),
        (own, {"mine.toml": users} if users else {}),
    ):
        place.mkdir()
        for name, text in files.items():
            (place / name).write_text(text, encoding="utf-8")
    reading = Reading()
    reading.read_folder(folder)
    reading.read_folder(own, users_own=True)
    reading.build_providers()
    reading.build_cards()
    return Catalog(reading.providers, reading.cards, tuple(reading.problems))


def only_problem(catalog: Catalog) -> Problem:
    assert len(catalog.problems) == 1, catalog.problems
    problem = catalog.problems[0]
    assert problem.message.en != problem.message.ja
    return problem


def test_a_provider_and_its_model_are_read(tmp_path: Path) -> None:
    catalog = read(tmp_path)
    assert catalog.problems == ()
    info = catalog.providers["acme"]
    assert (info.title, info.entry, info.key_env) == (
        "Acme Video",
        "api_providers.acme:Acme",
        ("ACME_API_KEY",),
    )
    assert (info.limits.max_in_flight, info.sandbox_path, info.options) == (4, "/acme", {"region": "eu"})
    assert (info.source, info.where, info.keyless) == ("shipped/acme.toml", Where.CLOUD, False)
    card = catalog.cards["acme/reel-2"]
    assert (card.backend, card.limits.starts_per_minute, card.durations) == ("acme", 10, (5, 10))


def test_credits_become_dollars_and_say_so(tmp_path: Path) -> None:
    price = read(tmp_path).cards["acme/reel-2"].prices[1]
    assert (price.usd, price.credits) == (Decimal("0.25"), None)
    assert price.note == "25 credits at $0.01 each, 2026-11-21"
    assert price.as_of == date(2026, 11, 20)


def test_a_price_is_as_old_as_the_rate_it_was_converted_with(tmp_path: Path) -> None:
    old = PROVIDER.replace("credit_as_of = 2026-11-21", "credit_as_of = 2026-01-05")
    assert read(tmp_path, old + MODEL).cards["acme/reel-2"].prices[1].as_of == date(2026, 1, 5)


def test_keys_may_be_alternatives_or_pairs(tmp_path: Path) -> None:
    text = PROVIDER.replace(
        'key_env = "ACME_API_KEY"', 'key_env = ["A_KEY", "B_KEY"]\nkey_pairs = [["C_ID", "C_SECRET"]]'
    )
    info = read(tmp_path, text + MODEL).providers["acme"]
    assert (info.key_env, info.key_pairs) == (("A_KEY", "B_KEY"), (("C_ID", "C_SECRET"),))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('family = "reel-2"\n', 'family = "reel-2"\ncolour = "red"\n', "colour is not a known key"),
        ('wire_id = "acme-reel-v2"\n', "", "wire_id is required"),
        ('as_of = 2026-11-20\nsource = "https://acme.example/docs/reel-2"\n', "", "as_of is required"),
        ('usd = "0.05"', 'usd = "-0.05"', "greater than or equal to 0"),
        ('usd = "0.05"', "usd = 0.05", 'write usd as text, usd = "0.05"'),
        ('usd = "0.05"', 'usd = "0.05"\ncredits = "5"', "either usd or credits"),
        ('usd = "0.05"\n', "", "either usd or credits"),
        ('when = { resolution = "720p" }', 'when = { size = "720p" }', "unknown condition size"),
        (
            'when = { resolution = "720p" }',
            "when = { resolution = 720 }",
            "never holds; write text in quotes",
        ),
        ('when = { resolution = "720p" }', 'when = { audio = "yes" }', "write true or false"),
        ('when = { resolution = "720p" }', "when = { duration = [5, true] }", "write a number"),
        ('per = "second"', 'per = "minute"', "'second' or 'clip'"),
        ('id = "acme/reel-2"', 'id = "reel-2"', 'needs id = "provider/name"'),
        ('id = "acme/reel-2"', 'id = "other/reel-2"', "no usable provider 'other'"),
        ('tasks = ["text-to-video", "image-to-video"]', "tasks = []", "at least 1 item"),
        ("durations = [5, 10]", 'durations = ["five"]', "durations.0"),
    ],
)
def test_a_broken_row_is_left_out_and_says_how_to_repair_it(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    second = MODEL.replace("acme/reel-2", "acme/reel-3")
    catalog = read(tmp_path, PROVIDER + MODEL.replace(old, new) + second)
    problem = only_problem(catalog)
    assert says in problem.message.en and problem.message.en.startswith("shipped/acme.toml: ")
    assert list(catalog.cards) == ["acme/reel-3"]


def test_a_price_row_without_its_source_takes_the_model_out(tmp_path: Path) -> None:
    text = MODEL.replace('source = "https://acme.example/pricing"\n', "", 1)
    problem = only_problem(read(tmp_path, PROVIDER + text))
    assert "prices.0.source is required; add it" in problem.message.en
    assert "prices.0.source 必須の項目です" in problem.message.ja


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[provider", "not valid TOML"),
        ("title = 'x'", "unknown key 'title' at the top"),
        ("[[provider]]\nname = 'x'", "single brackets"),
        ("[provider]\ntitle = 'x'", "needs name"),
        (PROVIDER.replace('key_env = "ACME_API_KEY"', ""), "keyless = true"),
        (PROVIDER.replace('entry = "api_providers.acme:Acme"', 'entry = "acme"'), "entry"),
        (PROVIDER.replace("max_in_flight = 4", "max_in_flight = 0"), "max_in_flight"),
        (PROVIDER.replace("max_in_flight", "max_in_fligth"), "max_in_fligth is not a known key"),
        (
            PROVIDER.replace('credit_source = "https://acme.example/credits"', ""),
            "credit_as_of and credit_source",
        ),
    ],
)
def test_a_broken_file_does_not_break_the_others(tmp_path: Path, text: str, says: str) -> None:
    good = PROVIDER.replace("acme", "good") + MODEL.replace("acme", "good")
    catalog = read(tmp_path, {"a.toml": text, "good.toml": good})
    problem = only_problem(catalog)
    assert says in problem.message.en and problem.source == "shipped/a.toml"
    assert list(catalog.cards) == ["good/reel-2"]


def test_a_file_that_is_not_utf8_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.toml").write_bytes(b'[provider]\nname = "\xff"')
    reading = Reading()
    reading.read_folder(tmp_path / "x")
    assert len(reading.problems) == 1


def test_the_same_id_twice_keeps_the_first(tmp_path: Path) -> None:
    assert "listed twice" in only_problem(read(tmp_path, PROVIDER + MODEL + MODEL)).message.en


def test_the_same_id_in_two_shipped_files_keeps_the_first(tmp_path: Path) -> None:
    catalog = read(tmp_path, {"a.toml": PROVIDER + MODEL, "b.toml": MODEL.replace("v2", "v3")})
    assert "already defined in another file" in only_problem(catalog).message.en
    assert catalog.cards["acme/reel-2"].wire_id == "acme-reel-v2"


def test_models_may_stand_in_a_file_before_their_providers(tmp_path: Path) -> None:
    catalog = read(tmp_path, {"a.toml": MODEL, "b.toml": PROVIDER})
    assert catalog.problems == () and list(catalog.cards) == ["acme/reel-2"]


def test_credits_without_a_rate_are_a_problem(tmp_path: Path) -> None:
    text = "\n".join(line for line in PROVIDER.splitlines() if not line.startswith("credit"))
    assert "credit_usd" in only_problem(read(tmp_path, text + MODEL)).message.en


def test_a_local_model_needs_a_frame_rate(tmp_path: Path) -> None:
    local = """
[model.local]
licence = "Apache-2.0"
pipeline = "local_models.wan"
native_frames = 17
max_frames = 17
steps = 8
"""
    text = MODEL.replace("[model.limits]\nstarts_per_minute = 10\n", local)
    assert "needs fps" in only_problem(read(tmp_path, PROVIDER + text)).message.en


# -- the user's own folder


def test_a_user_corrects_a_price_and_a_limit_and_the_rest_stays(tmp_path: Path) -> None:
    users = """
[[model]]
id = "acme/reel-2"
limits = { max_in_flight = 2 }
[[model.prices]]
usd = "0.08"
per = "second"
as_of = 2026-11-21
source = "my contract"
"""
    catalog = read(tmp_path, users=users)
    assert catalog.problems == ()
    card = catalog.cards["acme/reel-2"]
    assert [price.usd for price in card.prices] == [Decimal("0.08")]
    assert (card.limits.max_in_flight, card.limits.starts_per_minute, card.durations) == (2, 10, (5, 10))


def test_a_broken_correction_leaves_the_shipped_row(tmp_path: Path) -> None:
    catalog = read(tmp_path, users='[[model]]\nid = "acme/reel-2"\ndurations = "long"\n')
    assert only_problem(catalog).source == "providers/mine.toml"
    assert catalog.cards["acme/reel-2"].durations == (5, 10)


def test_a_user_changes_where_a_known_provider_is_reached(tmp_path: Path) -> None:
    catalog = read(tmp_path, users='[provider]\nname = "acme"\nbase_url = "https://proxy.example"\n')
    info = catalog.providers["acme"]
    assert (info.base_url, info.entry, info.source) == (
        "https://proxy.example",
        "api_providers.acme:Acme",
        "providers/mine.toml",
    )


def test_a_user_adds_a_model_of_a_known_provider(tmp_path: Path) -> None:
    catalog = read(tmp_path, users=MODEL.replace("reel-2", "reel-9"))
    assert list(catalog.cards) == ["acme/reel-2", "acme/reel-9"]


def test_a_second_account_offers_the_same_models_under_its_own_name(tmp_path: Path) -> None:
    users = PROVIDER.replace(
        'name = "acme"', 'name = "acme-team"\nmodels_of = "acme"\nwhere = "house"'
    ).replace("ACME_API_KEY", "ACME_TEAM_KEY")
    catalog = read(tmp_path, users=users)
    card = catalog.cards["acme-team/reel-2"]
    assert (card.backend, card.where, card.family) == ("acme-team", Where.HOUSE, "reel-2")
    assert catalog.cards["acme/reel-2"].where is Where.CLOUD
    assert catalog.providers["acme-team"].key_env == ("ACME_TEAM_KEY",)


def test_models_of_an_unknown_provider_is_a_problem(tmp_path: Path) -> None:
    users = PROVIDER.replace('name = "acme"', 'name = "x"\nmodels_of = "nobody"')
    assert "known: acme" in only_problem(read(tmp_path, users=users)).message.en


# -- looking things up


def test_models_are_found_by_id_family_or_the_providers_own_name(tmp_path: Path) -> None:
    catalog = read(tmp_path, PROVIDER + MODEL + MODEL.replace("acme/reel-2", "acme/reel-2-fast"))
    both = ("acme/reel-2", "acme/reel-2-fast")
    assert tuple(c.id for c in catalog.matching(None)) == both
    assert tuple(c.id for c in catalog.matching("Acme/Reel-2")) == both[:1]
    assert tuple(c.id for c in catalog.matching("reel-2")) == both
    assert tuple(c.id for c in catalog.matching("acme-reel-v2")) == both
    assert catalog.matching("sora") == ()
    assert (catalog.family("acme/reel-2-fast"), catalog.family("sora")) == ("reel-2", None)


def test_a_misspelt_model_is_guessed(tmp_path: Path) -> None:
    catalog = read(tmp_path)
    assert "acme/reel-2" in catalog.nearest("acme/real-2")
    assert "reel-2" in catalog.nearest("reel2")
    assert catalog.nearest("zzzzzzz") == ()


def test_a_fact_is_stale_after_sixty_days() -> None:
    assert not stale(date(2026, 9, 22), date(2026, 11, 21))
    assert stale(date(2026, 9, 21), date(2026, 11, 21))


# -- what ships


def test_everything_that_ships_is_valid_and_nothing_of_it_is_imported(tmp_path: Path) -> None:
    before = set(sys.modules)
    catalog = Catalog.load(tmp_path / "none")
    assert catalog.problems == ()
    new = {name.split(".")[0] for name in set(sys.modules) - before}
    assert not new & {"api_providers", "local_models", "torch", "diffusers"}
    for card in catalog.cards.values():
        assert card.backend in catalog.providers


# -- entries


def test_an_entry_is_loaded_when_needed() -> None:
    assert load_entry("router.catalog:Catalog") is Catalog


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("local_models.nowhere:X", r"understudy-gateway\[local\]"),
        ("acme_private.video:X", "acme_private is missing. Check `entry`"),
        ("router.catalog:Nothing", "no class 'Nothing'"),
        ("router.catalog:stale", "no class 'stale'"),
    ],
)
def test_an_entry_that_cannot_be_loaded_says_what_to_do(entry: str, says: str) -> None:
    with pytest.raises(ServerTrouble, match=says) as caught:
        load_entry(entry)
    assert caught.value.message.ja != caught.value.message.en


def test_a_package_that_breaks_while_loading_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_backend.py").write_text("raise RuntimeError('no such device')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ServerTrouble, match="RuntimeError: no such device"):
        load_entry("broken_backend:Backend")
