"""HttpProvider: what every company's HTTP API has in common, and the only file here that knows the HTTP library.

Which phase failed decides about money: a connection that was never made spent nothing; once a request that buys
has been sent, every doubt is OutcomeUnknown and nothing here ever sends it a second time.
"""

import asyncio
import base64
import json
import logging
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from api_providers._answer import Answer, exhausted_s, redact, retry_after_s
from api_providers._download import Cut, Stream, Unreachable, download
from api_providers._errors import broke_off, kind_by_status, not_sent, outcome_unknown, said, unreadable
from api_providers._target import Target, check
from router.contract import errors
from router.contract.backend import BackendConfig, Operation, Output, about_to_spend, told_to_pause
from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.words import words

_BASE_URL = re.compile(r"https?://([\w.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?(/[^\s?#]*)?", re.ASCII)
PARSED_HERE_BYTES = 1_000_000
"""A larger answer (a clip inside JSON) is read in a thread: it would hold up every other job."""
_TIMEOUT = httpx.Timeout(60.0, connect=5.0, pool=5.0)
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
"""Raised while a connection is made or waited for: no byte of the request has left."""

for _name in ("httpx", "httpcore"):
    # They log whole URLs, signatures included, at INFO, and headers at DEBUG.
    logging.getLogger(_name).setLevel(logging.WARNING)

_View = TypeVar("_View", bound=BaseModel)


class Upload(NamedTuple):
    """One file part of a multipart body."""

    filename: str
    data: bytes
    mime: str


class HttpProvider:
    """Base of the backends that are a company's HTTP API. Overridables: those without underscore below `call`."""

    base_url: ClassVar[str]
    """The vendor's own; `config.base_url` wins."""
    not_accepted: ClassVar[frozenset[int]] = frozenset({500, 503})
    """5xx statuses after which the call that spends surely bought nothing; the provider's documentation may add."""
    also_ours: ClassVar[Mapping[str, str]] = {}
    """The vendor's further hosts by a short name (`upload`), for `call(..., at="upload")`. The twin serves each under
    `/_host/<name>` of its own base."""
    fetch_with_key: ClassVar[bool] = False
    """Whether a result link on one of the vendor's own hosts is fetched with our key; never sent anywhere else."""
    answer_max_bytes: ClassVar[int] = 8 * 1024 * 1024
    """A larger answer is a broken or hostile server; more only where the vendor sends clips inside JSON."""

    def __init__(self, config: BackendConfig) -> None:
        """Nothing is opened before the first call."""
        self.config = config
        self.name = config.name
        self._base = (config.base_url or self.base_url).rstrip("/")
        if not _BASE_URL.fullmatch(self._base):
            raise errors.ServerTrouble(
                words(
                    f"base_url of {self.name} is no http(s) address; correct it in the settings",
                    f"{self.name} の base_url が http(s) のアドレスではありません。設定を修正してください。",
                )
            )
        self._clients: dict[bool, httpx.AsyncClient] = {}
        self._bases = {
            "": self._base,
            **{
                name: f"{self._base}/_host/{name}" if config.sandbox else url.rstrip("/")
                for name, url in self.also_ours.items()
            },
        }

    # -- calling

    async def call(
        self,
        method: str,
        path: str,
        *,
        spends: bool = False,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, Upload] | None = None,
        headers: Mapping[str, str] | None = None,
        at: str = "",
        with_key: bool = True,
    ) -> Any:
        """One request to the provider's own origin; the parsed body, or the error that the answer means.

        `form` and `files` make a multipart body; `headers` come on top of `headers()`; `at` names one of `also_ours`;
        `with_key` is off for a public page of theirs.
        """
        answer = await self.ask(
            method,
            path,
            spends=spends,
            json=json,
            params=params,
            form=form,
            files=files,
            headers=headers,
            at=at,
            with_key=with_key,
        )
        return self.read(answer, spends=spends)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        spends: bool = False,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, Upload] | None = None,
        headers: Mapping[str, str] | None = None,
        at: str = "",
        with_key: bool = True,
    ) -> Answer:
        """Like `call`, but hands back any answer unjudged; raises only for what happened on the way."""
        client = await self._client(spends)
        own = await self.signed_headers() if with_key else {}
        try:
            request = client.build_request(
                method,
                f"{self._bases[at]}/{path.lstrip('/')}",
                json=json,
                params=params,
                headers={**own, **(headers or {})},
                **_multipart(form, files),
            )
        except (ValueError, TypeError):
            raise errors.InvalidRequest(
                words(
                    "the request has characters or numbers that cannot be sent as JSON; remove them",
                    "リクエストに JSON で送れない文字または数値が含まれています。取り除いてください。",
                ),
                backend=self.name,
            ) from None
        if spends:
            await about_to_spend()
        try:
            answer = await self._receive(client, request)
            if spends and (tell := told_to_pause.get()) and (seconds := exhausted_s(answer.headers)):
                tell(seconds)
            return answer
        except _NEVER_SENT as error:
            raise not_sent(self.name, type(error).__name__) from None
        except httpx.HTTPError as error:
            broke = outcome_unknown if spends else broke_off
            raise broke(self.name, type(error).__name__) from None
        except Exception as error:
            odd = outcome_unknown if spends else unreadable
            raise odd(self.name, type(error).__name__) from error

    def read(self, answer: Answer, *, spends: bool = False) -> Any:
        """The parsed body of a good answer; raises what a bad one means."""
        kind = self.kind_of_error(answer)
        if spends and self._in_doubt(answer, kind):
            raise outcome_unknown(self.name, f"HTTP {answer.status}: {self._text(answer)}")
        if kind is not None:
            raise self.error(kind, answer)
        return answer.json

    def view(self, model: type[_View], data: Any, *, spends: bool = False) -> _View:
        """The fields we use of an answer; an answer without them is unexpected, or in doubt on the call that spends."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            fields = ", ".join(
                ".".join(str(part) for part in item["loc"]) or "body" for item in error.errors()
            )
            if spends:
                raise outcome_unknown(self.name, f"unreadable fields in the answer: {fields}") from None
            raise unreadable(self.name, f"without {fields}") from None

    def error(self, kind: type[GatewayError], answer: Answer) -> GatewayError:
        """An error of that kind, with the provider's own words cleaned of secrets."""
        text = self._text(answer)
        return kind(
            said(kind, text or f"HTTP {answer.status}"),
            backend=self.name,
            retry_after=retry_after_s(answer.headers),
            detail=f"HTTP {answer.status}: {text}",
        )

    # -- what a provider overrides

    def headers(self) -> dict[str, str]:
        """Made for every call, so that signed tokens are easy."""
        return {"Authorization": f"Bearer {self.secret()}"}

    async def signed_headers(self) -> dict[str, str]:
        """As `headers`, for a vendor whose token must itself be asked for over the network."""
        return self.headers()

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """What an answer means, None for a good one. Called on every answer: some put the failure inside a 200."""
        return kind_by_status(answer)

    def message_of(self, answer: Answer) -> str:
        """The provider's own sentence in an error answer."""
        body = answer.json
        if isinstance(body, dict):
            for key in ("error", "message", "detail"):
                value = body.get(key)
                if isinstance(value, dict):
                    value = value.get("message")
                if isinstance(value, str) and value:
                    return value
        return "" if answer.text.lstrip().startswith("<") else answer.text

    async def place(self, media: InputMedia) -> str:
        """An input as the provider takes it: a data URI unless the provider wants an upload."""
        return f"data:{media.asset.mime};base64,{await self.base64_of(media)}"

    async def fetch(self, output: Output, to: Path) -> None:
        """Stream a result link into the new file `to`; credentials go to the vendor's own hosts at most."""
        if output.path is not None:
            await self._take_file(output.path, to)
            return
        if not output.url:
            raise errors.UnexpectedResponse(
                words("gave a result without a link", "結果のリンクがありません。"), backend=self.name
            )
        limit_mb = int(self.config.options.get("max_download_mb", 2048))
        await download(
            output.url, to, check=self._check, open_stream=self._stream, limit_mb=limit_mb, backend=self.name
        )

    async def cancel(self, operation: Operation) -> bool:
        """False: a provider without a cancel call goes on and is paid."""
        return False

    async def aclose(self) -> None:
        """Close all connections."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.aclose()

    # -- what a provider uses

    def card(self, request: ResolvedRequest) -> ModelCard:
        """The card the request was fitted to."""
        return self.config.cards[request.model]

    def secret(self) -> str:
        """The key as it goes on the wire; raises AuthenticationFailed when there is none that can be sent."""
        key = self.config.key.get_secret_value().strip() if self.config.key else ""
        if key and key.isascii() and key.isprintable():
            return key
        raise errors.AuthenticationFailed(
            words(
                "there is no usable API key; set it and start again",
                "使える API キーがありません。設定してから再起動してください。",
            ),
            backend=self.name,
        )

    def own_path(self, url: str) -> str | None:
        """The path below our base when a URL in an answer is the provider's own, else None: no key goes there."""
        if not _same_origin(url, self._base):
            return None
        path, ours = urlsplit(url).path, urlsplit(self._base).path
        return path.removeprefix(ours) if path.startswith(f"{ours}/") and ".." not in path else None

    async def post_form(self, url: str, fields: Mapping[str, str], media: InputMedia, filename: str) -> None:
        """Upload one input to a URL out of an answer: checked like a result link, and without our key."""
        part = Upload(filename, await self.bytes_of(media), media.asset.mime)
        await self._send_outside("POST", url, {}, _multipart(fields, {"file": part}))

    async def put_bytes(self, url: str, media: InputMedia, headers: Mapping[str, str]) -> None:
        """As `post_form`, for a signed URL that takes the bare bytes with exactly these headers."""
        await self._send_outside("PUT", url, headers, {"content": await self.bytes_of(media)})

    async def upload_of(self, media: InputMedia) -> Upload:
        """An input as a file part for `call(..., files=...)`."""
        return Upload(self.filename_of(media), await self.bytes_of(media), media.asset.mime)

    @staticmethod
    def filename_of(media: InputMedia) -> str:
        """A name that says nothing about the user's file: the hash's beginning and the usual ending."""
        ending = media.asset.mime.rpartition("/")[2].replace("jpeg", "jpg").replace("quicktime", "mov")
        return f"{media.asset.id[:16]}.{ending}"

    async def base64_of(self, media: InputMedia) -> str:
        """An input as bare base64, without the head of a data URI."""
        data = await self.bytes_of(media)
        return (await asyncio.to_thread(base64.b64encode, data)).decode("ascii")

    async def bytes_of(self, media: InputMedia) -> bytes:
        """The input's bytes out of the media store."""
        try:
            return await asyncio.to_thread(self.config.media.path(media.asset).read_bytes)
        except OSError as error:
            raise errors.ServerTrouble(
                words(
                    f"an input file cannot be read from the media store: {error.strerror}",
                    f"メディアストアの入力ファイルを読めません: {error.strerror}",
                ),
                backend=self.name,
            ) from None

    # -- inside

    async def _send_outside(
        self, method: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any]
    ) -> None:
        target = await self._check(url)
        pinned_url, pin, extensions = self._pinned(target, target.addresses[0] if target.addresses else None)
        async with await self._outside() as client:
            try:
                response = await client.request(
                    method, pinned_url, headers={**headers, **pin}, extensions=extensions, **body
                )
            except httpx.HTTPError as error:
                raise broke_off(self.name, type(error).__name__) from None
        if not response.is_success:
            raise errors.Unavailable(
                words(
                    f"the upload of an input was refused (HTTP {response.status_code}); nothing was bought",
                    f"入力ファイルのアップロードが拒否されました (HTTP {response.status_code})。課金は発生していません。",
                ),
                backend=self.name,
                detail=redact(response.text, self._secrets()),
            )

    async def _take_file(self, path: Path, to: Path) -> None:
        """A result that came inside the answer and lies in our scratch folder."""
        try:
            await asyncio.to_thread(shutil.move, path, to)
        except FileNotFoundError:
            raise errors.LinkExpired(
                words(
                    "the result was taken before; it is asked for again",
                    "結果は取得済みです。もう一度問い合わせます。",
                ),
                backend=self.name,
            ) from None

    def _in_doubt(self, answer: Answer, kind: type[GatewayError] | None) -> bool:
        """Whether this answer to the call that spends leaves open if something was bought."""
        if kind is None:
            return answer.json is None
        if answer.ok:
            return kind is errors.UnexpectedResponse
        if answer.status >= 500:
            return answer.status not in self.not_accepted
        # 408 and 499: a proxy gave up waiting for one side or the other.
        return answer.status < 400 or answer.status in {408, 499}

    def _text(self, answer: Answer) -> str:
        return redact(self.message_of(answer), self._secrets())

    def _secrets(self) -> Sequence[str]:
        keys = [self.config.key, *self.config.extra_keys.values()]
        whole = [key.get_secret_value() for key in keys if key is not None]
        return whole + [part for key in whole for part in key.split(":") if part != key]

    async def _client(self, spends: bool) -> httpx.AsyncClient:
        """The call that spends gets a fresh connection: a kept one that just died would look like a lost answer."""
        verify = await asyncio.to_thread(_tls_context)
        if spends not in self._clients:
            self._clients[spends] = httpx.AsyncClient(
                timeout=_TIMEOUT,
                follow_redirects=False,
                verify=verify,
                trust_env=not self.config.sandbox,
                limits=httpx.Limits(max_connections=200, max_keepalive_connections=0 if spends else 20),
            )
        return self._clients[spends]

    async def _receive(self, client: httpx.AsyncClient, request: httpx.Request) -> Answer:
        response = await client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self.answer_max_bytes:
                    raise ValueError("answer too long")
        finally:
            await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        if len(body) > PARSED_HERE_BYTES:
            return await asyncio.to_thread(_parsed, response.status_code, headers, bytes(body))
        return _parsed(response.status_code, headers, bytes(body))

    async def _check(self, url: str) -> Target:
        """In the sandbox only the twin itself may be called; else only public addresses, over https.

        The vendor's own hosts are as the settings name them: a server of the user's own may be private and plain.
        """
        if self.fetch_with_key and self._is_ours(url):
            return Target(url, urlsplit(url).hostname or "", ())
        own = urlsplit(self._base)
        twin = (own.hostname or "", own.port) if self.config.sandbox else None
        return await check(url, twin=twin, backend=self.name)

    def _is_ours(self, url: str) -> bool:
        """Whether a URL lies on one of the hosts that get our key anyway."""
        return any(_same_origin(url, base) for base in self._bases.values())

    async def _outside(self) -> httpx.AsyncClient:
        """A client of its own for each transfer, so that a pinned address is never shared between host names."""
        return httpx.AsyncClient(
            timeout=_TIMEOUT,
            follow_redirects=False,
            verify=await asyncio.to_thread(_tls_context),
            trust_env=not self.config.sandbox,
            headers={"Accept-Encoding": "identity"},
        )

    @staticmethod
    def _pinned(target: Target, address: str | None) -> tuple[httpx.URL, dict[str, str], dict[str, Any]]:
        """URL, headers and extensions that connect to that address, with the certificate checked for the host."""
        url = httpx.URL(target.url)
        if address is None:
            return url, {}, {}
        headers = {"Host": url.netloc.decode("ascii")}
        return url.copy_with(host=address), headers, {"sni_hostname": url.raw_host.decode("ascii")}

    @asynccontextmanager
    async def _stream(self, target: Target, headers: Mapping[str, str]) -> AsyncIterator[Stream]:
        """GET a checked target at one of its checked addresses; raises Unreachable, and Cut while reading."""
        keyed = await self.signed_headers() if self.fetch_with_key and self._is_ours(target.url) else {}
        async with await self._outside() as client:
            response: httpx.Response | None = None
            for address in target.addresses or (None,):
                url, pin, extensions = self._pinned(target, address)
                request = client.build_request(
                    "GET", url, headers={**keyed, **pin, **headers}, extensions=extensions
                )
                try:
                    response = await client.send(request, stream=True)
                    break
                except _NEVER_SENT:
                    continue
                except httpx.HTTPError as error:
                    raise Cut(type(error).__name__) from None
            if response is None:
                raise Unreachable
            try:
                yield Stream(response.status_code, response.headers, _pieces(response))
            finally:
                await response.aclose()


def _parsed(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    text = body.decode("utf-8", "replace")
    try:
        return Answer(status, headers, json.loads(text) if text.strip() else None, text, True)
    except (ValueError, RecursionError):
        return Answer(status, headers, None, text, False)


def _multipart(form: Mapping[str, str] | None, files: Mapping[str, Upload] | None) -> dict[str, Any]:
    """The body arguments; a form without a file is multipart all the same, as every vendor here wants it."""
    if form is None and files is None:
        return {}
    parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in (form or {}).items()]
    parts += [(name, (file.filename, file.data, file.mime)) for name, file in (files or {}).items()]
    return {"files": parts}


def _same_origin(url: str, base: str) -> bool:
    try:
        theirs, ours = urlsplit(url), urlsplit(base)
        same = (theirs.scheme, theirs.hostname, theirs.port) == (ours.scheme, ours.hostname, ours.port)
    except ValueError:
        return False
    return same and not theirs.username


@cache
def _tls_context() -> ssl.SSLContext:
    """Reads the certificates once per process: 40 ms and more, so never on the event loop."""
    return httpx.create_ssl_context()


async def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_bytes():
            yield chunk
    except httpx.HTTPError as error:
        raise Cut(type(error).__name__) from None
