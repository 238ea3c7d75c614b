"""What the documents say is so: commands parse, targets and files exist, tables are what the program prints."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

import router.cli as cli
from api_providers._http import HttpProvider
from router.catalog import Catalog
from router.cli._app import app
from router.contract.backend import Backend, BackendConfig
from router.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
READMES = {"en": ROOT / "README.md", "ja": ROOT / "README.ja.md"}
GUIDE = ROOT / "docs" / "add-a-provider.md"
DOCUMENTS = (*READMES.values(), GUIDE)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)


def commands(path: Path) -> list[str]:
    lines = [line.split(" #")[0].strip() for block in blocks(path, "sh") for line in block.splitlines()]
    inline = re.findall(r"`(understudy [^`]+)`", text_of(path))
    return [line for line in (*lines, *inline) if line.startswith("understudy ")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_the_documents_parses(path: Path) -> None:
    found = commands(path)
    assert found
    for line in found:
        argv = shlex.split(line)[1:]
        command: Any = get_command(app)
        context = command.make_context("understudy", argv, obj=cli.Door())
        while hasattr(command, "commands"):
            rest = [*context._protected_args, *context.args]
            if not rest and command.invoke_without_command:
                break
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, rest, parent=context)


def test_the_help_lists_every_make_target_that_the_documents_name() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {
        name
        for path in DOCUMENTS
        for name in re.findall(r"(?:^|`)make ([a-z-]+)", text_of(path), re.MULTILINE)
    }
    assert {"demo", "serve", "test"} <= named <= targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_the_documents_name_exists(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text_of(path))
    rooms = re.findall(r"`((?:router|api_providers|local_models|tests)/[\w./]+)`", text_of(path))
    made_up = {"api_providers/acme.py", "api_providers/acme.toml", "api_providers/sandbox/acme.py"}
    for name in (*links, *(set(rooms) - made_up)):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("lang", READMES)
def test_the_table_of_backends_is_what_the_program_prints(
    lang: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["--lang", lang, "providers", "--markdown"], environ={"UNDERSTUDY_HOME": str(home)})
    printed = capsys.readouterr().out.strip()
    assert code == 0
    found = re.search(
        r"<!-- providers: [^\n]*-->\n(.*?)\n?<!-- /providers -->", text_of(READMES[lang]), re.DOTALL
    )
    assert found is not None
    assert found[1].strip() == printed


@pytest.mark.parametrize("lang", READMES)
def test_the_table_of_settings_names_every_setting_and_no_other(lang: str) -> None:
    known = {
        (section, key)
        for section, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        for key in field.annotation.model_fields
    }
    listed = {
        (section, key)
        for section, keys in re.findall(
            r"^\| `(\w+)` \| ((?:`\w+`(?:, |、)?)+) \|", text_of(READMES[lang]), re.MULTILINE
        )
        for key in re.findall(r"`(\w+)`", keys)
    }
    assert listed == known


def test_both_readmes_have_the_same_parts_and_commands() -> None:
    shapes = []
    for path in READMES.values():
        text = text_of(path)
        heads = [
            len(marks)
            for marks in re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
        ]
        names = [" ".join(line.split()[:2]) for line in commands(path)]
        shapes.append((heads, sorted(names), len(re.findall(r"^\|", text, re.MULTILINE))))
    assert shapes[0] == shapes[1]


def test_the_provider_of_the_guide_is_read_and_is_a_backend(tmp_path: Path) -> None:
    (data,) = blocks(GUIDE, "toml")
    (tmp_path / "acme.toml").write_text(data, encoding="utf-8")
    catalog = Catalog.load(tmp_path)
    assert catalog.problems == ()
    card = catalog.cards["acme/reel-2"]
    assert [str(price.usd) for price in card.prices] == ["0.05", "0.09"]
    (code,) = blocks(GUIDE, "python")
    names: dict[str, Any] = {}
    exec(compile(code, "acme.py", "exec"), names)
    assert issubclass(names["Acme"], HttpProvider)
    made = names["Acme"](BackendConfig("acme", {card.id: card}, media=None, scratch=tmp_path))  # type: ignore[arg-type]
    assert isinstance(made, Backend)
