"""The command line: exit codes, one JSON value on stdout, one clear line per error, both languages."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import av
import pytest
from PIL import Image

from router.cli import main
from router.contract import errors
from router.contract.card import Asset
from router.contract.job import Decision, Job, JobError, Status
from router.contract.request import VideoRequest
from router.contract.words import words
from router.settings import Settings

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Cli:
    """Runs commands in this process, in a data folder of the test's own."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.capsys = capsys
        self.environ = {"UNDERSTUDY_HOME": str(home)}

    def __call__(self, *argv: str, gateway: "Scripted | None" = None, **environ: str) -> Ran:
        self.capsys.readouterr()
        opened = (lambda settings, role: gateway) if gateway else None
        code = main(list(argv), environ={**self.environ, **environ}, open_gateway=opened)
        said = self.capsys.readouterr()
        return Ran(code, said.out, said.err)


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(home, capsys)


class Scripted:
    """A gateway whose one job ends as the test says."""

    engine_here = True
    problems = ()

    def __init__(self, status: Status, error: JobError | None = None, *, interrupt: bool = False) -> None:
        self.status = status
        self.error = error
        self.interrupt = interrupt
        self.requests: list[VideoRequest] = []
        self.key: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _job(self, status: Status) -> Job:
        return Job(
            id="vid_1",
            status=status,
            request=self.requests[-1],
            seed=1,
            backend="runway",
            model="runway/gen4.5",
            estimate_usd=Decimal("0.60"),
            error=self.error if status.ended else None,
            created_at=NOW,
            ended_at=NOW if status.ended else None,
        )

    async def submit(self, request: VideoRequest, *, idempotency_key: str | None = None) -> Job:
        self.requests.append(request)
        self.key = idempotency_key
        return self._job(Status.QUEUED)

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        yield self._job(Status.RUNNING)
        if self.interrupt:
            raise KeyboardInterrupt
        yield self._job(self.status)

    async def plan(self, request: VideoRequest) -> Decision:
        self.requests.append(request)
        return Decision(
            at=NOW,
            mode="cloud-first",
            chosen=None,
            candidates=(),
            rejected=(),
            reason=words("nobody can", "実行できるものがありません"),
        )

    async def take_upload(self, data: Path) -> Asset:
        raise AssertionError("nothing may be written")


def test_a_finished_job_is_one_json_object_and_a_copy_of_its_clip(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "clip.mp4"
    ran = cli("generate", "bars", "--model", "testcard/bars", "--out", str(out), "--json")
    assert ran.code == 0, ran.err
    row = ran.json
    assert set(row) == {
        "case", "job", "status", "backend", "model", "reason",
        "estimate_usd", "billed_usd", "seconds", "file", "attempts",
    }  # fmt: skip
    assert (row["status"], row["model"], row["file"]) == ("completed", "testcard/bars", str(out))
    assert row["billed_usd"] == "0.00"
    assert [attempt["n"] for attempt in row["attempts"]] == [1]
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 1

    assert [job["job"] for job in cli("jobs", "--json").json] == [row["job"]]
    told = cli("why", row["job"], "--json").json
    assert told["attempts"][0]["decision"]["chosen"]["model"] == "testcard/bars"
    assert {event["kind"] for event in told["events"]} >= {"created", "completed"}
    assert cli("ledger", "verify", "--json").json["problems"] == []
    assert isinstance(cli("spend", "--json").json, list)
    assert cli("spend", "--totals", "--json").json["timezone"] == "UTC"
    assert cli("cancel", row["job"], "--json").json["status"] == "completed"
    assert cli("settle", row["job"], "--nothing").code == 2

    saved = tmp_path / "saved.tar"
    assert cli("backup", str(saved), "--media").code == 0
    elsewhere = tmp_path / "elsewhere"
    assert cli("restore", str(saved), UNDERSTUDY_HOME=str(elsewhere)).code == 0
    assert cli("jobs", "--json", UNDERSTUDY_HOME=str(elsewhere)).json[0]["job"] == row["job"]


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (Status.FAILED, JobError(code="generation_failed", message=words("failed", "失敗")), 1),
        (Status.FAILED, JobError(code="content_rejected", message=words("refused", "拒否")), 2),
        (Status.FAILED, JobError(code="budget_exceeded", message=words("over", "超過")), 3),
        (Status.CANCELLED, JobError(code="cancelled", message=words("cancelled", "キャンセル")), 1),
        (Status.UNRESOLVED, None, 4),
    ],
)
def test_the_exit_code_says_how_the_job_ended(
    cli: Cli, status: Status, error: JobError | None, code: int
) -> None:
    ran = cli("generate", "a clip", "--json", gateway=Scripted(status, error))
    assert ran.code == code
    assert ran.json["status"] == status.value


def test_an_unresolved_job_comes_with_the_command_that_settles_it(cli: Cli) -> None:
    ran = cli("generate", "a clip", gateway=Scripted(Status.UNRESOLVED))
    assert "understudy settle vid_1" in ran.err


def test_an_interrupt_says_that_the_job_stays_and_how_to_cancel_it(cli: Cli) -> None:
    ran = cli("generate", "a clip", "--json", gateway=Scripted(Status.COMPLETED, interrupt=True))
    assert ran.code == 130
    assert ran.json["error"]["job"] == "vid_1"
    assert "next engine to start" in ran.err
    assert "understudy cancel vid_1" in ran.err
    other = Scripted(Status.COMPLETED, interrupt=True)
    other.engine_here = False
    assert "another process goes on" in cli("generate", "a clip", gateway=other).err


def test_every_option_reaches_the_request(cli: Cli) -> None:
    gateway = Scripted(Status.COMPLETED, JobError(code="x", message=words("x", "x")))
    cli(
        *("plan", "a cat", "--duration", "5", "--resolution", "720P", "--aspect", "9:16", "--fps", "24"),
        *("--seed", "0", "--guidance", "3.5", "--quality", "high", "--camera", "pan=-5", "--no-audio"),
        *("--negative", "blur", "--model", "veo-3.1", "--mode", "cheapest", "--backend", "fal"),
        *("--backend", "local", "--forbid", "fal/veo3.1", "--max-usd", "$0.50", "--deadline", "15m"),
        *("--project", "ads", "--task", "t2v", "--option", "fal.cfg_scale=0.5", "--option", "fal.note=hi"),
        *("--allow-drop", "fps", "--substitutes", "any", "--allow-duplicate-spend"),
        gateway=gateway,
    )
    request = gateway.requests[0]
    assert (request.duration, request.resolution, request.aspect_ratio, request.fps) == (
        5,
        "720p",
        "9:16",
        24,
    )
    assert (request.seed, request.guidance, request.quality, request.generate_audio) == (
        0,
        3.5,
        "high",
        False,
    )
    assert request.camera is not None and (request.camera.axis, request.camera.value) == ("pan", -5)
    assert (request.negative_prompt, request.model, request.project) == ("blur", "veo-3.1", "ads")
    assert request.task == "text-to-video"
    assert request.provider_options == {"fal": {"cfg_scale": 0.5, "note": "hi"}}
    wants = request.preferences
    assert (wants.mode, wants.backends, wants.forbid) == ("cheapest", ("fal", "local"), ("fal/veo3.1",))
    assert (wants.max_usd, wants.allow_drop, wants.substitutes) == (Decimal("0.50"), ("fps",), "any")
    assert wants.deadline is not None and wants.deadline.tzinfo is not None
    assert wants.allow_duplicate_spend


def test_a_plan_sends_its_picture_inline_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    picture = tmp_path / "first.png"
    Image.new("RGB", (64, 64)).save(picture)
    gateway = Scripted(Status.COMPLETED)
    ran = cli("plan", "move", "--image", str(picture), "--json", gateway=gateway)
    assert ran.code == 0
    assert ran.json["chosen"] is None
    assert gateway.requests[0].frame_images[0].url.startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        (["generate"], "prompt"),
        (["generate", "x" * 20_001], "PROMPT"),
        (["generate", "x", "--duration", "-1"], "--duration"),
        (["generate", "x", "--duration", "nan"], "--duration"),
        (["generate", "x", "--resolution", "big"], "--resolution"),
        (["generate", "x", "--max-usd", "lots"], "--max-usd"),
        (["generate", "x", "--max-usd", "-1"], "--max-usd"),
        (["generate", "x", "--deadline", "tomorrow"], "--deadline"),
        (["generate", "x", "--camera", "fly"], "--camera"),
        (["generate", "x", "--option", "fal=1"], "--option"),
        (["generate", "x", "--image", "no-such-file.png"], "--image"),
        (["generate", "x", "--out", "no-such-folder/clip.mp4"], "--out"),
        (["generate", "x", "--fps", "fast"], "--fps"),
        (["generate", "x", "--sharpness", "9"], "--sharpness"),
        (["generate", "x", "--backend", "nobody"], "nobody"),
        (["generate", "x", "--model", "nobody/nothing"], "nobody/nothing"),
        (["generate", "x", "--model", "runway/gen4.5"], "RUNWAYML_API_SECRET"),
        (["jobs", "--state", "sleeping"], "--state"),
        (["models", "--task", "knitting"], "--task"),
        (["settle", "vid_1"], "--billed"),
        (["settle", "vid_1", "--billed", "1", "--nothing"], "--nothing"),
        (["cancel", "vid_none"], "vid_none"),
        (["why", "vid_none"], "vid_none"),
        (["--lang", "fr", "jobs"], "--lang"),
        (["dance"], "dance"),
    ],
)
def test_a_bad_request_is_one_clear_line_and_exit_code_2(cli: Cli, argv: list[str], names: str) -> None:
    ran = cli(*argv)
    assert ran.code == 2
    assert names in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert "Traceback" not in ran.err
    assert ran.out == ""


def test_an_error_is_the_one_json_value_too(cli: Cli) -> None:
    ran = cli("generate", "x", "--duration", "-1", "--json")
    assert ran.code == 2
    assert ran.json["error"]["code"] == "invalid_request"
    assert cli("--lang", "ja", "dance", "--json").json["error"]["code"] == "usage"


def test_over_budget_is_exit_code_3_and_nothing_runs(cli: Cli) -> None:
    ran = cli(
        *("generate", "x", "--model", "runway/gen4.5", "--max-usd", "0.01", "--json"),
        RUNWAYML_API_SECRET="sandbox-x",
        UNDERSTUDY_SANDBOX_URL="http://127.0.0.1:9",
    )
    assert ran.code == 3, ran.err
    assert cli("jobs", "--json", UNDERSTUDY_SANDBOX_URL="http://127.0.0.1:9").json == []


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("why",), "を指定してください"),
        (("models", "plan", "x", "--vram", "much"), "--vram には数値を指定してください"),
        (("jobs", "--limit", "few"), "--limit には整数を指定してください"),
        (("generate", "x", "--modle", "y"), "--modle というオプションはありません。近いもの: "),
        (("generate", "x", "--zzz"), "--zzz というオプションはありません"),
        (("models", "frob"), "frob というコマンドはありません"),
        (("why", "a", "b"), "余分な引数があります: b"),
        (("generate", "x", "--fps"), "--fps には値が必要です"),
    ],
)
def test_a_wrong_command_line_is_told_in_japanese(cli: Cli, argv: tuple[str, ...], said: str) -> None:
    ran = cli(*argv, "--lang=ja")
    assert ran.code == 2
    assert said in ran.err
    assert not re.search(r"[A-Za-z]+ [a-z]+ [a-z]+", ran.err.replace("understudy", "")), "no English sentence"


def test_messages_follow_the_language_of_the_reader(cli: Cli) -> None:
    assert "見つかりません" in cli("why", "vid_none", LANG="ja_JP.UTF-8").err
    assert "見つかりません" in cli("--lang", "ja", "why", "vid_none", LANG="en_US.UTF-8").err
    assert "見つかりません" in cli("why", "vid_none", "--lang=ja", LANG="en_US.UTF-8").err
    assert "見つかりません" in cli("why", "--lang", "ja", "vid_none", LANG="en_US.UTF-8").err
    assert "--lang" in cli("why", "--", "--lang").err, "a name here, and there is no such job"
    assert "見つかりません" in cli("why", "vid_none", LC_ALL="ja_JP.UTF-8", LANG="en_US.UTF-8").err
    assert "There is no job" in cli("why", "vid_none", LANG="de_DE.UTF-8").err


def test_broken_settings_are_named_and_not_a_traceback(cli: Cli, home: Path) -> None:
    (home / "understudy.toml").write_text("[router]\nspeed = 3\n", encoding="utf-8")
    ran = cli("jobs")
    assert ran.code == 1
    assert "router.speed" in ran.err
    assert "Traceback" not in ran.err


def test_an_unexpected_error_gives_an_id_and_hides_its_traceback(cli: Cli) -> None:
    class Broken(Scripted):
        async def plan(self, request: VideoRequest) -> Decision:
            raise ZeroDivisionError("boom")

    ran = cli("plan", "x", "--json", gateway=Broken(Status.FAILED))
    assert ran.code == 1
    assert ran.json["error"]["error_id"] in ran.err
    assert "boom" not in ran.err
    shown = cli("plan", "x", gateway=Broken(Status.FAILED), UNDERSTUDY_DEBUG="1")
    assert "ZeroDivisionError: boom" in shown.err


def test_an_error_raised_on_purpose_keeps_its_exit_code(cli: Cli) -> None:
    class Poor(Scripted):
        async def submit(self, request: VideoRequest, *, idempotency_key: str | None = None) -> Job:
            raise errors.BudgetExceeded(words("the day's budget is used up", "本日の予算を使い切りました"))

    assert cli("generate", "x", gateway=Poor(Status.FAILED)).code == 3


def test_a_worker_on_sqlite_says_why_it_cannot(cli: Cli) -> None:
    ran = cli("worker")
    assert ran.code == 1
    assert "PostgreSQL" in ran.err


def test_serve_refuses_an_address_others_can_reach_without_a_token(cli: Cli) -> None:
    ran = cli("serve", "--no-page", "--host", "0.0.0.0", "--port", "0")
    assert ran.code == 1
    assert "UNDERSTUDY_SERVER_TOKEN" in ran.err


def test_the_lists_filter(cli: Cli) -> None:
    every = cli("models", "--json").json
    assert {"local/tiny", "runway/gen4.5", "fal/veo3.1"} <= {row["model"] for row in every}
    cheap = cli("models", "--max-usd", "0.50", "--task", "i2v", "--aspect", "16:9", "--json").json
    assert cheap
    assert all(Decimal(row["usd_example"]) <= Decimal("0.50") for row in cheap)
    assert all("image-to-video" in row["tasks"] for row in cheap)
    backends = cli("providers", "--json", "--offline", FAL_KEY="a:b").json
    assert {row["backend"]: row["key_present"] for row in backends}["fal"] is True
    assert "a:b" not in json.dumps(backends)


def test_commands_that_only_read_load_no_heavy_library(home: Path) -> None:
    code = (
        "import sys; from router.cli import main; main(['jobs', '--json']);"
        "sys.exit(' '.join({'torch', 'gradio', 'dbos', 'diffusers'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "UNDERSTUDY_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_help_of_every_command_and_option_is_in_both_languages() -> None:
    code = """
import json
from typer.main import get_command
from router.cli._app import app
import router.cli

def walk(command, path):
    yield path, command.help
    for param in command.params:
        if param.name != "help":
            yield f"{path} {param.name}", getattr(param, "help", None)
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, f"{path} {name}")

print(json.dumps(dict(walk(get_command(app), "understudy"))))
"""
    texts = {}
    for lang in ("en_US.UTF-8", "ja_JP.UTF-8"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "LC_ALL": lang},
            capture_output=True,
            text=True,
            check=True,
        )
        texts[lang] = json.loads(done.stdout)
    english, japanese = texts["en_US.UTF-8"], texts["ja_JP.UTF-8"]
    assert set(english) == set(japanese)
    assert [place for place, text in english.items() if not text or not text.isascii()] == []
    assert [place for place, text in japanese.items() if not text or text.isascii()] == []


def test_settings_reach_the_gateway_as_they_were_set(cli: Cli) -> None:
    seen: list[Settings] = []

    def opened(settings: Settings, role: object) -> Scripted:
        seen.append(settings)
        return Scripted(Status.COMPLETED)

    main(
        ["plan", "x"],
        environ={**cli.environ, "UNDERSTUDY_ROUTER_MODE": "local-only"},
        open_gateway=opened,  # type: ignore[arg-type]
    )
    assert seen[0].router.mode == "local-only"
