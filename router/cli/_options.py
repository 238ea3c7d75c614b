"""The options that `generate` and `plan` share, each with its help in both languages."""

from typing import Annotated

import typer

from router.cli._text import t
from router.contract.request import CAMERA_PRESETS

Prompt = Annotated[
    str, typer.Argument(help=t("What the clip shows.", "動画の内容(プロンプト)。"), show_default=False)
]
Image = Annotated[
    str | None,
    typer.Option(
        "--image",
        help=t(
            "First frame: a file, an https URL or job:<id>.",
            "最初のフレーム(ファイル、https URL、または job:<id>)。",
        ),
    ),
]
EndImage = Annotated[
    str | None,
    typer.Option("--end-image", help=t("Last frame: a file or an https URL.", "最後のフレーム(同上)。")),
]
Duration = Annotated[
    float | None,
    typer.Option(
        "--duration", help=t("Seconds; absent: the model's own.", "長さ(秒)。省略時はモデルの既定値。")
    ),
]
Resolution = Annotated[
    str | None,
    typer.Option(
        "--resolution", help=t("720p, 1080p, 4k or WIDTHxHEIGHT.", "720p、1080p、4k、または 幅x高さ。")
    ),
]
Aspect = Annotated[
    str | None, typer.Option("--aspect", help=t("16:9, 9:16, 1:1, ...", "16:9、9:16、1:1 など。"))
]
Fps = Annotated[int | None, typer.Option("--fps", help=t("Frames per second.", "フレームレート。"))]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help=t("Same seed, same clip (where the model takes one).", "乱数シード。")),
]
Guidance = Annotated[
    float | None,
    typer.Option("--guidance", help=t("How closely to follow the prompt.", "プロンプトへの忠実度。")),
]
QualityTier = Annotated[
    str | None,
    typer.Option("--quality", help=t("draft, standard or high.", "draft、standard、high のいずれか。")),
]
CameraMove = Annotated[
    str | None,
    typer.Option(
        "--camera",
        help=t(
            f"A preset ({', '.join(CAMERA_PRESETS[:4])}, ...) or one axis: pan=5 (-10 to 10).",
            f"カメラの動き。プリセット({', '.join(CAMERA_PRESETS[:4])} など)または 1 軸: pan=5(-10〜10)。",
        ),
    ),
]
Audio = Annotated[
    bool | None, typer.Option("--audio/--no-audio", help=t("With or without sound.", "音声の有無。"))
]
Negative = Annotated[
    str | None, typer.Option("--negative", help=t("What must not appear.", "ネガティブプロンプト。"))
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help=t("A model id (see: models) or a family.", "モデル ID(models で一覧)またはファミリー名。"),
    ),
]
RunMode = Annotated[
    str | None,
    typer.Option(
        "--mode",
        help=t(
            "cloud-first, local-first, cheapest, fastest or local-only.",
            "cloud-first、local-first、cheapest、fastest、local-only のいずれか。",
        ),
    ),
]
Backends = Annotated[
    list[str] | None,
    typer.Option(
        "--backend", help=t("Only this backend or model; repeatable.", "使うバックエンドを限定(複数可)。")
    ),
]
Forbid = Annotated[
    list[str] | None,
    typer.Option(
        "--forbid", help=t("Never this backend or model; repeatable.", "使わないバックエンド(複数可)。")
    ),
]
Substitutes = Annotated[
    str | None,
    typer.Option(
        "--substitutes",
        help=t(
            "What may stand in for the named model: none, family or any.",
            "指定モデルの代わりに使ってよい範囲: none、family、any。",
        ),
    ),
]
MaxUsd = Annotated[
    str | None,
    typer.Option("--max-usd", help=t("The most this job may cost.", "このジョブに支払う上限(米ドル)。")),
]
Count = Annotated[
    int | None,
    typer.Option(
        "--count",
        help=t(
            "How soon, and for how much, this many such clips could be done.",
            "同様の動画をこの本数作る場合の、最短の完了時刻と費用を表示します。",
        ),
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help=t("With --count: the most they may cost together.", "--count と併用: 全体の予算(米ドル)。"),
    ),
]
Deadline = Annotated[
    str | None,
    typer.Option(
        "--deadline",
        help=t("90s, 15m, 8h from now, or an ISO 8601 time.", "期限。90s、15m、8h、または ISO 8601 の日時。"),
    ),
]
Project = Annotated[
    str | None,
    typer.Option("--project", help=t("Project the money counts for.", "費用を計上するプロジェクト名。")),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task", help=t("text-to-video, image-to-video, ...", "text-to-video、image-to-video など。")
    ),
]
References = Annotated[
    list[str] | None,
    typer.Option(
        "--reference",
        help=t(
            "Another input: a file, an https URL or job:<id>; image=, video= or audio= in front where the name "
            "does not tell; repeatable.",
            "その他の入力(ファイル、https URL、または job:<id>)。種類が名前から分からない場合は image=、video=、audio= を"
            "前に付けます(複数可)。",
        ),
    ),
]
Effect = Annotated[
    str | None,
    typer.Option(
        "--effect", help=t("Name of the effect, for --task effect.", "エフェクト名(--task effect 用)。")
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help=t(
            "A provider's own option: provider.key=value; repeatable.",
            "プロバイダー固有のオプション: provider.key=value(複数可)。",
        ),
    ),
]
Post = Annotated[
    list[str] | None,
    typer.Option(
        "--post",
        help=t(
            "A step on the finished clip: fps=24, upscale=2, loop, loop=crossfade, poster=1.5, gif or webp; repeatable.",
            "完成した動画への後処理: fps=24、upscale=2、loop、loop=crossfade、poster=1.5、gif、webp(複数可)。",
        ),
    ),
]
AllowDrop = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-drop",
        help=t(
            "A field that may be dropped with a warning where a model cannot honour it, or 'all'; repeatable.",
            "モデルが対応しない場合に警告付きで省いてよい項目名、または all(複数可)。",
        ),
    ),
]
DuplicateSpend = Annotated[
    bool,
    typer.Option(
        "--allow-duplicate-spend",
        help=t(
            "A second paid attempt may start while the first is in doubt or likely to miss the deadline.",
            "最初の試行の結果が不明な場合や期限に遅れそうな場合に、2 つ目の有料の試行を許可します。",
        ),
    ),
]
UnknownPrice = Annotated[
    bool,
    typer.Option(
        "--allow-unknown-price",
        help=t("Also models whose price is not known.", "価格が不明なモデルも候補に含めます。"),
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help=t("One JSON value on stdout.", "標準出力に JSON を 1 つだけ出力します。")),
]
Job = Annotated[str, typer.Argument(help=t("Job id.", "ジョブ ID。"), show_default=False)]
