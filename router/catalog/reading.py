"""Reads the TOML files of the shipped packages and of the user's folder into providers and cards."""

import importlib.util
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from router.catalog.rows import ProviderTable, RowError, card_of, explain
from router.catalog.values import Problem, ProviderInfo
from router.contract.card import ModelCard
from router.contract.words import Words, words

PACKAGES = ("api_providers", "local_models")
_TABLES = frozenset({"limits", "local", "wire", "options", "references"})
"""Tables of a model row that a user's file may correct key by key."""


@dataclass(frozen=True)
class _File:
    source: str
    provider: dict[str, Any]
    models: list[dict[str, Any]]
    name: str | None
    users_own: bool


@dataclass
class Reading:
    """Files on their way into a catalogue."""

    files: list[_File] = field(default_factory=list)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    providers: dict[str, ProviderInfo] = field(default_factory=dict)
    cards: dict[str, ModelCard] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, source: str, provider: str | None, message: Words) -> None:
        """Note what was left out."""
        self.problems.append(
            Problem(source, provider, words(f"{source}: {message.en}", f"{source}: {message.ja}"))
        )

    def read_folder(self, folder: Path, *, users_own: bool = False) -> None:
        """Every `*.toml` directly in the folder, in alphabetical order; a folder that is not there is empty."""
        for path in sorted(folder.glob("*.toml")):
            source = f"{folder.name}/{path.name}"
            try:
                data = tomllib.loads(path.read_text(encoding="utf-8"))
                self.files.append(_checked(source, data, users_own))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                self.problem(
                    source, None, words(f"not valid TOML: {error}", f"TOML として正しくありません: {error}")
                )
            except OSError as error:
                self.problem(
                    source, None, words(f"cannot be read: {error.strerror}", f"読めません: {error.strerror}")
                )
            except RowError as error:
                self.problem(source, None, error.message)

    def build_providers(self) -> None:
        """Provider tables first: a file may add models to a provider whose table stands in another file."""
        usable = []
        for file in self.files:
            if not file.provider or file.name is None:
                usable.append(file)
                continue
            merged = {**self.tables.get(file.name, {}), **file.provider}
            try:
                info = ProviderTable.model_validate(merged).info(file.source)
            except ValidationError as error:
                self.problem(file.source, file.name, explain(error, "[provider]"))
                continue
            except RowError as error:
                self.problem(file.source, file.name, error.message)
                continue
            self.tables[file.name] = merged
            self.providers[file.name] = info
            usable.append(file)
        self.files = usable

    def build_cards(self) -> None:
        """Model rows in order; a later file corrects or adds. Then the copies for `models_of`."""
        for file in self.files:
            seen: set[str] = set()
            for number, row in enumerate(file.models, 1):
                try:
                    self._take(file, row, number, seen)
                except RowError as error:
                    self.problem(file.source, file.name, error.message)
        for name, table in list(self.tables.items()):
            if "models_of" in table:
                self._copy_models(name, str(table["models_of"]))

    def _take(self, file: _File, row: dict[str, Any], number: int, seen: set[str]) -> None:
        model = row.get("id")
        if not isinstance(model, str) or "/" not in model:
            raise RowError(
                f'[[model]] number {number} needs id = "provider/name"',
                f'{number} 番目の [[model]] に id = "プロバイダー/名前" が必要です',
            )
        if model in seen:
            raise RowError(
                f"{model} is listed twice; remove one", f"{model} が重複しています。片方を削除してください"
            )
        seen.add(model)
        provider = model.partition("/")[0]
        info = self.providers.get(provider)
        if info is None:
            raise RowError(
                f"{model}: there is no usable provider {provider!r}; add a [provider] table with entry and key_env",
                f"{model}: 使用できるプロバイダー {provider!r} がありません。entry と key_env を含む [provider] を追加してください",
            )
        if model in self.rows and not file.users_own:
            raise RowError(
                f"{model} is already defined in another file; remove one",
                f"{model} は別のファイルでも定義されています。片方を削除してください",
            )
        merged = _merge(self.rows.get(model, {}), row)
        self.cards[model] = card_of(merged, info)
        self.rows[model] = merged

    def _copy_models(self, name: str, original: str) -> None:
        info = self.providers[name]
        if original == name or original not in self.providers:
            known = ", ".join(sorted(set(self.providers) - {name}))
            self.problem(
                info.source,
                name,
                words(
                    f"models_of names {original!r}, which is no other provider; known: {known}",
                    f"models_of の {original!r} というプロバイダーはありません。使えるもの: {known}",
                ),
            )
            return
        for model, row in list(self.rows.items()):
            backend, _, rest = model.partition("/")
            twin = f"{name}/{rest}"
            if backend != original or twin in self.cards:
                continue
            try:
                self.cards[twin] = card_of({**row, "id": twin}, info)
            except RowError as error:
                self.problem(info.source, name, error.message)


def folders(package: str) -> Iterator[Path]:
    """Where a top-level package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(location)


def _checked(source: str, data: dict[str, Any], users_own: bool) -> _File:
    unknown = sorted(set(data) - {"provider", "model"})
    if unknown:
        raise RowError(
            f"unknown key {unknown[0]!r} at the top; a file has one [provider] table and [[model]] rows",
            f"先頭に未知のキー {unknown[0]!r} があります。ファイルに書けるのは [provider] と [[model]] だけです",
        )
    provider, models = data.get("provider", {}), data.get("model", [])
    if (
        not isinstance(provider, dict)
        or not isinstance(models, list)
        or not all(isinstance(m, dict) for m in models)
    ):
        raise RowError(
            "write [provider] (single brackets) and [[model]] (double brackets)",
            "[provider] は一重、[[model]] は二重の角括弧で書いてください",
        )
    name = provider.get("name")
    if provider and not isinstance(name, str):
        raise RowError("[provider] needs name", "[provider] に name が必要です")
    first = models[0].get("id") if models else None
    named = name or (first.partition("/")[0] if isinstance(first, str) else None)
    return _File(source, provider, models, named, users_own)


def _merge(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **given}
    for key in _TABLES & set(base) & set(given):
        if isinstance(base[key], dict) and isinstance(given[key], dict):
            merged[key] = {**base[key], **given[key]}
    return merged
