"""The weights in the data folder: plan a pull, pull, list, remove."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from filelock import Timeout as LockTimeout

from router.contract.card import LocalCard, ModelCard
from router.contract.errors import Conflict, InvalidRequest, NotFound, ServerTrouble, StorageFull
from router.contract.words import Words, words
from router.settings import Settings
from router.weights.fetching import Fetcher, Stopped, already_here, once, same_disk
from router.weights.folders import RECEIPT, Acceptances, Receipt, Received, has, receipt_of
from router.weights.inventory import Inventory
from router.weights.licences import licence_of, not_accepted
from router.weights.naming import MODELS, PARTIAL, find, folder_name, short_name
from router.weights.sources import Found, from_folder, from_hub
from router.weights.values import Inspect, Installed, Origin, Pull, Tell

RETRY_S = 1.0
_T = TypeVar("_T")


def gigabytes(size: int) -> str:
    """`28.9 GB`, `6.6 MB`: powers of ten, as shops and the hub count."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


class Weights:
    """Every method may raise GatewayError. Nothing is kept in memory: the folder tells."""

    def __init__(
        self,
        settings: Settings,
        cards: Mapping[str, ModelCard],
        inspect: Inspect,
        *,
        retry_s: float = RETRY_S,
    ) -> None:
        """`inspect` asks a card's backend whether a folder would load; `retry_s`: the pause after a first cut."""
        self._settings = settings
        self._cards = cards
        self._inspect = inspect
        self._retry_s = retry_s
        self._root = settings.home / MODELS
        self._accepted = Acceptances(settings.home / "licences.json")
        self._inventory = Inventory(self._root, settings.local.models, cards)

    # -- what could be done

    async def plan(self, name: str, *, revision: str | None = None, folder: Path | None = None) -> Pull:
        """What a pull of that model would fetch, from the hub, its cache, or `folder`; nothing is written.

        Raises NotFound for an unknown model or repository, Forbidden for a gated one, Unavailable without a network,
        ServerTrouble for a repository in another format, InvalidRequest where the model has nothing to pull.
        """
        card = find(name, self._cards)
        assert card.local is not None
        own = self._settings.local.models.get(short_name(card))
        if own is not None:
            raise InvalidRequest(
                words(
                    f"[local] models names your own folder for {card.id} ({own}), and that is what is used. Remove the line first.",
                    f"[local] models に {card.id} のフォルダー({own})が指定されており、そちらが使われます。先にその行を削除してください。",
                )
            )
        if card.local.path is not None or (card.local.repository is None and folder is None):
            raise InvalidRequest(
                words(
                    f"{card.id} has nothing to pull: its weights ship with Understudy or its card names a folder.",
                    f"{card.id} の取得は不要です。重みが同梱されているか、カードにフォルダーが指定されています。",
                )
            )
        return await asyncio.to_thread(
            self._plan, card, card.local, revision or card.local.revision or "main", folder
        )

    def _plan(self, card: ModelCard, local: LocalCard, revision: str, folder: Path | None) -> Pull:
        if folder is not None:
            folder = folder.expanduser().absolute()
            found = from_folder(card, folder)
        else:
            found = from_hub(card, revision, self._token)
        licence = licence_of(local)
        pull = Pull(
            card=card,
            name=folder_name(card),
            origin=found.origin,
            repository=found.repository,
            revision=found.revision,
            source=_source(found, folder),
            files=found.files,
            licence=licence,
            accepted_at=self._accepted.when(found.repository, licence.name),
            missing_bytes=0,
            free_bytes=shutil.disk_usage(_existing(self._root)).free,
        )
        if self._complete(pull):
            return replace(pull, complete=True)
        linked = sum(f.size for f in pull.files if f.local is not None and same_disk(f.local, self._root))
        here = already_here(pull, self._root / (pull.name + PARTIAL))
        return replace(pull, missing_bytes=max(0, once(pull.files) - linked - here))

    def _complete(self, pull: Pull) -> bool:
        """Whether the folder holds these files; by name, size and receipt, they were verified when they came."""
        folder = self._root / pull.name
        receipt = receipt_of(folder)
        if receipt is None or not pull.revision or receipt.repository != pull.repository:
            return False
        return all(
            (noted := receipt.files.get(file.path)) is not None
            and (file.sha256, file.git_sha1) in {(noted.sha256, noted.git_sha1), (None, None)}
            and has(folder / file.path, file.size)
            for file in pull.files
        )

    # -- pull

    async def pull(
        self, pull: Pull, *, accept: bool = False, tell: Tell = lambda progress: None
    ) -> Installed:
        """Fetch, verify, put in place. `accept` says that a person accepts the licence, now and here.

        Raises InvalidRequest without an accepted licence, StorageFull before or in the middle, Conflict while another
        process pulls the same model, ServerTrouble for wrong or unusable files. What has arrived stays for the next try.
        """
        if pull.accepted_at is None and not accept:
            raise InvalidRequest(not_accepted(pull.licence, pull.card.id), param="licence")
        if not pull.complete:
            self._room(pull)
        accepted_at = pull.accepted_at or datetime.now(UTC)
        partial = self._root / (pull.name + PARTIAL)
        with self._alone(pull.name):
            if pull.accepted_at is None:
                self._accepted.note(pull.repository, pull.licence.name, accepted_at)
            if not pull.complete:
                sums = await _in_thread(
                    lambda stop: Fetcher(pull, partial, self._token, stop, tell, retry_s=self._retry_s).run()
                )
                problem = await self._inspect(pull.card, partial)
                if problem is not None:
                    raise ServerTrouble(self._would_not_load(pull, problem))
                await asyncio.to_thread(self._place, pull, partial, _receipt(pull, accepted_at, sums))
        return await asyncio.to_thread(self._inventory.row, pull.card)

    def _room(self, pull: Pull) -> None:
        spare = self._settings.storage.min_free_mb * 1_000_000
        if pull.free_bytes - pull.missing_bytes >= spare:
            return
        raise StorageFull(
            words(
                f"{pull.card.id} needs {gigabytes(pull.missing_bytes)} more, and {gigabytes(spare)} must stay free "
                f"([storage] min_free_mb); {self._root} has {gigabytes(pull.free_bytes)}. Make room, or keep the weights on "
                "another disk and name their folder in [local] models.",
                f"{pull.card.id} にはあと {gigabytes(pull.missing_bytes)} 必要で、さらに {gigabytes(spare)} の空きを残します"
                f"([storage] min_free_mb)。{self._root} の空きは {gigabytes(pull.free_bytes)} です。空きを増やすか、"
                "別のディスクに重みを置いて [local] models でそのフォルダーを指定してください。",
            )
        )

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Two processes that write one folder would spoil it; the lock ends with its process."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServerTrouble(
                words(
                    f"{self._root} cannot be made ({error.strerror}). Repair its rights, or set UNDERSTUDY_HOME.",
                    f"{self._root} を作成できません({error.strerror})。権限を直すか、UNDERSTUDY_HOME を設定してください。",
                )
            ) from None
        lock = FileLock(self._root / f".{name}.lock", thread_local=False)
        try:
            lock.acquire(blocking=False)
        except LockTimeout:
            raise Conflict(
                words(
                    f"Another process is pulling or removing {name}. Wait for it to end.",
                    f"別のプロセスが {name} を取得または削除しています。終了を待ってください。",
                )
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _would_not_load(self, pull: Pull, problem: Words) -> Words:
        return words(
            f"The files of {pull.repository} arrived as announced, but they would not load: {problem.en} "
            f"Check the card's repository and revision. understudy models remove {pull.name} deletes them.",
            f"{pull.repository} のファイルは取得できましたが、読み込めません: {problem.ja} "
            f"カードの repository と revision を確認してください。削除するには: understudy models remove {pull.name}",
        )

    def _place(self, pull: Pull, partial: Path, receipt: Receipt) -> None:
        """The last step: one rename makes the folder whole; an older revision goes out of the way first."""
        wanted = {file.path for file in pull.files}
        for path in sorted(partial.rglob("*"), reverse=True):
            if path.is_file() and path.relative_to(partial).as_posix() not in wanted:
                path.unlink()
        (partial / RECEIPT).write_text(receipt.model_dump_json(indent=2), encoding="utf-8")
        final = self._root / pull.name
        if final.exists():
            old = self._root / f"{pull.name}.old"
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
            partial.rename(final)
            shutil.rmtree(old, ignore_errors=True)
        else:
            partial.rename(final)

    # -- what is here

    async def installed(self) -> tuple[Installed, ...]:
        """Weights of every local model that has any here, wherever they lie, and what interrupted pulls have left."""
        rows = await asyncio.to_thread(self._inventory.rows)
        return tuple([await self._looked_at(row) for row in rows])

    async def _looked_at(self, row: Installed) -> Installed:
        """A folder that no receipt vouches for is looked at as loading would: names, headers and lengths of its files."""
        by_hand = row.origin in {Origin.SETTING, Origin.FOLDER} and row.repository is None
        if not by_hand or row.model is None or row.problem is not None:
            return row
        return replace(row, problem=await self._inspect(self._cards[row.model], row.folder))

    # -- remove

    async def remove(self, name: str) -> int:
        """Delete what pulls brought, whole or not; bytes freed. Raises NotFound where nothing is here, InvalidRequest
        for a folder that is not ours to delete."""
        rows = await self.installed()
        row = next((row for row in rows if name in {row.name, row.model}), None)
        if row is None:
            card = find(name, self._cards)
            row = next((row for row in rows if row.model == card.id), None)
        if row is None:
            raise NotFound(
                words(f"No weights of {name} are here.", f"{name} の重みはこのマシンにありません。"),
                param="model",
            )
        if row.origin in {Origin.SETTING, Origin.CARD}:
            raise InvalidRequest(
                words(
                    f"{row.folder} is not a folder that was pulled; it is left alone. Delete it yourself, or take its line out of "
                    "[local] models.",
                    f"{row.folder} は pull で取得したフォルダーではないため、削除しません。手動で削除するか、[local] models の行を"
                    "削除してください。",
                )
            )
        chosen = row
        with self._alone(chosen.name):
            await asyncio.to_thread(self._delete, chosen)
        return chosen.bytes + chosen.partial_bytes

    def _delete(self, row: Installed) -> None:
        try:
            for folder in (row.folder, self._root / (row.name + PARTIAL)):
                if folder.is_dir():
                    shutil.rmtree(folder)
        except OSError as error:
            raise ServerTrouble(
                words(
                    f"{row.folder} cannot be deleted ({error.strerror}).",
                    f"{row.folder} を削除できません({error.strerror})。",
                )
            ) from None

    @property
    def _token(self) -> str | None:
        secret = self._settings.key("HF_TOKEN")
        return secret.get_secret_value() if secret else None


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _source(found: Found, folder: Path | None) -> str:
    """Changes with every file's repository and commit, so that an unfinished pull never goes on with other bytes."""
    parts = {f"{f.remote.repository} {f.remote.commit}" for f in found.files if f.remote is not None}
    return "\n".join([f"{found.repository} {found.revision or folder}", *sorted(parts)])


def _receipt(pull: Pull, accepted_at: datetime, sums: Mapping[str, str | None]) -> Receipt:
    return Receipt(
        model=pull.card.id,
        origin=pull.origin,
        repository=pull.repository,
        revision=pull.revision,
        licence=pull.licence.name,
        accepted_at=accepted_at,
        pulled_at=datetime.now(UTC),
        files={
            file.path: Received(size=file.size, sha256=file.sha256 or sums[file.path], git_sha1=file.git_sha1)
            for file in pull.files
        },
    )


async def _in_thread(work: Callable[[threading.Event], _T]) -> _T:
    """Run blocking work that may be left at any time: a process that ends does not wait for a silent connection."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()
    stop = threading.Event()

    def tell(result: _T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(result)  # type: ignore[arg-type]
        else:
            done.set_exception(error)

    def run() -> None:
        try:
            result, error = work(stop), None
        except Stopped:
            return
        except BaseException as raised:
            result, error = None, raised
        loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name="weights", daemon=True).start()
    try:
        return await done
    finally:
        stop.set()
