"""`models plan`, `models fit`, `models calibrate`: both languages, one JSON value, exit codes; and what routing takes."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import local_models
from router.cli import main
from router.contract.forecast import Calibration
from router.gateway import Gateway
from router.settings import Settings


class Ran:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def flat(self) -> str:
        """Both streams without the table's line breaks."""
        return " ".join((self.out + self.err).split())


Cli = Callable[..., Ran]


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*argv: str, device: str = "cpu") -> Ran:
        capsys.readouterr()
        code = main(list(argv), environ={"UNDERSTUDY_HOME": str(home), "UNDERSTUDY_LOCAL_DEVICE": device})
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run


def test_a_plan_says_what_is_loaded_what_it_takes_and_what_was_not_chosen(cli: Cli) -> None:
    ran = cli("models", "plan", "wan2.2-ti2v-5b", "--vram", "12", "--ram", "32", "--capability", "8.9")
    assert ran.code == 0, ran.err
    for word in (
        "RTX 4070, 12 GB",
        "streams through the card",
        "native",
        "GB",
        "min",
        "RTX 4090",
        "not chosen",
    ):
        assert word in ran.flat
    told = cli("--lang", "ja", "models", "plan", "local/wan2.2-ti2v-5b", "--vram", "12").flat
    for word in ("テキストエンコーダー", "カードへ順次転送", "選ばれなかった構成", "換算", "分"):
        assert word in told


def test_a_plan_as_json_is_one_value(cli: Cli) -> None:
    ran = cli("models", "plan", "wan2.2-ti2v-5b", "--vram", "24", "--duration", "2", "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["model"], told["fits"], told["frames"]) == (0, "local/wan2.2-ti2v-5b", True, 49)
    assert told["peak_gb"] <= 24
    assert (told["basis"], told["attention"], told["caching"]) == ("scaled", "native", "none")
    assert isinstance(told["basis_detail"], str)
    assert {row["plan"] for row in told["not_chosen"]} >= {"cache", "nf4"}


def test_what_does_not_fit_is_refused_with_the_nearest_thing_in_both_languages(cli: Cli) -> None:
    ran = cli("models", "plan", "wan2.2-ti2v-5b", "--vram", "8")
    assert ran.code == 2
    assert "This model fits with --resolution" in ran.flat
    ran = cli("--lang", "ja", "models", "plan", "wan2.2-ti2v-5b", "--vram", "8")
    assert "このモデルは --resolution" in ran.flat
    ran = cli("models", "plan", "wan2.2-ti2v-5b", "--vram", "8", "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["fits"], told["seconds"]) == (2, False, None)
    assert "--duration" in told["why_not"]


@pytest.mark.parametrize(
    ("argv", "said", "ja_said"),
    [
        (("wan2.2-ti2v-5b", "--vram", "-12"), "no memory size", "メモリ容量はありません"),
        (("wan2.2-ti2v-5b", "--vram", "12", "--card", "RTX 1"), "Known: RTX 4090", "登録されていません"),
        (("wan2.2-ti2v-5b", "--vram", "12", "--resolution", "4k"), "possible: ", "指定できる値: "),
        (("wan2.2-ti2v-5b", "--vram", "24", "--capability", "7.5"), "bfloat16", "compute capability は 7.5"),
        (("wan2.2-ti2v-5b",), "hours per clip on the CPU", "数時間"),
        (("no-such-model", "--vram", "12"), "Local models: local/", "はありません"),
        (("runway/gen4.5", "--vram", "12"), "does not run on our own device", "計画の対象外"),
    ],
)
def test_bad_input_is_refused_in_both_languages(
    cli: Cli, argv: tuple[str, ...], said: str, ja_said: str
) -> None:
    ran = cli("models", "plan", *argv)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.flat
    assert ja_said in cli("--lang", "ja", "models", "plan", *argv).flat


def test_the_table_shows_models_by_cards(cli: Cli) -> None:
    ran = cli("models", "fit", "--json")
    rows = json.loads(ran.out)
    assert {row["device"].rpartition(", ")[2] for row in rows} == {"8 GB", "12 GB", "16 GB", "24 GB"}
    assert all(
        row["fits"] is (row["peak_gb"] <= float(row["device"].rpartition(", ")[2][:-3])) for row in rows
    )
    assert all(row["seconds"] is None for row in rows if not row["fits"])
    told = cli("models", "fit").flat
    assert "does not fit" in told
    assert "scaled" in told
    assert "収まりません" in cli("--lang", "ja", "models", "fit").flat
    with_ram = json.loads(cli("models", "fit", "--ram", "32", "--json").out)
    assert sum(row["fits"] for row in with_ram) < sum(row["fits"] for row in rows)


async def _typical(home: Path) -> dict[str, float]:
    settings = Settings.load({"UNDERSTUDY_HOME": str(home), "UNDERSTUDY_LOCAL_DEVICE": "cpu"})
    async with Gateway.open(settings) as gateway:
        return {row.card.id: row.card.typical_seconds for row in await gateway.models()}


def test_calibration_measures_the_tiny_model_and_routing_counts_with_it(cli: Cli, home: Path) -> None:
    before = asyncio.run(_typical(home))
    ran = cli("models", "calibrate", "tiny", "--json")
    assert ran.code == 0, ran.err
    (device,) = json.loads(ran.out)
    assert [row["model"] for row in device["rows"]] == ["local/tiny"]
    assert "local/tiny: 64x64, 17 frames" in ran.err
    kept = Calibration.model_validate_json((home / "calibration.json").read_text(encoding="utf-8"))
    assert kept.devices[0].rows[0].plan == "float32 offload=none"
    told = json.loads(cli("models", "plan", "tiny", "--json").out)
    assert told["basis"] == "measured"
    after = asyncio.run(_typical(home))
    assert after["local/tiny"] == told["seconds"] != before["local/tiny"]
    assert {name: s for name, s in after.items() if name != "local/tiny"} == {
        name: s for name, s in before.items() if name != "local/tiny"
    }
    (home / "calibration.json").write_text("{", encoding="utf-8")
    assert asyncio.run(_typical(home)) == before
    assert "読み込めない" in cli("--lang", "ja", "models", "plan", "tiny").flat


def test_the_list_tells_the_size_of_the_model_that_ships_with_us(cli: Cli) -> None:
    weights = Path(local_models.__file__).parent / "tiny" / "weights"
    (row,) = json.loads(cli("models", "list", "--json").out)
    size = sum(path.stat().st_size for path in weights.rglob("*") if path.is_file())
    assert (row["model"], row["from"], row["folder"]) == ("local/tiny", "card", str(weights))
    assert row["bytes"] == size > 1_000_000
    assert f"{size / 1e6:.1f} MB" in cli("models", "list").flat


def test_a_model_without_weights_is_told(cli: Cli) -> None:
    ran = cli("models", "calibrate", "wan2.1-t2v-1.3b")
    assert ran.code == 1
    first = ran.err.splitlines()[0]
    assert "local/wan2.1-t2v-1.3b: The weights of" in first
    assert ran.flat.count("understudy models pull wan2.1-t2v-1.3b") == 1
    assert "frames" not in ran.flat, "no clip is announced"
    assert "Nothing was measured" in ran.flat
    told = cli("--lang", "ja", "models", "calibrate", "wan2.1-t2v-1.3b").flat
    assert "測定できませんでした" in told
    assert "understudy models pull wan2.1-t2v-1.3b で取得" in told
    assert "local/tiny" in cli("models", "calibrate", "no-such").flat
