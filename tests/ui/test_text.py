"""Both catalogues say everything, and in the same terms."""

import re
import string
from pathlib import Path

import pytest

from router.contract.job import AttemptStatus, Status
from router.contract.request import CAMERA_PRESETS, Mode, Quality
from ui.form import DEADLINES
from ui.text import LANGS, Text, catalogue

UI = Path(__file__).resolve().parents[2] / "ui"


def test_both_languages_have_the_same_keys() -> None:
    assert catalogue("en").keys() == catalogue("ja").keys()


@pytest.mark.parametrize("lang", LANGS)
def test_no_text_is_empty_and_every_key_is_prefixed(lang: str) -> None:
    texts = catalogue("ja" if lang == "ja" else "en")
    assert [key for key, text in texts.items() if not text.strip()] == []
    assert [key for key in texts if not re.fullmatch(r"vg_[a-z0-9_]+", key)] == []


def test_both_languages_fill_in_the_same_values() -> None:
    def places(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    uneven = [key for key, text in catalogue("en").items() if places(text) != places(catalogue("ja")[key])]
    assert uneven == []


def test_every_key_that_the_code_names_exists() -> None:
    named = set()
    for file in UI.glob("*.py"):
        named |= set(
            re.findall(r"\b(?:text|say|_say|Text\(lang\))\(\s*\"([a-z0-9_]+)\"[,)]", file.read_text("utf-8"))
        )
    assert named
    assert {key for key in named if f"vg_{key}" not in catalogue("en")} == set()


def test_every_word_of_the_contract_has_its_text() -> None:
    words = [f"camera_{name}" for name in CAMERA_PRESETS]
    words += [f"status_{state.value}" for state in (*Status, *AttemptStatus)]
    words += [f"mode_{mode.value.replace('-', '_')}" for mode in Mode]
    words += [tier.value for tier in Quality] + [f"within_{span}" for span in DEADLINES]
    words += [f"failure_{word}" for word in ("never", "maybe", "always", "free")]
    assert [word for word in words if f"vg_{word}" not in catalogue("en")] == []


@pytest.mark.parametrize(
    ("seconds", "en", "ja"),
    [
        (0.4, "0 s", "0秒"),
        (38, "38 s", "38秒"),
        (119.6, "2 min", "2分"),
        (125, "2 min 5 s", "2分5秒"),
        (1500, "25 min", "25分"),
        (7200, "2 h", "2時間"),
        (8000, "2 h 13 min", "2時間13分"),
    ],
)
def test_a_span_of_time_reads_as_people_say_it(seconds: float, en: str, ja: str) -> None:
    assert Text("en").seconds(seconds) == en
    assert Text("ja").seconds(seconds) == ja
