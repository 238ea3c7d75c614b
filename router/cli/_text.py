"""In which language the command line speaks: help texts at import, messages when they are said."""

import os
import re
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


_USAGE = (
    (r"Missing (?:argument|parameter|option) '(.+)'\.", "{0} を指定してください"),
    (r"No such option: (\S+) \(Possible options: (.+)\)", "{0} というオプションはありません。近いもの: {1}"),
    (r"No such option: (\S+)", "{0} というオプションはありません"),
    (r"No such command '(.+)'\.", "{0} というコマンドはありません"),
    (r"Got unexpected extra argument(?:s|\(s\))? \((.+)\)", "余分な引数があります: {0}"),
    (r"Option '(.+)' requires an argument\.", "{0} には値が必要です"),
    (r"Invalid value for '(.+?)': .*valid integer.*", "{0} には整数を指定してください"),
    (r"Invalid value for '(.+?)': .*valid number.*", "{0} には数値を指定してください"),
)
"""What the parser says of a wrong command line; it has no translations of its own."""


def usage_in_japanese(text: str) -> str:
    """What the parser said, in Japanese where its sentence is known."""
    for pattern, said in _USAGE:
        if (found := re.fullmatch(pattern, text.strip())) is not None:
            return said.format(*found.groups())
    return f"コマンドの指定に誤りがあります: {text}"


HELP_LANG: Lang = lang_of(os.environ, sys.argv[1:])
"""Help is built while the commands are defined, so its language is chosen once per process."""


def t(en: str, ja: str) -> str:
    """A help text, in the language of this process."""
    return ja if HELP_LANG == "ja" else en
