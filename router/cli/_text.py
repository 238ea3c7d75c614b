"""In which language the command line speaks: help texts at import, messages when they are said."""

import os
import sys
from collections.abc import Mapping, Sequence

from router.contract.words import Lang, pick_lang


def lang_of(environ: Mapping[str, str], argv: Sequence[str] = ()) -> Lang:
    """`--lang` wins, then LC_ALL, LC_MESSAGES and LANG in the order of POSIX."""
    for at, word in enumerate(argv):
        if word == "--":
            break
        if word == "--lang" and at + 1 < len(argv):
            return pick_lang(argv[at + 1])
        if word.startswith("--lang="):
            return pick_lang(word.removeprefix("--lang="))
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environ.get(name):
            return pick_lang(environ[name].split(".")[0])
    return "en"


def lang_first(argv: Sequence[str]) -> list[str]:
    """The same words with `--lang` before the command, where the parser looks for it; what follows `--` stays."""
    end = argv.index("--") if "--" in argv else len(argv)
    said, rest = list[str](), list[str]()
    words = iter(argv[:end])
    for word in words:
        if word == "--lang":
            said += [word, *[value for value in [next(words, None)] if value is not None]]
        else:
            (said if word.startswith("--lang=") else rest).append(word)
    return [*said, *rest, *argv[end:]]


HELP_LANG: Lang = lang_of(os.environ, sys.argv[1:])
"""Help is built while the commands are defined, so its language is chosen once per process."""


def t(en: str, ja: str) -> str:
    """A help text, in the language of this process."""
    return ja if HELP_LANG == "ja" else en
