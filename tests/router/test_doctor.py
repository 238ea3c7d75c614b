"""The doctor: names what is wrong, says how to fix it, and leaves the exit code to problems alone."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from router import doctor
from router.cli import main
from router.doctor import Level


@pytest.fixture
def examined(home: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(**environ: str) -> tuple[int, dict[str, dict[str, Any]]]:
        code = main(
            ["doctor", "--port", "0", "--json"],
            environ={"UNDERSTUDY_HOME": str(home), "PATH": os.environ["PATH"], **environ},
        )
        return code, {row["check"]: row for row in json.loads(capsys.readouterr().out)}

    return run


def test_a_fresh_folder_has_no_problem(examined: Any) -> None:
    code, found = examined()
    assert [row for row in found.values() if row["level"] == "problem"] == []
    assert code == 0
    assert {"python", "encoder", "folder", "disk", "database", "keys"} <= set(found)


def test_keys_are_named_and_never_shown(examined: Any) -> None:
    _, found = examined(RUNWAYML_API_SECRET="key_very_secret")
    assert "runway" in found["keys"]["what"]
    assert "very_secret" not in json.dumps(found)


def test_broken_settings_are_a_problem_with_exit_code_1(examined: Any, home: Path) -> None:
    (home / "understudy.toml").write_text("[budget]\nday_usd = 'much'\n", encoding="utf-8")
    code, found = examined()
    assert code == 1
    assert "budget.day_usd" in found["settings"]["what"]
    assert found["settings"]["fix"]


def test_a_data_folder_that_is_a_file_is_a_problem(examined: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, found = examined(UNDERSTUDY_HOME=str(tmp_path / "file" / "home"))
    assert code == 1
    assert (
        "UNDERSTUDY_HOME" in str(found.get("folder", found["settings"])["fix"]) or found["settings"]["what"]
    )


def test_a_database_that_does_not_answer_is_a_problem(examined: Any) -> None:
    code, found = examined(UNDERSTUDY_DATABASE_URL="postgresql://nobody:topsecret@127.0.0.1:9/none")
    assert code == 1
    assert found["database"]["level"] == "problem"
    assert "topsecret" not in json.dumps(found)


def test_weights_that_were_named_and_are_not_there_are_a_problem(
    examined: Any, home: Path, tmp_path: Path
) -> None:
    text = f'[local.models]\n"wan2.1-t2v-1.3b" = "{tmp_path / "nowhere"}"\n'
    (home / "understudy.toml").write_text(text, encoding="utf-8")
    code, found = examined()
    assert code == 1
    assert found["weights local/wan2.1-t2v-1.3b"]["level"] == "problem"


def test_a_broken_file_of_the_users_own_is_a_problem(examined: Any, home: Path) -> None:
    (home / "providers").mkdir()
    (home / "providers" / "mine.toml").write_text("[provider\n", encoding="utf-8")
    code, found = examined()
    assert code == 1
    assert "mine.toml" in found["catalogue"]["what"]


def test_a_port_in_use_is_a_note_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        found = doctor.free_port("127.0.0.1", busy.getsockname()[1])
    assert found.level is Level.NOTE
    assert found.fix is not None and "--port" in found.fix.en


def test_a_full_disk_is_a_problem(tmp_path: Path) -> None:
    assert doctor.disk(tmp_path, 10**9).level is Level.PROBLEM


def test_an_old_python_is_a_problem() -> None:
    assert doctor.python((3, 10)).level is Level.PROBLEM
    assert doctor.python((3, 11)).level is Level.OK


def test_a_missing_extra_is_a_note_that_says_what_is_lost() -> None:
    found = doctor.extras("local", ("no_such_module",))
    assert found.level is Level.NOTE
    assert found.fix is not None and "[local]" in found.fix.en
