"""One row of a TOML file checked and turned into a value; what is wrong with it is said to the one who repairs it."""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from router.catalog.values import ProviderInfo
from router.contract.card import CONDITIONS, Limits, ModelCard, Price, Where
from router.contract.words import Words, words

_NAME = r"^[a-z0-9][a-z0-9_.-]*$"
_LIMITS = frozenset(Limits.model_fields)


class RowError(Exception):
    """A row that cannot be used; carries the sentence for the person who repairs the file."""

    def __init__(self, en: str, ja: str) -> None:
        """The same sentence in both languages, beginning with the row's id."""
        super().__init__(en)
        self.message = words(en, ja)


class ProviderTable(BaseModel):
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
    """Whether it works without a key; a key that is set is sent all the same."""
    needs_base_url: bool = False
    """True for a protocol without a server of its own: out until `base_url` is set."""
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

    def info(self, source: str) -> ProviderInfo:
        """The frozen value the rest of the program sees; raises RowError where two keys belong together."""
        if self.credit_usd is not None and not (self.credit_as_of and self.credit_source):
            raise RowError(
                "credit_usd needs credit_as_of and credit_source beside it",
                "credit_usd には credit_as_of と credit_source も必要です",
            )
        if not self.keyless and not self.key_env and not self.key_pairs:
            raise RowError(
                "name the variable of the key with key_env, or say keyless = true",
                "キーの環境変数名を key_env に書くか、keyless = true と指定してください",
            )
        return ProviderInfo(
            name=self.name,
            title=self.title or self.name,
            entry=self.entry,
            key_env=self.key_env,
            docs=self.docs,
            where=self.where,
            base_url=self.base_url,
            keyless=self.keyless,
            needs_base_url=self.needs_base_url,
            limits=self.limits,
            credit_usd=self.credit_usd,
            credit_as_of=self.credit_as_of,
            credit_source=self.credit_source,
            sandbox_path=self.sandbox_path,
            options=self.options,
            source=source,
            key_pairs=self.key_pairs,
        )


def card_of(row: Mapping[str, Any], info: ProviderInfo) -> ModelCard:
    """The card of a complete row, prices in dollars; raises RowError."""
    model = row["id"]
    prices = row.get("prices", [])
    for number, price in enumerate(prices if isinstance(prices, list) else [], 1):
        _check_price(f"{model}, price {number}", f"{model} の価格 {number}", price)
    impossible = row.get("impossible", [])
    for when in impossible if isinstance(impossible, list) else ():
        _check_when(f"{model}: impossible", f"{model} の impossible", when)
    try:
        card = ModelCard.model_validate({"where": info.where, **row, "backend": info.name})
    except ValidationError as error:
        said = explain(error, model)
        raise RowError(said.en, said.ja) from None
    if card.local is not None and not card.fps:
        raise RowError(
            f"{model}: a local model needs fps, for example fps = [16]",
            f"{model}: ローカルモデルには fps が必要です(例: fps = [16])",
        )
    return card.model_copy(
        update={"prices": tuple(_in_dollars(price, card.id, info) for price in card.prices)}
    )


_WHEN_TYPES: dict[str, tuple[type, ...]] = {
    "audio": (bool,),
    **dict.fromkeys(("has_image", "has_last_frame", "has_video", "has_references", "has_camera"), (bool,)),
    "duration": (int, float),
    "fps": (int, float),
}


def _check_price(where_en: str, where_ja: str, price: Any) -> None:
    """What pydantic would let through: money written as a float, a condition of the wrong type."""
    if not isinstance(price, dict):
        raise RowError(
            f"{where_en}: write [[model.prices]]", f"{where_ja}: [[model.prices]] と書いてください"
        )
    for key in ("usd", "credits"):
        if isinstance(price.get(key), float | bool):
            raise RowError(
                f'{where_en}: write {key} as text, {key} = "{price[key]}"',
                f'{where_ja}: {key} は文字列で書いてください({key} = "{price[key]}")',
            )
    if ("usd" in price) == ("credits" in price):
        raise RowError(
            f"{where_en}: a price row has either usd or credits",
            f"{where_ja}: usd と credits のどちらか一方だけを書いてください",
        )
    _check_when(f"{where_en}: when", f"{where_ja}: when", price.get("when", {}))


def _check_when(where_en: str, where_ja: str, when: Any) -> None:
    """Unknown conditions, and values that a condition can never have."""
    for key, value in when.items() if isinstance(when, dict) else ():
        if key not in CONDITIONS:
            known = ", ".join(sorted(CONDITIONS))
            raise RowError(
                f"{where_en} has an unknown condition {key}; known: {known}",
                f"{where_ja} に未知の条件 {key} があります。使えるもの: {known}",
            )
        kinds = _WHEN_TYPES.get(key, (str,))
        for one in value if isinstance(value, list) else (value,):
            if not isinstance(one, kinds) or (isinstance(one, bool) and bool not in kinds):
                raise RowError(
                    f"{where_en}.{key} = {one!r} never holds; write {_KIND_EN[kinds[0]]}",
                    f"{where_ja}.{key} = {one!r} は成立しません。{_KIND_JA[kinds[0]]}で書いてください",
                )


_KIND_EN: dict[type, str] = {bool: "true or false", int: "a number", str: "text in quotes"}
_KIND_JA: dict[type, str] = {bool: "true か false", int: "数値", str: "引用符付きの文字列"}


def _in_dollars(price: Price, model: str, info: ProviderInfo) -> Price:
    """A price in credits, converted with the provider's dated rate; as old as the older of the two facts."""
    if price.credits is None:
        return price
    if info.credit_usd is None or info.credit_as_of is None:
        raise RowError(
            f"{model}: a price in credits needs credit_usd, credit_as_of and credit_source in [provider]",
            f"{model}: クレジット建ての価格には [provider] に credit_usd、credit_as_of、credit_source が必要です",
        )
    note = (
        f"{price.credits.normalize():f} credits at ${info.credit_usd.normalize():f} each, {info.credit_as_of}"
    )
    return price.model_copy(
        update={
            "usd": price.credits * info.credit_usd,
            "credits": None,
            "as_of": min(price.as_of, info.credit_as_of),
            "note": f"{price.note}; {note}" if price.note else note,
        }
    )


_REASONS = {
    "missing": words("is required; add it", "必須の項目です。追加してください"),
    "extra_forbidden": words(
        "is not a known key; check the spelling or remove it",
        "未知の項目です。綴りを確認するか、削除してください",
    ),
}


def explain(error: ValidationError, where: str) -> Words:
    """Every fault of a row in one sentence, in both languages."""
    en, ja = [], []
    for item in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in item["loc"])
        detail = re.sub(r"^Value error, ", "", item["msg"])
        reason = _REASONS.get(item["type"], words(f"is wrong: {detail}", f"値が正しくありません({detail})"))
        en.append(f"{place} {reason.en}".strip())
        ja.append(f"{place} {reason.ja}".strip())
    return words(f"{where}: {'; '.join(en)}", f"{where}: {'。'.join(ja)}")
