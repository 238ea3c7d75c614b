"""Which sentences of a failed task are about content."""

import pytest

from api_providers._refusal import refused_content


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("The prompt may contain sensitive content", True),
        ("Rejected by content moderation", True),
        ("Content policy violation", True),
        ("risk control failed", True),
        ("NSFW content detected", True),
        ("Could not detect face in the image", False),
        ("upstream service failed", False),
        ("The content of image_url could not be read", False),
        ("", False),
    ],
)
def test_a_refusal_is_known_by_its_words(text: str, refused: bool) -> None:
    assert refused_content(text) is refused
