"""The commands about money: keys, spend, break-even, why, ledger verify; both languages, JSON always in US dollars."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import router.cli as cli
from router.contract import errors
from router.contract.words import same
from tests.fakes import Done, Studio, write_provider

Studios = Callable[[str], Studio]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def go(*argv: str, **environ: str) -> tuple[int, str, str]:
        given = {f"UNDERSTUDY_{k}": v for k, v in environ.items()}
        env = {"UNDERSTUDY_HOME": str(home), "UNDERSTUDY_LOCAL_ENABLED": "false", **given}
        code = cli.main(list(argv), environ=env)
        said = capsys.readouterr()
        return code, said.out, said.err

    return go


YEN = {"BUDGET_CURRENCY": "JPY", "BUDGET_JPY_PER_USD": "150", "BUDGET_JPY_AS_OF": "2026-11-20"}


def test_a_key_is_printed_once_and_listed_by_its_beginning(run: Run) -> None:
    code, out, err = run("keys", "add", "ci", "--project", "film", "--day-usd", "2")
    secret = out.strip()
    assert (code, secret[:3], len(secret)) == (0, "us_", 46)
    assert "only time" in err and secret not in err
    for argv in (("keys", "list"), ("keys", "list", "--json"), ("--lang", "ja", "keys", "list")):
        code, out, err = run(*argv)
        assert code == 0
        assert secret[:9] in out and secret not in out + err
    (row,) = json.loads(run("keys", "list", "--json")[1])
    assert (row["name"], row["project"], row["day_usd"], row["month_usd"]) == ("ci", "film", "2.00", None)
    assert (row["day_spent_usd"], row["revoked_at"]) == ("0.00", None)


def test_a_name_is_used_once_and_a_revoked_key_stays_in_the_list(run: Run) -> None:
    assert run("keys", "add", "ci")[0] == 0
    code, _, err = run("keys", "add", "ci")
    assert (code, "Choose another name" in err) == (2, True)
    assert run("keys", "revoke", "ci")[0] == 0
    code, _, err = run("--lang", "ja", "keys", "add", "ci")
    assert (code, "別の名前" in err) == (2, True)
    assert json.loads(run("keys", "list", "--json")[1])[0]["revoked_at"] is not None
    assert run("keys", "revoke", "nobody")[0] == 2


@pytest.mark.parametrize("amount", ["-1", "lots", "1e30", "NaN", "0.0000001"])
def test_an_absurd_budget_of_a_key_is_refused(run: Run, amount: str) -> None:
    code, out, err = run("keys", "add", "ci", f"--day-usd={amount}")
    assert (code, out) == (2, "")
    assert "US dollars" in err
    assert "米ドル" in run("--lang", "ja", "keys", "add", "ci", f"--day-usd={amount}")[2]


def test_break_even_of_the_table_in_dollars_and_yen(run: Run) -> None:
    argv = ("spend", "--break-even", "--seconds", "90", "--price", "0.15")
    code, out, _ = run(*argv)
    assert code == 0
    assert all(text in out for text in ("$0.0029", "14.7", "$790.37", "570 W at work", "20%"))
    assert "¥" not in out
    code, out, _ = run("--lang", "ja", *argv, **YEN)
    assert all(text in out for text in ("$0.0029 (¥0.4)", "¥118,556", "1 USD = ¥150, 2026-11-20", "稼働率"))
    found: Any = json.loads(run(*argv, "--json", **YEN)[1])
    assert found["fixed_usd_per_year"] == "790.372693"
    assert found["clips"][0]["break_even"][0]["clips_per_day"] == pytest.approx(14.73, abs=0.01)
    assert "¥" not in json.dumps(found)


def test_options_of_break_even_alone_are_refused_elsewhere(run: Run) -> None:
    assert run("spend", "--seconds", "3")[0] == 2


def test_money_of_a_job_in_every_command(home: Path, run: Run, studios: Studios) -> None:
    write_provider(home, "breaks", usd="0.10", failure_billed="always")
    write_provider(home, "low", usd="0.12")
    studios("breaks").looks = (errors.GenerationFailed(same("it broke")),)
    studios("low").looks = (Done(Decimal("0.90")),)
    argv = (
        "generate",
        "a red ball",
        "--backend",
        "breaks",
        "--backend",
        "low",
        "--project",
        "film",
        "--json",
    )
    code, out, err = run(*argv)
    assert code == 0, err
    job = json.loads(out)["job"]

    code, out, _ = run("why", job, **YEN)
    assert code == 0
    for text in (
        "Attempt 1: breaks/clip, failed, estimated $0.50 (¥75), reserved $0.50 (¥75), billed $0.50 (¥75)",
        "by our price table",
        "meanwhile: chosen: breaks/clip → low/clip",
        "meanwhile: breaks/clip went: already failed for this job",
        "Attempt 2: low/clip, completed",
        "the provider's own figure",
        "$0.30 (¥45) above the reservation",
    ):
        assert text in out, text
    japanese = run("--lang", "ja", "why", job)[1]
    for text in ("この間の変化: 選択: breaks/clip → low/clip", "プロバイダーの請求額", "予約額を $0.30 超過"):
        assert text in japanese, text
    told = json.loads(run("why", job, "--json", **YEN)[1])
    assert [a["bill_basis"] for a in told["attempts"]] == ["table", "provider"]
    assert told["attempts"][1]["overrun_usd"] == "0.30"
    assert told["attempts"][1]["changed"][0] == "chosen: breaks/clip → low/clip"
    assert [row["kind"] for row in told["attempts"][1]["ledger"]] == ["reserve", "settle"]

    code, out, _ = run("spend", **YEN, BUDGET_PROJECT_DAY_USD='{film = "5"}')
    assert code == 0
    for text in (
        "$0.90 (¥135)",
        "$0.30 (¥45)",
        "price table",
        "provider",
        "project film, today: $1.40 (¥210) of $5.00",
    ):
        assert text in out, text
    rows = {row["model"]: row for row in json.loads(run("spend", "--json", **YEN)[1])}
    assert (rows["low/clip"]["overrun_usd"], rows["low/clip"]["basis"]) == ("0.30", ["provider"])
    assert "¥" not in json.dumps(rows)

    code, out, _ = run("ledger", "verify", "--json")
    book = json.loads(out)
    assert (code, book["rows"], book["problems"]) == (0, 4, [])
    assert run("ledger", "verify", "--noted", book["head"])[0] == 0
    code, _, err = run("--lang", "ja", "ledger", "verify", "--noted", f"4:{'f' * 64}")
    assert (code, "控えておいた末尾" in err) == (1, True)


def test_every_basis_has_a_short_word() -> None:
    from router.cli._spend import _SHORT
    from router.explain import BASIS

    assert _SHORT.keys() == BASIS.keys()
