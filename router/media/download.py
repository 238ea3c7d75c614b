"""Fetches a caller's media URL without being led astray: public addresses only, pinned, capped, redirects rechecked."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from router.contract.errors import InvalidRequest
from router.contract.words import Words, words

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[tuple[Address, ...]]]
Permits = Callable[[Address, bool], bool]

REDIRECTS = 3
TOTAL_S = 60.0
CHUNK_BYTES = 1 << 18
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def public(address: Address, allow_private: bool) -> bool:
    """Whether a caller's URL may lead there.

    Link-local addresses (cloud metadata services live there), multicast and unspecified ones never are.
    """
    inner = _carried(address)
    if inner is not None:
        return public(inner, allow_private)
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return address.is_global or (allow_private and (address.is_private or address.is_loopback))


def _carried(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv6 one (mapped, 6to4, NAT64): that is where the packets end up."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


async def resolve(host: str, port: int) -> tuple[Address, ...]:
    """Every address of a host name; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


@dataclass(frozen=True)
class Downloader:
    """How URLs are fetched; tests name their own resolver, network and certificates."""

    resolve: Resolve = resolve
    permits: Permits = public
    tls: ssl.SSLContext | None = None

    async def fetch(self, url: str, to: Path, *, max_bytes: int, allow_private: bool) -> None:
        """Write the body to `to` (a new file); raises InvalidRequest that names the host, never the whole URL."""
        tls = await asyncio.to_thread(httpx.create_ssl_context) if self.tls is None else self.tls
        timeout = httpx.Timeout(20.0, connect=10.0)
        try:
            async with (
                asyncio.timeout(TOTAL_S),
                # A proxy would look the name up again, behind the back of the check.
                httpx.AsyncClient(
                    verify=tls, trust_env=False, follow_redirects=False, timeout=timeout
                ) as client,
            ):
                target = _parsed(url)
                for _ in range(REDIRECTS + 1):
                    onward = await self._hop(client, target, to, max_bytes, allow_private)
                    if onward is None:
                        return
                    target = onward
        except TimeoutError:
            raise _refused(
                _host(url),
                words(f"took longer than {TOTAL_S:.0f} seconds", f"{TOTAL_S:.0f} 秒以内に完了しませんでした"),
            ) from None
        raise _refused(
            target.host,
            words(f"redirected more than {REDIRECTS} times", f"{REDIRECTS} 回を超えてリダイレクトされました"),
        )

    async def _hop(
        self, client: httpx.AsyncClient, url: httpx.URL, to: Path, max_bytes: int, allow_private: bool
    ) -> httpx.URL | None:
        """One request to an address that was checked; the next URL where it redirects."""
        host = url.raw_host.decode("ascii")
        addresses = await self._addresses(url, host, allow_private)
        for index, address in enumerate(addresses):
            request = client.build_request(
                "GET",
                # The checked address itself is dialled: a second look-up could answer differently.
                url.copy_with(host=str(address)),
                headers={"host": url.netloc.decode("ascii"), "accept-encoding": "identity"},
                extensions={"sni_hostname": host.strip("[]")},
            )
            try:
                response = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if index + 1 < len(addresses):
                    continue
                raise _refused(host, words("does not answer", "接続できません")) from None
            except httpx.HTTPError:
                raise _refused(host, words("broke off the connection", "接続が切断されました")) from None
            try:
                if response.has_redirect_location:
                    return _parsed(str(url.join(response.headers["location"])))
                await _save(response, to, host, max_bytes)
                return None
            except httpx.HTTPError:
                raise _refused(host, words("broke off the transfer", "転送が途中で切断されました")) from None
            finally:
                await response.aclose()
        raise _refused(host, words("has no address", "アドレスが見つかりません"))

    async def _addresses(self, url: httpx.URL, host: str, allow_private: bool) -> tuple[Address, ...]:
        if url.scheme != "https" and not (url.scheme == "http" and allow_private):
            raise _refused(host, words("must be an https:// address", "https:// で始まる必要があります"))
        if url.userinfo:
            raise _refused(
                host,
                words(
                    "must not carry a user name or password", "ユーザー名やパスワードを含めることはできません"
                ),
            )
        try:
            addresses = await self.resolve(
                host.strip("[]"), url.port or (443 if url.scheme == "https" else 80)
            )
        except (OSError, UnicodeError):
            raise _refused(host, words("cannot be found", "見つかりません")) from None
        if not all(self.permits(address, allow_private) for address in addresses):
            raise _refused(
                host,
                words(
                    "leads to a private or local address, which is not fetched; upload the file instead",
                    "プライベートまたはローカルのアドレスを指しているため取得できません。ファイルをアップロードしてください",
                ),
            )
        return addresses


async def _save(response: httpx.Response, to: Path, host: str, max_bytes: int) -> None:
    if response.status_code != 200:
        code = response.status_code
        raise _refused(host, words(f"answered with status {code}", f"ステータス {code} を返しました"))
    if response.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
        raise _refused(
            host,
            words("sent a compressed answer that was not asked for", "要求していない圧縮形式で応答しました"),
        )
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large(max_bytes)
    with await asyncio.to_thread(to.open, "xb") as file:
        await _pour(response, file, max_bytes)


async def _pour(response: httpx.Response, file: BinaryIO, max_bytes: int) -> None:
    total = 0
    async for chunk in response.aiter_raw(CHUNK_BYTES):
        total += len(chunk)
        if total > max_bytes:
            raise too_large(max_bytes)
        await asyncio.to_thread(file.write, chunk)


def too_large(max_bytes: int) -> InvalidRequest:
    """The one message for an input above the limit."""
    most = f"{max_bytes / 1_000_000:g} MB"
    return InvalidRequest(
        words(f"The file is too large; at most {most}.", f"ファイルが大きすぎます。上限は {most} です。")
    )


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        parsed = httpx.URL()
    if not parsed.host:
        raise InvalidRequest(words("This is not a valid URL.", "URL の形式が正しくありません。"))
    return parsed


def _host(url: str) -> str:
    return _parsed(url).host


def _refused(host: str, why: Words) -> InvalidRequest:
    return InvalidRequest(words(f"The URL at {host} {why.en}.", f"{host} の URL: {why.ja}。"))
