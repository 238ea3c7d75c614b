"""What `make demo` runs: seven jobs that show where work goes when the cloud is well, limited, down or too dear.

Real diffusion on this machine, real HTTP to the providers' stand-ins, invented money. Everything is made under one
folder, and nothing outlives the run.
"""

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.contract.errors import ServerTrouble
from router.contract.job import Job, Status
from router.contract.request import VideoRequest
from router.contract.words import Lang, Words, words
from router.demo._cases import CASES, CLOUD, LOCAL, Case
from router.demo._sandbox import Sandbox, sandbox
from router.gateway import EngineRole, Gateway
from router.pricing import money
from router.result import job_row
from router.settings import Settings

MARK = ".understudy-demo"
"""Lies in a folder that a demo made, and that the next demo may therefore delete."""
READY_S = 40.0
"""Longest wait for a resting cloud offer between two cases."""


@dataclass
class Demo:
    """One run."""

    folder: Path
    lang: Lang
    console: Console
    cases: Sequence[Case] = CASES

    async def run(self) -> tuple[list[dict[str, Any]], bool]:
        """The rows of results.json, and whether every case ended as it should."""
        await asyncio.to_thread(fresh, self.folder)
        rows: list[dict[str, Any]] = []
        good = True
        self._say(
            words("Starting the providers' stand-ins ...", "プロバイダーの代役を起動しています…"), "dim"
        )
        async with sandbox(self.folder / "sandbox.log") as twins:
            settings = self._settings(twins.url)
            async with Gateway.open(settings, EngineRole.SERVE) as gateway:
                for case in self.cases:
                    row, faults = await self._one(gateway, twins, case)
                    rows.append(row)
                    good = good and not faults
                    self._line(case, row, faults)
                    await asyncio.to_thread(_write, self.folder / "results.json", rows)
                report = await gateway.spend()
            booked = sum((row.settled_usd for row in report.rows), Decimal(0))
        self._table(rows)
        good = self._compare(twins.billed, booked) and good
        self._end(good)
        return rows, good

    def _settings(self, url: str) -> Settings:
        """Nothing of the user's own installation: no keys, no budgets, no other models."""
        environ = {"UNDERSTUDY_HOME": str(self.folder), "UNDERSTUDY_SANDBOX_URL": url}
        return Settings.load(environ, {"local": {"demo_model": True}})

    async def _one(self, gateway: Gateway, twins: Sandbox, case: Case) -> tuple[dict[str, Any], list[Words]]:
        request = await self._request(gateway, case)
        if case.expect == "cloud" or case.fault:
            await _cloud_ready(gateway, request)
        if case.fault:
            await twins.break_with(case.fault, CLOUD)
        with self.console.status(escape(case.title.in_(self.lang))):
            job = await gateway.submit(request)
            async for changed in gateway.watch(job.id):
                job = changed
        await twins.heal()
        clip = None
        if job.status is Status.COMPLETED:
            kept, _ = await gateway.content(job.id)
            clip = self.folder / f"{case.name}.mp4"
            await asyncio.to_thread(shutil.copyfile, kept, clip)
        file = str(clip.relative_to(self.folder.parent)) if clip else None
        return job_row(job, self.lang, file=file, case=case.name), await _faults(case, job, clip)

    async def _request(self, gateway: Gateway, case: Case) -> VideoRequest:
        frames = []
        if case.image:
            asset = await gateway.take_upload(await asyncio.to_thread(_example))
            frames = [{"frame_type": "first_frame", "url": f"asset:{asset.id}"}]
        return VideoRequest.model_validate(
            {
                "prompt": case.prompt,
                "frame_images": frames,
                "preferences": dict(case.preferences),
                "project": "demo",
            }
        )

    def _say(self, message: Words, style: str = "") -> None:
        self.console.print(escape(message.in_(self.lang)), style=style)

    def _line(self, case: Case, row: Mapping[str, Any], faults: Sequence[Words]) -> None:
        mark = "[red]✗[/]" if faults else "[green]✓[/]"
        self.console.print(f"{mark} [bold]{escape(case.title.in_(self.lang))}[/]")
        where = words(f"ran on {row['model']}", f"実行先: {row['model']}").in_(self.lang)
        self.console.print(escape(f"    {where} · {row['reason']}"), highlight=False)
        for attempt in row["attempts"][:-1]:
            before = words(f"before that {attempt['model']}", f"その前に {attempt['model']}").in_(self.lang)
            self.console.print(escape(f"    {before}: {attempt['reason']}"), style="dim", highlight=False)
        figures = words(
            f"estimated ${row['estimate_usd']}, billed ${row['billed_usd']}, {row['seconds']} s",
            f"見積もり ${row['estimate_usd']}、請求 ${row['billed_usd']}、{row['seconds']} 秒",
        ).in_(self.lang)
        self.console.print(escape(f"    {figures} · {row['file']}"), highlight=False)
        for fault in faults:
            self.console.print(escape(f"    {fault.in_(self.lang)}"), style="red", highlight=False)

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        heads = (
            words("case", "ケース"),
            words("ran on", "実行先"),
            words("estimate", "見積もり"),
            words("billed", "請求"),
            words("seconds", "秒"),
        )
        table = Table()
        for head in heads:
            table.add_column(head.in_(self.lang), overflow="fold")
        for row in rows:
            cells = (
                row["case"],
                row["model"] or row["status"],
                f"${row['estimate_usd']}",
                f"${row['billed_usd']}",
                str(row["seconds"]),
            )
            table.add_row(*(escape(cell) for cell in cells))
        self.console.print(table)

    def _compare(self, billed: Decimal, booked: Decimal) -> bool:
        same = billed == booked
        self._say(
            words(
                f"The stand-ins' own bills: ${money(billed)}. Understudy's ledger: ${money(booked)}.",
                f"代役側の請求合計: ${money(billed)}。Understudy の台帳: ${money(booked)}。",
            ),
            "" if same else "red",
        )
        return same

    def _end(self, good: bool) -> None:
        if good:
            self._say(
                words("Every case ended as it should.", "すべてのケースが期待どおりに終了しました。"), "green"
            )
        else:
            self._say(
                words("Not every case ended as it should.", "期待どおりに終わらなかったケースがあります。"),
                "red",
            )
        self._say(
            words(
                "Open the page: make serve, then http://127.0.0.1:7860",
                "画面を開くには make serve を実行し、http://127.0.0.1:7860 を開いてください。",
            )
        )


def fresh(folder: Path) -> None:
    """An empty folder; refuses to delete one that no demo made."""
    try:
        if folder.exists() and any(folder.iterdir()):
            if not (folder / MARK).is_file():
                raise ServerTrouble(
                    words(
                        f"{folder} is not empty and was not made by a demo; name another with --folder.",
                        f"{folder} は空ではなく、デモが作成したものでもありません。--folder で別の場所を指定してください。",
                    )
                )
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).write_text(
            "Made by understudy demo, which deletes this folder at its next run.\n", "utf-8"
        )
    except OSError as error:
        raise ServerTrouble(
            words(
                f"Cannot write to {folder}: {error.strerror}", f"{folder} に書き込めません: {error.strerror}"
            )
        ) from None


def _example() -> bytes:
    """The picture that ships beside the tiny model; found without importing anything of it."""
    spec = find_spec("local_models")
    if spec is None or spec.origin is None:
        raise ServerTrouble(
            words("local_models is not installed.", "local_models がインストールされていません。")
        )
    return (Path(spec.origin).parent / "tiny" / "example.png").read_bytes()


def _write(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.write_text(json.dumps(rows, ensure_ascii=False, indent=2) + "\n", "utf-8")


async def _cloud_ready(gateway: Gateway, request: VideoRequest) -> None:
    """Wait until no earlier case's Retry-After or breaker keeps the cloud away from this one."""
    loop = asyncio.get_running_loop()
    until = loop.time() + READY_S
    while loop.time() < until:
        decision = await gateway.plan(request)
        if not any(rejected.ready_at is not None for rejected in decision.rejected):
            return
        await asyncio.sleep(0.2)


async def _faults(case: Case, job: Job, clip: Path | None) -> list[Words]:
    """What is not as it should be."""
    found = []
    if job.status is not Status.COMPLETED or clip is None:
        found.append(words(f"ended {job.status}", f"状態が {job.status} で終了しました"))
    elif not await asyncio.to_thread(playable, clip):
        found.append(words("the clip cannot be played", "動画を再生できません"))
    if (job.backend == LOCAL) != (case.expect == LOCAL):
        found.append(words(f"should have run on {case.expect}", f"{case.expect} で実行されるはずでした"))
    codes = {attempt.error.code for attempt in job.attempts if attempt.error}
    if case.refused_with and case.refused_with not in codes:
        found.append(
            words(
                f"no attempt ended with {case.refused_with}",
                f"{case.refused_with} で終わった試行がありません",
            )
        )
    accepted = [attempt for attempt in job.attempts if attempt.backend != LOCAL and attempt.accepted_at]
    if case.accepted_first and not accepted:
        found.append(words("the cloud never accepted it", "クラウドが一度も受け付けていません"))
    return found


def playable(clip: Path) -> bool:
    """Whether every frame of it decodes, and there is more than one."""
    import av

    try:
        with av.open(str(clip)) as container:
            return sum(1 for _ in container.decode(video=0)) > 1
    except (av.FFmpegError, IndexError):
        return False
