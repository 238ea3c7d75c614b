"""`understudy models pull | list | remove`: the weights of local models in the data folder."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from router.cli import _options as o
from router.cli._app import models
from router.cli._door import Door, door_of
from router.cli._text import t
from router.contract.words import Words, same, words

if TYPE_CHECKING:
    from router.gateway import Gateway, Installed, Pull, PullProgress

    Tell = Callable[[PullProgress], None]

_TENTHS = 10
"""Lines of progress where there is no terminal."""

Name = Annotated[
    str,
    typer.Argument(
        help=t(
            "Local model, such as wan2.2-ti2v-5b.",
            "ローカルモデル(wan2.2-ti2v-5b など)。",
        ),
        show_default=False,
    ),
]


@models.command(
    "pull",
    help=t(
        "Fetch a local model's weights, verified, and resume what was interrupted.",
        "ローカルモデルの重みを取得・検証します。中断した場合は続きから再開します。",
    ),
)
def pull(
    context: typer.Context,
    name: Name,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help=t(
                "Take them from this folder instead of the hub (machines without a network).",
                "ハブではなくこのフォルダーから取り込みます(ネットワークのないマシン用)。",
            ),
            show_default=False,
        ),
    ] = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept-licence",
            help=t("Accept the licence without being asked.", "確認なしでライセンスに同意します。"),
        ),
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision",
            help=t(
                "Branch, tag or commit instead of the card's own.",
                "カードの指定に代わるブランチ、タグ、コミット。",
            ),
            show_default=False,
        ),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """The router uses them from then on, without a restart or a setting."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> "Installed":
        plan = await gateway.weights.plan(name, revision=revision, folder=source)
        for line in _said(plan):
            door.note(line, style="")
        agreed = accept or plan.accepted_at is not None or _agrees(door)
        with _bar(door, plan) as tell:
            return await gateway.weights.pull(plan, accept=agreed, tell=tell)

    row = door.ask(work)
    if as_json:
        door.value(_json(row, door))
        return
    model = row.model or row.name
    door.say(
        words(
            f"{model} is here: {row.folder} ({_size(row.bytes)}). Use it: understudy generate PROMPT --model {model}",
            f"{model} を使用できます: {row.folder}({_size(row.bytes)})。使い方: understudy generate PROMPT --model {model}",
        )
    )


def _said(plan: "Pull") -> list[Words]:
    """What is about to happen, and the licence in full words."""
    place = f"{plan.repository} @ {plan.revision[:12]}" if plan.revision else plan.repository
    sizes = (_size(plan.total_bytes), _size(plan.missing_bytes), _size(plan.free_bytes))
    lines = [plan.licence.text(plan.card.id)]
    if plan.accepted_at is not None:
        day = plan.accepted_at.date().isoformat()
        lines.append(words(f"Accepted here on {day}.", f"このマシンでは {day} に同意済みです。"))
    if plan.complete:
        return [
            *lines,
            words(f"{place}: all {sizes[0]} are here already.", f"{place}: {sizes[0]} すべて取得済みです。"),
        ]
    if plan.origin == "cache":
        lines.append(
            words(
                "The hub cannot be reached; the copy in the Hugging Face cache is used.",
                "ハブに接続できないため、Hugging Face のキャッシュにあるコピーを使用します。",
            )
        )
    if not plan.verified:
        lines.append(
            words(
                "This folder has no checksums (no understudy-weights.json): only headers and lengths are checked.",
                "このフォルダーにはチェックサム(understudy-weights.json)がないため、ヘッダーと長さのみを確認します。",
            )
        )
    lines.append(
        words(
            f"{place}: {len(plan.files)} files, {sizes[0]}; {sizes[1]} to write, {sizes[2]} free.",
            f"{place}: {len(plan.files)} ファイル、{sizes[0]}。書き込み {sizes[1]}、空き {sizes[2]}。",
        )
    )
    return lines


def _agrees(door: Door) -> bool:
    """Asked only where somebody can answer; without an answer nothing is fetched, and the refusal says how."""
    if door.json or not sys.stdin.isatty():
        return False
    question = words("Do you accept this licence?", "このライセンスに同意しますか?")
    return typer.confirm(question.in_(door.lang), err=True)


@contextmanager
def _bar(door: Door, plan: "Pull") -> "Iterator[Tell]":
    """A bar on a terminal, a line per tenth elsewhere; always on stderr."""
    console = door.err
    if not console.is_terminal:
        yield _lines(door)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("", total=plan.total_bytes)

        def tell(step: "PullProgress") -> None:
            progress.update(bar, completed=step.done_bytes, description=escape(step.file[-40:]))

        yield tell


def _lines(door: Door) -> "Tell":
    started = time.monotonic()
    said = 0

    def tell(step: "PullProgress") -> None:
        nonlocal said
        tenth = _TENTHS * step.done_bytes // max(1, step.total_bytes)
        if tenth <= said:
            return
        said = tenth
        speed = _size(int(step.arrived_bytes / max(0.001, time.monotonic() - started)))
        door.note(same(f"{100 * tenth // _TENTHS} % / {_size(step.total_bytes)}, {speed}/s"))

    return tell


_LIST = t(
    "List the weights on this machine and what interrupted pulls have left.",
    "このマシンにある重みと、中断した取得の残りを一覧します。",
)


@models.command("installed", hidden=True, help=_LIST)
@models.command("list", help=_LIST)
def installed(context: typer.Context, as_json: o.AsJson = False) -> None:
    """Wherever they lie: pulled, named in the settings, or by their card."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> "tuple[Installed, ...]":
        return await gateway.weights.installed()

    rows = door.ask(work)
    if as_json:
        door.value([_json(row, door) for row in rows])
        return
    door.table(
        (
            words("model", "モデル"),
            words("size", "サイズ"),
            words("from", "取得元"),
            words("licence", "ライセンス"),
            words("folder", "フォルダー"),
            words("state", "状態"),
        ),
        (
            (
                row.model or f"({row.name})",
                _size(row.bytes) if row.bytes else "",
                _where(row).in_(door.lang),
                row.licence or "",
                str(row.folder),
                _state(row).in_(door.lang),
            )
            for row in rows
        ),
    )


_ORIGINS: dict[str, Words] = {
    "hub": words("hub", "ハブ"),
    "cache": words("hub's cache", "ハブのキャッシュ"),
    "folder": words("folder", "フォルダー"),
    "setting": words("settings", "設定"),
    "card": words("its own card", "モデルのカード"),
}


def _where(row: "Installed") -> Words:
    if row.repository is None:
        return _ORIGINS[row.origin.value] if row.origin else same("")
    return same(f"{row.repository} @ {row.revision[:12]}" if row.revision else row.repository)


def _state(row: "Installed") -> Words:
    if row.problem is not None:
        return row.problem
    if row.partial_bytes and row.model is not None:
        here = _size(row.partial_bytes)
        return words(
            f"{here} of an unfinished pull; go on: understudy models pull {row.name}",
            f"取得が中断しています({here} 取得済み)。続ける: understudy models pull {row.name}",
        )
    if row.model is None:
        return words(
            f"no card names it; delete it: understudy models remove {row.name}",
            f"対応するカードがありません。削除: understudy models remove {row.name}",
        )
    return same("✓")


@models.command(
    "remove",
    help=t(
        "Delete weights that were pulled, whole or unfinished.",
        "取得した重み(途中のものを含む)を削除します。",
    ),
)
def remove(context: typer.Context, name: Name, as_json: o.AsJson = False) -> None:
    """The accepted licence stays noted; a folder of your own is never deleted."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> int:
        return await gateway.weights.remove(name)

    freed = door.ask(work)
    if as_json:
        door.value({"removed": name, "freed_bytes": freed})
        return
    door.say(words(f"{name} is deleted: {_size(freed)}.", f"{name} を削除しました({_size(freed)})。"))


def _json(row: "Installed", door: Door) -> dict[str, Any]:
    return {
        "model": row.model,
        "name": row.name,
        "folder": str(row.folder),
        "from": row.origin.value if row.origin else None,
        "bytes": row.bytes,
        "repository": row.repository,
        "revision": row.revision,
        "licence": row.licence,
        "accepted_at": row.accepted_at.isoformat() if row.accepted_at else None,
        "pulled_at": row.pulled_at.isoformat() if row.pulled_at else None,
        "problem": row.problem.in_(door.lang) if row.problem else None,
        "partial_bytes": row.partial_bytes,
    }


def _size(size: int) -> str:
    """Powers of ten, as shops and the hub count."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
