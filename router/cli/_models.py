"""`understudy models`: what there is, what it can do and costs; and a row for a model that is not in the catalogue."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tomli_w
import typer

from router.cli import _options as o
from router.cli._app import models as app
from router.cli._door import Door, door_of
from router.cli._request import usd
from router.cli._text import t
from router.contract.errors import InvalidRequest
from router.contract.request import TASK_ALIASES, Task
from router.contract.words import words
from router.pricing import money

if TYPE_CHECKING:
    from router.gateway import Gateway, ModelRow

_SHORT = {task: alias for alias, task in TASK_ALIASES.items()}
_RATIO = re.compile(r"[1-9]\d{0,2}:[1-9]\d{0,2}")


def _task(name: str | None) -> Task | None:
    if name is None:
        return None
    lower = name.lower()
    known = {**{task.value: task for task in Task}, **TASK_ALIASES}
    if lower not in known:
        raise InvalidRequest(
            words(
                f"--task: {name!r} is not one of {', '.join(Task)}",
                f"--task: {name!r} は次のいずれでもありません: {'、'.join(Task)}",
            )
        )
    return known[lower]


def _row(row: "ModelRow", door: Door) -> dict[str, Any]:
    card = row.card
    return {
        "model": card.id,
        "backend": card.backend,
        "family": card.family,
        "title": card.title,
        "where": card.where.value,
        "tasks": [task.value for task in card.tasks],
        "durations": list(card.durations),
        "duration_range": list(card.duration_range) if card.duration_range else None,
        "resolutions": list(card.resolutions),
        "aspect_ratios": list(card.aspect_ratios),
        "last_frame": card.last_frame,
        "references": dict(card.references),
        "audio": card.audio,
        "camera": card.camera,
        "negative_prompt": card.negative_prompt,
        "seed": card.seed,
        "effects": list(card.effects),
        "options": dict(card.options),
        "prompt_max": card.prompt_max,
        "cancel": card.cancel,
        "failure_billed": card.failure_billed,
        "lost_submit": card.lost_submit.value,
        "available": row.available,
        "why_not": row.why_not.in_(door.lang) if row.why_not else None,
        "usd_example": money(row.usd_example),
        "price_as_of": row.price_as_of,
        "price_stale": row.price_stale,
    }


@app.callback()
def models(
    context: typer.Context,
    task: o.TaskName = None,
    aspect: o.Aspect = None,
    max_usd: Annotated[
        str | None,
        typer.Option(
            "--max-usd",
            help=t(
                "Only where the plainest such clip costs at most this.",
                "最も基本的な 1 本がこの額以下のもの。",
            ),
        ),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Filters narrow the list and price just what they name; an unknown price passes no --max-usd."""
    if context.invoked_subcommand is not None:
        return
    door = door_of(context)
    door.json = as_json
    wanted = _task(task)
    if aspect is not None and not _RATIO.fullmatch(aspect):
        raise InvalidRequest(
            words(
                f"--aspect: {aspect!r} is not of the form 16:9",
                f"--aspect: {aspect!r} は 16:9 の形ではありません",
            )
        )
    most = None if max_usd is None else usd(max_usd, "--max-usd")

    async def work(gateway: "Gateway") -> "tuple[ModelRow, ...]":
        for problem in gateway.problems:
            door.note(problem, style="yellow")
        return await gateway.models(task=wanted, aspect_ratio=aspect)

    rows = [
        row
        for row in door.ask(work)
        if most is None or (row.usd_example is not None and row.usd_example <= most)
    ]
    if door.json:
        door.value([_row(row, door) for row in rows])
        return
    door.table(
        (
            words("model", "モデル"),
            words("tasks", "タスク"),
            words("seconds", "秒"),
            words("can", "機能"),
            words("a clip", "1 本の価格"),
            words("price of", "価格の日付"),
            words("available", "利用"),
        ),
        (
            (
                row.card.id,
                " ".join(_SHORT.get(task, task.value) for task in row.card.tasks),
                _lengths(row),
                _abilities(row, door),
                door.amount(row.usd_example),
                _dated(row, door),
                row.why_not.in_(door.lang) if row.why_not else "✓",
            )
            for row in rows
        ),
    )
    if not rows:
        door.note(
            words(
                "No model can do that. Leave out a filter to see more.",
                "該当するモデルがありません。条件を減らしてください。",
            )
        )


def _dated(row: "ModelRow", door: Door) -> str:
    old = words(" (old)", "(古い)").in_(door.lang)
    return (row.price_as_of or "") + (old if row.price_stale else "")


def _lengths(row: "ModelRow") -> str:
    if row.card.duration_range:
        shortest, longest, _ = row.card.duration_range
        return f"{shortest:g}-{longest:g}"
    return " ".join(f"{length:g}" for length in row.card.durations)


def _abilities(row: "ModelRow", door: Door) -> str:
    card = row.card
    flags = (
        (card.audio != "none", words("sound", "音声")),
        (card.last_frame, words("last frame", "終了フレーム")),
        (card.camera in {"presets", "axes"}, words("camera", "カメラ")),
        (card.seed, words("seed", "シード")),
    )
    said = [text.in_(door.lang) for there, text in flags if there]
    return " ".join([*card.resolutions, *(["·", *said] if said else [])])


@app.command(
    "read",
    help=t(
        "Read a model's own schema from its provider and print a row for it (fal, Replicate).",
        "プロバイダーからモデルのスキーマを読み取り、カタログの行を出力します(fal、Replicate)。",
    ),
)
def read(
    context: typer.Context,
    backend: Annotated[
        str, typer.Argument(help=t("Backend, such as fal.", "バックエンド(fal など)。"), show_default=False)
    ],
    wire_id: Annotated[
        str,
        typer.Argument(
            help=t("The provider's own name of the model.", "プロバイダーでのモデル名。"), show_default=False
        ),
    ],
    save: Annotated[
        bool,
        typer.Option(
            "--save",
            help=t(
                "Write it into the data folder, so that it can be used at once.",
                "データフォルダーに保存し、すぐに使えるようにします。",
            ),
        ),
    ] = False,
) -> None:
    """Its price is in no schema: the row says so, and a cap keeps the model out until a price row is added."""
    door = door_of(context)
    settings = door.settings()

    async def work(gateway: "Gateway") -> dict[str, Any]:
        return await gateway.describe(backend, wire_id)

    row = door.ask(work)
    text = tomli_w.dumps({"model": [row]})
    if not save:
        door.out.print(text, markup=False, end="")
        return
    name = re.sub(r"[^a-z0-9]+", "-", f"{backend}-{wire_id}".lower()).strip("-")
    path = settings.home / "providers" / f"{name}.toml"
    _write_new(path, text)
    door.say(
        words(
            f"{row['id']} is written to {path.name} in the folder providers. Its price is unknown: add [[model.prices]].",
            f"{row['id']} を providers フォルダーの {path.name} に保存しました。価格は不明です。[[model.prices]] を追加してください。",
        )
    )


def _write_new(path: Path, text: str) -> None:
    """A row that somebody has corrected by hand is not overwritten."""
    if path.exists():
        raise InvalidRequest(
            words(
                f"{path.name} is there already; remove it first, or edit it",
                f"{path.name} は既に存在します。先に削除するか、編集してください",
            )
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
