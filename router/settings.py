"""One frozen Settings from the environment and `understudy.toml`; keys and tokens are never printed."""

import os
import stat
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from platformdirs import user_data_path
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from router.breakeven import Card
from router.contract.errors import ServerTrouble
from router.contract.refusals import refusal
from router.contract.request import Mode, Substitutes
from router.contract.words import Words, same, words
from router.currency import Currency, Display

PREFIX = "UNDERSTUDY_"
SETTINGS_FILE = "understudy.toml"
KEYS_FILE = "keys.env"

Day = Annotated[Decimal, Field(ge=0, le=10_000_000, decimal_places=6)]
"""A day's budget, US dollars; 0 buys nothing."""
Month = Annotated[Decimal, Field(ge=0, le=100_000_000, decimal_places=6)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RouterSettings(_Section):
    """How jobs are routed."""

    mode: Mode = Mode.CLOUD_FIRST
    too_expensive_usd_per_second: Decimal | None = Field(default=None, ge=0)
    """Cloud offers above this price per second of video count as too expensive; absent: none is."""
    too_expensive_multiple: Decimal | None = Field(default=None, gt=0, le=1_000_000)
    """Cloud offers above this multiple of the local card's full cost of the same job count as too expensive."""
    substitutes: Substitutes | None = None
    default_deadline: float = Field(default=900, gt=0)
    """Seconds; only plans jobs without a deadline, never fails them."""
    value_of_deadline_usd: Decimal = Field(default=Decimal(5), ge=0, le=1_000_000)
    """What a kept deadline is worth: weighs whom a full offer lets go, and a second copy of a slow job."""
    cloud_patience_s: float = Field(default=0, ge=0)
    """How long a resting cloud offer may be waited for in `cloud-first`."""
    max_attempts: int = Field(default=6, ge=1, le=50)
    """Attempts that a backend accepted, per job; what was refused at the door does not count."""
    give_up_s: float | None = Field(default=None, gt=0)
    """Seconds after which an accepted attempt is given up; absent: each model's own longest time."""


class BudgetSettings(_Section):
    """Server-wide hard budgets. Money counts on the day it was reserved."""

    day_usd: Day | None = None
    month_usd: Month | None = None
    timezone: str = "UTC"
    project_day_usd: dict[str, Day] = Field(default_factory=dict)
    """Hard budget per project and day."""
    project_month_usd: dict[str, Month] = Field(default_factory=dict)
    """Hard budget per project and month."""
    pacing: bool = False
    """Whether today's spend may run ahead of the clock by no more than a tenth of the day's budget."""
    currency: Currency = "USD"
    """What people are shown beside US dollars; JSON and books stay in US dollars."""
    jpy_per_usd: Decimal | None = Field(default=None, ge=1, le=10_000)
    jpy_as_of: date | None = None
    """The day on which the user read the rate."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.pacing and self.day_usd is None:
            raise ValueError("pacing needs day_usd: it spreads a day's budget over the day")
        if self.currency == "JPY" and (self.jpy_per_usd is None or self.jpy_as_of is None):
            raise ValueError("currency JPY needs jpy_per_usd and jpy_as_of, a rate and the day you read it")
        if self.jpy_as_of is not None and self.jpy_as_of > datetime.now(UTC).date() + timedelta(days=1):
            raise ValueError("jpy_as_of lies in the future")
        return self

    @property
    def display(self) -> Display:
        """How amounts are shown to a person."""
        return Display(self.currency, self.jpy_per_usd, self.jpy_as_of)

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is no IANA time zone; use a name such as Asia/Tokyo")
        return value

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which days and months turn."""
        return ZoneInfo(self.timezone)


class LocalSettings(_Section):
    """Our own device."""

    enabled: bool = True
    demo_model: bool = False
    """Let the shipped tiny model stand in although other backends are set up (demo and tests)."""
    models: dict[str, str] = Field(default_factory=dict)
    """Local model name -> directory in diffusers format, for models that are not shipped."""
    device: str = "auto"
    carried_by: Literal["here", "worker"] = "here"
    """`worker`: this server plans local jobs and leaves them to `understudy worker` (PostgreSQL)."""
    idle_unload_s: float = Field(default=600, gt=0)
    watts: float = Field(default=570, gt=0)
    """Assumption: RTX 4090 board power 450 W + 120 W host."""
    kwh_usd: Decimal = Field(default=Decimal("0.207"), ge=0)
    """Assumption: 31 yen per kWh at 150 yen per dollar."""
    card_usd: Decimal = Field(default=Decimal(2000), ge=0, le=1_000_000)
    """Assumption: street price of an RTX 4090."""
    host_usd: Decimal = Field(default=Decimal(800), ge=0, le=1_000_000)
    """Assumption: the rest of the machine, as far as it is there for the card."""
    resale_share: Decimal = Field(default=Decimal("0.3"), ge=0, lt=1)
    """Assumption: what is got back at the end."""
    years: Decimal = Field(default=Decimal(3), gt=0, le=50)
    """Assumption: how long it is kept."""
    upkeep_usd: Decimal = Field(default=Decimal(50), ge=0, le=1_000_000)
    """Assumption: repairs and parts, per year."""
    idle_watts: Decimal = Field(default=Decimal(60), ge=0, le=10_000)
    """Assumption: host and card between jobs."""
    utilisation: Decimal = Field(default=Decimal("0.2"), gt=0, le=1)
    """Assumption: share of the year in which it works."""

    @property
    def cost(self) -> Card:
        """These assumptions for the break-even formulas."""
        return Card(
            card_usd=self.card_usd,
            host_usd=self.host_usd,
            resale_share=self.resale_share,
            years=self.years,
            upkeep_usd=self.upkeep_usd,
            watts=Decimal(str(self.watts)),
            idle_watts=self.idle_watts,
            kwh_usd=self.kwh_usd,
            utilisation=self.utilisation,
        )


class ServerSettings(_Section):
    """The HTTP door and the page."""

    token: SecretStr | None = None
    max_upload_mb: int = Field(default=64, ge=1, le=2048)
    allowed_hosts: tuple[str, ...] = ()
    """Further Host names this server answers to, besides loopback and the address it listens on."""


class StorageSettings(_Section):
    """The data folder."""

    keep_days: int | None = Field(default=None, ge=1)
    """Finished jobs, their events and clips are deleted after this many days; absent: kept. The ledger stays."""
    min_free_mb: int = Field(default=500, ge=0)
    """A download does not start below this much free disk."""
    max_download_mb: int = Field(default=2048, ge=1)
    fetch_private_urls: bool = False
    """Whether image URLs of callers may point to private addresses."""


class Settings(_Section):
    """Everything that can be set. Commands' options win over the environment, the environment over the file."""

    home: Path
    database_url: str
    sandbox_url: str | None = None
    router: RouterSettings = RouterSettings()
    budget: BudgetSettings = BudgetSettings()
    local: LocalSettings = LocalSettings()
    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    providers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """`[providers.NAME]`: `enabled`, `base_url`, further keys of that provider."""
    keys: dict[str, SecretStr] = Field(default_factory=dict, repr=False)
    """Secrets by the name of their variable, from the environment and `keys.env`."""

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Self:
        """Read file, environment and command options; raises ServerTrouble with a message that says what to fix.

        `overrides` is section -> key -> value, from a command's options.
        """
        env = os.environ if environ is None else environ
        home = (
            Path(env.get(f"{PREFIX}HOME") or user_data_path("understudy", appauthor=False))
            .expanduser()
            .absolute()
        )
        data = _read_file(home / SETTINGS_FILE)
        for section in _SECTIONS:
            table = data.setdefault(section, {})
            if not isinstance(table, dict):
                raise _broken(
                    home / SETTINGS_FILE,
                    words(f"[{section}] must be a table", f"[{section}] はテーブルにしてください"),
                )
            for key in _SECTIONS[section].model_fields:
                value = env.get(f"{PREFIX}{section}_{key}".upper())
                if value not in (None, ""):
                    table[key] = _from_env(value)
            table.update((overrides or {}).get(section, {}))
        data["home"] = home
        data["database_url"] = (
            env.get(f"{PREFIX}DATABASE_URL")
            or data.get("database_url")
            or f"sqlite:///{home / 'understudy.sqlite'}"
        )
        data["sandbox_url"] = (env.get(f"{PREFIX}SANDBOX_URL") or data.get("sandbox_url") or "").rstrip(
            "/"
        ) or None
        data["keys"] = {**_read_keys(home / KEYS_FILE), **_keys_of(env)}
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _broken(home / SETTINGS_FILE, refusal(error).message) from None

    def key(self, name: str) -> SecretStr | None:
        """The secret of that variable name, if set."""
        return self.keys.get(name)

    @property
    def media_dir(self) -> Path:
        """Where clips and inputs lie."""
        return self.home / "media"


_SECTIONS: dict[str, type[_Section]] = {
    "router": RouterSettings,
    "budget": BudgetSettings,
    "local": LocalSettings,
    "server": ServerSettings,
    "storage": StorageSettings,
}
_KEY_ENDINGS = ("_KEY", "_TOKEN", "_SECRET", "_KEY_ID", "_CREDENTIALS")


def _keys_of(env: Mapping[str, str]) -> dict[str, SecretStr]:
    """Only names that look like credentials are kept, so that the rest of the environment is not copied about."""
    return {
        k: SecretStr(v) for k, v in env.items() if k.endswith(_KEY_ENDINGS) and not k.startswith(PREFIX) and v
    }


def _from_env(value: str) -> Any:
    """Tables and lists are written as in TOML; everything else is left to the field's own parser."""
    if value[:1] in "[{":
        try:
            return tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            return value
    return value


def _broken(path: Path, what: Words) -> ServerTrouble:
    return ServerTrouble(
        words(
            f"Settings are broken ({path.name} or its environment twins): {what.en}",
            f"設定に誤りがあります({path.name} または対応する環境変数): {what.ja}",
        )
    )


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _broken(path, same(str(error))) from None
    except OSError as error:
        raise ServerTrouble(
            words(f"Cannot read {path.name}: {error.strerror}", f"{path.name} を読めません: {error.strerror}")
        ) from None


def _read_keys(path: Path) -> dict[str, SecretStr]:
    """`NAME=value` lines; a file that others can read is refused."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ServerTrouble(
            words(f"Cannot read {path.name}: {error.strerror}", f"{path.name} を読めません: {error.strerror}")
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ServerTrouble(
            words(
                f"{path.name} holds keys and can be read by others. Run: chmod 600 {path.name}",
                f"{path.name} にはキーが含まれていますが、他のユーザーが読める状態です。chmod 600 {path.name} を実行してください。",
            )
        )
    pairs = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip().removeprefix("export ")
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip().isidentifier():
            raise _broken(
                path,
                words(f"line {number} is not NAME=value", f"{number} 行目が NAME=value の形ではありません"),
            )
        pairs[name.strip()] = SecretStr(value.strip().strip("'\""))
    return pairs
