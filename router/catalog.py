"""Every backend and model there is, read from the TOML files beside the code and in the user's own folder."""

import difflib
import importlib
import importlib.util
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from router.contract.card import Limits, ModelCard, Price, Where
from router.contract.errors import ServerTrouble
from router.contract.words import Words, words

PACKAGES = ("api_providers", "local_models")
STALE_DAYS = 60
"""A price or limit read longer ago is shown with its date."""
_NAME = r"^[a-z0-9][a-z0-9_.-]*$"
_EXTRA_OF = {"local_models": "local", "ui": "ui"}
_LIMITS = frozenset(Limits.model_fields)
_TABLES = frozenset({"limits", "local", "wire", "options", "references"})
"""Tables of a model row that a user's file may correct key by key."""


@dataclass(frozen=True)
class ProviderInfo:
    """One `[provider]` table: a backend as data. Nothing of it is loaded yet."""

    name: str
    title: str
    entry: str
    """`module:Class`."""
    key_env: tuple[str, ...]
    """Names of variables, any one of which holds the key."""
    docs: str | None
    where: Where
    base_url: str | None
    keyless: bool
    limits: Limits
    """Of the whole account; each card has its own."""
    credit_usd: Decimal | None
    credit_as_of: date | None
    credit_source: str | None
    sandbox_path: str | None
    """Path of its twin under the sandbox's base, for example `/runway`; None where there is no twin."""
    options: Mapping[str, Any]
    source: str
    """Name of the file."""
    key_pairs: tuple[tuple[str, str], ...] = ()
    """Pairs of variables that together are a key, an alternative to `key_env`."""


@dataclass(frozen=True)
class Problem:
    """A file or row that was left out, and how to repair it."""

    source: str
    provider: str | None
    message: Words


@dataclass(frozen=True)
class Catalog:
    """What could be used, whether or not a key or a device is there."""

    providers: Mapping[str, ProviderInfo]
    cards: Mapping[str, ModelCard]
    problems: tuple[Problem, ...] = ()

    @classmethod
    def load(cls, extra: Path | None = None) -> Self:
        """Read the shipped files, then those of `extra` (the user's `providers` folder), which may correct them."""
        reading = _Reading()
        for package in PACKAGES:
            for folder in _folders(package):
                reading.read_folder(folder, prefix="")
        if extra is not None:
            reading.read_folder(extra, prefix=f"{extra.name}/")
        reading.build_providers()
        reading.build_cards()
        return cls(reading.providers, reading.cards, tuple(reading.problems))

    def matching(self, model: str | None) -> tuple[ModelCard, ...]:
        """The cards meant by a model id, a family or a provider's own name; all for None."""
        if model is None:
            return tuple(self.cards.values())
        wanted = model.casefold()
        for keys in (lambda c: (c.id,), lambda c: (c.family,), lambda c: (c.wire_id,)):
            found = tuple(
                card for card in self.cards.values() if wanted in {key.casefold() for key in keys(card)}
            )
            if found:
                return found
        return ()

    def family(self, model: str) -> str | None:
        """The family of a model id, family or provider's own name; None where unknown."""
        found = self.matching(model)
        return found[0].family if found else None

    def nearest(self, model: str) -> tuple[str, ...]:
        """Up to three ids or families that look like it, for "did you mean"."""
        names = {name.casefold(): name for card in self.cards.values() for name in (card.family, card.id)}
        short = {name.rpartition("/")[2]: name for name in names}
        wanted = model.casefold()
        close = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
        close += [
            short[name]
            for name in difflib.get_close_matches(wanted.rpartition("/")[2], short, n=3, cutoff=0.6)
        ]
        return tuple(names[name] for name in dict.fromkeys(close))[:3]


def stale(as_of: date, today: date) -> bool:
    """Whether a dated fact should be shown with its date."""
    return (today - as_of).days > STALE_DAYS


def load_entry(entry: str) -> type:
    """The class behind `module:Class`, imported now; raises ServerTrouble that says what to install or repair."""
    module_name, _, class_name = entry.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        missing = error.name or str(error)
        extra = _EXTRA_OF.get(module_name.split(".")[0])
        raise ServerTrouble(
            words(
                f"{entry} cannot be loaded: {missing} is missing. Install it: pip install 'understudy-gateway[{extra}]'",
                f"{entry} を読み込めません。{missing} がありません。"
                f"pip install 'understudy-gateway[{extra}]' でインストールしてください。",
            )
            if extra
            else words(
                f"{entry} cannot be loaded: {missing} is missing. Check `entry` in the provider's TOML file, "
                "or install the package that has it.",
                f"{entry} を読み込めません。{missing} がありません。プロバイダーの TOML ファイルの entry を確認するか、"
                "該当するパッケージをインストールしてください。",
            )
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise ServerTrouble(
            words(
                f"{module_name} has no class {class_name!r}. Check `entry` in the provider's TOML file.",
                f"{module_name} にクラス {class_name!r} がありません。プロバイダーの TOML ファイルの entry を確認してください。",
            )
        )
    return found


class _ProviderTable(BaseModel):
    """The `[provider]` table as written; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME)
    title: str = ""
    entry: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    key_env: tuple[str, ...] = ()
    key_pairs: tuple[tuple[str, str], ...] = ()
    docs: str | None = None
    where: Where = Where.CLOUD
    base_url: str | None = Field(default=None, pattern=r"^https?://[^\s/]+")
    keyless: bool = False
    limits: Limits = Limits()
    credit_usd: Decimal | None = Field(default=None, gt=0)
    credit_as_of: date | None = None
    credit_source: str | None = Field(default=None, min_length=1)
    sandbox_path: str | None = Field(default=None, pattern=r"^/[a-z0-9_-]+$")
    options: dict[str, Any] = Field(default_factory=dict)
    models_of: str | None = Field(default=None, pattern=_NAME)
    """Also offer every model of that provider under this name (a second account, another server)."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if isinstance(data.get("key_env"), str):
            data["key_env"] = (data["key_env"],)
        direct = {key: data.pop(key) for key in _LIMITS & set(data)}
        if direct:
            data["limits"] = {**data.get("limits", {}), **direct}
        return data

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.credit_usd is not None and not (self.credit_as_of and self.credit_source):
            raise ValueError("credit_usd needs credit_as_of and credit_source")
        if not self.keyless and not self.key_env and not self.key_pairs:
            raise ValueError("name the variable of the key with key_env, or say keyless = true")
        return self

    def info(self, source: str) -> ProviderInfo:
        """The frozen value the rest of the program sees."""
        return ProviderInfo(
            name=self.name,
            title=self.title or self.name,
            entry=self.entry,
            key_env=self.key_env,
            docs=self.docs,
            where=self.where,
            base_url=self.base_url,
            keyless=self.keyless,
            limits=self.limits,
            credit_usd=self.credit_usd,
            credit_as_of=self.credit_as_of,
            credit_source=self.credit_source,
            sandbox_path=self.sandbox_path,
            options=self.options,
            source=source,
            key_pairs=self.key_pairs,
        )


@dataclass(frozen=True)
class _File:
    source: str
    provider: dict[str, Any]
    models: list[dict[str, Any]]
    name: str | None


class _RowError(Exception):
    """A row that cannot be used; carries the sentence for the person who repairs the file."""

    def __init__(self, en: str, ja: str) -> None:
        super().__init__(en)
        self.message = words(en, ja)


@dataclass
class _Reading:
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

    def read_folder(self, folder: Path, prefix: str) -> None:
        """Every `*.toml` directly in the folder, in alphabetical order; a folder that is not there is empty."""
        for path in sorted(folder.glob("*.toml")):
            source = f"{prefix}{path.name}"
            try:
                data = tomllib.loads(path.read_text(encoding="utf-8"))
                self.files.append(_checked(source, data))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                self.problem(
                    source, None, words(f"not valid TOML: {error}", f"TOML として正しくありません: {error}")
                )
            except OSError as error:
                self.problem(
                    source, None, words(f"cannot be read: {error.strerror}", f"読めません: {error.strerror}")
                )
            except _RowError as error:
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
                info = _ProviderTable.model_validate(merged).info(file.source)
            except ValidationError as error:
                self.problem(file.source, file.name, _explain(error, "provider"))
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
                except _RowError as error:
                    self.problem(file.source, file.name, error.message)
        for name, table in list(self.tables.items()):
            if "models_of" in table:
                self._copy_models(name, str(table["models_of"]))

    def _take(self, file: _File, row: dict[str, Any], number: int, seen: set[str]) -> None:
        model = row.get("id")
        if not isinstance(model, str) or "/" not in model:
            raise _RowError(
                f'[[model]] number {number} needs id = "provider/name"',
                f'{number} 番目の [[model]] に id = "プロバイダー/名前" が必要です',
            )
        if model in seen:
            raise _RowError(
                f"{model} is listed twice; remove one", f"{model} が重複しています。片方を削除してください"
            )
        seen.add(model)
        provider = model.partition("/")[0]
        info = self.providers.get(provider)
        if info is None:
            raise _RowError(
                f"{model}: there is no usable provider {provider!r}; add a [provider] table with entry and key_env",
                f"{model}: 使用できるプロバイダー {provider!r} がありません。entry と key_env を含む [provider] を追加してください",
            )
        users_own = "/" in file.source
        if model in self.rows and not users_own:
            raise _RowError(
                f"{model} is already defined in another file; remove one",
                f"{model} は別のファイルでも定義されています。片方を削除してください",
            )
        merged = _merge(self.rows.get(model, {}), row)
        self.cards[model] = _card(merged, info)
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
                self.cards[twin] = _card({**row, "id": twin}, info)
            except _RowError as error:
                self.problem(info.source, name, error.message)


def _folders(package: str) -> Iterator[Path]:
    """Where a top-level package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(location)


def _checked(source: str, data: dict[str, Any]) -> _File:
    unknown = sorted(set(data) - {"provider", "model"})
    if unknown:
        raise _RowError(
            f"unknown key {unknown[0]!r} at the top; a file has one [provider] table and [[model]] rows",
            f"先頭に未知のキー {unknown[0]!r} があります。ファイルに書けるのは [provider] と [[model]] だけです",
        )
    provider, models = data.get("provider", {}), data.get("model", [])
    if (
        not isinstance(provider, dict)
        or not isinstance(models, list)
        or not all(isinstance(m, dict) for m in models)
    ):
        raise _RowError(
            "write [provider] (single brackets) and [[model]] (double brackets)",
            "[provider] は一重、[[model]] は二重の角括弧で書いてください",
        )
    name = provider.get("name")
    if provider and not isinstance(name, str):
        raise _RowError("[provider] needs name", "[provider] に name が必要です")
    first = models[0].get("id") if models else None
    return _File(
        source, provider, models, name or (first.partition("/")[0] if isinstance(first, str) else None)
    )


def _merge(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **given}
    for key in _TABLES & set(base) & set(given):
        if isinstance(base[key], dict) and isinstance(given[key], dict):
            merged[key] = {**base[key], **given[key]}
    return merged


def _card(row: Mapping[str, Any], info: ProviderInfo) -> ModelCard:
    model = row["id"]
    prices = row.get("prices", [])
    for number, price in enumerate(prices if isinstance(prices, list) else [], 1):
        _check_price(f"{model}, price {number}", f"{model} の価格 {number}", price)
    try:
        card = ModelCard.model_validate({"where": info.where, **row, "backend": info.name})
    except ValidationError as error:
        raise _RowError(*_pair(_explain(error, model))) from None
    if card.local is not None and not card.fps:
        raise _RowError(
            f"{model}: a local model needs fps, for example fps = [16]",
            f"{model}: ローカルモデルには fps が必要です(例: fps = [16])",
        )
    return card.model_copy(
        update={"prices": tuple(_in_dollars(price, card.id, info) for price in card.prices)}
    )


_WHEN_TYPES: dict[str, tuple[type, ...]] = {
    "audio": (bool,),
    "has_image": (bool,),
    "duration": (int, float),
    "fps": (int, float),
}


def _check_price(where_en: str, where_ja: str, price: Any) -> None:
    """What pydantic would let through: money written as a float, a condition of the wrong type."""
    if not isinstance(price, dict):
        raise _RowError(
            f"{where_en}: write [[model.prices]]", f"{where_ja}: [[model.prices]] と書いてください"
        )
    for key in ("usd", "credits"):
        if isinstance(price.get(key), float | bool):
            raise _RowError(
                f'{where_en}: write {key} as text, {key} = "{price[key]}"',
                f'{where_ja}: {key} は文字列で書いてください({key} = "{price[key]}")',
            )
    when = price.get("when", {})
    for key, value in when.items() if isinstance(when, dict) else ():
        kinds = _WHEN_TYPES.get(key, (str,))
        for one in value if isinstance(value, list) else (value,):
            if not isinstance(one, kinds) or (isinstance(one, bool) and bool not in kinds):
                raise _RowError(
                    f"{where_en}: when.{key} = {one!r} never holds; write {_KIND_EN[kinds[0]]}",
                    f"{where_ja}: when.{key} = {one!r} は成立しません。{_KIND_JA[kinds[0]]}で書いてください",
                )


_KIND_EN: dict[type, str] = {bool: "true or false", int: "a number", str: "text in quotes"}
_KIND_JA: dict[type, str] = {bool: "true か false", int: "数値", str: "引用符付きの文字列"}


def _in_dollars(price: Price, model: str, info: ProviderInfo) -> Price:
    """A price in credits, converted with the provider's dated rate; as old as the older of the two facts."""
    if price.credits is None:
        return price
    if info.credit_usd is None or info.credit_as_of is None:
        raise _RowError(
            f"{model}: a price in credits needs credit_usd, credit_as_of and credit_source in [provider]",
            f"{model}: クレジット建ての価格には [provider] に credit_usd、credit_as_of、credit_source が必要です",
        )
    note = (
        f"{price.credits.normalize():f} credits at ${info.credit_usd.normalize():f} each, {info.credit_as_of}"
    )
    return Price(
        usd=price.credits * info.credit_usd,
        per=price.per,
        when=price.when,
        as_of=min(price.as_of, info.credit_as_of),
        source=price.source,
        note=f"{price.note}; {note}" if price.note else note,
    )


_REASONS_JA = {
    "missing": "必須の項目です。追加してください",
    "extra_forbidden": "未知の項目です。綴りを確認するか、削除してください",
    "greater_than_equal": "小さすぎる値です",
    "greater_than": "小さすぎる値です",
    "string_pattern_mismatch": "書式が正しくありません",
    "too_short": "値が足りません",
    "string_too_short": "空にはできません",
    "enum": "使えない値です",
    "literal_error": "使えない値です",
}
_REASONS_EN = {
    "missing": "is required; add it",
    "extra_forbidden": "is not a known key; check the spelling or remove it",
}


def _explain(error: ValidationError, where: str) -> Words:
    """Every fault of a row in one sentence, in both languages."""
    en, ja = [], []
    for item in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in item["loc"])
        reason = re.sub(r"^Value error, ", "", item["msg"])
        en.append(" ".join(filter(None, (place, _REASONS_EN.get(item["type"], reason)))))
        japanese = _REASONS_JA.get(item["type"])
        detail = reason if japanese is None or item["type"] not in _REASONS_EN else ""
        ja.append(" ".join(filter(None, (place, japanese, f"({detail})" if detail and japanese else detail))))
    return words(f"{where}: {'; '.join(en)}", f"{where}: {'。'.join(ja)}")


def _pair(message: Words) -> tuple[str, str]:
    return message.en, message.ja
