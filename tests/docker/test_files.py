"""Dockerfile, compose file and env example: what can be checked without a Docker engine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.catalog import Catalog
from router.settings import Settings
from tests.docker.dockerfile import FILE, ROOT, instructions

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENV = (ROOT / ".env.example").read_text(encoding="utf-8")
NAMED = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=", ENV, re.MULTILINE))
LINES = instructions(FILE.read_text(encoding="utf-8"))


def _words(word: str, stage: str | None = None) -> list[str]:
    return [line.rest for line in LINES if line.word == word and stage in {None, line.stage}]


def test_the_linter_finds_nothing() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed (extra dev)")
    told = subprocess.run([linter, str(FILE)], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, "")


def test_the_image_runs_as_a_numbered_user_and_is_looked_after() -> None:
    last = LINES[-1].stage
    assert [re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) is not None for user in _words("USER", last)] == [True]
    assert "/healthz" in _words("HEALTHCHECK", last)[0]
    assert _words("VOLUME", last) == ['["/data", "/data/models"]']
    assert _words("CMD", last)[0].startswith('["understudy", "serve", "--host", "0.0.0.0"')


def test_bases_are_pinned_and_no_secret_is_baked_in() -> None:
    base = _words("ARG")[0]
    assert re.fullmatch(r"CUDA_BASE=nvidia/cuda:\d+\.\d+\.\d+-[\w.-]+(@sha256:[0-9a-f]{64})?", base)
    assert all(rest.startswith("${CUDA_BASE}") for rest in _words("FROM"))
    assert not [line for line in LINES if re.search(r"(?i)(token|secret|api_key)=", line.rest)]


def test_the_context_holds_what_is_copied_and_nothing_that_is_private() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {word for rest in _words("COPY", "build") for word in rest.split()[:-1]}
    assert "*" in rules
    assert allowed == copied
    assert {"**/.env*", "**/keys.env", "**/*.sqlite*"} <= set(rules)


def _in(profile: str) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in SERVICES.items() if service["profiles"] == [profile]}


def _gpu(service: dict[str, Any]) -> bool:
    devices = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
    return any("gpu" in device["capabilities"] for device in devices)


def test_one_up_is_one_container_with_the_gpu_on_a_local_sqlite_volume() -> None:
    assert "COMPOSE_PROFILES=single\n" in ENV
    ((_, service),) = _in("single").items()
    environment = service["environment"]
    assert _gpu(service)
    assert "command" not in service, "the image's own: serve, with the page"
    url = environment["UNDERSTUDY_DATABASE_URL"]
    assert url.startswith("sqlite:////data/")
    assert environment["UNDERSTUDY_LOCAL_CARRIED_BY"] == "here"
    data = next(volume.partition(":")[0] for volume in service["volumes"] if volume.endswith(":/data"))
    assert not COMPOSE["volumes"][data], "a plain named volume: no driver, so no network mount"


def test_postgres_splits_server_and_worker_over_one_media_volume() -> None:
    services = _in("postgres")
    assert set(services) == {"db", "server", "worker"}
    server, worker = services["server"], services["worker"]
    assert worker["command"] == ["understudy", "worker"]
    assert (_gpu(server), _gpu(worker)) == (False, True)
    assert server["volumes"] == worker["volumes"]
    assert server["environment"] == worker["environment"]
    assert server["environment"]["UNDERSTUDY_LOCAL_CARRIED_BY"] == "worker"
    assert "@db:5432/" in server["environment"]["UNDERSTUDY_DATABASE_URL"]
    assert "ports" not in worker and "ports" not in services["db"]
    assert worker["healthcheck"] == {"disable": True}, "it has no door at which the image's check could knock"
    assert all(one["condition"] == "service_healthy" for one in worker["depends_on"].values())


def test_every_container_of_ours_takes_keys_from_the_env_file_and_drops_rights() -> None:
    ours = {name: service for name, service in SERVICES.items() if name != "db"}
    assert set(_in("single")) | set(_in("postgres")) == set(SERVICES)
    for name, service in ours.items():
        assert service["env_file"] == ".env", name
        assert service["environment"]["UNDERSTUDY_SERVER_TOKEN"].startswith("${UNDERSTUDY_SERVER_TOKEN:?"), (
            name
        )
        assert service["cap_drop"] == ["ALL"], name
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= set(COMPOSE["volumes"]), name
        assert service["build"] == {"context": ".", "dockerfile": FILE.name}, name


def test_settings_of_the_compose_file_are_settings(tmp_path: Path) -> None:
    for service in (SERVICES["understudy"], SERVICES["server"]):
        environ = {k: re.sub(r"\$\{\w+:[-?][^}]*\}", "x", v) for k, v in service["environment"].items()}
        settings = Settings.load({**environ, "UNDERSTUDY_HOME": str(tmp_path)})
        assert settings.database_url == environ["UNDERSTUDY_DATABASE_URL"]
        assert settings.local.carried_by == environ["UNDERSTUDY_LOCAL_CARRIED_BY"]


def test_the_env_example_lists_every_variable_of_the_catalogue() -> None:
    wanted = set()
    for info in Catalog.load().providers.values():
        wanted |= {*info.key_env, *(name for pair in info.key_pairs for name in pair)}
    assert wanted - NAMED == set(), "add them to .env.example"
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
    assert used - NAMED == set()


def test_the_env_example_names_no_setting_that_does_not_exist() -> None:
    fields = {
        f"UNDERSTUDY_{section}_{key}".upper()
        for section, field in Settings.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    }
    ours = {name for name in NAMED if name.startswith("UNDERSTUDY_")} - {"UNDERSTUDY_PUBLISH"}
    assert ours - fields == set()


def test_no_line_of_the_env_example_has_a_secret_in_it() -> None:
    filled = re.findall(r"^([A-Z_]+)=(.+)$", ENV, re.MULTILINE)
    assert filled == [("COMPOSE_PROFILES", "single")]
