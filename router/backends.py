"""Which backends this installation can use, and the one live object of each."""

import hashlib
import importlib.util
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import SecretStr

from router.catalog import Catalog, ProviderInfo, load_entry
from router.contract.backend import Backend, BackendConfig
from router.contract.card import ModelCard, Where
from router.contract.errors import GatewayError, NotFound, ServerTrouble
from router.contract.words import Words, words
from router.media import MediaStore
from router.settings import Settings
from router.weights import installed_folder
from router.weights.folders import named_folder

log = logging.getLogger("understudy.backends")

SANDBOX_KEY = "sandbox-understudy"
SCRATCH_KEPT_S = 86_400.0
SANDBOX_POLL_S = 0.2
"""The twins render in under a second; the vendors' own pace would only slow the rehearsal."""


@dataclass(frozen=True)
class Out:
    """Why a card cannot run here."""

    code: str
    why: Words


class Backends:
    """Settings and catalogue come together here; nothing is imported before it is used."""

    def __init__(
        self, settings: Settings, catalog: Catalog, media: MediaStore, *, local_elsewhere: bool = False
    ) -> None:
        """Reads nothing yet. `local_elsewhere`: workers have the libraries and weights, this process need not."""
        self._local_elsewhere = local_elsewhere
        self._settings = settings
        self._catalog = catalog
        self._media = media
        self._live: dict[str, Backend] = {}
        self._broken: dict[str, Words] = {}

    def get(self, name: str) -> Backend:
        """The live backend; raises ServerTrouble where it cannot be loaded, NotFound where there is none."""
        if name in self._live:
            return self._live[name]
        info = self._catalog.providers.get(name)
        if info is None:
            raise NotFound(words(f"there is no backend {name!r}", f"バックエンド {name!r} はありません"))
        try:
            made = load_entry(info.entry)(self._config(info))
        except GatewayError as error:
            self._broken[name] = error.message
            raise
        except Exception as error:
            log.exception("%s cannot be made", info.entry)
            text = f"{type(error).__name__}: {error}"
            self._broken[name] = words(
                f"{info.entry} cannot be started ({text}); see the log",
                f"{info.entry} を開始できません({text})。ログを確認してください",
            )
            raise ServerTrouble(self._broken[name]) from error
        if not isinstance(made, Backend):
            broken = words(
                f"{info.entry} is not a backend: it lacks a method of router.contract.backend.Backend",
                f"{info.entry} はバックエンドではありません(router.contract.backend.Backend のメソッドが不足しています)",
            )
            self._broken[name] = broken
            raise ServerTrouble(broken)
        self._live[name] = made
        return made

    def out(self, card: ModelCard) -> Out | None:
        """Why this card cannot run on this installation; None when it can."""
        info = self._catalog.providers[card.backend]
        if self._settings.providers.get(info.name, {}).get("enabled") is False:
            return Out("disabled", words("switched off in the settings", "設定で無効になっています"))
        if card.backend in self._broken:
            return Out("broken", self._broken[card.backend])
        if card.local is not None:
            return self._local_out(card)
        if self._settings.sandbox_url and card.where is Where.CLOUD:
            if info.sandbox_path is None:
                return Out("no_twin", words("has no sandbox twin", "サンドボックスに対応していません"))
            return None
        if info.needs_base_url and not self.own_address(info):
            return Out(
                "no_base_url",
                words(
                    f"no address: set base_url in [providers.{info.name}] of understudy.toml",
                    f"アドレスがありません。understudy.toml の [providers.{info.name}] に base_url を設定してください",
                ),
            )
        if not info.keyless and self.key(info) is None:
            names = " / ".join([*info.key_env, *("+".join(pair) for pair in info.key_pairs)])
            return Out(
                "no_key", words(f"no key: set {names}", f"キーがありません。{names} を設定してください")
            )
        return None

    def key(self, info: ProviderInfo) -> SecretStr | None:
        """The first variable (or pair, joined by a colon) that is set; in the sandbox only one that is made for it."""
        found = self._own_key(info)
        if self._settings.sandbox_url and info.where is Where.CLOUD:
            if found is not None and found.get_secret_value().startswith("sandbox-"):
                return found
            paired = bool(info.key_pairs) or bool(info.options.get("key_is_pair"))
            return SecretStr(f"{SANDBOX_KEY}:{SANDBOX_KEY}" if paired else SANDBOX_KEY)
        return found

    def _own_key(self, info: ProviderInfo) -> SecretStr | None:
        for name in info.key_env:
            if (secret := self._settings.key(name)) is not None:
                return secret
        for first, second in info.key_pairs:
            one, two = self._settings.key(first), self._settings.key(second)
            if one is not None and two is not None:
                return SecretStr(f"{one.get_secret_value()}:{two.get_secret_value()}")
        return None

    def own_address(self, info: ProviderInfo) -> str | None:
        """Where the user points this backend instead of the vendor's own address."""
        return self._settings.providers.get(info.name, {}).get("base_url") or info.base_url

    def key_mark(self, backend: str) -> str:
        """Twelve hex digits that change with the key: a refused key rests its backend until it is another one."""
        secret = self.key(self._catalog.providers[backend])
        if secret is None:
            return ""
        text = secret.get_secret_value().encode()
        with suppress(OSError, ValueError):
            # A credentials file: what counts is what it holds.
            text += Path(secret.get_secret_value()).read_bytes()
        return hashlib.sha256(text).hexdigest()[:12]

    async def aclose(self) -> None:
        """Close every backend that was used; children end."""
        for backend in self._live.values():
            await backend.aclose()
        self._live.clear()

    def _config(self, info: ProviderInfo) -> BackendConfig:
        settings = self._settings
        sandbox = settings.sandbox_url is not None and info.where is Where.CLOUD
        own = {
            k: v for k, v in settings.providers.get(info.name, {}).items() if k not in {"enabled", "base_url"}
        }
        options = {
            **info.options,
            "home": str(settings.home),
            "max_download_mb": settings.storage.max_download_mb,
            **own,
        }
        base_url = self.own_address(info)
        if sandbox:
            options.setdefault("poll_after", SANDBOX_POLL_S)
            base_url = f"{settings.sandbox_url}{info.sandbox_path}"
        if info.where is Where.HOUSE:
            local = settings.local
            options = {
                "models": dict(local.models),
                "installed": {
                    card.id.partition("/")[2]: str(installed_folder(settings.home, card))
                    for card in self._catalog.cards.values()
                    if card.backend == info.name and card.local is not None
                },
                "device": local.device,
                "idle_unload_s": local.idle_unload_s,
                **options,
            }
        scratch = settings.home / "tmp" / info.name
        scratch.mkdir(parents=True, exist_ok=True)
        _sweep(scratch)
        return BackendConfig(
            name=info.name,
            cards={card.id: card for card in self._catalog.cards.values() if card.backend == info.name},
            media=self._media,
            scratch=scratch,
            base_url=base_url,
            key=self.key(info),
            options=options,
            credit_usd=info.credit_usd,
            sandbox=sandbox,
        )

    def _local_out(self, card: ModelCard) -> Out | None:
        assert card.local is not None
        if not self._settings.local.enabled:
            return Out("disabled", words("[local] enabled is off", "[local] enabled が無効です"))
        if self._local_elsewhere:
            return None
        missing = _missing_libraries()
        if missing:
            return Out(
                "not_installed",
                words(
                    f"{', '.join(missing)} not installed: pip install 'understudy-gateway[local]'",
                    f"{', '.join(missing)} が未インストールです: pip install 'understudy-gateway[local]'",
                ),
            )
        if weights_folder(card, self._settings) is None:
            name = card.id.partition("/")[2]
            return Out(
                "no_weights",
                words(
                    f"its weights are not here: understudy models pull {name}, or set [local] models.{name} to a folder "
                    "in diffusers format",
                    f"重みがありません。understudy models pull {name} で取得するか、[local] models.{name} に diffusers 形式の"
                    "フォルダーを指定してください",
                ),
            )
        return None


def _sweep(scratch: Path) -> None:
    """Remove what a process that was killed left behind, and nobody fetched since."""
    for path in scratch.iterdir():
        with suppress(OSError):
            if path.is_file() and time.time() - path.stat().st_mtime > SCRATCH_KEPT_S:
                path.unlink()


def weights_folder(card: ModelCard, settings: Settings) -> Path | None:
    """The folder of a local model's weights: as set, as its card says, or where a pull puts it; None where it is not."""
    assert card.local is not None
    name = card.id.partition("/")[2]
    if name in settings.local.models:
        folder = Path(settings.local.models[name]).expanduser()
    elif card.local.path is not None:
        folder = named_folder(card.local.path)
    else:
        folder = installed_folder(settings.home, card)
    return folder if (folder / "model_index.json").is_file() else None


@cache
def _missing_libraries() -> tuple[str, ...]:
    return tuple(
        name for name in ("torch", "diffusers", "transformers") if importlib.util.find_spec(name) is None
    )
