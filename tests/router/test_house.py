"""What holds the house up: names, exports, shipped data, and what an import costs."""

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from router.catalog import Catalog
from tests.sandbox_process import ROOT

PACKAGES = ("router", "api_providers", "local_models", "ui")


@pytest.mark.parametrize("name", PACKAGES)
def test_our_packages_come_from_this_checkout(name: str) -> None:
    found = importlib.util.find_spec(name)
    assert found is not None and found.origin is not None
    assert Path(found.origin).is_relative_to(ROOT)


@pytest.mark.parametrize("name", PACKAGES)
def test_no_other_distribution_claims_our_names(name: str) -> None:
    claims = importlib.metadata.packages_distributions().get(name, [])
    assert set(claims) <= {"understudy-gateway"}


def test_every_export_exists() -> None:
    names = [m.name for m in pkgutil.walk_packages([str(ROOT / "router")], "router.")]
    wrong = []
    for name in names:
        if name.startswith(("router.cli", "router.server", "router.migrations", "router.__main__")):
            continue
        module = importlib.import_module(name)
        exported = getattr(module, "__all__", ())
        wrong += [f"{name}.{export}" for export in exported if not hasattr(module, export)]
        assert len(set(exported)) == len(exported)
    assert wrong == []


def test_the_shipped_catalogue_has_no_problem_and_every_price_its_date_and_source() -> None:
    catalog = Catalog.load()
    assert [problem.message.en for problem in catalog.problems] == []
    assert {"runway", "fal", "local", "testcard"} <= set(catalog.providers)
    for card in catalog.cards.values():
        assert all(price.as_of and price.source.strip() for price in card.prices)


def test_importing_the_contract_loads_no_heavy_library() -> None:
    code = (
        "import sys, router.contract.request, router.contract.backend, router.contract.fit, router.contract.job;"
        "print(sorted({'sqlalchemy','dbos','torch','httpx','av','fastapi','gradio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
