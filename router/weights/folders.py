"""Weights that lie in a folder of this machine already: a stick, a colleague's data folder, the hub library's cache."""

import importlib.util
import json
import re
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from router.contract.errors import InvalidRequest
from router.contract.words import words
from router.weights.values import Origin, WeightFile

RECEIPT = "understudy-weights.json"
"""In every folder of weights that a pull made: what it holds, with checksums. It travels along when the folder is copied."""


class Received(BaseModel):
    """One file, as it was verified."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    size: int
    sha256: str | None = None
    git_sha1: str | None = None


class Receipt(BaseModel):
    """What a pull brought."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    origin: Origin
    repository: str
    revision: str
    licence: str
    accepted_at: datetime
    pulled_at: datetime
    files: dict[str, Received]


def receipt_of(folder: Path) -> Receipt | None:
    """The receipt in a folder, None where there is none that can be read."""
    try:
        return Receipt.model_validate_json((folder / RECEIPT).read_bytes())
    except (OSError, ValidationError):
        return None


def files_of(folder: Path) -> dict[str, WeightFile]:
    """Every file by its relative path, with a checksum where the receipt or the cache's own names tell it."""
    if not folder.is_dir():
        raise InvalidRequest(
            words(
                f"--from: {folder} is not a folder on this machine. Name the one that holds model_index.json.",
                f"--from: {folder} というフォルダーはありません。model_index.json のあるフォルダーを指定してください。",
            )
        )
    receipt = receipt_of(folder)
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name.startswith(".") or name == RECEIPT:
            continue
        noted = receipt.files.get(name) if receipt else None
        sha256, git_sha1 = (noted.sha256, noted.git_sha1) if noted else _blob_name(path)
        size = noted.size if noted else path.stat().st_size
        found[name] = WeightFile(name, size, sha256=sha256, git_sha1=git_sha1, local=path)
    return found


def _blob_name(path: Path) -> tuple[str | None, str | None]:
    """The hub library's cache names a file's content by its checksum: SHA-256 of large files, git's own of small ones."""
    blob = path.resolve()
    if path.is_symlink() and blob.parent.name == "blobs":
        if re.fullmatch(r"[0-9a-f]{64}", blob.name):
            return blob.name, None
        if re.fullmatch(r"[0-9a-f]{40}", blob.name):
            return None, blob.name
    return None, None


def named_folder(path: str) -> Path:
    """The folder that a card names: absolute, or below the package of the models that ship with us."""
    spec = importlib.util.find_spec("local_models")
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places or ()), "")) / path


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def has(path: Path, size: int) -> bool:
    """Whether a file is there and as long as it should be."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False


class Acceptances:
    """Which licences were accepted here, and when: `licences.json` in the data folder; it outlives the weights."""

    def __init__(self, path: Path) -> None:
        """Reads when asked."""
        self._path = path

    def when(self, repository: str, licence: str) -> datetime | None:
        """The day this licence of this repository was accepted; a licence that changed must be accepted again."""
        entry = self._read().get(repository)
        if not isinstance(entry, dict) or entry.get("licence") != licence:
            return None
        try:
            return datetime.fromisoformat(str(entry.get("accepted_at")))
        except ValueError:
            return None

    def note(self, repository: str, licence: str, at: datetime) -> None:
        """Write it down, whole or not at all."""
        table = {**self._read(), repository: {"licence": licence, "accepted_at": at.isoformat()}}
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(table, ensure_ascii=False, indent=2), encoding="utf-8")
        fresh.replace(self._path)

    def _read(self) -> dict[str, object]:
        try:
            table = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return table if isinstance(table, dict) else {}
