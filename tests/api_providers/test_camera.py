"""Camera movement as words."""

import pytest

from api_providers._camera import PRESET_WORDS, camera_words
from router.contract.request import CAMERA_PRESETS, Camera


def test_every_preset_has_words_of_its_own() -> None:
    assert set(PRESET_WORDS) == set(CAMERA_PRESETS)
    assert len(set(PRESET_WORDS.values())) == len(CAMERA_PRESETS)


@pytest.mark.parametrize(
    ("axis", "value", "said"),
    [
        ("zoom", 2, "The camera zooms in slowly."),
        ("zoom", -5, "The camera zooms out."),
        ("pan", -8, "The camera pans left quickly."),
        ("vertical", 5, "The camera moves up."),
        ("roll", 0, "Static camera, locked-off shot."),
    ],
)
def test_an_axis_is_said_with_direction_and_pace(axis: str, value: float, said: str) -> None:
    assert camera_words(Camera.model_validate({"axis": axis, "value": value})) == said
