"""The command line: parses, calls the gateway, prints; the commands of docs and README are here."""

import os
import sys
from collections.abc import Mapping, Sequence

import typer

from router.cli import (
    _generate,
    _jobs,
    _keys,
    _models,
    _models_local,
    _models_weights,
    _providers,
    _serve,
    _spend,
    _upkeep,
)
from router.cli._app import app
from router.cli._door import BAD_REQUEST, INTERRUPTED, Door, OpenGateway, set_up_logging
from router.cli._text import lang_first, lang_of, usage_in_japanese
from router.contract.errors import GatewayError
from router.contract.words import words

__all__ = ["Door", "main"]

COMMAND_MODULES = (
    _generate,
    _jobs,
    _spend,
    _keys,
    _models,
    _models_local,
    _models_weights,
    _providers,
    _serve,
    _upkeep,
)
"""Importing them is what registers their commands."""


def main(
    argv: Sequence[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    open_gateway: OpenGateway | None = None,
) -> int:
    """Run one command; its exit code: 0 done, 1 failed, 2 bad request, 3 over budget, 4 unresolved, 130 interrupted."""
    words_of_command = lang_first(sys.argv[1:] if argv is None else argv)
    env = os.environ if environ is None else environ
    door = Door(environ=env, lang=lang_of(env, words_of_command), json="--json" in words_of_command)
    if open_gateway is not None:
        door.open_gateway = open_gateway
    set_up_logging(env, quiet=True)
    try:
        code = app(words_of_command, prog_name="understudy", standalone_mode=False, obj=door)
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        text = error.format_message()
        door.error(
            words(
                f"{text} See: understudy --help",
                f"{usage_in_japanese(text)}(使い方: understudy --help)",
            ),
            "usage",
        )
        return BAD_REQUEST
    except GatewayError as error:
        return door.refused(error)
    except (KeyboardInterrupt, typer.Abort):
        door.error(words("Interrupted.", "中断しました。"), "interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # `understudy jobs | head`: the reader has what it wanted.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
        return 0
    except Exception as error:
        return door.unexpected(error)
