"""In which language a prompt is written, as far as its script tells, and whether a model reads that. Pure."""

import re
from collections.abc import Sequence

from router.contract.words import Words, words

_KANA = re.compile(r"[ぁ-ゖァ-ヺー々ｦ-ﾟ]")
_HANGUL = re.compile(r"[가-힣]")
_HAN = re.compile(r"[㐀-䶿一-鿿]")
MOSTLY = 0.3
"""Share of a prompt's letters: a sign to be painted in another script does not make the prompt foreign."""
NAMES: dict[str, Words] = {
    "ja": words("Japanese", "日本語"),
    "ko": words("Korean", "韓国語"),
    "zh": words("Chinese", "中国語"),
}


def written_in(prompt: str) -> str | None:
    """`ja`, `ko` or `zh` for a prompt that is mostly written so; None for any other."""
    if prompt.isascii():
        return None
    letters = sum(character.isalpha() for character in prompt)
    kana, hangul, han = (len(script.findall(prompt)) for script in (_KANA, _HANGUL, _HAN))
    if not letters or kana + hangul + han < MOSTLY * letters:
        return None
    if kana:
        return "ja"
    return "ko" if hangul > han else "zh"


def reads(languages: Sequence[str], language: str) -> bool:
    """Whether a model of these languages understands a prompt that `written_in` called so; no languages: not known, any."""
    known = {tag.lower().split("-")[0] for tag in languages}
    # Chinese characters alone may be Japanese as well: who reads either is let through.
    return not known or language in known or (language == "zh" and "ja" in known)
