"""The Hugging Face hub and its cache, by the hub's own library; its errors become sentences that say what to do.

huggingface_hub 2.4.0 has no resume between two runs and no check of content: `_download_to_tmp_and_move` writes to a file
named at random and removes it after a failure, and compares sizes alone (file_download.py). So the library is used for what
it has: addresses, tokens, redirects, waiting on 429, listing with checksums, finding files in the cache; reading on at an
offset and the checksums are here and in `fetching`.
"""

import importlib.util
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from router.contract.errors import (
    AuthenticationFailed,
    Forbidden,
    GatewayError,
    InvalidRequest,
    NotFound,
    RateLimited,
    ServerTrouble,
    Unavailable,
)
from router.contract.words import Words, words
from router.weights.values import WeightFile

DEFAULT_ENDPOINT = "https://huggingface.co"
SMALL_BYTES = 20_000_000
"""The largest file that is read into memory; the index of a 14-B model has under 0.2 MB."""
QUIET_S = 20.0
"""Without a byte for this long, a connection counts as cut."""


class Cut(Exception):
    """The connection failed or ended early; going on from the bytes that are here makes sense."""


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit."""

    commit: str
    files: dict[str, WeightFile]


@dataclass(frozen=True)
class Body:
    """A file's content, from `start` on."""

    start: int
    """0 where the server does not do ranges, whatever was asked."""
    chunks: Iterator[bytes]


class Hub:
    """One repository's files over HTTP. Every method may raise GatewayError; `body` may raise Cut."""

    def __init__(self, repository: str, token: str | None) -> None:
        """`token` is sent to the hub alone; None: the one of `hf auth login`, where there is one.

        Raises ServerTrouble where the library is missing, InvalidRequest where a token would go over an open line.
        """
        if importlib.util.find_spec("huggingface_hub") is None:
            raise ServerTrouble(
                words(
                    "huggingface_hub is not installed: pip install 'understudy-gateway[local]'",
                    "huggingface_hub が未インストールです: pip install 'understudy-gateway[local]'",
                )
            )
        self.repository = repository
        self.endpoint = (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        self._token = token
        if token and not _private(self.endpoint):
            raise InvalidRequest(
                words(
                    "HF_ENDPOINT must begin with https:// while HF_TOKEN is set: the token would cross the network readable.",
                    "HF_TOKEN を使う場合、HF_ENDPOINT は https:// で始まる必要があります(トークンが平文で流れるため)。",
                )
            )

    def listing(self, revision: str) -> Listing:
        """All files with sizes and checksums."""
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint, token=self._token, library_name="understudy")
        with self._said():
            info = api.model_info(self.repository, revision=revision, files_metadata=True, timeout=QUIET_S)
        files = {}
        for sibling in info.siblings or ():
            size = sibling.lfs.size if sibling.lfs else sibling.size
            if size is not None:
                files[sibling.rfilename] = WeightFile(
                    sibling.rfilename,
                    size,
                    sha256=sibling.lfs.sha256 if sibling.lfs else None,
                    git_sha1=None if sibling.lfs else sibling.blob_id,
                )
        return Listing(info.sha or revision, files)

    def small(self, commit: str, file: WeightFile) -> bytes:
        """A small file whole. Raises ServerTrouble where it is none."""
        if file.size > SMALL_BYTES:
            raise ServerTrouble(
                words(
                    f"{self.repository} cannot be used: {file.path} is implausibly large.",
                    f"{self.repository} は使用できません: {file.path} が異常に大きいです。",
                )
            )
        cached = self.cached(commit, file.path)
        if cached is not None:
            return cached.read_bytes()
        try:
            with self.body(commit, file.path, 0) as body:
                return b"".join(body.chunks)[: SMALL_BYTES + 1]
        except Cut as cut:
            raise self._unreachable(str(cut)) from None

    @contextmanager
    def body(self, commit: str, path: str, start: int) -> Iterator[Body]:
        """The file from byte `start` on. A connection that fails inside is Cut."""
        import httpx2
        from huggingface_hub import hf_hub_url

        # Public, but re-exported lazily, which mypy does not see.
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            build_hf_headers,
            hf_raise_for_status,
            http_stream_backoff,
        )

        url = hf_hub_url(self.repository, path, revision=commit, endpoint=self.endpoint)
        headers = build_hf_headers(token=self._token, library_name="understudy")
        # Compressed bytes cannot be counted, so a cut could not be repaired.
        headers["Accept-Encoding"] = "identity"
        if start:
            headers["Range"] = f"bytes={start}-"
        with self._said():
            try:
                with http_stream_backoff(
                    "GET",
                    url,
                    headers=headers,
                    timeout=QUIET_S,
                    retry_on_exceptions=(),
                    retry_on_status_codes=(429,),
                ) as response:
                    if response.status_code >= 500:
                        raise Cut(f"HTTP {response.status_code}")
                    hf_raise_for_status(response)
                    goes_on = response.status_code == 206
                    yield Body(start if goes_on else 0, response.iter_bytes())
            except httpx2.TransportError as error:
                raise Cut(type(error).__name__) from None

    def cached(self, commit: str, path: str) -> Path | None:
        """The file in the library's own cache."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, path, revision=commit)
        return Path(found) if isinstance(found, str) else None

    def cached_snapshot(self, revision: str) -> Path | None:
        """The folder of that revision in the library's own cache, where it is whole as far as the library knows."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(self.repository, revision=revision, local_files_only=True))
        except (LocalEntryNotFoundError, ValueError):
            return None

    # -- errors

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What the library raises, in our words. Its own messages may hold addresses with signatures: they are dropped."""
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        try:
            yield
        except (GatewayError, Cut):
            raise
        except HFValidationError:
            raise InvalidRequest(
                words(
                    f"{self.repository!r} is not the name of a hub repository; it looks like owner/name.",
                    f"{self.repository!r} はリポジトリ名として正しくありません(owner/name の形)。",
                )
            ) from None
        except OfflineModeIsEnabled:
            raise Unavailable(
                words(
                    "HF_HUB_OFFLINE is set and the weights are not in the cache. Unset it, or give a folder: --from DIR",
                    "HF_HUB_OFFLINE が設定されており、キャッシュに重みがありません。設定を外すか、--from フォルダー を指定してください。",
                )
            ) from None
        except HfHubHTTPError as error:
            self._refused(error)
        except httpx2.TransportError as error:
            raise self._unreachable(type(error).__name__) from None

    def _refused(self, error: Any) -> NoReturn:
        from huggingface_hub.errors import (
            DisabledRepoError,
            GatedRepoError,
            RemoteEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        status = error.response.status_code
        page = f"{self.endpoint}/{self.repository}"
        if isinstance(error, GatedRepoError):
            raise Forbidden(self._gated(page)) from None
        if isinstance(error, RevisionNotFoundError):
            raise NotFound(
                words(
                    f"{self.repository} has no such revision any more. Pull another one: --revision main",
                    f"{self.repository} にその revision はありません。別のものを指定してください: --revision main",
                )
            ) from None
        if isinstance(error, RemoteEntryNotFoundError):
            raise NotFound(
                words(
                    f"A file vanished from {self.repository} while it was fetched. Pull again.",
                    f"{self.repository} のファイルが取得中になくなりました。もう一度 pull してください。",
                )
            ) from None
        if self._token is not None and status == 401 and not isinstance(error, DisabledRepoError):
            raise AuthenticationFailed(
                words(
                    "The hub refuses HF_TOKEN, or the repository is gone. Check the token at "
                    f"https://huggingface.co/settings/tokens and the page {page}.",
                    "HF_TOKEN が拒否されたか、リポジトリがなくなりました。https://huggingface.co/settings/tokens と "
                    f"{page} を確認してください。",
                )
            ) from None
        if isinstance(error, RepositoryNotFoundError | DisabledRepoError) or status in {403, 404, 410, 451}:
            raise NotFound(self._gone(page)) from None
        if status == 429:
            raise RateLimited(
                words(
                    "The hub asks to slow down. Wait some minutes and pull again; it goes on where it stopped.",
                    "ハブのアクセス制限に達しました。数分待って再度 pull してください。続きから再開します。",
                )
            ) from None
        raise self._unreachable(f"HTTP {status}") from None

    def _gated(self, page: str) -> Words:
        if self._token is None:
            return words(
                f"{self.repository} is gated. Open {page}, accept its conditions with your account, make a read token at "
                "https://huggingface.co/settings/tokens, put HF_TOKEN=... into keys.env of the data folder, and pull again.",
                f"{self.repository} は利用申請が必要です。{page} を開いてアカウントで条件に同意し、"
                "https://huggingface.co/settings/tokens で読み取り用トークンを作成して、データフォルダーの keys.env に "
                "HF_TOKEN=... を書き、もう一度 pull してください。",
            )
        return words(
            f"{self.repository} is gated and the account of HF_TOKEN has no access. Open {page} with that account and accept "
            "its conditions (some are granted by hand and take days), then pull again.",
            f"{self.repository} は利用申請が必要で、HF_TOKEN のアカウントには権限がありません。{page} でそのアカウントから条件に"
            "同意し(手動承認で数日かかる場合があります)、もう一度 pull してください。",
        )

    def _gone(self, page: str) -> Words:
        return words(
            f"{self.repository} is gone, renamed or private ({page}). If it moved, correct `repository` in the model's card "
            "(a TOML file in the folder providers may do that); if you have the weights elsewhere: --from DIR",
            f"{self.repository} は削除・改名されたか、非公開です({page})。移動した場合は、モデルのカードの repository を"
            "修正してください(providers フォルダーの TOML で上書きできます)。重みが別の場所にある場合は --from フォルダー を指定してください。",
        )

    def _unreachable(self, why: str) -> Unavailable:
        host = urlsplit(self.endpoint).netloc
        return Unavailable(
            words(
                f"{host} cannot be reached ({why}). Check the network and proxy (HTTPS_PROXY), or name a mirror with "
                "HF_ENDPOINT. What has arrived is kept: pull again to go on. Without a network: --from DIR",
                f"{host} に接続できません({why})。ネットワークとプロキシー(HTTPS_PROXY)を確認するか、HF_ENDPOINT でミラーを"
                "指定してください。取得済みの部分は残っており、再度 pull すると続きから再開します。"
                "ネットワークがない場合は --from フォルダー を使用してください。",
            )
        )

    def cut_too_often(self, why: str) -> Unavailable:
        """The connection ended again and again without a further byte."""
        return self._unreachable(why)


def _private(endpoint: str) -> bool:
    """Whether nobody on the way can read along."""
    parts = urlsplit(endpoint)
    if parts.scheme == "https":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"
