"""What is wrong with this installation, and how to fix it: one finding per thing that must work."""

import asyncio
import importlib.util
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from router.contract.errors import GatewayError
from router.contract.words import Words, same, words
from router.settings import Settings

if TYPE_CHECKING:
    from router.gateway import EngineRole, Gateway, ModelRow

OpenGateway = Callable[[Settings, "EngineRole"], AbstractAsyncContextManager["Gateway"]]
_OLDEST = (3, 11)


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Works, but somebody may want to know."""
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    level: Level
    what: Words
    fix: Words | None = None
    """What to do; None where nothing is to be done."""


def _ok(check: str, what: Words) -> Finding:
    return Finding(check, Level.OK, what)


def _problem(check: str, what: Words, fix: Words) -> Finding:
    return Finding(check, Level.PROBLEM, what, fix)


def _note(check: str, what: Words, fix: Words | None = None) -> Finding:
    return Finding(check, Level.NOTE, what, fix)


async def examine(
    environ: Mapping[str, str], open_gateway: OpenGateway, *, host: str = "127.0.0.1", port: int = 7860
) -> AsyncIterator[Finding]:
    """Yield the findings as they are made; raises nothing that is wrong with the installation."""
    yield python(sys.version_info[:2])
    for extra, modules in (("local", ("torch", "diffusers")), ("ui", ("gradio",))):
        yield extras(extra, modules)
    yield encoder()
    yield await asyncio.to_thread(free_port, host, port)
    yield browser(environ)
    yield device()
    try:
        settings = Settings.load(environ)
    except GatewayError as error:
        yield _problem(
            "settings", error.message, words("Correct it and try again.", "修正して再実行してください。")
        )
        return
    yield _ok(
        "settings", words(f"Settings are read from {settings.home}.", f"設定の読み込み元: {settings.home}")
    )
    found = await asyncio.to_thread(folder, settings.home)
    yield found
    if found.level is Level.PROBLEM:
        return
    yield await asyncio.to_thread(disk, settings.home, settings.storage.min_free_mb)
    async for finding in _inside(settings, open_gateway):
        yield finding


def python(version: tuple[int, ...]) -> Finding:
    """The interpreter's version."""
    have = ".".join(str(part) for part in version)
    if version >= _OLDEST:
        return _ok("python", words(f"Python {have}.", f"Python {have}。"))
    return _problem(
        "python",
        words(f"Python {have} is too old.", f"Python {have} は古すぎます。"),
        words("Install Python 3.11 or newer.", "Python 3.11 以降をインストールしてください。"),
    )


def extras(extra: str, modules: tuple[str, ...]) -> Finding:
    """Whether the packages of an extra are installed; looked up, not imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if not missing:
        return _ok(
            f"extra {extra}",
            words(f"{', '.join(modules)} installed.", f"{'、'.join(modules)} は導入済みです。"),
        )
    lost = {
        "local": words("Local models cannot run.", "ローカルモデルは実行できません。"),
        "ui": words(
            "The page cannot be served; the API can (--no-page).",
            "画面は提供できません(API のみなら --no-page)。",
        ),
    }[extra]
    names = ", ".join(missing)
    return _note(
        f"extra {extra}",
        words(f"{names} not installed. {lost.en}", f"{names} がありません。{lost.ja}"),
        words(f"pip install '.[{extra}]'", f"pip install '.[{extra}]' を実行してください。"),
    )


def encoder() -> Finding:
    """PyAV brings its own FFmpeg; without an H.264 encoder local clips cannot be written."""
    fix = words("pip install --force-reinstall av", "pip install --force-reinstall av を実行してください。")
    try:
        import av
        from av.codec import Codec

        Codec("libx264", "w")
    except ImportError as error:
        return _problem("encoder", same(f"PyAV: {error}"), fix)
    except ValueError:
        return _problem(
            "encoder", words("PyAV has no H.264 encoder.", "PyAV に H.264 エンコーダーがありません。"), fix
        )
    return _ok("encoder", words(f"PyAV {av.__version__} with H.264.", f"PyAV {av.__version__}(H.264 対応)。"))


def free_port(host: str, port: int) -> Finding:
    """Whether `serve` could listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return _note(
                "port",
                words(f"{host}:{port}: {error.strerror}.", f"{host}:{port}: {error.strerror}"),
                words(
                    "If that is not your own understudy serve, choose another: understudy serve --port N",
                    "起動中の understudy serve でなければ、別のポートを指定してください: understudy serve --port N",
                ),
            )
    return _ok("port", words(f"{host}:{port} is free.", f"{host}:{port} は空いています。"))


def browser(environ: Mapping[str, str]) -> Finding:
    """Chromium is needed by `make browser` alone."""
    found = shutil.which("chromium", path=environ.get("PATH")) or shutil.which(
        "google-chrome", path=environ.get("PATH")
    )
    if found:
        return _ok("browser", words(f"Chromium at {found}.", f"Chromium: {found}"))
    return _note(
        "browser",
        words(
            "No Chromium; only the browser tests need it.",
            "Chromium がありません(ブラウザーテストにのみ必要です)。",
        ),
    )


def device() -> Finding:
    """Whether an NVIDIA driver is there; asked of the file system, since importing torch takes seconds."""
    if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        return _ok("device", words("An NVIDIA driver is installed.", "NVIDIA ドライバーがあります。"))
    return _note(
        "device",
        words(
            "No NVIDIA driver: the shipped tiny model runs on the CPU, production models need a card.",
            "NVIDIA ドライバーがありません。付属の小型モデルは CPU で動作しますが、本番用モデルには GPU が必要です。",
        ),
    )


def folder(home: Path) -> Finding:
    """Whether the data folder can be made and written to."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        return _problem(
            "folder",
            words(f"Cannot write to {home}: {error.strerror}.", f"{home} に書き込めません: {error.strerror}"),
            words(
                "Repair its rights, or choose another with UNDERSTUDY_HOME.",
                "権限を直すか、UNDERSTUDY_HOME で別のフォルダーを指定してください。",
            ),
        )
    return _ok("folder", words(f"{home} is writable.", f"{home} に書き込めます。"))


def disk(home: Path, min_free_mb: int) -> Finding:
    """Room for clips."""
    free_mb = shutil.disk_usage(home).free // 2**20
    if free_mb < min_free_mb:
        return _problem(
            "disk",
            words(
                f"{free_mb} MB free, downloads stop below {min_free_mb} MB.",
                f"空き {free_mb} MB。{min_free_mb} MB 未満ではダウンロードしません。",
            ),
            words(
                "Make room, or lower [storage] min_free_mb; [storage] keep_days deletes old clips by itself.",
                "空きを増やすか [storage] min_free_mb を下げてください。[storage] keep_days で古い動画を自動削除できます。",
            ),
        )
    return _ok("disk", words(f"{free_mb} MB free.", f"空き {free_mb} MB。"))


async def _inside(settings: Settings, open_gateway: OpenGateway) -> AsyncIterator[Finding]:
    """What only an open gateway can tell: database, keys, weights, money."""
    from router.gateway import EngineRole

    try:
        async with open_gateway(settings, EngineRole.NONE) as gateway:
            kind = "PostgreSQL" if settings.database_url.startswith("postgres") else "SQLite"
            yield _ok(
                "database",
                words(
                    f"{kind} answers and its tables are up to date.",
                    f"{kind} に接続でき、テーブルは最新です。",
                ),
            )
            for problem in gateway.problems:
                yield _problem(
                    "catalogue",
                    problem,
                    words(
                        "Correct the file in the folder providers.",
                        "providers フォルダーのファイルを修正してください。",
                    ),
                )
            for finding in await _backends(gateway):
                yield finding
            unresolved = (await gateway.spend()).unresolved
            if unresolved:
                yield _note(
                    "money",
                    words(
                        f"Unresolved jobs hold reserved money: {', '.join(unresolved)}.",
                        f"未解決のジョブが予算を確保したままです: {'、'.join(unresolved)}",
                    ),
                    words(
                        "Look at the provider's bill, then understudy settle JOB.",
                        "プロバイダーの請求を確認し、understudy settle JOB で確定してください。",
                    ),
                )
    except GatewayError as error:
        yield _problem(
            "database",
            error.message,
            words(
                "Check UNDERSTUDY_DATABASE_URL and the data folder.",
                "UNDERSTUDY_DATABASE_URL とデータフォルダーを確認してください。",
            ),
        )


async def _backends(gateway: "Gateway") -> list[Finding]:
    findings = []
    rows = await gateway.providers()
    keyed = [row.name for row in rows if row.key_env and row.key_present]
    variables = [name for row in rows if row.key_env and not row.key_present for name in row.key_env]
    if keyed:
        findings.append(
            _ok("keys", words(f"Keys for {', '.join(keyed)}.", f"キー設定済み: {'、'.join(keyed)}"))
        )
    else:
        findings.append(
            _note(
                "keys",
                words(
                    "No provider key is set: only local models run.",
                    "プロバイダーのキーが未設定です。ローカルモデルのみ動作します。",
                ),
                words(
                    f"Set one of {', '.join(variables)}.",
                    f"次のいずれかを設定してください: {'、'.join(variables)}",
                ),
            )
        )
    for row in rows:
        if not row.set_up:
            continue
        if row.problem:
            findings.append(
                _problem(
                    f"backend {row.name}",
                    row.problem,
                    words("See: understudy providers", "understudy providers で確認してください。"),
                )
            )
        if row.price_stale:
            findings.append(
                _note(
                    f"prices {row.name}",
                    words(
                        f"Prices are as of {row.price_as_of}.", f"価格は {row.price_as_of} 時点のものです。"
                    ),
                )
            )
    findings += _weights(gateway.settings, await gateway.models())
    return findings


def _weights(settings: Settings, models: "tuple[ModelRow, ...]") -> list[Finding]:
    """A model that ships or was named must be there; the others are an offer."""
    findings, further = [], []
    for model in models:
        local = model.card.local
        if local is None:
            continue
        check = f"weights {model.card.id}"
        if model.available:
            findings.append(_ok(check, words("Present.", "あります。")))
        elif model.why_not and (local.repository is None or model.card.wire_id in settings.local.models):
            findings.append(
                _problem(
                    check,
                    model.why_not,
                    words(
                        "Get them again, or correct the folder under [local.models] in understudy.toml.",
                        "取得し直すか、understudy.toml の [local.models] のフォルダーを修正してください。",
                    ),
                )
            )
        else:
            further.append(model.card.id)
    if further:
        findings.append(
            _note(
                "weights",
                words(
                    f"Not downloaded, not needed: {', '.join(further)}. To fetch one: understudy models pull NAME",
                    f"未取得(必須ではありません): {'、'.join(further)}。取得する場合: understudy models pull 名前",
                ),
            )
        )
    return findings
