"""`understudy models plan | fit | calibrate`: how a local model would run on a card, and measuring how it does."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import _options as o
from router.cli._app import models
from router.cli._door import BAD_REQUEST, FAILED, Door, door_of
from router.cli._text import t
from router.contract.forecast import CalibratedDevice, ClipWish, DeviceWish, Forecast, Measured
from router.contract.words import Words, same, words

if TYPE_CHECKING:
    from router.gateway import Gateway

IN_SECONDS_TO = 90
"""A clip that takes longer is told in minutes."""

Ram = Annotated[
    float | None,
    typer.Option("--ram", help=t("Memory of the host in GB.", "メインメモリの容量(GB)。")),
]
Capability = Annotated[
    float | None,
    typer.Option(
        "--capability",
        help=t("CUDA compute capability; 8.9 for RTX 40.", "CUDA の compute capability(RTX 40 は 8.9)。"),
    ),
]


@models.command(
    "plan",
    help=t(
        "Plan a local model for a card: memory, seconds, why.",
        "ローカルモデルをカードにどう載せるか(メモリ、秒数、理由)を表示します。",
    ),
)
def plan(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help=t("Local model, such as wan2.2-ti2v-5b.", "ローカルモデル(wan2.2-ti2v-5b など)。"),
            show_default=False,
        ),
    ],
    vram: Annotated[
        float | None,
        typer.Option(
            "--vram",
            help=t(
                "Plan for a card with this many GB; absent: this machine's.",
                "この容量(GB)のカードで計画します。省略時はこのマシンのカード。",
            ),
        ),
    ] = None,
    card: Annotated[
        str | None,
        typer.Option(
            "--card", help=t("The card's name, for the seconds: 'RTX 4070 Ti'.", "秒数の計算に使うカード名。")
        ),
    ] = None,
    ram: Ram = None,
    capability: Capability = None,
    resolution: o.Resolution = None,
    aspect: o.Aspect = None,
    duration: o.Duration = None,
    as_json: o.AsJson = False,
) -> None:
    """Exit code 0 where it fits, 2 where it does not; nothing is loaded."""
    door = door_of(context)
    door.json = as_json
    clip = ClipWish(resolution=resolution, aspect_ratio=aspect, duration=duration)
    device = DeviceWish(vram_gb=vram, card=card, ram_gb=ram, capability=capability)

    async def work(gateway: "Gateway") -> Forecast:
        return await gateway.forecasts.plan(model, clip, device)

    told = door.ask(work)
    if door.json:
        door.value(_json(told, door))
    else:
        _print(told, door)
    if not told.fits:
        door.stop(BAD_REQUEST)


@models.command(
    "fit",
    help=t(
        "Local models by cards of 8, 12, 16 and 24 GB.",
        "8、12、16、24 GB のカードに収まるローカルモデルと速さを表示します。",
    ),
)
def fit(
    context: typer.Context, ram: Ram = None, capability: Capability = None, as_json: o.AsJson = False
) -> None:
    """Every model at its default size and length."""
    door = door_of(context)
    door.json = as_json
    device = DeviceWish(ram_gb=ram, capability=capability)

    async def work(gateway: "Gateway") -> tuple[Forecast, ...]:
        return await gateway.forecasts.fit(device)

    found = door.ask(work)
    if door.json:
        door.value([_json(told, door) for told in found])
        return
    door.table(
        (
            words("model", "モデル"),
            words("clip", "動画"),
            words("card", "カード"),
            words("plan", "構成"),
            words("GPU GB", "GPU GB"),
            words("host GB", "メモリ GB"),
            words("a clip", "1 本"),
            words("basis", "根拠"),
        ),
        (
            (
                told.model,
                f"{told.width}x{told.height}x{told.frames}",
                told.device,
                told.plan if told.fits else words("does not fit", "収まりません").in_(door.lang),
                f"{told.peak_gb:.1f}",
                f"{told.ram_gb:.0f}",
                _time(told.seconds, door),
                _BASES[told.basis].in_(door.lang) if told.fits else "",
            )
            for told in found
        ),
    )
    door.note(
        words(
            "Numbers are estimates until understudy models calibrate has measured them on your card.",
            "数値は推定です。understudy models calibrate で手元のカードを測定すると実測値になります。",
        )
    )


@models.command(
    "calibrate",
    help=t(
        "Measure seconds and memory on this device.",
        "このデバイスでローカルモデルの秒数とメモリを測定します。",
    ),
)
def calibrate(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(help=t("Models; absent: all.", "モデル。省略時はすべて。"), show_default=False),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """A few short clips of each model that is here, or of those named; what they took goes into calibration.json in the
    data folder, a file to share."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> tuple[CalibratedDevice, ...]:
        return await gateway.forecasts.calibrate(names or (), door.note)

    found = door.ask(work)
    rows = [row for device in found for row in device.rows]
    if door.json:
        door.value([device.model_dump(mode="json", exclude_none=True) for device in found])
    elif rows:
        _table(rows, door)
        named = ", ".join(dict.fromkeys(device.device for device in found if device.rows))
        door.say(
            words(
                f"Measured on {named}; kept in calibration.json of the data folder.",
                f"{named} で測定し、データフォルダーの calibration.json に保存しました。",
            )
        )
    if not rows:
        door.note(
            words(
                "Nothing was measured: no local model's weights are here.",
                "測定できませんでした。重みのあるローカルモデルがありません。",
            )
            if not any(device.failed for device in found)
            else words("Nothing was measured.", "測定できませんでした。")
        )
        door.stop(FAILED)


_BASES: dict[str, Words] = {
    "measured": words("measured", "実測"),
    "scaled": words("scaled", "換算"),
    "unknown": words("unknown", "不明"),
}
_TEXT_PLACES: dict[str, Words] = {
    "resident": words("stays on the device", "デバイスに常駐"),
    "visits": words("comes to the card for each new prompt", "新しいプロンプトごとにカードへ移動"),
    "streamed": words("streams through the card", "カードへ順次転送"),
    "cpu": words("on the CPU", "CPU で実行"),
}
_OFFLOADS: dict[str, Words] = {
    "none": words("all parts stay on the device", "すべてデバイスに常駐"),
    "model": words("one part at a time", "1 部品ずつ"),
    "group": words("streams through the card, layer by layer", "層ごとに順次転送"),
}


def _print(told: Forecast, door: Door) -> None:
    yes, no = words("on", "あり"), words("off", "なし")
    weights = same("fp8 (e4m3)" if told.fp8 else told.dtype)
    if told.packed:
        weights = words(f"GGUF, unpacked to {told.dtype}", f"GGUF({told.dtype} に展開して計算)")
    cut = 2**told.tile_cuts
    tiling = words(f"on, tiles of 1/{cut} the side", f"あり(一辺 1/{cut} のタイル)") if cut > 1 else yes
    rows: list[tuple[Words, Words]] = [
        (words("model", "モデル"), same(told.model)),
        (
            words("clip", "動画"),
            words(
                f"{told.width}x{told.height}, {told.frames} frames at {told.fps}, {told.steps} steps",
                f"{told.width}x{told.height}、{told.frames} フレーム({told.fps} fps)、{told.steps} ステップ",
            ),
        ),
        (words("device", "デバイス"), same(told.device)),
        (words("weights", "重み"), weights),
        (words("transformer", "トランスフォーマー"), _OFFLOADS[told.offload]),
        (words("text encoder", "テキストエンコーダー"), _TEXT_PLACES[told.text_encoder]),
        (words("VAE tiling", "VAE タイル処理"), tiling if told.vae_tiling else no),
        (words("attention", "アテンション"), same(told.attention)),
        (words("caching", "キャッシュ"), no if told.caching == "none" else same(told.caching)),
        (words("card memory", "GPU メモリ"), same(f"{told.peak_gb:.1f} GB" if told.peak_gb else "-")),
        (words("host memory", "メインメモリ"), same(f"{told.ram_gb:.0f} GB" if told.ram_gb else "-")),
        (words("a clip takes", "1 本の所要時間"), same(_time(told.seconds, door))),
        (words("basis", "根拠"), told.basis_detail),
    ]
    if told.fits:
        door.table(
            (words("plan", "構成"), words("", "")),
            ((left.in_(door.lang), right.in_(door.lang)) for left, right in rows),
        )
    elif told.why_not is not None:
        door.error(told.why_not, "does_not_fit")
    if told.not_chosen and told.fits:
        door.table(
            (words("not chosen", "選ばれなかった構成"), words("why", "理由")),
            ((other.plan, other.why.in_(door.lang)) for other in told.not_chosen),
        )
    for note in told.notes:
        door.note(note, style="yellow")


def _json(told: Forecast, door: Door) -> dict[str, Any]:
    """Sentences in the reader's language, as everywhere in `--json`."""
    row = told.model_dump(mode="json")
    row["why_not"] = told.why_not.in_(door.lang) if told.why_not else None
    row["basis_detail"] = told.basis_detail.in_(door.lang)
    row["not_chosen"] = [{"plan": other.plan, "why": other.why.in_(door.lang)} for other in told.not_chosen]
    row["notes"] = [note.in_(door.lang) for note in told.notes]
    return row


def _table(rows: list[Measured], door: Door) -> None:
    door.table(
        (
            words("model", "モデル"),
            words("clip", "動画"),
            words("plan", "構成"),
            words("a step", "1 ステップ"),
            words("decode", "デコード"),
            words("GPU GB", "GPU GB"),
            words("predicted", "予測"),
        ),
        (
            (
                row.model,
                f"{row.width}x{row.height}x{row.frames}",
                row.plan,
                f"{row.step_s:.3g} s",
                f"{row.decode_s:.3g} s",
                "-" if row.peak_gb is None else f"{row.peak_gb:.1f}",
                "-" if row.predicted_peak_gb is None else f"{row.predicted_peak_gb:.1f}",
            )
            for row in rows
        ),
    )


def _time(seconds: float | None, door: Door) -> str:
    if seconds is None:
        return words("unknown", "不明").in_(door.lang)
    if seconds < IN_SECONDS_TO:
        return words(f"{seconds:.3g} s", f"{seconds:.3g} 秒").in_(door.lang)
    return words(f"{seconds / 60:.0f} min", f"{seconds / 60:.0f} 分").in_(door.lang)
